//! One established connection: a TCP stream and its ZMTP session, driven by the task that owns it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proto::zmtp::{Event, Session};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::budget::{Hold, ReadBudget};
use crate::ended::{FlushError, LinkClosed};
use crate::queue::{ConnId, LinkSender, QueueLimits, SendError, Shared, Wish};

/// Chunks given to one `writev`.
const WRITE_CHUNKS: usize = 64;
/// Bytes sealed ahead of the socket. More would only wait here instead of in the queue, where it is counted.
const WRITE_AHEAD: usize = 64 * 1024;
/// Queued messages from which `recv` writes before it hands out what it has already read.
const WRITE_EAGER: usize = 64;
/// Smallest read buffer: enough for most messages, and of a size that the allocator hands out and takes back without a
/// search. It exists only while something is being read.
const READ_MIN: usize = 1024;
/// Largest read step; a busy peer gets there in two. It is below what the read budget counts.
const READ_MAX: usize = 64 * 1024;
/// By how much a read step grows or shrinks.
const READ_FACTOR: usize = 8;
/// A rest of the last read up to this size stays where it is; beside it a whole step would be a larger buffer.
const REST_MAX: usize = 8 * 1024;

/// An incomplete message grows by so much in [`PROGRESS_WITHIN`], or ends, else its link does: a peer that sends a byte
/// now and then would keep what it has sent for ever. It is 270 bytes a second, less than any line that carries TCP at
/// all gives, and the pause is longer than what the heartbeat forgives.
const PROGRESS_BYTES: usize = 16 * 1024;
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);

/// How a link finds out that its peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// A PING is sent after this long without a byte from the peer. Default 15 s.
    pub interval: Duration,
    /// The link closes after this long without a byte from the peer. Default 45 s.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat { interval: Duration::from_secs(15), timeout: Duration::from_secs(45) }
    }
}

/// What a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message, frame by frame.
    Message(Vec<Bytes>),
    /// A subscription; only a PUB gets it.
    Subscribe(Bytes),
    /// The end of a subscription; only a PUB gets it.
    Unsubscribe(Bytes),
}

/// Whether the owner wants messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Active,
    Paused,
}

/// An established connection. Whoever owns it must stay in [`recv`](Self::recv) or [`recv_paused`](Self::recv_paused)
/// for anything to be written, pinged or noticed. Dropping it closes the connection.
pub struct Link {
    stream: TcpStream,
    session: Session,
    shared: Arc<Shared>,
    input: BytesMut,
    read_step: usize,
    heartbeat: Heartbeat,
    timer: Pin<Box<Sleep>>,
    heard: Instant,
    /// When the PING was sent that has no answer yet.
    pinged: Option<Instant>,
    /// Since when the incomplete message has not grown by [`PROGRESS_BYTES`], and how large it was then.
    progress: Option<(Instant, usize)>,
    hold: Option<Hold>,
    /// Senders wake the owner.
    listens: bool,
    reading: Reading,
    closed: Option<LinkClosed>,
}

impl Link {
    /// Wraps a session that is ready. `input` is what was read after the handshake.
    pub(crate) fn new(
        stream: TcpStream,
        session: Session,
        input: BytesMut,
        heartbeat: Heartbeat,
        queue: QueueLimits,
    ) -> Link {
        let now = Instant::now();
        Link {
            stream,
            session,
            shared: Shared::new(ConnId::next(), queue, now),
            input,
            read_step: READ_MIN,
            heartbeat,
            timer: Box::pin(sleep_until(now + heartbeat.interval.min(heartbeat.timeout))),
            heard: now,
            pinged: None,
            progress: None,
            hold: None,
            listens: false,
            reading: Reading::Active,
            closed: None,
        }
    }

    /// Counts this link's incomplete messages in a budget.
    pub(crate) fn share(&mut self, budget: Arc<ReadBudget>) {
        self.hold = Some(Hold::new(budget));
    }

