//! The paths that Salt's tools look for before they ask a master: `publish_pull.ipc` (the command line) and `workers.ipc`
//! (netapi). With Salt they are sockets between its own processes; here they are empty files, and gone when the master is.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::unix::{BindError, Socket};

const NAMES: [&str; 2] = ["publish_pull.ipc", "workers.ipc"];
const MODE: u32 = 0o600;
/// `sock_dir`, if it has to be made.
const DIR_MODE: u32 = 0o750;

/// Why a path cannot be put.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// A Salt master runs here.
    #[error(transparent)]
    InUse(#[from] BindError),
    /// The system refused.
    #[error("make {path}", path = path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The paths. Dropped, they are gone.
#[derive(Debug)]
pub struct Markers {
    dir: PathBuf,
}

impl Markers {
    /// Puts the paths; what a dead master left is replaced.
    pub fn put(dir: &Path, option: &'static str) -> Result<Markers, MarkerError> {
        let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
        made.map_err(|source| MarkerError::System { path: dir.to_owned(), source })?;
        for name in NAMES {
            let path = dir.join(name);
            let is_socket = fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket());
            if is_socket {
                Socket { what: "path", option, dir, name, mode: MODE }.clear()?;
            }
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&path);
            file.map_err(|source| MarkerError::System { path, source })?;
        }
        Ok(Markers { dir: dir.to_owned() })
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        for name in NAMES {
            // What is gone already is gone.
            let _ = fs::remove_file(self.dir.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_paths_are_there_as_long_as_the_master_is() {
        let dir = tempfile::tempdir().unwrap();
        let sock_dir = dir.path().join("run");
        let markers = Markers::put(&sock_dir, "sock_dir").unwrap();
        assert!(NAMES.iter().all(|name| sock_dir.join(name).exists()));
        let again = Markers::put(&sock_dir, "sock_dir").unwrap();
        drop((markers, again));
        assert!(NAMES.iter().all(|name| !sock_dir.join(name).exists()));
    }

    #[test]
    fn a_running_salt_master_is_left_alone_and_a_dead_ones_socket_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workers.ipc");
        let salt = UnixListener::bind(&path).unwrap();
        let error = Markers::put(dir.path(), "sock_dir").unwrap_err().to_string();
        assert!(error.contains("another master is already serving"), "{error}");
        assert!(path.exists());
        drop(salt);
        Markers::put(dir.path(), "sock_dir").unwrap();
    }
}
