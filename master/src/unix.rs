//! UNIX sockets in `sock_dir`: a file has its mode from its first moment, what a dead master left is replaced, what
//! somebody answers on is not. And who is at the other end: the kernel says so, never the request.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, User};
use tokio::net::{UnixListener, UnixStream};

/// The longest path a UNIX socket can have: `sun_path` has 108 bytes, and the last is NUL.
const MAX_PATH: usize = 107;

/// `sock_dir`, if it has to be made.
const DIR_MODE: u32 = 0o750;

/// Connections the kernel holds while the master is busy accepting. More than operators ever start at once.
const BACKLOG: i32 = 128;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path does not fit into a socket address.
    #[error(
        "the {what} path {path} has {length} bytes and the system allows {MAX_PATH}: set a shorter {option}",
        path = path.display()
    )]
    TooLong {
        /// Which socket.
        what: &'static str,
        /// The option that names its directory.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Another master answers there.
    #[error(
        "another master is already serving {path}: stop it first, or give this one its own {option}",
        path = path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
        /// The option that names its directory.
        option: &'static str,
    },
    /// Something that is not a socket has the name.
    #[error("{path} is in the way and is not a socket: move it away", path = .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("open the {what} {path}", path = path.display())]
    System {
        /// Which socket.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Socket<'a> {
    /// What it is, for people: `API socket`.
    pub what: &'static str,
    /// The option that names its directory: `sock_dir`.
    pub option: &'static str,
    /// The directory, which is made if it is not there.
    pub dir: &'a Path,
    /// Its name there.
    pub name: &'a str,
    /// Its mode.
    pub mode: u32,
}

impl Socket<'_> {
    /// Opens the socket.
    pub fn bind(self) -> Result<UnixListener, BindError> {
        let path = self.dir.join(self.name);
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            return Err(BindError::TooLong { what: self.what, option: self.option, path, length });
        }
        let failed = |source: io::Error| BindError::System { what: self.what, path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(self.dir).map_err(failed)?;
        self.clear()?;
        open(&path, self.mode).map_err(failed)
    }

    /// Takes away what a dead master left.
    pub fn clear(self) -> Result<(), BindError> {
        let path = self.dir.join(self.name);
        let failed = |source: io::Error| BindError::System { what: self.what, path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
            Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket(path)),
            Ok(_) => {}
        }
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => Err(BindError::InUse { path, option: self.option }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(&path).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Binds and listens. Nobody can connect before `listen`, and the mode is right by then.
fn open(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // Linux gives the file the socket's mode (less the umask), so that it is never wider than this.
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    UnixListener::from_std(socket.into())
}

/// The process at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its user id.
    pub uid: u32,
    /// Its process id, where the kernel tells.
    pub pid: Option<i32>,
    /// The name of the user id, or the number as text.
    pub user: String,
}

impl Peer {
    /// Asks the kernel, then the user database. May block: user databases can be remote.
    pub fn of(stream: &UnixStream) -> io::Result<Peer> {
        let cred = stream.peer_cred()?;
        Ok(Peer { uid: cred.uid(), pid: cred.pid(), user: user_name(cred.uid()) })
    }
}

/// Returns the name of a user id, or the number as text. May block.
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(dir: &Path) -> Socket<'_> {
        Socket { what: "test socket", option: "sock_dir", dir, name: "test.sock", mode: 0o660 }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let sock_dir = dir.path().join("run");
        let _listener = socket(&sock_dir).bind().unwrap();
        let mode = fs::metadata(sock_dir.join("test.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn a_dead_master_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let first = socket(dir.path()).bind().unwrap();
        assert!(matches!(socket(dir.path()).bind(), Err(BindError::InUse { .. })));
        drop(first);
        socket(dir.path()).bind().unwrap();
    }

    #[tokio::test]
    async fn a_file_in_the_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("test.sock"), "precious").unwrap();
        assert!(matches!(socket(dir.path()).bind(), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(dir.path().join("test.sock")).unwrap(), b"precious");
    }
}
