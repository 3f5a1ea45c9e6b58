//! The files that Salt's tools read on the master's host (salt-wire.md §8): the job cache `cachedir/jobs`, and what is
//! known of each minion.
//!
//! They are a projection: one task reads the log, in order and from where it stopped, and writes what is not there yet. All
//! of it can be deleted; nothing of the master reads it. The one thing that somebody waits for is the load of a job that
//! one of Salt's tools publishes: the tool reads it as soon as it has the reply (fact 4 of salt-wire.md).
//!
//! Files: `task.rs` the loop, `disk.rs` how a file gets there, `jobs.rs` the job cache, `facts.rs` grains and pillar.

mod disk;
mod facts;
mod jobs;
mod task;

use std::path::PathBuf;
use std::time::Duration;

use proto::ids::{Jid, MinionId};
use proto::value::Map;

use crate::bus::Bus;
use crate::keys::Keys;
use crate::pillar::Pillars;
use crate::sessions::Registry;

pub use disk::WriteError;
pub use task::SaltFilesTask;

use jobs::JobDir;

/// What a Salt master makes in `cachedir` when it starts, and its tools rely on: `salt-run` of 3008 writes into `proc`.
const DIRS: [&str; 7] = ["grains", "jobs", "minions", "pillar", "proc", SYNDICS, "tokens"];
/// Where each syndic has an empty file.
const SYNDICS: &str = "syndics";

/// Where the files lie, and for how long.
#[derive(Debug, Clone)]
pub struct SaltFilesConfig {
    /// The master's `cachedir`.
    pub cachedir: PathBuf,
    /// Whether grains and pillars are written (`minion_data_cache`, default on).
    pub facts: bool,
    /// How long the files of a job are kept (`keep_jobs_seconds`, default 86400); none: for ever.
    pub keep_jobs: Option<Duration>,
}

/// The handle: cheap to clone.
#[derive(Debug, Clone)]
pub struct SaltFiles {
    cachedir: PathBuf,
}

impl SaltFiles {
    /// Makes the directories, the handle and its task. `known` is what minions have told, and what they were told.
    pub fn open(
        config: SaltFilesConfig,
        bus: Bus,
        keys: Keys,
        known: (Registry, Pillars),
    ) -> Result<(SaltFiles, SaltFilesTask), WriteError> {
        DIRS.iter().try_for_each(|name| disk::make_dir(&config.cachedir.join(name)))?;
        let files = SaltFiles { cachedir: config.cachedir.clone() };
        Ok((files, SaltFilesTask::new(config, bus, keys, known)))
    }

    /// Says that an id is a syndic's: Salt's command line does not miss its return.
    pub async fn mark_syndic(&self, id: MinionId) -> Result<(), WriteError> {
        let path = self.cachedir.join(SYNDICS).join(id.as_str());
        let written =
            tokio::task::spawn_blocking(move || if path.exists() { Ok(()) } else { disk::write_whole(&path, b"") });
        // An error means that the runtime is shutting down.
        written.await.unwrap_or(Ok(()))
    }

    /// Writes the load of a job, as it was asked for, and who is expected to return.
    pub async fn save_load(&self, jid: Jid, load: Map, minions: Vec<MinionId>) -> Result<(), WriteError> {
        let job = JobDir::of(&self.cachedir, &jid);
        let written = tokio::task::spawn_blocking(move || job.save_load(&jid, &load, &minions, jobs::Replace::Yes));
        // An error means that the runtime is shutting down.
        written.await.unwrap_or(Ok(()))
    }
}
