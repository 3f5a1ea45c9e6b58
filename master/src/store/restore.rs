//! Puts a backup in the place of a stopped master's store. What is there is moved aside, never deleted.
//!
//! Everything is copied first. A file says so as long as things are moved then: cut off, the store is a mixture or empty, and no
//! master starts on it until the restore was done again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Files, MANIFEST, Progress, StoreError, copy_folder, file_error, head, sync, with_end};
use crate::bus;

/// What was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Where files and folders are now.
    pub restored: Vec<PathBuf>,
    /// Where those are that were there before.
    pub aside: Vec<PathBuf>,
}

/// Whether what is there may be moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupied {
    /// It may.
    MoveAside,
    /// Then nothing is done.
    Refuse,
}

/// Puts a backup in place. The master must be away: its lock is held as long as this takes.
pub fn restore(files: &Files, from: &Path, occupied: Occupied, progress: Progress<'_>) -> Result<Restored, StoreError> {
    if !from.join(MANIFEST).is_file() {
        return Err(StoreError::NoBackup(from.to_owned()));
    }
    files.refuse_within(from)?;
    refuse_incomplete(from)?;
    let _held = bus::hold(&files.events)?;
    let mut places: Vec<(PathBuf, PathBuf)> = vec![(from.join("events"), files.events.clone())];
    let databases = files.databases.iter();
    places.extend(databases.map(|to| (from.join(to.file_name().unwrap_or_default()), to.clone())));
    places.push((from.join("pki"), files.pki_dir.clone()));
    if let Some((_, to)) = places.iter().find(|(_, to)| is_occupied(to))
        && occupied == Occupied::Refuse
    {
        return Err(StoreError::Occupied(to.clone()));
    }
    // Before anything is moved: a disk without room for it all leaves everything as it was.
    if let Err(error) = copy_all(&places, progress) {
        places.iter().for_each(|(_, to)| forget(&unready(to)));
        return Err(error);
    }
    let unfinished = bus::restoring(&files.events);
    mark(&unfinished, from)?;
    let mut done = Restored::default();
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for (_, to) in places {
        progress(&format!("restoring {}", to.display()));
        // Its WAL goes with a database; and one that the backup has not would belong to another log.
        for end in ["", "-wal", "-shm"] {
            done.aside.extend(move_aside(&with_end(&to, end), stamp)?);
        }
        if unready(&to).exists() {
            fs::rename(unready(&to), &to).map_err(file_error("put in place", &to))?;
            sync(parent(&to))?;
            done.restored.push(to);
        }
    }
    fs::remove_file(&unfinished).map_err(file_error("remove", &unfinished))?;
    sync(parent(&unfinished))?;
    Ok(done)
}

/// Copies everything of a backup beside its place, under a name that nobody takes for the right one.
fn copy_all(places: &[(PathBuf, PathBuf)], progress: Progress<'_>) -> Result<(), StoreError> {
    for (source, to) in places {
        let (unready, parent) = (unready(to), parent(to));
        // A restore that was cut off may have left it.
        forget(&unready);
        if !source.exists() {
            continue;
        }
        progress(&format!("copying {}", source.display()));
        fs::create_dir_all(parent).map_err(file_error("make", parent))?;
        if source.is_dir() {
            copy_folder(source, &unready)?;
        } else {
            fs::copy(source, &unready).map_err(file_error("copy", source))?;
            sync(&unready)?;
        }
    }
    Ok(())
}

fn unready(to: &Path) -> PathBuf {
    with_end(to, ".restoring")
}

/// Removes a copy that is not wanted, if it is there.
fn forget(unready: &Path) {
    // What stays in the way is an error when it is in the way.
    let _ = fs::remove_dir_all(unready);
    let _ = fs::remove_file(unready);
}

/// Refuses a backup that has lost segments since it was made: what it would replace is worth more.
fn refuse_incomplete(from: &Path) -> Result<(), StoreError> {
    let path = from.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(file_error("read", &path))?;
    let manifest: serde_json::Value = serde_json::from_str(&text).map_err(|error| StoreError::File {
        what: "read",
        path,
        source: std::io::Error::other(error),
    })?;
    let number = |name: &str| manifest[name].as_u64();
    let (Some(segments), Some(end)) = (number("segments"), number("head")) else { return Ok(()) };
    let events = from.join("events");
    let there = bus::files(&events).map_err(file_error("read", &events))?;
    let newest = there.last().map_or(Ok(0), |(_, path)| head(path))?;
    let (made, found) = ((segments, end), (there.len() as u64, newest));
    if made == found { Ok(()) } else { Err(StoreError::Incomplete { folder: from.to_owned(), made, found }) }
}

/// Says that a restore has begun, on the disk before anything is moved.
fn mark(unfinished: &Path, from: &Path) -> Result<(), StoreError> {
    let from = fs::canonicalize(from).map_err(file_error("find", from))?;
    // Under its own name it is complete: a master that finds it does not start.
    let new = with_end(unfinished, ".new");
    let written = fs::write(&new, from.display().to_string()).map_err(file_error("write", &new));
    written.and_then(|()| sync(&new)).inspect_err(|_| forget(&new))?;
    fs::rename(&new, unfinished).map_err(file_error("write", unfinished))?;
    sync(parent(unfinished))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn is_occupied(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    }
}

fn move_aside(path: &Path, stamp: u64) -> Result<Option<PathBuf>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    // Another restore may have been cut off within the same second.
    let names = (stamp..).map(|number| with_end(path, &format!(".before-{number}")));
    let aside = names.into_iter().find(|aside| !aside.exists()).unwrap_or_else(|| with_end(path, ".before"));
    fs::rename(path, &aside).map_err(file_error("move aside", path))?;
    Ok(Some(aside))
}
