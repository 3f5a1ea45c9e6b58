//! A minion: its real session, spool, memory of jobs and executor, turned by hand.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use halite_tests::swarm::fault::Dice;
use minion::executor::{Done, ExecutorInput, ExecutorOutput, ExecutorState, Job, Limits, Refusal, Return, Serial};
use minion::jids::{Begun, Memory};
use minion::link::{Failure, LinkInput, LinkOutput, LinkState, Pace, Verdict, failure, judge};
use minion::spool::{self, Exchange, Flow, Item, Keeper, Place, SpoolError, Window};
use proto::ids::{Jid, MinionId};
use proto::message::event::EventItem;
use proto::message::{Kind, Publish, Push, Request, SessionRequest, Welcome};
use proto::target::Facts;
use proto::value::{Map, Value};
use proto::{map, msgpack};
use tokio::sync::oneshot;

use super::ledger::Fate;
use super::reactor::ACTS;
use super::world::{Happening, Socket, Way, World};

/// A minion's host, and its process while it runs.
pub(super) struct Minion {
    folder: PathBuf,
    pub(super) running: Option<Running>,
    pub(super) skew_ms: i64,
    boot: u32,
    lives: u64,
    /// Whether there is a copy of the spool's file as it was last put on the disk for good.
    has_copy: bool,
    seed: u64,
}

/// A return that waits for its place in the spool.
struct Delivering {
    serial: Option<Serial>,
    jid: Jid,
    load: Map,
    taken: oneshot::Receiver<Result<(), SpoolError>>,
}

pub(super) struct Running {
    life: u64,
    instance: [u8; 16],
    link: LinkState,
    window: Window<usize>,
    pub(super) keeper: Keeper,
    pub(super) memory: Memory,
    executor: ExecutorState,
    pub(super) dealer: Option<u64>,
    pub(super) sub: Option<u64>,
    exchange: Option<Exchange<usize>>,
    delivering: Vec<Delivering>,
    /// Events that the spool has, but only in memory.
    unstored: Vec<usize>,
    ahead_ms: i64,
    ticks_at: u64,
    tends_at: u64,
}

/// Returns a minion's id.
pub(super) fn id_of(minion: usize) -> MinionId {
    MinionId::parse(&format!("m{minion}")).unwrap()
}

impl Minion {
    pub(super) fn new(index: usize, folder: &Path, dice: &mut Dice) -> Minion {
        fs::create_dir_all(folder).unwrap();
        let seed = dice.roll() ^ index as u64;
        Minion { folder: folder.to_owned(), running: None, skew_ms: 0, boot: 0, lives: 0, has_copy: false, seed }
    }

    fn spool(&self, end: &str) -> PathBuf {
        self.folder.join(format!("spool.db{end}"))
    }

    fn copy(&self, end: &str) -> PathBuf {
        self.folder.join(format!("synced.db{end}"))
    }

    /// Keeps the spool's file as it is: a power cut does not take it back behind this.
    fn keep_copy(&mut self) {
        for end in ["", "-wal"] {
            // There may be no WAL.
            let _ = fs::remove_file(self.copy(end));
            let _ = fs::copy(self.spool(end), self.copy(end));
        }
        self.has_copy = true;
    }

    /// Makes the file what it is after a power cut: as it was last put on the disk.
    pub(super) fn lose_unsynced(&mut self) {
        for end in ["", "-wal", "-shm"] {
            // What is not there need not go.
            let _ = fs::remove_file(self.spool(end));
            if self.has_copy {
                let _ = fs::copy(self.copy(end), self.spool(end));
            }
        }
    }

    /// Loses the memory of jobs: no disk may do that.
    pub(super) fn forget_jobs(&self) {
        for end in ["", "-wal", "-shm"] {
            // What is not there need not go.
            let _ = fs::remove_file(self.folder.join(format!("jids.db{end}")));
        }
    }

