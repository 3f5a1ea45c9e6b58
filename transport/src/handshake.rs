//! The part of a connection's life before anyone may see it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use proto::zmtp::{CloseReason, Event, PeerReady, SEED_LEN, Session};
use ring::rand::{SecureRandom, SystemRandom};
use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::budget::ReadBudget;
use crate::link::{Heartbeat, Link};
use crate::queue::QueueLimits;
use crate::{Established, PeerInfo};

/// Holds every command of a usual handshake. Longer ones grow it, up to the session's limit.
pub(crate) const READ_STEP: usize = 1024;
/// Read at once from a socket that was just accepted: room for a greeting and a READY.
const EARLY: usize = 256;
/// Chunks given to one `writev`: the rest of the greeting and READY leave together.
const FLIGHT_CHUNKS: usize = 4;

/// Why a handshake did not succeed.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The peer went away.
    #[error("the peer closed the connection during the handshake; if it uses CURVE, check the server's key")]
    Closed,
    /// The network failed.
    #[error("talking to the peer")]
    Io(#[from] io::Error),
    /// The peer broke the protocol, or proved nothing.
    #[error("agreeing with the peer")]
    Protocol(#[from] CloseReason),
    /// The peer took too long.
    #[error("the peer did not finish its handshake in time")]
    Timeout,
}

/// Lets only so many handshakes compute at a time, so that established peers are served first.
pub(crate) struct Gate {
    workers: Semaphore,
    backlog: usize,
    calm: Notify,
    waiting: AtomicUsize,
}

impl Gate {
    pub(crate) fn new(workers: usize, backlog: usize) -> Gate {
        Gate { workers: Semaphore::new(workers), backlog, calm: Notify::new(), waiting: AtomicUsize::new(0) }
    }

    async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        let _waiting = Waiting::new(self);
        // The semaphore is never closed.
        self.workers.acquire().await.ok()
    }

    /// Tells whether so many handshakes wait for us that new peers had better wait in the kernel.
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.backlog
    }

    /// Waits until a handshake has had its turn.
    pub(crate) async fn calm(&self) {
        self.calm.notified().await;
    }
}

/// Counts a handshake as waiting for as long as it lives, even when its task is aborted.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn new(gate: &'a Gate) -> Waiting<'a> {
        gate.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.calm.notify_one();
    }
}

/// What a finished handshake becomes.
pub(crate) struct Terms {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) queue: QueueLimits,
    /// Counts what the incomplete messages of all peers keep in memory.
    pub(crate) budget: Option<Arc<ReadBudget>>,
}

/// Takes what a connector has sent before it was accepted. Usually that is its greeting: then the rest of ours and READY
/// leave in the same write as its beginning. Nothing is waited for, and an error shows at the next read.
pub(crate) fn early(stream: &TcpStream) -> BytesMut {
    let mut bytes = [0; EARLY];
    // Asked directly: the runtime knows of no readiness before its next look at all sockets.
    let read = (&*SockRef::from(stream)).read(&mut bytes).unwrap_or(0);
    let mut input = BytesMut::with_capacity(READ_STEP);
    input.extend_from_slice(&bytes[..read]);
    input
}

/// Runs the handshake to its end, beginning with what was read already. The caller sets the deadline.
pub(crate) async fn run(
    mut stream: TcpStream,
    addr: SocketAddr,
    mut session: Session,
    mut input: BytesMut,
    gate: Option<&Gate>,
    terms: &Terms,
) -> Result<Established, HandshakeError> {
    let ready = loop {
        let turn = match gate {
            Some(gate) if session.may_compute(input.len()) => gate.enter().await,
            _ => None,
        };
        let event = session.handle(&mut input)?;
        drop(turn);
        write_out(&mut stream, &mut session).await?;
        if let Some(Event::Ready(ready)) = event {
            break *ready;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    };
    let mut link = Link::new(stream, session, input, terms.heartbeat, terms.queue);
    if let Some(budget) = &terms.budget {
        link.share(Arc::clone(budget));
    }
    Ok(Established { info: peer_info(&link, addr, ready), link })
}

/// Returns fresh random bytes for a session.
pub(crate) fn seed() -> io::Result<[u8; SEED_LEN]> {
    let mut seed = [0; SEED_LEN];
    SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(seed)
}

async fn write_out(stream: &mut TcpStream, session: &mut Session) -> io::Result<()> {
    while session.out_len() > 0 {
        let mut slices = [io::IoSlice::new(&[]); FLIGHT_CHUNKS];
        let filled = session.fill_slices(&mut slices);
        // Asked directly first: a new socket has room, and the runtime would only know after its next look at it.
        let direct = (&*SockRef::from(&*stream)).write_vectored(&slices[..filled]);
        let written = match direct {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.write_vectored(&slices[..filled]).await?,
            done => done?,
        };
        session.advance_out(written);
    }
    Ok(())
}

fn peer_info(link: &Link, addr: SocketAddr, ready: PeerReady) -> PeerInfo {
    PeerInfo {
        conn: link.conn(),
        addr,
        mechanism: ready.mechanism,
        socket_type: ready.metadata.socket_type,
        identity: ready.metadata.identity,
        properties: ready.metadata.properties,
    }
}
