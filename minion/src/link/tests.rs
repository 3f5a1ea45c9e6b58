//! A link against a master that does what each test says, over loopback.

use std::net::SocketAddr;

use proto::map;
use proto::message::hello::{HelloReply, HelloRequest};
use proto::message::{self, ErrorCode, Push, Reply, Request as WireRequest, RsaProof, Spooled, Welcome};
use proto::value::{MapExt, Value};
use tokio::time::timeout;
use transport::{
    CurveKeyPair, Heartbeat, Incoming, LinkSender, Listener, ListenerConfig, Mechanism, NullPolicy, PeerInfo,
    SocketType,
};

use super::*;
use crate::executor::{Executor, Limit, Limits, Parts as ExecutorParts};
use crate::modules::{NoBeacons, NoReload};
use crate::pillar::Pillar;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const JID: &str = "20261120235232821625";

/// Waits for what must happen.
async fn must<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it happens in time")
}

struct Master {
    keys: Arc<CurveKeyPair>,
    router: Listener,
    publisher: Listener,
}

/// A peer of the master, driven by a task of its own.
struct Peer {
    info: PeerInfo,
    sender: LinkSender,
    incoming: mpsc::Receiver<Incoming>,
}

impl Master {
    fn new() -> Master {
        let keys = Arc::new(CurveKeyPair::from_secret([9; 32]));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut requests = ListenerConfig::new(SocketType::Router, Some(Arc::clone(&keys)));
        requests.null = NullPolicy::Allow;
        let publications = ListenerConfig::new(SocketType::Pub, Some(Arc::clone(&keys)));
        let router = Listener::bind(any, requests).unwrap();
        Master { keys, router, publisher: Listener::bind(any, publications).unwrap() }
    }

    /// Answers one `hello`.
    async fn hello(&mut self) {
        self.hello_with(None).await;
    }

    /// Answers one `hello` as a master that has this to say of its RSA key.
    async fn hello_with(&mut self, rsa: Option<RsaProof>) {
        let mut peer = must(self.router.accept()).await;
        assert_eq!(peer.info.mechanism, Mechanism::Null);
        let Ok(Incoming::Message(frames)) = must(peer.link.recv()).await else { panic!("a hello") };
        assert_eq!(HelloRequest::decode(&frames[0]).unwrap().versions, [1]);
        let reply = HelloReply {
            version: 1,
            master_id: "master".into(),
            key: self.keys.public(),
            software: "test".into(),
            rsa,
        };
        peer.link.sender().try_send(Bytes::from(reply.encode())).unwrap();
        must(peer.link.finish(PATIENCE)).await.unwrap();
    }

    async fn dealer(&mut self) -> Peer {
        let peer = Peer::take(must(self.router.accept()).await);
        assert_eq!((peer.info.socket_type, &peer.info.identity[..]), (SocketType::Dealer, &b"m1"[..]));
        peer
    }

    async fn sub(&mut self) -> Peer {
        let mut peer = Peer::take(must(self.publisher.accept()).await);
        assert_eq!(peer.info.property("X-minion").map(|id| &id[..]), Some(&b"m1"[..]));
        assert_eq!(must(peer.incoming.recv()).await, Some(Incoming::Subscribe("m/m1".into())));
        peer
    }

    /// Takes a minion through all steps of a session; returns its connections and the serial that it asked for.
    async fn open(&mut self, session: u64, jobs: Vec<Value>) -> (Peer, Peer, u64) {
        let mut dealer = self.dealer().await;
        dealer.welcome(SessionState::Accepted, session);
        dealer.answer_session().await;
        let sub = self.sub().await;
        let serial = dealer.catch_up(session, jobs).await;
        (dealer, sub, serial)
    }
}

impl Peer {
    fn take(established: transport::Established) -> Peer {
        let transport::Established { info, mut link } = established;
        let (to, incoming) = mpsc::channel(64);
        let sender = link.sender();
        tokio::spawn(async move {
            while let Ok(message) = link.recv().await {
                if to.send(message).await.is_err() {
                    break;
                }
            }
            let _ = link.flush(PATIENCE).await;
        });
        Peer { info, sender, incoming }
    }

    async fn request(&mut self) -> WireRequest {
        match must(self.incoming.recv()).await {
            Some(Incoming::Message(frames)) => WireRequest::decode(&frames[0]).unwrap(),
            other => panic!("{other:?} is no request"),
        }
    }