    pub(super) fn boot_anew(&mut self) {
        self.boot += 1;
    }
}

impl World {
    pub(super) fn start_minion(&mut self, minion: usize) {
        if self.minions[minion].running.is_some() {
            return;
        }
        let (now, wall_ms) = (self.instant(), self.wall_ms(self.minions[minion].skew_ms));
        let (instance, id, roll) = (self.dice.bytes(), self.dice.bytes(), self.dice.roll());
        let host = &mut self.minions[minion];
        host.lives += 1;
        let place =
            Place { path: host.spool(""), boot: format!("boot {}", host.boot), limits: spool::Limits::default() };
        let (memory, mut owed) = Memory::open(&host.folder, wall_ms).unwrap();
        let (keeper, on_their_way) = Keeper::on_disk(place, id, now);
        owed.retain(|(jid, _)| !on_their_way.contains(jid));
        host.running = Some(Running {
            life: host.lives,
            instance,
            link: LinkState::new(Kind::Daemon, Pace::default(), roll ^ host.seed, now),
            window: Window::default(),
            keeper,
            memory,
            executor: ExecutorState::new(Limits::default(), 1),
            dealer: None,
            sub: None,
            exchange: None,
            delivering: Vec::new(),
            unstored: Vec::new(),
            ahead_ms: 0,
            ticks_at: u64::MAX,
            tends_at: u64::MAX,
        });
        self.note(|| format!("m{minion} is up; it owes {} returns", owed.len()));
        for (jid, load) in owed {
            self.put_return(minion, None, &jid, load);
        }
        self.give(minion, LinkInput::Tick);
    }

    fn life(&mut self, minion: usize, life: u64) -> Option<&mut Running> {
        self.minions[minion].running.as_mut().filter(|running| running.life == life)
    }

    pub(super) fn link_tick(&mut self, minion: usize) {
        if let Some(running) = &mut self.minions[minion].running {
            running.ticks_at = u64::MAX;
        }
        self.give(minion, LinkInput::Tick);
    }

    pub(super) fn fire(&mut self, minion: usize) {
        let (size, acts) = (self.dice.pick(2_000), self.chance(8));
        let Some(running) = &mut self.minions[minion].running else { return };
        let number = self.ledger.fired(minion);
        let data = msgpack::encode_map(&map! { "padding" => "x".repeat(size) }).into();
        let first = if acts { ACTS } else { "sim/" };
        let item = EventItem { tag: format!("{first}m{minion}/{number}"), data };
        // There is always room for so few.
        running.window.push_event(item, Some(number)).unwrap();
        self.pump(minion);
    }

    /// Takes an input to the session and does what follows.
    fn give(&mut self, minion: usize, input: LinkInput) {
        let (now, wall_ms) = (self.instant(), self.wall_ms(self.minions[minion].skew_ms));
        let Some(running) = &mut self.minions[minion].running else { return };
        if let LinkInput::Push(Push::Welcome(Welcome { now_ms: Some(now_ms), .. })) = &input {
            running.ahead_ms = wall_ms.cast_signed() - now_ms.cast_signed();
        }
        for output in running.link.handle(now, input) {
            self.perform(minion, output);
        }
        self.pump(minion);
    }

