//! The spool: what is on its way to the master, in order and on the disk, until the master has it in its log.
//!
//! ```text
//!  events, returns ─▶ Window ──Exchange──▶ keeper's thread: packs, numbers, stores (spool.db) ──Exchanged──▶ Window ─▶ link
//! ```
//! [`Window`] belongs to the link's loop: what waits to be stored, and the loads that may be under way. A [`Keeper`] on a thread
//! of its own does the rest. One [`Exchange`] is under way at a time and carries everything at once, so that whatever came
//! meanwhile is one load and one commit. Nothing is sent that is not stored: a load keeps its number `n` over every restart, and
//! the master drops what it has already.
//!
//! What a crash may take:
//! - **kill -9 of the minion**: nothing that was stored, which takes one write without fsync after the event was fired.
//! - **power loss**: what was stored within the last [`SYNC_EVERY`] and is not acknowledged. An event that is acknowledged
//!   sooner costs no fsync at all. Returns of jobs are in the memory of jobs too, with an fsync of their own ([`crate::jids`]).
//!   After a boot new loads go under a new id: the file may have lost the last numbers that were used, and the master would
//!   take a number that comes again for something it has.
//!
//! When the spool is full, events go, the oldest first, and leave a gap in `n`, of which the master tells. Returns never go for
//! events: they have room of their own, and one more is refused. A disk that cannot be written makes the spool one in memory,
//! under an id of its own, until it can.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::ids::Jid;
use proto::message::event::EventItem;
use proto::message::{MAX_LOAD, Spooled};
use proto::value::Map;
use tokio::sync::{mpsc, oneshot};

use crate::database::unix_ms;

mod file;
mod keeper;
mod pack;
mod window;

pub use keeper::Keeper;
pub use window::{Flow, Settled, Window};

/// How many bytes of events may wait to be stored, and how many are kept while the disk cannot be written. A beacon's event
/// has about 300; this is what 3,000 of them take.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// How many events may wait to be stored, however small they are.
pub const MAX_EVENT_ITEMS: usize = 8192;
/// How many bytes of returns may be stored; more are refused, and the executor keeps them.
pub const MAX_RETURN_BYTES: u64 = 16 << 20;
/// `spool_max_bytes`, unless configured: events of a beacon every second for half a day.
pub const MAX_STORED_BYTES: u64 = 16 << 20;
/// `spool_max_age`, unless configured: a week.
pub const MAX_STORED_AGE: Duration = Duration::from_secs(7 * 86_400);
/// How long an event may be stored without an fsync.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);
/// What is counted for a load or an item beside its text and data.
const OVERHEAD: usize = 64;
/// One exchange is under way at a time.
const EXCHANGES: usize = 1;
/// The thread's stack; SQLite needs a small part of it.
const STACK_BYTES: usize = 512 << 10;

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// It cannot become a return's load.
    #[error("it lacks a field that every return has")]
    BadReturn,
    /// There is no room for it, or it went to make room.
    #[error("the spool is full")]
    Full,
    /// The minion is stopping.
    #[error("the minion is stopping")]
    Stopped,
    /// It exceeds the largest load.
    #[error("it is larger than {MAX_LOAD} bytes")]
    TooLarge,
}

/// How much is kept of events, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `spool_max_age`.
    pub max_age: Duration,
    /// `spool_max_bytes`.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_age: MAX_STORED_AGE, max_bytes: MAX_STORED_BYTES }
    }
}

/// Where a spool is kept on the disk.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Which boot of the host this is; empty if nobody knows.
    pub boot: String,
    /// How much is kept.
    pub limits: Limits,
}

/// What shall be stored. `N` is the note that comes back with its acknowledgement.
#[derive(Debug)]
pub enum Item<N> {
    /// An event; those that wait together become one load.
    Event {
        /// What was fired.
        item: EventItem,
        /// For whoever waits for the acknowledgement.
        note: Option<N>,
    },
    /// A return.
    Return {
        /// As the executor builds it.
        load: Map,
        /// The job, if the return belongs to one.
        jid: Option<Jid>,
        /// For whoever waits for the acknowledgement.
        note: Option<N>,
        /// Told when the return is stored, or why it is not.
        taken: oneshot::Sender<Result<(), SpoolError>>,
    },
}

/// A stored load.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its place in this spool, over all ids.
    pub seq: u64,
    /// Its place on the wire.
    pub at: Spooled,
    /// The job whose return it is.
    pub jid: Option<Jid>,
    /// The request, encoded.
    pub bytes: Bytes,
}

/// Which stored loads are wanted next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The last one that is known.
    pub after: u64,
    /// At most so many.
    pub loads: usize,
    /// With at most so many bytes, but one in any case if everything before it is acknowledged.
    pub bytes: usize,
}

/// What the link's loop gives the keeper and asks of it, all in one commit.
#[derive(Debug)]
pub struct Exchange<N> {
    /// What is new.
    pub put: Vec<Item<N>>,
    /// How many events were refused before these: the numbers shall show it.
    pub skipped: u64,
    /// Everything up to here is acknowledged.
    pub acked: u64,
    /// What may be under way ends here; it is not dropped.
    pub held: u64,
    /// What to read back.
    pub read: Option<Read>,
}

/// The keeper's answer.
#[derive(Debug)]
pub struct Exchanged<N> {
    /// The loads that were asked for, in order.
    pub rows: Vec<Row>,
    /// Whether there are further ones.
    pub more: bool,
    /// The notes of what was stored, by its place.
    pub stored: Vec<(u64, N)>,
    /// What was dropped to make room, in order.
    pub dropped: Vec<u64>,
}

/// The two ends of a running keeper.
#[derive(Debug)]
pub struct Spool<N> {
    /// Takes exchanges; the thread ends when this is gone.
    pub to: SyncSender<Exchange<N>>,
    /// Gives the answers; ends when everything is on the disk.
    pub from: mpsc::Receiver<Exchanged<N>>,
}

/// Starts the keeper's thread.
pub fn spawn<N: Send + 'static>(keeper: Keeper) -> io::Result<Spool<N>> {
    let (to, exchanges) = sync_channel(EXCHANGES);
    let (answers, from) = mpsc::channel(EXCHANGES);
    let body = move || run(keeper, &exchanges, &answers);
    std::thread::Builder::new().name("spool".into()).stack_size(STACK_BYTES).spawn(body)?;
    Ok(Spool { to, from })
}

fn run<N>(mut keeper: Keeper, exchanges: &Receiver<Exchange<N>>, answers: &mpsc::Sender<Exchanged<N>>) {
    loop {
        let wait = keeper.due().map(|due| due.saturating_duration_since(Instant::now()));
        let next = match wait {
            Some(wait) => exchanges.recv_timeout(wait),
            None => exchanges.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(exchange) => {
                let answer = keeper.answer(exchange, Instant::now(), unix_ms());
                // An error means that the loop has ended; what was stored stays.
                let _ = answers.blocking_send(answer);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        keeper.tend(Instant::now(), unix_ms());
    }
    keeper.close(Instant::now(), unix_ms());
}

#[cfg(test)]
mod tests;
