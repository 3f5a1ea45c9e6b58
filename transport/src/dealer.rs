//! A DEALER that comes back by itself: for tools and tests. A minion uses [`connect`](crate::connect()) instead, since
//! its two sockets live and die together.

use bytes::Bytes;
use proto::zmtp::Multipart;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::connect::ConnectConfig;
use crate::link::{Incoming, Link};
use crate::queue::{LinkSender, SendError};
use crate::reconnect::{self, Ended, LinkState, Serve, room};

/// Messages waiting in each direction; when full, `send` waits, and the socket is not read.
const CHANNEL_BOUND: usize = 256;

/// A DEALER or REQ with a task of its own. Messages sent while it is down wait; those that a connection took with it
/// are lost, as with any ZeroMQ socket.
pub struct Dealer {
    outbound: mpsc::Sender<Multipart>,
    inbound: mpsc::Receiver<Vec<Bytes>>,
    state: watch::Receiver<LinkState>,
    task: JoinHandle<()>,
}

impl Dealer {
    /// Begins to connect.
    pub fn spawn(config: ConnectConfig, backoff: Backoff) -> Dealer {
        let (outbound, from_handle) = mpsc::channel(CHANNEL_BOUND);
        let (to_handle, inbound) = mpsc::channel(CHANNEL_BOUND);
        let (state_sender, state) = watch::channel(LinkState::Down);
        let server = DealerTask { from_handle, to_handle };
        let task = tokio::spawn(reconnect::run(config, backoff, state_sender, server));
        Dealer { outbound, inbound, state, task }
    }

    /// Queues a message for the present or the next connection.
    pub async fn send(&self, message: impl Into<Multipart>) -> Result<(), SendError> {
        self.outbound.send(message.into()).await.map_err(|_| SendError::Closed)
    }

    /// Waits for a message. `None` never comes while the handle lives, except after a panic in its task. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Vec<Bytes>> {
        self.inbound.recv().await
    }

    /// Waits until there is, or is not, a connection.
    pub async fn wait_for(&mut self, state: LinkState) -> bool {
        reconnect::wait_for(&mut self.state, state).await
    }
}

impl Drop for Dealer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct DealerTask {
    from_handle: mpsc::Receiver<Multipart>,
    to_handle: mpsc::Sender<Vec<Bytes>>,
}

impl Serve for DealerTask {
    async fn serve(&mut self, mut link: Link) -> Ended {
        let sender = link.sender();
        let mut unsent: Option<Multipart> = None;
        loop {
            let slot = match room(&self.to_handle, &mut link).await {
                Ok(slot) => slot,
                Err(ended) => return ended,
            };
            tokio::select! {
                incoming = link.recv() => match incoming {
                    Ok(Incoming::Message(frames)) => slot.send(frames),
                    Ok(_) => {}
                    Err(_) => return Ended::Link,
                },
                message = self.from_handle.recv(), if unsent.is_none() => match message {
                    Some(message) => unsent = Some(message),
                    None => return Ended::Handle,
                },
                // The link is driven by the arm above, so room will come.
                _ = send_unsent(&sender, &unsent), if unsent.is_some() => unsent = None,
            }
        }
    }

    async fn abandoned(&self) {
        self.to_handle.closed().await;
    }
}

async fn send_unsent(sender: &LinkSender, unsent: &Option<Multipart>) {
    if let Some(message) = unsent {
        // A closed link shows in its `recv` as well.
        let _ = sender.send(message.clone()).await;
    }
}
