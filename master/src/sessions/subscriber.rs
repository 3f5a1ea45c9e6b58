//! One SUB connection: proves whose it is, asks for its own topic, waits for its session, then gets publications.

use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::topic;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transport::{Established, Incoming, LinkClosed, Mechanism, PeerInfo};

use super::registry::Control;
use super::{LIMBO, SessionParts};
use crate::keys::Keys;

/// The property by which a SUB names its minion (native-wire.md §1).
const NAMED_BY: &str = "X-minion";

/// Serves one SUB until it closes.
pub(super) async fn run(peer: Established, parts: SessionParts, stop: CancellationToken) {
    let Mechanism::Curve { key } = peer.info.mechanism else { return };
    let Some(id) = owner(&peer.info, &key, &parts.keys) else {
        tracing::debug!(peer = %peer.info.addr, "subscriber without an accepted key gets nothing");
        return linger(peer, stop).await;
    };
    let conn = peer.info.conn;
    let control = parts.registry.enter(conn, &id);
    let closed = Subscriber { id, key, peer, parts: &parts, attached: false, wrong_topics: 0 }.run(control, stop).await;
    parts.registry.leave(conn);
    if let Some(closed) = closed {
        tracing::debug!(%conn, error = &closed as &dyn std::error::Error, "subscriber closed");
    }
}

/// Finds the minion that a SUB speaks for: the one it names if the key is that minion's, else the key's only one.
fn owner(info: &PeerInfo, key: &[u8; 32], keys: &Keys) -> Option<MinionId> {
    let ids = keys.id_of(key);
    let named = info.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(NAMED_BY));
    match named {
        Some((_, name)) => ids.into_iter().find(|id| id.as_str().as_bytes() == &name[..]),
        None if ids.len() == 1 => ids.into_iter().next(),
        None => None,
    }
}

/// Keeps a connection that gets nothing: closing it at once would make libzmq reconnect in a loop.
async fn linger(mut peer: Established, stop: CancellationToken) {
    let idle = async { while peer.link.recv().await.is_ok() {} };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = tokio::time::timeout(LIMBO, idle) => {}
    }
}

struct Subscriber<'a> {
    id: MinionId,
    key: [u8; 32],
    peer: Established,
    parts: &'a SessionParts,
    attached: bool,
    wrong_topics: u64,
}

impl Subscriber<'_> {
    async fn run(mut self, mut control: mpsc::Receiver<Control>, stop: CancellationToken) -> Option<LinkClosed> {
        let mut deadline = Instant::now() + LIMBO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep_until(deadline), if !self.attached => return None,
                told = control.recv() => match told? {
                    Control::Attached => self.attached = true,
                    Control::Detached => {
                        self.attached = false;
                        deadline = Instant::now() + LIMBO;
                    }
                    Control::Replaced => return None,
                    Control::Rejudge if self.parts.keys.id_of(&self.key).contains(&self.id) => {}
                    Control::Rejudge => return None,
                },
                incoming = self.peer.link.recv() => match incoming {
                    Ok(Incoming::Subscribe(wanted)) => self.subscribe(&wanted),
                    Ok(Incoming::Unsubscribe(topic)) => self.unsubscribe(&topic),
                    // A SUB has nothing to say.
                    Ok(Incoming::Message(_)) => {}
                    Err(closed) => return Some(closed),
                },
            }
        }
    }

    fn subscribe(&mut self, wanted: &Bytes) {
        if wanted == topic(&self.id).as_bytes() {
            self.parts.registry.attach(&self.id, self.peer.info.conn, self.peer.link.sender());
            return;
        }
        self.wrong_topics += 1;
        if self.wrong_topics == 1 {
            tracing::warn!(minion_id = %self.id, wanted = %wanted.escape_ascii(), "subscription to another topic ignored");
        }
    }

    fn unsubscribe(&mut self, wanted: &Bytes) {
        if wanted == topic(&self.id).as_bytes() {
            self.parts.registry.detach(&self.id, self.peer.info.conn);
        }
    }
}
