//! The thread that writes: takes all that is queued, commits it as one transaction, shows it to the readers and then
//! acknowledges it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::checkpoint::{self, Pace};
use super::event::{Batch, Committed, Event};
use super::keeper::{Keeper, Stop};
use super::log::{self, Log, OpenError, Rolled};
use super::next::{self, Wanted};
use super::state::{BusState, Plan, Tail, Verdict};
use super::{CommitError, Shared};

/// What comes through the queue.
#[derive(Debug)]
pub(super) enum Entry {
    Submit(Submission),
    Stop,
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) batch: Batch,
    pub(super) source: Source,
    pub(super) at_us: i64,
    /// The epoch of the loads before it on the same session, whose fate it shares; nothing depends on it otherwise.
    pub(super) behind: Option<u64>,
    /// Who waits for the outcome, if anybody.
    pub(super) done: Option<oneshot::Sender<Result<Committed, CommitError>>>,
    /// Its share of the queue, given back when it leaves.
    pub(super) room: OwnedSemaphorePermit,
}

/// Where a batch comes from: decides what happens to it while the log is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// From a spool or another part that will send it again: refused.
    Batch,
    /// The master's own: refused too, but shown to live readers.
    Fire,
}

/// How much one transaction takes at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupLimits {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// The writer, before and while it runs.
pub(super) struct Writer {
    pub(super) segment_bytes: u64,
    pub(super) limits: GroupLimits,
    pub(super) queue: Receiver<Entry>,
    pub(super) shared: Arc<Shared>,
    pub(super) state: BusState,
    /// Nothing while degraded.
    pub(super) log: Option<Log>,
    /// How a group gets into the log: the one step that a simulated disk takes part in.
    pub(super) append: Append,
    /// When the WAL is moved into the segment's file.
    pub(super) pace: Pace,
    /// Held as long as this process may write.
    pub(super) lock: File,
    /// Looks after complete segments, once it runs.
    pub(super) keeper: Option<Keeper>,
    /// A segment was completed: the helpers do not know yet.
    pub(super) rolled: bool,
    /// The segment ends soon.
    pub(super) nearly_full: bool,
}

/// Writes what a plan says of a group.
pub(super) type Append = Box<dyn FnMut(&mut Log, &Plan, &[Submission]) -> rusqlite::Result<()> + Send>;

/// Returns the way that a group takes to a real disk.
pub(super) fn append() -> Append {
    Box::new(|log, plan, group| log.append(plan, group.iter().map(|each| &each.batch)))
}

/// How many bytes are written between two requests to bring the next segment's marks up to date: some hundred marks, at an
/// event or two for each load.
const MARKS_EVERY: usize = 128 * 1024;

/// How the helpers are woken. One nudge waiting is as good as many.
struct Nudges {
    checkpoint: SyncSender<()>,
    keeper: SyncSender<()>,
    next: SyncSender<Wanted>,
}

/// Why the writer woke up.
enum Wake {
    Retry,
    Stop,
    Submit(Submission),
}

impl Writer {
    /// Works until it is told to stop, or until nobody is left who could tell it anything.
    pub(super) fn run(mut self) {
        let (checkpoint, of_checkpoint) = mpsc::sync_channel(1);
        let (keeper, of_keeper) = mpsc::sync_channel(1);
        let (next, of_next) = mpsc::sync_channel(1);
        let next_of = Arc::clone(&self.shared);
        let (shared, kept, stop) = (Arc::clone(&self.shared), self.keeper.take(), Arc::new(Stop::default()));
        let pace = self.pace;
        let stopped = Arc::clone(&stop);
        let helpers = [
            spawn("bus-checkpoint", move || checkpoint::run(&shared, &of_checkpoint, pace)),
            spawn("bus-next", move || next::run(&next_of, &of_next)),
            spawn("bus-keeper", move || kept.iter().for_each(|keeper| keeper.run(&of_keeper, &stopped))),
        ];
        self.work(&Nudges { checkpoint, keeper, next });
        stop.ask();
        for helper in helpers.into_iter().flatten() {
            if helper.join().is_err() {
                tracing::error!("a helper of the event log has panicked");
            }
        }
    }

