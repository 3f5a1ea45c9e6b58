//! What a reader makes of a complete segment that is damaged or gone: it reads event by event what can be read, and is told
//! of the rest. Waiting would not help, and would keep it from everything behind.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::query::Filter;
use super::reader::{self, PAGE_BYTES, PAGE_ROWS, Page};

/// What a reader wanted and does not get: the first and the last offset, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) why: Why,
}

impl Gap {
    /// Makes one gap of two that follow each other. What is deleted comes first.
    pub(super) fn joined(first: Option<Gap>, second: Option<Gap>) -> Option<Gap> {
        match (first, second) {
            (Some(first), Some(second)) => Some(Gap { last: second.last, ..first }),
            (first, second) => first.or(second),
        }
    }
}

/// Why events are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// They cannot be read.
    Damaged,
    /// Retention has deleted them.
    Deleted,
    /// Somebody else has taken them away.
    Missing,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Damaged => "damaged",
            Why::Deleted => "deleted",
            Why::Missing => "missing",
        })
    }
}

/// Tells whether reading a file again would only fail again. A disk that fails, or a lack of memory or open files, may pass.
pub(super) fn is_damage(error: &rusqlite::Error, path: &Path) -> bool {
    match error.sqlite_error_code() {
        // Without the table, it is an SQL error.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => true,
        Some(ErrorCode::CannotOpen) => !path.exists(),
        Some(_) => false,
        // A value that is not what the table says.
        None => true,
    }
}

/// Reads what can be read of the next events: some, or else the gap that comes first.
pub(super) fn page(path: &Path, range: RangeInclusive<u64>, filter: &Filter) -> Page {
    let (begin, end) = range.into_inner();
    let why = if path.exists() { Why::Damaged } else { Why::Missing };
    let lost = |last| Page { gap: Some(Gap { first: begin, last, why }), ..Page::new(last + 1) };
    let Some(db) = readable(path) else { return lost(end) };
    let mut page = Page::new(begin);
    let (mut seen, mut bytes) = (0, 0);
    for offset in begin..=end {
        let read =
            db.prepare_cached(reader::ONE).and_then(|mut one| one.query_row([offset.cast_signed()], reader::event));
        match read.optional() {
            Ok(Some(event)) if page.next == offset => {
                (seen, page.next) = (seen + 1, offset + 1);
                let wanted = event.filter(|event| filter.wants(event.tag.as_str()));
                bytes += wanted.as_ref().map_or(0, super::Event::cost);
                page.events.extend(wanted);
                if seen >= PAGE_ROWS || bytes >= PAGE_BYTES {
                    return page;
                }
            }
            // The first one behind a gap.
            Ok(Some(_)) => return lost(offset - 1),
            _ if seen > 0 => return page,
            _ => {}
        }
    }
    if seen > 0 { page } else { lost(end) }
}

/// Opens a file of which at least something can be read.
fn readable(path: &Path) -> Option<Connection> {
    let db = reader::open(path).ok()?;
    db.prepare(reader::ONE).ok()?;
    Some(db)
}
