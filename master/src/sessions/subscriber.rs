//! One SUB connection: proves whose it is, asks for its own topic, waits for its session, then gets publications.

use std::pin::pin;

use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::topic;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transport::{Established, Incoming, LinkClosed, Mechanism, PeerInfo};

use super::control::{Control, Inbox};
use super::{LIMBO, SessionParts};
use crate::keys::{KeyState, Keys};

/// The property by which a SUB names its minion (native-wire.md §1).
const NAMED_BY: &str = "X-minion";
/// How many subscriptions of a SUB without an accepted key are remembered; it needs one. Further ones are ignored: to
/// close it would make libzmq come back in a loop. Of a SUB whose key is accepted none is kept: the one that counts is
/// known, and the others are counted.
const MAX_TOPICS: usize = 4;
/// The longest of them: `m/` and the longest id.
const MAX_TOPIC: usize = 2 + 253;

/// What a SUB without an accepted key asks for: nothing that it says more often, or at greater length, is kept.
#[derive(Debug, Default)]
struct Topics(Vec<Bytes>);

impl Topics {
    fn add(&mut self, topic: &Bytes) {
        if self.0.len() < MAX_TOPICS && topic.len() <= MAX_TOPIC && !self.0.contains(topic) {
            // A copy: what came may be a part of something larger.
            self.0.push(Bytes::copy_from_slice(topic));
        }
    }

    fn remove(&mut self, topic: &Bytes) {
        self.0.retain(|kept| kept != topic);
    }
}

/// Serves one SUB until it closes.
pub(super) async fn run(mut peer: Established, parts: SessionParts, stop: CancellationToken) {
    let Mechanism::Curve { key } = peer.info.mechanism else { return };
    let mut topics = Topics::default();
    let known = owner(&peer.info, &key, &parts.keys);
    let found = match known {
        Some(id) => Some(id),
        None => linger(&mut peer, &key, &parts, &stop, &mut topics).await,
    };
    let Some(id) = found else { return };
    let conn = peer.info.conn;
    let control = parts.registry.enter(conn, &id);
    // From here on a change of the key is told; one that came just before is seen now.
    if parts.keys.id_of(&key).contains(&id) {
        let mut subscriber = Subscriber { id, key, peer, parts: &parts, attached: false, wrong_topics: 0 };
        topics.0.iter().for_each(|topic| subscriber.subscribe(topic));
        if let Some(closed) = subscriber.run(control, stop).await {
            tracing::debug!(%conn, error = &closed as &dyn std::error::Error, "subscriber closed");
        }
    }
    parts.registry.leave(conn);
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

/// Keeps a connection that gets nothing: closing it at once would make libzmq reconnect in a loop. Ends when its key is
/// accepted, with the minion's id; what the SUB asked for meanwhile is in `topics`.
async fn linger(
    peer: &mut Established,
    key: &[u8; 32],
    parts: &SessionParts,
    stop: &CancellationToken,
    topics: &mut Topics,
) -> Option<MinionId> {
    tracing::debug!(peer = %peer.info.addr, "subscriber without an accepted key gets nothing");
    let _place = parts.registry.enter_lingering()?;
    let mut changes = parts.keys.watch_changes();
    let deadline = Instant::now() + LIMBO;
    // It may have been accepted before we listened.
    let mut look = true;
    loop {
        if std::mem::take(&mut look)
            && let Some(id) = owner(&peer.info, key, &parts.keys)
        {
            return Some(id);
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep_until(deadline) => return None,
            change = changes.recv() => match change {
                Ok(change) => look = change.to == Some(KeyState::Accepted),
                Err(RecvError::Lagged(_)) => look = true,
                Err(RecvError::Closed) => return None,
            },
            incoming = peer.link.recv() => match incoming.ok()? {
                Incoming::Subscribe(topic) => topics.add(&topic),
                Incoming::Unsubscribe(topic) => topics.remove(&topic),
                Incoming::Message(_) => {}
            },
        }
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
    async fn run(mut self, control: Inbox, stop: CancellationToken) -> Option<LinkClosed> {
        let mut deadline = Instant::now() + LIMBO;
        // Made once: all sessions share the token, and each new wait would take its lock.
        let mut stopped = pin!(stop.cancelled());
        loop {
            tokio::select! {
                () = &mut stopped => return None,
                () = tokio::time::sleep_until(deadline), if !self.attached => return None,
                told = control.recv() => match told {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn a_stranger_makes_us_keep_a_few_short_topics() {
        let mut topics = Topics::default();
        topics.add(&Bytes::from(vec![b'm'; MAX_TOPIC + 1]));
        assert_eq!(topics.0, [] as [Bytes; 0], "longer than any id");
        for number in 0..100_000 {
            topics.add(&topic(&format!("m/web{}", number / 2)));
            topics.remove(&topic(&format!("never asked for {number}")));
        }
        assert_eq!(topics.0, ["m/web0", "m/web1", "m/web2", "m/web3"].map(topic));
        topics.remove(&topic("m/web1"));
        topics.add(&Bytes::from(vec![b'm'; MAX_TOPIC]));
        assert_eq!(topics.0.len(), MAX_TOPICS, "what is given back can be asked for again");
    }

    #[test]
    fn a_topic_is_kept_without_what_it_came_in() {
        let came = Bytes::from(vec![b'm'; 60_000]);
        let mut topics = Topics::default();
        topics.add(&came.slice(..20));
        assert!(!came.as_ptr_range().contains(&topics.0[0].as_ptr()));
    }
}
