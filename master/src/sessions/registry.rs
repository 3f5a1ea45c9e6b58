//! Who is there: sessions by minion id, connections by number, and where publications go.
//!
//! The one place that all session tasks share. Its lock is held for map operations only, never across an await.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::{Push, SessionState, topic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use transport::{ConnId, LinkSender};

use super::control::{self, Control, Inbox, Teller};
use super::grains::{Grains, GrainsCopy};
use super::heard::SaltSide;
use super::seen::SeenCopy;

/// How often `salt/auth` is told of an id whose state did not change.
const AUTH_AGAIN: Duration = Duration::from_secs(60);
/// How many ids are remembered for that and for `last seen`. Beyond that the memory starts anew.
const MAX_REMEMBERED: usize = 50_000;
/// How many SUBs of one id may wait for its session.
const MAX_WAITING: usize = 4;

/// How many peers without rights are told of in `salt/auth` within [`AUTH_AGAIN`]: as many as may be pending. Ids cost
/// a stranger nothing, and each event is kept on the disk.
const MAX_STRANGERS_TOLD: u32 = 1_000;

/// A daemon session.
struct Session {
    number: u64,
    instance: [u8; 16],
    conn: ConnId,
    dealer: LinkSender,
    sub: Option<(ConnId, LinkSender)>,
    software: String,
    addr: SocketAddr,
    since: SystemTime,
}

struct Conn {
    id: MinionId,
    control: Teller,
}

struct WaitingSub {
    conn: ConnId,
    sender: LinkSender,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<MinionId, Session>,
    conns: HashMap<ConnId, Conn>,
    by_id: HashMap<MinionId, BTreeSet<ConnId>>,
    waiting: HashMap<MinionId, Vec<WaitingSub>>,
    /// By the wall clock: it is kept over restarts.
    left: HashMap<MinionId, SystemTime>,
    told: HashMap<MinionId, (SessionState, Instant)>,
    strangers: StrangersTold,
    last_session: u64,
}

/// How many peers without rights were told of lately.
#[derive(Default)]
struct StrangersTold {
    since: Option<Instant>,
    told: u32,
}

impl StrangersTold {
    fn may_tell(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= AUTH_AGAIN) {
            *self = StrangersTold { since: Some(now), told: 0 };
        }
        self.told = self.told.saturating_add(1);
        if self.told == MAX_STRANGERS_TOLD + 1 {
            tracing::warn!("too many peers without an accepted key; for a minute no further ones are told on the bus");
        }
        self.told <= MAX_STRANGERS_TOLD
    }
}

/// Places for peers without rights. A place is given back when its permit is dropped.
#[derive(Clone)]
struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(super::MAX_LIMBO)))
    }
}

impl Places {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// What happened to a daemon that wants a session.
pub(super) enum Opening {
    /// It has one.
    Opened,
    /// Another process has the id: ask it whether it is alive.
    Contested(LinkSender),
}

/// One line of `halite minions`.
#[derive(Debug, Clone)]
pub struct MinionView {
    /// The minion.
    pub id: MinionId,
    /// Session and SUB are both alive.
    pub up: bool,
    /// Since when it is connected.
    pub since: Option<SystemTime>,
    /// How long ago it left, in seconds, if a master saw it go, this one or an earlier one.
    pub left_s: Option<u64>,
    /// Where it connects from.
    pub addr: Option<SocketAddr>,
    /// What it says it is.
    pub software: Option<String>,
    /// How long ago something came from it, while it is connected.
    pub seen: Option<Duration>,
    /// How long ago a Salt minion was heard, in seconds, if it was since the master started.
    pub heard_s: Option<u64>,
    /// How long a PING and its answer took lately.
    pub round_trip: Option<Duration>,
}

/// The handle: cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    table: Arc<RwLock<Table>>,
    grains: Grains,
    limbo: Places,
    lingering: Places,
    salt: Arc<SaltSide>,
}

impl Registry {
    /// Sends a publication to those of these minions that are there. A subscriber whose queue is full is closed: it
    /// comes back and asks for what it missed.
    pub fn deliver(&self, minions: &[MinionId], load: &Bytes) {
        for id in minions {
            self.deliver_to(id, load.clone());
        }
    }

