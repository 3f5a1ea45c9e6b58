//! What the modules share: listeners, connectors, and bytes written by hand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use transport::{
    ConnectConfig, ConnectMechanism, CurveKeyPair, Established, Incoming, Link, LinkClosed, Listener, ListenerConfig,
    NullPolicy, SendError, SocketType, connect,
};

/// Far longer than anything takes; a hung peer must not hang the tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn keys(byte: u8) -> Arc<CurveKeyPair> {
    Arc::new(CurveKeyPair::from_secret([byte; 32]))
}

pub(crate) fn curve() -> ConnectMechanism {
    ConnectMechanism::Curve { server_key: keys(1).public(), keys: keys(2) }
}

pub(crate) fn config(socket: SocketType) -> ListenerConfig {
    ListenerConfig { null: NullPolicy::Allow, ..ListenerConfig::new(socket, Some(keys(1))) }
}

pub(crate) fn listen(config: ListenerConfig) -> Listener {
    Listener::bind(local(0), config).unwrap()
}

pub(crate) fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub(crate) fn to(listener: &Listener, socket: SocketType, mechanism: ConnectMechanism) -> ConnectConfig {
    ConnectConfig::new(listener.local_addr().to_string(), socket, mechanism)
}

pub(crate) fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it took too long")
}

/// Returns both ends of a new connection.
pub(crate) async fn pair(listener: &mut Listener, config: &ConnectConfig) -> (Established, Established) {
    let (client, server) = soon(async { tokio::join!(connect(config), listener.accept()) }).await;
    (client.unwrap(), server)
}

pub(crate) async fn message(link: &mut Link) -> Vec<Bytes> {
    match soon(link.recv()).await {
        Ok(Incoming::Message(frames)) => frames,
        other => panic!("no message: {other:?}"),
    }
}

/// Drives a link until it ends.
pub(crate) fn drive(mut link: Link) -> JoinHandle<(Vec<Incoming>, LinkClosed)> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            match link.recv().await {
                Ok(incoming) => seen.push(incoming),
                Err(closed) => return (seen, closed),
            }
        }
    })
}

/// Reads until the other side closes.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> io::Result<usize> {
    let mut scrap = Vec::new();
    soon(stream.read_to_end(&mut scrap)).await
}

/// The READY of a NULL DEALER.
pub(crate) const READY: &[u8] = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER";

/// Returns the 64 bytes of a connector.
pub(crate) fn greeting(mechanism: &str) -> Vec<u8> {
    let mut greeting = vec![0u8; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    greeting
}

/// Connects as a NULL DEALER by hand, with its whole handshake sent.
pub(crate) async fn raw_dealer(listener: &Listener) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    stream.write_all(&[&greeting("NULL"), READY].concat()).await.unwrap();
    stream
}

/// Connects as a NULL DEALER, and announces a message of 9 MiB.
pub(crate) async fn half_sent_message(listener: &Listener) -> TcpStream {
    let mut stream = raw_dealer(listener).await;
    let header = [&[2u8][..], &(9u64 << 20).to_be_bytes()].concat();
    stream.write_all(&header).await.unwrap();
    stream
}

/// What answers every message with itself, each peer from a task of its own.
pub(crate) struct Echo {
    full: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Echo {
    /// Returns how many peers were closed because they do not read.
    pub(crate) fn full(&self) -> usize {
        self.full.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves all peers of a listener.
pub(crate) fn echo(mut listener: Listener) -> Echo {
    let full = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&full);
    let task = tokio::spawn(async move {
        let mut peers = JoinSet::new();
        loop {
            let mut link = listener.accept().await.link;
            let full = Arc::clone(&counter);
            peers.spawn(async move {
                while let Ok(Incoming::Message(frames)) = link.recv().await {
                    if link.sender().try_send(frames) == Err(SendError::Full) {
                        full.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
    Echo { full, task }
}
