//! The master: its real log, jobs, job cache and sessions' loads, turned by hand; a model of who is connected.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use master::bus::{self, BusConfig, CommitTicket, Disk};
use master::{jobs, sessions};
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::{Publish, Push, Reply, Request, SessionState, Welcome};
use proto::value::{Map, Value};

use super::minion::id_of;
use super::poll;
use super::reactor::{Left, Reacting};
use super::world::{Happening, MINIONS, Socket, Way, World};

/// How long a job that does not outlive the history may be taken, in milliseconds.
const SHORT_MS: u64 = 10_000;
/// How long the others may be: thirty days, more than any clock jumps.
const LONG_MS: u64 = 30 * 86_400_000;
/// A segment that no history fills.
const LARGE: u64 = 256 << 20;
/// How many events a transaction takes at most: so few that what is queued behind one is common.
const GROUP: usize = 6;

/// The master's host, and its process while it runs.
pub(super) struct Master {
    folder: PathBuf,
    running: Option<Running>,
    pub(super) skew_ms: i64,
    /// What the disk does to commits, until when, and how long it takes to fail.
    pub(super) disk: Disk,
    pub(super) disk_until: u64,
    pub(super) slow_ms: u64,
    busy_until: u64,
    /// Until when its sessions are too busy to look at what has become of their loads.
    pub(super) lags_until: u64,
    /// The next return to come finds a disk that fails once and sessions that lag, and its connection is cut.
    pub(super) trap: bool,
    /// After how many steps of reactions it dies.
    pub(super) dies_in: Option<usize>,
    /// How large a segment becomes.
    pub(super) segment_bytes: u64,
}

/// A job on its way into the log.
struct Publishing {
    ticket: CommitTicket,
    jid: Jid,
    load: Map,
    expires_ms: u64,
}

struct Running {
    bus: bus::Stepped,
    jobs: jobs::Stepped,
    reacting: Reacting,
    sessions: BTreeMap<u64, sessions::Stepped>,
    /// Sessions whose connection has ended before all was decided.
    leaving: Vec<sessions::Stepped>,
    /// Each minion's session: its connection, its number and its instance.
    open: HashMap<usize, (u64, u64, [u8; 16])>,
    subs: HashMap<usize, u64>,
    numbers: HashMap<u64, u64>,
    last_number: u64,
    publishing: Vec<Publishing>,
    turning: bool,
    read: u64,
}

