//! The event bus: a durable log and its live readers.
//!
//! ```text
//! submit, fire ─▶ queue ─▶ writer thread ─▶ log (SQLite) ─▶ ring ─▶ subscriptions
//!                (bytes)   group commit      fsync             └──◀ log, for who is behind
//! ```
//! - **The log is the only commit point.** A [`CommitTicket`] resolves after the fsync; readers see an event after it too.
//! - **Order** is that in which calls of [`Bus::submit`] got their place in the queue: one caller that awaits them one
//!   after the other gets its batches into the log in that order.
//! - **Nothing twice.** The mark (id, spool, n) of a load is stored in the same transaction as its events.
//! - **Nothing out of turn.** What a session sent behind a load that was refused is refused too ([`Bus::submit_behind`]): its
//!   mark would cover the load that is yet to come again.
//! - **Degraded** (disk full, I/O error): batches are refused with [`CommitError::Degraded`], so minions keep them. What the
//!   master fires itself ([`Bus::fire`], [`Bus::try_fire`]) is refused as well, but live readers see it with
//!   `durable: false`; a reader that replays from the log at that moment misses it. The log is opened and verified anew, again
//!   and again, until it works. A transaction whose end was unknown may turn out to be in the log: then a fire was seen
//!   twice, once with either value of `durable`.
//! - **No silent gaps.** A reader that wants an offset which retention has deleted is told `halite/bus/gap`, whatever it
//!   filters, and goes on with the oldest event there is.
//! - **Readers** cost nobody else anything: the ring is one, bounded in bytes, and the log has the rest.
//!
//! Files: [`event`](Event) and [`query`](EventQuery) are the words, `state.rs` and `retention.rs` the rules, `segments.rs` the
//! folder, `log.rs` and `marks.rs` the tables of one segment, `writer.rs` the thread, `checkpoint.rs`, `keeper.rs` and `next.rs`
//! its helpers, `ring.rs`, `reader.rs` and `subscription.rs` the way out.

mod checkpoint;
mod event;
mod keeper;
mod log;
mod marks;
mod next;
mod offline;
mod query;
mod reader;
mod retention;
mod ring;
mod segments;
mod shared;
mod state;
mod step;
mod subscription;
mod survey;
mod task;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proto::msgpack;
use proto::tag::Tag;
use proto::value::Map;
use tokio::sync::{Semaphore, oneshot, watch};

pub use event::{Batch, Committed, Event, Mark, NewEvent};
pub use log::OpenError;
pub use offline::{Compaction, Held, compact, files, hold, index, is_plain, restoring};
pub use query::{EventQuery, Since};
pub use retention::Retention;
pub use shared::Stats;
pub use step::{Disk, Stepped};
pub use subscription::Subscription;
pub use survey::{SegmentView, Survey};
pub use task::{BusTask, RunError};

use checkpoint::Pace;
use keeper::Keeper;
use log::Log;
use segments::Segments;
use shared::{Progress, Shared};
use state::BusState;
use writer::{Entry, GroupLimits, Source, Submission, Writer};

/// The unit in which the queue is measured: small batches cost at least this much, so their number is bounded too.
const QUEUE_UNIT: usize = 4 * 1024;

/// Where the log is and how much memory the bus may take.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// The folder of the log: `events` under `cachedir`.
    pub path: PathBuf,
    /// How large a segment becomes, in bytes (`event_segment_size`). Default 256 MiB: a file that is quickly copied or
    /// deleted, and thirty of them within the retention.
    pub segment_bytes: u64,
    /// How long events are kept.
    pub retention: Retention,
    /// The newest events kept in memory for live readers, in bytes. Default 32 MiB: some 80,000 beacon events, a second
    /// or so at full speed.
    pub ring_bytes: usize,
    /// What may wait for its commit, in bytes; who submits beyond waits. Default 32 MiB: a few commits ahead of the disk.
    pub queue_bytes: usize,
    /// The most events in one transaction. Default 8,192: more gains nothing over the price of the fsync.
    pub commit_max_events: usize,
    /// The most bytes in one transaction, give or take one batch. Default 4 MiB: keeps the wait of the others short.
    pub commit_max_bytes: usize,
}

