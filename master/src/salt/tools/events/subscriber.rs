//! One reader of the event socket: a bounded queue, and a task that writes it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proto::salt::ipc::{self, Framing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::encode;
use super::framing::FramingPolicy;
use crate::bus::{Event, Subscription};

/// How many events may wait for one reader: the returns of a large fleet to one job. Beyond, it is disconnected, as Salt
/// does with `ipc_write_buffer`: a hole would be worse, and tools connect again.
const QUEUE_EVENTS: usize = 20_000;
/// How many bytes may wait for one reader. The bytes themselves are shared by all readers.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// How much is written at a time.
const WRITE_BYTES: usize = 64 * 1024;

/// The loop's half of a reader. Dropped, the reader is disconnected.
pub(super) struct Subscriber {
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    /// The last event that was there before this reader.
    after: u64,
    writer: Option<AbortHandle>,
}

/// What a reader gets before anything else.
pub(super) struct Earlier {
    /// The returns that it may be waiting for.
    pub(super) returns: Option<Subscription>,
    /// The largest event that readers get.
    pub(super) max_size: usize,
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// The reader has it, or is not meant to.
    Taken,
    /// The reader does not keep up.
    TooSlow,
}

impl Subscriber {
    /// Makes a reader, and what writes to it until it ends. `after` is the newest event there was when it came.
    pub(super) fn new(
        stream: UnixStream,
        policy: FramingPolicy,
        earlier: Earlier,
        after: u64,
    ) -> (Subscriber, impl Future<Output = ()> + Send + use<>) {
        let (queue, events) = mpsc::channel(QUEUE_EVENTS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writing = write(stream, policy, earlier, events, Arc::clone(&waiting));
        (Subscriber { queue, waiting, after, writer: None }, writing)
    }

    /// Ends the writer, whatever it waits for, when this reader is dropped.
    pub(super) fn ended_by(mut self, abort: AbortHandle) -> Subscriber {
        self.writer = Some(abort);
        self
    }

    /// Hands an event over, without waiting.
    pub(super) fn offer(&self, event: &Event, bytes: &Bytes) -> Offered {
        if event.durable && event.offset <= self.after {
            return Offered::Taken;
        }
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        // An event that alone is more than the queue waits in an empty one.
        if waiting > QUEUE_BYTES && waiting > bytes.len() {
            return Offered::TooSlow;
        }
        match self.queue.try_send(bytes.clone()) {
            Err(mpsc::error::TrySendError::Full(_)) => Offered::TooSlow,
            // One that has gone is cleared away when its writer has ended.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Offered::Taken,
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// Writes events until the reader or the queue ends.
async fn write(
    mut stream: UnixStream,
    policy: FramingPolicy,
    mut earlier: Earlier,
    mut events: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
) {
    let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
    let Ok(framing) = tokio::task::spawn_blocking(move || policy.of(pid)).await else { return };
    tracing::debug!(pid, framing = framing.name(), "a reader of events");
    let (mut from, mut to) = stream.split();
    while let Some(returns) = &mut earlier.returns {
        let Some(event) = returns.next().await else { break };
        let Some(bytes) = encode::event(&event, earlier.max_size) else { continue };
        if to.write_all(&ipc::encode(framing, &bytes)).await.is_err() {
            return;
        }
    }
    drop(earlier);
    let mut ignored = [0; 64];
    loop {
        let first = tokio::select! {
            event = events.recv() => event,
            read = from.read(&mut ignored) => match read {
                // Readers say nothing; if one does, it is no matter.
                Ok(1..) => continue,
                Ok(0) | Err(_) => return,
            },
        };
        let Some(first) = first else { return };
        let out = gather(framing, first, &mut events, &waiting);
        if to.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// Frames an event and those that wait behind it, up to what is written at a time.
fn gather(framing: Framing, first: Bytes, events: &mut mpsc::Receiver<Bytes>, waiting: &AtomicUsize) -> Vec<u8> {
    waiting.fetch_sub(first.len(), Ordering::Relaxed);
    let mut out = ipc::encode(framing, &first);
    while out.len() < WRITE_BYTES {
        let Ok(event) = events.try_recv() else { break };
        waiting.fetch_sub(event.len(), Ordering::Relaxed);
        out.extend(ipc::encode(framing, &event));
    }
    out
}
