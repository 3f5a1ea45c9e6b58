//! The rules against a scripted master: the master's half of `proto::salt`, without sockets.

use std::sync::OnceLock;
use std::time::Instant;

use proto::salt::auth::{Acceptance, Applicant, AuthAnswer, AuthRequest, Trust};
use proto::salt::command::{self, Command};
use proto::salt::crypticle::Crypticle;
use proto::salt::envelope::{BareReply, Envelope};
use proto::salt::pillar::{self, Waiting};
use proto::salt::publish;
use proto::salt::request::{Token, Ttl};
use proto::salt::rsa::{EncAlgo, PrivateKey, SigAlgo};
use proto::salt::{Verified, crypticle};

use super::*;

const ALGORITHMS: (EncAlgo, SigAlgo) = (EncAlgo::OaepSha1, SigAlgo::Pkcs1v15Sha1);
const JID: &str = "20261125224000000001";

/// The master's key and the minion's; made once, for it takes a moment.
fn rsa() -> &'static [PrivateKey; 2] {
    static KEYS: OnceLock<[PrivateKey; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [2_048, 2_048].map(|bits| PrivateKey::generate(bits).unwrap()))
}

/// A key of which every byte is this one.
fn crypticle(byte: u8) -> Crypticle {
    Crypticle::from_random([byte; crypticle::KEY_LEN].into())
}

/// One minion and its master.
struct Bench {
    minion: SaltMinion,
    answers: Answers,
    totals: Totals,
    start: Instant,
    /// The byte that the master's present keys are made of.
    epoch: u8,
    serial: u64,
    requests: u8,
}

impl Bench {
    fn new() -> Bench {
        let [_, key] = rsa();
        let id = MinionId::parse("swarm-1").unwrap();
        let asker = Asker { id, token: Token::new(key), enc_algo: ALGORITHMS.0, sig_algo: ALGORITHMS.1 };
        Bench {
            minion: SaltMinion::new(asker),
            answers: Answers::new(&["test.ping".to_owned()], 10),
            totals: Totals::default(),
            start: Instant::now(),
            epoch: 1,
            serial: 0,
            requests: 0,
        }
    }

    /// A minion that has started.
    fn live() -> Bench {
        let mut bench = Bench::new();
        bench.authenticate();
        bench.minion.started(bench.now());
        while let Some(request) = bench.next() {
            bench.reply(&request, &Value::Null);
        }
        assert_eq!(bench.totals.count.live, 1);
        bench
    }

    fn now(&self) -> Now {
        Now { at: self.start, us: 5_000, unix_ms: 1_795_218_752_821 }
    }

    fn fresh(&mut self) -> Fresh {
        self.requests += 1;
        Fresh { nonce: Nonce::from_random([self.requests; 16]), iv: [self.requests; 16], unix_s: 1_795_218_752 }
    }

    /// Both halves of `_auth`, with the master's present keys.
    fn authenticate(&mut self) {
        let ([master, key], id, (enc_algo, sig_algo)) = (rsa(), self.minion.id().clone(), ALGORITHMS);
        let trust = Trust { pinned: Some(master.public().clone()), ..Trust::default() };
        let applicant = Applicant { id: &id, key, enc_algo, sig_algo, autosign_grains: None, trust: &trust };
        let (attempt, payload) = applicant.ask([9; 16], [8; crypticle::KEY_LEN].into()).unwrap();
        let Ok(Envelope::Clear(load)) = Envelope::decode(&payload) else { panic!("a clear load") };
        let request = AuthRequest::decode(&load).unwrap();
        let (session, shared) = (SessionKey(crypticle(self.epoch)), SharedKey(crypticle(self.epoch + 100)));
        let acceptance = Acceptance::new(master, 4_505, &shared, None);
        let answer = acceptance.accept(master, &request, &session).unwrap();
        let Ok(AuthAnswer::Accepted(credentials)) = applicant.judge(&attempt, &answer) else { panic!("accepted") };
        let credentials = credentials.into_inner();
        assert!(self.minion.wants_keys());
        self.minion.accepted((credentials.session, credentials.shared), &self.answers, &mut self.totals);
        assert!(!self.minion.wants_keys());
    }

    /// Takes the minion's next request, as the master opens it.
    fn next(&mut self) -> Option<Verified<proto::salt::request::MinionRequest>> {
        let fresh = self.fresh();
        let payload = self.minion.next_request(&fresh)?;
        let Ok(Envelope::Aes(sealed)) = Envelope::decode(&payload) else { panic!("a sealed load") };
        Some(sealed.open(&SessionKey(crypticle(self.epoch)), rsa()[1].public(), Ttl::Off).unwrap())
    }

