//! Feeds the job cache from the log, in order, from where it stopped.

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{CacheError, JobCache};
use crate::bus::{Bus, Event, EventQuery, Since, Subscription};

/// How many events go into one transaction.
const BATCH: usize = 1_000;
/// After how many events without a job the cursor is stored all the same, so that a restart need not read them again.
const STORE_CURSOR_EVERY: u64 = 10_000;

/// The name of this reader of the log, for those who ask how far it is.
const CURSOR: &str = "jobs";

/// The consumer of the log that keeps the job cache.
pub(super) struct Projection {
    cache: Option<JobCache>,
    events: Subscription,
    bus: Bus,
    projected: watch::Sender<u64>,
    /// The first offset that has not been seen.
    next: u64,
    /// The cursor on disk.
    stored: u64,
}

impl Projection {
    pub(super) fn new(cache: JobCache, bus: Bus, projected: watch::Sender<u64>) -> Result<Projection, CacheError> {
        let next = cache.next_offset()?;
        bus.note_cursor(CURSOR, Some(next));
        let events = bus.subscribe(EventQuery { tags: Vec::new(), since: Since::Offset(next), until: None });
        Ok(Projection { cache: Some(cache), events, bus, projected, next, stored: next })
    }

    /// Takes in everything that is in the log now.
    pub(super) async fn catch_up(&mut self) -> Result<(), CacheError> {
        let head = self.bus.head();
        // The first event has offset 1: a log whose head is 0 is empty.
        while head > 0 && self.next <= head {
            match self.events.next().await {
                Some(event) => self.take_in(event).await?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Runs until the token is cancelled or the bus stops.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), CacheError> {
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                event = self.events.next() => event,
            };
            let Some(first) = first else { return Ok(()) };
            self.take_in(first).await?;
        }
    }

    /// Takes in an event and all that wait behind it.
    async fn take_in(&mut self, first: Event) -> Result<(), CacheError> {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match self.events.next().now_or_never() {
                Some(Some(event)) => batch.push(event),
                _ => break,
            }
        }
        // Events that are not durable have no place in the log, and so none in its projections.
        batch.retain(|event| event.durable);
        let Some(last) = batch.last().map(|event| event.offset) else { return Ok(()) };
        self.next = last + 1;
        let is_about = |tag: &str| tag.starts_with("salt/job/") || tag.starts_with("halite/job/");
        let about_jobs = batch.iter().any(|event| is_about(event.tag.as_str()));
        if about_jobs || self.next - self.stored > STORE_CURSOR_EVERY {
            self.store(batch).await?;
            self.stored = self.next;
        }
        self.bus.note_cursor(CURSOR, Some(self.next));
        self.projected.send_replace(last);
        Ok(())
    }

    async fn store(&mut self, batch: Vec<Event>) -> Result<(), CacheError> {
        let Some(mut cache) = self.cache.take() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || {
            let taken = cache.take_in(&batch);
            (cache, taken)
        });
        match done.await {
            Ok((cache, taken)) => {
                self.cache = Some(cache);
                taken
            }
            // The runtime is shutting down.
            Err(_) => Ok(()),
        }
    }
}
