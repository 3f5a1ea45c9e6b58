//! The native wire against a hand-driven minion: real sockets on loopback, a real log, no minion code.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::ids::MinionId;
use proto::map;
use proto::message::event::EventItem;
use proto::message::{Kind, MinionEvents, Push, Reply, Request, Return, SessionRequest, SessionState, Spooled};
use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use tokio_util::sync::CancellationToken;
use transport::{
    ConnectConfig, ConnectMechanism, CurveKeyPair, Incoming, Link, Listener, ListenerConfig, NullPolicy, SocketType,
};

use super::*;
use crate::bus::{BusConfig, EventQuery, Since};
use crate::command::{KeySelection, PublishRequest};
use crate::jobs::JobsConfig;
use crate::keys::KeysConfig;

mod attacks;
mod authority;
mod subscriptions;
mod upgrades;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Master {
    bus: Bus,
    keys: Keys,
    jobs: Jobs,
    requests: String,
    publications: String,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
    _watch: tokio::sync::watch::Sender<bool>,
}

impl Master {
    async fn start() -> Master {
        let dir = tempfile::tempdir().unwrap();
        let (watch, stops) = tokio::sync::watch::channel(false);
        let (bus, task) = Bus::open(BusConfig::new(dir.path().join("events"))).unwrap();
        tokio::spawn(task.run(stops.clone()));
        let (keys, task) = Keys::open(KeysConfig::new(dir.path().join("pki"))).unwrap();
        tokio::spawn(task.run(stops));
        let registry = Registry::default();
        let config = JobsConfig {
            path: dir.path().join("jobs.db"),
            ttl: PATIENCE,
            keep: None,
            jid_events: true,
            nodegroups: Default::default(),
            syndics: None,
        };
        let (jobs, task) = Jobs::open(config, bus.clone(), keys.clone(), registry.clone()).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(task.run(stop.clone()));
        let pair = Arc::new(CurveKeyPair::from_secret(*keys.master_pair().secret()));
        let listen = |socket, null| {
            let mut config = ListenerConfig::new(socket, Some(Arc::clone(&pair)));
            config.null = null;
            Listener::bind("127.0.0.1:0".parse().unwrap(), config).unwrap()
        };
        let requests = listen(SocketType::Router, NullPolicy::Allow);
        let publications = listen(SocketType::Pub, NullPolicy::Refuse);
        let hello = HelloReply {
            version: 1,
            master_id: "test".into(),
            key: keys.master_pair().public,
            software: "t".into(),
            rsa: None,
        };
        let parts = SessionParts {
            bus: bus.clone(),
            jobs: jobs.clone(),
            keys: keys.clone(),
            registry,
            salt: None,
            hello: Arc::new(hello),
            asked: None,
            ping: Duration::from_secs(15),
        };
        let addrs = (requests.local_addr().to_string(), publications.local_addr().to_string());
        tokio::spawn(serve(requests, publications, parts, stop.clone()));
        Master { bus, keys, jobs, requests: addrs.0, publications: addrs.1, stop, _dir: dir, _watch: watch }
    }

    async fn accept(&self, id: &str) {
        let selection = KeySelection {
            globs: vec![id.into()],
            include_rejected: true,
            include_denied: false,
            include_accepted: false,
            dry_run: false,
        };
        self.keys.accept(selection).await.unwrap();
    }

    async fn reject(&self, id: &str) {
        let selection = KeySelection {
            globs: vec![id.into()],
            include_rejected: false,
            include_denied: false,
            include_accepted: true,
            dry_run: false,
        };
        self.keys.reject(selection).await.unwrap();
    }

    /// Returns the first event from the start whose tag matches.
    async fn event(&self, tag: &str) -> Map {
        let mut events = self.bus.subscribe(EventQuery { tags: vec![tag.into()], since: Since::Start, until: None });
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("the event comes").unwrap();
        event.map().unwrap()
    }