    fn perform(&mut self, minion: usize, output: LinkOutput) {
        match output {
            LinkOutput::Acked(at) => self.acked(minion, at),
            LinkOutput::Close => {
                self.close(minion, Socket::Sub);
                self.close(minion, Socket::Dealer);
            }
            LinkOutput::CloseSub => self.close(minion, Socket::Sub),
            LinkOutput::ConnectDealer => self.connect(minion, Socket::Dealer),
            LinkOutput::ConnectSub => self.connect(minion, Socket::Sub),
            LinkOutput::Flow => {
                if let Some(running) = &mut self.minions[minion].running {
                    running.window.rewind();
                }
            }
            LinkOutput::Jobs(jobs) => {
                for job in jobs {
                    let Value::Map(job) = job else { continue };
                    self.take(minion, Publish::from_map(job).unwrap());
                }
            }
            LinkOutput::Limbo(_) | LinkOutput::Live { .. } | LinkOutput::Reply(_) => {}
            LinkOutput::SendJobsSince { seq, serial } => self.request(minion, &Request::JobsSince { seq, serial }),
            LinkOutput::SendSession { seq } => {
                let Some(running) = &self.minions[minion].running else { return };
                let request = SessionRequest {
                    seq,
                    instance: running.instance,
                    kind: Kind::Daemon,
                    version: proto::WIRE_VERSION,
                    software: "sim".to_owned(),
                    grains: None,
                    autosign_grains: None,
                    upgrade: None,
                };
                self.request(minion, &Request::Session(request));
            }
        }
    }

    fn request(&mut self, minion: usize, request: &Request) {
        self.send_up(minion, request.encode().into());
    }

    fn send_up(&mut self, minion: usize, bytes: Bytes) {
        let dealer = self.minions[minion].running.as_ref().and_then(|running| running.dealer);
        dealer.into_iter().for_each(|dealer| self.send(dealer, Way::Up, bytes.clone()));
    }

    fn acked(&mut self, minion: usize, at: proto::message::Spooled) {
        let notes_it = self.chance(90);
        let Some(running) = &mut self.minions[minion].running else { return };
        let settled = running.window.ack(at);
        for number in settled.notes {
            self.ledger.safe(minion, number, Fate::Acknowledged);
        }
        for jid in settled.jids {
            self.ledger.answered(minion, jid.as_str());
            // Best effort in the real one too: its memory may be busy.
            if notes_it && let Some(running) = &mut self.minions[minion].running {
                running.memory.acknowledged(jid);
            }
        }
    }

    fn connect(&mut self, minion: usize, socket: Socket) {
        let number = self.dial(minion, socket);
        let Some(running) = &mut self.minions[minion].running else { return };
        match socket {
            Socket::Dealer => running.dealer = Some(number),
            Socket::Sub => running.sub = Some(number),
        }
    }

    fn close(&mut self, minion: usize, socket: Socket) {
        let Some(running) = &mut self.minions[minion].running else { return };
        let place = if socket == Socket::Dealer { &mut running.dealer } else { &mut running.sub };
        place.take().into_iter().for_each(|number| self.minion_closes(number));
    }

    fn holds(&self, minion: usize, socket: Socket, number: u64) -> bool {
        let running = self.minions[minion].running.as_ref();
        running
            .is_some_and(|running| Some(number) == if socket == Socket::Dealer { running.dealer } else { running.sub })
    }

    pub(super) fn minion_dialled(&mut self, minion: usize, socket: Socket, number: u64, works: bool) {
        if !self.holds(minion, socket, number) {
            return self.minion_closes(number);
        }
        let input = match (socket, works) {
            (Socket::Dealer, true) => LinkInput::DealerReady,
            (Socket::Dealer, false) => LinkInput::DealerFailed(Failure::Unreachable),
            (Socket::Sub, true) => LinkInput::SubReady,
            (Socket::Sub, false) => LinkInput::SubFailed,
        };
        self.give(minion, input);
    }

    pub(super) fn minion_lost(&mut self, minion: usize, socket: Socket, number: u64) {
        if self.holds(minion, socket, number) {
            self.note(|| format!("m{minion} has lost its {socket:?}, {number}"));
            self.give(minion, if socket == Socket::Dealer { LinkInput::DealerClosed } else { LinkInput::SubClosed });
        }
    }

    pub(super) fn minion_hears(&mut self, minion: usize, socket: Socket, number: u64, bytes: &Bytes) {
        if !self.holds(minion, socket, number) {
            return;
        }
        if socket == Socket::Dealer {
            return self.give(minion, LinkInput::Push(Push::decode(bytes).unwrap()));
        }
        let publish = Publish::decode(bytes).unwrap();
        if let Some(running) = &mut self.minions[minion].running {
            running.link.saw(publish.serial);
        }
        self.take(minion, publish);
        self.pump(minion);
    }

