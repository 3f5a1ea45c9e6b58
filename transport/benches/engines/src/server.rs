//! The measured side: one process per engine and kind of socket, told on standard input what to do.
//!
//! `burst N SIZE`: publish; `wait N`: until so many messages have come; `usage`: tells what it used since the last time.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use halite_transport::{
    CurveKeyPair, Incoming, Limits, LinkSender, Listener, ListenerConfig, NullPolicy, SocketType, publish,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// The server's secret key.
pub(crate) const SECRET: [u8; 32] = [1; 32];
/// The topic of all publications; it fills the first four bytes of each.
pub(crate) const TOPIC: &[u8] = b"news";

/// Messages that have come.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// How many are waited for; whoever sees that many says so. To look again and again would be on the engine's bill.
static WANTED: AtomicU64 = AtomicU64::new(u64::MAX);
static ALL_SEEN: Notify = Notify::const_new();

/// Counts messages that have come.
fn saw(count: u64) {
    let seen = SEEN.fetch_add(count, Ordering::SeqCst) + count;
    if seen >= WANTED.load(Ordering::SeqCst) {
        ALL_SEEN.notify_one();
    }
}

/// Waits until so many messages have come since the last time.
async fn seen(count: u64) {
    WANTED.store(count, Ordering::SeqCst);
    while SEEN.load(Ordering::SeqCst) < count {
        ALL_SEEN.notified().await;
    }
    WANTED.store(u64::MAX, Ordering::SeqCst);
    SEEN.fetch_sub(count, Ordering::SeqCst);
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

fn body(size: usize) -> Bytes {
    let mut body = vec![7; size];
    body[..TOPIC.len()].copy_from_slice(TOPIC);
    body.into()
}

/// Says the microseconds of a processor since the last time, and the bytes in memory now.
fn say_usage(last: &mut i64) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let now = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    say(&format!("usage {} {}", now - *last, rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024));
    *last = now;
}

/// Serves with one of the engines that use tokio.
pub(crate) async fn run(engine: &str, kind: &str) {
    let mut publisher: Box<dyn Publish> = match (engine, kind) {
        ("halite", _) => Box::new(halite(kind).await),
        ("plain", _) => Box::new(plain().await),
        (_, "pub") => {
            let mut socket = PubSocket::new();
            say(&format!("listening {}", socket.bind("tcp://127.0.0.1:0").await.unwrap()));
            Box::new(Theirs(Some(socket)))
        }
        _ => {
            let mut socket = RouterSocket::new();
            say(&format!("listening {}", socket.bind("tcp://127.0.0.1:0").await.unwrap()));
            tokio::spawn(their_router(socket, kind.to_owned()));
            Box::new(Theirs(None))
        }
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut last = 0;
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["burst", count, size] => publisher.publish(count.parse().unwrap(), body(size.parse().unwrap())).await,
            ["wait", count] => {
                seen(count.parse().unwrap()).await;
                say("done");
            }
            _ => say_usage(&mut last),
        }
    }
}

/// What can be told to publish.
trait Publish {
    fn publish(&mut self, count: usize, body: Bytes) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

struct Ours(Arc<Mutex<Vec<LinkSender>>>);

impl Publish for Ours {
    fn publish(&mut self, count: usize, body: Bytes) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            for _ in 0..count {
                let published = publish(&*self.0.lock().unwrap(), body.clone());
                assert!(published.full.is_empty() && published.closed.is_empty(), "{published:?}");
            }
        })
    }
}

struct Theirs(Option<PubSocket>);

impl Publish for Theirs {
    fn publish(&mut self, count: usize, body: Bytes) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            for _ in 0..count {
                self.0.as_mut().unwrap().send(ZmqMessage::from(body.clone())).await.unwrap();
            }
        })
    }
}

async fn halite(kind: &str) -> Ours {
    let socket = if kind == "pub" { SocketType::Pub } else { SocketType::Router };
    let keys = Arc::new(CurveKeyPair::from_secret(SECRET));
    let mut config = ListenerConfig { null: NullPolicy::Allow, ..ListenerConfig::new(socket, Some(keys)) };
    config.limits = Limits { max_message_null: 1 << 20, ..config.limits };
    // All peers come from one address at once here.
    config.handshakes.per_address = config.handshakes.total;
    let mut listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), config).unwrap();
    say(&format!("listening tcp://{}", listener.local_addr()));
    let senders = Arc::new(Mutex::new(Vec::new()));
    let (known, echo) = (Arc::clone(&senders), kind == "echo");
    tokio::spawn(async move {
        loop {
            let mut link = listener.accept().await.link;
            let known = Arc::clone(&known);
            tokio::spawn(async move {
                let sender = link.sender();
                while let Ok(mut incoming) = link.recv().await {
                    let mut messages = 0;
                    // All that one read has brought, as a session of the master takes it.
                    loop {
                        match incoming {
                            Incoming::Message(frames) if echo => sender.try_send(frames).unwrap(),
                            Incoming::Message(_) => messages += 1,
                            Incoming::Subscribe(_) => known.lock().unwrap().push(link.sender()),
                            Incoming::Unsubscribe(_) => {}
                        }
                        match link.recv_ready() {
                            Some(next) => incoming = next,
                            None => break,
                        }
                    }
                    saw(messages);
                }
            });
        }
    });
    Ours(senders)
}

/// Sends back what comes, on plain TCP: what the system calls cost without an engine. A handshake is its own answer.
async fn plain() -> Theirs {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&format!("listening tcp://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = vec![0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.unwrap();
                }
            });
        }
    });
    Theirs(None)
}

async fn their_router(mut socket: RouterSocket, kind: String) {
    loop {
        let message = socket.recv().await.unwrap();
        if kind == "echo" {
            socket.send(message).await.unwrap();
        } else {
            saw(1);
        }
    }
}

/// Serves with libzmq: one I/O thread, and this one.
pub(crate) fn libzmq(kind: &str) {
    let context = zmq::Context::new();
    let socket = context.socket(if kind == "pub" { zmq::PUB } else { zmq::ROUTER }).unwrap();
    socket.set_backlog(4096).unwrap();
    socket.set_linger(0).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    say(&format!("listening {}", socket.get_last_endpoint().unwrap().unwrap()));
    if kind == "echo" {
        std::thread::spawn(move || {
            loop {
                let message = socket.recv_multipart(0).unwrap();
                socket.send_multipart(message, 0).unwrap();
            }
        });
        return obey(|_| unreachable!("an echo is told nothing"));
    }
    obey(move |command| match command {
        ["burst", count, size] => {
            let body = body(size.parse().unwrap());
            for _ in 0..count.parse::<usize>().unwrap() {
                socket.send(&body[..], 0).unwrap();
            }
        }
        ["wait", count] => {
            let mut message = zmq::Message::new();
            for _ in 0..count.parse::<u64>().unwrap() {
                // The identity, then the message.
                socket.recv(&mut message, 0).unwrap();
                socket.recv(&mut message, 0).unwrap();
            }
            say("done");
        }
        other => panic!("{other:?}"),
    });
}

fn obey(act: impl Fn(&[&str])) {
    let mut last = 0;
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().split(' ').collect::<Vec<_>>()[..] {
            ["usage"] => say_usage(&mut last),
            ref command => act(command),
        }
    }
}
