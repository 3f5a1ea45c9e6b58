//! Looks whether everything in the store is whole.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::{Files, Progress, StoreError, file_error, read_only};
use crate::bus;

/// How many faults of one file SQLite is asked to tell.
const MAX_FAULTS: i64 = 10;

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub what: String,
    /// Whether it is in order.
    pub ok: bool,
    /// Whether it could not be looked at, for want of room or because the disk fails: nothing is known of it then.
    pub unseen: bool,
    /// What is in it, or what is wrong.
    pub detail: String,
}

impl Finding {
    fn good(what: String, detail: String) -> Finding {
        Finding { what, ok: true, unseen: false, detail }
    }

    fn bad(what: String, detail: String) -> Finding {
        Finding { what, ok: false, unseen: false, detail }
    }

    /// Of what could not be opened or read.
    fn failed(what: String, error: &rusqlite::Error) -> Finding {
        let unseen = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull | ErrorCode::CannotOpen | ErrorCode::DatabaseBusy)
        );
        let detail = if unseen {
            format!("cannot be looked at: {error}; is the disk full, or failing?")
        } else {
            error.to_string()
        };
        Finding { what, ok: false, unseen, detail }
    }
}

/// The offsets of one segment.
struct Extent {
    events: u64,
    first: u64,
    last: u64,
    head: u64,
    marks: u64,
}

/// Checks every segment, that no offset is missing between them, and the databases beside.
pub fn check(files: &Files, progress: Progress<'_>) -> Result<Vec<Finding>, StoreError> {
    // First, so that a running master cannot move them beyond what is seen of the log.
    let databases = databases(files, progress);
    let segments = bus::files(&files.events).map_err(file_error("read", &files.events))?;
    let mut findings = Vec::new();
    let mut head = 0;
    for (at, (first, path)) in segments.iter().enumerate() {
        progress(&format!("checking segment {} of {}", at + 1, segments.len()));
        let next = segments.get(at + 1).map(|(next, _)| *next);
        let looked = segment(path, Look::Thorough);
        // Retention was quicker.
        if looked.is_err() && !path.exists() {
            continue;
        }
        findings.push(judge(path, looked, |extent| {
            head = extent.head.max(extent.last);
            extent_fault(extent, *first, next)
        }));
    }
    if segments.is_empty() {
        let detail = "there is no segment: the master has not run here yet".to_owned();
        findings.push(Finding::good(files.events.display().to_string(), detail));
    }
    if let Err(error) = bus::refuse_unfinished(&files.events) {
        findings.push(Finding::bad(bus::restoring(&files.events).display().to_string(), error.to_string()));
    }
    let databases = databases.into_iter().map(|(what, looked)| match looked {
        Ok((None, Some(next))) if next > head + 1 => {
            Finding::bad(what, format!("its cursor, {next}, is beyond the log, which ends at {head}"))
        }
        Ok((None, Some(next))) => Finding::good(what, format!("whole; goes on at {next}")),
        Ok((None, None)) => Finding::good(what, "whole".to_owned()),
        Ok((Some(fault), _)) => Finding::bad(what, fault),
        Err(error) => Finding::failed(what, &error),
    });
    findings.extend(databases);
    Ok(findings)
}

/// What a database has: a fault, and the next offset it wants.
type Looked = rusqlite::Result<(Option<String>, Option<u64>)>;

fn databases(files: &Files, progress: Progress<'_>) -> Vec<(String, Looked)> {
    let look = |path: &std::path::PathBuf| {
        progress(&format!("checking {}", path.display()));
        (path.display().to_string(), read_only(path).and_then(|db| Ok((whole(&db, Look::Thorough)?, cursor(&db)))))
    };
    files.databases.iter().filter(|path| path.exists()).map(look).collect()
}