    /// Sends a publication to one minion; tells whether it could be queued.
    pub(super) fn deliver_to(&self, id: &MinionId, load: Bytes) -> bool {
        let table = self.read();
        let Some((_, sender)) = table.sessions.get(id).and_then(|session| session.sub.as_ref()) else { return false };
        let frames = vec![Bytes::from(topic(id)), load];
        let Err(error) = sender.try_send(frames) else { return true };
        if !sender.is_closed() {
            tracing::warn!(minion_id = %id, error = &error as &dyn std::error::Error, "publication not queued; closing the subscriber");
            sender.close();
        }
        false
    }

    /// Returns which of these minions are not connected, and how many seconds ago they left.
    pub fn down_among(&self, minions: &[MinionId]) -> Vec<(MinionId, Option<u64>)> {
        let table = self.read();
        let down = minions.iter().filter(|id| !table.is_up(id));
        down.map(|id| (id.clone(), table.left_s(id))).collect()
    }

    /// Returns who is connected, sorted.
    pub fn present(&self) -> Vec<MinionId> {
        let table = self.read();
        let mut ids: Vec<MinionId> = table.sessions.keys().filter(|id| table.is_up(id)).cloned().collect();
        ids.sort();
        ids
    }

    /// Shows a minion.
    pub fn view(&self, id: &MinionId) -> MinionView {
        let table = self.read();
        let session = table.sessions.get(id);
        MinionView {
            id: id.clone(),
            up: table.is_up(id),
            since: session.map(|session| session.since),
            left_s: table.left_s(id),
            addr: session.map(|session| session.addr),
            software: session.map(|session| session.software.clone()),
            seen: session.map(|session| session.dealer.last_seen().elapsed()),
            heard_s: self.salt.heard_s(id),
            round_trip: session.and_then(|session| session.dealer.round_trip()),
        }
    }

    /// Returns how many connections there are, and how many daemon sessions.
    pub fn counts(&self) -> (usize, usize) {
        let table = self.read();
        (table.conns.len(), table.sessions.len())
    }

    /// Returns the grains a minion told, encoded.
    pub fn grains(&self, id: &MinionId) -> Option<Bytes> {
        self.grains.get(id)
    }

    /// Returns what changes whenever a minion's grains do.
    pub fn watch_grains(&self) -> watch::Receiver<u64> {
        self.grains.watch()
    }

    /// Takes the grains that a minion told, encoded.
    pub fn set_grains(&self, id: &MinionId, grains: &Bytes) {
        self.grains.set(id, grains);
    }

    /// Opens the copy of the grains on the disk and takes in those of accepted ids (sorted).
    pub fn open_grains(&self, path: &Path, accepted: &[MinionId]) -> GrainsCopy {
        GrainsCopy::open(path, self.grains.clone(), |id| accepted.binary_search(id).is_ok())
    }

    /// Opens the copy of who was seen when, and takes in that of accepted ids (sorted).
    pub fn open_seen(&self, path: &Path, accepted: &[MinionId]) -> SeenCopy {
        SeenCopy::open(path, self.clone(), |id| accepted.binary_search(id).is_ok())
    }

    /// Returns when each minion was last heard of.
    pub(super) fn last_seen(&self) -> Vec<(MinionId, SystemTime)> {
        let (table, now) = (self.read(), SystemTime::now());
        let there = table.sessions.iter().map(|(id, session)| {
            let ago = session.dealer.last_seen().elapsed();
            (id.clone(), now.checked_sub(ago).unwrap_or(now))
        });
        let left = table.left.iter().filter(|(id, _)| !table.sessions.contains_key(*id));
        there.chain(left.map(|(id, at)| (id.clone(), *at))).collect()
    }

    /// Takes in when minions were last heard of by an earlier process; what this one has seen counts more.
    pub(super) fn remember_left(&self, seen: Vec<(MinionId, SystemTime)>) {
        let mut table = self.write();
        for (id, at) in seen.into_iter().take(MAX_REMEMBERED) {
            table.left.entry(id).or_insert(at);
        }
    }

