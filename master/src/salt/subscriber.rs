//! One SUB of the publish port. It is anonymous: nothing says whose it is, and what it gets only accepted minions open.

use tokio_util::sync::CancellationToken;
use transport::{Established, Incoming, SocketType};

use super::Salt;

/// The largest message of a SUB: it has nothing to say but its subscriptions.
const MAX_MESSAGE: usize = 4_096;

impl Salt {
    /// Serves one connection of the publish port until it closes.
    pub async fn serve_subscriber(self, mut peer: Established, stop: CancellationToken) {
        if !matches!(peer.info.socket_type, SocketType::Sub | SocketType::XSub) {
            tracing::debug!(peer = %peer.info.addr, "only SUB and XSUB have business on the publish port");
            return;
        }
        peer.link.limit_messages(MAX_MESSAGE);
        let subscribers = &self.inner.subscribers;
        let conn = peer.info.conn;
        if !subscribers.enter(peer.link.sender()) {
            tracing::warn!(peer = %peer.info.addr, "too many subscribers of Salt's wire; closed");
            return;
        }
        let listen = async {
            while let Ok(incoming) = peer.link.recv().await {
                match incoming {
                    Incoming::Subscribe(topic) => subscribers.subscribe(conn, topic),
                    Incoming::Unsubscribe(topic) => subscribers.unsubscribe(conn, &topic),
                    Incoming::Message(_) => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = listen => {}
        }
        subscribers.leave(conn);
    }
}
