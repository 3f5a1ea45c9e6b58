//! Small secret files under `cachedir`: written whole, for nobody else to read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The largest of these files that is read.
const MAX_FILE: u64 = 4_096;

/// An error that names its file.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}; check its owner and rights, it must belong to the master's user")]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Writes a file under a temporary name with its final rights, and puts it in its place at once.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<(), FileError> {
    let failed = |source| FileError { what: "write", path: path.to_owned(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        // Left behind by a crash of this very process id, if at all.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

/// Reads a file, if it is there. One that others may read does not count: what it holds is known.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    let failed = |source| FileError { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "a secret that others may read is not used any more");
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::new());
    match file.take(MAX_FILE).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Deletes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError { what: "delete", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Makes a folder that nobody else may enter.
pub(super) fn folder(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError { what: "make the folder", path: path.to_owned(), source })
}