    /// Tells every connection of an id to look at its key again.
    pub(super) fn rejudge(&self, id: &MinionId) {
        let table = self.read();
        for conn in table.by_id.get(id).into_iter().flatten() {
            table.tell(*conn, Control::Rejudge);
        }
    }

    /// Tells every connection to look at its key again.
    pub(super) fn rejudge_all(&self) {
        let table = self.read();
        table.conns.keys().for_each(|conn| table.tell(*conn, Control::Rejudge));
    }

    /// Takes in a connection and returns where its task hears of changes.
    pub(super) fn enter(&self, conn: ConnId, id: &MinionId) -> Inbox {
        let (control, hears) = control::channel();
        let mut table = self.write();
        table.conns.insert(conn, Conn { id: id.clone(), control });
        table.by_id.entry(id.clone()).or_default().insert(conn);
        hears
    }

    /// Forgets a connection, its session, and its place in it.
    pub(super) fn leave(&self, conn: ConnId) {
        let mut table = self.write();
        let Some(Conn { id, .. }) = table.conns.remove(&conn) else { return };
        if let Some(conns) = table.by_id.get_mut(&id) {
            conns.remove(&conn);
            if conns.is_empty() {
                table.by_id.remove(&id);
            }
        }
        if let Some(waiting) = table.waiting.get_mut(&id) {
            waiting.retain(|sub| sub.conn != conn);
            if waiting.is_empty() {
                table.waiting.remove(&id);
            }
        }
        table.leave_session(&id, conn);
    }

    /// Gives a place to a session without rights; none when there are too many.
    pub(super) fn enter_limbo(&self) -> Option<OwnedSemaphorePermit> {
        self.limbo.take()
    }

    /// Gives a place to a SUB whose key is not accepted; none when there are too many.
    pub(super) fn enter_lingering(&self) -> Option<OwnedSemaphorePermit> {
        self.lingering.take()
    }

    /// Tells whether a daemon has the session of an id.
    pub(super) fn is_held(&self, id: &MinionId) -> bool {
        self.read().sessions.contains_key(id)
    }

    /// Forgets what a minion told about itself: its key is no longer accepted, and its id may become another host's.
    pub(super) fn forget(&self, id: &MinionId) {
        self.grains.forget(id);
        self.salt.forget(id);
        self.write().left.remove(id);
    }

    /// Tells whether `salt/auth` is to be fired: on each change of state, else at most once a minute; of strangers only
    /// so many in all.
    pub(crate) fn tells_auth(&self, id: &MinionId, state: SessionState) -> bool {
        let mut table = self.write();
        if table.told.len() > MAX_REMEMBERED {
            table.told.clear();
        }
        let now = Instant::now();
        if table.told.get(id).is_some_and(|(before, at)| *before == state && now - *at < AUTH_AGAIN) {
            return false;
        }
        if state != SessionState::Accepted && !table.strangers.may_tell(now) {
            return false;
        }
        table.told.insert(id.clone(), (state, now));
        true
    }

    /// Gives out the number of a session.
    pub(super) fn number(&self) -> u64 {
        let mut table = self.write();
        table.last_session += 1;
        table.last_session
    }

    /// Opens a daemon session. The same process coming back replaces its old connection at once and keeps its SUB;
    /// another process only if it is the one to be evicted.
    pub(super) fn open(
        &self,
        id: &MinionId,
        conn: ConnId,
        dealer: LinkSender,
        daemon: Daemon,
        evict: Option<ConnId>,
    ) -> Opening {
        let mut table = self.write();
        let mut sub = None;
        if let Some(old) = table.sessions.get(id) {
            let same = old.conn == conn || old.instance == daemon.instance;
            if !same && evict != Some(old.conn) {
                return Opening::Contested(old.dealer.clone());
            }
            if old.conn != conn {
                table.tell(old.conn, Control::Replaced);
            }
            let old = table.sessions.remove(id).and_then(|old| old.sub);
            match old {
                Some((replaced, _)) if !same => table.tell(replaced, Control::Replaced),
                kept => sub = kept,
            }
        }
        let sub = sub.or_else(|| table.take_waiting(id));
        if let Some((sub, _)) = &sub {
            table.tell(*sub, Control::Attached);
            push_subscribed(&dealer, daemon.number);
        }
        // Its answer measures the way; without it, a busy minion would never be measured.
        dealer.ping();
        let session = Session {
            number: daemon.number,
            instance: daemon.instance,
            conn,
            dealer,
            sub,
            software: daemon.software,
            addr: daemon.addr,
            since: SystemTime::now(),
        };
        table.sessions.insert(id.clone(), session);
        Opening::Opened
    }

