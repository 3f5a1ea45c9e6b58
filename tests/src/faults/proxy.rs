//! A link that can be harmed: a TCP proxy between minions and their master. This kernel has no netem, and a proxy also does
//! what netem cannot: lose a connection that both ends believe to be alive.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How many chunks wait in one direction; beyond that the sender's own socket fills, as behind a slow link.
const CHUNKS: usize = 256;
/// The largest chunk.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long a peer that was lost on the way is kept waiting: longer than any peer of a test waits for a sign of life.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// What the way does with what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Resets every connection, and every new one.
    Cut,
    /// Forwards each chunk so much later.
    Delayed(Duration),
    /// Forwards nothing and says nothing: what was connected stays so, for ever unheard, and new connections lead nowhere.
    Lost,
    /// Forwards.
    Open,
    /// Forwards nothing for now; what was sent arrives once the way is open again.
    Stalled,
}

#[derive(Debug, Clone, Copy)]
struct State {
    way: Way,
    /// How often the way was lost: a connection that is older than the last time stays lost.
    losses: u64,
    target: SocketAddr,
}

/// One listening port and where it leads.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Opens a port on this address that leads to another one. Port 0 takes a free one.
    pub fn open(handle: &Handle, listen: SocketAddr, target: SocketAddr) -> io::Result<Proxy> {
        let listener = handle.block_on(TcpListener::bind(listen))?;
        let addr = listener.local_addr()?;
        let state = watch::Sender::new(State { way: Way::Open, losses: 0, target });
        let accepting = handle.spawn(accept(listener, state.subscribe()));
        Ok(Proxy { addr, state, accepting })
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Changes the way.
    pub fn set(&self, way: Way) {
        self.state.send_modify(|state| {
            state.losses += u64::from(way == Way::Lost && state.way != Way::Lost);
            state.way = way;
        });
    }

    /// Has new connections lead elsewhere.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = target);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Connections end with the sender of the state.
        self.accepting.abort();
    }
}

/// The two ports of a master, as one peer or several see them.
#[derive(Debug)]
pub struct Road {
    publish: Proxy,
    requests: Proxy,
}

impl Road {
    /// Opens a road to the ports of publications and requests of a master on this host.
    pub fn open(handle: &Handle, to: (u16, u16)) -> io::Result<Road> {
        let any = local(0);
        let (publish, requests) = (Proxy::open(handle, any, local(to.0))?, Proxy::open(handle, any, local(to.1))?);
        Ok(Road { publish, requests })
    }

    /// Returns its own ports, of publications and requests.
    pub fn ports(&self) -> (u16, u16) {
        (self.publish.port(), self.requests.port())
    }

    /// Changes the way of both.
    pub fn set(&self, way: Way) {
        self.publish.set(way);
        self.requests.set(way);
    }

