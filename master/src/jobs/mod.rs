//! Jobs: from publish to return. [`Jobs`] is the handle; one task owns the live jobs, a second one feeds the job cache.
//!
//! A job's way: recipients are fixed (accepted keys that match), a jid is made, `new` and `publish` are committed to the
//! log, the job becomes live, and only then it goes out. Its serial is the log offset of its `new` event: rising, never
//! reused, known to every later process. A return is admitted once per recipient; the log decides, memory only guards.

mod announced;
mod cache;
mod earlier;
mod expiry;
mod projection;
mod publication;
mod recipients;
mod state;
mod step;
mod task;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::Publish;
use proto::msgpack;
use proto::salt::publish::Syndics;
use proto::tag::Tag;
use proto::target::nodegroup::Nodegroups;
use proto::target::{BadTarget, Target, TgtType};
use proto::value::{Map, MapExt, Value};
use tokio::sync::{mpsc, oneshot};

use crate::bus::{Batch, Bus, CommitError};
use crate::command::{CommandError, JobsQuery, PublishRequest, Published, TargetText};
use crate::keys::Keys;
use crate::pillar::Pillars;
use crate::salt::{SaltJob, SyndicsConfig};
use crate::sessions::Registry;

use announced::Announced;
use recipients::Recipients;
use state::Told;

pub use cache::CacheError;
pub use state::{Membership, Verdict};
pub use step::Stepped;
pub use task::JobsTask;

/// How many requests may wait for the jobs task. Each is answered in microseconds; when it is full, sessions wait, and
/// their sockets with them.
const REQUESTS: usize = 1024;
/// The largest publication: it is sent to every recipient.
const MAX_PUBLICATION: usize = 4 * 1024 * 1024;
/// How long a listing waits until the job cache has seen all that was logged before it was asked.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Forgets the jobs in a job cache whose events are no longer in the log, and shrinks it; returns how many.
pub fn compact(path: &std::path::Path, oldest: u64) -> Result<usize, CacheError> {
    cache::JobCache::open(path)?.compact(oldest)
}

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// The job cache's file.
    pub path: PathBuf,
    /// How long a minion that is away may still come and take a job (`job_ttl`, seconds, default 60).
    pub ttl: Duration,
    /// How long a job and its returns are kept in the job cache (`keep_jobs_seconds`, default a day; none is for ever).
    pub keep: Option<Duration>,
    /// Fire the bare-jid event that Salt up to 3007 fires first (`jid_events`, default on).
    pub jid_events: bool,
    /// The groups that targets may name (`nodegroups`).
    pub nodegroups: Nodegroups,
    /// Who may have more minions for a job (`order_masters`, `syndics`); nobody by default.
    pub syndics: Option<SyndicsConfig>,
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    requests: mpsc::Sender<task::JobsInput>,
    projected: tokio::sync::watch::Receiver<u64>,
    parts: Arc<Parts>,
}

struct Parts {
    config: JobsConfig,
    bus: Bus,
    keys: Keys,
    registry: Registry,
    nodegroups: ArcSwap<Nodegroups>,
    syndics: ArcSwapOption<SyndicsConfig>,
    /// Who has named minions for others and none of its own id: nobody waits for it, unless it names that.
    relays: Mutex<HashSet<MinionId>>,
    /// What minions were told of their pillars, once it is there: targets look at it.
    pillars: OnceLock<Pillars>,
}

impl Jobs {
    /// Opens the job cache and makes the handle and its task.
    pub fn open(config: JobsConfig, bus: Bus, keys: Keys, registry: Registry) -> Result<(Jobs, JobsTask), CacheError> {
        let (requests, inbox) = mpsc::channel(REQUESTS);
        let (task, projected) = JobsTask::open(&config, bus.clone(), inbox)?;
        let nodegroups = ArcSwap::from_pointee(config.nodegroups.clone());
        let syndics = ArcSwapOption::from_pointee(config.syndics.clone());
        let (relays, pillars) = (Mutex::default(), OnceLock::new());
        let parts = Arc::new(Parts { config, bus, keys, registry, nodegroups, syndics, relays, pillars });
        Ok((Jobs { requests, projected, parts }, task))
    }

