//! The sockets of Salt's local event bus (salt-wire.md §7): `salt`, `salt-run`, `LocalClient` and scripts read events from
//! `sock_dir/master_event_pub.ipc` and fire them at `master_event_pull.ipc`.
//!
//! One task reads the bus while anybody listens, writes each event as Salt does, once, and hands it to a bounded queue per
//! subscriber. Who does not keep up is disconnected and counted; neither the bus nor a neighbour waits for anybody. What a
//! tool fires goes through the door, in the name of the user that the kernel tells.
//!
//! Files: `task.rs` the loop, `subscriber.rs` one reader, `fire.rs` those who fire, `framing.rs` which bytes a reader
//! expects, `encode.rs` the bytes of an event, `markers.rs` the paths that tools only look for.

mod encode;
mod fire;
mod framing;
mod markers;
mod subscriber;
mod task;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::bus::Bus;
use crate::runners::Ask;
use crate::unix::{BindError, Socket};

pub use framing::FramingPolicy;
pub use markers::{MarkerError, Markers};
pub use task::EventSocketsTask;

/// Where readers connect.
const PUBLISH: &str = "master_event_pub.ipc";
/// Where events are fired.
const PULL: &str = "master_event_pull.ipc";
/// Whoever may ask the API may read the bus here too, as Salt 3008 has it: owner and group.
const PUBLISH_MODE: u32 = 0o660;
/// To fire an event is to act as the master.
const PULL_MODE: u32 = 0o600;
/// How many publish commands may wait until their tools' subscriptions are taken up.
const SETTLES: usize = 256;

/// How the event sockets are kept.
#[derive(Debug, Clone)]
pub struct EventSocketsConfig {
    /// The directory of the sockets (`sock_dir`).
    pub sock_dir: PathBuf,
    /// How events follow each other for readers of `sock_dir` (`ipc_framing`, default `auto`).
    pub framing: FramingPolicy,
    /// A second directory, whose readers always get `prefixed` frames (`salt_sock_dir_prefixed`, default none).
    pub prefixed_dir: Option<PathBuf>,
    /// The largest event that readers get, in bytes (`max_event_size`, default 1048576); of a larger one, values are
    /// replaced by `VALUE_TRIMMED`.
    pub max_event_size: usize,
}

/// Why the event sockets cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A path that tools look for.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// A socket cannot be used twice.
    #[error("open the event socket a second time")]
    Clone(#[source] std::io::Error),
}

/// The handle: cheap to clone.
#[derive(Debug, Clone)]
pub struct EventSockets {
    settle: mpsc::Sender<oneshot::Sender<()>>,
    counts: Arc<Counts>,
}

/// What has happened at the sockets.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    refused: AtomicU64,
}

impl EventSockets {
    /// Opens the sockets. A running Salt master's are not touched: that is an error.
    pub fn open(
        config: &EventSocketsConfig,
        bus: Bus,
        door: Arc<dyn Ask>,
    ) -> Result<(EventSockets, EventSocketsTask), OpenError> {
        let counts = Arc::new(Counts::default());
        let (settle, settles) = mpsc::channel(SETTLES);
        let mut publish = Vec::new();
        let mut pull = Vec::new();
        let mut markers = Vec::new();
        let prefixed = config.prefixed_dir.iter().map(|dir| (dir, FramingPolicy::Prefixed, "salt_sock_dir_prefixed"));
        for (dir, policy, option) in [(&config.sock_dir, config.framing, "sock_dir")].into_iter().chain(prefixed) {
            let what = "event socket";
            let listener = Socket { what, option, dir, name: PUBLISH, mode: PUBLISH_MODE }.bind()?;
            publish.push(task::Readers::new(listener, policy).map_err(OpenError::Clone)?);
            pull.push(Socket { what, option, dir, name: PULL, mode: PULL_MODE }.bind()?);
            // The last: they are taken away if the start fails, and until here they may be those of another master.
            markers.push(Markers::put(dir, option)?);
        }
        let task = EventSocketsTask::new(config, publish, pull, markers, settles, bus, door, Arc::clone(&counts));
        Ok((EventSockets { settle, counts }, task))
    }

    /// Returns once everybody who has connected by now is subscribed: what is published after that reaches them.
    pub async fn settle(&self) {
        let (answer, answered) = oneshot::channel();
        // Without its task the master is stopping, and nobody waits for events.
        if self.settle.send(answer).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// Returns how many readers were disconnected because they did not keep up, and how many fired events were refused.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.dropped.load(Ordering::Relaxed), self.counts.refused.load(Ordering::Relaxed))
    }
}

/// What a listening socket of those who fire is.
type Pull = UnixListener;

#[cfg(test)]
mod tests;
