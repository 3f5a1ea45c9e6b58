//! Reads the log in pages, on connections of its own and off the async threads.
//!
//! A page comes from one segment. A sealed one has an index by tag: where all patterns begin with literal text and few rows
//! have such a tag, only those are read, and a segment without one is passed over at the price of a look. Else it is
//! scanned.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::tag::Tag;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use tokio::sync::Semaphore;

use super::damage::{self, Gap, Why};
use super::event::Event;
use super::query::Filter;
use super::segments::{Phase, Segment, Segments};
use super::survey::{NEWEST, Survey};

/// How many readers are in the log at the same time. Each holds a connection and a page; more would only fight for the
/// same disk. Others wait for their turn.
const AT_ONCE: usize = 4;

/// How many rows one transaction reads: as long as it is open, the WAL cannot start anew.
pub(super) const PAGE_ROWS: i64 = 1_000;

/// How many bytes of events one page holds, give or take one event.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// How many entries of the index one page may cost. With more of them in a segment, scanning it is not much slower, and
/// what the index says need not be sorted by offset again for each page.
const INDEX_ENTRIES: usize = 10_000;

/// The page cache of one reading connection, in KiB (negative, as SQLite wants it).
const CACHE: i64 = -256;

/// Reads the event of one offset.
pub(super) const ONE: &str = "SELECT offset, stamp_us, tag, data FROM events WHERE offset = ?1";

/// How long a read waits for a lock; WAL readers hardly ever do.
const BUSY: Duration = Duration::from_secs(5);

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Offset(u64),
    Stamp(i64),
}

/// Whether what cannot be read may be read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// It was tried often enough: a complete segment is damaged, whatever is wrong with it.
    Gone,
    /// A disk that fails, or a lack of memory or open files, may pass.
    Left,
}

impl Hope {
    fn is_lost(self, segment: Segment) -> bool {
        self == Hope::Gone && segment.phase != Phase::Active
    }
}

/// Part of the log.
#[derive(Debug)]
pub(super) struct Page {
    /// The events that were wanted.
    pub(super) events: Vec<Event>,
    /// The offset to go on from.
    pub(super) next: u64,
    /// What was wanted and is not there, before the events.
    pub(super) gap: Option<Gap>,
}

impl Page {
    pub(super) fn new(next: u64) -> Page {
        Page { events: Vec::new(), next, gap: None }
    }
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
    segments: Arc<Segments>,
    /// At most [`AT_ONCE`], each with the segment it belongs to.
    idle: Mutex<Vec<(u64, Connection)>>,
    places: Semaphore,
}

