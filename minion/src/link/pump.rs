//! One connection, driven by a task of its own: what comes in goes to the link's loop, which never waits for a socket.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use proto::message::RsaProof;
use tokio::sync::mpsc;
use transport::{Heartbeat, Incoming, Link as Connection, LinkClosed, LinkSender};

use super::connect::{DialError, Dialed};

/// Messages that wait for the loop; when it is full, the socket is not read, so the master waits.
pub(super) const WIRE_BOUND: usize = 64;
/// How long a closing connection may take to write what it has queued.
const FLUSH: Duration = Duration::from_millis(500);

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// What is asked of the master goes here: the DEALER, or a Salt master's REQ.
    Dealer,
    Sub,
}

/// What a connection reports.
pub(super) struct Wire {
    pub(super) socket: Socket,
    /// Tells reports of an earlier connection from those of the present one.
    pub(super) generation: u64,
    pub(super) event: WireEvent,
}

pub(super) enum WireEvent {
    Closed(LinkClosed),
    Failed(DialError),
    Message(Vec<Bytes>),
    /// It is there; and what vouches for us with this master, if something does.
    Ready(LinkSender, Option<Box<RsaProof>>),
}

/// Connects and serves one connection until it ends; `beat` tells how it is to find out that its peer is gone.
pub(super) async fn run(
    connected: impl Future<Output = Result<Dialed, DialError>>,
    beat: impl Fn() -> Heartbeat,
    socket: Socket,
    generation: u64,
    to: mpsc::Sender<Wire>,
) {
    let report = |event| Wire { socket, generation, event };
    let last = match connected.await {
        Err(error) => WireEvent::Failed(error),
        Ok(Dialed { mut link, upgrade }) => {
            if to.send(report(WireEvent::Ready(link.sender(), upgrade))).await.is_err() {
                return;
            }
            WireEvent::Closed(serve(&mut link, beat, &to, report).await)
        }
    };
    // The loop has ended: nobody wants to know.
    let _ = to.send(report(last)).await;
}

async fn serve(
    connection: &mut Connection,
    beat: impl Fn() -> Heartbeat,
    to: &mpsc::Sender<Wire>,
    report: impl Fn(WireEvent) -> Wire,
) -> LinkClosed {
    let closed = loop {
        // Each message may have been the one that told it.
        connection.set_heartbeat(beat());
        let slot = tokio::select! {
            slot = to.reserve() => slot,
            closed = connection.recv_paused() => break closed,
        };
        let Ok(slot) = slot else { break LinkClosed::Local };
        match connection.recv().await {
            Ok(Incoming::Message(frames)) => slot.send(report(WireEvent::Message(frames))),
            // Only a PUB gets these.
            Ok(Incoming::Subscribe(_) | Incoming::Unsubscribe(_)) => {}
            Err(closed) => break closed,
        }
    };
    if closed == LinkClosed::Local {
        // What cannot be written in time is sent again on the next connection.
        let _ = connection.flush(FLUSH).await;
    }
    closed
}
