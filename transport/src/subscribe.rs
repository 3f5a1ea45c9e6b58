//! A SUB that comes back by itself and subscribes again: for tools and tests.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::connect::ConnectConfig;
use crate::link::{Incoming, Link};
use crate::queue::SendError;
use crate::reconnect::{self, Ended, LinkState, Serve, room};

/// Publications and changes of topics that wait; when full, the socket is not read, or the caller waits.
const CHANNEL_BOUND: usize = 256;

/// A publication, frame by frame; the first frame begins with one of our topics.
pub type Publication = Vec<Bytes>;

/// A change of topics.
enum Change {
    Subscribe(Bytes),
    Unsubscribe(Bytes),
}

/// A SUB with a task of its own. What is published while it is down is missed, as with any ZeroMQ socket.
pub struct Subscriber {
    changes: mpsc::Sender<Change>,
    inbound: mpsc::Receiver<Publication>,
    state: watch::Receiver<LinkState>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Begins to connect.
    pub fn spawn(config: ConnectConfig, backoff: Backoff) -> Subscriber {
        let (changes, from_handle) = mpsc::channel(CHANNEL_BOUND);
        let (to_handle, inbound) = mpsc::channel(CHANNEL_BOUND);
        let (state_sender, state) = watch::channel(LinkState::Down);
        let server = SubscriberTask { from_handle, to_handle, topics: BTreeSet::new() };
        let task = tokio::spawn(reconnect::run(config, backoff, state_sender, server));
        Subscriber { changes, inbound, state, task }
    }

    /// Subscribes to all topics with this prefix, now and after each reconnect.
    pub async fn subscribe(&self, topic: impl Into<Bytes>) -> Result<(), SendError> {
        self.changes.send(Change::Subscribe(topic.into())).await.map_err(|_| SendError::Closed)
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&self, topic: impl Into<Bytes>) -> Result<(), SendError> {
        self.changes.send(Change::Unsubscribe(topic.into())).await.map_err(|_| SendError::Closed)
    }

    /// Waits for a publication. `None` never comes while the handle lives, except after a panic in its task.
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<Publication> {
        self.inbound.recv().await
    }

    /// Waits until there is, or is not, a connection.
    pub async fn wait_for(&mut self, state: LinkState) -> bool {
        reconnect::wait_for(&mut self.state, state).await
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct SubscriberTask {
    from_handle: mpsc::Receiver<Change>,
    to_handle: mpsc::Sender<Publication>,
    topics: BTreeSet<Bytes>,
}

/// Remembers a change for later connections, and tells this one.
fn apply(topics: &mut BTreeSet<Bytes>, change: Change, link: &Link) -> Result<(), SendError> {
    match change {
        Change::Subscribe(topic) => {
            topics.insert(topic.clone());
            link.subscribe(&topic)
        }
        Change::Unsubscribe(topic) => {
            topics.remove(&topic);
            link.unsubscribe(&topic)
        }
    }
}

impl Serve for SubscriberTask {
    async fn serve(&mut self, mut link: Link) -> Ended {
        if self.topics.iter().any(|topic| link.subscribe(topic).is_err()) {
            return Ended::Link;
        }
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
                change = self.from_handle.recv() => match change {
                    // The next connection gets all topics anew.
                    Some(change) => if apply(&mut self.topics, change, &link).is_err() { return Ended::Link },
                    None => return Ended::Handle,
                },
            }
        }
    }

    async fn abandoned(&self) {
        self.to_handle.closed().await;
    }
}