    /// Bounds this peer's messages further than the listener does: what it may make us buffer before it has any rights.
    /// `usize::MAX` lifts that. A larger message ends the link.
    pub fn limit_messages(&mut self, bytes: usize) {
        self.session.limit_messages(bytes);
    }

    /// Changes how a dead peer is found out, from now on. Setting what it is already costs nothing.
    pub fn set_heartbeat(&mut self, heartbeat: Heartbeat) {
        if self.heartbeat != heartbeat {
            self.heartbeat = heartbeat;
            self.timer.as_mut().reset(Instant::now() + heartbeat.interval.min(heartbeat.timeout));
        }
    }

    /// Returns a handle for sending, closing and pinging.
    pub fn sender(&self) -> LinkSender {
        LinkSender::new(Arc::clone(&self.shared))
    }

    /// Returns the connection's number.
    pub fn conn(&self) -> ConnId {
        self.sender().conn()
    }

    /// Waits for the next message or subscription. Meanwhile writes what is queued, answers PINGs, sends its own, and
    /// notices a dead peer. Cancel-safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Incoming, LinkClosed> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Returns the next message or subscription that is here already, without waiting, reading or writing: what one read
    /// has brought can be handled as one batch, after the first of it came from [`recv`](Self::recv). `None` says to go
    /// back there; if the link has ended, `recv` says why. A batch is no longer than one read (64 KiB), or than one
    /// message.
    pub fn recv_ready(&mut self) -> Option<Incoming> {
        if self.closed.is_some() {
            return None;
        }
        match self.decode() {
            Ok(incoming) => incoming,
            Err(closed) => {
                self.end(closed);
                None
            }
        }
    }

    /// Does what [`recv`](Self::recv) does, except that it leaves the socket unread, so that the peer has to wait.
    /// Returns only when the link ends. Cancel-safe. While paused, silence is no sign of death, and the peer's PINGs
    /// are not answered: a pause longer than the peer's patience ends the link from its side.
    pub async fn recv_paused(&mut self) -> LinkClosed {
        std::future::poll_fn(|cx| self.poll_paused(cx)).await
    }

    /// Writes everything queued, also after [`LinkSender::close`]. Cancel-safe.
    pub async fn flush(&mut self, within: Duration) -> Result<(), FlushError> {
        if let Some(closed) = self.closed.clone().filter(|closed| *closed != LinkClosed::Local) {
            return Err(FlushError::Closed(closed));
        }
        match timeout(within, std::future::poll_fn(|cx| self.poll_flush(cx))).await {
            Ok(done) => done.map_err(FlushError::Closed),
            Err(_) => Err(FlushError::Deadline),
        }
    }

    /// Writes everything queued, then ends the connection so that the peer can still read it: half-closes, and waits
    /// for the peer to close. Used for a last answer.
    pub async fn finish(mut self, within: Duration) -> Result<(), FlushError> {
        self.shared.close();
        self.flush(within).await?;
        let closing = async {
            self.stream.shutdown().await?;
            let mut scrap = [0; 512];
            while self.stream.read(&mut scrap).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        // A peer that does not close in time has had its chance; dropping the stream ends it.
        let _ = timeout(within, closing).await;
        Ok(())
    }

    /// Subscribes to all topics with this prefix. Only for a SUB.
    pub fn subscribe(&self, topic: &[u8]) -> Result<(), SendError> {
        self.sender().try_send(subscription(1, topic))
    }

    /// Ends a subscription. Only for a SUB.
    pub fn unsubscribe(&self, topic: &[u8]) -> Result<(), SendError> {
        self.sender().try_send(subscription(0, topic))
    }

    /// The poll form of [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, LinkClosed>> {
        if let Some(closed) = &self.closed {
            return Poll::Ready(Err(closed.clone()));
        }
        // What is already decoded costs no I/O, so a busy peer would otherwise keep its task's thread to itself.
        let turn = ready!(poll_proceed(cx));
        self.resume();
        let next = ready!(self.poll_next(cx));
        turn.made_progress();
        match next {
            Ok(incoming) => {
                // What the owner sends while it is busy with this leaves with its next look here; to be woken for that
                // would only rouse another of the runtime's threads.
                if std::mem::take(&mut self.listens) {
                    self.shared.forget_waker();
                }
                Poll::Ready(Ok(incoming))
            }
            Err(closed) => Poll::Ready(Err(self.end(closed))),
        }
    }

