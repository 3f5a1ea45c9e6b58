//! The loop of the live jobs: one request at a time, answered from memory, rarely from the job cache.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use proto::ids::{Jid, MinionId};
use proto::message::Publish;
use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::cache::{CacheError, Cached, JobCache};
use super::earlier::Earlier;
use super::projection::Projection;
use super::state::{JobsState, Known, Membership, Told, Verdict};
use super::{JobsConfig, now_ms};
use crate::bus::Bus;

/// How often jobs that expired long ago are forgotten.
const EXPIRE_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// What the task is asked.
pub(super) enum JobsInput {
    Active { answer: oneshot::Sender<Map> },
    Admit { id: MinionId, jid: String, membership: Membership, now_us: i64, answer: oneshot::Sender<Verdict> },
    Allocate { now_us: i64, answer: oneshot::Sender<Jid> },
    Earlier { jid: Jid, answer: oneshot::Sender<Option<Earlier>> },
    Extend { jid: Jid, syndic: MinionId, minions: Vec<MinionId> },
    Insert { publish: Arc<Publish>, told: Told, answer: oneshot::Sender<()> },
    Knows { jid: Jid, answer: oneshot::Sender<bool> },
    Logged { id: MinionId, jid: Jid },
    NoMatch { id: MinionId, jid: Jid, answer: oneshot::Sender<bool> },
    Serial { answer: oneshot::Sender<u64> },
    Since { id: MinionId, now_ms: u64, answer: oneshot::Sender<(u64, Vec<Arc<Publish>>)> },
    TakeBack { id: MinionId, jid: Jid },
}

/// Owns the live jobs.
pub struct JobsTask {
    state: JobsState,
    inbox: mpsc::Receiver<JobsInput>,
    pub(super) cache: JobCache,
    path: PathBuf,
    keep: Option<std::time::Duration>,
    bus: Bus,
    projected: watch::Sender<u64>,
}

impl JobsTask {
    pub(super) fn open(
        config: &JobsConfig,
        bus: Bus,
        inbox: mpsc::Receiver<JobsInput>,
    ) -> Result<(JobsTask, watch::Receiver<u64>), CacheError> {
        let cache = JobCache::open(&config.path)?;
        let (projected, seen) = watch::channel(cache.resume(bus.head())?.saturating_sub(1));
        let (path, keep) = (config.path.clone(), config.keep);
        Ok((JobsTask { state: JobsState::default(), inbox, cache, path, keep, bus, projected }, seen))
    }

