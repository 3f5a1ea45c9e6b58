//! The accepting task. It owns the listening socket and the handshakes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::zmtp::{ServerConfig, Session};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::waiting_room::WaitingRoom;
use super::{HandshakeLimits, ListenerConfig, ListenerStats, canonical, count};
use crate::Established;
use crate::handshake::{self, Gate, HandshakeError, Terms};

/// Handshakes that wait for a worker before new peers are left to the kernel.
const GATE_BACKLOG: usize = 256;
/// First and longest pause when the process has no file descriptor left. Spinning would starve the established.
const FD_PAUSE_FIRST: Duration = Duration::from_millis(50);
const FD_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What every handshake of a listener shares.
struct Common {
    session: Arc<ServerConfig>,
    terms: Terms,
    gate: Gate,
    deadline: Duration,
    peers: mpsc::Sender<Established>,
    stats: Arc<ListenerStats>,
}

pub(super) struct Acceptor {
    listener: TcpListener,
    limits: HandshakeLimits,
    common: Arc<Common>,
    handshakes: JoinSet<()>,
    room: WaitingRoom,
    fd_pause: Duration,
}

/// What the loop woke up for.
enum Input {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Calm,
    Left(tokio::task::Id),
    Stale,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        config: ListenerConfig,
        peers: mpsc::Sender<Established>,
        stats: Arc<ListenerStats>,
    ) -> Acceptor {
        let ListenerConfig { socket, curve, null, limits, heartbeat, queue, budget, handshakes } = config;
        let common = Common {
            session: Arc::new(ServerConfig { socket, curve, null, limits }),
            terms: Terms { heartbeat, queue, budget: Some(budget) },
            gate: Gate::new(handshakes.workers.max(1), GATE_BACKLOG),
            deadline: handshakes.deadline,
            peers,
            stats,
        };
        Acceptor {
            listener,
            limits: handshakes,
            common: Arc::new(common),
            handshakes: JoinSet::new(),
            room: WaitingRoom::default(),
            fd_pause: FD_PAUSE_FIRST,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.next_input().await {
                Input::Accepted(Ok((stream, addr))) => self.start(stream, addr),
                Input::Accepted(Err(error)) => self.pause(&error).await,
                Input::Calm => {}
                Input::Left(id) => self.room.leave(id),
                Input::Stale => {
                    if self.room.evict(self.limits.stale, Instant::now()) {
                        count(&self.common.stats.crowded_out);
                    }
                }
            }
        }
    }

    async fn next_input(&mut self) -> Input {
        let full = self.room.len() >= self.limits.total;
        let busy = self.common.gate.is_busy();
        let stale_at = self.room.stale_at(self.limits.stale).filter(|_| full);
        tokio::select! {
            biased;
            Some(left) = self.handshakes.join_next_with_id() => Input::Left(match left {
                Ok((id, ())) => id,
                Err(error) => error.id(),
            }),
            accepted = self.listener.accept(), if !full && !busy => Input::Accepted(accepted),
            () = self.common.gate.calm(), if busy => Input::Calm,
            () = sleep_until(stale_at.unwrap_or_else(Instant::now)), if stale_at.is_some() => Input::Stale,
        }
    }

    fn start(&mut self, stream: TcpStream, addr: SocketAddr) {
        self.fd_pause = FD_PAUSE_FIRST;
        let address = canonical(addr);
        if self.room.count(address) >= self.limits.per_address {
            debug!(%addr, "too many unfinished handshakes of this address");
            count(&self.common.stats.crowded_out);
            return;
        }
        let done = Arc::new(AtomicBool::new(false));
        let task = self.handshakes.spawn(shake(Arc::clone(&self.common), stream, addr, Arc::clone(&done)));
        self.room.enter(address, task, done, Instant::now());
    }

    /// At the limit of file descriptors, waits; a peer that left before it was accepted is no reason to.
    async fn pause(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        if self.fd_pause == FD_PAUSE_FIRST {
            warn!(%error, "cannot accept; is the limit of open files too low?");
        }
        count(&self.common.stats.fd_limit);
        sleep(self.fd_pause).await;
        self.fd_pause = (self.fd_pause * 2).min(FD_PAUSE_MAX);
    }
}

async fn shake(common: Arc<Common>, stream: TcpStream, addr: SocketAddr, done: Arc<AtomicBool>) {
    match timeout(common.deadline, shake_once(&common, stream, addr)).await {
        Ok(Ok(established)) => {
            done.store(true, Ordering::Relaxed);
            count(&common.stats.established);
            // The listener is gone when nobody takes it; dropping the link closes the connection.
            let _ = common.peers.send(established).await;
        }
        Ok(Err(error)) => {
            count(&common.stats.refused);
            debug!(%addr, error = &error as &dyn std::error::Error, "handshake failed");
        }
        Err(_) => {
            count(&common.stats.timed_out);
            debug!(%addr, "handshake took too long");
        }
    }
}

async fn shake_once(common: &Common, stream: TcpStream, addr: SocketAddr) -> Result<Established, HandshakeError> {
    let session = Session::server(Arc::clone(&common.session), handshake::seed()?);
    let input = handshake::early(&stream);
    handshake::run(stream, addr, session, input, Some(&common.gate), &common.terms).await
}
