//! Time, the network and the order of everything. The hosts' own parts are in `master.rs` and `minion.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use halite_tests::swarm::fault::Dice;

use super::ledger::Ledger;
use super::master::Master;
use super::minion::Minion;

/// How many minions there are.
pub(super) const MINIONS: usize = 2;
/// How long things go wrong, and how long the fleet then has to come to rest, in virtual milliseconds.
const TROUBLE_MS: u64 = 60_000;
const REST_MS: u64 = 400_000;
/// When a silent peer is taken for dead.
pub(super) const DEAD_MS: u64 = 45_000;
/// More steps than any history takes: beyond it something runs in circles.
const MAX_STEPS: u64 = 200_000;
/// Where a history's clocks begin: 2026-11-25, in Unix milliseconds.
const START_MS: u64 = 1_795_600_000_000;

/// Which of a minion's two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Dealer,
    Sub,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum Happening {
    Arrival(u64, Way, Bytes),
    /// The minion's end of a connection is told that it is there, or that it could not be made.
    Dialled(u64, bool),
    /// One end of a connection notices that it is gone.
    Ended(u64, Way),
    Fault,
    Fire(usize),
    JobDone(usize, u64, u64),
    LinkTick(usize),
    MasterReacts,
    MasterSettles,
    MasterTurns,
    MasterUp,
    MinionUp(usize),
    Publish,
    Stored(usize, u64),
    Tend(usize, u64),
}

/// One connection. What is sent arrives in order, or not at all.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) minion: usize,
    pub(super) socket: Socket,
    /// When the last message of each way arrives; none of that way arrives once it is cut.
    up: Option<u64>,
    down: Option<u64>,
    /// How much longer than usual each way takes.
    pub(super) stall_ms: u64,
    /// The ends that still hold it.
    pub(super) minion_holds: bool,
    pub(super) master_holds: bool,
}

/// A whole fleet.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now_ms: u64,
    began: Instant,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) master: Master,
    pub(super) minions: Vec<Minion>,
    pub(super) ledger: Ledger,
    /// Until when each minion's network is cut.
    pub(super) cut_until: [u64; MINIONS],
    pub(super) trace: VecDeque<String>,
    pub(super) faults: usize,
    pub(super) lies: Lies,
}

/// What a host's disk claims to have kept and has not: the checker must find that out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// Which jids it has published.
    Jids,
    /// Its memory of jobs, after a kill.
    Jobs,
    /// The log.
    Log,
    Nothing,
}

/// How many lines of a history are kept for whoever has to understand it.
const TRACE: usize = 400;

impl World {
    pub(super) fn new(seed: u64, folder: &Path) -> World {
        let mut dice = Dice::new(seed);
        let minions = (0..MINIONS).map(|index| Minion::new(index, &folder.join(format!("m{index}")), &mut dice));
        let minions = minions.collect();
        World {
            master: Master::new(&folder.join("master")),
            minions,
            dice,
            now_ms: 0,
            began: Instant::now(),
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            connections: BTreeMap::new(),
            ledger: Ledger::new(MINIONS),
            cut_until: [0; MINIONS],
            trace: VecDeque::new(),
            faults: 0,
            lies: Lies::Nothing,
        }
    }

    /// Lives a whole history; returns what was broken, with the step at which it was noticed.
    pub(super) fn live(&mut self) -> Result<(), (u64, String)> {
        self.start_master();
        (0..MINIONS).for_each(|minion| self.start_minion(minion));
        self.plan();
        for step in 0..MAX_STEPS {
            if let Some(broken) = self.ledger.broken() {
                return Err((step, broken.to_owned()));
            }
            let is_over = self.now_ms > TROUBLE_MS + REST_MS || (!self.is_trouble() && self.ledger.missing().is_none());
            let next = if is_over { None } else { self.queue.pop() };
            let Some(Reverse((at, order))) = next else {
                self.finish();
                return self.ledger.broken().map_or(Ok(()), |broken| Err((step, broken.to_owned())));
            };
            self.now_ms = self.now_ms.max(at);
            if let Some(happening) = self.happenings.remove(&order) {
                self.happen(happening);
            }
        }
        Err((MAX_STEPS, "the fleet never comes to rest".to_owned()))
    }

