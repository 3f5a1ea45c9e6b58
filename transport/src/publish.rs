//! One message to many links: encoded once for NULL peers, sealed by each CURVE link's own task.

use std::borrow::Borrow;

use proto::zmtp::Multipart;

use crate::queue::{ConnId, LinkSender, SendError};

/// What became of a publication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Links that have it in their queue.
    pub queued: usize,
    /// Links whose queue is full. They have missed it; close them rather than leave a gap.
    pub full: Vec<ConnId>,
    /// Links that are closed.
    pub closed: Vec<ConnId>,
}

/// Queues a message on each link. Never waits: a slow peer costs nobody but itself.
pub fn publish<S: Borrow<LinkSender>>(links: impl IntoIterator<Item = S>, message: impl Into<Multipart>) -> Published {
    let message = message.into();
    let mut published = Published::default();
    for link in links {
        let link = link.borrow();
        match link.try_share(&message) {
            Ok(()) => published.queued += 1,
            Err(SendError::Closed) => published.closed.push(link.conn()),
            Err(SendError::Full) => published.full.push(link.conn()),
        }
    }
    published
}
