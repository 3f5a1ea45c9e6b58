//! What other engines were seen to fall into, as black boxes: a churn of subscribers, a subscriber that stalls, a process
//! without file descriptors. (A frame of a tebibyte and a requester that never reads: `hostile`; PINGs: `libzmq`.)

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, timeout};
use transport::{ConnectMechanism, Incoming, LinkSender, Listener, SendError, SocketType, connect, publish};

use crate::alone::{is_alone, resident, slow, spawn};
use crate::common::{config, echo, greeting, listen, message, pair, soon, text, to};
use crate::libzmq::python;

const CHURN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/peers/zmq_churn.py");
/// How often the churn's publisher publishes.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);
/// How much the memory of a process may grow while a subscriber stalls.
const MAX_GROWTH: u64 = 32 * 1024 * 1024;

/// Takes every peer of a PUB listener, and drives it. The senders are those who have subscribed.
fn collect(mut listener: Listener) -> (Arc<Mutex<Vec<LinkSender>>>, JoinHandle<()>) {
    let senders = Arc::new(Mutex::new(Vec::new()));
    let known = Arc::clone(&senders);
    let task = tokio::spawn(async move {
        let mut peers = JoinSet::new();
        loop {
            let mut link = listener.accept().await.link;
            let known = Arc::clone(&known);
            peers.spawn(async move {
                while let Ok(incoming) = link.recv().await {
                    if matches!(incoming, Incoming::Subscribe(_)) {
                        known.lock().unwrap().push(link.sender());
                    }
                }
            });
            while peers.try_join_next().is_some() {}
        }
    });
    (senders, task)
}

/// Waves of well-behaved subscribers, while a publisher publishes all the time. Nobody may miss out, nothing may hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churning_subscribers_hang_nothing() {
    let Some(python) = python("churning_subscribers_hang_nothing") else { return };
    let waves = if slow() { 160 } else { 3 };
    let listener = listen(config(SocketType::Pub));
    let (addr, stats) = (listener.local_addr(), listener.stats());
    let (senders, collecting) = collect(listener);
    let mut churn = Command::new(python)
        .args([CHURN, &addr.to_string(), &waves.to_string(), "250"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut pace = interval(PUBLISH_EVERY);
    let status = loop {
        tokio::select! {
            status = churn.wait() => break status.unwrap(),
            _ = pace.tick() => {
                let mut senders = senders.lock().unwrap();
                senders.retain(|sender| !sender.is_closed());
                let published = publish(&*senders, [text("topic"), Bytes::from(vec![7; 1024])]);
                assert!(published.full.is_empty(), "nobody reads slowly here");
            }
        }
    };
    assert!(status.success(), "a subscriber heard nothing");
    assert_eq!(stats.established(), waves * 250);
    soon(async {
        while senders.lock().unwrap().iter().any(|sender| !sender.is_closed()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    collecting.abort();
}

#[tokio::test]
async fn a_stalled_subscriber_costs_a_bounded_queue() {
    if is_alone() {
        return stall().await;
    }
    let child = spawn("holes::a_stalled_subscriber_costs_a_bounded_queue");
    let output = child.wait_with_output().await.unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success());
}

async fn stall() {
    let messages = if slow() { 800_000u32 } else { 30_000 };
    let mut listener = listen(config(SocketType::Pub));
    // Two subscribers by hand that never read, beside one that does.
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        let ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB\x00\x01\x01";
        stream.write_all(&[&greeting("NULL"), &ready[..]].concat()).await.unwrap();
        let mut link = soon(listener.accept()).await.link;
        let sender = link.sender();
        let task = tokio::spawn(async move { while link.recv().await.is_ok() {} });
        stalled.push((stream, sender, task));
    }
    let wanted = to(&listener, SocketType::Sub, ConnectMechanism::Null);
    let (client, mut server) = pair(&mut listener, &wanted).await;
    let healthy = server.link.sender();
    tokio::spawn(async move { while server.link.recv().await.is_ok() {} });
    let reading = tokio::spawn(read_all(client.link, messages));
    let before = resident();
    let mut full = 0u32;
    for number in 0..messages {
        let mut body = vec![7; 1024];
        body[..4].copy_from_slice(&number.to_be_bytes());
        let message = transport::Multipart::from(Bytes::from(body));
        healthy.send(message.clone()).await.unwrap();
        for (_, sender, _) in &stalled {
            full += u32::from(sender.try_send(message.clone()) == Err(SendError::Full));
        }
    }
    soon(reading).await.unwrap();
    let growth = resident().saturating_sub(before);
    println!("{messages} messages, {full} not queued for the stalled ones, {growth} bytes more in memory");
    assert!(full > messages, "they took almost nothing");
    assert!(growth <= MAX_GROWTH, "{growth} bytes more for {messages} messages");
}

/// Reads until the last message has come, each in its turn.
async fn read_all(mut link: transport::Link, messages: u32) {
    for number in 0..messages {
        assert_eq!(message(&mut link).await[0][..4], number.to_be_bytes());
    }
}

/// Without a file descriptor left, the listener waits instead of spinning; those who are there are served, and when
/// there are descriptors again the next peer is let in.
#[tokio::test]
async fn at_the_limit_of_open_files_nothing_spins() {
    if is_alone() {
        return exhausted().await;
    }
    let mut child = spawn("holes::at_the_limit_of_open_files_nothing_spins");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async |word: &str| {
        // The test harness prints lines of its own.
        while let Some(line) = soon(lines.next_line()).await.unwrap() {
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
        panic!("the child ended before it said {word:?}");
    };
    let addr = line("listening on").await;
    let dealer = transport::ConnectConfig::new(addr.clone(), SocketType::Dealer, ConnectMechanism::Null);
    let mut early = connect(&dealer).await.unwrap();
    let mut greedy = Vec::new();
    for _ in 0..40 {
        greedy.push(TcpStream::connect(&addr).await.unwrap());
    }
    line("paused").await;
    early.link.sender().try_send(text("still served")).unwrap();
    assert_eq!(message(&mut early.link).await, ["still served"]);
    drop(greedy);
    let mut late = soon(connect(&dealer)).await.unwrap();
    late.link.sender().try_send(text("let in")).unwrap();
    assert_eq!(message(&mut late.link).await, ["let in"]);
    child.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    assert!(soon(child.wait()).await.unwrap().success());
}

async fn exhausted() {
    let listener = listen(config(SocketType::Router));
    let (addr, stats) = (listener.local_addr(), listener.stats());
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, open + 10, hard).unwrap();
    let _serving = echo(listener);
    println!("listening on {addr}");
    let failures = async |at_least: u64| {
        soon(async {
            while stats.fd_limit() < at_least {
                let _ = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
            }
        })
        .await;
    };
    failures(1).await;
    let (began, cpu) = (Instant::now(), cpu_ms());
    failures(5).await;
    // 50, 100, 200, 400 ms: a loop that spins is there in microseconds, and a busy machine only makes it longer.
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    assert!(cpu_ms() - cpu < 500, "{} ms of a processor while waiting", cpu_ms() - cpu);
    println!("paused");
    let mut end = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut end)).await.unwrap().unwrap();
}

/// Returns what this process has used of a processor.
fn cpu_ms() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()
}