    /// Runs until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), CacheError> {
        let (cache, bus, projected) = (JobCache::open(&self.path)?, self.bus.clone(), self.projected.clone());
        let mut projection = Projection::new(cache, bus, projected, self.keep)?;
        // Returns that were logged before the last stop must be known before the first one is judged.
        projection.catch_up().await?;
        self.restore(now_ms())?;
        let projection = tokio::spawn(projection.run(stop.clone()));
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = expire.tick() => self.state.expire(now_ms()),
                input = self.inbox.recv() => match input {
                    Some(input) => self.handle(input),
                    None => break,
                },
            }
        }
        // It has panicked, or the runtime is shutting down; either was told by whoever saw it.
        let _ = projection.await;
        Ok(())
    }

    /// Takes up the jobs that minions may still ask for.
    pub(super) fn restore(&mut self, now_ms: u64) -> Result<(), CacheError> {
        for row in self.cache.live(now_ms)? {
            let Ok(jid) = Jid::parse(&row.jid) else { continue };
            let load = publication(msgpack::decode_map(&row.load).unwrap_or_default());
            let publish = Publish { jid, serial: row.serial, expires_ms: row.expires_ms, load };
            let ids = |texts: Vec<String>| -> HashSet<MinionId> {
                texts.iter().filter_map(|text| MinionId::parse(text).ok()).collect()
            };
            let minions = ids(row.minions);
            // Whoever runs it asks for it when it comes back.
            let told = Told { missed: minions.clone(), minions, returned: ids(row.returned) };
            self.state.insert(Arc::new(publish), told);
        }
        Ok(())
    }

    pub(super) fn handle(&mut self, input: JobsInput) {
        match input {
            JobsInput::Active { answer } => gone(answer.send(self.active())),
            JobsInput::Admit { id, jid, membership, now_us, answer } => {
                gone(answer.send(self.admit(&id, &jid, membership, now_us)));
            }
            JobsInput::Allocate { now_us, answer } => gone(answer.send(self.allocate(now_us))),
            JobsInput::Earlier { jid, answer } => gone(answer.send(self.earlier(&jid))),
            JobsInput::Extend { jid, syndic, minions } => self.state.extend(&jid, &syndic, minions),
            JobsInput::Insert { publish, told, answer } => {
                self.insert(publish, told);
                gone(answer.send(()));
            }
            JobsInput::Knows { jid, answer } => gone(answer.send(self.knows(&jid))),
            JobsInput::Logged { id, jid } => self.state.logged(&id, &jid),
            JobsInput::NoMatch { id, jid, answer } => gone(answer.send(self.state.no_match(&id, &jid))),
            JobsInput::Serial { answer } => gone(answer.send(self.state.serial())),
            JobsInput::Since { id, now_ms, answer } => {
                gone(answer.send((self.state.serial(), self.state.since(&id, now_ms))));
            }
            JobsInput::TakeBack { id, jid } => self.state.take_back(&id, &jid),
        }
    }

    fn insert(&mut self, publish: Arc<Publish>, told: Told) {
        if let Err(error) = self.cache.remember(&publish.jid, publish.serial, publish.expires_ms) {
            tracing::error!(jid = %publish.jid, error = &error as &dyn std::error::Error, "job cannot be caught up after a restart");
        }
        self.state.insert(publish, told);
    }

    fn allocate(&mut self, now_us: i64) -> Jid {
        loop {
            let jid = self.state.allocate(now_us);
            if !self.knows(&jid) {
                return jid;
            }
        }
    }

    /// Tells whether a jid is in use. A cache that cannot be read knows nothing.
    fn knows(&self, jid: &Jid) -> bool {
        self.state.contains(jid) || self.cache.has_job(jid).unwrap_or(false)
    }

    /// Returns what is known of a job. A cache that cannot be read knows nothing.
    fn earlier(&self, jid: &Jid) -> Option<Earlier> {
        self.state.earlier(jid).or_else(|| self.cache.earlier(jid).unwrap_or_default())
    }

    fn admit(&mut self, id: &MinionId, jid: &str, membership: Membership, now_us: i64) -> Verdict {
        let verdict = self.judge(id, jid, membership, now_us);
        if let Verdict::Accept(jid) | Verdict::Unexpected(jid) = &verdict {
            self.state.admitted(id, jid);
        }
        verdict
    }

    fn judge(&mut self, id: &MinionId, jid: &str, membership: Membership, now_us: i64) -> Verdict {
        // `req` and anything that is no jid: the return stands alone, under a jid of its own (salt-wire.md §5.3).
        let Ok(jid) = Jid::parse(jid) else { return Verdict::Accept(self.allocate(now_us)) };
        match self.state.admit(id, &jid, membership) {
            Known::Live(verdict) => verdict,
            Known::Unknown => match self.cache.judge(id, &jid) {
                Ok(Cached::Owed | Cached::NoJob) => Verdict::Accept(jid),
                Ok(Cached::Returned) => Verdict::Duplicate,
                Ok(Cached::Foreign) => membership.verdict(jid),
                Err(error) => {
                    tracing::error!(%jid, minion_id = %id, error = &error as &dyn std::error::Error, "return cannot be judged");
                    Verdict::Accept(jid)
                }
            },
        }
    }

    fn active(&self) -> Map {
        let (mut active, now_ms) = (Map::new(), now_ms());
        for job in self.state.active(now_ms) {
            let field = |name: &str| job.publish.load.at(name).cloned().unwrap_or_default();
            let sorted = |mut ids: Vec<&MinionId>| {
                ids.sort();
                ids.into_iter().map(Value::from).collect::<Vec<_>>()
            };
            let shown = proto::map! {
                "Function" => field("fun"), "Arguments" => field("arg"), "Target" => field("tgt"),
                "Target-type" => field("tgt_type"), "User" => field("user"),
                "StartTime" => job.publish.jid.start_time(),
                "Running" => sorted(job.owing(now_ms).collect()), "Returned" => sorted(job.returned.iter().collect()),
            };
            active.set(job.publish.jid.as_str(), shown);
        }
        active
    }
}

/// Whoever asked may have gone and no longer wants the answer.
fn gone<T>(_unsent: Result<(), T>) {}

/// What a job's row has that its minions were not told.
const NOT_PUBLISHED: &[&str] = &["minions", "missing"];

/// Makes the publication's fields of those of a job's row, in Salt's order.
pub(super) fn publication(mut job: Map) -> Map {
    let mut field = |name: &str| job.take(name).unwrap_or_default();
    let mut load = proto::map! {
        "fun" => field("fun"), "arg" => field("arg"), "tgt" => field("tgt"), "jid" => field("jid"),
    };
    load.set("ret", job.take("ret").unwrap_or_else(|| "".into()));
    for name in ["tgt_type", "user"] {
        load.set(name, job.take(name).unwrap_or_default());
    }
    job.retain(|name, _| !name.as_str().is_some_and(|name| NOT_PUBLISHED.contains(&name)));
    load.extend(job);
    load
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn a_job_is_published_again_as_it_was() {
        let job = map! { "jid" => "1", "tgt_type" => "glob", "tgt" => "*", "user" => "root", "fun" => "test.ping",
        "arg" => vec![1], "minions" => vec!["a"], "missing" => vec!["b"], "metadata" => 3, "ret" => "redis" };
        let names = |load: &Map| load.keys().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
        let load = publication(job.clone());
        assert_eq!(names(&load), "fun arg tgt jid ret tgt_type user metadata");
        assert_eq!(
            (load.text("ret"), load.text("fun"), load.at("metadata")),
            (Some("redis"), Some("test.ping"), Some(&3.into()))
        );
        let mut plain = job;
        plain.take("ret");
        assert_eq!(publication(plain).text("ret"), Some(""));
    }
}
