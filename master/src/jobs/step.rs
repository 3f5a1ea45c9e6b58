//! Live jobs and the job cache without their tasks: asked by hand, by clocks that come in. For the simulation.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{Jid, MinionId};
use proto::message::Publish;
use proto::value::Map;
use tokio::sync::{mpsc, oneshot};

use super::announced::Announced;
use super::cache::{CacheError, JobCache};
use super::state::Told;
use super::task::{JobsInput, JobsTask};
use super::{JobsConfig, Membership, Verdict};
use crate::bus::{Batch, Bus, Event};

/// The jobs of a master.
pub struct Stepped {
    task: JobsTask,
    /// What the projection writes through.
    cache: JobCache,
}

impl Stepped {
    /// Opens the job cache. What the log has beyond it is to be taken in, then the live jobs restored.
    pub fn open(path: &Path, bus: &Bus) -> Result<Stepped, CacheError> {
        let config = JobsConfig {
            path: path.to_owned(),
            ttl: Duration::ZERO,
            jid_events: false,
            keep: None,
            nodegroups: proto::target::nodegroup::Nodegroups::default(),
            syndics: None,
        };
        let (_, inbox) = mpsc::channel(1);
        let (task, _) = JobsTask::open(&config, bus.clone(), inbox)?;
        Ok(Stepped { task, cache: JobCache::open(path)? })
    }

    /// Returns the first offset that the job cache has not taken in.
    pub fn next_offset(&self) -> Result<u64, CacheError> {
        self.cache.next_offset()
    }

    /// Takes events of the log into the job cache.
    pub fn take_in(&mut self, events: &[Event]) -> Result<(), CacheError> {
        self.cache.take_in(events, None)
    }

    /// Takes up the jobs that minions may still ask for.
    pub fn restore(&mut self, now_ms: u64) -> Result<(), CacheError> {
        self.task.restore(now_ms)
    }

    /// Makes a jid that no other job has.
    pub fn allocate(&mut self, now_us: i64) -> Jid {
        self.ask(|answer| JobsInput::Allocate { now_us, answer })
    }

    /// Tells whether a job of this jid was published already.
    pub fn knows(&mut self, jid: &Jid) -> bool {
        self.ask(|answer| JobsInput::Knows { jid: jid.clone(), answer })
    }

    /// Returns what is to be logged of a job before anybody hears of it.
    pub fn announce(jid: &Jid, load: &Map, minions: &[MinionId], expires_ms: u64) -> Batch {
        let job = Announced { jid, load, minions, missing: &[], expires_ms };
        Batch { events: job.events(false), mark: None }
    }

    /// Makes a job live that is in the log.
    pub fn insert(&mut self, publish: Arc<Publish>, minions: HashSet<MinionId>) {
        let told = Told { minions, ..Told::default() };
        self.ask(|answer| JobsInput::Insert { publish, told, answer });
    }

    /// Judges a return.
    pub fn admit(&mut self, id: &MinionId, jid: &str, now_us: i64) -> Verdict {
        self.ask(|answer| JobsInput::Admit {
            id: id.clone(),
            jid: jid.to_owned(),
            membership: Membership::Recipient,
            now_us,
            answer,
        })
    }

    /// Notes that an admitted return is in the log.
    pub fn logged(&mut self, id: &MinionId, jid: &Jid) {
        self.task.handle(JobsInput::Logged { id: id.clone(), jid: jid.clone() });
    }

    /// Takes back an admitted return that could not be logged.
    pub fn take_back(&mut self, id: &MinionId, jid: &Jid) {
        self.task.handle(JobsInput::TakeBack { id: id.clone(), jid: jid.clone() });
    }

    /// Notes that a job does not mean a minion.
    pub fn no_match(&mut self, id: &MinionId, jid: &Jid) -> bool {
        self.ask(|answer| JobsInput::NoMatch { id: id.clone(), jid: jid.clone(), answer })
    }

    /// Returns the resume point and the jobs that a minion may still take.
    pub fn since(&mut self, id: &MinionId, now_ms: u64) -> (u64, Vec<Arc<Publish>>) {
        self.ask(|answer| JobsInput::Since { id: id.clone(), now_ms, answer })
    }

    fn ask<T>(&mut self, input: impl FnOnce(oneshot::Sender<T>) -> JobsInput) -> T {
        let (answer, mut answered) = oneshot::channel();
        self.task.handle(input(answer));
        answered.try_recv().expect("the task answers before it returns")
    }
}
