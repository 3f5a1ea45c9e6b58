//! One minion of the swarm, without sockets and without a clock: messages in, actions out. The rules of its session and
//! its spool are the real minion's.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use minion::link::{LinkInput, LinkOutput, LinkState, Pace};
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::event::EventItem;
use proto::message::{self, Kind, Publish, Push, Request, SessionRequest, Spooled};
use proto::msgpack;
use proto::target::{Facts, Target};
use proto::value::{Map, MapExt, Value};

use super::fault::Dice;
use super::life::Life;
use super::spool::Spool;
use super::tally::Totals;

/// Jids that a minion remembers: enough to see what comes twice after a reconnect.
const REMEMBERED: usize = 64;
/// What a session says of this software.
const SOFTWARE: &str = concat!("swarm ", env!("CARGO_PKG_VERSION"));

/// The moment of an input.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The clock that never goes back.
    pub at: Instant,
    /// Microseconds since the swarm started.
    pub us: u64,
    /// The wall clock, in Unix milliseconds.
    pub unix_ms: u64,
}

/// What the shard is to do for a minion.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Close both connections.
    Close,
    /// Close the SUB.
    CloseSub,
    /// Connect the DEALER.
    ConnectDealer,
    /// Connect the SUB.
    ConnectSub,
    /// Send on the DEALER.
    Send(Bytes),
}

/// Which functions are answered, and what every event carries.
#[derive(Debug)]
pub struct Answers {
    functions: Vec<String>,
    padding: Value,
}

impl Answers {
    /// Makes the answers of a swarm.
    pub fn new(functions: &[String], padding: usize) -> Answers {
        Answers { functions: functions.to_vec(), padding: Value::from("x".repeat(padding)) }
    }

    /// Returns what each event carries besides its number.
    pub(super) fn padding(&self) -> Value {
        self.padding.clone()
    }

    /// Builds the return of a job whose load this is.
    pub(super) fn answer(&self, load: &Map, jid: &Jid) -> Map {
        let field = |name: &str| load.at(name).cloned().unwrap_or_default();
        let fun = load.text("fun").unwrap_or_default();
        let known = self.functions.iter().any(|known| known == fun);
        let value = match fun {
            "test.ping" if known => Value::from(true),
            _ if known => Value::from("swarm"),
            _ => Value::from(format!("'{fun}' is not available.")),
        };
        map! {
            "cmd" => "_return", "success" => known, "return" => value, "retcode" => if known { 0 } else { 254 },
            "jid" => jid, "fun" => field("fun"), "fun_args" => field("arg"), "user" => field("user"),
        }
    }
}

/// What comes back with an acknowledgement.
#[derive(Debug)]
enum Note {
    Event { fired_us: u64 },
    Return(Jid),
}

/// One minion.
pub struct Minion {
    id: MinionId,
    instance: [u8; 16],
    session: LinkState,
    spool: Spool<Note>,
    life: Life,
    seen: VecDeque<Jid>,
    /// Returns that wait because the minion is told to be slow.
    late: Option<Vec<Map>>,
    outstanding: u64,
    fired: u64,
}

impl Minion {
    /// Makes a minion whose first tick from `start` on connects.
    pub fn new(id: MinionId, dice: &mut Dice, start: Instant) -> Minion {
        Minion {
            id,
            instance: dice.bytes(),
            session: LinkState::new(Kind::Daemon, Pace::default(), dice.roll(), start),
            spool: Spool::new(dice.bytes()),
            life: Life::New,
            seen: VecDeque::new(),
            late: None,
            outstanding: 0,
            fired: 0,
        }
    }

    /// Returns the id.
    pub fn id(&self) -> &MinionId {
        &self.id
    }

    /// Returns when the session wants a tick.
    pub fn next_tick(&self) -> Option<Instant> {
        self.session.next_tick()
    }

    /// Takes what happened to the session.
    pub fn handle(&mut self, now: Now, input: LinkInput, cx: &Answers, totals: &mut Totals) -> Vec<Action> {
        let outputs = self.session.handle(now.at, input);
        outputs.into_iter().filter_map(|output| self.perform(now, output, cx, totals)).collect()
    }

