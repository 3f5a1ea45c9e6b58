//! Feeds the job cache from the log, in order, from where it stopped; and has it forget jobs that are too old.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::cache::{CacheError, JobCache};
use super::expiry::{self, Left};
use super::{now_ms, now_us};
use crate::bus::{Bus, Event, EventQuery, Since, Subscription};

/// How many events go into one transaction.
const BATCH: usize = 1_000;
/// After how many events without a job the cursor is stored all the same, so that a restart need not read them again.
const STORE_CURSOR_EVERY: u64 = 10_000;
/// How long to wait before a cache that cannot be written is tried again. The log has it all meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// The name of this reader of the log, for those who ask how far it is.
const CURSOR: &str = "jobs";

/// The consumer of the log that keeps the job cache.
pub(super) struct Projection {
    cache: Option<JobCache>,
    events: Subscription,
    bus: Bus,
    projected: watch::Sender<u64>,
    /// How long jobs are kept; for ever without it.
    keep: Option<Duration>,
    /// The first offset that has not been seen.
    next: u64,
    /// The cursor on disk.
    stored: u64,
}

impl Projection {
    pub(super) fn new(
        cache: JobCache,
        bus: Bus,
        projected: watch::Sender<u64>,
        keep: Option<Duration>,
    ) -> Result<Projection, CacheError> {
        let next = cache.next_offset()?;
        bus.note_cursor(CURSOR, Some(next));
        let events = bus.subscribe(EventQuery { tags: Vec::new(), since: Since::Offset(next), until: None });
        Ok(Projection { cache: Some(cache), events, bus, projected, keep, next, stored: next })
    }

    /// Takes in everything that is in the log now. A cache that cannot be written is an error: the master is starting.
    pub(super) async fn catch_up(&mut self) -> Result<(), CacheError> {
        let head = self.bus.head();
        // The first event has offset 1: a log whose head is 0 is empty.
        while head > 0 && self.next <= head {
            let Some(event) = self.events.next().await else { return Ok(()) };
            let (batch, seen) = self.gather(event);
            if self.is_worth_storing(&batch) {
                self.store(&batch).await?;
            }
            self.advance(seen);
        }
        Ok(())
    }

    /// Runs until the token is cancelled or the bus stops.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut look = Instant::now();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                event = self.events.next() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = sleep_until(look) => None,
            };
            match first {
                Some(first) => self.take_in(first, &stop).await,
                None => look = Instant::now() + self.expire().await,
            }
        }
    }

    /// Takes in an event and all that wait behind it. While the cache cannot be written, the log waits: nothing of it is
    /// skipped, and nobody else waits for this reader.
    async fn take_in(&mut self, first: Event, stop: &CancellationToken) {
        let (batch, seen) = self.gather(first);
        let mut failed = false;
        while self.is_worth_storing(&batch) {
            match self.store(&batch).await {
                Ok(()) => break,
                Err(error) if !failed => {
                    failed = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the job cache cannot be written; it goes on when the disk does");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RETRY) => {}
            }
        }
        if failed {
            tracing::info!("the job cache can be written again");
        }
        self.advance(seen);
    }

    /// Returns an event and those that wait behind it, and the last offset that is seen with them. Events that are not durable
    /// have no place in the log, and so none in its projections; one of them tells of offsets that will never come.
    fn gather(&mut self, first: Event) -> (Arc<Vec<Event>>, u64) {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match self.events.next().now_or_never() {
                Some(Some(event)) => batch.push(event),
                _ => break,
            }
        }
        let seen = batch.iter().map(|event| event.offset).max().unwrap_or(0);
        batch.retain(|event| event.durable);
        (Arc::new(batch), seen)
    }

    fn is_worth_storing(&self, batch: &[Event]) -> bool {
        let is_about = |tag: &str| tag.starts_with("salt/job/") || tag.starts_with("halite/job/");
        let last = batch.last().map_or(0, |event| event.offset);
        batch.iter().any(|event| is_about(event.tag.as_str())) || last.saturating_sub(self.stored) >= STORE_CURSOR_EVERY
    }

    /// Takes note that everything up to this offset was dealt with.
    fn advance(&mut self, seen: u64) {
        self.next = self.next.max(seen + 1);
        self.bus.note_cursor(CURSOR, Some(self.next));
        self.projected.send_replace(self.next - 1);
    }

    async fn store(&mut self, batch: &Arc<Vec<Event>>) -> Result<(), CacheError> {
        let Some(mut cache) = self.cache.take() else { return Ok(()) };
        let (events, oldest) = (Arc::clone(batch), expiry::oldest_kept(self.keep, now_us()));
        let done = tokio::task::spawn_blocking(move || {
            let taken = cache.take_in(&events, oldest.as_ref());
            (cache, taken)
        });
        // An error means that the runtime is shutting down.
        let Ok((cache, taken)) = done.await else { return Ok(()) };
        self.cache = Some(cache);
        taken?;
        self.stored = batch.last().map_or(self.stored, |event| event.offset + 1);
        Ok(())
    }

    /// Forgets some of the jobs that are too old; returns how long to wait before the next look.
    async fn expire(&mut self) -> Duration {
        let Some(oldest) = expiry::oldest_kept(self.keep, now_us()) else { return expiry::EVERY };
        let Some(mut cache) = self.cache.take() else { return expiry::EVERY };
        let done = tokio::task::spawn_blocking(move || {
            let left = cache.expire(&oldest, now_ms());
            (cache, left)
        });
        let Ok((cache, left)) = done.await else { return expiry::EVERY };
        self.cache = Some(cache);
        match left {
            Ok(Left::More) => expiry::AGAIN,
            Ok(Left::Nothing) => expiry::EVERY,
            Err(error) => {
                // What is wrong with the disk shows when something is taken in.
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot forget jobs that are too old");
                expiry::EVERY
            }
        }
    }
}
