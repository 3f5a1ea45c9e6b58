//! A link against a Salt master that does what each test says, over loopback. The master is `proto::salt`'s other half.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use proto::map;
use proto::message::{Kind, SessionState};
use proto::salt::auth::{Acceptance, AuthRequest, PubSig, Standing};
use proto::salt::crypticle::{Crypticle, KEY_LEN, OneTimeKey, SessionKey, SharedKey};
use proto::salt::envelope::{BareReply, Envelope};
use proto::salt::request::{MinionRequest, Ttl};
use proto::salt::rsa::PrivateKey;
use proto::salt::{Verified, pillar, publish};
use proto::value::{Map, MapExt, Value};
use tokio::time::timeout;
use transport::{Incoming, LinkSender, Listener, ListenerConfig, NullPolicy, SocketType};
use zeroize::Zeroizing;

use super::super::*;
use super::Target;
use super::keys::{own, pin_path, pinned};
use crate::modules::AskError;

mod scenes;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const JID: &str = "20261120235232821625";

/// Waits for what must happen.
async fn must<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it happens in time")
}

/// Two keys of masters; making one takes a second.
fn master_key(which: usize) -> &'static PrivateKey {
    static KEYS: [OnceLock<PrivateKey>; 3] = [const { OnceLock::new() }; 3];
    KEYS[which].get_or_init(|| PrivateKey::generate(2048).unwrap())
}

/// A folder in which the minion's pair lies already.
fn folder() -> tempfile::TempDir {
    static PEM: OnceLock<Zeroizing<String>> = OnceLock::new();
    let pem = PEM.get_or_init(|| PrivateKey::generate(2048).unwrap().to_pem());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("minion.pem"), pem.as_bytes()).unwrap();
    folder
}

fn crypticle(seed: u8) -> Crypticle {
    Crypticle::from_random(Zeroizing::new([seed; KEY_LEN]))
}

/// A master: its listeners, and the numbers that its keys are made of.
struct Master {
    key: &'static PrivateKey,
    router: Listener,
    publisher: Listener,
    shared: u8,
    session: u8,
    pub_sig: Option<&'static PrivateKey>,
}

/// The minion's REQ, as the master has it.
struct Req {
    sender: LinkSender,
    incoming: mpsc::Receiver<Vec<Bytes>>,
}

impl Master {
    fn new() -> Master {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = |socket| {
            let mut config = ListenerConfig::new(socket, None);
            config.null = NullPolicy::Allow;
            Listener::bind(any, config).unwrap()
        };
        let (router, publisher) = (listener(SocketType::Router), listener(SocketType::Pub));
        Master { key: master_key(0), router, publisher, shared: 1, session: 101, pub_sig: None }
    }

    fn shared(&self) -> SharedKey {
        SharedKey(crypticle(self.shared))
    }

    fn session(&self) -> SessionKey {
        SessionKey(crypticle(self.session))
    }

    async fn req(&mut self) -> Req {
        let transport::Established { info, mut link } = must(self.router.accept()).await;
        assert_eq!(info.socket_type, SocketType::Req);
        let (to, incoming) = mpsc::channel(64);
        let sender = link.sender();
        tokio::spawn(async move {
            while let Ok(Incoming::Message(frames)) = link.recv().await {
                if to.send(frames).await.is_err() {
                    break;
                }
            }
            let _ = link.flush(PATIENCE).await;
        });
        Req { sender, incoming }
    }

    /// Takes a SUB; returns what publishes to it, and its topics.
    async fn sub(&mut self, topics: usize) -> (LinkSender, Vec<Bytes>) {
        let mut link = must(self.publisher.accept()).await.link;
        let sender = link.sender();
        let mut found = Vec::new();
        while found.len() < topics {
            match must(link.recv()).await.unwrap() {
                Incoming::Subscribe(topic) => found.push(topic),
                other => panic!("{other:?}"),
            }
        }
        tokio::spawn(async move { while link.recv().await.is_ok() {} });
        (sender, found)
    }

    fn answer_of(&self, request: &AuthRequest) -> Vec<u8> {
        let pub_sig =
            self.pub_sig.map(|key| Arc::new(PubSig::Signing(PrivateKey::from_pem(&key.to_pem(), None).unwrap())));
        let port = self.publisher.local_addr().port();
        Acceptance::new(self.key, port, &self.shared(), pub_sig).accept(self.key, request, &self.session()).unwrap()
    }

    /// Accepts the minion that asks next.
    async fn accept(&self, req: &mut Req) -> AuthRequest {
        let request = req.auth().await;
        req.send(self.answer_of(&request));
        request
    }

    /// Takes a minion to where it takes jobs, its pillar answered.
    async fn open(&mut self) -> (Req, LinkSender) {
        let mut req = self.req().await;
        self.accept(&mut req).await;
        let (sub, _) = self.sub(1).await;
        (req, sub)
    }

    fn publication(&self, serial: u64, load: Map) -> Bytes {
        publish::seal(&self.shared(), [serial as u8; 16], load, serial, None).into()
    }
}

