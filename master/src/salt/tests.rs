//! The Salt wire against a hand-driven minion made of `proto::salt`'s other half: real sockets on loopback, a real log.

use std::time::Duration;

use bytes::Bytes;
use proto::ids::MinionId;
use proto::map;
use proto::message::hello::{HelloReply, HelloRequest};
use proto::msgpack;
use proto::salt::Nonce;
use proto::salt::auth::{Applicant, AuthAnswer, Credentials, Standing, Trust};
use proto::salt::crypticle::SessionKey;
use proto::salt::publish::Ear;
use proto::salt::request::{Asker, Fresh, Token, open_reply};
use proto::salt::rsa::{EncAlgo, PrivateKey, SigAlgo};
use proto::value::{Map, MapExt, Value};
use tokio_util::sync::CancellationToken;
use transport::{ConnectConfig, ConnectMechanism, Incoming, Link, Listener, ListenerConfig, NullPolicy, SocketType};

use super::*;
use crate::acl::Acl;
use crate::bus::{BusConfig, EventQuery, Since};
use crate::command::{About, KeySelection, PublishRequest, Rooms, TargetText};
use crate::cursors::Cursors;
use crate::jobs::JobsConfig;
use crate::keys::KeysConfig;
use crate::sessions::{self, SessionParts};

mod attacks;
mod damage;
mod minions;
mod syndics;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys that were made once for all tests: making one takes a while.
fn rsa(which: usize) -> PrivateKey {
    static PEMS: [std::sync::OnceLock<String>; 4] = [const { std::sync::OnceLock::new() }; 4];
    let pem = PEMS[which].get_or_init(|| PrivateKey::generate(2048).unwrap().to_pem().to_string());
    PrivateKey::from_pem(pem, None).unwrap()
}

struct Master {
    bus: Bus,
    keys: Keys,
    jobs: Jobs,
    salt: Salt,
    requests: String,
    publications: String,
    stop: CancellationToken,
    watch: tokio::sync::watch::Sender<bool>,
    dir: Arc<tempfile::TempDir>,
}

impl Master {
    async fn start() -> Master {
        Master::start_with(Arc::new(tempfile::tempdir().unwrap()), |_| {}).await
    }

    /// Starts in a folder, which may hold what an earlier one has left.
    async fn start_with(dir: Arc<tempfile::TempDir>, change: impl FnOnce(&mut SaltConfig)) -> Master {
        let pki_dir = dir.path().join("pki");
        if !pki_dir.join("master.pem").exists() {
            std::fs::create_dir_all(&pki_dir).unwrap();
            disk::write(&pki_dir.join("master.pem"), rsa(0).to_pem().as_bytes()).unwrap();
        }
        let (watch, stops) = tokio::sync::watch::channel(false);
        let (bus, task) = Bus::open(BusConfig::new(dir.path().join("events"))).unwrap();
        tokio::spawn(task.run(stops.clone()));
        let (keys, task) = Keys::open(KeysConfig::new(&pki_dir)).unwrap();
        tokio::spawn(task.run(stops));
        let registry = Registry::default();
        let listen = |socket| {
            let mut config = ListenerConfig::new(socket, None);
            config.null = NullPolicy::Allow;
            config.limits.max_message_null = config.limits.max_message;
            Listener::bind("127.0.0.1:0".parse().unwrap(), config).unwrap()
        };
        let (requests, publications) = (listen(SocketType::Router), listen(SocketType::Pub));
        let mut config = config(dir.path(), publications.local_addr().port());
        change(&mut config);
        let jobs_config = JobsConfig {
            path: dir.path().join("jobs.db"),
            ttl: PATIENCE,
            jid_events: true,
            keep: None,
            nodegroups: Default::default(),
            syndics: None,
        };
        let (jobs, task) = Jobs::open(jobs_config, bus.clone(), keys.clone(), registry.clone()).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(task.run(stop.clone()));
        let key = keys.master_pair().public;
        let hello = HelloReply { version: 1, master_id: "test".into(), key, software: "t".into(), rsa: None };
        let door = door(&dir, &bus, &keys, &jobs, &registry);
        let asked = answers(&dir, &jobs, &door);
        let parts = SaltParts {
            clear: None,
            asked,
            bus: bus.clone(),
            jobs: jobs.clone(),
            keys: keys.clone(),
            registry: registry.clone(),
            door,
            hello: Arc::new(hello),
        };
        let (salt, task) = Salt::open(config, parts.clone()).unwrap();
        tokio::spawn(task.run(stop.clone()));
        let addrs = (requests.local_addr().to_string(), publications.local_addr().to_string());
        let (bus_too, jobs_too, keys_too) = (bus.clone(), jobs.clone(), keys.clone());
        let session_parts = SessionParts {
            bus: bus_too,
            jobs: jobs_too,
            keys: keys_too,
            registry,
            asked: None,
            hello: parts.hello,
            salt: Some(salt.clone()),
            ping: Duration::from_secs(15),
        };
        tokio::spawn(sessions::serve(requests, publications, session_parts, stop.clone()));
        Master { bus, keys, jobs, salt, requests: addrs.0, publications: addrs.1, stop, watch, dir }
    }