    fn push(&self, push: &Push) {
        self.sender.try_send(Bytes::from(push.encode())).unwrap();
    }

    fn welcome(&self, state: SessionState, session: u64) {
        self.push(&Push::Welcome(Welcome { state, session, serial: 0, ping_s: 15, now_ms: None, reason: None }));
    }

    fn reply(&self, seq: u64, value: Value) {
        self.push(&Push::Reply(Reply { seq, result: Ok(value) }));
    }

    async fn answer_session(&mut self) {
        let WireRequest::Session(session) = self.request().await else { panic!("session first") };
        assert_eq!((session.kind, session.version), (Kind::Daemon, 1));
        assert!(session.grains.is_some());
        self.reply(session.seq, Value::Null);
    }

    async fn catch_up(&mut self, session: u64, jobs: Vec<Value>) -> u64 {
        self.push(&Push::Subscribed { session });
        let WireRequest::JobsSince { seq, serial } = self.request().await else { panic!("jobs_since next") };
        self.reply(seq, map! { "serial" => 7, "jobs" => jobs }.into());
        serial
    }

    async fn events(&mut self) -> (Spooled, Vec<String>) {
        let WireRequest::MinionEvents(load) = self.request().await else { panic!("events") };
        (load.at, load.events.into_iter().map(|event| event.tag).collect())
    }

    async fn ret(&mut self) -> message::Return {
        match self.request().await {
            WireRequest::Return(ret) => ret,
            other => panic!("{} is no return", other.name()),
        }
    }

    fn publish(&self, topic: &str, load: Map) {
        let load = Bytes::from(msgpack::encode_map(&load));
        self.sender.try_send([Bytes::copy_from_slice(topic.as_bytes()), load]).unwrap();
    }
}

struct Minion {
    link: Link,
    jobs: Option<mpsc::Receiver<Publish>>,
    folder: tempfile::TempDir,
}

fn minion(master: &Master, demands: Demands) -> Minion {
    minion_in(tempfile::tempdir().unwrap(), master, demands, None)
}

fn minion_in(folder: tempfile::TempDir, master: &Master, demands: Demands, jids: Option<Jids>) -> Minion {
    let target = Target {
        id: MinionId::parse("m1").unwrap(),
        host: "127.0.0.1".into(),
        request_port: master.router.local_addr().port(),
        publish_port: master.publisher.local_addr().port(),
        pki_dir: folder.path().to_owned(),
        key: keys::own(folder.path()).unwrap(),
        demands,
        heartbeat: Heartbeat::default(),
    };
    let pace = Pace { first: Duration::from_millis(10), max: Duration::from_millis(50) };
    let (kind, grains) = (Kind::Daemon, Some(map! { "os" => "Debian" }));
    let parts = Parts {
        kind,
        grains,
        autosign_grains: None,
        pace,
        first_delay: Duration::ZERO,
        jids,
        keeper: Keeper::in_memory([5; 16]),
    };
    let (link, jobs, _task) = Link::spawn(target, parts).unwrap();
    Minion { link, jobs: Some(jobs), folder }
}

impl Minion {
    async fn until(&self, wanted: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
        must(self.link.status().wait_for(wanted)).await.unwrap().clone()
    }

    async fn up(&self, session: u64) {
        self.until(|status| *status == LinkStatus::Up { session }).await;
    }

    /// Sends an event as functions do, and waits for its acknowledgement beside the test.
    fn send(&self, tag: &'static str) -> JoinHandle<Result<(), SendError>> {
        let sink = self.link.events(MinionId::parse("m1").unwrap(), Some(LocalBus::default()));
        tokio::task::spawn_blocking(move || sink.send(tag, map! { "n" => 1 }, PATIENCE))
    }
}

#[tokio::test]
async fn a_pending_minion_waits_and_is_promoted_in_place() {
    let mut master = Master::new();
    let minion = minion(&master, Demands::default());
    master.hello().await;
    let mut dealer = master.dealer().await;
    assert_eq!(keys::pinned(minion.folder.path()).unwrap(), Some(master.keys.public()));
    dealer.welcome(SessionState::Pending, 0);
    minion.until(|status| matches!(status, LinkStatus::Limbo { state: SessionState::Pending, .. })).await;
    dealer.welcome(SessionState::Accepted, 5);
    dealer.answer_session().await;
    let _sub = master.sub().await;
    assert_eq!(dealer.catch_up(5, vec![]).await, 0);
    minion.up(5).await;
}

