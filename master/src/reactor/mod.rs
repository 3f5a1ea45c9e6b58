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
//!   reactions are cut (`halite/reactor/loop`); each rule has a rate limit (`halite/reactor/limited`), can ignore repeats
//!   (`halite/reactor/deduplicated`), and is switched off for a while if it only fails (`halite/reactor/breaker`).
//! - What goes wrong is logged in Salt's words and fired as `halite/reactor/error`; what was mended while reading is
//!   fired as `halite/reactor/warning`, once.

mod functions;
mod grains;
mod high;
mod outbox;
mod plan;
mod print;
mod reactions;
mod report;
mod rules;
mod sls;
mod spaces;
mod state;
mod step;
mod task;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::map;
use proto::tag::Tag;
use proto::value::{Map, Value};
use render::yaml::ReactorEntry;
use tokio::sync::watch;

use crate::bus::Bus;
use crate::command::CommandError;
use crate::fileserver::Roots;
use crate::runners::Ask;

pub use outbox::{OpenError, OutboxError};
pub use step::{Reaction, Stepped};
pub use task::{ReactorTask, RunError};

use outbox::Outbox;
use rules::Rules;
use sls::Files;
use state::{Guards, Standing};

/// How many rules can be added while the master runs; what is meant to stay belongs into the configuration.
const MAX_ADDED: usize = 1_000;

/// How the reactor works.
#[derive(Debug, Clone)]
pub struct ReactorConfig {
    /// Which tags set off which files (`reactor`, default none).
    pub rules: Vec<ReactorEntry>,
    /// Where `salt://` paths are looked for (`file_roots`).
    pub file_roots: Arc<Roots>,
    /// How old an event may be after an outage (`reactor_max_age`, seconds, default 600).
    pub max_age: Duration,
    /// What holds a rule back.
    pub guards: GuardsConfig,
    /// The file of cursor and outbox: `reactor.db` under `cachedir`. Not changed by a reload.
    pub path: PathBuf,
    /// The master's options, as files see them (`opts`).
    pub opts: Map,
}

/// What holds a rule back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardsConfig {
    /// How many events a second a rule reacts to in the long run (`reactor_rate_limit`, default 100).
    pub rate_per_s: u32,
    /// How many events a rule reacts to at once (`reactor_rate_burst`, default 1,000).
    pub burst: u32,
    /// How long an event that comes again, with the same tag and data, sets nothing off (`reactor_dedup_window`,
    /// seconds, default 0: every event counts, since a counter or an alarm that repeats may be meant to).
    pub dedup_window: Duration,
    /// After how many events in a row whose reaction failed a rule is switched off (`reactor_breaker_failures`, default
    /// 10; 0: never). A slip or two of a minion that is away is normal, ten are not.
    pub breaker_failures: u32,
    /// For how long, before the next event is let through as a trial (`reactor_breaker_open`, seconds, default 60).
    pub breaker_open: Duration,
}

impl Default for GuardsConfig {
    fn default() -> GuardsConfig {
        GuardsConfig {
            rate_per_s: 100,
            burst: 1_000,
            dedup_window: Duration::ZERO,
            breaker_failures: 10,
            breaker_open: Duration::from_secs(60),
        }
    }
}

impl From<GuardsConfig> for Guards {
    fn from(config: GuardsConfig) -> Guards {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Guards {
            rate_per_s: config.rate_per_s,
            burst: config.burst,
            repeats_us: micros(config.dedup_window),
            failures: config.breaker_failures,
            off_us: micros(config.breaker_open),
        }
    }
}

/// What is in force: a configuration, compiled.
#[derive(Debug, Clone)]
struct Loaded {
    rules: Rules,
    /// Rules that were added while running: they outlive a reload.
    added: Vec<ReactorEntry>,
    guards: Guards,
    max_age: Duration,
    file_roots: Arc<Roots>,
    opts: Map,
    grains: Map,
}