    fn poll_paused(&mut self, cx: &mut Context<'_>) -> Poll<LinkClosed> {
        if let Some(closed) = &self.closed {
            return Poll::Ready(closed.clone());
        }
        self.reading = Reading::Paused;
        match self.poll_upkeep(cx) {
            Ok(()) => Poll::Pending,
            Err(closed) => Poll::Ready(self.end(closed)),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, LinkClosed>> {
        if self.shared.len() >= WRITE_EAGER {
            self.poll_upkeep(cx)?;
        }
        loop {
            if let Some(incoming) = self.decode()? {
                return Poll::Ready(Ok(incoming));
            }
            self.count_input();
            self.poll_upkeep(cx)?;
            if self.poll_fill(cx)?.is_pending() {
                self.check_patience()?;
                return Poll::Pending;
            }
        }
    }

    /// Returns the next message or subscription of what has been read.
    fn decode(&mut self) -> Result<Option<Incoming>, LinkClosed> {
        while !self.input.is_empty()
            && let Some(event) = self.session.handle(&mut self.input).map_err(LinkClosed::Protocol)?
        {
            let incoming = match event {
                Event::Message(frames) => Incoming::Message(frames),
                Event::Subscribe(topic) => Incoming::Subscribe(topic),
                Event::Unsubscribe(topic) => Incoming::Unsubscribe(topic),
                Event::Pong => {
                    self.answered();
                    continue;
                }
                Event::Ready(_) => continue,
            };
            self.progress = None;
            return Ok(Some(incoming));
        }
        Ok(None)
    }

    /// Everything but reading.
    fn poll_upkeep(&mut self, cx: &mut Context<'_>) -> Result<(), LinkClosed> {
        self.poll_heartbeat(cx);
        self.listens = true;
        match self.shared.poll_wish(cx) {
            Wish::Close => return Err(LinkClosed::Local),
            Wish::CrowdedOut => return Err(LinkClosed::CrowdedOut),
            Wish::Ping => self.ping(),
            Wish::Nothing => {}
        }
        self.poll_write(cx).map(|_| ())
    }

    /// Sends a PING each interval in which the peer was silent. Death is decided after the next look at the socket.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let ping_at = self.heard + self.heartbeat.interval;
            let mut next = ping_at;
            if now >= ping_at || self.reading == Reading::Paused {
                self.ping();
                next = now + self.heartbeat.interval;
            }
            let dead_at = self.heard + self.heartbeat.timeout;
            if dead_at > now {
                next = next.min(dead_at);
            }
            self.timer.as_mut().reset(next);
        }
    }

    /// Ends a link whose peer says nothing, or says a message so slowly that it is only kept. Asked whenever the socket
    /// has been read empty; there is no timer of its own, for a peer that brings no poll is silent.
    fn check_patience(&mut self) -> Result<(), LinkClosed> {
        let now = Instant::now();
        if now.duration_since(self.heard) >= self.heartbeat.timeout {
            return Err(LinkClosed::Silent);
        }
        let held = self.session.incomplete() + self.input.len();
        match self.progress {
            _ if held == 0 => self.progress = None,
            Some((since, before)) if held < before + PROGRESS_BYTES => {
                if now.duration_since(since) >= PROGRESS_WITHIN {
                    return Err(LinkClosed::Stalled);
                }
            }
            _ => self.progress = Some((now, held)),
        }
        Ok(())
    }

