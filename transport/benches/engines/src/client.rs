//! The peers: plain TCP with NULL frames written by hand, so that they cost the same whoever serves. CURVE peers are ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halite_transport::{ConnectConfig, ConnectMechanism, CurveKeyPair, Link, SocketType, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::server::{SECRET, TOPIC};

/// Connections being made at the same time.
const AT_ONCE: usize = 64;

/// How often a counter is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// What the peers have read so far, in bytes.
pub(crate) static READ: AtomicU64 = AtomicU64::new(0);

/// Does nothing for a while.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Shakes hands as a NULL peer of this type.
async fn handshake(addr: SocketAddr, kind: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut greeting = [0u8; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await.unwrap();
    stream.read_exact(&mut greeting).await.unwrap();
    let mut ready = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    ready.push(kind.len() as u8);
    ready.extend_from_slice(kind.as_bytes());
    stream.write_all(&[&[4, ready.len() as u8][..], &ready].concat()).await.unwrap();
    let mut header = [0; 2];
    stream.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(header[1])];
    stream.read_exact(&mut body).await.unwrap();
    stream
}

/// Connects so many peers; nothing comes after their handshake.
pub(crate) async fn peers(addr: SocketAddr, kind: &'static str, count: usize) -> Vec<TcpStream> {
    let mut tasks = JoinSet::new();
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        if tasks.len() >= AT_ONCE {
            streams.push(tasks.join_next().await.unwrap().unwrap());
        }
        tasks.spawn(handshake(addr, kind));
    }
    while let Some(stream) = tasks.join_next().await {
        streams.push(stream.unwrap());
    }
    streams
}

/// Connects subscribers that count what they read.
pub(crate) async fn subscribers(addr: SocketAddr, count: usize) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for mut stream in peers(addr, "SUB", count).await {
        readers.spawn(async move {
            stream.write_all(&[&[0, 1 + TOPIC.len() as u8, 1][..], TOPIC].concat()).await.unwrap();
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                READ.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
    }
    readers
}

/// Waits until so many bytes have been read since the last time.
pub(crate) async fn read(bytes: u64) {
    while READ.load(Ordering::Relaxed) < bytes {
        pause(LOOK_EVERY).await;
    }
    READ.fetch_sub(bytes, Ordering::Relaxed);
}

/// Returns a NULL frame of this size.
pub(crate) fn frame(size: usize) -> Vec<u8> {
    let header = match u8::try_from(size) {
        Ok(short) => vec![0, short],
        Err(_) => [&[2][..], &(size as u64).to_be_bytes()].concat(),
    };
    [header, vec![7; size]].concat()
}

/// Connects peers with our own engine.
pub(crate) async fn links(addr: SocketAddr, mechanism: &str, count: usize) -> Vec<Link> {
    let server_key = CurveKeyPair::from_secret(SECRET).public();
    let mut tasks = JoinSet::new();
    let mut links = Vec::with_capacity(count);
    for number in 0..count {
        let mut secret = [2; 32];
        secret[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let mechanism = match mechanism {
            "CURVE" => ConnectMechanism::Curve { server_key, keys: Arc::new(CurveKeyPair::from_secret(secret)) },
            _ => ConnectMechanism::Null,
        };
        let config = ConnectConfig::new(addr.to_string(), SocketType::Dealer, mechanism);
        if tasks.len() >= AT_ONCE {
            links.push(tasks.join_next().await.unwrap().unwrap());
        }
        tasks.spawn(async move { connect(&config).await.unwrap().link });
    }
    while let Some(link) = tasks.join_next().await {
        links.push(link.unwrap());
    }
    links
}
