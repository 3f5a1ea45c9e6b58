//! The loop that keeps the files: follows the log, follows the grains, forgets old jobs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use proto::ids::MinionId;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::facts::{Facts, Written};
use super::{SaltFilesConfig, disk, jobs};
use crate::bus::{Bus, Event, EventQuery, Since, Subscription};
use crate::keys::Keys;
use crate::pillar::Pillars;
use crate::sessions::Registry;

/// How many events are written between two looks at anything else. What waits behind them waits in the log.
const BATCH: usize = 256;
/// How long changes of grains and pillars are gathered: a fleet that comes back is written once.
const GATHER: Duration = Duration::from_secs(2);
/// How often old jobs are looked for, and the place in the log is stored.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);
const STORE_EVERY: Duration = Duration::from_secs(5);
/// How often a failing disk is named in the log, at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Where the place in the log lies, in `cachedir`.
const PLACE: &str = ".salt_files";
/// The name of this reader of the log, for those who ask how far it is.
const CURSOR: &str = "salt_files";

/// Keeps the files.
pub struct SaltFilesTask {
    config: SaltFilesConfig,
    bus: Bus,
    keys: Keys,
    registry: Registry,
    pillars: Pillars,
    written: Written,
    next: u64,
    stored: u64,
    told: Option<Instant>,
}

/// What the loop turns to next.
enum Input {
    Changed,
    Event(Option<Event>),
    Expire,
    Facts,
    Stop,
    Store,
}

impl SaltFilesTask {
    pub(super) fn new(
        config: SaltFilesConfig,
        bus: Bus,
        keys: Keys,
        (registry, pillars): (Registry, Pillars),
    ) -> SaltFilesTask {
        let written = Written::default();
        SaltFilesTask { config, bus, keys, registry, pillars, written, next: 0, stored: 0, told: None }
    }

    /// Runs until the token is cancelled. A disk that fails is named and costs files, never the master.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut events = self.begin();
        let (mut grains, mut pillars) = (self.registry.watch_grains(), self.pillars.watch());
        let mut gathered: Option<Instant> = Some(Instant::now());
        let (mut expire, mut store) = (every(EXPIRE_EVERY), every(STORE_EVERY));
        loop {
            let input = tokio::select! {
                () = stop.cancelled() => Input::Stop,
                _ = expire.tick() => Input::Expire,
                _ = store.tick() => Input::Store,
                () = until(gathered) => Input::Facts,
                Ok(()) = grains.changed(), if gathered.is_none() => Input::Changed,
                Ok(()) = pillars.changed(), if gathered.is_none() => Input::Changed,
                event = events.next() => Input::Event(event),
            };
            match input {
                Input::Changed => gathered = Some(Instant::now() + GATHER),
                Input::Event(Some(first)) => self.take_in(first, &mut events).await,
                Input::Expire => self.expire().await,
                Input::Facts => {
                    gathered = None;
                    grains.mark_unchanged();
                    pillars.mark_unchanged();
                    self.update_facts().await;
                }
                Input::Store => self.store().await,
                Input::Event(None) | Input::Stop => break,
            }
        }
        self.store().await;
    }

    /// Goes on where the last process stopped; the first one begins with the jobs that are still to be kept.
    fn begin(&mut self) -> Subscription {
        let stored = place(&self.config.cachedir);
        let since = match (stored, self.config.keep_jobs) {
            (Some(next), _) => Since::Offset(next),
            (None, Some(keep)) => Since::Stamp(micros(SystemTime::now().checked_sub(keep))),
            (None, None) => Since::Start,
        };
        self.next = stored.unwrap_or(0);
        self.stored = self.next;
        let tags = ["salt/job/*/new", "salt/job/*/ret/*", "halite/job/*/syndic/*"].map(str::to_owned).to_vec();
        self.bus.subscribe(EventQuery { tags, since, until: None })
    }

    async fn take_in(&mut self, first: Event, events: &mut Subscription) {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match events.next().now_or_never() {
                Some(Some(event)) => batch.push(event),
                _ => break,
            }
        }
        if let Some(last) = batch.iter().rev().find(|event| event.durable) {
            self.next = last.offset + 1;
        }
        let cachedir = self.config.cachedir.clone();
        self.blocking(move || batch.iter().map(|event| jobs::take_in(&cachedir, event)).find(Result::is_err)).await;
        self.bus.note_cursor(CURSOR, Some(self.next));
    }

    async fn update_facts(&mut self) {
        let mut written = std::mem::take(&mut self.written);
        let (cachedir, accepted) = (self.config.cachedir.clone(), self.keys.accepted_ids());
        // What is not to be kept does not lie there either: it may be left over from another configuration.
        let accepted = if self.config.facts { accepted } else { Vec::new().into() };
        let (registry, pillars) = (self.registry.clone(), self.pillars.clone());
        let facts = move |id: &MinionId| Some(Facts { grains: registry.grains(id)?, pillar: pillars.cached(id) });
        let done = tokio::task::spawn_blocking(move || {
            let done = written.update(&cachedir, &accepted, facts);
            (written, done)
        });
        // An error means that the runtime is shutting down.
        let Ok((written, done)) = done.await else { return };
        self.written = written;
        self.tell(done.err());
    }

    async fn expire(&mut self) {
        let Some(keep) = self.config.keep_jobs else { return };
        let cachedir = self.config.cachedir.clone();
        self.blocking(move || Some(jobs::expire(&cachedir, keep, SystemTime::now()).map(|_| ()))).await;
    }

    /// Stores the place in the log. What is lost of it is written again, which changes nothing.
    async fn store(&mut self) {
        if self.next == self.stored {
            return;
        }
        let (path, next) = (self.config.cachedir.join(PLACE), self.next);
        self.blocking(move || Some(disk::write_whole(&path, next.to_string().as_bytes()))).await;
        self.stored = next;
    }

    async fn blocking(&mut self, work: impl FnOnce() -> Option<Result<(), disk::WriteError>> + Send + 'static) {
        if let Ok(Some(Err(error))) = tokio::task::spawn_blocking(work).await {
            self.tell(Some(error));
        }
    }

    fn tell(&mut self, failed: Option<disk::WriteError>) {
        let Some(error) = failed else { return };
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "Salt's tools miss something: a file for them was not written");
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn place(cachedir: &Path) -> Option<u64> {
    let path: PathBuf = cachedir.join(PLACE);
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn micros(moment: Option<SystemTime>) -> i64 {
    let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