    /// Stops it as a daemon does, and returns where its files lie.
    async fn end(self) -> Arc<tempfile::TempDir> {
        let dir = Arc::clone(&self.dir);
        self.stop.cancel();
        self.watch.send_replace(true);
        let events = dir.path().join("events");
        drop(self);
        // The log is locked until its writer has ended.
        wait_for(|| crate::bus::Bus::open(BusConfig::new(&events)).is_ok()).await;
        dir
    }

    async fn act(&self, act: &str, id: &str) {
        let selection = KeySelection {
            globs: vec![id.into()],
            include_rejected: true,
            include_denied: false,
            include_accepted: act == "reject",
            dry_run: false,
        };
        match act {
            "accept" => self.keys.accept(selection).await.unwrap(),
            "delete" => self.keys.delete(selection).await.unwrap(),
            _ => self.keys.reject(selection).await.unwrap(),
        };
    }

    /// Returns the first event from the start whose tag matches.
    async fn event(&self, tag: &str) -> Map {
        let mut events = self.bus.subscribe(EventQuery { tags: vec![tag.into()], since: Since::Start, until: None });
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("the event comes").unwrap();
        event.map().unwrap()
    }

    /// Returns the tags of all events that are in the log now.
    async fn tags(&self) -> Vec<String> {
        let marker = proto::tag::Tag::parse("test/marker").unwrap();
        let until = self.bus.fire(marker, &Map::new()).await.unwrap();
        let mut events = self.bus.subscribe(EventQuery { tags: Vec::new(), since: Since::Start, until: None });
        let mut tags = Vec::new();
        while let Some(event) = events.next().await {
            tags.push(event.tag.as_str().to_owned());
            if event.offset >= until {
                break;
            }
        }
        tags
    }

    async fn count(&self, tag: &str) -> usize {
        self.tags().await.iter().filter(|found| *found == tag).count()
    }

    /// Returns a job that everybody can do.
    fn ping(&self, tgt: &str) -> PublishRequest {
        PublishRequest {
            target: TargetText { tgt: tgt.into(), tgt_type: "glob".into(), delimiter: None },
            fun: "test.ping".into(),
            arg: Vec::new(),
            ret: String::new(),
            jid: None,
            ttl: None,
            metadata: None,
            options: Map::new(),
        }
    }