    fn work(&mut self, nudges: &Nudges) {
        let started = Instant::now();
        // Since the last nudge of the checkpointer, and since the last one for marks.
        let (mut written, mut unmarked) = (0, MARKS_EVERY);
        let mut stopping = false;
        loop {
            let wake = if stopping { self.leftover() } else { self.wait(started.elapsed()) };
            match wake {
                Wake::Stop if stopping => return,
                Wake::Stop => stopping = true,
                Wake::Retry => self.recover(started.elapsed()),
                Wake::Submit(first) => {
                    let (bytes, stop) = self.turn(first, &mut || started.elapsed());
                    stopping |= stop;
                    written += bytes;
                    if written >= self.pace.bytes {
                        written = 0;
                        // Full means that it is about to look anyway.
                        let _ = nudges.checkpoint.try_send(());
                    }
                    unmarked += bytes;
                    if std::mem::take(&mut self.rolled) {
                        let _ = nudges.keeper.try_send(());
                        let _ = nudges.next.try_send(Wanted::File);
                    } else if self.nearly_full && unmarked >= MARKS_EVERY {
                        unmarked = 0;
                        let _ = nudges.next.try_send(Wanted::Marks);
                    }
                }
            }
        }
    }

    /// Commits what is queued, after the log was opened anew if that is due; tells how many bytes that was and whether a
    /// stop came along.
    pub(super) fn turn(&mut self, first: Submission, clock: &mut dyn FnMut() -> Duration) -> (usize, bool) {
        let (group, bytes, stop) = self.group(first);
        let now = clock();
        if self.state.retry_in(now) == Some(Duration::ZERO) {
            self.recover(now);
        }
        let epoch = self.shared.epoch();
        let (group, stale) = group.into_iter().partition(|each| each.behind.is_none_or(|behind| behind == epoch));
        self.refuse_stale(stale);
        self.commit(group, clock);
        (bytes, stop)
    }

    fn wait(&self, now: Duration) -> Wake {
        let entry = match self.state.retry_in(now) {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(timeout) => self.queue.recv_timeout(timeout),
        };
        match entry {
            Ok(Entry::Submit(submission)) => Wake::Submit(submission),
            Ok(Entry::Stop) | Err(RecvTimeoutError::Disconnected) => Wake::Stop,
            Err(RecvTimeoutError::Timeout) => Wake::Retry,
        }
    }

    /// Takes what was submitted before the stop.
    fn leftover(&self) -> Wake {
        loop {
            match self.queue.try_recv() {
                Ok(Entry::Submit(submission)) => return Wake::Submit(submission),
                Ok(Entry::Stop) => {}
                Err(_) => return Wake::Stop,
            }
        }
    }

    /// Takes what else is queued, up to the limits; tells how many bytes that is and whether a stop came along.
    fn group(&self, first: Submission) -> (Vec<Submission>, usize, bool) {
        let mut events = first.batch.events.len();
        let mut bytes = first.batch.cost();
        let mut group = vec![first];
        while events < self.limits.events && bytes < self.limits.bytes {
            match self.queue.try_recv() {
                Ok(Entry::Submit(submission)) => {
                    events += submission.batch.events.len();
                    bytes += submission.batch.cost();
                    group.push(submission);
                }
                Ok(Entry::Stop) => return (group, bytes, true),
                Err(_) => break,
            }
        }
        (group, bytes, false)
    }