#[tokio::test]
async fn a_changed_master_key_is_refused_and_the_pin_stays() {
    let mut master = Master::new();
    let folder = tempfile::tempdir().unwrap();
    let other = CurveKeyPair::from_secret([3; 32]).public();
    keys::pin(folder.path(), &other).unwrap();
    let minion = minion_in(folder, &master, Demands::default(), None);
    master.hello().await;
    let status = minion.until(|status| matches!(status, LinkStatus::Down { why: Some(_) })).await;
    let LinkStatus::Down { why: Some(why) } = status else { panic!("{status:?}") };
    assert!(why.contains("CHANGED") && why.contains("halite_master.pub"), "{why}");
    assert_eq!(keys::pinned(minion.folder.path()).unwrap(), Some(other));
}

#[tokio::test]
async fn a_master_that_is_not_the_demanded_one_is_refused_before_it_is_pinned() {
    let mut master = Master::new();
    let minion = minion(&master, Demands { key: None, finger: Some("aa:bb".into()) });
    master.hello().await;
    let refused = |status: &LinkStatus| match status {
        LinkStatus::Down { why: Some(why) } => why.contains("master_finger"),
        _ => false,
    };
    minion.until(refused).await;
    assert_eq!(keys::pinned(minion.folder.path()).unwrap(), None);
}

