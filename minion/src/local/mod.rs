//! The daemon's own socket, `sock_dir/minion.sock`: through it `halite-minion call` and `halite-minion events` on this host
//! reach the minion that runs here.
//!
//! `socket.rs` opens the file, `wire.rs` has what crosses it, `server.rs` is the daemon's side and `client.rs` the command's.
//! Only root and the minion's own user are served, whatever the file's mode: the kernel names the peer.

use std::io;
use std::path::PathBuf;

mod client;
mod server;
mod socket;
mod wire;

pub use client::{Followed, Follower, call};
pub use server::{Local, Parts, context};
pub use socket::{BindError, SOCKET_NAME};

/// Why the daemon did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It went away, or did not answer in time.
    #[error("talk to the daemon at {path}", path = path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Nobody listens.
    #[error(
        "no halite-minion daemon answers at {path}: start it (`systemctl start halite-minion`, or `halite-minion -c {folder}`), \
         or say with -c whose configuration it has",
        path = path.display(),
        folder = folder.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The configuration's folder.
        folder: PathBuf,
    },
    /// This user may not.
    #[error("reach the daemon at {path}: run this as root or as the minion's user", path = path.display())]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
}
