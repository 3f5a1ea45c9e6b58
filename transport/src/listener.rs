//! Listening: every peer is strange until its handshake is done, and strangers share a bounded waiting room.

mod acceptor;
mod waiting_room;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::zmtp::{CurveKeyPair, Limits, NullPolicy, SocketType};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::acceptor::Acceptor;
use crate::Established;
use crate::budget::ReadBudget;
use crate::link::Heartbeat;
use crate::queue::QueueLimits;
use crate::socket;

/// Established peers waiting to be taken. When full, handshakes wait, then the kernel's backlog.
const ACCEPT_CHANNEL_BOUND: usize = 256;

/// What a listener is, and whom it takes.
#[derive(Clone)]
pub struct ListenerConfig {
    /// ROUTER or PUB.
    pub socket: SocketType,
    /// Our long-term pair; without it, CURVE peers are refused.
    pub curve: Option<Arc<CurveKeyPair>>,
    /// Whether peers without keys are taken.
    pub null: NullPolicy,
    /// What a peer may make us keep.
    pub limits: Limits,
    /// When a silent peer is dead.
    pub heartbeat: Heartbeat,
    /// What may wait for each peer.
    pub queue: QueueLimits,
    /// What all peers together may keep of incomplete messages. Default 256 MiB for this listener.
    pub budget: Arc<ReadBudget>,
    /// What strangers may cost.
    pub handshakes: HandshakeLimits,
}

impl ListenerConfig {
    /// Returns a config with the defaults: CURVE if there is a pair, NULL refused.
    pub fn new(socket: SocketType, curve: Option<Arc<CurveKeyPair>>) -> ListenerConfig {
        ListenerConfig {
            socket,
            curve,
            null: NullPolicy::Refuse,
            limits: Limits::default(),
            heartbeat: Heartbeat::default(),
            queue: QueueLimits::default(),
            budget: ReadBudget::standard(),
            handshakes: HandshakeLimits::default(),
        }
    }
}

/// Bounds on peers that have not finished their handshake.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeLimits {
    /// How long a handshake may take. Default 10 s.
    pub deadline: Duration,
    /// Most unfinished handshakes. Default 2,048. At the limit the kernel keeps further peers waiting.
    pub total: usize,
    /// Most unfinished handshakes of one address; further ones are closed. Default 1,024: fleets sit behind one NAT.
    pub per_address: usize,
    /// At the total limit, a handshake older than this makes room for another. Default 2 s.
    pub stale: Duration,
    /// Handshakes that may compute at the same time. Default: half of the cores, at least one.
    pub workers: usize,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        HandshakeLimits {
            deadline: Duration::from_secs(10),
            total: 2_048,
            per_address: 1_024,
            stale: Duration::from_secs(2),
            workers: (cores / 2).max(1),
        }
    }
}

/// What became of all peers so far. Read it at any time.
#[derive(Debug, Default)]
pub struct ListenerStats {
    pub(crate) established: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) crowded_out: AtomicU64,
    pub(crate) fd_limit: AtomicU64,
}

impl ListenerStats {
    /// Returns how many peers finished their handshake.
    pub fn established(&self) -> u64 {
        self.established.load(Ordering::Relaxed)
    }

    /// Returns how many peers failed their handshake or left during it.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns how many peers took too long.
    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// Returns how many unfinished handshakes were closed to make room.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out.load(Ordering::Relaxed)
    }

    /// Returns how often accepting paused because no file descriptor was left.
    pub fn fd_limit(&self) -> u64 {
        self.fd_limit.load(Ordering::Relaxed)
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Why a listener cannot listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address is not this machine's.
    #[error("listen on {0}: the address is not one of this machine's; use one of its own, or 0.0.0.0 or [::] for all")]
    NotOurs(SocketAddr),
    /// The port is below 1024 and we are not root.
    #[error("listen on {0}: permission denied; use a port above 1023 or grant CAP_NET_BIND_SERVICE")]
    Permission(SocketAddr),
    /// Another program listens there.
    #[error("listen on {0}: port in use; `ss -ltnp 'sport = :{port}'` names the program: stop it or use another port", port = .0.port())]
    PortInUse(SocketAddr),
    /// Anything else.
    #[error("listen on {addr}")]
    System {
        /// Where.
        addr: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
}

impl BindError {
    fn new(addr: SocketAddr, source: io::Error) -> BindError {
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::PortInUse(addr),
            io::ErrorKind::AddrNotAvailable => BindError::NotOurs(addr),
            io::ErrorKind::PermissionDenied => BindError::Permission(addr),
            _ => BindError::System { addr, source },
        }
    }
}

/// A listening socket, whose peers come out fully shaken.
pub struct Listener {
    addr: SocketAddr,
    peers: mpsc::Receiver<Established>,
    stats: Arc<ListenerStats>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Opens the socket and begins to accept. Must be called inside a tokio runtime.
    pub fn bind(addr: SocketAddr, config: ListenerConfig) -> Result<Listener, BindError> {
        let failed = |source| BindError::new(addr, source);
        let listener = TcpListener::from_std(socket::listen(addr).map_err(failed)?).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (sender, peers) = mpsc::channel(ACCEPT_CHANNEL_BOUND);
        let stats = Arc::new(ListenerStats::default());
        let acceptor = Acceptor::new(listener, config, sender, Arc::clone(&stats));
        Ok(Listener { addr, peers, stats, task: tokio::spawn(acceptor.run()) })
    }

    /// Returns the address, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the counters.
    pub fn stats(&self) -> Arc<ListenerStats> {
        Arc::clone(&self.stats)
    }

    /// Waits for the next peer whose handshake is done. Cancel-safe.
    pub async fn accept(&mut self) -> Established {
        match self.peers.recv().await {
            Some(established) => established,
            // Only a panic ends the accepting task while we live; it has been reported by the runtime.
            None => std::future::pending().await,
        }
    }

    /// Stops listening, and returns when the port is free. Established links live on.
    pub async fn close(mut self) {
        self.task.abort();
        // The error is our own abort.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Maps an IPv4 peer of a dual-stack socket to its own family, so that it is counted once.
fn canonical(addr: SocketAddr) -> IpAddr {
    addr.ip().to_canonical()
}
