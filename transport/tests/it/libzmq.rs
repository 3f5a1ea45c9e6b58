//! Our sockets against libzmq's, in both directions. Needs `HALITE_PEERS`: a virtualenv that has pyzmq.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use halite_transport::{
    Backoff, ConnectConfig, ConnectMechanism, CurveKeyPair, Dealer, Established, Heartbeat, Incoming, Link, LinkClosed,
    LinkSender, LinkState, Listener, ListenerConfig, Mechanism, NullPolicy, SocketType, Subscriber, connect,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far longer than anything takes; a hung peer must not hang the tests.
const PATIENCE: Duration = Duration::from_secs(20);
const SERVER_SECRET: [u8; 32] = [1; 32];
const CLIENT_SECRET: [u8; 32] = [2; 32];
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/peers/zmq_peer.py");

/// Returns the interpreter, or says loudly why the test does nothing.
pub(crate) fn python(test: &str) -> Option<String> {
    let peers = std::env::var("HALITE_PEERS").ok();
    if peers.is_none() {
        // Past the capture of the test harness: a skipped test must not look like a passed one.
        let line = format!("skipped: {test}: HALITE_PEERS does not name a virtualenv with pyzmq\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    peers.map(|peers| format!("{peers}/bin/python"))
}

fn keys(secret: [u8; 32]) -> Arc<CurveKeyPair> {
    Arc::new(CurveKeyPair::from_secret(secret))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frames(parts: &[&'static str]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
}

fn joined(parts: &[&str]) -> String {
    parts.iter().map(|part| hex(part.as_bytes())).collect::<Vec<_>>().join(",")
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing in {PATIENCE:?}"))
}

/// A libzmq socket in a Python process.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Security {
    Curve,
    Null,
}

impl Peer {
    async fn start(python: &str, arguments: &[&str]) -> Peer {
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Peer { child, stdin, lines, port: 0 };
        let ready = peer.line().await;
        peer.port = ready.strip_prefix("ready ").unwrap().parse().unwrap();
        peer
    }

    /// Starts a client of our listener.
    async fn client(python: &str, kind: &str, port: u16, security: Security, more: &[&str]) -> Peer {
        let address = format!("127.0.0.1:{port}");
        let (server_key, secret) = (hex(&keys(SERVER_SECRET).public()), hex(&CLIENT_SECRET));
        let mut arguments = vec![kind, "connect", &address];
        if security == Security::Curve {
            arguments.extend(["--mechanism", "curve", "--server-key", &server_key, "--secret", &secret]);
        }
        arguments.extend(more);
        Peer::start(python, &arguments).await
    }

    /// Starts a server for our connector.
    async fn server(python: &str, kind: &str, port: u16, security: Security) -> Peer {
        let address = format!("127.0.0.1:{}", if port == 0 { "*".to_owned() } else { port.to_string() });
        let secret = hex(&SERVER_SECRET);
        let mut arguments = vec![kind, "bind", &address];
        if security == Security::Curve {
            arguments.extend(["--mechanism", "curve", "--secret", &secret]);
        }
        Peer::start(python, &arguments).await
    }

    async fn line(&mut self) -> String {
        soon("a line of the peer", self.lines.next_line()).await.unwrap().expect("the peer ended")
    }

    async fn tell(&mut self, word: &str, parts: &[&str]) {
        let line = format!("{word} {}\n", joined(parts));
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    async fn expect(&mut self, parts: &[&str]) {
        assert_eq!(self.line().await, format!("recv {}", joined(parts)));
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn listen(socket: SocketType, port: u16, heartbeat: Heartbeat) -> Listener {
    let config =
        ListenerConfig { null: NullPolicy::Allow, heartbeat, ..ListenerConfig::new(socket, Some(keys(SERVER_SECRET))) };
    Listener::bind(([127, 0, 0, 1], port).into(), config).unwrap()
}

fn connector(socket: SocketType, port: u16, security: Security) -> ConnectConfig {
    let mechanism = match security {
        Security::Curve => {
            ConnectMechanism::Curve { server_key: keys(SERVER_SECRET).public(), keys: keys(CLIENT_SECRET) }
        }
        Security::Null => ConnectMechanism::Null,
    };
    let mut config = ConnectConfig::new(format!("127.0.0.1:{port}"), socket, mechanism);
    config.identity = Bytes::from_static(b"ours");
    config
}

fn quick() -> Backoff {
    Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100) }
}

async fn accepted(listener: &mut Listener) -> Established {
    soon("a peer", listener.accept()).await
}

async fn message(link: &mut Link) -> Vec<Bytes> {
    match soon("a message", link.recv()).await {
        Ok(Incoming::Message(frames)) => frames,
        other => panic!("no message: {other:?}"),
    }
}

async fn subscribed(link: &mut Link) -> Bytes {
    match soon("a subscription", link.recv()).await {
        Ok(Incoming::Subscribe(topic)) => topic,
        other => panic!("no subscription: {other:?}"),
    }
}

fn proven(security: Security) -> Mechanism {
    match security {
        Security::Curve => Mechanism::Curve { key: keys(CLIENT_SECRET).public() },
        Security::Null => Mechanism::Null,
    }
}

#[tokio::test]
async fn dealers_and_reqs_talk_to_our_router_on_one_port() {
    let Some(python) = python("dealers_and_reqs_talk_to_our_router_on_one_port") else { return };
    let mut listener = listen(SocketType::Router, 0, Heartbeat::default());
    let port = listener.local_addr().port();
    for security in [Security::Curve, Security::Null] {
        let more = ["--identity", "web1", "--metadata", "X-minion:web1"];
        let mut peer = Peer::client(&python, "dealer", port, security, &more).await;
        let mut dealer = accepted(&mut listener).await;
        assert_eq!(dealer.info.mechanism, proven(security));
        assert_eq!((dealer.info.socket_type, &dealer.info.identity[..]), (SocketType::Dealer, &b"web1"[..]));
        assert_eq!(dealer.info.property("x-minion").map(|value| &value[..]), Some(&b"web1"[..]));
        peer.tell("send", &["question", "", "part"]).await;
        assert_eq!(message(&mut dealer.link).await, frames(&["question", "", "part"]));
        dealer.link.sender().try_send(frames(&["answer", "part"])).unwrap();
        dealer.link.flush(PATIENCE).await.unwrap();
        peer.expect(&["answer", "part"]).await;

        let mut peer = Peer::client(&python, "req", port, security, &[]).await;
        let mut req = accepted(&mut listener).await;
        for round in ["one", "two"] {
            peer.tell("send", &[round]).await;
            assert_eq!(message(&mut req.link).await, frames(&["", round]));
            req.link.sender().try_send(frames(&["", round])).unwrap();
            req.link.flush(PATIENCE).await.unwrap();
            peer.expect(&[round]).await;
        }
    }
}

#[tokio::test]
async fn subs_hear_our_pub() {
    let Some(python) = python("subs_hear_our_pub") else { return };
    let mut listener = listen(SocketType::Pub, 0, Heartbeat::default());
    let port = listener.local_addr().port();
    for security in [Security::Curve, Security::Null] {
        let mut peer = Peer::client(&python, "sub", port, security, &["--metadata", "X-minion:web1"]).await;
        let mut sub = accepted(&mut listener).await;
        assert_eq!(sub.info.mechanism, proven(security));
        assert_eq!(sub.info.property("X-minion").map(|value| &value[..]), Some(&b"web1"[..]));
        peer.tell("sub", &["m/web1"]).await;
        assert_eq!(subscribed(&mut sub.link).await, "m/web1");
        let published = transport::publish([sub.link.sender()], frames(&["m/web1", "load"]));
        assert_eq!(published.queued, 1);
        sub.link.flush(PATIENCE).await.unwrap();
        peer.expect(&["m/web1", "load"]).await;
        peer.tell("unsub", &["m/web1"]).await;
        let ended = soon("the end of the subscription", sub.link.recv()).await;
        assert_eq!(ended, Ok(Incoming::Unsubscribe(Bytes::from_static(b"m/web1"))));

        let mut xsub = Peer::client(&python, "xsub", port, security, &[]).await;
        let mut raw = accepted(&mut listener).await;
        xsub.tell("send", &["\u{1}all"]).await;
        assert_eq!(subscribed(&mut raw.link).await, "all");
    }
}

#[tokio::test]
async fn our_dealer_and_req_talk_to_libzmq() {
    let Some(python) = python("our_dealer_and_req_talk_to_libzmq") else { return };
    for security in [Security::Curve, Security::Null] {
        let mut router = Peer::server(&python, "router", 0, security).await;
        let mut dealer = connect(&connector(SocketType::Dealer, router.port, security)).await.unwrap().link;
        dealer.sender().try_send(frames(&["question", "part"])).unwrap();
        dealer.flush(PATIENCE).await.unwrap();
        router.expect(&["ours", "question", "part"]).await;
        router.tell("send", &["ours", "answer"]).await;
        assert_eq!(message(&mut dealer).await, frames(&["answer"]));
        drop(dealer);

        let mut rep = Peer::server(&python, "rep", 0, security).await;
        let mut req = connect(&connector(SocketType::Req, rep.port, security)).await.unwrap().link;
        req.sender().try_send(frames(&["", "question"])).unwrap();
        req.flush(PATIENCE).await.unwrap();
        rep.expect(&["question"]).await;
        rep.tell("send", &["answer"]).await;
        assert_eq!(message(&mut req).await, frames(&["", "answer"]));
    }
}

#[tokio::test]
async fn our_sub_hears_libzmq_and_a_wrong_server_key_is_noticed() {
    let Some(python) = python("our_sub_hears_libzmq_and_a_wrong_server_key_is_noticed") else { return };
    for security in [Security::Curve, Security::Null] {
        let mut publisher = Peer::server(&python, "pub", 0, security).await;
        let mut sub = connect(&connector(SocketType::Sub, publisher.port, security)).await.unwrap().link;
        sub.subscribe(b"news").unwrap();
        sub.flush(PATIENCE).await.unwrap();
        publisher.expect(&["\u{1}news"]).await;
        publisher.tell("send", &["other", "unheard"]).await;
        publisher.tell("send", &["news", "heard"]).await;
        assert_eq!(message(&mut sub).await, frames(&["news", "heard"]));
    }
    let router = Peer::server(&python, "router", 0, Security::Curve).await;
    let mut config = connector(SocketType::Dealer, router.port, Security::Curve);
    config.mechanism = ConnectMechanism::Curve { server_key: keys([9; 32]).public(), keys: keys(CLIENT_SECRET) };
    config.handshake_timeout = Duration::from_secs(2);
    assert!(soon("a refusal", connect(&config)).await.is_err());
}

/// A key that is only pending gets its READY all the same; acceptance is a message pushed later.
#[tokio::test]
async fn a_pending_libzmq_dealer_hears_when_it_is_accepted() {
    let Some(python) = python("a_pending_libzmq_dealer_hears_when_it_is_accepted") else { return };
    let mut listener = listen(SocketType::Router, 0, Heartbeat::default());
    let mut peer = Peer::client(&python, "dealer", listener.local_addr().port(), Security::Curve, &[]).await;
    let mut dealer = accepted(&mut listener).await;
    let sender = dealer.link.sender();
    // The first push goes out in the same breath as READY.
    sender.try_send(frames(&["pending"])).unwrap();
    let driver = tokio::spawn(async move { dealer.link.recv().await });
    peer.expect(&["pending"]).await;
    sender.try_send(frames(&["accepted"])).unwrap();
    peer.expect(&["accepted"]).await;
    peer.tell("send", &["thanks"]).await;
    let heard = soon("an answer", driver).await.unwrap();
    assert_eq!(heard, Ok(Incoming::Message(frames(&["thanks"]))));
}

#[tokio::test]
async fn heartbeats_of_both_sides_keep_a_quiet_link_alive() {
    let Some(python) = python("heartbeats_of_both_sides_keep_a_quiet_link_alive") else { return };
    let heartbeat = Heartbeat { interval: Duration::from_millis(100), timeout: Duration::from_secs(2) };
    let mut listener = listen(SocketType::Router, 0, heartbeat);
    let port = listener.local_addr().port();
    for security in [Security::Curve, Security::Null] {
        // One peer pings and closes if it is not answered; the other must answer our PINGs without any option.
        for more in [&["--heartbeat-ms", "100"][..], &[]] {
            let mut peer = Peer::client(&python, "dealer", port, security, more).await;
            let mut dealer = accepted(&mut listener).await;
            let sender = dealer.link.sender();
            let quiet = timeout(Duration::from_millis(2_500), dealer.link.recv()).await;
            assert!(quiet.is_err(), "{security:?} {more:?}: the link ended: {quiet:?}");
            assert!(sender.last_seen().elapsed() < heartbeat.timeout);
            sender.try_send(frames(&["still here"])).unwrap();
            dealer.link.flush(PATIENCE).await.unwrap();
            peer.expect(&["still here"]).await;
        }
    }
}

/// Drives a link from a task of its own from now on: a peer's PING waits for no test.
fn driven(mut link: Link) -> (LinkSender, JoinHandle<LinkClosed>) {
    let sender = link.sender();
    let task = tokio::spawn(async move {
        loop {
            if let Err(closed) = link.recv().await {
                return closed;
            }
        }
    });
    (sender, task)
}

/// What the crate `zeromq` answers with a disconnect: a Salt master's PING every few seconds. The long form is slow.
#[tokio::test]
async fn pings_of_libzmq_are_answered_for_as_long_as_they_come() {
    let Some(python) = python("pings_of_libzmq_are_answered_for_as_long_as_they_come") else { return };
    let (interval_ms, quiet) = if crate::alone::slow() { ("1000", 60) } else { ("50", 2) };
    let mut listener = listen(SocketType::Router, 0, Heartbeat::default());
    let mut publisher = listen(SocketType::Pub, 0, Heartbeat::default());
    let more = ["--heartbeat-ms", interval_ms];
    for security in [Security::Curve, Security::Null] {
        let mut dealer = Peer::client(&python, "dealer", listener.local_addr().port(), security, &more).await;
        let to_dealer = driven(accepted(&mut listener).await.link);
        let mut sub = Peer::client(&python, "sub", publisher.local_addr().port(), security, &more).await;
        sub.tell("sub", &["topic"]).await;
        let to_sub = driven(accepted(&mut publisher).await.link);
        let either = async {
            tokio::select! { ended = to_dealer.1 => ended, ended = to_sub.1 => ended }
        };
        let ended = timeout(Duration::from_secs(quiet), either).await;
        assert!(ended.is_err(), "{security:?}: {ended:?}");
        to_dealer.0.try_send(frames(&["still here"])).unwrap();
        to_sub.0.try_send(frames(&["topic", "news"])).unwrap();
        dealer.expect(&["still here"]).await;
        sub.expect(&["topic", "news"]).await;
    }
    let peers = (listener.stats().established(), publisher.stats().established());
    assert_eq!(peers, (2, 2), "nobody had to come back");
}

#[tokio::test]
async fn libzmq_returns_to_our_restarted_listeners() {
    let Some(python) = python("libzmq_returns_to_our_restarted_listeners") else { return };
    for security in [Security::Curve, Security::Null] {
        let mut router = listen(SocketType::Router, 0, Heartbeat::default());
        let mut publisher = listen(SocketType::Pub, 0, Heartbeat::default());
        let (router_port, pub_port) = (router.local_addr().port(), publisher.local_addr().port());
        let mut dealer = Peer::client(&python, "dealer", router_port, security, &[]).await;
        let mut sub = Peer::client(&python, "sub", pub_port, security, &[]).await;
        sub.tell("sub", &["topic"]).await;
        let first = (accepted(&mut router).await, accepted(&mut publisher).await);
        soon("closing", async {
            router.close().await;
            publisher.close().await;
        })
        .await;
        drop(first);

        let mut router = listen(SocketType::Router, router_port, Heartbeat::default());
        let mut publisher = listen(SocketType::Pub, pub_port, Heartbeat::default());
        let mut again = accepted(&mut router).await;
        again.link.sender().try_send(frames(&["welcome back"])).unwrap();
        again.link.flush(PATIENCE).await.unwrap();
        dealer.expect(&["welcome back"]).await;
        let mut again = accepted(&mut publisher).await;
        assert_eq!(subscribed(&mut again.link).await, "topic");
        again.link.sender().try_send(frames(&["topic", "news"])).unwrap();
        again.link.flush(PATIENCE).await.unwrap();
        sub.expect(&["topic", "news"]).await;
    }
}

#[tokio::test]
async fn our_wrappers_return_to_a_restarted_libzmq() {
    let Some(python) = python("our_wrappers_return_to_a_restarted_libzmq") else { return };
    for security in [Security::Curve, Security::Null] {
        let mut router = Peer::server(&python, "router", 0, security).await;
        let mut publisher = Peer::server(&python, "pub", 0, security).await;
        let (router_port, pub_port) = (router.port, publisher.port);
        let mut dealer = Dealer::spawn(connector(SocketType::Dealer, router_port, security), quick());
        let mut sub = Subscriber::spawn(connector(SocketType::Sub, pub_port, security), quick());
        sub.subscribe("topic").await.unwrap();
        publisher.expect(&["\u{1}topic"]).await;
        dealer.send(frames(&["first"])).await.unwrap();
        router.expect(&["ours", "first"]).await;
        router.stop().await;
        publisher.stop().await;
        soon("the loss", async { dealer.wait_for(LinkState::Down).await && sub.wait_for(LinkState::Down).await }).await;

        let mut router = Peer::server(&python, "router", router_port, security).await;
        let mut publisher = Peer::server(&python, "pub", pub_port, security).await;
        dealer.send(frames(&["second"])).await.unwrap();
        router.expect(&["ours", "second"]).await;
        router.tell("send", &["ours", "answer"]).await;
        assert_eq!(soon("an answer", dealer.recv()).await, Some(frames(&["answer"])));
        publisher.expect(&["\u{1}topic"]).await;
        publisher.tell("send", &["topic", "news"]).await;
        assert_eq!(soon("news", sub.recv()).await, Some(frames(&["topic", "news"])));
    }
}