    /// Lets targets look at pillars.
    pub fn see_pillars(&self, pillars: Pillars) {
        // Set once, at start.
        let _ = self.parts.pillars.set(pillars);
    }

    /// Returns the accepted minions that a minion's target means. Pillars are compared exactly: a pattern would let one
    /// minion guess what another one's says.
    pub async fn matching(&self, target: TargetText) -> Result<Vec<MinionId>, CommandError> {
        let target = self.expanded(target)?.parse().map_err(|error| invalid(&error))?.with_exact_pillar();
        Ok(self.found(target).await?.minions)
    }

    /// Returns the accepted minions that an operator's target means.
    pub async fn meant(&self, target: &TargetText) -> Result<Vec<MinionId>, CommandError> {
        Ok(self.recipients(&self.expanded(target.clone())?).await?.minions)
    }

    /// Tells whether a target means this minion. Blocks for a moment.
    pub fn means_blocking(&self, target: &TargetText, id: &MinionId) -> bool {
        let parsed = self.expanded(target.clone()).ok().and_then(|target| target.parse().ok());
        let only = std::slice::from_ref(id);
        parsed.is_some_and(|target| {
            recipients::find(&target.with_exact_pillar(), only, &self.known())
                .is_ok_and(|found| !found.minions.is_empty())
        })
    }

    /// Takes new nodegroups; jobs that are published keep the old ones.
    pub fn set_nodegroups(&self, nodegroups: Nodegroups) {
        self.parts.nodegroups.store(Arc::new(nodegroups));
    }

    /// Returns who speaks for others, if anybody does.
    pub fn syndics(&self) -> Option<Arc<SyndicsConfig>> {
        self.parts.syndics.load_full()
    }

    /// Lets others speak for others from now on.
    pub fn set_syndics(&self, syndics: Option<SyndicsConfig>) {
        self.parts.syndics.store(syndics.map(Arc::new));
    }

    /// Publishes a job in somebody's name.
    pub async fn publish(&self, user: &str, mut request: PublishRequest) -> Result<Published, CommandError> {
        if let Some(jid) = request.jid.clone()
            && let Some(earlier) = self.ask(|answer| task::JobsInput::Earlier { jid: jid.clone(), answer }).await?
        {
            return self.publish_again(user, jid, &request, &earlier).await;
        }
        request.target = self.expanded(request.target)?;
        let (recipients, syndics) = self.addressed(&request.target).await?;
        if recipients.minions.is_empty() && syndics.is_none() {
            return Err(CommandError::NoMatch);
        }
        let jid = match request.jid.clone() {
            Some(jid) => jid,
            None => self.allocate().await?,
        };
        self.announce(user, jid, &request, (recipients, syndics)).await
    }

    /// Logs a job, makes it live and sends it out.
    async fn announce(
        &self,
        user: &str,
        jid: Jid,
        request: &PublishRequest,
        (recipients, syndics): (Recipients, Option<Arc<SyndicsConfig>>),
    ) -> Result<Published, CommandError> {
        let Recipients { minions, missing, perhaps } = recipients;
        let load = publication::fields(user, &jid, request, syndics.as_deref());
        if msgpack::encode_map(&load).len() > MAX_PUBLICATION {
            return Err(CommandError::Invalid(format!("the job's arguments exceed {MAX_PUBLICATION} bytes")));
        }
        let ttl = request.ttl.unwrap_or(self.parts.config.ttl);
        if ttl.is_zero() {
            let text =
                "a job that nobody has time to take reaches nobody: give it a second at least (--queue, job_ttl)";
            return Err(CommandError::Invalid(text.to_owned()));
        }
        let expires_ms = now_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let job = Announced { jid: &jid, load: &load, minions: &minions, missing: &missing, expires_ms };
        let offset = self.log_new(&job).await?;
        let publish = Arc::new(Publish { jid: jid.clone(), serial: offset, expires_ms, load });
        let (salt, native): (Vec<MinionId>, Vec<MinionId>) =
            minions.iter().cloned().partition(|id| self.parts.keys.is_salt(id));
        // Nobody knows whether a Salt minion is there before its time is over.
        let down = self.parts.registry.down_among(&native);
        let missed = down.iter().map(|(id, _)| id.clone()).collect();
        let told = Told { minions: minions.iter().cloned().collect(), missed, ..Told::default() };
        self.ask(|answer| task::JobsInput::Insert { publish: Arc::clone(&publish), told, answer }).await?;
        self.parts.registry.deliver(&native, &Bytes::from(publish.encode()));
        let hear = if syndics.is_some() { Syndics::Hear } else { Syndics::No };
        let exposed = self.publish_salt(SaltJob { publish, minions: salt, syndics: hear }, perhaps).await;
        let syndic_wait = syndics.map(|syndics| syndics.wait);
        Ok(Published { jid, minions, missing, down, offset, exposed, syndic_wait })
    }