    /// Takes a message that came on the DEALER.
    pub fn pushed(&mut self, now: Now, frames: &[Bytes], cx: &Answers, totals: &mut Totals) -> Vec<Action> {
        match frames.last().map(Push::decode) {
            Some(Ok(push)) => self.handle(now, LinkInput::Push(push), cx, totals),
            _ => {
                totals.count.not_understood += 1;
                Vec::new()
            }
        }
    }

    /// Takes a message that came on the SUB.
    pub fn published(&mut self, now: Now, frames: &[Bytes], cx: &Answers, totals: &mut Totals) {
        let [topic, load] = frames else {
            totals.count.not_understood += 1;
            return;
        };
        if topic != message::topic(&self.id).as_bytes() {
            totals.count.misdelivered += 1;
            return;
        }
        match Publish::decode(load) {
            Ok(publish) => {
                self.session.saw(publish.serial);
                self.job(now, &publish, cx, totals);
            }
            Err(_) => totals.count.not_understood += 1,
        }
    }

    /// Fires events, all of which wait for their acknowledgement.
    pub fn fire(&mut self, now: Now, count: usize, cx: &Answers, totals: &mut Totals) {
        for _ in 0..count {
            let number = self.fired + 1;
            let data = map! { "id" => &self.id, "number" => number, "padding" => cx.padding.clone() };
            let tag = format!("salt/beacon/{}/swarm/{number}", self.id);
            let item = EventItem { tag, data: msgpack::encode_map(&data).into() };
            if self.spool.push_event(item, Note::Event { fired_us: now.us }).is_err() {
                totals.count.refused += 1;
                continue;
            }
            self.fired = number;
            self.outstanding += 1;
            totals.count.fired += 1;
        }
    }

    /// Returns the next spooled load that the window allows.
    pub fn next_load(&mut self) -> Option<Bytes> {
        if self.session.is_flowing() { self.spool.next_load() } else { None }
    }

    /// Sends again all that is not acknowledged, as if the acknowledgements were lost.
    pub fn repeat(&mut self) {
        self.spool.rewind();
    }

    /// Begins to answer late.
    pub fn lag(&mut self) {
        self.late.get_or_insert_default();
    }

    /// Answers what waited, and is quick again.
    pub fn catch_up(&mut self) {
        for load in self.late.take().unwrap_or_default() {
            self.put_return(load);
        }
    }

    /// Becomes a new process: a new instance and an empty spool. The connections are to be closed.
    pub fn restart(&mut self, dice: &mut Dice, start: Instant, totals: &mut Totals) {
        self.ended(totals);
        totals.count.abandoned += self.outstanding;
        let (id, fired, life) = (self.id.clone(), self.fired, self.life);
        // Numbers go on, so that no event of the swarm's whole life has the tag of another.
        *self = Minion { fired, life, ..Minion::new(id, dice, start) };
    }

    fn perform(&mut self, now: Now, output: LinkOutput, cx: &Answers, totals: &mut Totals) -> Option<Action> {
        match output {
            LinkOutput::Acked(at) => self.acknowledged(now, at, totals),
            LinkOutput::Close => {
                self.ended(totals);
                return Some(Action::Close);
            }
            LinkOutput::CloseSub => {
                self.ended(totals);
                return Some(Action::CloseSub);
            }
            LinkOutput::ConnectDealer => return Some(Action::ConnectDealer),
            LinkOutput::ConnectSub => return Some(Action::ConnectSub),
            LinkOutput::Flow => self.spool.rewind(),
            LinkOutput::Jobs(jobs) => jobs.into_iter().for_each(|job| self.missed(now, job, cx, totals)),
            LinkOutput::Limbo(_) | LinkOutput::Reply(_) => {}
            LinkOutput::Live { .. } => self.life.begin(totals),
            LinkOutput::SendJobsSince { seq, serial } => return Some(send(&Request::JobsSince { seq, serial })),
            LinkOutput::SendSession { seq } => return Some(send(&self.session_request(seq))),
        }
        None
    }

    fn session_request(&self, seq: u64) -> Request {
        Request::Session(SessionRequest {
            seq,
            instance: self.instance,
            kind: Kind::Daemon,
            version: proto::WIRE_VERSION,
            software: SOFTWARE.to_owned(),
            grains: Some(msgpack::encode_map(&self.grains()).into()),
            autosign_grains: None,
            upgrade: None,
        })
    }

    /// Notes that session or SUB is gone.
    pub fn ended(&mut self, totals: &mut Totals) {
        self.life.end(totals);
    }

