//! Reads all events there are, oldest first, off the files. What cannot be read is passed over and named.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::tag::Tag;
use proto::target::glob::Glob;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Files, StoreError, file_error, read_only};
use crate::bus::{self, Event};

/// How many rows one transaction reads: an open one keeps a running master's WAL from beginning anew.
const PAGE_ROWS: i64 = 1_000;

/// What an export has come to.
#[derive(Debug, Default)]
pub struct Exported {
    /// How many events were handed out.
    pub events: u64,
    /// What could not be read.
    pub lost: Vec<Lost>,
}

/// Events of one segment that cannot be read.
#[derive(Debug)]
pub struct Lost {
    /// The segment.
    pub path: PathBuf,
    /// How many are known to be missing; those of a last segment that has lost its end are not known.
    pub events: u64,
    /// What SQLite said first; nothing if they are just not there.
    pub error: Option<rusqlite::Error>,
}

/// Hands every event whose tag matches one of the patterns (none: every event) to `each`, until that says no. A segment
/// that is damaged is read event by event.
pub fn export(
    files: &Files,
    patterns: &[String],
    each: &mut dyn FnMut(&Event) -> std::io::Result<()>,
) -> Result<Exported, StoreError> {
    let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(pattern)).collect();
    let mut exported = Exported::default();
    let mut hand_out = |events: &[Event]| -> Result<(), StoreError> {
        for event in events.iter().filter(|event| wants(&globs, event)) {
            let failed = |source| StoreError::File { what: "write", path: PathBuf::from("output"), source };
            each(event).map_err(failed)?;
            exported.events += 1;
        }
        Ok(())
    };
    let segments = bus::files(&files.events).map_err(file_error("read", &files.events))?;
    let mut lost = Vec::new();
    for (at, (first, path)) in segments.iter().enumerate() {
        let (mut next, mut missing) = (*first, 0);
        let error = loop {
            match page(path, next) {
                Ok(None) => break None,
                Ok(Some(page)) => {
                    missing += page.after - next - page.rows;
                    next = page.after;
                    hand_out(&page.events)?;
                }
                Err(error) => break Some(error),
            }
        };
        // If it is gone, retention was quicker.
        if error.is_some() && !path.exists() {
            continue;
        }
        let following = segments.get(at + 1).map(|(following, _)| following - 1);
        missing += match (&error, following.or_else(|| newest(path))) {
            (Some(_), last) => salvage(path, next..=last.unwrap_or(0), &mut hand_out)?,
            // The segment that should come next is another one.
            (None, _) => following.map_or(0, |last| (last + 1).saturating_sub(next)),
        };
        if missing > 0 || error.is_some() {
            lost.push(Lost { path: path.clone(), events: missing, error });
        }
    }
    exported.lost = lost;
    Ok(exported)
}

fn wants(globs: &[Glob], event: &Event) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(event.tag.as_str()))
}

/// Part of a segment.
struct Page {
    events: Vec<Event>,
    /// How many offsets have a row.
    rows: u64,
    /// The offset to go on from.
    after: u64,
}

/// Reads one page; nothing at the end.
fn page(path: &Path, from: u64) -> rusqlite::Result<Option<Page>> {
    let db = read_only(path)?;
    let mut select =
        db.prepare("SELECT offset, stamp_us, tag, data FROM events WHERE offset >= ?1 ORDER BY offset LIMIT ?2")?;
    let mut rows = select.query(params![from.cast_signed(), PAGE_ROWS])?;
    let mut page = Page { events: Vec::new(), rows: 0, after: from };
    while let Some(row) = rows.next()? {
        (page.rows, page.after) = (page.rows + 1, row.get::<_, i64>(0)?.cast_unsigned() + 1);
        page.events.extend(event(row)?);
    }
    Ok(Some(page).filter(|page| page.rows > 0))
}

/// Makes an event of a row; nothing if its tag is none.
fn event(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let offset = row.get::<_, i64>(0)?.cast_unsigned();
    let Ok(tag) = Tag::parse(row.get_ref(2)?.as_str()?) else { return Ok(None) };
    let data = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
    Ok(Some(Event { offset, tag, stamp_us: row.get(1)?, data, durable: true }))
}

/// Returns the last offset of a damaged segment, as far as that can be told.
fn newest(path: &Path) -> Option<u64> {
    let db = read_only(path).ok()?;
    let read = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).ok().map(i64::cast_unsigned);
    read("SELECT offset FROM head").max(read("SELECT max(offset) FROM events"))
}

/// Reads what it can of a damaged segment, event by event; returns how many could not be read.
fn salvage(
    path: &Path,
    offsets: RangeInclusive<u64>,
    hand_out: &mut dyn FnMut(&[Event]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let db = read_only(path).ok();
    let mut missing = 0;
    for offset in offsets {
        let read = |db: &Connection| {
            let sql = "SELECT offset, stamp_us, tag, data FROM events WHERE offset = ?1";
            db.prepare_cached(sql)?.query_row([offset.cast_signed()], event).optional()
        };
        match db.as_ref().map(read) {
            Some(Ok(Some(event))) => hand_out(event.as_slice())?,
            _ => missing += 1,
        }
    }
    Ok(missing)
}