    /// Has new connections lead to other ports.
    pub fn lead_to(&self, to: (u16, u16)) {
        self.publish.lead_to(local(to.0));
        self.requests.lead_to(local(to.1));
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>) {
    while let Ok((peer, _)) = listener.accept().await {
        tokio::spawn(serve(peer, state.clone()));
    }
}

/// Serves one connection until one side ends it, or the way does.
async fn serve(mut peer: TcpStream, mut state: watch::Receiver<State>) {
    let State { way, losses, target } = *state.borrow();
    match way {
        Way::Cut => return reset(&peer),
        Way::Lost => return swallow(&mut peer).await,
        Way::Delayed(_) | Way::Open | Way::Stalled => {}
    }
    let Ok(mut master) = TcpStream::connect(target).await else { return reset(&peer) };
    // A proxy that gathers bytes would be a fault of its own.
    let _ = (peer.set_nodelay(true), master.set_nodelay(true));
    let end = {
        let (from_peer, to_peer) = peer.split();
        let (from_master, to_master) = master.split();
        let (up, down) = (state.clone(), state.clone());
        tokio::select! {
            // First: nothing passes any more once the way is harmed.
            biased;
            end = harmed(&mut state, losses) => end,
            () = forward(from_peer, to_master, up) => End::Closed,
            () = forward(from_master, to_peer, down) => End::Closed,
        }
    };
    match end {
        End::Closed => {}
        End::Lost => {
            // Neither hears that the other has gone.
            tokio::join!(swallow(&mut peer), swallow(&mut master));
        }
        End::Reset => {
            reset(&peer);
            reset(&master);
        }
    }
}

/// How a connection ends.
enum End {
    Closed,
    Lost,
    Reset,
}

/// Waits until the way ends a connection that was made after so many losses.
async fn harmed(state: &mut watch::Receiver<State>, losses: u64) -> End {
    let harmed = state.wait_for(|state| state.way == Way::Cut || state.losses != losses).await;
    match harmed {
        Ok(state) if state.way == Way::Cut => End::Reset,
        Ok(_) => End::Lost,
        // The proxy is gone.
        Err(_) => End::Closed,
    }
}

/// Has the kernel say RST instead of FIN when this is closed.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Reads what comes and says nothing, until the other side gives up.
async fn swallow(stream: &mut TcpStream) {
    let mut scratch = vec![0; CHUNK_BYTES];
    let read = async { while matches!(stream.read(&mut scratch).await, Ok(read) if read > 0) {} };
    let _ = tokio::time::timeout(FORGOTTEN, read).await;
}

/// Forwards one direction as the way allows; ends after the end of the stream was passed on.
async fn forward(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>) {
    // What is under way, each with its time; an empty chunk is the end.
    let mut chunks: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let mut ended = false;
    let mut buffer = BytesMut::new();
    loop {
        let way = state.borrow_and_update().way;
        let due = chunks.front().map(|(due, _)| *due).filter(|_| way != Way::Stalled);
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = at(due) => {
                let Some((_, chunk)) = chunks.pop_front() else { continue };
                if chunk.is_empty() || to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            read = read(&mut from, &mut buffer), if !ended && chunks.len() < CHUNKS => {
                // As the way is now: it may have changed while nothing came.
                let late = if let Way::Delayed(late) = state.borrow().way { late } else { Duration::ZERO };
                ended = read.is_empty();
                chunks.push_back((Instant::now() + late, read));
            }
        }
    }
}

/// Waits for a moment, or for ever without one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Reads a chunk; an empty one is the end, however it came.
async fn read(from: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> Bytes {
    buffer.resize(CHUNK_BYTES, 0);
    let read = from.read(buffer).await.unwrap_or(0);
    buffer.split_to(read).freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy, both ends of one connection through it, and the listener that it leads to.
    async fn connected() -> (Proxy, TcpStream, TcpStream, TcpListener) {
        let listener = TcpListener::bind(local(0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let proxy = tokio::task::spawn_blocking(move || Proxy::open(&Handle::current(), local(0), target).unwrap());
        let proxy = proxy.await.unwrap();
        let near = TcpStream::connect(local(proxy.port())).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (proxy, near, far, listener)
    }

    async fn hears(stream: &mut TcpStream, within: Duration) -> Option<io::Result<usize>> {
        let mut byte = [0; 1];
        tokio::time::timeout(within, stream.read(&mut byte)).await.ok()
    }

    const SOON: Duration = Duration::from_secs(20);
    const A_WHILE: Duration = Duration::from_millis(200);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stalled_way_delivers_later_and_a_delayed_one_late() {
        let (proxy, mut near, mut far, _listener) = connected().await;
        proxy.set(Way::Stalled);
        near.write_all(b"a").await.unwrap();
        assert!(hears(&mut far, A_WHILE).await.is_none());
        proxy.set(Way::Open);
        assert!(matches!(hears(&mut far, SOON).await, Some(Ok(1))));
        proxy.set(Way::Delayed(A_WHILE));
        let began = Instant::now();
        near.write_all(b"b").await.unwrap();
        assert!(matches!(hears(&mut far, SOON).await, Some(Ok(1))));
        assert!(began.elapsed() >= A_WHILE);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_lost_stays_lost_and_neither_end_is_told() {
        let (proxy, mut near, mut far, _listener) = connected().await;
        proxy.set(Way::Lost);
        proxy.set(Way::Open);
        near.write_all(b"a").await.unwrap();
        assert!(hears(&mut far, A_WHILE).await.is_none());
        drop(near);
        assert!(hears(&mut far, A_WHILE).await.is_none(), "no FIN comes through");
        let again = TcpStream::connect(local(proxy.port())).await;
        assert!(again.is_ok(), "new connections work again");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cut_way_resets_both_ends() {
        let (proxy, mut near, mut far, _listener) = connected().await;
        proxy.set(Way::Cut);
        for stream in [&mut near, &mut far] {
            let heard = hears(stream, SOON).await.unwrap();
            assert!(heard.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
        }
    }
}