impl Readers {
    pub(super) fn new(segments: Arc<Segments>) -> Readers {
        Readers { segments, idle: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }

    /// Reads the next page of what the filter wants, not beyond the head.
    pub(super) async fn page(
        self: Arc<Self>,
        from: From,
        head: u64,
        filter: Arc<Filter>,
        hope: Hope,
    ) -> Result<Page, ReadError> {
        self.off(move |readers| readers.read(from, head, &filter, hope)).await
    }

    /// Returns the first offset up to the head that was submitted at this moment or later; the one behind it if there is
    /// none.
    pub(super) async fn offset_at(self: Arc<Self>, stamp_us: i64, head: u64) -> Result<u64, ReadError> {
        self.off(move |readers| readers.first_since(stamp_us, head)).await
    }

    /// Looks at the newest events.
    pub(super) async fn survey(self: Arc<Self>, head: u64) -> Result<Survey, ReadError> {
        self.off(move |readers| readers.survey_now(head)).await
    }

    fn survey_now(&self, head: u64) -> rusqlite::Result<Survey> {
        let mut survey = Survey::default();
        let mut next = head.saturating_sub(NEWEST - 1).max(1);
        while let Some(segment) = self.segments.find(next) {
            let end = segment.last.map_or(head, |last| last.min(head));
            let begin = next.max(segment.first);
            match self.with(segment, |db| survey.add_page(db, begin, end)) {
                Ok(Some(at)) => next = at,
                // What cannot be read of an old segment is not counted.
                Err(error) if !self.is_damaged(segment, &error) => return Err(error),
                _ if end >= head => break,
                _ => next = end + 1,
            }
        }
        Ok(survey)
    }

    async fn off<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Readers) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _place = self.places.acquire().await.map_err(|_| ReadError::Stopped)?;
        let readers = Arc::clone(&self);
        let done = tokio::task::spawn_blocking(move || work(&readers)).await.map_err(|_| ReadError::Stopped)?;
        Ok(done?)
    }

    /// Closes the idle connections to a segment.
    pub(super) fn forget(&self, first: u64) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|(idle, _)| *idle != first);
    }

    fn read(&self, from: From, head: u64, filter: &Filter, hope: Hope) -> rusqlite::Result<Page> {
        let next = match from {
            From::Offset(next) => next,
            From::Stamp(stamp_us) => self.first_since(stamp_us, head)?,
        };
        loop {
            let gap = self.deleted(from, head);
            let beyond = Page { gap, ..Page::new(next.max(head + 1)) };
            let Some(segment) = self.segments.find(next) else { return Ok(beyond) };
            let begin = next.max(segment.first);
            let end = segment.last.map_or(head, |last| last.min(head));
            if begin > end {
                return Ok(beyond);
            }
            match self.with(segment, |db| read_page(db, segment, begin..=end, filter)) {
                // It was deleted in between: what is the oldest one now holds the place.
                Err(_) if self.segments.find(next) != Some(segment) => {}
                Err(error) if self.is_damaged(segment, &error) || hope.is_lost(segment) => {
                    let page = damage::page(&self.segments.path(segment.first), begin..=end, filter);
                    return Ok(Page { gap: Gap::joined(gap, page.gap), ..page });
                }
                page => return page.map(|page| Page { gap: Gap::joined(gap, page.gap), ..page }),
            }
        }
    }

    /// Returns what a reader that goes on from here will not find: events before the oldest segment.
    fn deleted(&self, from: From, head: u64) -> Option<Gap> {
        let From::Offset(next) = from else { return None };
        let last = self.segments.oldest().saturating_sub(1).min(head);
        (next <= last).then_some(Gap { first: next, last, why: Why::Deleted })
    }

    /// Tells whether there is no hope for what could not be read. The active segment has the writer look after it.
    fn is_damaged(&self, segment: Segment, error: &rusqlite::Error) -> bool {
        segment.phase != Phase::Active && damage::is_damage(error, &self.segments.path(segment.first))
    }

    /// Uses a connection to a segment. One that failed is not kept, nor one that would be in the way of sealing.
    fn with<T>(&self, segment: Segment, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.iter().position(|(first, _)| *first == segment.first);
            at.map(|at| idle.swap_remove(at).1)
        };
        let db = match idle {
            Some(db) => db,
            None => open(&self.segments.path(segment.first))?,
        };
        let done = work(&db)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock: who closes a segment asks for idle connections only then.
        if self.segments.find(segment.first).is_some_and(|now| now.first == segment.first && now.phase != Phase::Closed)
        {
            if idle.len() >= AT_ONCE {
                idle.remove(0);
            }
            idle.push((segment.first, db));
        }
        Ok(done)
    }

    /// Finds the first offset that was submitted at this moment or later. There is no index by time: stamps are sorted like
    /// offsets, except around a large step of the clock, so halving the log finds it.
    fn first_since(&self, stamp_us: i64, head: u64) -> rusqlite::Result<u64> {
        let mut all = self.segments.all();
        loop {
            let (mut low, mut high, mut broken) = (0, all.len(), None);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.with(all[middle], first_stamp) {
                    Ok(Some(at)) if at < stamp_us => low = middle + 1,
                    Ok(_) => high = middle,
                    Err(error) if !self.is_damaged(all[middle], &error) => return Err(error),
                    Err(_) => {
                        broken = Some(middle);
                        break;
                    }
                }
            }
            // Its neighbours tell well enough where it would be.
            if let Some(broken) = broken {
                all.remove(broken);
                continue;
            }
            let Some(segment) = low.checked_sub(1).map(|at| all[at]) else {
                return Ok(all.first().map_or(1, |oldest| oldest.first).min(head + 1));
            };
            let end = segment.last.map_or(head, |last| last.min(head));
            return match self.with(segment, |db| first_in(db, stamp_us, segment.first, end)) {
                Err(error) if self.is_damaged(segment, &error) => Ok(segment.first),
                found => found,
            };
        }
    }
}

pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "cache_size", CACHE)?;
    Ok(db)
}

fn read_page(
    db: &Connection,
    segment: Segment,
    range: std::ops::RangeInclusive<u64>,
    filter: &Filter,
) -> rusqlite::Result<Page> {
    // A segment may end before the next one begins, if one between them is gone.
    let (begin, wanted) = range.into_inner();
    let end = match segment.last {
        Some(_) => last(db)?.unwrap_or(0).min(wanted),
        None => wanted,
    };
    if begin > end {
        let gap = Gap { first: begin, last: wanted, why: Why::Missing };
        return Ok(Page { gap: Some(gap), ..Page::new(gap.last + 1) });
    }
    if segment.phase == Phase::Sealed
        && let Some(offsets) = indexed(db, segment, &(begin..=end), filter)?
    {
        return pick(db, &offsets, end);
    }
    scan(db, begin, end, filter)
}