    /// Takes a job in: by the rules of the intake, the memory of jobs and the executor.
    fn take(&mut self, minion: usize, mut publish: Publish) {
        let wall_ms = self.wall_ms(self.minions[minion].skew_ms);
        let now = self.instant();
        let Some(running) = &mut self.minions[minion].running else { return };
        publish.expires_ms = publish.expires_ms.saturating_add_signed(running.ahead_ms);
        let (id, grains, jid) = (id_of(minion), Map::new(), publish.jid.clone());
        let verdict = judge(&publish, Facts { id: id.as_str(), grains: &grains }, &Map::new(), wall_ms);
        match running.memory.begin(&jid, publish.expires_ms, &publish.load) {
            Ok(Begun::Fresh) if verdict != Verdict::Run => {
                self.put_return(minion, None, &jid, failure(&publish, "too late"));
            }
            Ok(Begun::Fresh) => {
                let job = Job::from_publication(&publish.load).unwrap();
                let outputs = running.executor.handle(now, ExecutorInput::Start(Box::new(job)));
                self.execute(minion, outputs);
            }
            Ok(Begun::Known) => {}
            Err(_) => self.put_return(minion, None, &jid, failure(&publish, "no memory of it")),
        }
    }

    fn execute(&mut self, minion: usize, outputs: Vec<ExecutorOutput>) {
        for output in outputs {
            match output {
                ExecutorOutput::Deliver(serial, job, done) => self.deliver(minion, serial, Return::new(&job, *done)),
                ExecutorOutput::Refuse(Refusal::Busy(refused)) => {
                    let ret = Return::new(&refused.0, refused.1);
                    self.put_return(minion, None, &Jid::parse(&ret.jid).unwrap(), ret.load);
                }
                ExecutorOutput::Refuse(_) | ExecutorOutput::Signalled(_) => {}
                ExecutorOutput::Run(serial, job, ..) => {
                    self.ledger.ran(minion, &job.jid);
                    self.note(|| format!("m{minion} runs {}", job.jid));
                    let life = self.minions[minion].lives;
                    self.soon(15_000, Happening::JobDone(minion, life, serial));
                }
            }
        }
    }

    pub(super) fn job_done(&mut self, minion: usize, life: u64, serial: Serial) {
        let now = self.instant();
        let Some(running) = self.life(minion, life) else { return };
        let done = Done::with_retcode("done".into(), 0, None);
        let outputs = running.executor.handle(now, ExecutorInput::Finished(serial, Box::new(done)));
        self.execute(minion, outputs);
        self.pump(minion);
    }

    /// Hands a return over as the executor's sink does: on the disk first, then to the spool.
    fn deliver(&mut self, minion: usize, serial: Serial, ret: Return) {
        let jid = Jid::parse(&ret.jid).unwrap();
        let Some(running) = &mut self.minions[minion].running else { return };
        if running.memory.returned(&jid, &ret.load).is_ok() {
            self.ledger.kept(minion, jid.as_str());
        }
        self.put_return(minion, Some(serial), &jid, ret.load);
    }

    fn put_return(&mut self, minion: usize, serial: Option<Serial>, jid: &Jid, load: Map) {
        let Some(running) = &mut self.minions[minion].running else { return };
        let (told, taken) = oneshot::channel();
        let item = Item::Return { load: load.clone(), jid: Some(jid.clone()), note: None, taken: told };
        running.window.push_return(item);
        running.delivering.push(Delivering { serial, jid: jid.clone(), load, taken });
    }

