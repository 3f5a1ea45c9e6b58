//! What the writer and the readers have in common: the ring, the head, the counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::reader::Readers;
use super::ring::Ring;
use super::segments::Segments;

/// How many commit times are kept for [`Stats`]: enough for the slowest one in a hundred to mean something, some ten
/// seconds of a busy master.
const KEPT_COMMITS: usize = 1_024;

/// How far the bus is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) head: u64,
    pub(super) stopped: bool,
}

/// Shared by the handle, the writer and every subscription. Both locks are held for moments, never across a wait.
#[derive(Debug)]
pub(super) struct Shared {
    ring: Mutex<Ring>,
    counters: Mutex<Counters>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) health: watch::Sender<Option<Arc<str>>>,
    pub(super) segments: Arc<Segments>,
    pub(super) readers: Arc<Readers>,
    /// Held while somebody seals or deletes segments: the keeper, or who does not want to wait for it.
    keeping: Mutex<()>,
    /// The checkpointer has left the rest of the WAL to the writer.
    finish_checkpoint: AtomicBool,
    /// Who reads the log and remembers where: the next offset of each.
    cursors: Mutex<BTreeMap<String, u64>>,
    /// Counts how often the log has refused something; see [`super::Bus::epoch`].
    epoch: AtomicU64,
    /// The most pages the log may have, 0 for no limit: how tests fill a disk.
    max_pages: AtomicU32,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) batches: u64,
    pub(super) events: u64,
    pub(super) duplicates: u64,
    pub(super) skipped: u64,
    pub(super) refused: u64,
    pub(super) not_durable: u64,
    pub(super) dropped: u64,
    pub(super) fell_behind: u64,
    pub(super) overtaken: u64,
    commits: u64,
    times: VecDeque<Duration>,
}

/// What the bus has done since it was opened, and how it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The last offset in the log.
    pub head: u64,
    /// Events committed.
    pub events: u64,
    /// Batches committed, duplicates included.
    pub batches: u64,
    /// Loads that were committed before.
    pub duplicates: u64,
    /// Loads that spools have skipped.
    pub skipped: u64,
    /// Batches and fires refused while degraded.
    pub refused: u64,
    /// Events shown to live readers only.
    pub not_durable: u64,
    /// Events that `try_fire` has dropped.
    pub dropped: u64,
    /// How often a live reader was too slow for the ring and went to the log.
    pub fell_behind: u64,
    /// Events that were deleted before a reader came to them that wanted them by their offset.
    pub overtaken: u64,
    /// Transactions.
    pub commits: u64,
    /// The median of the last commit times, fsync included.
    pub commit_p50: Duration,
    /// All but one in a hundred of the last commit times are shorter.
    pub commit_p99: Duration,
    /// The longest of the last commit times.
    pub commit_max: Duration,
    /// Events in the ring.
    pub ring_events: usize,
    /// Bytes in the ring.
    pub ring_bytes: usize,
    /// Why the log is out of order, if it is.
    pub degraded: Option<Arc<str>>,
}

impl Counters {
    pub(super) fn commit(&mut self, took: Duration) {
        self.commits += 1;
        if self.times.len() >= KEPT_COMMITS {
            self.times.pop_front();
        }
        self.times.push_back(took);
    }
}

impl Shared {
    pub(super) fn new(segments: Segments, ring_bytes: usize, head: u64) -> Shared {
        let segments = Arc::new(segments);
        Shared {
            ring: Mutex::new(Ring::new(ring_bytes, head)),
            counters: Mutex::default(),
            progress: watch::Sender::new(Progress { head, stopped: false }),
            health: watch::Sender::new(None),
            readers: Arc::new(Readers::new(Arc::clone(&segments))),
            segments,
            keeping: Mutex::default(),
            finish_checkpoint: AtomicBool::new(false),
            cursors: Mutex::default(),
            epoch: AtomicU64::new(0),
            max_pages: AtomicU32::new(0),
        }
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self) -> MutexGuard<'_, ()> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn head(&self) -> u64 {
        self.progress.borrow().head
    }

    /// Wakes the readers.
    pub(super) fn advance(&self, head: u64) {
        self.progress.send_modify(|progress| progress.head = head);
    }

    pub(super) fn stop(&self) {
        self.progress.send_modify(|progress| progress.stopped = true);
    }

    pub(super) fn set_health(&self, degraded: Option<Arc<str>>) {
        self.health.send_replace(degraded);
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(super) fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn ask_to_finish_checkpoint(&self) {
        self.finish_checkpoint.store(true, Ordering::Relaxed);
    }

    /// Tells whether the writer was asked, once.
    pub(super) fn is_to_finish_checkpoint(&self) -> bool {
        self.finish_checkpoint.load(Ordering::Relaxed) && self.finish_checkpoint.swap(false, Ordering::Relaxed)
    }

    /// Takes note of how far somebody has read; nothing forgets them.
    pub(super) fn note_cursor(&self, name: &str, next: Option<u64>) {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Some(next) => _ = cursors.insert(name.to_owned(), next),
            None => _ = cursors.remove(name),
        }
    }

    pub(super) fn cursors(&self) -> BTreeMap<String, u64> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names those who still want something before this offset.
    pub(super) fn cursors_before(&self, offset: u64) -> Vec<String> {
        self.cursors().into_iter().filter(|(_, next)| *next < offset).map(|(name, _)| name).collect()
    }

    pub(super) fn max_pages(&self) -> u32 {
        self.max_pages.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        let (ring_events, ring_bytes) = {
            let ring = self.ring();
            (ring.len(), ring.bytes())
        };
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times: Vec<Duration> = counters.times.iter().copied().collect();
        times.sort_unstable();
        Stats {
            head: self.head(),
            events: counters.events,
            batches: counters.batches,
            duplicates: counters.duplicates,
            skipped: counters.skipped,
            refused: counters.refused,
            not_durable: counters.not_durable,
            dropped: counters.dropped,
            fell_behind: counters.fell_behind,
            overtaken: counters.overtaken,
            commits: counters.commits,
            commit_p50: times.get(times.len() / 2).copied().unwrap_or_default(),
            commit_p99: times.get(times.len() * 99 / 100).copied().unwrap_or_default(),
            commit_max: times.last().copied().unwrap_or_default(),
            ring_events,
            ring_bytes,
            degraded: self.health.borrow().clone(),
        }
    }
}
