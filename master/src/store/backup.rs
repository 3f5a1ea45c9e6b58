//! Copies a store, running or not, so that what is copied fits together.
//!
//! The projections come first and the log last, so none of them is ahead of it. Of the log, the segments that there are at
//! one moment are taken; the newest of them as it is when its turn comes. Damage to old ones does not keep the rest from being
//! copied.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::check;
use super::{
    Files, MANIFEST, Progress, StoreError, copy_folder, database_error, file_error, head, read_only, sync, with_end,
};
use crate::bus;

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// How many segments.
    pub segments: usize,
    /// How many bytes of them.
    pub bytes: u64,
    /// The last offset in the copy.
    pub head: u64,
    /// Segments that are damaged or lack events: copied as they are, so that nothing is lost with them that can still be read.
    pub damaged: Vec<PathBuf>,
    /// Databases that are damaged: not in the copy. They begin anew after a restore.
    pub left_out: Vec<PathBuf>,
}

/// Copies log, databases and keys into a folder that is empty or is made.
pub fn backup(files: &Files, to: &Path, progress: Progress<'_>) -> Result<Backup, StoreError> {
    files.refuse_within(to)?;
    bus::refuse_unfinished(&files.events)?;
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(StoreError::NotEmpty(to.to_owned()));
    }
    let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(to).map_err(file_error("make", to))?;
    let mut copied = Backup { segments: 0, bytes: 0, head: 0, damaged: Vec::new(), left_out: Vec::new() };
    for path in files.databases.iter().filter(|path| path.exists()) {
        progress(&format!("copying {}", path.display()));
        let copy = to.join(path.file_name().unwrap_or_default());
        if is_damaged(snapshot(path, &copy))? {
            // What SQLite had begun to write is no copy.
            let _ = fs::remove_file(&copy);
            copied.left_out.push(path.clone());
        }
    }
    let events = to.join("events");
    make(&events).map_err(file_error("make", &events))?;
    let segments = bus::files(&files.events).map_err(file_error("read", &files.events))?;
    for (at, (first, path)) in segments.iter().enumerate() {
        progress(&format!("copying segment {} of {}", at + 1, segments.len()));
        let copy = events.join(path.file_name().unwrap_or_default());
        // Retention may have been quicker.
        if path.exists() {
            // The newest one goes on to be written after a restore.
            let next = segments.get(at + 1).map(|(next, _)| *next);
            if copy_segment(path, &copy, (*first, next))? == Copied::Damaged {
                copied.damaged.push(path.clone());
            }
            copied.segments += 1;
            copied.bytes += fs::metadata(&copy).map_or(0, |meta| meta.len());
        }
    }
    if let Some((_, newest)) = segments.last() {
        copied.head = head(&events.join(newest.file_name().unwrap_or_default()))?;
    }
    sync(&events)?;
    progress("copying the keys");
    if files.pki_dir.is_dir() {
        copy_folder(&files.pki_dir, &to.join("pki"))?;
    }
    let manifest = serde_json::json!({ "software": crate::SOFTWARE, "segments": copied.segments, "head": copied.head });
    let path = to.join(MANIFEST);
    fs::write(&path, format!("{manifest}\n")).map_err(file_error("write", &path))?;
    sync(&path)?;
    sync(to)?;
    Ok(copied)
}

/// Tells whether what failed has failed because the file is damaged, and would fail for ever.
fn is_damaged(done: Result<(), StoreError>) -> Result<bool, StoreError> {
    match done {
        Ok(()) => Ok(false),
        Err(StoreError::Database { path, source, .. }) if bus::is_damage(&source, &path) => {
            tracing::debug!(error = &source as &dyn std::error::Error, path = %path.display(), "cannot be copied");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

fn copy_as_it_is(from: &Path, to: &Path) -> Result<(), StoreError> {
    for end in ["-wal", "-shm", "-journal"] {
        // Left by the attempt to copy it as a database, if there at all.
        let _ = fs::remove_file(with_end(to, end));
    }
    fs::copy(from, to).map_err(file_error("copy", from))?;
    keep_private(to)
}

fn index(path: &Path) -> Result<(), StoreError> {
    bus::index(path).map_err(database_error("index", path))?;
    sync(path)
}

/// How a segment came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    Damaged,
    Whole,
}

/// Copies a segment that begins at `first` and is followed by one that begins at `next`. Without a next one it is still
/// written, and cannot be taken damaged.
fn copy_segment(from: &Path, to: &Path, (first, next): (u64, Option<u64>)) -> Result<Copied, StoreError> {
    let Some(next) = next else { return copy_file(from, to).map(|()| Copied::Whole) };
    let fault = |path: &Path| match check::fault(path, first, next) {
        Err(error) if bus::is_damage(&error, path) => Ok(Some(error.to_string())),
        looked => looked.map_err(database_error("check", path)),
    };
    if let Err(error) = copy_file(from, to).and_then(|()| index(to)) {
        // SQLite takes some damage for a full disk: the segment itself tells.
        let is_full = matches!(&error, StoreError::Database { source, .. }
            if source.sqlite_error_code() == Some(ErrorCode::DiskFull));
        if is_full && fault(from)?.is_none() {
            return Err(error);
        }
        if !is_full {
            is_damaged(Err(error))?;
        }
        copy_as_it_is(from, to)?;
        return Ok(Copied::Damaged);
    }
    // The copy is looked at, not the segment: it is what a restore reads, and retention does not take it away meanwhile.
    let Some(fault) = fault(to)? else { return Ok(Copied::Whole) };
    tracing::debug!(fault, path = %from.display(), "a segment is damaged");
    Ok(Copied::Damaged)
}

/// Copies the file of a segment. A sealed one is a plain file that nobody writes any more.
fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    if !bus::is_plain(from) {
        return snapshot(from, to);
    }
    fs::copy(from, to).map_err(file_error("copy", from))?;
    keep_private(to)
}

/// Copies a database as it is at one moment, as one plain file.
fn snapshot(from: &Path, to: &Path) -> Result<(), StoreError> {
    let name = to.to_string_lossy().into_owned();
    let copied = read_only(from).and_then(|db| db.execute("VACUUM INTO ?1", [name]));
    copied.map_err(database_error("copy", from))?;
    keep_private(to)
}

fn keep_private(path: &Path) -> Result<(), StoreError> {
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(file_error("set the mode of", path))?;
    sync(path)
}