    fn reply(&mut self, request: &Verified<proto::salt::request::MinionRequest>, value: &Value) -> Heard {
        let payload = request.reply(&SessionKey(crypticle(self.epoch)), [7; 16], value);
        self.hear(&payload)
    }

    fn hear(&mut self, payload: &[u8]) -> Heard {
        self.minion.answered(self.now(), payload, &mut self.totals)
    }

    fn publish(&mut self, jid: &str, tgt: Value, fun: &str) -> Heard {
        self.serial += 1;
        let tgt_type = if matches!(tgt, Value::List(_)) { "list" } else { "glob" };
        let load = map! {
            "fun" => fun, "arg" => Value::List(vec![]), "tgt" => tgt, "tgt_type" => tgt_type, "jid" => jid, "ret" => "",
            "user" => "root",
        };
        let shared = SharedKey(crypticle(self.epoch + 100));
        let payload = publish::seal(&shared, [6; 16], load, self.serial, Some((&rsa()[0], ALGORITHMS.1)));
        self.minion.published(&payload, &self.answers, &mut self.totals)
    }

    /// The load of the next request, which must be a return.
    fn returned(&mut self) -> Map {
        let request = self.next().expect("a request");
        let Ok(Command::Return(load)) = Command::decode(&request) else { panic!("{request:?}") };
        self.reply(&request, &Value::Null);
        load
    }
}

#[test]
fn a_minion_is_live_when_its_last_start_event_is_answered() {
    let mut bench = Bench::new();
    assert!(bench.minion.wants_keys());
    bench.authenticate();
    bench.minion.started(bench.now());
    let mut tags = Vec::new();
    while let Some(request) = bench.next() {
        assert_eq!(bench.totals.count.live, 0);
        let Ok(Command::MinionEvents(load)) = Command::decode(&request) else { panic!("{request:?}") };
        tags.extend(command::events(&load).into_iter().map(|(tag, _)| tag.to_owned()));
        assert!(bench.next().is_none(), "one request is under way at a time");
        bench.reply(&request, &Value::Null);
    }
    assert_eq!(tags, ["minion_start", "salt/minion/swarm-1/start"]);
    assert_eq!(bench.totals.count.live, 1);
}

#[test]
fn the_pillar_is_asked_for_and_opens() {
    let mut bench = Bench::new();
    let fresh = bench.fresh();
    assert!(bench.minion.ask_pillar(&fresh).is_none(), "there are no keys yet");
    bench.authenticate();
    let payload = bench.minion.ask_pillar(&fresh).unwrap();
    let Ok(Envelope::Aes(sealed)) = Envelope::decode(&payload) else { panic!("a sealed load") };
    let [master, key] = rsa();
    let request = sealed.open(&SessionKey(crypticle(1)), key.public(), Ttl::Off).unwrap();
    assert!(matches!(Command::decode(&request), Ok(Command::Pillar(_))));
    let one_time = crypticle::OneTimeKey(crypticle(50));
    let pillar = Value::Map(map! { "role" => "web" });
    let answer = pillar::reply(&request, master, key.public(), (&one_time, [5; 16]), &pillar).unwrap();
    let (enc_algo, sig_algo) = ALGORITHMS;
    let waiting = Waiting { key, master: master.public(), enc_algo, sig_algo, nonce: fresh.nonce };
    assert_eq!(waiting.open(&answer).unwrap().into_inner(), pillar);
}

#[test]
fn events_count_when_their_request_is_answered() {
    let mut bench = Bench::live();
    bench.minion.fire((3, 1_000), &bench.answers);
    let request = bench.next().unwrap();
    let Ok(Command::MinionEvents(load)) = Command::decode(&request) else { panic!("{request:?}") };
    let events = command::events(&load);
    assert_eq!(events.len(), 3, "what is fired together travels together");
    assert_eq!(events[2].0, "salt/beacon/swarm-1/swarm/3");
    assert_eq!(bench.totals.count.acknowledged, 0);
    assert_eq!(bench.reply(&request, &Value::Null), Heard::Taken);
    assert_eq!(bench.totals.count.acknowledged, 3);
    assert!((bench.totals.ack_ms().max - 4.0).abs() < 0.1, "{:?}", bench.totals.ack_ms());
}

#[test]
fn events_that_a_handler_failed_on_are_not_acknowledged() {
    let mut bench = Bench::live();
    bench.minion.fire((2, 0), &bench.answers);
    let request = bench.next().unwrap();
    assert_eq!(bench.reply(&request, &Value::from("")), Heard::Taken);
    let count = bench.totals.count;
    assert_eq!((count.acknowledged, count.abandoned, count.not_understood), (0, 2, 1));
}

