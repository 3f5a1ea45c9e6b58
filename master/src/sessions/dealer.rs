//! One DEALER connection: judged, in limbo or accepted, its loads committed in order and acknowledged cumulatively.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use proto::ids::MinionId;
use proto::keys::PublicKey;
use proto::map;
use proto::message::{Kind, MAX_LIMBO_LOAD, Push, SessionState, Spooled, Welcome};
use proto::tag::Tag;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transport::{Established, Incoming, Link, LinkClosed, Multipart};

use super::control::{Control, Inbox};
use super::inflight::{Inflight, Load};
use super::requests::{Contest, MAX_ASKING};
use super::{LIMBO, LIMBO_MESSAGE, LOOK_AGAIN, SessionParts};
use crate::bus::{CommitError, Committed};
use crate::keys::Vouching;

/// Messages handled before the session looks at anything else: its stop, its key, what has been committed.
const MAX_BATCH: usize = 64;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Without rights, until the key is accepted or the time is over.
    Limbo(SessionState),
    /// The key is accepted.
    Accepted,
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer went away, or broke the protocol.
    #[error("the connection closed")]
    Closed(#[from] LinkClosed),
    /// The peer does not read what it is sent.
    #[error("the peer does not read its replies")]
    NotReading(#[from] transport::SendError),
    /// The key is no longer accepted.
    #[error("the key is no longer accepted")]
    Revoked,
    /// There are too many without rights.
    #[error("too many sessions without rights")]
    LimboFull,
    /// Too long without rights.
    #[error("not accepted within {} s", LIMBO.as_secs())]
    LimboOver,
    /// Another connection took over.
    #[error("another connection of this minion took over")]
    Replaced,
    /// A load could not be logged: the minion is to send it again.
    #[error("a load could not be logged")]
    NotLogged(#[source] CommitError),
    /// The master is stopping.
    #[error("the master is stopping")]
    Stopping,
    /// A return came again before it was known whether it is in the log: the minion is to send it once more.
    #[error("an earlier copy of a return is on its way into the log")]
    Undecided,
}

/// The session of one DEALER.
pub(super) struct Dealer<'a> {
    pub(super) id: MinionId,
    pub(super) key: [u8; 32],
    pub(super) peer: Established,
    pub(super) parts: &'a SessionParts,
    pub(super) phase: Phase,
    /// What the last `welcome` said.
    pub(super) welcomed: Option<SessionState>,
    pub(super) number: u64,
    /// What kind of process this is, as far as it has said.
    pub(super) kind: Kind,
    /// REQ peers put an empty frame before their load and want it back.
    pub(super) envelope: bool,
    pub(super) inflight: Inflight,
    pub(super) denied: u64,
    /// Loads that could not be read and were dropped.
    pub(super) spoiled: u64,
    /// A request for a session that another process may hold.
    pub(super) contest: Option<Contest>,
    /// The grains that are to vouch for a pending key, as the peer said last.
    pub(super) vouching: Option<Vouching>,
    /// How often it has said some.
    pub(super) vouched: u32,
    /// Places for requests that are answered while the session goes on.
    pub(super) asking: Arc<Semaphore>,
    /// The place of a session without rights, and how long it may keep it.
    limbo: Option<(OwnedSemaphorePermit, Instant)>,
}

/// Serves one DEALER until it closes.
pub(super) async fn run(mut peer: Established, key: [u8; 32], parts: SessionParts, stop: CancellationToken) {
    let id = match MinionId::parse_bytes(&peer.info.identity) {
        Ok(id) => id,
        Err(error) => return bad_id(&mut peer, &parts, error.to_string(), stop).await,
    };
    let conn = peer.info.conn;
    let control = parts.registry.enter(conn, &id);
    let envelope = peer.info.socket_type == transport::SocketType::Req;
    let mut dealer = Dealer {
        id: id.clone(),
        key,
        peer,
        parts: &parts,
        phase: Phase::Limbo(SessionState::Pending),
        welcomed: None,
        number: 0,
        kind: Kind::Daemon,
        envelope,
        inflight: Inflight::default(),
        denied: 0,
        spoiled: 0,
        contest: None,
        vouching: None,
        vouched: 0,
        asking: Arc::new(Semaphore::new(MAX_ASKING)),
        limbo: None,
    };
    let ended = dealer.run(control, &stop).await;
    let Dealer { peer, inflight, .. } = dealer;
    // Whoever is cut off is cut off now, however slow the log is.
    drop(peer);
    give_back(inflight, &id, &parts).await;
    parts.registry.leave(conn);
    tracing::debug!(minion_id = %id, error = &ended as &dyn std::error::Error, "session ended");
}

/// Tells a peer that its id cannot be one, and keeps it for a while: it would come back at once.
async fn bad_id(peer: &mut Established, parts: &SessionParts, reason: String, stop: CancellationToken) {
    let Some(_place) = parts.registry.enter_limbo() else { return };
    peer.link.limit_messages(LIMBO_MESSAGE);
    tracing::warn!(peer = %peer.info.addr, reason, "a minion with an impossible id");
    let welcome = welcome(parts, SessionState::BadId, 0, 0, Some(reason));
    if peer.link.sender().try_send(Bytes::from(welcome.encode())).is_err() {
        return;
    }
    let idle = async { while peer.link.recv().await.is_ok() {} };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = tokio::time::timeout(LIMBO, idle) => {}
    }
}

