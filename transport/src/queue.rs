//! The queue between everyone who sends to a link and the task that drives it. Each link has its own lock; the lock is
//! held for a push or a pop, never while anything is sealed or written.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use proto::zmtp::Multipart;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Default for [`QueueLimits::messages`]: libzmq's high-water mark.
const DEFAULT_QUEUE_MESSAGES: usize = 1_000;
/// Default for [`QueueLimits::bytes`]: some seconds of a slow line.
const DEFAULT_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Capacity a drained queue keeps: an idle link shall cost next to nothing.
const IDLE_CAPACITY: usize = 8;

/// The number of a connection: unique in this process, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    pub(crate) fn next() -> ConnId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ConnId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What may wait for one peer. A message larger than `bytes` still goes into an empty queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most messages. Default 1,000.
    pub messages: usize,
    /// Most bytes, with 32 bytes of overhead per frame. Default 8 MiB.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        QueueLimits { messages: DEFAULT_QUEUE_MESSAGES, bytes: DEFAULT_QUEUE_BYTES }
    }
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
    /// The peer reads too slowly.
    #[error("the link's queue is full")]
    Full,
}

/// What the owner of the link is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The link is to be closed.
    Close,
    /// The link is to be closed, since its incomplete message takes too much memory.
    CrowdedOut,
    /// Nothing.
    Nothing,
    /// A PING is to be sent now.
    Ping,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Multipart>,
    cost: usize,
    /// Somebody found no room since the last message left.
    wanted: bool,
    closed: bool,
    crowded_out: bool,
    ping: bool,
    waker: Option<Waker>,
}

/// What a [`Link`](crate::Link) and its senders share.
pub(crate) struct Shared {
    conn: ConnId,
    limits: QueueLimits,
    queue: Mutex<Queue>,
    /// Length of the queue, so that the owner can look without the lock.
    len: AtomicUsize,
    /// Signalled when something leaves a queue that had no room, and when it is closed.
    space: Notify,
    born: Instant,
    /// Microseconds from `born` to the last byte from the peer.
    seen_us: AtomicU64,
    /// Microseconds that the last PING and its answer took; [`UNMEASURED`] before the first.
    trip_us: AtomicU64,
}

/// No PING was answered yet.
const UNMEASURED: u64 = u64::MAX;

impl Shared {
    pub(crate) fn new(conn: ConnId, limits: QueueLimits, now: Instant) -> Arc<Shared> {
        Arc::new(Shared {
            conn,
            limits,
            queue: Mutex::default(),
            len: AtomicUsize::new(0),
            space: Notify::new(),
            born: now,
            seen_us: AtomicU64::new(0),
            trip_us: AtomicU64::new(UNMEASURED),
        })
    }

    /// A panic while the lock is held cannot leave the queue half-changed, so poison means nothing here.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn saw_peer(&self, now: Instant) {
        let since = u64::try_from(now.duration_since(self.born).as_micros()).unwrap_or(u64::MAX);
        self.seen_us.store(since, Ordering::Relaxed);
    }

    pub(crate) fn took(&self, trip: Duration) {
        let micros = u64::try_from(trip.as_micros()).unwrap_or(UNMEASURED);
        self.trip_us.store(micros, Ordering::Relaxed);
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&self) -> Option<Multipart> {
        let mut queue = self.lock();
        let message = queue.messages.pop_front()?;
        queue.cost -= message.cost();
        if queue.messages.is_empty() {
            queue.messages.shrink_to(IDLE_CAPACITY);
        }
        self.len.store(queue.messages.len(), Ordering::Relaxed);
        let wanted = std::mem::take(&mut queue.wanted);
        drop(queue);
        if wanted {
            self.space.notify_waiters();
        }
        Some(message)
    }

    /// Registers the owner for the next change, and returns what it is asked to do.
    pub(crate) fn poll_wish(&self, cx: &Context<'_>) -> Wish {
        let mut queue = self.lock();
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        let ping = std::mem::take(&mut queue.ping);
        match (queue.crowded_out, queue.closed, ping) {
            (true, ..) => Wish::CrowdedOut,
            (false, true, _) => Wish::Close,
            (false, false, true) => Wish::Ping,
            (false, false, false) => Wish::Nothing,
        }
    }

    /// Wakes the owner no more, until it registers again.
    pub(crate) fn forget_waker(&self) {
        let waker = self.lock().waker.take();
        drop(waker);
    }

    /// Refuses all further messages. What is queued stays, for a last flush.
    pub(crate) fn close(&self) {
        self.change(|queue| queue.closed = true);
        self.space.notify_waiters();
    }

    /// Closes the link for what it keeps in memory.
    pub(crate) fn crowd_out(&self) {
        self.change(|queue| (queue.closed, queue.crowded_out) = (true, true));
        self.space.notify_waiters();
    }

    /// Empties a closed queue.
    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut self.lock().messages);
        self.len.store(0, Ordering::Relaxed);
        drop(dropped);
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.lock();
        change(&mut queue);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn push(&self, message: &Multipart) -> Result<(), SendError> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        let waiting = queue.messages.len();
        if waiting >= self.limits.messages || waiting > 0 && queue.cost + message.cost() > self.limits.bytes {
            queue.wanted = true;
            return Err(SendError::Full);
        }
        queue.cost += message.cost();
        queue.messages.push_back(message.clone());
        self.len.store(waiting + 1, Ordering::Relaxed);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