#[tokio::test]
async fn only_unacknowledged_loads_are_sent_again() {
    let mut master = Master::new();
    let minion = minion(&master, Demands::default());
    master.hello().await;
    let (mut dealer, sub, _) = master.open(5, vec![]).await;
    let first = minion.send("t/1");
    let (at, tags) = dealer.events().await;
    assert_eq!((at.n, tags), (1, vec!["t/1".to_owned()]));
    dealer.push(&Push::Ack(at));
    must(first).await.unwrap().unwrap();
    let second = minion.send("t/2");
    assert_eq!(dealer.events().await.0, Spooled { n: 2, ..at });
    // The connection breaks before the acknowledgement.
    dealer.sender.close();
    drop((dealer, sub));
    let (mut dealer, _sub, _) = master.open(6, vec![]).await;
    assert_eq!(dealer.events().await, (Spooled { n: 2, ..at }, vec!["t/2".to_owned()]));
    dealer.push(&Push::Ack(Spooled { n: 2, ..at }));
    must(second).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_sub_comes_back_alone_and_asks_for_what_it_missed() {
    let mut master = Master::new();
    let minion = minion(&master, Demands::default());
    master.hello().await;
    let (mut dealer, sub, serial) = master.open(5, vec![]).await;
    assert_eq!(serial, 0);
    minion.up(5).await;
    sub.sender.close();
    drop(sub);
    let _sub = master.sub().await;
    assert_eq!(dealer.catch_up(5, vec![]).await, 7);
}

#[tokio::test]
async fn an_event_that_may_not_be_fired_is_refused_at_once() {
    let master = Master::new();
    let minion = minion(&master, Demands::default());
    let refused = must(minion.send("salt/auth")).await.unwrap();
    assert!(matches!(refused, Err(SendError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_refused_session_is_opened_again() {
    let mut master = Master::new();
    let _minion = minion(&master, Demands::default());
    master.hello().await;
    let mut dealer = master.dealer().await;
    dealer.welcome(SessionState::Accepted, 5);
    let WireRequest::Session(session) = dealer.request().await else { panic!("session first") };
    dealer.push(&Push::Reply(Reply { seq: session.seq, result: Err((ErrorCode::Busy, "later".into())) }));
    master.open(6, vec![]).await;
}

fn job(jid: &str, tgt: &str, expires: u64) -> Map {
    map! {
        "cmd" => "publish", "serial" => 8, "expires" => expires, "jid" => jid, "fun" => "test.ping",
        "arg" => Value::List(vec![]), "tgt" => tgt, "tgt_type" => "glob", "ret" => "", "user" => "root",
    }
}

/// Returns what the beacons' room needs, around a link that never finds a master; and the executor's task.
pub(crate) fn idle_for_tests(folder: &std::path::Path) -> (crate::beacons::Parts, JoinHandle<()>) {
    let id = MinionId::parse("m1").unwrap();
    let target = Target {
        id: id.clone(),
        host: "127.0.0.1".into(),
        request_port: 1,
        publish_port: 1,
        pki_dir: folder.to_owned(),
        key: keys::own(folder).unwrap(),
        demands: Demands::default(),
        heartbeat: Heartbeat::default(),
    };
    let (pace, first_delay) = (Pace::default(), Duration::from_secs(3600));
    let keeper = Keeper::in_memory([5; 16]);
    let kind = Kind::Daemon;
    let parts = Parts { kind, grains: None, autosign_grains: None, pace, first_delay, jids: None, keeper };
    let (link, _jobs, _task) = Link::spawn(target, parts).unwrap();
    let (jids, _, _) = Jids::open(folder).unwrap();
    let (executor, task) = executor(&link, &id, jids, folder);
    let loop_interval = Duration::from_secs(1);
    (crate::beacons::Parts { id, link, executor, loop_interval, before_connect: true }, task)
}

fn executor(link: &Link, id: &MinionId, jids: Jids, folder: &std::path::Path) -> (Executor, JoinHandle<()>) {
    let (_, config) = watch::channel(Arc::new(Map::new()));
    let (_, grains) = watch::channel(Arc::new(Map::new()));
    let parts = ExecutorParts {
        id: id.to_string(),
        config,
        grains,
        events: link.events(id.clone(), Some(LocalBus::default())),
        beacons: Arc::new(NoBeacons),
        reload: Arc::new(NoReload),
        master: link.master(),
        pillar: Pillar::default(),
        returns: Intake::returns(link.clone(), jids, None),
        limit: Limit { max_return_size: 1 << 20, folder: folder.join("returns") },
        program: "halite-minion".into(),
    };
    Executor::spawn(parts, Limits::default())
}

/// Gives the minion an executor, as the daemon does.
fn employ(minion: &mut Minion, jids: Jids) {
    let id = MinionId::parse("m1").unwrap();
    let (executor, _task) = executor(&minion.link, &id, jids.clone(), minion.folder.path());
    let jobs = minion.jobs.take().unwrap();
    let grains = tokio::sync::watch::channel(Arc::default()).1;
    let intake =
        IntakeParts { id, grains, pillar: Pillar::default(), executor, jids, link: minion.link.clone(), proc: None };
    tokio::spawn(Intake::run(intake, jobs));
}

#[tokio::test]
async fn each_job_runs_once_and_only_if_it_is_meant_and_alive() {
    let mut master = Master::new();
    let folder = tempfile::tempdir().unwrap();
    let (jids, _, _) = Jids::open(folder.path()).unwrap();
    let mut minion = minion_in(folder, &master, Demands::default(), Some(jids.clone()));
    employ(&mut minion, jids);
    master.hello().await;
    let missed = job(JID, "*", u64::MAX);
    let (mut dealer, sub, _) = master.open(5, vec![missed.clone().into()]).await;
    let ret = dealer.ret().await;
    assert_eq!((ret.jid.as_str(), ret.fun.as_str(), ret.retcode), (JID, "test.ping", 0));
    assert_eq!(msgpack::decode_map(&ret.load).unwrap().at("return"), Some(&Value::Bool(true)));
    dealer.push(&Push::Ack(ret.at));
    // The same job, a late one, one for another minion whose id begins like ours; then a fresh one.
    sub.publish("m/m1", missed);
    sub.publish("m/m1", job("20261120235232821626", "*", 1));
    sub.publish("m/m10", job("20261120235232821627", "*", u64::MAX));
    sub.publish("m/m1", job("20261120235232821628", "m2", u64::MAX));
    // An answer and a return do not wait for each other.
    for request in [dealer.request().await, dealer.request().await] {
        match request {
            WireRequest::NoMatch { jid, .. } => assert_eq!(jid.as_str(), "20261120235232821628"),
            WireRequest::Return(late) => {
                assert_eq!((late.jid.as_str(), late.retcode), ("20261120235232821626", 1), "answered, not run");
            }
            other => panic!("{}", other.name()),
        }
    }
    sub.publish("m/m1", job("20261120235232821629", "m?", u64::MAX));
    assert_eq!(dealer.ret().await.jid, "20261120235232821629");
}

#[tokio::test]
async fn a_job_expires_by_the_masters_clock() {
    /// How far the master's clock is behind this host's: an hour.
    const BEHIND_MS: u64 = 3_600_000;
    let mut master = Master::new();
    let folder = tempfile::tempdir().unwrap();
    let (jids, _, _) = Jids::open(folder.path()).unwrap();
    let mut minion = minion_in(folder, &master, Demands::default(), Some(jids.clone()));
    employ(&mut minion, jids);
    master.hello().await;
    let mut dealer = master.dealer().await;
    let masters_now = intake::unix_ms() - BEHIND_MS;
    let welcome = Welcome {
        state: SessionState::Accepted,
        session: 5,
        serial: 0,
        ping_s: 15,
        now_ms: Some(masters_now),
        reason: None,
    };
    dealer.push(&Push::Welcome(welcome));
    dealer.answer_session().await;
    let sub = master.sub().await;
    dealer.catch_up(5, Vec::new()).await;
    sub.publish("m/m1", job(JID, "*", masters_now + 60_000));
    assert_eq!(dealer.ret().await.retcode, 0, "it has a minute left");
}

/// A host that was a Salt minion: its pair, and the key of the Salt master that it trusted.
fn was_a_salt_minion(folder: &std::path::Path, trusted: &proto::salt::rsa::PrivateKey) -> proto::salt::rsa::PrivateKey {
    let own = proto::salt::rsa::PrivateKey::generate(2048).unwrap();
    std::fs::write(folder.join("minion.pem"), own.to_pem().as_bytes()).unwrap();
    std::fs::write(folder.join("minion_master.pub"), trusted.public().pem()).unwrap();
    own
}

#[tokio::test]
async fn a_salt_minions_pin_and_key_carry_over_to_the_native_wire() {
    let mut master = Master::new();
    let rsa = proto::salt::rsa::PrivateKey::generate(2048).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let own = was_a_salt_minion(folder.path(), &rsa);
    let minion = minion_in(folder, &master, Demands::default(), None);
    let sig = proto::salt::upgrade::vouch_for_master(&rsa, &master.keys.public());
    master.hello_with(Some(RsaProof { rsa_pub: rsa.public().pem().to_owned(), sig })).await;
    let mut dealer = master.dealer().await;
    // The master knows the id by its RSA key alone.
    dealer.welcome(SessionState::Denied, 0);
    let WireRequest::Session(session) = dealer.request().await else { panic!("a session in limbo") };
    let proof = session.upgrade.expect("what vouches");
    let id = MinionId::parse("m1").unwrap();
    let native = keys::own(minion.folder.path()).unwrap().pair.public();
    assert_eq!(proof.rsa_pub, own.public().pem());
    let judged = proto::salt::upgrade::judge_minion(own.public(), &id, &native, &master.keys.public(), &proof.sig);
    assert_eq!(judged, Ok(()));
    dealer.welcome(SessionState::Accepted, 5);
    dealer.answer_session().await;
    let _sub = master.sub().await;
    dealer.catch_up(5, vec![]).await;
    minion.up(5).await;
    assert_eq!(keys::pinned(minion.folder.path()).unwrap(), Some(master.keys.public()));
    let kept = std::fs::read_to_string(minion.folder.path().join("minion_master.pub")).unwrap();
    assert_eq!(kept, rsa.public().pem());
}

#[tokio::test]
async fn a_master_that_the_pinned_salt_key_does_not_vouch_for_is_refused_and_nothing_is_written() {
    let mut master = Master::new();
    let rsa = proto::salt::rsa::PrivateKey::generate(2048).unwrap();
    let folder = tempfile::tempdir().unwrap();
    was_a_salt_minion(folder.path(), &rsa);
    let minion = minion_in(folder, &master, Demands::default(), None);
    let wrong = proto::salt::upgrade::vouch_for_master(&rsa, &[1; 32]);
    for (proof, why) in [
        (Some(RsaProof { rsa_pub: rsa.public().pem().to_owned(), sig: wrong }), "signature"),
        (None, "does not say which RSA key"),
    ] {
        master.hello_with(proof).await;
        let says = |status: &LinkStatus| matches!(status, LinkStatus::Down { why: Some(text) } if text.contains(why));
        minion.until(says).await;
    }
    assert_eq!(keys::pinned(minion.folder.path()).unwrap(), None);
}