    /// Sends what the window allows, gives the spool what is new, and says when it wants to be woken.
    fn pump(&mut self, minion: usize) {
        let Some(running) = &mut self.minions[minion].running else { return };
        let mut loads = Vec::new();
        while running.link.is_flowing()
            && let Some(load) = running.window.next_load()
        {
            loads.push(load);
        }
        let flow = if running.link.is_flowing() { Flow::On } else { Flow::Off };
        let (life, exchange) = (running.life, running.window.exchange(flow));
        if exchange.is_some() {
            running.exchange = exchange;
            self.soon(10, Happening::Stored(minion, life));
        }
        loads.into_iter().for_each(|load| self.send_up(minion, load));
        self.wake(minion);
    }

    fn wake(&mut self, minion: usize) {
        let Some(running) = &self.minions[minion].running else { return };
        let (tick, tend, life) = (running.link.next_tick(), running.keeper.due(), running.life);
        let [tick, tend] = [tick, tend].map(|due| due.map_or(u64::MAX, |due| self.moment(due)));
        let Some(running) = &mut self.minions[minion].running else { return };
        let (ticks, tends) = (tick < running.ticks_at, tend < running.tends_at);
        (running.ticks_at, running.tends_at) = (running.ticks_at.min(tick), running.tends_at.min(tend));
        if ticks {
            self.at(tick, Happening::LinkTick(minion));
        }
        if tends {
            self.at(tend, Happening::Tend(minion, life));
        }
    }

    /// The spool has stored what it was given.
    pub(super) fn stored(&mut self, minion: usize, life: u64) {
        let (now, wall_ms) = (self.instant(), self.wall_ms(self.minions[minion].skew_ms));
        let Some(running) = self.life(minion, life) else { return };
        let Some(exchange) = running.exchange.take() else { return };
        let answer = running.keeper.answer(exchange, now, wall_ms);
        running.unstored.extend(answer.stored.iter().map(|(_, number)| *number));
        let dropped = running.window.exchanged(answer);
        assert!(dropped.is_empty(), "there is room for so few events");
        self.note_stored(minion);
        self.note_taken(minion);
        self.pump(minion);
    }

    fn note_stored(&mut self, minion: usize) {
        let Some(running) = &mut self.minions[minion].running else { return };
        if running.keeper.is_stored() {
            for number in std::mem::take(&mut running.unstored) {
                self.ledger.safe(minion, number, Fate::Stored);
            }
        }
    }

    /// Tells the executor which returns the spool has.
    fn note_taken(&mut self, minion: usize) {
        let now = self.instant();
        let Some(running) = &mut self.minions[minion].running else { return };
        let mut outputs = Vec::new();
        let mut again = Vec::new();
        for mut delivering in std::mem::take(&mut running.delivering) {
            match delivering.taken.try_recv() {
                Ok(Ok(())) => {
                    let serial = delivering.serial.into_iter();
                    outputs.extend(
                        serial.flat_map(|serial| running.executor.handle(now, ExecutorInput::Delivered(serial))),
                    );
                }
                Ok(Err(_)) => again.push(delivering),
                Err(_) => running.delivering.push(delivering),
            }
        }
        for Delivering { serial, jid, load, .. } in again {
            self.put_return(minion, serial, &jid, load);
        }
        self.execute(minion, outputs);
    }

    pub(super) fn tend(&mut self, minion: usize, life: u64) {
        let (now, wall_ms) = (self.instant(), self.wall_ms(self.minions[minion].skew_ms));
        let forgets = self.chance(20);
        let Some(running) = self.life(minion, life) else { return };
        running.tends_at = u64::MAX;
        let before = running.keeper.unsynced();
        running.keeper.tend(now, wall_ms);
        let synced = before.is_some() && running.keeper.unsynced().is_none();
        if forgets {
            running.memory.forget(wall_ms);
        }
        self.note_stored(minion);
        if synced {
            self.ledger.synced(minion);
            self.minions[minion].keep_copy();
        }
        self.pump(minion);
    }
}