/// The handle of a link: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct LinkSender {
    shared: Arc<Shared>,
}

impl LinkSender {
    pub(crate) fn new(shared: Arc<Shared>) -> LinkSender {
        LinkSender { shared }
    }

    /// Queues a message, or says at once why not.
    pub fn try_send(&self, message: impl Into<Multipart>) -> Result<(), SendError> {
        self.shared.push(&message.into())
    }

    /// Queues a message that others get too.
    pub(crate) fn try_share(&self, message: &Multipart) -> Result<(), SendError> {
        self.shared.push(message)
    }

    /// Queues a message, and waits while the queue is full. Never call it from the task that drives the same link:
    /// nothing would make room.
    pub async fn send(&self, message: impl Into<Multipart>) -> Result<(), SendError> {
        let message = message.into();
        loop {
            let space = self.shared.space.notified();
            match self.shared.push(&message) {
                Err(SendError::Full) => space.await,
                done => return done,
            }
        }
    }

    /// Closes the link: its owner's `recv` returns [`LinkClosed::Local`](crate::LinkClosed::Local). What is queued is
    /// lost, unless the owner flushes it then.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Asks for a PING now. Any answer shows in [`last_seen`](Self::last_seen).
    pub fn ping(&self) {
        self.shared.change(|queue| queue.ping = true);
    }

    /// Returns when the last byte came from the peer (or when the link began).
    pub fn last_seen(&self) -> Instant {
        self.shared.born + Duration::from_micros(self.shared.seen_us.load(Ordering::Relaxed))
    }

    /// Returns how long the last PING and its answer took; none before the first answer.
    pub fn round_trip(&self) -> Option<Duration> {
        let micros = self.shared.trip_us.load(Ordering::Relaxed);
        (micros != UNMEASURED).then(|| Duration::from_micros(micros))
    }

    /// Returns the connection's number.
    pub fn conn(&self) -> ConnId {
        self.shared.conn
    }

    /// Returns how many messages wait. Those already sealed for the socket are not counted.
    pub fn queued(&self) -> usize {
        self.shared.len()
    }

    /// Tells whether messages are refused for good.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkSender({})", self.shared.conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn sender(messages: usize, bytes: usize) -> LinkSender {
        LinkSender::new(Shared::new(ConnId::next(), QueueLimits { messages, bytes }, Instant::now()))
    }

    fn message(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    #[test]
    fn queue_is_bounded_by_messages_and_by_bytes() {
        let few = sender(2, 1_000_000);
        assert_eq!(few.try_send(message(1)), Ok(()));
        assert_eq!(few.try_send(message(1)), Ok(()));
        assert_eq!(few.try_send(message(1)), Err(SendError::Full));
        assert_eq!(few.queued(), 2);

        let small = sender(100, 100);
        assert_eq!(small.try_send(message(500)), Ok(()), "a large message goes into an empty queue");
        assert_eq!(small.try_send(message(1)), Err(SendError::Full));
        small.shared.pop();
        assert_eq!(small.try_send(message(1)), Ok(()));
    }

    #[test]
    fn closed_queue_refuses_but_keeps_what_it_has() {
        let sender = sender(2, 100);
        sender.try_send(message(1)).unwrap();
        sender.close();
        assert_eq!(sender.try_send(message(1)), Err(SendError::Closed));
        assert!(sender.shared.pop().is_some());
    }

    #[tokio::test]
    async fn send_waits_for_room_and_ends_with_the_link() {
        let sender = sender(1, 100);
        sender.send(message(1)).await.unwrap();
        let (second, ()) = tokio::join!(sender.send(message(2)), async {
            tokio::task::yield_now().await;
            assert!(sender.shared.pop().is_some());
        });
        assert_eq!(second, Ok(()));
        let (third, ()) = tokio::join!(sender.send(message(3)), async { sender.close() });
        assert_eq!(third, Err(SendError::Closed));
    }
}