    /// Begins the next segment if this one is full, and the WAL anew if the checkpointer asks for it.
    fn turn_over(&mut self, at_us: i64, clock: &mut dyn FnMut() -> Duration) {
        let Some(log) = &self.log else { return };
        if self.shared.is_to_finish_checkpoint()
            && let Err(error) = log.finish_checkpoint()
        {
            // What is wrong with the disk shows when something is committed.
            tracing::debug!(error = &error as &dyn std::error::Error, "cannot finish a checkpoint");
        }
        self.nearly_full = log.is_nearly_full();
        if !log.is_full(at_us) {
            return;
        }
        let (shared, is_overfull) = (Arc::clone(&self.shared), log.is_overfull());
        // Whoever fills the next segment's file is done in a moment, and need not be waited for.
        let next = if is_overfull { Some(shared.segments.next_when_free()) } else { shared.segments.next_if_free() };
        let Some(next) = next else { return };
        let Some(log) = self.log.take() else { return };
        self.nearly_full = false;
        match log.roll((&shared.segments, next), &self.state, shared.epoch(), shared.max_pages(), |_| Ok(())) {
            Rolled::New(log) => {
                self.shared.segments.push(self.state.head() + 1);
                self.rolled = true;
                self.log = Some(log.with_limit(self.segment_bytes));
            }
            Rolled::Kept(log) => self.log = Some(log),
            Rolled::Broken(error) => self.degrade(clock(), said(&error)),
        }
    }

    fn commit(&mut self, group: Vec<Submission>, clock: &mut dyn FnMut() -> Duration) {
        self.turn_over(group.first().map_or(0, |first| first.at_us), clock);
        let Some(log) = &mut self.log else {
            return self.refuse(group);
        };
        let plan = self.state.plan(group.iter().map(|submission| (&submission.batch, submission.at_us)));
        let began = Instant::now();
        let outcome = if plan.is_empty() { Ok(()) } else { (self.append)(log, &plan, &group) };
        match outcome {
            Ok(()) => self.acknowledge(group, plan, began.elapsed()),
            Err(error) => {
                let path = self.shared.segments.path(self.shared.segments.active());
                // A disk that fails may take its time for it.
                self.degrade(clock(), log::reason(&path, &error));
                self.refuse(group);
            }
        }
    }

    /// Shows a committed group to the readers, then tells those who wait for it.
    fn acknowledge(&mut self, mut group: Vec<Submission>, plan: Plan, took: Duration) {
        {
            let mut ring = self.shared.ring();
            for (submission, verdict) in group.iter_mut().zip(&plan.verdicts) {
                for event in events(&mut submission.batch, *verdict) {
                    ring.push(event);
                }
            }
        }
        let wrote = !plan.is_empty();
        self.shared.count(|counters| {
            for Verdict { committed, .. } in &plan.verdicts {
                counters.batches += 1;
                counters.events += committed.count as u64;
                counters.duplicates += u64::from(committed.duplicate);
                // A peer chooses its numbers: the gap can be anything.
                counters.skipped = counters.skipped.saturating_add(committed.gap);
            }
            if wrote {
                counters.commit(took);
            }
        });
        let verdicts = plan.verdicts.clone();
        self.state.committed(plan);
        self.shared.advance(self.state.head());
        for (submission, verdict) in group.into_iter().zip(verdicts) {
            if let Some(done) = submission.done {
                // Nobody has to wait for the outcome.
                let _ = done.send(Ok(verdict.committed));
            }
            drop(submission.room);
        }
    }

    /// Turns away what came behind a load that was refused: were it committed, its mark would make a duplicate of that load
    /// when it is sent again.
    fn refuse_stale(&mut self, stale: Vec<Submission>) {
        let reason: Arc<str> = "a load before this one was not logged".into();
        self.shared.count(|counters| counters.refused += stale.len() as u64);
        for done in stale.into_iter().filter_map(|each| each.done) {
            // Nobody has to wait for the outcome.
            let _ = done.send(Err(CommitError::Degraded { reason: Arc::clone(&reason) }));
        }
    }