#[test]
fn a_bare_answer_makes_it_authenticate_and_ask_once_more() {
    let mut bench = Bench::live();
    bench.minion.fire((1, 0), &bench.answers);
    bench.next().unwrap();
    assert_eq!(bench.hear(&BareReply::BadLoad.encode()), Heard::Strange);
    assert!(bench.next().is_none(), "nothing is asked under keys that are not the master's");
    bench.epoch = 2;
    bench.authenticate();
    let again = bench.next().unwrap();
    bench.reply(&again, &Value::Null);
    assert_eq!((bench.totals.count.acknowledged, bench.totals.count.not_understood), (1, 0));
    bench.minion.fire((1, 0), &bench.answers);
    bench.next().unwrap();
    bench.hear(&BareReply::BadLoad.encode());
    bench.authenticate();
    bench.next().unwrap();
    assert_eq!(bench.hear(&BareReply::BadLoad.encode()), Heard::Taken, "twice is enough");
    assert_eq!((bench.totals.count.acknowledged, bench.totals.count.abandoned), (1, 1));
    assert!(!bench.minion.wants_keys() && bench.next().is_none());
}

#[test]
fn a_job_is_answered_once_and_only_by_whom_it_means() {
    let mut bench = Bench::live();
    bench.publish(JID, Value::from("swarm-*"), "test.ping");
    bench.publish(JID, Value::from("swarm-*"), "test.ping");
    bench.publish("20261125224000000002", Value::from("swarm-10"), "test.ping");
    bench.publish("20261125224000000003", Value::List(vec!["swarm-10".into(), "swarm-1".into()]), "no.such");
    let load = bench.returned();
    assert_eq!(
        (load.text("jid"), load.text("id"), load.at("return")),
        (Some(JID), Some("swarm-1"), Some(&true.into()))
    );
    assert_eq!((load.at("retcode"), load.at("success")), (Some(&0.into()), Some(&true.into())));
    let load = bench.returned();
    assert_eq!((load.text("return"), load.at("retcode")), (Some("'no.such' is not available."), Some(&1.into())));
    assert!(bench.next().is_none());
    let count = bench.totals.count;
    assert_eq!((count.publications, count.duplicates, count.returns, count.returns_acknowledged), (3, 1, 2, 2));
    assert_eq!((count.misdelivered, count.not_understood), (0, 0));
}

#[test]
fn a_job_that_is_asked_after_is_over() {
    let mut bench = Bench::live();
    bench.publish(JID, Value::from("*"), "saltutil.find_job");
    let load = bench.returned();
    assert_eq!((load.at("return"), load.at("retcode")), (Some(&Value::Map(Map::new())), Some(&0.into())));
}

#[test]
fn a_publication_under_new_keys_is_answered_after_authenticating_anew() {
    let mut bench = Bench::live();
    bench.minion.fire((1, 0), &bench.answers);
    let under_way = bench.next().unwrap();
    (bench.epoch, bench.serial) = (2, 0);
    assert_eq!(bench.publish(JID, Value::from("*"), "test.ping"), Heard::Strange);
    assert!(!bench.minion.wants_keys(), "a request is under way on the only socket");
    bench.epoch = 1;
    bench.reply(&under_way, &Value::Null);
    assert_eq!(bench.totals.count.acknowledged, 1, "the old session has opened its answer");
    bench.epoch = 2;
    bench.authenticate();
    assert_eq!(bench.returned().text("jid"), Some(JID));
    assert_eq!(bench.totals.count.not_understood, 0);
}

#[test]
fn what_is_a_publication_under_no_key_is_counted_and_over() {
    let mut bench = Bench::live();
    bench.epoch = 9;
    assert_eq!(bench.publish(JID, Value::from("*"), "test.ping"), Heard::Strange);
    bench.epoch = 1;
    bench.authenticate();
    assert!(bench.next().is_none() && bench.totals.count.not_understood == 1);
    bench.minion.published(b"no msgpack", &bench.answers, &mut bench.totals);
    assert!(!bench.minion.wants_keys() && bench.totals.count.not_understood == 2);
}

#[test]
fn a_lost_connection_loses_no_event() {
    let mut bench = Bench::live();
    bench.minion.fire((1, 0), &bench.answers);
    bench.next().unwrap();
    bench.minion.closed(&mut bench.totals);
    assert_eq!(bench.totals.count.live, 0);
    bench.authenticate();
    bench.minion.started(bench.now());
    while let Some(request) = bench.next() {
        bench.reply(&request, &Value::Null);
    }
    let count = bench.totals.count;
    assert_eq!((count.live, count.reconnects, count.acknowledged), (1, 1, 1));
}

#[test]
fn a_minion_takes_no_more_events_than_it_can_keep() {
    let mut bench = Bench::live();
    for _ in 0..MAX_WAITING {
        assert!(bench.minion.has_room());
        bench.minion.fire((1, 0), &bench.answers);
    }
    assert!(!bench.minion.has_room());
}