    /// Counts the events of a tag that are in the log now.
    async fn count(&self, tag: &str) -> usize {
        let marker = proto::tag::Tag::parse("test/marker").unwrap();
        let until = self.bus.fire(marker, &Map::new()).await.unwrap();
        let mut events = self.bus.subscribe(EventQuery { tags: Vec::new(), since: Since::Start, until: None });
        let mut count = 0;
        while let Some(event) = events.next().await {
            count += usize::from(event.tag.as_str() == tag);
            if event.offset >= until {
                break;
            }
        }
        count
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A minion made of bare sockets.
struct Minion {
    id: MinionId,
    keys: Arc<CurveKeyPair>,
    dealer: Link,
}

impl Minion {
    async fn connect(master: &Master, id: &str, secret: u8) -> Minion {
        let keys = Arc::new(CurveKeyPair::from_secret([secret; 32]));
        let mut config = config(&master.requests, SocketType::Dealer, master, &keys);
        config.identity = Bytes::copy_from_slice(id.as_bytes());
        let dealer = transport::connect(&config).await.unwrap().link;
        Minion { id: MinionId::parse(id).unwrap_or_else(|_| MinionId::parse("x").unwrap()), keys, dealer }
    }

    async fn accepted(master: &Master, id: &str, secret: u8) -> Minion {
        let mut minion = Minion::connect(master, id, secret).await;
        assert_eq!(minion.state().await, SessionState::Pending);
        master.accept(id).await;
        assert_eq!(minion.state().await, SessionState::Accepted);
        minion
    }

    fn send(&self, request: &Request) {
        self.dealer.sender().try_send(Bytes::from(request.encode())).unwrap();
    }

    async fn push(&mut self) -> Push {
        match tokio::time::timeout(PATIENCE, self.dealer.recv()).await.expect("the master answers").unwrap() {
            Incoming::Message(frames) => Push::decode(&frames[0]).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn state(&mut self) -> SessionState {
        match self.push().await {
            Push::Welcome(welcome) => {
                assert_eq!(welcome.session != 0, welcome.state == SessionState::Accepted);
                welcome.state
            }
            other => panic!("{other:?}"),
        }
    }

    async fn reply(&mut self) -> Reply {
        match self.push().await {
            Push::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    async fn acked(&mut self, n: u64) {
        loop {
            match self.push().await {
                Push::Ack(at) if at.n >= n => return assert_eq!(at.n, n),
                Push::Ack(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn open(&mut self, instance: u8) {
        self.send(&session(instance));
        assert_eq!(self.reply().await.result, Ok(Value::Null));
    }

    async fn subscribe(&mut self, master: &Master) -> Link {
        let mut config = config(&master.publications, SocketType::Sub, master, &self.keys);
        config.properties = vec![("X-minion".into(), Bytes::copy_from_slice(self.id.as_str().as_bytes()))];
        let sub = transport::connect(&config).await.unwrap().link;
        sub.subscribe(format!("m/{}", self.id).as_bytes()).unwrap();
        sub
    }

    /// Waits until the master says that the SUB is in place; both links must be driven for that.
    async fn subscribed(&mut self, sub: &mut Link) {
        tokio::select! {
            push = self.push() => assert!(matches!(push, Push::Subscribed { .. }), "{push:?}"),
            heard = sub.recv() => panic!("{heard:?}"),
        }
    }
}

fn config(addr: &str, socket: SocketType, master: &Master, keys: &Arc<CurveKeyPair>) -> ConnectConfig {
    let server_key = master.keys.master_pair().public;
    ConnectConfig::new(addr, socket, ConnectMechanism::Curve { server_key, keys: Arc::clone(keys) })
}

fn session(instance: u8) -> Request {
    Request::Session(SessionRequest {
        seq: 1,
        instance: [instance; 16],
        kind: Kind::Daemon,
        version: 1,
        software: "test".into(),
        grains: None,
        autosign_grains: None,
        upgrade: None,
    })
}

fn events(n: u64, tags: &[&str]) -> Request {
    let item = |tag: &&str| EventItem {
        tag: (*tag).to_owned(),
        data: msgpack::encode_map(&map! { "id" => "forged", "n" => n }).into(),
    };
    let at = Spooled { spool: [9; 16], n };
    Request::MinionEvents(MinionEvents { at, events: tags.iter().map(item).collect() })
}

#[tokio::test]
async fn limbo_has_no_rights_and_is_promoted_in_place() {
    let master = Master::start().await;
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.state().await, SessionState::Pending);
    minion.send(&Request::JobsSince { seq: 7, serial: 0 });
    let refused = minion.reply().await;
    assert_eq!(refused.seq, 7);
    assert!(matches!(refused.result, Err((proto::message::ErrorCode::NotAccepted, _))), "{refused:?}");
    // A `session` may be sent in limbo (native-wire.md §4).
    minion.open(1).await;
    master.accept("web1").await;
    assert_eq!(minion.state().await, SessionState::Accepted);
    let auth = master.event("salt/auth").await;
    assert_eq!((auth.text("act"), auth.text("id")), (Some("pend"), Some("web1")));
}

#[tokio::test]
async fn loads_are_acknowledged_once_logged_and_never_twice() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    for n in 1..=20 {
        minion.send(&events(n, &["my/tag"]));
    }
    minion.acked(20).await;
    // The same loads again, as after a reconnect: acknowledged, and not logged.
    for n in 15..=21 {
        minion.send(&events(n, &["my/tag"]));
    }
    minion.acked(21).await;
    assert_eq!(master.count("my/tag").await, 21);
    let event = master.event("my/tag").await;
    assert_eq!(event.text("id"), Some("web1"), "the id is the session's");
    // A spool that skipped something says so.
    minion.send(&events(30, &["my/tag"]));
    minion.acked(30).await;
    let dropped = master.event("halite/minion/web1/dropped").await;
    assert_eq!(dropped.at("loads"), Some(&Value::from(8)));
}

/// More than a session handles at once, and more than its window holds: none is lost between two looks at the rest.
#[tokio::test]
async fn a_burst_is_answered_in_order_to_the_last() {
    const BURST: u64 = 900;
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    for seq in 0..BURST {
        minion.send(&Request::Grains { seq, grains: Bytes::from(msgpack::encode_map(&map! { "seq" => seq })) });
    }
    for seq in 0..BURST {
        assert_eq!(minion.reply().await.seq, seq);
    }
    for n in 1..=BURST {
        minion.send(&events(n, &["burst"]));
    }
    minion.acked(BURST).await;
    assert_eq!(master.count("burst").await as u64, BURST);
}

#[tokio::test]
async fn foreign_tags_are_denied_and_the_rest_of_the_load_is_kept() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.send(&events(1, &["salt/key", "my/tag", "salt/beacon/web2/load/", "salt/beacon/web1/load/"]));
    minion.acked(1).await;
    let denied = master.event("halite/minion/web1/denied").await;
    assert_eq!(denied.text("tag"), Some("salt/key"));
    assert_eq!(master.count("my/tag").await, 1);
    assert_eq!(master.count("salt/beacon/web1/load/").await, 1);
    assert_eq!(master.count("salt/beacon/web2/load/").await, 0);
}

#[tokio::test]
async fn a_rejected_key_loses_its_connections_at_once() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    let mut sub = minion.subscribe(&master).await;
    minion.subscribed(&mut sub).await;
    master.reject("web1").await;
    let (dealer, sub) = tokio::join!(minion.dealer.recv(), sub.recv());
    assert!(dealer.is_err() && sub.is_err());
    let mut again = Minion::connect(&master, "web1", 1).await;
    assert_eq!(again.state().await, SessionState::Rejected);
    master.accept("web1").await;
    assert_eq!(again.state().await, SessionState::Accepted);
}

fn ping() -> PublishRequest {
    PublishRequest {
        target: crate::command::TargetText::new("*".into(), None),
        fun: "test.ping".into(),
        arg: Vec::new(),
        ret: String::new(),
        jid: None,
        ttl: None,
        metadata: None,
        options: Map::new(),
    }
}

fn ret(n: u64, jid: &str) -> Request {
    let load = map! { "jid" => jid, "fun" => "test.ping", "fun_args" => Value::List(vec![]), "return" => true,
    "retcode" => 0, "success" => true };
    Request::Return(Return::new(Spooled { spool: [9; 16], n }, &load).unwrap())
}

#[tokio::test]
async fn a_job_goes_to_its_minion_and_its_return_into_the_log() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    let mut sub = minion.subscribe(&master).await;
    minion.subscribed(&mut sub).await;
    let mut other = Minion::accepted(&master, "web10", 2).await;
    other.open(2).await;
    let published = master.jobs.publish("root", ping()).await.unwrap();
    assert_eq!(published.minions.len(), 2);
    assert_eq!(published.down.len(), 1, "web10 has no SUB");
    let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("the publication comes") };
    assert_eq!(&frames[0][..], b"m/web1");
    let publish = proto::message::Publish::decode(&frames[1]).unwrap();
    assert_eq!(publish.jid, published.jid);
    minion.send(&ret(1, published.jid.as_str()));
    minion.acked(1).await;
    // Again, under a new number: acknowledged and dropped.
    minion.send(&ret(2, published.jid.as_str()));
    minion.acked(2).await;
    assert_eq!(master.count(&format!("salt/job/{}/ret/web1", published.jid)).await, 1);
    // Who was away asks for what it missed, until it has returned.
    other.send(&Request::JobsSince { seq: 5, serial: 0 });
    let missed = other.reply().await.result.unwrap();
    let jobs = missed.get("jobs").and_then(Value::as_list).unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].get("jid").and_then(Value::as_str), Some(published.jid.as_str()));
    other.send(&ret(1, published.jid.as_str()));
    other.acked(1).await;
    other.send(&Request::JobsSince { seq: 6, serial: 0 });
    let nothing = other.reply().await.result.unwrap();
    assert_eq!(nothing.get("jobs").and_then(Value::as_list), Some(&[][..]));
}

#[tokio::test]
async fn a_return_that_is_not_ones_own_is_refused() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    let published = master.jobs.publish("root", ping()).await.unwrap();
    let mut stranger = Minion::accepted(&master, "late", 2).await;
    stranger.send(&ret(1, published.jid.as_str()));
    stranger.acked(1).await;
    assert_eq!(master.count(&format!("salt/job/{}/ret/late", published.jid)).await, 0);
    // A stand-alone return gets a job of its own.
    stranger.send(&ret(2, "req"));
    stranger.acked(2).await;
    let kept = master.event("salt/job/*/ret/late").await;
    assert_ne!(kept.text("jid"), Some(published.jid.as_str()));
}

#[tokio::test]
async fn an_impossible_id_is_told_so() {
    let master = Master::start().await;
    let mut minion = Minion::connect(&master, "../../etc", 1).await;
    assert_eq!(minion.state().await, SessionState::BadId);
}

#[tokio::test]
async fn the_second_daemon_of_an_id_is_refused_while_the_first_lives() {
    let master = Master::start().await;
    let mut first = Minion::accepted(&master, "web1", 1).await;
    first.open(1).await;
    let mut second = Minion::connect(&master, "web1", 1).await;
    assert_eq!(second.state().await, SessionState::Accepted);
    second.send(&session(2));
    // The first one must be driven to answer the master's PING.
    let alive = async { first.push().await };
    let state = tokio::select! {
        state = second.state() => state,
        push = alive => panic!("{push:?}"),
    };
    assert_eq!(state, SessionState::Duplicate);
    assert!(second.reply().await.result.is_err());
    master.event("halite/minion/duplicate").await;
    // The same process coming back replaces its own old connection.
    let mut back = Minion::connect(&master, "web1", 1).await;
    assert_eq!(back.state().await, SessionState::Accepted);
    back.open(1).await;
    assert!(first.dealer.recv().await.is_err());
    // When it leaves, the one that was refused is let in without a new connection.
    drop(back);
    assert_eq!(second.state().await, SessionState::Accepted);
    second.open(2).await;
}

#[tokio::test]
async fn hello_tells_the_masters_key() {
    let master = Master::start().await;
    let config = ConnectConfig::new(&master.requests, SocketType::Req, ConnectMechanism::Null);
    let mut link = transport::connect(&config).await.unwrap().link;
    let hello = proto::message::hello::HelloRequest::current();
    link.sender().try_send(Bytes::from(hello.encode())).unwrap();
    let Ok(Incoming::Message(frames)) = link.recv().await else { panic!("an answer comes") };
    let reply = HelloReply::decode(frames.last().unwrap()).unwrap();
    assert_eq!(reply.key, master.keys.master_pair().public);
}
