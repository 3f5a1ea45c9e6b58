//! The reactor: events answered by jobs, runners and key commands.
//!
//! ```yaml
//! reactor:
//!   - 'salt/beacon/*/sh/*':
//!     - /srv/reactor/sh.sls
//!     - salt://reactor/notify.sls
//! ```
//! ```text
//! bus ─▶ state.rs: which rules, how deep, how often ─▶ sls.rs: files, rendered ─▶ high.rs: chunks
//!     ─▶ outbox.rs: chunks, their jids and the cursor in one transaction ─▶ reactions/: commands ─▶ the door
//! ```
//! - **Once.** An event is rendered once. What it sets off is in the outbox before any of it happens; after a crash the
//!   unfinished rest happens again: jobs exactly once (by jid), runners and key commands at least once, with a key.
//! - **Every event.** The cursor is stored; after an outage the log is read from there. What is older than
//!   `reactor_max_age` by then is skipped, counted and named (`halite/reactor/skipped`). A new reactor starts at the end.
//! - **No loops.** Events of `user: Reactor` and of the reactor itself set nothing off; chains of more than eight
//!   reactions are cut (`halite/reactor/loop`); each rule has a rate limit (`halite/reactor/limited`).
//! - What goes wrong is logged in Salt's words and fired as `halite/reactor/error`; what was mended while reading is
//!   fired as `halite/reactor/warning`, once.

mod functions;
mod grains;
mod high;
mod outbox;
mod plan;
mod reactions;
mod report;
mod rules;
mod sls;
mod spaces;
mod state;
mod task;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::tag::Tag;
use proto::value::{Map, Value};
use render::yaml::ReactorEntry;
use tokio::sync::watch;

use crate::bus::Bus;
use crate::command::CommandError;
use crate::runners::Ask;

pub use outbox::OpenError;
pub use task::{ReactorTask, RunError};

use outbox::Outbox;
use rules::Rules;
use sls::Files;

/// How the reactor works.
#[derive(Debug, Clone)]
pub struct ReactorConfig {
    /// Which tags set off which files (`reactor`, default none).
    pub rules: Vec<ReactorEntry>,
    /// Where `salt://` paths are looked for, in this order (`file_roots`, environment `base`).
    pub file_roots: Vec<PathBuf>,
    /// How old an event may be after an outage (`reactor_max_age`, seconds, default 600).
    pub max_age: Duration,
    /// The file of cursor and outbox: `reactor.db` under `cachedir`. Not changed by a reload.
    pub path: PathBuf,
    /// The master's options, as files see them (`opts`).
    pub opts: Map,
}

/// What is in force: a configuration, compiled.
#[derive(Debug)]
struct Loaded {
    rules: Rules,
    max_age: Duration,
    file_roots: Vec<PathBuf>,
    opts: Map,
    grains: Map,
}

impl Loaded {
    fn new(config: ReactorConfig) -> Arc<Loaded> {
        let ReactorConfig { rules, file_roots, max_age, opts, path: _ } = config;
        Arc::new(Loaded { rules: Rules::new(rules), max_age, file_roots, grains: grains::read(&opts), opts })
    }
}

/// The handle of the reactor: cheap to clone.
#[derive(Debug, Clone)]
pub struct Reactor {
    loaded: Arc<watch::Sender<Arc<Loaded>>>,
}

impl Reactor {
    /// Opens the outbox and makes the handle and its task. Blocks for a moment; call it while starting.
    pub fn open(
        config: ReactorConfig,
        bus: Bus,
        door: impl Ask + 'static,
    ) -> Result<(Reactor, ReactorTask), OpenError> {
        let outbox = Outbox::open(&config.path, bus.head())?;
        let (sender, receiver) = watch::channel(Loaded::new(config));
        let task = ReactorTask::new(receiver, bus, Arc::new(door), outbox)?;
        Ok((Reactor { loaded: Arc::new(sender) }, task))
    }

    /// Puts a new configuration in force, from the next event on. The outbox stays where it is.
    pub async fn reload(&self, config: ReactorConfig) {
        self.loaded.send_replace(Loaded::new(config));
    }

    /// Returns the rules as `reactor.list` shows them: a list of one-key maps, tag to files.
    pub fn list(&self) -> Value {
        self.loaded.borrow().rules.list()
    }

    /// Shows what an event would set off, and runs nothing.
    pub async fn test(&self, tag: &str, data: Map) -> Result<Value, CommandError> {
        let tag = Tag::parse(tag).map_err(|error| CommandError::Invalid(error.to_string()))?;
        let loaded = Arc::clone(&self.loaded.borrow());
        let work = move || plan::preview(&loaded, &mut Files::default(), &tag, &data);
        let stopped = |_| CommandError::Internal("the files of this event could not be rendered".into());
        tokio::task::spawn_blocking(work).await.map_err(stopped)
    }
}

#[cfg(test)]
mod tests;