    fn acknowledged(&mut self, now: Now, at: Spooled, totals: &mut Totals) {
        for note in self.spool.ack(at) {
            match note {
                Note::Event { fired_us } => {
                    self.outstanding -= 1;
                    totals.event_acknowledged(now.us.saturating_sub(fired_us));
                }
                Note::Return(jid) => totals.return_acknowledged(jid, now.at),
            }
        }
    }

    fn missed(&mut self, now: Now, job: Value, cx: &Answers, totals: &mut Totals) {
        match job {
            Value::Map(map) => match Publish::from_map(map) {
                Ok(publish) => self.job(now, &publish, cx, totals),
                Err(_) => totals.count.not_understood += 1,
            },
            _ => totals.count.not_understood += 1,
        }
    }

    fn job(&mut self, now: Now, publish: &Publish, cx: &Answers, totals: &mut Totals) {
        totals.count.publications += 1;
        if self.seen.contains(&publish.jid) {
            totals.count.duplicates += 1;
            return;
        }
        self.seen.push_back(publish.jid.clone());
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        if !self.is_meant(publish) {
            totals.count.misdelivered += 1;
        }
        if publish.expires_ms <= now.unix_ms {
            return;
        }
        let load = cx.answer(&publish.load, &publish.jid);
        match &mut self.late {
            Some(late) => late.push(load),
            None => self.put_return(load),
        }
        totals.count.returns += 1;
    }

    /// Checks the target again, as a minion does.
    fn is_meant(&self, publish: &Publish) -> bool {
        let grains = self.grains();
        let facts = Facts { id: self.id.as_str(), grains: &grains };
        Target::of(&publish.load).is_ok_and(|target| target.matches(facts) == Ok(true))
    }

    fn grains(&self) -> Map {
        map! { "id" => &self.id, "os" => "swarm", "kernel" => "Linux", "cpuarch" => "x86_64" }
    }

    fn put_return(&mut self, load: Map) {
        let Some(jid) = load.text("jid").and_then(|jid| Jid::parse(jid).ok()) else { return };
        // Refused when 16 MiB of returns wait, which these small ones never reach.
        self.spool.push_return(load, Note::Return(jid));
    }
}