impl Loaded {
    fn new(config: ReactorConfig, mut added: Vec<ReactorEntry>) -> Arc<Loaded> {
        let ReactorConfig { mut rules, file_roots, max_age, guards, opts, path: _ } = config;
        // What is configured by now need not be added any more.
        added.retain(|entry| rules.iter().all(|configured| configured.tag != entry.tag));
        rules.extend(added.iter().cloned());
        let (rules, grains) = (Rules::new(rules), grains::read(&opts));
        Arc::new(Loaded { rules, added, guards: guards.into(), max_age, file_roots, grains, opts })
    }
}

/// The handle of the reactor: cheap to clone.
#[derive(Debug, Clone)]
pub struct Reactor {
    loaded: Arc<watch::Sender<Arc<Loaded>>>,
    standings: watch::Receiver<Standings>,
}

/// How the rules do, by tag glob. Rules that never matched are not in it.
type Standings = HashMap<String, Standing>;

impl Reactor {
    /// Opens the outbox and makes the handle and its task. Blocks for a moment; call it while starting.
    pub fn open(
        config: ReactorConfig,
        bus: Bus,
        door: impl Ask + 'static,
    ) -> Result<(Reactor, ReactorTask), OpenError> {
        let outbox = Outbox::open(&config.path, bus.head())?;
        let (sender, receiver) = watch::channel(Loaded::new(config, Vec::new()));
        let (told, standings) = watch::channel(Standings::new());
        let task = ReactorTask::new(receiver, told, bus, Arc::new(door), outbox)?;
        Ok((Reactor { loaded: Arc::new(sender), standings }, task))
    }

    /// Puts a new configuration in force, from the next event on. The outbox stays where it is.
    pub async fn reload(&self, config: ReactorConfig) {
        self.loaded.send_modify(|loaded| *loaded = Loaded::new(config, loaded.added.clone()));
    }

    /// Adds a rule until the master restarts; answers in Salt's words.
    pub fn add(&self, tag: &str, paths: Vec<String>) -> Result<Value, CommandError> {
        if tag.is_empty() || paths.is_empty() {
            return Err(CommandError::Invalid("a rule of the reactor has a tag pattern and at least one file".into()));
        }
        let mut answer = Ok(status(true, "Reactor added."));
        self.loaded.send_if_modified(|loaded| {
            if loaded.rules.has(tag) {
                answer = Ok(status(false, "Reactor already exists."));
                return false;
            }
            if loaded.added.len() >= MAX_ADDED {
                let text = format!("{MAX_ADDED} rules were added already; put them into the configuration (reactor)");
                answer = Err(CommandError::Busy(text));
                return false;
            }
            let mut changed = Loaded::clone(loaded);
            changed.rules.add(tag.to_owned(), paths.clone());
            changed.added.push(ReactorEntry { tag: tag.to_owned(), paths, position: None });
            *loaded = Arc::new(changed);
            true
        });
        answer
    }

    /// Takes a rule out; one that is configured is back after a reload. Answers in Salt's words.
    pub fn delete(&self, tag: &str) -> Value {
        let deleted = self.loaded.send_if_modified(|loaded| {
            let mut changed = Loaded::clone(loaded);
            changed.added.retain(|entry| entry.tag != tag);
            let removed = changed.rules.remove(tag);
            if removed {
                *loaded = Arc::new(changed);
            }
            removed
        });
        if deleted { status(true, "Reactor deleted.") } else { status(false, "Reactor does not exists.") }
    }

    /// Returns the rules with what became of their events since the master started.
    pub fn show(&self) -> Value {
        let standings = self.standings.borrow();
        self.loaded.borrow().rules.show(|tag| report::standing(&standings.get(tag).copied().unwrap_or_default()))
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

fn status(good: bool, comment: &str) -> Value {
    map! { "status" => good, "comment" => comment }.into()
}

#[cfg(test)]
mod tests;