    /// Turns a group away while the log is out of order. What the master fired itself is shown to live readers.
    fn refuse(&mut self, group: Vec<Submission>) {
        self.shared.begin_epoch();
        let reason = self.state.degraded().cloned().unwrap_or_else(|| "the event log is closed".into());
        let offset = self.state.head();
        let mut shown = 0;
        let mut refused = Vec::with_capacity(group.len());
        for mut submission in group {
            if submission.source == Source::Fire {
                let committed = Committed { offset, count: 1, duplicate: false, gap: 0 };
                let verdict = Verdict { committed, stamp_us: submission.at_us.max(self.state.stamp_us()) };
                for event in events(&mut submission.batch, verdict) {
                    shown += 1;
                    self.shared.ring().push(Event { offset, durable: false, ..event });
                }
            }
            refused.extend(submission.done);
        }
        self.shared.count(|counters| {
            counters.refused += refused.len() as u64;
            counters.not_durable += shown;
        });
        self.shared.advance(offset);
        for done in refused {
            let _ = done.send(Err(CommitError::Degraded { reason: Arc::clone(&reason) }));
        }
    }

    fn degrade(&mut self, now: Duration, reason: String) {
        let reason: Arc<str> = reason.into();
        // The transaction may or may not be in the file. Nothing is acknowledged before it was opened and looked at anew.
        self.log = None;
        if self.state.failed(now, Arc::clone(&reason)) {
            tracing::error!(%reason, "the event log is out of order: minions keep their events, nothing is acknowledged");
        }
        self.shared.set_health(Some(reason));
    }

    /// Opens the log anew and writes something, to see that it works; else says why not.
    fn reopen(&self) -> Result<(Log, Tail), String> {
        let segments = &self.shared.segments;
        let path = segments.path(segments.active());
        if !path.exists() {
            return Err(format!("the event log {} is gone; put it back, or restart the master", path.display()));
        }
        // A segment may have been begun by the write that failed.
        segments
            .refresh()
            .map_err(|error| format!("the event log cannot be read ({error}); check {}", path.display()))?;
        let path = segments.path(segments.active());
        let (mut log, tail) = Log::open(&path, self.shared.max_pages()).map_err(|error| said(&error))?;
        log.probe().map_err(|error| log::reason(&path, &error))?;
        if let Some(reason) = log::lacks_room(&path) {
            return Err(reason);
        }
        Ok((log.with_limit(self.segment_bytes), tail))
    }

    pub(super) fn recover(&mut self, now: Duration) {
        match self.reopen() {
            Err(reason) => self.degrade(now, reason),
            Ok((log, tail)) => {
                let reopened = self.state.reopened(tail);
                self.log = Some(log);
                if reopened.lost > 0 {
                    tracing::error!(
                        lost = reopened.lost,
                        "the event log has lost events that were acknowledged: check the disk"
                    );
                }
                tracing::info!(head = reopened.head, gained = reopened.gained, "the event log works again");
                self.shared.ring().restart(reopened.head);
                self.shared.set_health(None);
                self.shared.advance(reopened.head);
            }
        }
    }
}

impl Drop for Writer {
    /// However the writer ends, its readers must not wait for ever.
    fn drop(&mut self) {
        self.shared.stop();
        // Closed before the lock is given up.
        self.log = None;
        let _ = self.lock.unlock();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = &spawned {
        tracing::error!(%error, name, "cannot start a helper of the event log: it will only grow");
    }
    spawned.ok()
}

/// Says what is wrong, in one line.
fn said(error: &OpenError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error} ({source})")
}

/// Takes the events that a verdict has let in out of their batch.
fn events(batch: &mut Batch, verdict: Verdict) -> impl Iterator<Item = Event> {
    let Verdict { committed: Committed { offset, count, .. }, stamp_us } = verdict;
    let events: VecDeque<_> = std::mem::take(&mut batch.events).into();
    events.into_iter().take(count).zip(offset..).map(move |(event, offset)| Event {
        offset,
        tag: event.tag,
        stamp_us,
        data: event.data,
        durable: true,
    })
}
