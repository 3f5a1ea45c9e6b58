//! What is measured, row by row. Each row starts a fresh server process of each engine.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use halite_transport::Incoming;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::client;

/// The engines compared.
const ENGINES: [&str; 3] = ["halite", "libzmq", "zeromq"];
/// Beside them, where each message costs two system calls: no engine at all, bytes sent back as they came.
const AND_PLAIN: [&str; 4] = ["halite", "libzmq", "zeromq", "plain"];
/// How often each row is measured; the median counts.
const REPEATS: usize = 3;
/// After this a measurement is given up; it is printed as NaN if most of its row was.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// Bytes of a publication, and of a request.
const PUBLICATION: usize = 1024;
const REQUEST: usize = 300;
/// How long servers are left alone before their memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// A server process.
struct Server {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    addr: SocketAddr,
}

impl Server {
    async fn start(engine: &str, kind: &str) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", engine, kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let addr = line.trim_start_matches("listening tcp://").parse().unwrap();
        Server { _child: child, stdin, lines, addr }
    }

    async fn tell(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap()
    }

    /// Returns the microseconds of a processor since the last time, and the bytes in memory.
    async fn usage(&mut self) -> (f64, f64) {
        self.tell("usage").await;
        let line = self.line().await;
        let mut numbers = line.split(' ').skip(1).map(|number| number.parse::<f64>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

/// Prints the rows whose name contains `wanted`.
pub(crate) async fn run(wanted: &str) {
    println!("{:34} {}", "", AND_PLAIN.map(|engine| format!("{engine:>10}")).join(" "));
    for peers in [100, 1_000, 10_000] {
        row(wanted, &format!("pub, {peers} peers, us/delivery"), async |engine| publish(engine, peers).await).await;
    }
    for peers in [1, 100, 1_000] {
        row(wanted, &format!("router, {peers} peers, us/message"), async |engine| ingest(engine, peers).await).await;
    }
    row_of(&AND_PLAIN, wanted, "echo, 1 peer, us/message", async |engine| echo(engine, 1).await).await;
    row_of(&AND_PLAIN, wanted, "echo, 100 peers, us/message", async |engine| echo(engine, 100).await).await;
    row_of(&AND_PLAIN, wanted, "echo, 1 peer, p50 us", async |engine| round_trip(engine).await).await;
    row(wanted, "handshakes, 5000 NULL, us each", async |engine| handshakes(engine).await.0).await;
    row(wanted, "idle, 5000 NULL, bytes each", async |engine| handshakes(engine).await.1).await;
    for mechanism in ["NULL", "CURVE"] {
        let ours = async |name: &str, what: &str| {
            if format!("{name} {mechanism}").contains(wanted) {
                let measured = match what {
                    "handshake" => ours_idle(mechanism).await.0,
                    "idle" => ours_idle(mechanism).await.1,
                    _ => ours_ingest(mechanism).await,
                };
                println!("{:34} {measured:>10.2}", format!("{name}, {mechanism}"));
            }
        };
        ours("ours: router, 100 peers, us/message", "ingest").await;
        ours("ours: handshakes, 5000, us each", "handshake").await;
        ours("ours: idle, 5000, bytes each", "idle").await;
    }
}

async fn row(wanted: &str, name: &str, measure: impl AsyncFn(&str) -> f64) {
    row_of(&ENGINES, wanted, name, measure).await;
}

async fn row_of(engines: &[&str], wanted: &str, name: &str, measure: impl AsyncFn(&str) -> f64) {
    if !name.contains(wanted) {
        return;
    }
    let mut cells = vec![Vec::new(); engines.len()];
    // Turn about, so that a busy minute of the machine falls on all of them.
    for _ in 0..REPEATS {
        for (engine, cell) in engines.iter().zip(&mut cells) {
            cell.push(tokio::time::timeout(GIVEN_UP, measure(engine)).await.unwrap_or(f64::NAN));
        }
    }
    let medians = cells.into_iter().map(|mut cell| {
        cell.sort_by(f64::total_cmp);
        format!("{:>10.2}", cell[REPEATS / 2])
    });
    println!("{name:34} {}", medians.collect::<Vec<_>>().join(" "));
}

/// Publishes in bursts that every subscriber has read before the next one begins: nothing is dropped by anyone.
async fn publish(engine: &str, peers: usize) -> f64 {
    let mut server = Server::start(engine, "pub").await;
    let _readers = client::subscribers(server.addr, peers).await;
    let frame = client::frame(PUBLICATION).len();
    // Nobody but ours says who has subscribed; one that is missed leaves the row without an end.
    client::pause(SETTLE * (1 + peers as u32 / 1_000)).await;
    let (bursts, burst) = if peers >= 10_000 { (5, 10) } else { (20, 100_000 / peers.max(200)) };
    let mut used = 0.0;
    // The first burst warms up.
    for number in 0..=bursts {
        server.tell(&format!("burst {burst} {PUBLICATION}")).await;
        client::read((burst * peers * frame) as u64).await;
        let (cpu, _) = server.usage().await;
        used += if number > 0 { cpu } else { 0.0 };
    }
    used / (bursts * burst * peers) as f64
}

/// Each peer writes its messages as fast as it can.
async fn ingest(engine: &str, peers: usize) -> f64 {
    let mut server = Server::start(engine, "router").await;
    let streams = client::peers(server.addr, "DEALER", peers).await;
    let (each, batch) = (400_000 / peers, 100.min(400_000 / peers));
    let bytes: Bytes = client::frame(REQUEST).repeat(batch).into();
    let messages = each / batch * batch * peers;
    server.usage().await;
    server.tell(&format!("wait {messages}")).await;
    let mut writers = JoinSet::new();
    for mut stream in streams {
        let bytes = bytes.clone();
        writers.spawn(async move {
            for _ in 0..each / batch {
                stream.write_all(&bytes).await.unwrap();
            }
            stream
        });
    }
    let _streams = writers.join_all().await;
    server.line().await;
    server.usage().await.0 / messages as f64
}

/// Each peer asks again when it has its answer.
async fn echo(engine: &str, peers: usize) -> f64 {
    let mut server = Server::start(engine, "echo").await;
    let streams = client::peers(server.addr, "DEALER", peers).await;
    let each = 20_000 / peers;
    server.usage().await;
    let mut askers = JoinSet::new();
    for mut stream in streams {
        askers.spawn(async move {
            let (question, mut answer) = (client::frame(REQUEST), client::frame(REQUEST));
            for _ in 0..each {
                stream.write_all(&question).await.unwrap();
                stream.read_exact(&mut answer).await.unwrap();
            }
            stream
        });
    }
    let _streams = askers.join_all().await;
    server.usage().await.0 / (each * peers) as f64
}

async fn round_trip(engine: &str) -> f64 {
    let server = Server::start(engine, "echo").await;
    let mut stream = client::peers(server.addr, "DEALER", 1).await.remove(0);
    let (question, mut answer) = (client::frame(REQUEST), client::frame(REQUEST));
    let mut times = Vec::new();
    for _ in 0..5_000 {
        let began = Instant::now();
        stream.write_all(&question).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        times.push(began.elapsed().as_nanos());
    }
    times.sort_unstable();
    times[times.len() / 2] as f64 / 1000.0
}

/// Returns what a handshake costs, and what a peer that then says nothing keeps in memory.
async fn handshakes(engine: &str) -> (f64, f64) {
    let mut server = Server::start(engine, "router").await;
    client::pause(SETTLE).await;
    let (_, before) = server.usage().await;
    let _streams = client::peers(server.addr, "DEALER", 5_000).await;
    client::pause(SETTLE).await;
    let (cpu, after) = server.usage().await;
    (cpu / 5_000.0, (after - before) / 5_000.0)
}

async fn ours_idle(mechanism: &str) -> (f64, f64) {
    let mut server = Server::start("halite", "router").await;
    client::pause(SETTLE).await;
    let (_, before) = server.usage().await;
    let _links = client::links(server.addr, mechanism, 5_000).await;
    client::pause(SETTLE).await;
    let (cpu, after) = server.usage().await;
    (cpu / 5_000.0, (after - before) / 5_000.0)
}

/// The same messages under both mechanisms, from peers that are ours.
async fn ours_ingest(mechanism: &str) -> f64 {
    let mut server = Server::start("halite", "router").await;
    let links = client::links(server.addr, mechanism, 100).await;
    let messages = 200_000;
    server.usage().await;
    server.tell(&format!("wait {messages}")).await;
    let mut writers = JoinSet::new();
    for mut link in links {
        writers.spawn(async move {
            let (sender, body) = (link.sender(), Bytes::from(vec![7; REQUEST]));
            let sending = async {
                for _ in 0..messages / 100 {
                    sender.send(body.clone()).await.unwrap();
                }
            };
            tokio::select! {
                () = sending => {}
                heard = link.recv() => unreachable!("{:?}", heard.map(|_: Incoming| ())),
            }
            link.flush(Duration::from_secs(60)).await.unwrap();
            link
        });
    }
    let _links = writers.join_all().await;
    server.line().await;
    server.usage().await.0 / messages as f64
}