    /// Does nothing while the peer is not even reading what it already has.
    fn ping(&mut self) {
        if self.session.out_len() < WRITE_AHEAD {
            // A link's session is always ready; a closed one never gets here.
            let _ = self.session.ping();
            self.pinged.get_or_insert_with(Instant::now);
        }
    }

    /// Measures how long the answer to a PING took.
    fn answered(&mut self) {
        if let Some(pinged) = self.pinged.take() {
            self.shared.took(pinged.elapsed());
        }
    }

    /// Writes until the queue is empty (ready) or the socket is full (pending).
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, LinkClosed> {
        loop {
            self.refill();
            if self.session.out_len() == 0 {
                return Ok(Poll::Ready(()));
            }
            match Self::poll_write_out(&mut self.stream, &self.session, cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(written)) => self.session.advance_out(written),
                Poll::Ready(Err(error)) => return Err(LinkClosed::Io(error.kind())),
            }
        }
    }

    /// Writes once. A single chunk, such as one small message, spares the kernel the list.
    fn poll_write_out(stream: &mut TcpStream, session: &Session, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        if session.out_chunks() == 1 {
            let mut only = [IoSlice::new(&[])];
            session.fill_slices(&mut only);
            return stream.poll_write(cx, &only[0]);
        }
        let mut slices = [IoSlice::new(&[]); WRITE_CHUNKS];
        let filled = session.fill_slices(&mut slices);
        stream.poll_write_vectored(cx, &slices[..filled])
    }

    /// Moves messages from the queue into the session, sealing them, as far as the socket is likely to take them.
    fn refill(&mut self) {
        while self.shared.len() > 0
            && self.session.out_len() < WRITE_AHEAD
            && self.session.out_chunks() < WRITE_CHUNKS
            && let Some(message) = self.shared.pop()
        {
            // A link's session is always ready; a closed one never gets here.
            let _ = self.session.send(&message);
        }
    }

    /// Reads once. The buffer is let go as soon as there is nothing in it and nothing to read.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, LinkClosed> {
        if self.stream.poll_read_ready(cx).is_pending() {
            self.release();
            return Ok(Poll::Pending);
        }
        let rest = self.input.len();
        self.input.reserve(if rest < self.read_step.min(REST_MAX) { self.read_step - rest } else { self.read_step });
        let room = self.input.capacity() - self.input.len();
        let read = match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Pending => {
                self.release();
                return Ok(Poll::Pending);
            }
            Poll::Ready(Ok(0)) => return Err(LinkClosed::Peer),
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => return Err(LinkClosed::Io(error.kind())),
        };
        if read == room {
            self.read_step = (self.read_step * READ_FACTOR).min(READ_MAX);
        } else if read < self.read_step / 4 {
            self.read_step = (self.read_step / READ_FACTOR).max(READ_MIN);
        }
        self.heard = Instant::now();
        self.shared.saw_peer(self.heard);
        Ok(Poll::Ready(()))
    }

    /// Keeps the budget's account of what is incomplete here.
    fn count_input(&mut self) {
        let Some(hold) = &mut self.hold else { return };
        let buffered = if self.input.is_empty() { 0 } else { self.input.capacity() };
        hold.update(buffered + self.session.incomplete(), &self.shared);
    }

    fn release(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new();
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        match self.poll_write(cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(closed) => Poll::Ready(Err(self.end(closed))),
        }
    }

    /// After a pause the peer gets all the time again: it was we who did not read.
    fn resume(&mut self) {
        if self.reading == Reading::Paused {
            self.reading = Reading::Active;
            self.heard = Instant::now();
            self.progress = None;
        }
    }

    fn end(&mut self, closed: LinkClosed) -> LinkClosed {
        self.shared.close();
        self.closed = Some(closed.clone());
        closed
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.close();
        self.shared.clear();
    }
}

fn subscription(kind: u8, topic: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(1 + topic.len());
    body.put_u8(kind);
    body.put_slice(topic);
    body.freeze()
}
