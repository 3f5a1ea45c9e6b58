//! The loop that [`Dealer`](crate::Dealer) and [`Subscriber`](crate::Subscriber) share: connect, serve, wait, again.

use std::future::Future;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::debug;

use crate::backoff::Backoff;
use crate::connect::{ConnectConfig, connect};
use crate::link::Link;

/// Whether a self-reconnecting socket has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// The handshake is done.
    Connected,
    /// It waits for the next attempt, or tries.
    Down,
}

/// What ended a connection.
pub(crate) enum Ended {
    /// The handle is gone: stop.
    Handle,
    /// The link is gone: connect again.
    Link,
}

/// What is done with each new connection.
pub(crate) trait Serve: Send {
    /// Uses the link until something ends.
    fn serve(&mut self, link: Link) -> impl Future<Output = Ended> + Send;
    /// Returns when the handle is gone.
    fn abandoned(&self) -> impl Future<Output = ()> + Send;
}

/// Runs until the handle is gone.
pub(crate) async fn run(
    config: ConnectConfig,
    backoff: Backoff,
    state: watch::Sender<LinkState>,
    mut server: impl Serve,
) {
    // Jitter needs no secrecy, only to differ between processes and sockets.
    let seed =
        crate::handshake::seed().map_or(0, |seed| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| seed[at])));
    let mut attempt = 0;
    loop {
        match connect(&config).await {
            Ok(established) => {
                attempt = 0;
                state.send_replace(LinkState::Connected);
                let ended = server.serve(established.link).await;
                state.send_replace(LinkState::Down);
                if matches!(ended, Ended::Handle) {
                    return;
                }
            }
            Err(error) => debug!(addr = config.addr, error = &error as &dyn std::error::Error, "not connected"),
        }
        tokio::select! {
            () = sleep(backoff.delay(attempt, seed)) => attempt = attempt.saturating_add(1),
            () = server.abandoned() => return,
        }
    }
}

/// Waits for the state to become `wanted`. False when the task is gone.
pub(crate) async fn wait_for(state: &mut watch::Receiver<LinkState>, wanted: LinkState) -> bool {
    state.wait_for(|now| *now == wanted).await.is_ok()
}

/// Waits for room in the handle's channel, leaving the socket unread meanwhile.
pub(crate) async fn room<'a, T>(to_handle: &'a mpsc::Sender<T>, link: &mut Link) -> Result<mpsc::Permit<'a, T>, Ended> {
    match to_handle.try_reserve() {
        Ok(slot) => return Ok(slot),
        Err(mpsc::error::TrySendError::Closed(())) => return Err(Ended::Handle),
        Err(mpsc::error::TrySendError::Full(())) => {}
    }
    tokio::select! {
        slot = to_handle.reserve() => slot.map_err(|_| Ended::Handle),
        _ = link.recv_paused() => Err(Ended::Link),
    }
}
