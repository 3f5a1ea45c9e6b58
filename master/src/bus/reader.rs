//! Reads the log in pages, on connections of its own and off the async threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::tag::Tag;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tokio::sync::Semaphore;

use super::event::Event;
use super::query::Filter;

/// How many readers are in the log at the same time. Each holds a connection and a page; more would only fight for the
/// same disk. Others wait for their turn.
const AT_ONCE: usize = 4;

/// How many rows one transaction reads: as long as it is open, the WAL cannot start anew.
const PAGE_ROWS: i64 = 1_000;

/// How many bytes of events one page holds, give or take one event.
const PAGE_BYTES: usize = 256 * 1024;

/// The page cache of one reading connection, in KiB (negative, as SQLite wants it).
const CACHE: i64 = -256;

/// How long a read waits for a lock; WAL readers hardly ever do.
const BUSY: Duration = Duration::from_secs(5);

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Offset(u64),
    Stamp(i64),
}

/// Part of the log.
#[derive(Debug)]
pub(super) struct Page {
    /// The events that were wanted.
    pub(super) events: Vec<Event>,
    /// The offset to go on from.
    pub(super) next: u64,
}

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("read the event log")]
    Sqlite(#[from] rusqlite::Error),
    #[error("wait for a reader of the event log")]
    Stopped,
}

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Semaphore,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Readers {
        Readers { path: path.to_owned(), idle: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }

    /// Reads the next page of what the filter wants, not beyond the head.
    pub(super) async fn page(self: Arc<Self>, from: From, head: u64, filter: Arc<Filter>) -> Result<Page, ReadError> {
        let _place = self.places.acquire().await.map_err(|_| ReadError::Stopped)?;
        let readers = Arc::clone(&self);
        tokio::task::spawn_blocking(move || readers.read(from, head, &filter)).await.map_err(|_| ReadError::Stopped)?
    }

    fn read(&self, from: From, head: u64, filter: &Filter) -> Result<Page, ReadError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match idle {
            Some(db) => db,
            None => open(&self.path)?,
        };
        let next = match from {
            From::Offset(next) => next,
            From::Stamp(stamp_us) => first_since(&db, stamp_us, head)?,
        };
        let page = read_page(&db, next, head, filter)?;
        // A connection that failed is not kept.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        Ok(page)
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "cache_size", CACHE)?;
    Ok(db)
}

fn read_page(db: &Connection, from: u64, head: u64, filter: &Filter) -> rusqlite::Result<Page> {
    let mut select = db.prepare_cached(
        "SELECT offset, stamp_us, tag, data FROM events WHERE offset >= ?1 AND offset <= ?2 ORDER BY offset LIMIT ?3",
    )?;
    let mut rows = select.query(params![from.cast_signed(), head.cast_signed(), PAGE_ROWS])?;
    let mut page = Page { events: Vec::new(), next: from };
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let offset = row.get::<_, i64>(0)?.cast_unsigned();
        (seen, page.next) = (seen + 1, offset + 1);
        let text = row.get_ref(2)?.as_str()?;
        if !filter.wants(text) {
            continue;
        }
        let Ok(tag) = Tag::parse(text) else { continue };
        let data = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
        let event = Event { offset, tag, stamp_us: row.get(1)?, data, durable: true };
        bytes += event.cost();
        page.events.push(event);
        if bytes >= PAGE_BYTES {
            return Ok(page);
        }
    }
    if seen < PAGE_ROWS {
        page.next = page.next.max(head + 1);
    }
    Ok(page)
}

/// Finds the first offset that was submitted at this moment or later. There is no index by time: stamps are sorted like
/// offsets, except around a large step of the clock, so halving the log finds it.
fn first_since(db: &Connection, stamp_us: i64, head: u64) -> rusqlite::Result<u64> {
    let mut probe =
        db.prepare_cached("SELECT offset, stamp_us FROM events WHERE offset >= ?1 ORDER BY offset LIMIT 1")?;
    let (mut low, mut high) = (1, head + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let row: Option<(i64, i64)> =
            probe.query_row([middle.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match row {
            Some((offset, at)) if at < stamp_us => low = offset.cast_unsigned() + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