    fn plan(&mut self) {
        for minion in 0..MINIONS {
            for _ in 0..self.dice.pick(30) {
                let at = self.dice.pick(TROUBLE_MS as usize) as u64;
                self.at(at, Happening::Fire(minion));
            }
        }
        for _ in 0..=self.dice.pick(6) {
            let at = self.dice.pick(TROUBLE_MS as usize) as u64;
            self.at(at, Happening::Publish);
        }
        for _ in 0..self.dice.pick(12) {
            let at = self.dice.pick(TROUBLE_MS as usize) as u64;
            self.at(at, Happening::Fault);
        }
        self.at(TROUBLE_MS, Happening::Fault);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival(connection, way, bytes) => self.arrive(connection, way, bytes),
            Happening::Dialled(connection, works) => self.dialled(connection, works),
            Happening::Ended(connection, way) => self.ended(connection, way),
            Happening::Fault => self.fault(),
            Happening::Fire(minion) => self.fire(minion),
            Happening::JobDone(minion, life, serial) => self.job_done(minion, life, serial),
            Happening::LinkTick(minion) => self.link_tick(minion),
            Happening::MasterReacts => self.master_reacts(),
            Happening::MasterSettles => self.master_settles(),
            Happening::MasterTurns => self.master_turns(),
            Happening::MasterUp => self.start_master(),
            Happening::MinionUp(minion) => self.start_minion(minion),
            Happening::Publish => self.publish(),
            Happening::Stored(minion, life) => self.stored(minion, life),
            Happening::Tend(minion, life) => self.tend(minion, life),
        }
    }

    /// Writes a line of the history.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() >= TRACE {
            self.trace.pop_front();
        }
        let line = format!("{:>7} ms  {}", self.now_ms, line());
        self.trace.push_back(line);
    }

    /// Has something happen at a moment.
    pub(super) fn at(&mut self, at_ms: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at_ms.max(self.now_ms), self.order)));
        self.happenings.insert(self.order, happening);
    }

    /// Has something happen within so many milliseconds.
    pub(super) fn soon(&mut self, within_ms: usize, happening: Happening) {
        let at = self.now_ms + self.dice.pick(within_ms.max(1)) as u64;
        self.at(at, happening);
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.dice.pick(100) < percent
    }

    /// Returns the clock that never goes back.
    pub(super) fn instant(&self) -> Instant {
        self.began + Duration::from_millis(self.now_ms)
    }

    /// Turns a moment of that clock into one of the history, never an earlier one.
    pub(super) fn moment(&self, instant: Instant) -> u64 {
        let after = instant.saturating_duration_since(self.began).as_nanos().div_ceil(1_000_000);
        u64::try_from(after).unwrap_or(u64::MAX)
    }

    /// Returns a host's wall clock, in Unix milliseconds.
    pub(super) fn wall_ms(&self, skew_ms: i64) -> u64 {
        (START_MS + self.now_ms).saturating_add_signed(skew_ms)
    }

    /// Tells whether things still go wrong.
    pub(super) fn is_trouble(&self) -> bool {
        self.now_ms < TROUBLE_MS
    }

    /// Begins to make a connection.
    pub(super) fn dial(&mut self, minion: usize, socket: Socket) -> u64 {
        self.order += 1;
        let number = self.order;
        let reachable = self.master.is_up() && self.cut_until[minion] <= self.now_ms;
        let connection = Connection {
            minion,
            socket,
            up: reachable.then_some(0),
            down: reachable.then_some(0),
            stall_ms: 0,
            minion_holds: true,
            master_holds: false,
        };
        self.connections.insert(number, connection);
        // A refusal comes at once, a cut cable lets one wait.
        let wait = if reachable || self.master.is_up() { 60 } else { 3_000 };
        self.soon(wait, Happening::Dialled(number, reachable));
        number
    }

    fn dialled(&mut self, number: u64, works: bool) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let works = works && connection.up.is_some() && self.master.is_up();
        let (minion, socket) = (connection.minion, connection.socket);
        connection.master_holds = works;
        if works {
            self.master_accepts(number);
        } else {
            self.connections.remove(&number);
        }
        self.minion_dialled(minion, socket, number, works);
    }

    /// Sends a message; it is lost if that way is cut.
    pub(super) fn send(&mut self, number: u64, way: Way, bytes: Bytes) {
        let latency = 1 + self.dice.pick(40) as u64;
        let now = self.now_ms;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let stall = connection.stall_ms;
        let last = if way == Way::Up { &mut connection.up } else { &mut connection.down };
        let Some(last) = last else { return };
        // Ordered within a connection, and only there.
        *last = (now + latency + stall).max(*last);
        let at = *last;
        self.at(at, Happening::Arrival(number, way, bytes));
    }

    fn arrive(&mut self, number: u64, way: Way, bytes: Bytes) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (minion, socket) = (connection.minion, connection.socket);
        match way {
            Way::Up if connection.up.is_some() && connection.master_holds => self.master_hears(number, &bytes),
            Way::Down if connection.down.is_some() && connection.minion_holds => {
                self.minion_hears(minion, socket, number, &bytes);
            }
            _ => {}
        }
    }

    /// Cuts a connection: what is under way is lost, and both ends notice so late.
    pub(super) fn cut(&mut self, number: u64, notice_ms: usize) {
        if let Some(connection) = self.connections.get_mut(&number) {
            (connection.up, connection.down) = (None, None);
        }
        self.soon(notice_ms, Happening::Ended(number, Way::Up));
        self.soon(notice_ms, Happening::Ended(number, Way::Down));
    }

    /// Closes a connection at the minion's end; what it has sent may still arrive.
    pub(super) fn minion_closes(&mut self, number: u64) {
        let loses = self.chance(30);
        let late = self.dice.pick(500) as u64;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        (connection.minion_holds, connection.down) = (false, None);
        if loses {
            connection.up = None;
        }
        let at = connection.up.unwrap_or(0).max(self.now_ms) + late;
        self.at(at, Happening::Ended(number, Way::Up));
    }

    /// Closes a connection at the master's end.
    pub(super) fn master_closes(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        (connection.master_holds, connection.up) = (false, None);
        let at = connection.down.unwrap_or(0).max(self.now_ms) + 1;
        self.master_lost(number);
        self.at(at, Happening::Ended(number, Way::Down));
    }

    fn ended(&mut self, number: u64, way: Way) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let (minion, socket) = (connection.minion, connection.socket);
        if way == Way::Up {
            if std::mem::take(&mut connection.master_holds) {
                self.master_lost(number);
            }
        } else if std::mem::take(&mut connection.minion_holds) {
            self.minion_lost(minion, socket, number);
        }
        let gone = |connection: &Connection| !connection.master_holds && !connection.minion_holds;
        if self.connections.get(&number).is_some_and(gone) {
            self.connections.remove(&number);
        }
    }

    fn finish(&mut self) {
        self.master_reads();
        self.ledger.close();
    }
}
