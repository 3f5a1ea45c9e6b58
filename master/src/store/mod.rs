//! The files of a master as an operator handles them: check, backup, restore, compact, export (`halite store`).
//!
//! Everything here works on files alone, whether the master runs or not: its databases may be read by anybody at any time.
//! What changes them ([`restore`], [`compact`]) needs the master to be away, and takes its lock.

mod backup;
mod check;
mod compact;
mod export;
mod restore;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

pub use backup::{Backup, backup};
pub use check::{Finding, check};
pub use compact::{Compacted, compact};
pub use export::{Exported, Lost, export};
pub use restore::{Occupied, Restored, restore};

use crate::bus::{OpenError, Retention};

/// Where a master has its files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The folder of the event log.
    pub events: PathBuf,
    /// The databases beside it that are worth keeping: job cache, cursors, the reactor's outbox.
    pub databases: Vec<PathBuf>,
    /// The keys.
    pub pki_dir: PathBuf,
    /// How long events are kept.
    pub retention: Retention,
}

/// Why the store could not be handled so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log is in use, or cannot be used.
    #[error("take the event log")]
    Log(#[from] OpenError),
    /// A file cannot be read or written.
    #[error("{what} {path}", path = path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A database cannot be read or written.
    #[error("{what} {path}", path = path.display())]
    Database {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The folder for a backup has something in it.
    #[error("back up into {}: it is not empty; name a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// The folder lies in what would be copied into it, or replaced by it.
    #[error("use {} for a backup: it lies in {}, which is part of the store; name a folder elsewhere", .folder.display(), .part.display())]
    Within {
        /// The folder.
        folder: PathBuf,
        /// The part of the store.
        part: PathBuf,
    },
    /// The backup has lost something since it was made.
    #[error(
        "restore from {}: it is not whole any more: it was made with {} segments up to event {}, and has {} up to {}",
        .folder.display(), .made.0, .made.1, .found.0, .found.1
    )]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// How many segments it was made with, and their last event.
        made: (u64, u64),
        /// What is there of them.
        found: (u64, u64),
    },
    /// The folder holds no complete backup.
    #[error("restore from {}: it has no {MANIFEST}, so it is no backup or not a complete one", .0.display())]
    NoBackup(PathBuf),
    /// There is something that a restore would replace.
    #[error("restore over {}: it is there already; with --force it is moved aside first", .0.display())]
    Occupied(PathBuf),
}

/// The file that is written last into a backup: it says what is in it, and that it is complete.
const MANIFEST: &str = "backup.json";

/// Hears what is being done, for people who wait.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { what, path, source }
}

fn database_error(what: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Database { what, path, source }
}

impl Files {
    /// Refuses a folder that lies in one of the store's own.
    fn refuse_within(&self, folder: &Path) -> Result<(), StoreError> {
        let real = resolved(folder);
        let within = [&self.events, &self.pki_dir].into_iter().find(|part| real.starts_with(resolved(part)));
        match within {
            Some(part) => Err(StoreError::Within { folder: folder.to_owned(), part: part.clone() }),
            None => Ok(()),
        }
    }
}

/// Returns a path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            // Joining nothing would add a slash.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}

/// Returns the last offset that a segment knows of.
fn head(path: &Path) -> Result<u64, StoreError> {
    let read = || read_only(path)?.query_row("SELECT offset FROM head", [], |row| row.get::<_, i64>(0));
    read().map(i64::cast_unsigned).map_err(database_error("read", path))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Opens a database for reading only, running master or not.
fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(db)
}

/// Copies a folder with all that is in it, modes and owners kept as far as this user may.
fn copy_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    fs::DirBuilder::new().mode(0o700).create(to).map_err(file_error("make", to))?;
    for entry in fs::read_dir(from).map_err(file_error("read", from))? {
        let from = entry.map_err(file_error("read", from))?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        let meta = fs::symlink_metadata(&from).map_err(file_error("read", &from))?;
        if meta.is_dir() {
            copy_folder(&from, &to)?;
        } else if meta.is_file() {
            fs::copy(&from, &to).map_err(file_error("copy", &from))?;
            sync(&to)?;
        }
    }
    let meta = fs::metadata(from).map_err(file_error("read", from))?;
    fs::set_permissions(to, meta.permissions()).map_err(file_error("set the mode of", to))?;
    // Only root may give files away; for everybody else they are their own anyway.
    let _ = std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()));
    sync(to)
}

/// Makes sure that a file or folder survives a power cut.
fn sync(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(file_error("sync", path))
}

#[cfg(test)]
mod tests;