    /// Returns how syndics are told of a job, if it may be for minions of theirs: a list of ids that all have a key here is
    /// not.
    fn syndics_for(&self, target: &TargetText, missing: &[String]) -> Option<Arc<SyndicsConfig>> {
        let config = self.syndics()?;
        let is_listed = TgtType::parse(&target.tgt_type) == Ok(TgtType::List);
        if is_listed && missing.is_empty() {
            return None;
        }
        let keys = &self.parts.keys;
        let is_there = keys.accepted_ids().iter().any(|id| config.names(id) && keys.is_salt(id));
        is_there.then_some(config)
    }

    /// Sends a job out on the Salt wire if somebody there can match it: one of its recipients, a minion of a syndic, or a
    /// Salt minion that has told nothing of itself and that the target may mean. Returns those for whom alone its arguments
    /// crossed that wire.
    async fn publish_salt(&self, job: SaltJob, perhaps: Vec<MinionId>) -> Vec<MinionId> {
        if !job.minions.is_empty() || job.syndics == Syndics::Hear {
            self.parts.registry.publish_salt(job).await;
            return Vec::new();
        }
        let publish = job.publish;
        let perhaps: Vec<MinionId> = perhaps.into_iter().filter(|id| self.parts.keys.is_salt(id)).collect();
        if perhaps.is_empty() {
            return Vec::new();
        }
        let has_arguments = publish.load.at("arg").is_some_and(Value::is_truthy);
        let jid = publish.jid.clone();
        let went_out =
            self.parts.registry.publish_salt(SaltJob { publish, minions: perhaps.clone(), syndics: Syndics::No }).await;
        if !went_out || !has_arguments {
            return Vec::new();
        }
        tracing::warn!(%jid, minions = ?perhaps, "a job for native minions went out on the Salt wire too, arguments and all: Salt minions that have told nothing of themselves may match");
        perhaps
    }

    /// Forgets the jobs whose events are older than this offset; returns how many.
    pub async fn compact(&self, oldest: u64) -> Result<usize, CommandError> {
        let path = self.parts.config.path.clone();
        let done = tokio::task::spawn_blocking(move || compact(&path, oldest)).await;
        let done = done.map_err(|_| CommandError::Busy("the master is stopping; ask again in a moment".into()))?;
        done.map_err(|error| CommandError::Internal(format!("failed to {:#}", anyhow::Error::from(error))))
    }

    /// Tells whether there is a job with this jid.
    pub async fn knows(&self, jid: &Jid) -> Result<bool, CommandError> {
        let jid = jid.clone();
        self.ask(|answer| task::JobsInput::Knows { jid, answer }).await
    }

    /// Adds the minions that a syndic has named to those that a job is for.
    pub async fn extend(&self, jid: &Jid, syndic: &MinionId, minions: Vec<MinionId>) {
        if minions.contains(syndic) {
            self.relays().remove(syndic);
        } else {
            self.relays().insert(syndic.clone());
        }
        let input = task::JobsInput::Extend { jid: jid.clone(), syndic: syndic.clone(), minions };
        // A closed channel means that the master is stopping; the next one reads it in the log.
        let _ = self.requests.send(input).await;
    }

    fn relays(&self) -> MutexGuard<'_, HashSet<MinionId>> {
        self.parts.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a jid that no other job has.
    pub async fn allocate(&self) -> Result<Jid, CommandError> {
        self.ask(|answer| task::JobsInput::Allocate { now_us: now_us(), answer }).await
    }