/// Returns the last offset that has an event.
fn last(db: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut newest = db.prepare_cached("SELECT max(offset) FROM events")?;
    Ok(newest.query_row([], |row| row.get::<_, Option<i64>>(0))?.map(i64::cast_unsigned))
}

/// Reads rows one after the other.
fn scan(db: &Connection, from: u64, end: u64, filter: &Filter) -> rusqlite::Result<Page> {
    let mut select = db.prepare_cached(
        "SELECT offset, stamp_us, tag, data FROM events WHERE offset >= ?1 AND offset <= ?2 ORDER BY offset LIMIT ?3",
    )?;
    let mut rows = select.query(params![from.cast_signed(), end.cast_signed(), PAGE_ROWS])?;
    let mut page = Page::new(from);
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        (seen, page.next) = (seen + 1, row.get::<_, i64>(0)?.cast_unsigned() + 1);
        if !filter.wants(row.get_ref(2)?.as_str()?) {
            continue;
        }
        let Some(event) = event(row)? else { continue };
        bytes += event.cost();
        page.events.push(event);
        if bytes >= PAGE_BYTES {
            return Ok(page);
        }
    }
    if seen < PAGE_ROWS {
        page.next = page.next.max(end + 1);
    }
    Ok(page)
}

/// Returns the offsets of what the filter wants, sorted, by the index; nothing if scanning is the better way.
fn indexed(
    db: &Connection,
    segment: Segment,
    range: &std::ops::RangeInclusive<u64>,
    filter: &Filter,
) -> rusqlite::Result<Option<Vec<u64>>> {
    let Some(prefixes) = filter.prefixes().filter(|_| !filter.scans(segment.first)) else { return Ok(None) };
    let by_tag = "SELECT tag, offset FROM events INDEXED BY events_by_tag WHERE tag >= ?1 ORDER BY tag";
    // A plain file that somebody else has made need not have the index.
    let Ok(mut select) = db.prepare_cached(by_tag) else { return Ok(None) };
    let (mut offsets, mut entries) = (Vec::new(), 0);
    for prefix in prefixes {
        let mut rows = select.query([prefix])?;
        while let Some(row) = rows.next()? {
            let tag = row.get_ref(0)?.as_str()?;
            if !tag.starts_with(prefix) {
                break;
            }
            entries += 1;
            if entries > INDEX_ENTRIES {
                filter.set_scans(segment.first);
                return Ok(None);
            }
            let offset = row.get::<_, i64>(1)?.cast_unsigned();
            if range.contains(&offset) && filter.wants(tag) {
                offsets.push(offset);
            }
        }
    }
    offsets.sort_unstable();
    offsets.dedup();
    Ok(Some(offsets))
}

/// Reads the rows with these offsets, as many as a page takes; `end` is where the segment ends.
fn pick(db: &Connection, offsets: &[u64], end: u64) -> rusqlite::Result<Page> {
    let mut select = db.prepare_cached(ONE)?;
    let mut page = Page::new(end + 1);
    let mut bytes = 0;
    for (count, offset) in (0..).zip(offsets) {
        if bytes >= PAGE_BYTES || count >= PAGE_ROWS {
            page.next = *offset;
            break;
        }
        let Some(event) = select.query_row([offset.cast_signed()], event)? else { continue };
        bytes += event.cost();
        page.events.push(event);
    }
    Ok(page)
}

/// Makes an event of a row; nothing if its tag is none.
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let Ok(tag) = Tag::parse(row.get_ref(2)?.as_str()?) else { return Ok(None) };
    let data = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
    let offset = row.get::<_, i64>(0)?.cast_unsigned();
    Ok(Some(Event { offset, tag, stamp_us: row.get(1)?, data, durable: true }))
}

fn first_stamp(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT stamp_us FROM events ORDER BY offset LIMIT 1", [], |row| row.get(0)).optional()
}

/// Halves one segment.
fn first_in(db: &Connection, stamp_us: i64, first: u64, end: u64) -> rusqlite::Result<u64> {
    let mut probe =
        db.prepare_cached("SELECT offset, stamp_us FROM events WHERE offset >= ?1 ORDER BY offset LIMIT 1")?;
    let (mut low, mut high) = (first, (end + 1).max(first));
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