fn judge(
    path: &Path,
    looked: rusqlite::Result<(Option<String>, Extent)>,
    fault: impl FnOnce(&Extent) -> Option<String>,
) -> Finding {
    let what = path.display().to_string();
    let (damage, extent) = match looked {
        Ok(looked) => looked,
        Err(error) => return Finding::failed(what, &error),
    };
    match damage.or_else(|| fault(&extent)) {
        Some(detail) => Finding::bad(what, detail),
        None if extent.events == 0 => Finding::good(what, format!("empty, {} marks", extent.marks)),
        None => {
            let Extent { events, first, last, marks, .. } = extent;
            Finding::good(what, format!("{events} events, {first} to {last}, {marks} marks"))
        }
    }
}

/// How closely a segment is looked at.
#[derive(Clone, Copy)]
enum Look {
    /// Every page and row, and whether the indexes say the same.
    Thorough,
    /// Every page and row: a fifth of the time.
    Quick,
}

/// Says what is wrong with a complete segment that begins at `first` and is followed by one that begins at `next`. Takes
/// about as long as copying it does.
pub(super) fn fault(path: &Path, first: u64, next: u64) -> rusqlite::Result<Option<String>> {
    let (damage, extent) = segment(path, Look::Quick)?;
    Ok(damage.or_else(|| extent_fault(&extent, first, Some(next))))
}

fn segment(path: &Path, look: Look) -> rusqlite::Result<(Option<String>, Extent)> {
    let db = read_only(path)?;
    let damage = whole(&db, look)?;
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
    // One transaction: a running master goes on writing.
    db.execute_batch("BEGIN")?;
    let extent = Extent {
        events: number("SELECT count(*) FROM events")?,
        first: number("SELECT coalesce(min(offset), 0) FROM events")?,
        last: number("SELECT coalesce(max(offset), 0) FROM events")?,
        head: number("SELECT offset FROM head")?,
        marks: number("SELECT count(*) FROM marks")?,
    };
    db.execute_batch("COMMIT")?;
    Ok((damage, extent))
}

/// Says what is wrong with the offsets of a segment that begins at `name` and is followed by one that begins at `next`.
fn extent_fault(extent: &Extent, name: u64, next: Option<u64>) -> Option<String> {
    let Extent { events, first, last, head, .. } = *extent;
    if events == 0 {
        return next.filter(|next| *next != name).map(|next| format!("no event of {name} to {} is there", next - 1));
    }
    if first != name {
        return Some(format!("its first event is {first}, not {name}"));
    }
    if events != last - first + 1 {
        return Some(format!("{} events between {first} and {last} are missing", (last - first + 1) - events));
    }
    if head < last {
        return Some(format!("it says that it ends at {head}, but has an event {last}"));
    }
    next.filter(|next| *next != last + 1).map(|next| format!("the events {} to {} are missing", last + 1, next - 1))
}

/// Has SQLite check a file; returns what is wrong.
fn whole(db: &Connection, look: Look) -> rusqlite::Result<Option<String>> {
    let check = match look {
        Look::Thorough => "integrity_check",
        Look::Quick => "quick_check",
    };
    let mut select = db.prepare(&format!("PRAGMA {check}({MAX_FAULTS})"))?;
    let faults: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(if faults == ["ok"] { None } else { Some(faults.join("; ")) })
}

/// Returns the next offset that a projection wants. The job cache and the outbox store it in different words.
fn cursor(db: &Connection) -> Option<u64> {
    let read = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).ok().map(i64::cast_unsigned);
    read("SELECT next FROM cursor").or_else(|| read("SELECT offset + 1 FROM cursor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_no_holes() {
        let check = |events, first, last, head, name, next, expected: Option<&str>| {
            let extent = Extent { events, first, last, head, marks: 0 };
            assert_eq!(extent_fault(&extent, name, next).as_deref(), expected);
        };
        check(0, 0, 0, 9, 10, None, None);
        check(3, 1, 3, 3, 1, Some(4), None);
        check(3, 1, 3, 3, 1, Some(6), Some("the events 4 to 5 are missing"));
        check(3, 1, 4, 4, 1, None, Some("1 events between 1 and 4 are missing"));
        check(2, 2, 3, 3, 1, None, Some("its first event is 2, not 1"));
        check(2, 1, 2, 1, 1, None, Some("it says that it ends at 1, but has an event 2"));
        check(0, 0, 0, 9, 1, Some(10), Some("no event of 1 to 9 is there"));
    }
}