pub(super) fn welcome(
    parts: &SessionParts,
    state: SessionState,
    session: u64,
    serial: u64,
    reason: Option<String>,
) -> Push {
    let now_ms = Some(super::requests::unix_ms());
    Push::Welcome(Welcome { state, session, serial, ping_s: parts.ping.as_secs(), now_ms, reason })
}

/// Reads the next message; while the window is full only writes and watches over the connection.
async fn hear(link: &mut Link, full: bool) -> Result<Incoming, LinkClosed> {
    if full { Err(link.recv_paused().await) } else { link.recv().await }
}

/// Splits a request into its envelope and its load. DEALER sends one frame, REQ an empty one first.
pub(super) fn open_envelope(frames: &[Bytes]) -> Option<(bool, &Bytes)> {
    match frames {
        [load] => Some((false, load)),
        [empty, load] if empty.is_empty() => Some((true, load)),
        _ => None,
    }
}

impl Dealer<'_> {
    async fn run(&mut self, control: Inbox, stop: &CancellationToken) -> Ended {
        if let Err(ended) = self.judge().await {
            return ended;
        }
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Made once: all sessions share the token, and each new wait would take its lock.
        let mut stopped = pin!(stop.cancelled());
        loop {
            let full = self.inflight.is_full() || self.contest.is_some();
            let limbo = self.limbo.as_ref().map(|(_, until)| *until);
            let waits = self.phase == Phase::Limbo(SessionState::Pending);
            let step = tokio::select! {
                biased;
                () = &mut stopped => Err(Ended::Stopping),
                told = control.recv() => self.told(told).await,
                Some((load, outcome)) = self.inflight.next(), if !self.inflight.is_empty() => {
                    self.committed(load, outcome).await
                }
                incoming = hear(&mut self.peer.link, full) => match incoming {
                    Ok(first) => self.messages(first).await,
                    Err(closed) => Err(closed.into()),
                },
                alive = Contest::settled(self.contest.as_ref()), if self.contest.is_some() => self.settle_contest(alive),
                () = tokio::time::sleep_until(limbo.unwrap_or_else(Instant::now)), if limbo.is_some() => {
                    Err(Ended::LimboOver)
                }
                // The lists that let keys in may have been edited.
                _ = look.tick(), if waits => self.rejudge().await,
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    /// Asks how the master sees this key, tells the peer, and fires `salt/auth`.
    async fn judge(&mut self) -> Result<(), Ended> {
        // A flood of strangers must not keep those out whose keys are accepted.
        if !self.parts.keys.id_of(&self.key).contains(&self.id) {
            self.enter_limbo(SessionState::Pending)?;
        }
        self.rejudge().await
    }

    /// Takes all rights away: a place among those without, a deadline, and small messages only.
    pub(super) fn enter_limbo(&mut self, state: SessionState) -> Result<(), Ended> {
        if self.limbo.is_none() {
            let place = self.parts.registry.enter_limbo().ok_or(Ended::LimboFull)?;
            self.limbo = Some((place, Instant::now() + LIMBO));
        }
        self.peer.link.limit_messages(LIMBO_MESSAGE);
        self.phase = Phase::Limbo(state);
        Ok(())
    }

    fn leave_limbo(&mut self) {
        self.limbo = None;
        self.vouching = None;
        self.peer.link.limit_messages(usize::MAX);
        self.phase = Phase::Accepted;
    }

    pub(super) async fn rejudge(&mut self) -> Result<(), Ended> {
        let key = PublicKey::X25519(self.key);
        let judgement = self.parts.keys.judge(&self.id, &key, self.vouching.as_ref()).await;
        if self.welcomed == Some(judgement.state) {
            return Ok(());
        }
        self.welcomed = Some(judgement.state);
        if self.parts.registry.tells_auth(&self.id, judgement.state) {
            self.fire_auth(judgement.state, &key);
        }
        let session = if judgement.state == SessionState::Accepted {
            self.leave_limbo();
            self.number = self.parts.registry.number();
            self.number
        } else {
            self.enter_limbo(judgement.state)?;
            0
        };
        let Ok(serial) = self.parts.jobs.serial().await else { return Err(Ended::Stopping) };
        self.push(&welcome(self.parts, judgement.state, session, serial, judgement.reason))
    }

    fn fire_auth(&self, state: SessionState, key: &PublicKey) {
        let (result, act) = match state {
            SessionState::Accepted => (true, "accept"),
            SessionState::Pending => (true, "pend"),
            SessionState::Rejected => (false, "reject"),
            SessionState::Full => (false, "full"),
            SessionState::Denied | SessionState::Duplicate | SessionState::BadId => (false, "denied"),
        };
        let data = map! { "result" => result, "act" => act, "id" => &self.id, "pub" => key.to_pem() };
        self.parts.bus.try_fire(Tag::auth(), &data);
    }

    async fn told(&mut self, told: Control) -> Result<(), Ended> {
        match told {
            Control::Replaced => Err(Ended::Replaced),
            Control::Attached | Control::Detached => Ok(()),
            Control::Rejudge if self.phase == Phase::Accepted => {
                // A revoked key loses its connection at once; what the key is now, the next connection learns.
                if self.parts.keys.id_of(&self.key).contains(&self.id) { Ok(()) } else { Err(Ended::Revoked) }
            }
            Control::Rejudge => {
                if self.phase == Phase::Limbo(SessionState::Duplicate) && !self.parts.registry.is_held(&self.id) {
                    // The other one is gone: this one may try again.
                    self.welcomed = None;
                }
                self.rejudge().await
            }
        }
    }

    /// Handles what came, and what came with it in the same read, as far as the window is open.
    async fn messages(&mut self, first: Incoming) -> Result<(), Ended> {
        let (mut next, mut left) = (Some(first), MAX_BATCH);
        while let Some(incoming) = next {
            if let Incoming::Message(frames) = incoming {
                self.message(&frames).await?;
            }
            left -= 1;
            let wait = left == 0 || self.inflight.is_full() || self.contest.is_some();
            next = if wait { None } else { self.peer.link.recv_ready() };
        }
        Ok(())
    }

    async fn message(&mut self, frames: &[Bytes]) -> Result<(), Ended> {
        let Some((envelope, load)) = open_envelope(frames) else {
            tracing::debug!(minion_id = %self.id, frames = frames.len(), "a request has one frame; ignored");
            return Ok(());
        };
        self.envelope = envelope;
        if self.phase != Phase::Accepted && load.len() > MAX_LIMBO_LOAD {
            return self.refuse_large(load);
        }
        self.request(load).await
    }

    /// Hands a load to the bus; its acknowledgement follows when it is in the log.
    pub(super) fn in_flight(&mut self, load: Load) {
        self.inflight.push(load);
    }

    async fn committed(&mut self, load: Load, outcome: Result<Committed, CommitError>) -> Result<(), Ended> {
        let mut acknowledged = self.settle(load, outcome).await?;
        // Loads that are decided already are acknowledged together.
        while let Some((load, outcome)) = self.inflight.ready() {
            let next = self.settle(load, outcome).await?;
            if next.spool != acknowledged.spool {
                self.push(&Push::Ack(acknowledged))?;
            }
            acknowledged = next;
        }
        self.push(&Push::Ack(acknowledged))
    }

    async fn settle(&mut self, load: Load, outcome: Result<Committed, CommitError>) -> Result<Spooled, Ended> {
        match outcome {
            Ok(committed) => {
                if committed.gap > 0 {
                    let data = map! { "id" => &self.id, "loads" => committed.gap, "n" => load.at.n };
                    self.parts.bus.try_fire(Tag::dropped(&self.id), &data);
                }
                if let Some(jid) = &load.ret {
                    self.parts.jobs.logged(&self.id, jid).await;
                }
                Ok(load.at)
            }
            Err(error) => {
                if let Some(jid) = &load.ret {
                    self.parts.jobs.take_back(&self.id, jid).await;
                }
                Err(Ended::NotLogged(error))
            }
        }
    }

    /// Sends something to this peer.
    pub(super) fn push(&mut self, push: &Push) -> Result<(), Ended> {
        let is_req = self.peer.info.socket_type == transport::SocketType::Req;
        if is_req && !matches!(push, Push::Reply(_)) {
            // A REQ socket takes one answer to one request; it has no ear for anything else.
            return Ok(());
        }
        let load = Bytes::from(push.encode());
        let frames: Multipart = if self.envelope { vec![Bytes::new(), load].into() } else { load.into() };
        Ok(self.peer.link.sender().try_send(frames)?)
    }
}

/// Takes back what was admitted and not logged when the session ends.
async fn give_back(mut inflight: Inflight, id: &MinionId, parts: &SessionParts) {
    while let Some((load, outcome)) = inflight.next().await {
        match &load.ret {
            Some(jid) if outcome.is_ok() => parts.jobs.logged(id, jid).await,
            Some(jid) => parts.jobs.take_back(id, jid).await,
            None => {}
        }
    }
}