impl BusConfig {
    /// Returns the defaults for a log in this folder.
    pub fn new(path: impl Into<PathBuf>) -> BusConfig {
        BusConfig {
            path: path.into(),
            segment_bytes: 256 << 20,
            retention: Retention::default(),
            ring_bytes: 32 << 20,
            queue_bytes: 32 << 20,
            commit_max_events: 8_192,
            commit_max_bytes: 4 << 20,
        }
    }
}

/// Why a batch is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The log is out of order; the bus tries to repair that by itself.
    #[error("write to the event log: {reason}")]
    Degraded {
        /// What is wrong and what to do.
        reason: Arc<str>,
    },
    /// The bus has stopped. The batch may be in the log if it was submitted before.
    #[error("write to the event log: it is closed")]
    Stopped,
}

/// The handle of the bus.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    retention: Retention,
}

/// The way to the writer. Bytes are counted by the semaphore; the channel has a slot for each unit, so it is never full.
struct Queue {
    room: Arc<Semaphore>,
    units: u32,
    sender: SyncSender<Entry>,
}

/// A batch on its way into the log; resolves when it is there, or not. Dropping it does not take the batch back.
#[must_use = "a batch counts once its ticket has resolved"]
#[derive(Debug)]
pub struct CommitTicket {
    done: oneshot::Receiver<Result<Committed, CommitError>>,
}

impl Bus {
    /// Opens the log, or makes it. Blocks for a moment; call it while starting.
    pub fn open(config: BusConfig) -> Result<(Bus, BusTask), OpenError> {
        let lock = log::lock(&config.path)?;
        offline::refuse_unfinished(&config.path)?;
        let segments = Segments::open(&config.path)?;
        let (log, tail) = Log::open(&segments.path(segments.active()), 0)?;
        segments::sync_folder(&config.path).map_err(|source| OpenError::Folder { path: config.path, source })?;
        let state = BusState::new(tail);
        let shared = Arc::new(Shared::new(segments, config.ring_bytes, state.head()));
        let units = u32::try_from(config.queue_bytes / QUEUE_UNIT).unwrap_or(u32::MAX).max(1);
        // One slot more, for the stop.
        let (sender, receiver) = mpsc::sync_channel(units as usize + 1);
        let queue = Arc::new(Queue { room: Arc::new(Semaphore::new(units as usize)), units, sender });
        let writer = Writer {
            segment_bytes: config.segment_bytes,
            limits: GroupLimits { events: config.commit_max_events, bytes: config.commit_max_bytes },
            queue: receiver,
            shared: Arc::clone(&shared),
            state,
            log: Some(log.with_limit(config.segment_bytes)),
            append: writer::append(),
            pace: Pace::default(),
            lock,
            keeper: Some(Keeper {
                shared: Arc::clone(&shared),
                retention: config.retention,
                queue: Arc::downgrade(&queue),
            }),
            rolled: false,
            nearly_full: false,
        };
        let bus = Bus { shared, queue: Arc::clone(&queue), retention: config.retention };
        Ok((bus, BusTask { writer, queue }))
    }

    /// Puts a batch into the queue, waiting for a place in it. Not waiting for the ticket lets a caller send the next
    /// batch right away; the order stays.
    pub async fn submit(&self, batch: Batch) -> Result<CommitTicket, CommitError> {
        self.queue.submit(batch, Source::Batch, None).await
    }

    /// Submits a batch that counts only if those before it on the same session do: `epoch` is what [`Bus::epoch`] said
    /// before the first of those that are still undecided.
    pub async fn submit_behind(&self, batch: Batch, epoch: u64) -> Result<CommitTicket, CommitError> {
        self.queue.submit(batch, Source::Batch, Some(epoch)).await
    }

