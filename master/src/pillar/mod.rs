//! Pillar: what the master's files say to one minion alone (`pillar_roots`, `ext_pillar`).
//!
//! `top.rs` has which files concern a minion, `compile.rs` the way from there to its pillar, `merge.rs` how several say one
//! thing, `functions.rs` what templates can call, `ext/` further sources. A compilation blocks: [`Pillars::compile`] runs it
//! off the async threads, a few at once. A file that fails is named in the pillar's `_errors`; the rest of it stands.

mod compile;
mod ext;
mod functions;
mod merge;
#[cfg(test)]
mod tests;
mod texts;
mod top;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use proto::ids::MinionId;
use proto::msgpack;
use proto::target::nodegroup::Nodegroups;
use proto::value::Map;
use tokio::sync::{Semaphore, watch};

use crate::fileserver::Roots;
use compile::Compiler;
use texts::Texts;

pub use ext::{Source, find as find_source};
pub use merge::{Lists, Strategy};

/// How long one pillar may take to compile. Files that are not reached by then are errors in it.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many pillars are compiled at once. Others wait: the processors are for the minions that are there, too.
const AT_ONCE: usize = 2;
/// How many pillars may wait for that; one more is told to come again.
const MAX_WAITING: usize = 20_000;
/// The largest pillar, encoded: it has to fit into a message.
pub const MAX_PILLAR: usize = 8 * 1024 * 1024;

/// How pillar is compiled.
#[derive(Debug, Clone)]
pub struct PillarConfig {
    /// The directories by environment (`pillar_roots`, default `base: [/srv/pillar]`).
    pub roots: Arc<Roots>,
    /// The top file's path (`state_top`, default `top.sls`).
    pub top: String,
    /// How several files become one pillar (`pillar_source_merging_strategy`, default `smart`).
    pub strategy: Strategy,
    /// Whether lists are joined (`pillar_merge_lists`, default false).
    pub lists: Lists,
    /// An included file's values win (`pillar_includes_override_sls`, default false).
    pub includes_override: bool,
    /// The environment of files is the one of pillar (`pillarenv_from_saltenv`, default false).
    pub env_from_saltenv: bool,
    /// The order in which environments are merged (`env_order`).
    pub env_order: Vec<String>,
    /// The minion is not told why a file failed (`pillar_safe_render_error`, default true).
    pub safe_errors: bool,
    /// Further sources, in order (`ext_pillar`).
    pub ext: Vec<(&'static Source, String)>,
    /// Those go first, and files see what they say (`ext_pillar_first`, default false).
    pub ext_first: bool,
    /// The master's options are in the pillar, as `master` (`pillar_opts`, default false).
    pub master_opts: bool,
    /// Remember pillars for targets (`minion_data_cache`, default true).
    pub cache: bool,
    /// The groups that top files may name.
    pub nodegroups: Nodegroups,
    /// The master's options, as files see them (`opts`).
    pub opts: Arc<Map>,
}

/// What a pillar is compiled for.
#[derive(Clone, PartialEq)]
pub struct PillarRequest {
    /// Whose it is: the session says so, never the load.
    pub id: MinionId,
    /// The minion's grains.
    pub grains: Map,
    /// The environment of its files.
    pub saltenv: Option<String>,
    /// The one environment of pillar that counts.
    pub pillarenv: Option<String>,
    /// Values that the minion gives along, over all others.
    pub given: Map,
}

/// Why there is no pillar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PillarError {
    /// Too many wait.
    #[error("too many pillars are asked for at once; ask again in a moment")]
    Busy,
    /// The compiler panicked, or the master stops.
    #[error("the pillar could not be compiled; the master's log says why")]
    Failed,
    /// It is larger than a message.
    #[error("the pillar has more than {MAX_PILLAR} bytes; a minion cannot be sent more")]
    TooLarge,
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub struct Pillars {
    parts: Arc<Parts>,
}

struct Parts {
    config: ArcSwap<PillarConfig>,
    texts: Texts,
    places: Arc<Semaphore>,
    waiting: Semaphore,
    /// What each minion was told last, encoded: targets and Salt's tools look at it, and nothing else.
    told: Mutex<HashMap<MinionId, Bytes>>,
    /// Changes with every entry of that.
    changed: watch::Sender<()>,
}

impl Pillars {
    /// Makes the handle.
    pub fn new(config: PillarConfig) -> Pillars {
        Pillars {
            parts: Arc::new(Parts {
                config: ArcSwap::from_pointee(config),
                texts: Texts::default(),
                places: Arc::new(Semaphore::new(AT_ONCE)),
                waiting: Semaphore::new(MAX_WAITING),
                told: Mutex::default(),
                changed: watch::Sender::default(),
            }),
        }
    }

    /// Takes a new configuration.
    pub fn reload(&self, config: PillarConfig) {
        self.parts.config.store(Arc::new(config));
    }

    /// Compiles a minion's pillar.
    pub async fn compile(&self, request: PillarRequest) -> Result<Map, PillarError> {
        let _waits = self.parts.waiting.try_acquire().map_err(|_| PillarError::Busy)?;
        let place = Arc::clone(&self.parts.places).acquire_owned().await.map_err(|_| PillarError::Failed)?;
        let pillars = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let compiled = pillars.compile_blocking(request);
            drop(place);
            compiled
        });
        done.await.map_err(|_| PillarError::Failed)?
    }

    fn compile_blocking(&self, request: PillarRequest) -> Result<Map, PillarError> {
        let config = self.parts.config.load_full();
        // What a minion gives along is no fact about it.
        let tells = config.cache && request.given.is_empty() && request.pillarenv.is_none();
        let id = request.id.clone();
        let pillar = Compiler::new(&config, &self.parts.texts, request, Instant::now() + DEADLINE).run();
        let encoded = msgpack::encode_map(&pillar);
        if encoded.len() > MAX_PILLAR {
            tracing::error!(minion_id = %id, bytes = encoded.len(), "the pillar is too large to be sent");
            return Err(PillarError::TooLarge);
        }
        if tells {
            self.told().insert(id, encoded.into());
            self.parts.changed.send_replace(());
        }
        Ok(pillar)
    }

    /// Returns what changes whenever a minion was told a pillar that is remembered.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.parts.changed.subscribe()
    }

    /// Returns what a minion was told last, encoded; nothing without `minion_data_cache`.
    pub fn cached(&self, id: &MinionId) -> Option<Bytes> {
        self.told().get(id).cloned()
    }

    /// Returns what a minion was told last, or would be told now, encoded. Blocks in the second case.
    pub fn known_blocking(&self, id: &MinionId, grains: impl FnOnce() -> Option<Map>) -> Option<Bytes> {
        if let Some(told) = self.cached(id) {
            return Some(told);
        }
        // One whose grains are not known has never been here.
        let grains = grains().filter(|_| self.parts.config.load().cache)?;
        let request = PillarRequest { id: id.clone(), grains, saltenv: None, pillarenv: None, given: Map::new() };
        self.compile_blocking(request).ok()?;
        self.cached(id)
    }

    /// Forgets what a minion was told: its key is gone.
    pub fn forget(&self, id: &MinionId) {
        self.told().remove(id);
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<MinionId, Bytes>> {
        // Each change is one insert or remove; a panic leaves the map whole.
        self.parts.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for PillarRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is given along may be secret.
        write!(f, "PillarRequest({})", self.id)
    }
}