    /// Gives a SUB to its session, or lets it wait for one.
    pub(super) fn attach(&self, id: &MinionId, conn: ConnId, sender: LinkSender) {
        let mut table = self.write();
        if let Some(session) = table.sessions.get_mut(id) {
            let old = session.sub.replace((conn, sender));
            push_subscribed(&session.dealer, session.number);
            table.tell(conn, Control::Attached);
            if let Some((old, _)) = old
                && old != conn
            {
                table.tell(old, Control::Replaced);
            }
            return;
        }
        let waiting = table.waiting.entry(id.clone()).or_default();
        waiting.retain(|sub| sub.conn != conn);
        waiting.push(WaitingSub { conn, sender });
        if waiting.len() > MAX_WAITING {
            let oldest = waiting.remove(0);
            table.tell(oldest.conn, Control::Replaced);
        }
    }

    /// Takes a SUB away from its session: the minion no longer wants publications there.
    pub(super) fn detach(&self, id: &MinionId, conn: ConnId) {
        let mut table = self.write();
        if let Some(session) = table.sessions.get_mut(id)
            && session.sub.as_ref().is_some_and(|(sub, _)| *sub == conn)
        {
            session.sub = None;
            table.tell(conn, Control::Detached);
        }
        if let Some(waiting) = table.waiting.get_mut(id) {
            waiting.retain(|sub| sub.conn != conn);
        }
    }

    pub(super) fn salt(&self) -> &SaltSide {
        &self.salt
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // A task that panicked while holding the lock left the maps whole: each change is one insert or remove.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a daemon says of itself when it opens a session.
#[derive(Clone)]
pub(super) struct Daemon {
    pub(super) number: u64,
    pub(super) instance: [u8; 16],
    pub(super) software: String,
    pub(super) addr: SocketAddr,
}

impl Table {
    /// Returns how many seconds ago a minion left; none of a clock that was set back since.
    fn left_s(&self, id: &MinionId) -> Option<u64> {
        self.left.get(id).map(|left| left.elapsed().unwrap_or_default().as_secs())
    }

    fn is_up(&self, id: &MinionId) -> bool {
        self.sessions.get(id).is_some_and(|session| session.sub.is_some())
    }

    fn tell(&self, conn: ConnId, control: Control) {
        if let Some(found) = self.conns.get(&conn) {
            found.control.tell(control);
        }
    }

    /// Takes the newest SUB that waits for this id's session.
    fn take_waiting(&mut self, id: &MinionId) -> Option<(ConnId, LinkSender)> {
        let waiting = self.waiting.get_mut(id)?;
        let sub = waiting.pop().map(|sub| (sub.conn, sub.sender));
        if waiting.is_empty() {
            self.waiting.remove(id);
        }
        sub
    }

    fn leave_session(&mut self, id: &MinionId, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.sub.as_ref().is_some_and(|(sub, _)| *sub == conn) {
            session.sub = None;
        } else if session.conn == conn {
            // Whoever was refused because of this session may have it now.
            self.by_id.get(id).into_iter().flatten().for_each(|other| self.tell(*other, Control::Rejudge));
            let session = self.sessions.remove(id).and_then(|session| session.sub);
            if let Some((conn, sender)) = session {
                // The SUB may live on: libzmq reconnects each of its sockets by itself.
                self.tell(conn, Control::Detached);
                self.waiting.entry(id.clone()).or_default().push(WaitingSub { conn, sender });
            }
        } else {
            return;
        }
        if self.left.len() > MAX_REMEMBERED {
            self.left.clear();
        }
        self.left.insert(id.clone(), SystemTime::now());
    }
}

fn push_subscribed(dealer: &LinkSender, session: u64) {
    let push = Bytes::from(Push::Subscribed { session }.encode());
    if dealer.try_send(push).is_err() {
        dealer.close();
    }
}