    /// Returns a number that changes whenever the log refuses something.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch()
    }

    /// Submits a batch and waits until it is in the log.
    pub async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        self.submit(batch).await?.await
    }

    /// Fires one event and waits until it is in the log; returns its offset. With [`CommitError::Degraded`], live readers
    /// have seen it nevertheless.
    pub async fn fire(&self, tag: Tag, data: &Map) -> Result<u64, CommitError> {
        let committed = self.queue.submit(single(tag, data), Source::Fire, None).await?.await?;
        Ok(committed.offset)
    }

    /// Fires one event if there is room in the queue and never waits. Tells whether there was; what is dropped is counted.
    pub fn try_fire(&self, tag: Tag, data: &Map) -> bool {
        let taken = self.queue.try_submit(single(tag, data), Source::Fire);
        if !taken {
            self.shared.count(|counters| counters.dropped += 1);
        }
        taken
    }

    /// Starts reading. Everything after this call counts as live.
    pub fn subscribe(&self, query: EventQuery) -> Subscription {
        Subscription::new(Arc::clone(&self.shared), &query)
    }

    /// Returns the last offset in the log; 0 if it never had an event.
    pub fn head(&self) -> u64 {
        self.shared.head()
    }

    /// Finds the first offset that was submitted at this moment or later (microseconds since 1970); with none, the next one
    /// that will be given out. Nothing if the log cannot be read.
    pub async fn offset_at(&self, stamp_us: i64) -> Option<u64> {
        Arc::clone(&self.shared.readers).offset_at(stamp_us, self.head()).await.ok()
    }

    /// Looks at the newest events. Nothing if the log cannot be read.
    pub async fn survey(&self) -> Option<Survey> {
        Arc::clone(&self.shared.readers).survey(self.head()).await.ok()
    }

    /// Returns the segments there are, oldest first.
    pub fn segments(&self) -> Vec<SegmentView> {
        let (segments, head) = (&self.shared.segments, self.head());
        let view = |segment: &segments::Segment| SegmentView {
            first: segment.first,
            last: segment.last.unwrap_or(head),
            bytes: keeper::bytes(&segments.path(segment.first)),
            sealed: segment.phase == segments::Phase::Sealed,
        };
        segments.all().iter().map(view).collect()
    }

    /// Returns the first offset that may still be in the log.
    pub fn oldest(&self) -> u64 {
        self.shared.segments.oldest()
    }

    /// Applies retention and seals segments now. Blocks for as long as that takes.
    pub fn compact(&self) -> Compaction {
        let queue = Arc::downgrade(&self.queue);
        Keeper { shared: Arc::clone(&self.shared), retention: self.retention, queue }.compact()
    }

    /// Takes note of how far a reader has come that remembers its place: the next offset it wants. Retention names those
    /// that it overtakes. Nothing forgets the reader.
    pub fn note_cursor(&self, name: &str, next: Option<u64>) {
        self.shared.note_cursor(name, next);
    }

    /// Returns who remembers a place, with the next offset of each.
    pub fn cursors(&self) -> BTreeMap<String, u64> {
        self.shared.cursors()
    }

    /// Returns what the bus has done, and how it is.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Returns why the log is out of order, as it changes; nothing while it works.
    pub fn watch_degraded(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.health.subscribe()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl Queue {
    async fn submit(&self, batch: Batch, source: Source, behind: Option<u64>) -> Result<CommitTicket, CommitError> {
        let units = self.units_of(&batch);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| CommitError::Stopped)?;
        let (done, ticket) = oneshot::channel();
        let submission = Submission { batch, source, at_us: now_us(), behind, done: Some(done), room };
        if self.put(submission) { Ok(CommitTicket { done: ticket }) } else { Err(CommitError::Stopped) }
    }

    fn try_submit(&self, batch: Batch, source: Source) -> bool {
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.units_of(&batch));
        let Ok(room) = room else { return false };
        self.put(Submission { batch, source, at_us: now_us(), behind: None, done: None, room })
    }

    fn put(&self, submission: Submission) -> bool {
        self.sender.try_send(Entry::Submit(submission)).is_ok()
    }

    /// A batch larger than the queue waits until it is empty.
    fn units_of(&self, batch: &Batch) -> u32 {
        u32::try_from(batch.cost().div_ceil(QUEUE_UNIT)).unwrap_or(u32::MAX).clamp(1, self.units)
    }

    /// Lets nothing more in and tells the writer to commit the rest and end.
    fn close(&self) {
        self.room.close();
        // Fails only if the writer has ended already.
        let _ = self.sender.try_send(Entry::Stop);
    }
}

impl Future for CommitTicket {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context).map(|done| done.unwrap_or(Err(CommitError::Stopped)))
    }
}

fn single(tag: Tag, data: &Map) -> Batch {
    Batch { events: vec![NewEvent { tag, data: Bytes::from(msgpack::encode_map(data)) }], mark: None }
}

fn now_us() -> i64 {
    // Before 1970 or after 294247, the clock is wrong beyond caring.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