    /// Judges a return and, if it is accepted, notes that it came.
    pub async fn admit(&self, id: &MinionId, jid: &str, membership: Membership) -> Result<Verdict, CommandError> {
        let (id, jid) = (id.clone(), jid.to_owned());
        self.ask(|answer| task::JobsInput::Admit { id, jid, membership, now_us: now_us(), answer }).await
    }

    /// Notes that an admitted return is in the log.
    pub async fn logged(&self, id: &MinionId, jid: &Jid) {
        // A closed channel means that the master is stopping; the next one asks the log.
        let _ = self.requests.send(task::JobsInput::Logged { id: id.clone(), jid: jid.clone() }).await;
    }

    /// Takes back an admitted return that could not be logged.
    pub async fn take_back(&self, id: &MinionId, jid: &Jid) {
        let input = task::JobsInput::TakeBack { id: id.clone(), jid: jid.clone() };
        // A closed channel means that the master is stopping; the minion will resend to the next one.
        let _ = self.requests.send(input).await;
    }

    /// Notes that a minion is not meant by a job after all, and tells those who wait for it.
    pub async fn no_match(&self, id: &MinionId, jid: &Jid) -> Result<(), CommandError> {
        let owed = |answer| task::JobsInput::NoMatch { id: id.clone(), jid: jid.clone(), answer };
        if self.ask(owed).await? {
            self.parts.bus.try_fire(Tag::job_no_match(jid, id), &map! { "jid" => jid, "id" => id });
        }
        Ok(())
    }

    /// Returns the cached grains of those that a target means.
    pub async fn grains(&self, target: TargetText) -> Result<Map, CommandError> {
        let target = self.expanded(target)?;
        let found = self.recipients(&target).await?;
        let grains = |id: &MinionId| {
            let known = msgpack::decode_map(&self.parts.registry.grains(id)?).ok()?;
            Some((Value::from(id), Value::Map(known)))
        };
        Ok(found.minions.iter().filter_map(grains).collect())
    }

    /// Returns the resume point and the jobs that a minion may still take.
    pub async fn since(&self, id: &MinionId) -> Result<(u64, Vec<Arc<Publish>>), CommandError> {
        let id = id.clone();
        self.ask(|answer| task::JobsInput::Since { id, now_ms: now_ms(), answer }).await
    }

    /// Returns the resume point of publications at this moment.
    pub async fn serial(&self) -> Result<u64, CommandError> {
        self.ask(|answer| task::JobsInput::Serial { answer }).await
    }

    /// Returns the live jobs that somebody still owes a return: who is connected (`Running`), and who is not (`Away`).
    pub async fn active(&self) -> Result<Map, CommandError> {
        let mut jobs = self.ask(|answer| task::JobsInput::Active { answer }).await?;
        for job in jobs.values_mut().filter_map(Value::as_map_mut) {
            let owing = job.at("Running").and_then(Value::as_list).unwrap_or_default();
            let owing: Vec<MinionId> = owing.iter().filter_map(|id| MinionId::parse(id.as_str()?).ok()).collect();
            let down = self.parts.registry.down_among(&owing);
            let down: HashSet<&MinionId> = down.iter().map(|(id, _)| id).collect();
            let (away, running): (Vec<&MinionId>, Vec<&MinionId>) = owing.iter().partition(|id| down.contains(id));
            job.set("Running", running.into_iter().map(Value::from).collect::<Vec<_>>());
            job.set("Away", away.into_iter().map(Value::from).collect::<Vec<_>>());
        }
        Ok(jobs)
    }

    /// Lists jobs, oldest first.
    pub async fn list(&self, query: JobsQuery) -> Result<Map, CommandError> {
        self.catch_up().await;
        self.read(move |cache| cache.list(&query)).await
    }

    /// Shows one job.
    pub async fn show(&self, jid: Jid) -> Result<Option<Map>, CommandError> {
        self.catch_up().await;
        self.read(move |cache| cache.show(&jid)).await
    }

