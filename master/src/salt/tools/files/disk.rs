//! How a file gets there: whole, with its final mode, under names that Salt's tools ignore until then.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns and loads may hold secrets: they are for the master's user, as `cachedir` is.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
#[error("write {path} for Salt's tools", path = path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    /// Says which file it was.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    }
}

/// Makes a directory and those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), WriteError> {
    let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
    made.map_err(WriteError::at(path))
}

/// Returns a name beside `path` that nobody else uses and Salt's tools ignore.
pub(super) fn beside(path: &Path) -> PathBuf {
    /// Several threads write at once.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".halite-{}-{number}.new", std::process::id()))
}

/// Writes a file whose name nobody knows yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(WriteError::at(path))
}

/// Writes a file so that it is seen whole, or as it was. The directory must be there. It is not synced: after a power cut
/// the log still has it all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let temporary = beside(path);
    let written =
        write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path).map_err(WriteError::at(path)));
    if written.is_err() {
        // What cannot be written can often not be removed either.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("data.p");
        make_dir(path.parent().unwrap()).unwrap();
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left lying about");
    }
}