impl Master {
    pub(super) fn new(folder: &Path) -> Master {
        Master {
            folder: folder.to_owned(),
            running: None,
            skew_ms: 0,
            disk: Disk::Works,
            disk_until: 0,
            slow_ms: 0,
            busy_until: 0,
            lags_until: 0,
            trap: false,
            dies_in: None,
            segment_bytes: LARGE,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    fn open(&self) -> Running {
        let mut config = BusConfig::new(self.folder.join("events"));
        (config.segment_bytes, config.commit_max_events) = (self.segment_bytes, GROUP);
        config.ring_bytes = 64 << 10;
        let bus = bus::Stepped::open(config).unwrap();
        let jobs = jobs::Stepped::open(&self.folder.join("jobs.db"), bus.bus()).unwrap();
        let reacting = Reacting::open(&self.folder, bus.bus().head());
        Running {
            bus,
            jobs,
            reacting,
            sessions: BTreeMap::new(),
            leaving: Vec::new(),
            open: HashMap::new(),
            subs: HashMap::new(),
            numbers: HashMap::new(),
            last_number: 0,
            publishing: Vec::new(),
            turning: false,
            read: 0,
        }
    }

    /// Returns the reactor, while the process runs.
    pub(super) fn reacting(&mut self) -> Option<&mut Reacting> {
        self.running.as_mut().map(|running| &mut running.reacting)
    }

    /// Returns the reactor and the jobs, while the process runs.
    pub(super) fn reacting_and_jobs(&mut self) -> Option<(&mut Reacting, &mut jobs::Stepped)> {
        self.running.as_mut().map(|running| (&mut running.reacting, &mut running.jobs))
    }

    /// Returns the bus, while the process runs.
    pub(super) fn bus(&self) -> Option<&bus::Bus> {
        self.running.as_ref().map(|running| running.bus.bus())
    }

    /// Tells whether a job is on its way into the log.
    pub(super) fn is_publishing(&self, jid: &Jid) -> bool {
        self.running.as_ref().is_some_and(|running| running.publishing.iter().any(|job| job.jid == *jid))
    }

    /// Ends the process on the spot. A power cut may also take what the job cache, a projection, had written.
    pub(super) fn kill(&mut self, forgets: bool, outbox: Left) {
        self.running = None;
        outbox.put();
        if forgets {
            for end in ["", "-wal", "-shm"] {
                // It may not be there.
                let _ = fs::remove_file(self.folder.join(format!("jobs.db{end}")));
            }
        }
    }
}

impl World {
    pub(super) fn start_master(&mut self) {
        if self.master.is_up() {
            return;
        }
        let mut running = self.master.open();
        let all = running.bus.read(0).unwrap();
        self.ledger.reread(&all);
        let next = running.jobs.next_offset().unwrap();
        let new: Vec<_> = all.iter().filter(|event| event.offset >= next).cloned().collect();
        running.jobs.take_in(&new).unwrap();
        running.jobs.restore(self.wall_ms(self.master.skew_ms)).unwrap();
        running.read = all.last().map_or(0, |event| event.offset);
        let unread = all.iter().position(|event| event.offset > running.reacting.cursor()).unwrap_or(all.len());
        running.reacting.hear(&all[unread..]);
        self.ledger.takes_up(&running.reacting.unfinished());
        self.note(|| format!("the master is up; its log has {} events", all.len()));
        self.master.running = Some(running);
        self.react_soon();
    }

    pub(super) fn master_accepts(&mut self, number: u64) {
        let (minion, socket) = (self.connections[&number].minion, self.connections[&number].socket);
        let now_ms = Some(self.wall_ms(self.master.skew_ms));
        let Some(running) = &mut self.master.running else { return };
        if socket == Socket::Sub {
            let old = running.subs.insert(minion, number);
            let session = running.open.get(&minion).map(|(dealer, session, _)| (*dealer, *session));
            old.into_iter().for_each(|old| self.master_closes(old));
            if let Some((dealer, session)) = session {
                self.push(dealer, &Push::Subscribed { session });
            }
            return;
        }
        running.last_number += 1;
        let session = running.last_number;
        running.numbers.insert(number, session);
        running.sessions.insert(number, sessions::Stepped::new(id_of(minion)));
        let state = SessionState::Accepted;
        self.push(number, &Push::Welcome(Welcome { state, session, serial: 0, ping_s: 15, now_ms, reason: None }));
    }

    /// Takes note that a connection is gone.
    pub(super) fn master_lost(&mut self, number: u64) {
        let Some(running) = &mut self.master.running else { return };
        if let Some(session) = running.sessions.remove(&number) {
            running.leaving.push(session);
        }
        running.numbers.remove(&number);
        running.open.retain(|_, (dealer, ..)| *dealer != number);
        running.subs.retain(|_, sub| *sub != number);
        self.soon(5, Happening::MasterSettles);
    }

    fn push(&mut self, number: u64, push: &Push) {
        self.send(number, Way::Down, push.encode().into());
    }

    fn reply(&mut self, number: u64, seq: u64, value: Value) {
        self.push(number, &Push::Reply(Reply { seq, result: Ok(value) }));
    }

    pub(super) fn master_hears(&mut self, number: u64, bytes: &Bytes) {
        let minion = self.connections[&number].minion;
        let (wall_ms, id) = (self.wall_ms(self.master.skew_ms), id_of(minion));
        let Ok(request) = Request::decode(bytes) else { panic!("a minion sent what cannot be read") };
        let Some(running) = &mut self.master.running else { return };
        match request {
            Request::Session(session) => self.open_session(number, minion, session.seq, session.instance),
            Request::JobsSince { seq, .. } => {
                let (serial, jobs) = running.jobs.since(&id, wall_ms);
                let listed: Vec<Value> = jobs.iter().map(|publish| Value::Map(publish.to_map())).collect();
                self.reply(number, seq, map! { "serial" => serial, "jobs" => listed }.into());
            }
            Request::NoMatch { seq, jid } => {
                running.jobs.no_match(&id, &jid);
                self.reply(number, seq, Value::Null);
            }
            request => self.spooled(number, minion, request, bytes.len()),
        }
    }

    fn open_session(&mut self, number: u64, minion: usize, seq: u64, instance: [u8; 16]) {
        let Some(running) = &mut self.master.running else { return };
        let session = running.numbers.get(&number).copied().unwrap_or(0);
        let old = running.open.insert(minion, (number, session, instance)).filter(|(old, ..)| *old != number);
        let mut closing: Vec<u64> = old.iter().map(|(old, ..)| *old).collect();
        if old.is_some_and(|(.., before)| before != instance) {
            closing.extend(running.subs.remove(&minion));
        }
        let sub = running.subs.contains_key(&minion);
        closing.into_iter().for_each(|old| self.master_closes(old));
        self.reply(number, seq, Value::Null);
        if sub {
            self.push(number, &Push::Subscribed { session });
        }
    }

    fn spooled(&mut self, number: u64, minion: usize, request: Request, bytes: usize) {
        let now_us = (self.wall_ms(self.master.skew_ms) * 1_000).cast_signed();
        let is_return = matches!(request, Request::Return(_));
        match &request {
            Request::MinionEvents(load) => {
                let (n, count) = (load.at.n, load.events.len());
                for item in &load.events {
                    let event = item.tag.rsplit('/').next().and_then(|number| number.parse().ok());
                    event.into_iter().for_each(|event| self.ledger.arrived(minion, event, load.at));
                }
                self.note(|| format!("m{minion} ▶ n {n}: {count} events, on {number}"));
            }
            Request::Return(ret) => {
                let (n, jid) = (ret.at.n, ret.jid.clone());
                self.note(|| format!("m{minion} ▶ n {n}: a return of {jid}, on {number}"));
            }
            _ => {}
        }
        let Some(running) = &mut self.master.running else { return };
        let Some(session) = running.sessions.get_mut(&number) else { return };
        let taken = session.take(request, bytes, running.bus.bus(), &mut running.jobs, now_us);
        if taken.is_err() {
            self.note(|| format!("the session on {number} ends: a return is undecided"));
            self.master_closes(number);
        }
        if is_return && std::mem::take(&mut self.master.trap) {
            self.spring_trap(number);
        }
        self.turn_soon();
    }

    /// Has what is queued committed within a moment.
    pub(super) fn turn_soon(&mut self) {
        let Some(running) = &mut self.master.running else { return };
        if !std::mem::replace(&mut running.turning, true) {
            let wait = self.master.busy_until.saturating_sub(self.now_ms) as usize;
            self.soon(wait + 30, Happening::MasterTurns);
        }
    }

    pub(super) fn master_turns(&mut self) {
        if self.master.busy_until > self.now_ms {
            let until = self.master.busy_until;
            return self.at(until, Happening::MasterTurns);
        }
        let failing = self.master.disk_until > self.now_ms;
        let disk = if failing { self.master.disk } else { Disk::Works };
        let slow_ms = if failing { self.master.slow_ms } else { 0 };
        let (now_ms, fills) = (self.now_ms, self.chance(20));
        let Some(running) = &mut self.master.running else { return };
        running.turning = false;
        if fills && self.master.segment_bytes < LARGE {
            running.bus.fill_ahead();
        }
        running.bus.set_disk(disk);
        let (mut looks, was) = (0, running.bus.is_degraded());
        // The first look is before the commit, the next one after it has failed.
        let worked = running.bus.turn(&mut || {
            looks += 1;
            Duration::from_millis(now_ms + if looks > 1 { slow_ms } else { 0 })
        });
        let is = running.bus.is_degraded();
        if is != was {
            self.note(|| format!("the log is {}", if is { "out of order" } else { "in order again" }));
        }
        if is && !was {
            self.master.busy_until = now_ms + slow_ms;
            if self.master.slow_ms > 0 {
                // It failed once, after a long time.
                self.master.disk_until = 0;
            }
        }
        self.soon(6, Happening::MasterSettles);
        if worked || is {
            self.turn_soon();
        }
    }

    pub(super) fn master_settles(&mut self) {
        if self.master.lags_until > self.now_ms {
            let until = self.master.lags_until;
            return self.at(until, Happening::MasterSettles);
        }
        let Some(running) = &mut self.master.running else { return };
        for session in &mut running.leaving {
            session.give_back(&mut running.jobs);
        }
        running.leaving.retain(|session| !session.is_empty());
        let (mut acks, mut over) = (Vec::new(), Vec::new());
        for (number, session) in &mut running.sessions {
            match session.settle(&mut running.jobs) {
                Ok(settled) => acks.extend(settled.into_iter().map(|at| (*number, at))),
                Err(_) => over.push(*number),
            }
        }
        for (number, at) in acks {
            self.note(|| format!("◀ ack n {} on {number}", at.n));
            self.push(number, &Push::Ack(at));
        }
        for number in over {
            self.note(|| format!("the session on {number} ends: a load was not logged"));
            self.master_closes(number);
        }
        self.settle_publishing();
        self.master_reads();
    }

    /// Publishes jobs that are in the log, or cannot be.
    fn settle_publishing(&mut self) {
        let Some(running) = &mut self.master.running else { return };
        let mut decided = Vec::new();
        for mut job in std::mem::take(&mut running.publishing) {
            match poll(&mut job.ticket) {
                Some(Ok(committed)) => decided.push((job, committed.offset)),
                // A full disk does not keep an operator from acting.
                Some(Err(_)) => decided.push((job, running.bus.bus().head())),
                None => running.publishing.push(job),
            }
        }
        let recipients: HashSet<MinionId> = (0..MINIONS).map(id_of).collect();
        for (job, serial) in decided {
            let Publishing { jid, load, expires_ms, .. } = job;
            let publish = Arc::new(Publish { jid, serial, expires_ms, load });
            let Some(running) = &mut self.master.running else { return };
            running.jobs.insert(Arc::clone(&publish), recipients.clone());
            let subs: Vec<u64> = (0..MINIONS).filter_map(|minion| running.subs.get(&minion).copied()).collect();
            for sub in subs {
                self.send(sub, Way::Down, publish.encode().into());
            }
        }
    }

    pub(super) fn publish(&mut self) {
        let lasts = self.chance(60);
        let now_us = (self.wall_ms(self.master.skew_ms) * 1_000).cast_signed();
        let Some(running) = &mut self.master.running else { return };
        let jid = running.jobs.allocate(now_us);
        let load = map! { "fun" => "test.sleep", "arg" => Value::List(vec![1.into()]), "tgt" => "*", "jid" => &jid,
        "ret" => "", "tgt_type" => "glob", "user" => "root" };
        self.announce(jid, load, lasts);
    }

    /// Has a job logged, and then published; tells whether that has begun.
    pub(super) fn announce(&mut self, jid: Jid, load: Map, lasts: bool) -> bool {
        let expires_ms = self.wall_ms(self.master.skew_ms) + if lasts { LONG_MS } else { SHORT_MS };
        let recipients: Vec<MinionId> = (0..MINIONS).map(id_of).collect();
        let Some(running) = &mut self.master.running else { return false };
        let batch = jobs::Stepped::announce(&jid, &load, &recipients, expires_ms);
        let Some(Ok(ticket)) = poll(std::pin::pin!(running.bus.bus().submit(batch))) else { return false };
        self.ledger.published(jid.as_str(), lasts);
        self.note(|| format!("the job {jid} is to be published; it {}", if lasts { "lasts" } else { "is short" }));
        let Some(running) = &mut self.master.running else { return false };
        running.publishing.push(Publishing { ticket, jid, load, expires_ms });
        self.turn_soon();
        true
    }

    /// Looks at what is new in the log, as its projections do.
    pub(super) fn master_reads(&mut self) {
        let Some(running) = &mut self.master.running else { return };
        if running.bus.bus().head() <= running.read {
            return;
        }
        let new = running.bus.read(running.read).unwrap();
        running.read = new.last().map_or(running.read, |event| event.offset);
        running.jobs.take_in(&new).unwrap();
        running.reacting.hear(&new);
        self.ledger.found(&new);
        self.react_soon();
    }

    /// Ends the master's process.
    pub(super) fn kill_master(&mut self, power: bool, outbox: Left) {
        let forgets = power && self.chance(50);
        self.master.kill(forgets, outbox);
        let held: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.master_holds)
            .map(|(number, _)| *number)
            .collect();
        for number in held {
            if power || self.chance(20) {
                self.cut(number, if power { super::world::DEAD_MS as usize } else { 50 });
            }
            self.master_closes(number);
        }
    }
}
