//! Reads all events there are, oldest first, off the files.

use std::path::PathBuf;

use bytes::Bytes;
use proto::tag::Tag;
use proto::target::glob::Glob;
use rusqlite::params;

use super::{Files, StoreError, database_error, file_error, read_only};
use crate::bus::{self, Event};

/// How many rows one transaction reads: an open one keeps a running master's WAL from beginning anew.
const PAGE_ROWS: i64 = 1_000;

/// Hands every event whose tag matches one of the patterns (none: every event) to `each`, until that says no.
pub fn export(
    files: &Files,
    patterns: &[String],
    each: &mut dyn FnMut(&Event) -> std::io::Result<()>,
) -> Result<u64, StoreError> {
    let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(pattern)).collect();
    let mut exported = 0;
    for (_, path) in bus::files(&files.events).map_err(file_error("read", &files.events))? {
        let mut next = 0;
        while let Some((events, at)) = page(&path, next).map_err(database_error("read", &path))? {
            next = at;
            for event in events.iter().filter(|event| wants(&globs, event)) {
                each(event).map_err(|source| StoreError::File {
                    what: "write",
                    path: PathBuf::from("output"),
                    source,
                })?;
                exported += 1;
            }
        }
    }
    Ok(exported)
}

fn wants(globs: &[Glob], event: &Event) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(event.tag.as_str()))
}

/// Reads one page; returns it with the offset to go on from, or nothing at the end.
fn page(path: &std::path::Path, from: u64) -> rusqlite::Result<Option<(Vec<Event>, u64)>> {
    let db = read_only(path)?;
    let mut select =
        db.prepare("SELECT offset, stamp_us, tag, data FROM events WHERE offset >= ?1 ORDER BY offset LIMIT ?2")?;
    let mut rows = select.query(params![from.cast_signed(), PAGE_ROWS])?;
    let (mut events, mut next) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let offset = row.get::<_, i64>(0)?.cast_unsigned();
        next = Some(offset + 1);
        let Ok(tag) = Tag::parse(row.get_ref(2)?.as_str()?) else { continue };
        let data = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
        events.push(Event { offset, tag, stamp_us: row.get(1)?, data, durable: true });
    }
    Ok(next.map(|next| (events, next)))
}
