//! The file `sock_dir/minion.sock`: mode 0660 from its first moment, a dead daemon's is replaced, a live one's is not.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;

/// The socket's name in `sock_dir`.
pub const SOCKET_NAME: &str = "minion.sock";
/// The longest path a UNIX socket can have: `sun_path` has 108 bytes, and the last is NUL.
const MAX_PATH: usize = 107;
/// Owner and group may knock; who is served is decided by who they are.
const SOCKET_MODE: u32 = 0o660;
/// `sock_dir`, if it has to be made.
const DIR_MODE: u32 = 0o750;
/// Connections the kernel holds while the daemon serves as many as it may.
const BACKLOG: i32 = 64;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another minion answers there.
    #[error("another minion already serves {path}: stop it, or give this one its own sock_dir", path = .0.display())]
    InUse(PathBuf),
    /// Something that is not a socket has the name.
    #[error("{path} is in the way and is not a socket: move it away", path = .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("open the socket {path}", path = path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {path} has {length} bytes and the system allows {MAX_PATH}: set a shorter sock_dir",
        path = path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
}

/// Opens the socket in `sock_dir`, which is made if it is not there.
pub(super) fn bind(sock_dir: &Path) -> Result<UnixListener, BindError> {
    let path = sock_dir.join(SOCKET_NAME);
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(BindError::TooLong { path, length });
    }
    let failed = |source: io::Error| BindError::System { path: path.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(sock_dir).map_err(failed)?;
    clear(&path)?;
    open(&path).map_err(failed)
}

/// Takes away what a dead daemon left.
fn clear(path: &Path) -> Result<(), BindError> {
    let failed = |source: io::Error| BindError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Binds and listens. Nobody can connect before `listen`, and the mode is right by then.
fn open(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Linux gives the file the socket's mode, less the umask: it is never wider than this.
    fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE))?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    UnixListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_a_dead_daemons_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let sock_dir = folder.path().join("run");
        let first = bind(&sock_dir).unwrap();
        let mode = fs::metadata(sock_dir.join(SOCKET_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(bind(&sock_dir), Err(BindError::InUse(_))));
        drop(first);
        bind(&sock_dir).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_a_socket_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SOCKET_NAME), "precious").unwrap();
        assert!(matches!(bind(folder.path()), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(folder.path().join(SOCKET_NAME)).unwrap(), b"precious");
        let error = bind(Path::new(&format!("/tmp/{}", "x".repeat(100)))).unwrap_err().to_string();
        assert!(error.contains("has 117 bytes and the system allows 107: set a shorter sock_dir"), "{error}");
    }
}