fn send(request: &Request) -> Action {
    Action::Send(request.encode().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::message::{Reply, SessionState, Welcome};

    use super::*;

    const START_MS: u64 = 1_795_218_752_821;

    /// A minion, a hand-cranked clock and a master made of three messages.
    struct Bench {
        minion: Minion,
        answers: Answers,
        totals: Totals,
        at: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            let at = Instant::now();
            let minion = Minion::new(MinionId::parse("swarm-1").unwrap(), &mut Dice::new(1), at);
            let answers = Answers::new(&["test.ping".into()], 10);
            Bench { minion, answers, totals: Totals::default(), at }
        }

        fn now(&self) -> Now {
            Now { at: self.at, us: 5_000, unix_ms: START_MS }
        }

        fn give(&mut self, input: LinkInput) -> Vec<Action> {
            self.minion.handle(self.now(), input, &self.answers, &mut self.totals)
        }

        fn push(&mut self, push: Push) -> Vec<Action> {
            self.give(LinkInput::Push(push))
        }

        fn open(&mut self) {
            assert_eq!(self.give(LinkInput::Tick), [Action::ConnectDealer]);
            self.give(LinkInput::DealerReady);
            let (state, session) = (SessionState::Accepted, 7);
            let welcome = Welcome { state, session, serial: 0, ping_s: 15, now_ms: None, reason: None };
            let Some(Action::Send(load)) = self.push(Push::Welcome(welcome)).pop() else { panic!("a session") };
            let seq = Request::decode(&load).unwrap().seq().unwrap();
            assert_eq!(self.push(Push::Reply(Reply { seq, result: Ok(Value::Null) })), [Action::ConnectSub]);
            self.give(LinkInput::SubReady);
            let Some(Action::Send(load)) = self.push(Push::Subscribed { session: 7 }).pop() else {
                panic!("jobs_since")
            };
            let seq = Request::decode(&load).unwrap().seq().unwrap();
            let jobs = map! { "serial" => 1, "jobs" => Value::List(Vec::new()) };
            assert_eq!(self.push(Push::Reply(Reply { seq, result: Ok(jobs.into()) })), []);
        }

        fn publish(&mut self, topic: &str, fun: &str) -> Jid {
            let load = map! { "fun" => fun, "arg" => Value::List(vec![]), "tgt" => "*", "tgt_type" => "glob",
            "jid" => "20261120235232821625", "user" => "root" };
            let jid = Jid::parse("20261120235232821625").unwrap();
            let publish = Publish { jid: jid.clone(), serial: 2, expires_ms: START_MS + 1, load };
            let frames = [Bytes::copy_from_slice(topic.as_bytes()), publish.encode().into()];
            self.minion.published(self.now(), &frames, &self.answers, &mut self.totals);
            jid
        }

        fn loads(&mut self) -> Vec<Request> {
            std::iter::from_fn(|| self.minion.next_load()).map(|load| Request::decode(&load).unwrap()).collect()
        }

        fn ack(&mut self, at: Spooled) {
            assert_eq!(self.push(Push::Ack(at)), []);
        }
    }

    #[test]
    fn a_session_opens_and_closes() {
        let mut bench = Bench::new();
        bench.open();
        assert_eq!((bench.totals.count.live, bench.totals.count.reconnects), (1, 0));
        assert_eq!(bench.give(LinkInput::DealerClosed), [Action::Close]);
        assert_eq!(bench.totals.count.live, 0);
        bench.at += Duration::from_secs(10);
        bench.open();
        assert_eq!((bench.totals.count.live, bench.totals.count.reconnects), (1, 1));
    }

    #[test]
    fn a_job_is_answered_once_and_only_by_whom_it_means() {
        let mut bench = Bench::new();
        bench.open();
        let jid = bench.publish("m/swarm-1", "test.ping");
        bench.publish("m/swarm-1", "test.ping");
        bench.publish("m/swarm-10", "test.ping");
        let loads = bench.loads();
        let [Request::Return(ret)] = &loads[..] else { panic!("{loads:?}") };
        assert_eq!((ret.jid.as_str(), ret.retcode), (jid.as_str(), 0));
        let count = bench.totals.count;
        assert_eq!((count.publications, count.duplicates, count.misdelivered, count.returns), (2, 1, 1, 1));
        bench.ack(ret.at);
        assert_eq!(bench.totals.jobs[&jid].acknowledged, 1);
    }

    #[test]
    fn a_slow_minion_answers_later() {
        let mut bench = Bench::new();
        bench.open();
        bench.minion.lag();
        bench.publish("m/swarm-1", "no.such");
        assert!(bench.loads().is_empty());
        bench.minion.catch_up();
        let loads = bench.loads();
        let [Request::Return(ret)] = &loads[..] else { panic!("{loads:?}") };
        assert_eq!(ret.retcode, 254);
    }

    #[test]
    fn events_count_when_they_are_acknowledged() {
        let mut bench = Bench::new();
        bench.open();
        bench.minion.fire(Now { us: 1_000, ..bench.now() }, 3, &bench.answers, &mut bench.totals);
        let first = bench.loads();
        bench.minion.repeat();
        assert_eq!(bench.loads(), first, "the same load again, under the same number");
        let [Request::MinionEvents(load)] = &first[..] else { panic!("{first:?}") };
        assert_eq!(load.events.len(), 3, "what is fired together travels together");
        assert!(!bench.totals.count.is_drained());
        bench.ack(load.at);
        assert!(bench.totals.count.is_drained() && bench.totals.count.acknowledged == 3);
        assert!((bench.totals.ack_ms().max - 4.0).abs() < 0.1, "{:?}", bench.totals.ack_ms());
    }

    #[test]
    fn a_restart_abandons_what_is_not_acknowledged() {
        let mut bench = Bench::new();
        bench.open();
        bench.minion.fire(bench.now(), 2, &bench.answers, &mut bench.totals);
        bench.minion.restart(&mut Dice::new(2), bench.at, &mut bench.totals);
        assert_eq!((bench.totals.count.live, bench.totals.count.abandoned), (0, 2));
        assert!(bench.totals.count.is_drained());
        bench.open();
        bench.minion.fire(bench.now(), 1, &bench.answers, &mut bench.totals);
        let loads = bench.loads();
        let [Request::MinionEvents(load)] = &loads[..] else { panic!("{loads:?}") };
        assert_eq!(load.events[0].tag, "salt/beacon/swarm-1/swarm/3", "numbers go on");
    }
}
