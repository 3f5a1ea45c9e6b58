//! Who is there: sessions by minion id, connections by number, and where publications go.
//!
//! The one place that all session tasks share. Its lock is held for map operations only, never across an await.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::{Push, SessionState, topic};
use tokio::sync::mpsc;
use transport::{ConnId, LinkSender};

/// How often `salt/auth` is told of an id whose state did not change.
const AUTH_AGAIN: Duration = Duration::from_secs(60);
/// How many ids are remembered for that and for `last seen`. Beyond that the memory starts anew.
const MAX_REMEMBERED: usize = 50_000;
/// How many SUBs of one id may wait for its session.
const MAX_WAITING: usize = 4;

/// What a connection's task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// Look at the key's state again.
    Rejudge,
    /// The SUB now belongs to a session.
    Attached,
    /// The SUB's session is gone.
    Detached,
    /// Another process took over this session.
    Replaced,
}

/// How many messages may wait for a connection's task; it only ever needs to know that something changed.
pub(super) const CONTROL: usize = 4;

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
    control: mpsc::Sender<Control>,
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
    left: HashMap<MinionId, Instant>,
    told: HashMap<MinionId, (SessionState, Instant)>,
    grains: HashMap<MinionId, Bytes>,
    limbo: usize,
    last_session: u64,
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
    /// How long ago it left, in seconds, if the master saw it go.
    pub left_s: Option<u64>,
    /// Where it connects from.
    pub addr: Option<SocketAddr>,
    /// What it says it is.
    pub software: Option<String>,
}

/// The handle: cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    table: Arc<RwLock<Table>>,
}

impl Registry {
    /// Sends a publication to those of these minions that are there. A subscriber whose queue is full is closed: it
    /// comes back and asks for what it missed.
    pub fn deliver(&self, minions: &[MinionId], load: &Bytes) {
        let table = self.read();
        for id in minions {
            if let Some((_, sender)) = table.sessions.get(id).and_then(|session| session.sub.as_ref()) {
                let frames = vec![Bytes::from(topic(id)), load.clone()];
                if let Err(error) = sender.try_send(frames) {
                    tracing::warn!(minion_id = %id, error = &error as &dyn std::error::Error, "publication not queued; closing the subscriber");
                    sender.close();
                }
            }
        }
    }

    /// Returns which of these minions are not connected, and how many seconds ago they left.
    pub fn down_among(&self, minions: &[MinionId]) -> Vec<(MinionId, Option<u64>)> {
        let table = self.read();
        let down = minions.iter().filter(|id| !table.is_up(id));
        down.map(|id| (id.clone(), table.left.get(id).map(|left| left.elapsed().as_secs()))).collect()
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
            left_s: table.left.get(id).map(|left| left.elapsed().as_secs()),
            addr: session.map(|session| session.addr),
            software: session.map(|session| session.software.clone()),
        }
    }

    /// Returns how many connections there are, and how many daemon sessions.
    pub fn counts(&self) -> (usize, usize) {
        let table = self.read();
        (table.conns.len(), table.sessions.len())
    }

    /// Returns the grains a minion told, encoded.
    pub fn grains(&self, id: &MinionId) -> Option<Bytes> {
        self.read().grains.get(id).cloned()
    }

    pub(super) fn set_grains(&self, id: &MinionId, grains: Bytes) {
        // A copy of its own: the load it came in may be much larger.
        self.write().grains.insert(id.clone(), Bytes::copy_from_slice(&grains));
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
    pub(super) fn enter(&self, conn: ConnId, id: &MinionId) -> mpsc::Receiver<Control> {
        let (control, hears) = mpsc::channel(CONTROL);
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

    /// Counts a session without rights; refuses it when there are too many.
    pub(super) fn enter_limbo(&self) -> bool {
        let mut table = self.write();
        if table.limbo >= super::MAX_LIMBO {
            return false;
        }
        table.limbo += 1;
        true
    }

    /// Counts a session that got rights or left.
    pub(super) fn leave_limbo(&self) {
        let mut table = self.write();
        table.limbo = table.limbo.saturating_sub(1);
    }

    /// Tells whether `salt/auth` is to be fired: on each change of state, else at most once a minute.
    pub(super) fn tells_auth(&self, id: &MinionId, state: SessionState) -> bool {
        let mut table = self.write();
        if table.told.len() > MAX_REMEMBERED {
            table.told.clear();
        }
        let now = Instant::now();
        match table.told.insert(id.clone(), (state, now)) {
            Some((before, at)) if before == state && now - at < AUTH_AGAIN => {
                table.told.insert(id.clone(), (before, at));
                false
            }
            _ => true,
        }
    }

    /// Gives out the number of a session.
    pub(super) fn number(&self) -> u64 {
        let mut table = self.write();
        table.last_session += 1;
        table.last_session
    }

    /// Opens a daemon session. The same process coming back replaces its old connection at once; another process only
    /// after `evict`.
    pub(super) fn open(&self, id: &MinionId, conn: ConnId, dealer: LinkSender, daemon: Daemon, evict: bool) -> Opening {
        let mut table = self.write();
        if let Some(old) = table.sessions.get(id)
            && old.conn != conn
        {
            if old.instance != daemon.instance && !evict {
                return Opening::Contested(old.dealer.clone());
            }
            table.tell(old.conn, Control::Replaced);
            if let Some(old) = table.sessions.remove(id)
                && let Some((sub, _)) = old.sub
            {
                table.tell(sub, Control::Replaced);
            }
        }
        let sub = table.waiting.get_mut(id).and_then(Vec::pop).map(|sub| (sub.conn, sub.sender));
        if let Some((sub, _)) = &sub {
            table.tell(*sub, Control::Attached);
            push_subscribed(&dealer, daemon.number);
        }
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
        }
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
    fn is_up(&self, id: &MinionId) -> bool {
        self.sessions.get(id).is_some_and(|session| session.sub.is_some())
    }

    fn tell(&self, conn: ConnId, control: Control) {
        if let Some(found) = self.conns.get(&conn) {
            // A full inbox holds a message that makes the task look at everything anyway.
            let _ = found.control.try_send(control);
        }
    }

    fn leave_session(&mut self, id: &MinionId, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.sub.as_ref().is_some_and(|(sub, _)| *sub == conn) {
            session.sub = None;
        } else if session.conn == conn {
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
        self.left.insert(id.clone(), Instant::now());
    }
}

fn push_subscribed(dealer: &LinkSender, session: u64) {
    let push = Bytes::from(Push::Subscribed { session }.encode());
    if dealer.try_send(push).is_err() {
        dealer.close();
    }
}