impl Req {
    async fn payload(&mut self) -> Bytes {
        let frames = must(self.incoming.recv()).await.expect("a request");
        let [empty, payload] = &frames[..] else { panic!("a delimiter and a payload, not {frames:?}") };
        assert!(empty.is_empty());
        payload.clone()
    }

    async fn auth(&mut self) -> AuthRequest {
        let payload = self.payload().await;
        let Ok(Envelope::Clear(load)) = Envelope::decode(&payload) else { panic!("an _auth") };
        AuthRequest::decode(&load).unwrap()
    }

    /// Opens the next request, as the master does.
    async fn request(&mut self, master: &Master, minion: &Minion) -> Verified<MinionRequest> {
        let payload = self.payload().await;
        let Ok(Envelope::Aes(sealed)) = Envelope::decode(&payload) else { panic!("a sealed request") };
        let key = own(minion.folder.path(), 2048).unwrap();
        sealed.open(&master.session(), key.public(), Ttl::Off).unwrap()
    }

    fn send(&self, payload: impl Into<Bytes>) {
        self.sender.try_send([Bytes::new(), payload.into()]).unwrap();
    }

    fn reply(&self, master: &Master, request: &Verified<MinionRequest>, value: impl Into<Value>) {
        self.send(request.reply(&master.session(), [9; 16], &value.into()));
    }
}

struct Minion {
    link: Link,
    jobs: mpsc::Receiver<Publish>,
    folder: tempfile::TempDir,
    target: Target,
}

fn target(master: &Master, folder: &std::path::Path) -> Target {
    let seconds = Duration::from_secs;
    Target {
        id: MinionId::parse("m1").unwrap(),
        host: "127.0.0.1".into(),
        request_port: master.router.local_addr().port(),
        publish_port: None,
        pki_dir: folder.to_owned(),
        key_bits: 2048,
        enc_algo: proto::salt::rsa::EncAlgo::OaepSha1,
        sig_algo: proto::salt::rsa::SigAlgo::Pkcs1v15Sha1,
        finger: None,
        sign_key: None,
        signed_publications: false,
        filtering: false,
        patience: super::Patience {
            acceptance: Duration::from_millis(20),
            acceptance_max: Duration::ZERO,
            auth: seconds(15),
            request: seconds(15),
            tries: 3,
        },
        ping: None,
        heartbeat: transport::Heartbeat::default(),
    }
}

fn minion(master: &Master) -> Minion {
    let folder = folder();
    let target = target(master, folder.path());
    minion_with(folder, target, Kind::Daemon)
}

fn minion_with(folder: tempfile::TempDir, target: Target, kind: Kind) -> Minion {
    let pace = Pace { first: Duration::from_millis(10), max: Duration::from_millis(50) };
    let parts = Parts {
        kind,
        grains: Some(map! { "os" => "Debian" }),
        autosign_grains: None,
        pace,
        first_delay: Duration::ZERO,
        jids: None,
        keeper: Keeper::in_memory([5; 16]),
    };
    let (link, jobs, _task) = Link::spawn_salt(target.clone(), parts).unwrap();
    Minion { link, jobs, folder, target }
}

impl Minion {
    async fn until(&self, wanted: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
        must(self.link.status().wait_for(wanted)).await.unwrap().clone()
    }

    async fn up(&self, session: u64) {
        self.until(|status| *status == LinkStatus::Up { session }).await;
    }

    /// Waits until the link is down for a reason that says this.
    async fn down(&self, part: &str) {
        let says = |status: &LinkStatus| matches!(status, LinkStatus::Down { why: Some(why) } if why.contains(part));
        self.until(says).await;
    }

    /// Sends an event as functions do, and waits for its acknowledgement beside the test.
    fn send(&self, tag: &'static str) -> JoinHandle<Result<(), SendError>> {
        let sink = self.link.events(MinionId::parse("m1").unwrap(), Some(LocalBus::default()));
        tokio::task::spawn_blocking(move || sink.send(tag, map! { "n" => 1 }, PATIENCE))
    }

    fn ask(&self, cmd: &'static str, fields: Map) -> JoinHandle<Result<Value, AskError>> {
        let master = self.link.master();
        tokio::task::spawn_blocking(move || master.ask(cmd, fields, PATIENCE))
    }
}

/// Returns the tags of a load of events.
fn tags(request: &Verified<MinionRequest>) -> Vec<String> {
    let load = &request.get().load;
    assert_eq!(load.text("cmd"), Some("_minion_event"));
    let events = load.at("events").and_then(Value::as_list).expect("events");
    events.iter().filter_map(|event| Some(event.as_map()?.text("tag")?.to_owned())).collect()
}

fn job(jid: &str, tgt: &str) -> Map {
    map! {
        "jid" => jid, "fun" => "test.ping", "arg" => Value::List(vec![]), "tgt" => tgt, "tgt_type" => "glob", "ret" => "",
        "user" => "root",
    }
}