    async fn publish(&self, tgt: &str) -> crate::command::Published {
        self.jobs.publish("root", self.ping(tgt)).await.unwrap()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn door(dir: &tempfile::TempDir, bus: &Bus, keys: &Keys, jobs: &Jobs, registry: &Registry) -> Door {
    let (reload, _) = mpsc::channel(1);
    Door::new(Rooms {
        acl: Acl { own_uid: 0 },
        bus: bus.clone(),
        cursors: Cursors::open(&dir.path().join("cursors.db"), bus.clone()).unwrap(),
        keys: keys.clone(),
        jobs: jobs.clone(),
        registry: registry.clone(),
        reactor: std::sync::OnceLock::new(),
        reload,
        about: About {
            id: "test".into(),
            confdir: String::new(),
            ret_addr: String::new(),
            publish_addr: String::new(),
            warnings: Arc::default(),
        },
    })
}

/// Who answers for files and pillar, as a configuration of nothing but a place makes it.
fn answers(dir: &tempfile::TempDir, jobs: &Jobs, door: &Door) -> Requests {
    let confdir = dir.path().join("conf");
    std::fs::create_dir_all(&confdir).unwrap();
    std::fs::write(
        confdir.join("master"),
        format!("root_dir: {}\npeer:\n  web.*: [test.ping]\n", dir.path().display()),
    )
    .unwrap();
    let config = crate::config::load(&confdir).unwrap().requests;
    Requests::new(config.clone(), crate::pillar::Pillars::new(config.pillar), jobs.clone(), door.clone())
}

fn config(dir: &std::path::Path, publish_port: u16) -> SaltConfig {
    SaltConfig {
        id: "test".into(),
        pki_dir: dir.join("pki"),
        cachedir: dir.to_owned(),
        keysize: 2048,
        key_pass: None,
        pub_sig: None,
        publish_port,
        key_life: Duration::from_secs(86_400),
        signing: Some(SigAlgo::Pkcs1v15Sha1),
        filtering: false,
        request_ttl: Duration::ZERO,
        rotate: true,
        look_every: Duration::from_secs(60),
        auth_events: true,
        revoke: false,
        opts: Map::new(),
    }
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes to pass");
}

/// A minion made of bare sockets.
struct Minion {
    id: MinionId,
    key: PrivateKey,
    asker: Asker,
    link: Link,
    credentials: Option<Credentials>,
    trust: Trust,
    nonces: u128,
}

/// How an answer to `_auth` came out.
#[derive(Debug, PartialEq, Eq)]
enum Auth {
    Accepted,
    Stands(Standing),
}

impl Minion {
    async fn connect(master: &Master, id: &str, which: usize) -> Minion {
        let (id, key) = (MinionId::parse(id).unwrap(), rsa(which));
        let (enc_algo, sig_algo) = (EncAlgo::OaepSha1, SigAlgo::Pkcs1v15Sha1);
        let asker = Asker { id: id.clone(), token: Token::new(&key), enc_algo, sig_algo };
        let link = connect(&master.requests, SocketType::Req).await;
        Minion {
            id,
            key,
            asker,
            link,
            credentials: None,
            trust: Trust::default(),
            nonces: u128::from(std::process::id()) << 64,
        }
    }

    async fn accepted(master: &Master, id: &str, which: usize) -> Minion {
        let mut minion = Minion::connect(master, id, which).await;
        assert_eq!(minion.auth().await, Auth::Stands(Standing::Pending));
        master.act("accept", id).await;
        assert_eq!(minion.auth().await, Auth::Accepted);
        minion
    }

    /// Sends a payload and returns what is answered; nothing if the connection is closed.
    async fn ask(&mut self, payload: Vec<u8>) -> Option<Bytes> {
        exchange(&mut self.link, payload).await
    }

    async fn auth(&mut self) -> Auth {
        let applicant = Applicant {
            id: &self.id,
            key: &self.key,
            enc_algo: EncAlgo::OaepSha1,
            sig_algo: SigAlgo::Pkcs1v15Sha1,
            autosign_grains: None,
            trust: &self.trust,
        };
        let (attempt, payload) = applicant.ask(*random(), random()).unwrap();
        let answer = exchange(&mut self.link, payload).await.expect("the master answers");
        match applicant.judge(&attempt, &answer).unwrap() {
            AuthAnswer::Accepted(credentials) => {
                self.credentials = Some(credentials.into_inner());
                Auth::Accepted
            }
            AuthAnswer::Standing { standing, .. } => Auth::Stands(standing),
        }
    }

    fn session(&self) -> &SessionKey {
        &self.credentials.as_ref().expect("it is accepted").session
    }

    fn seal(&mut self, load: Map) -> (Nonce, Vec<u8>) {
        self.nonces += 1;
        let nonce = Nonce::from_random(self.nonces.to_be_bytes());
        let fresh = Fresh { nonce, iv: *random(), unix_s: unix_s() };
        (nonce, self.asker.seal(self.session(), &fresh, load))
    }

    /// Asks under the session key and opens the reply.
    async fn request(&mut self, load: Map) -> Value {
        let (nonce, payload) = self.seal(load);
        let reply = self.ask(payload).await.expect("the master answers");
        open_reply(self.session(), &nonce, &reply).unwrap().into_inner()
    }
}

async fn connect(addr: &str, socket: SocketType) -> Link {
    let config = ConnectConfig::new(addr, socket, ConnectMechanism::Null);
    transport::connect(&config).await.unwrap().link
}

async fn exchange(link: &mut Link, payload: Vec<u8>) -> Option<Bytes> {
    link.sender().try_send(Bytes::from(payload)).unwrap();
    match tokio::time::timeout(PATIENCE, link.recv()).await.expect("the master answers, or closes") {
        Ok(Incoming::Message(frames)) => frames.last().cloned(),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}