    /// Returns the last offset of the log that the job cache has taken in.
    pub fn projected(&self) -> u64 {
        *self.projected.borrow()
    }

    async fn catch_up(&self) {
        let head = self.parts.bus.head();
        let mut projected = self.projected.clone();
        // A cache that lags answers with what it has.
        let _ = tokio::time::timeout(CATCH_UP, projected.wait_for(|seen| *seen >= head)).await;
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&cache::JobCache) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CommandError> {
        let path = self.parts.config.path.clone();
        let read = tokio::task::spawn_blocking(move || query(&cache::JobCache::open_to_read(&path)?)).await;
        match read {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(CommandError::Internal(format!("failed to {error}"))),
            Err(_) => Err(CommandError::Internal("the master is stopping".into())),
        }
    }

    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> task::JobsInput) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        let stopping = || CommandError::Busy("the master is stopping; ask again in a moment".into());
        self.requests.send(input(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }

    /// Replaces nodegroups by what they stand for: minions do not know them.
    fn expanded(&self, target: TargetText) -> Result<TargetText, CommandError> {
        let Some(text) = target.tgt.as_str() else { return Ok(target) };
        let groups = self.parts.nodegroups.load();
        let tgt = match TgtType::parse(&target.tgt_type) {
            Ok(TgtType::Nodegroup) => groups.expand(text),
            Ok(TgtType::Compound) if text.contains("N@") => groups.expand_compound(text),
            _ => return Ok(target),
        };
        let tgt = tgt.map_err(|error| invalid(&error.into()))?;
        Ok(TargetText { tgt: tgt.into(), tgt_type: TgtType::Compound.name().to_owned(), ..target })
    }

    async fn recipients(&self, target: &TargetText) -> Result<Recipients, CommandError> {
        self.found(target.parse().map_err(|error| invalid(&error))?).await
    }

    /// Returns where the facts of minions are looked up.
    fn known(&self) -> impl recipients::Known + use<> {
        FactsOf { registry: self.parts.registry.clone(), pillars: self.parts.pillars.get().cloned() }
    }

    async fn found(&self, target: Target) -> Result<Recipients, CommandError> {
        let accepted = self.parts.keys.accepted_ids();
        let known = self.known();
        let cheap = target.needs().is_nothing() && !target.needs_pillar();
        let find = move || recipients::find(&target, &accepted, &known);
        // Thousands of grains take their time; the async threads have connections to serve.
        let found = if cheap { Ok(find()) } else { tokio::task::spawn_blocking(find).await };
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                let text = format!("failed to {:#}", anyhow::Error::from(error));
                Err(CommandError::Invalid(text))
            }
            Err(_) => Err(CommandError::Internal("the target could not be matched".into())),
        }
    }

    /// Logs the events that announce a job; returns the offset of the first.
    async fn log_new(&self, job: &Announced<'_>) -> Result<u64, CommandError> {
        let (events, jid) = (job.events(self.parts.config.jid_events), job.jid);
        match self.parts.bus.commit(Batch { events, mark: None }).await {
            Ok(committed) => Ok(committed.offset),
            // A full disk does not keep an operator from acting; the master says aloud that nothing is durable now.
            Err(CommitError::Degraded { reason }) => {
                tracing::warn!(%jid, %reason, "the job is published but not in the log");
                Ok(self.parts.bus.head())
            }
            Err(error) => Err(CommandError::Internal(format!("failed to log the job: {error}"))),
        }
    }
}

/// What the master knows of its minions.
struct FactsOf {
    registry: Registry,
    pillars: Option<Pillars>,
}

impl recipients::Known for FactsOf {
    fn grains(&self, id: &MinionId) -> Option<Bytes> {
        self.registry.grains(id)
    }

    fn pillar(&self, id: &MinionId) -> Option<Bytes> {
        let grains = || msgpack::decode_map(&self.registry.grains(id)?).ok();
        self.pillars.as_ref()?.known_blocking(id, grains)
    }
}

fn invalid(error: &BadTarget) -> CommandError {
    CommandError::Invalid(error.to_string())
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn now_ms() -> u64 {
    now_us().unsigned_abs() / 1_000
}

#[cfg(test)]
mod tests;
