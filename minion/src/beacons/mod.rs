//! Beacons: they watch this host and fire events, as the option `beacons` says.
//!
//! One file per beacon, listed in [`all`]. A beacon has a config struct, a `look` that touches the machine, and a pure `judge`.
//! It may block: it runs off the async threads, with a deadline ([`LOOK_DEADLINE`]). `setup.rs` reads the configuration,
//! `state.rs` decides when each one looks and how much it may fire, `task.rs` is the loop.
//!
//! ```yaml
//! beacons:
//!   load:
//!     - averages:
//!         1m: [0.0, 2.0]
//!     - interval: 10
//!   sh: []
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::MinionId;
use proto::value::Map;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::executor::Executor;
use crate::link::Link;
use task::BeaconsTask;

mod diskusage;
mod load;
mod log;
mod memusage;
mod network_info;
mod ps;
mod service;
mod setup;
mod sh;
mod state;
mod status;
mod swapusage;
mod task;

pub use setup::{Setup, SetupError, read};
pub use state::{LOOK_DEADLINE, RATE_BURST, RATE_PER_SECOND};

/// Wake-ups on their way to the loop. When it is full, the beacon has been woken already.
const WAKES: usize = 64;

/// Every kind of beacon, by name.
pub fn all() -> &'static [Kind] {
    &[
        diskusage::KIND,
        load::KIND,
        log::KIND,
        memusage::KIND,
        network_info::KIND,
        ps::KIND,
        service::KIND,
        sh::KIND,
        status::KIND,
        swapusage::KIND,
    ]
}

/// Returns the kind of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    all().iter().find(|kind| kind.name == name)
}

/// A beacon at work.
pub trait Beacon: Send {
    /// Looks at the machine; returns what is to be fired, oldest first.
    fn look(&mut self, cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError>;
}

/// A beacon that can be made from its options.
pub trait Build: Beacon + Sized + 'static {
    /// The options.
    type Config: DeserializeOwned;
    /// Makes the beacon. May block and fail: then only this beacon is disabled.
    fn build(config: Self::Config, cx: &BeaconContext) -> Result<Self, BuildError>;
}

/// What one fired event carries. The minion's id is added to the data.
#[derive(Debug, Clone, PartialEq)]
pub struct BeaconEvent {
    /// What follows `salt/beacon/<id>/<beacon>/`; may be empty.
    pub suffix: String,
    /// The data.
    pub data: Map,
}

impl BeaconEvent {
    /// Returns an event without a suffix.
    pub fn plain(data: Map) -> BeaconEvent {
        BeaconEvent { suffix: String::new(), data }
    }
}

/// Why a beacon cannot work with its options, on this host.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The options are not those of this beacon.
    #[error("{0}")]
    Options(String),
    /// The host does not allow it.
    #[error("start it: {0}")]
    Host(String),
}

/// Why a beacon saw nothing this time. It looks again.
#[derive(Debug, thiserror::Error)]
#[error("look at the machine")]
pub struct LookError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// What making a beacon gives.
type Built = Result<Box<dyn Beacon>, BuildError>;

/// One kind of beacon.
pub struct Kind {
    /// The name in the configuration and in tags.
    pub name: &'static str,
    build: fn(&Map, &BeaconContext) -> Built,
    check: fn(&Map) -> Result<(), BuildError>,
}

impl Kind {
    /// Returns the kind that makes beacons of type `B`.
    pub const fn new<B: Build>(name: &'static str) -> Kind {
        Kind { name, build: build::<B>, check: |options| config::<B>(options).map(drop) }
    }

    /// Tells whether these are options of this kind, without making a beacon.
    pub fn check(&self, options: &Map) -> Result<(), BuildError> {
        (self.check)(options)
    }

    /// Makes a beacon of its options. May block.
    pub fn build(&self, options: &Map, cx: &BeaconContext) -> Built {
        (self.build)(options, cx)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.name)
    }
}

fn build<B: Build>(options: &Map, cx: &BeaconContext) -> Built {
    Ok(Box::new(B::build(config::<B>(options)?, cx)?))
}

fn config<B: Build>(options: &Map) -> Result<B::Config, BuildError> {
    let json = proto::value::Value::Map(options.clone()).to_json();
    serde_json::from_value(json).map_err(|error| BuildError::Options(error.to_string()))
}

/// What every beacon may use.
#[derive(Debug, Clone)]
pub struct BeaconContext {
    /// This minion's id.
    pub id: MinionId,
    /// The name under which the beacon is configured.
    pub name: String,
    /// Makes the beacon look at once, whatever its interval: for those that are told of things.
    pub waker: Waker,
}

/// Wakes one beacon.
#[derive(Debug, Clone)]
pub struct Waker {
    name: Arc<str>,
    wakes: mpsc::Sender<Arc<str>>,
}

impl Waker {
    /// Makes the beacon look as soon as it can.
    pub fn wake(&self) {
        // Full: the loop will look anyway. Closed: nobody looks any more.
        let _ = self.wakes.try_send(Arc::clone(&self.name));
    }
}

/// What the room needs.
pub struct Parts {
    /// This minion's id.
    pub id: MinionId,
    /// Where events go.
    pub link: Link,
    /// Who knows whether a state runs.
    pub executor: Executor,
    /// How often a beacon without `interval` looks.
    pub loop_interval: Duration,
    /// Whether to wait for the first session.
    pub before_connect: bool,
}

/// The handle; cheap to clone. The task ends when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Beacons {
    setups: Arc<watch::Sender<Arc<Vec<Setup>>>>,
}

impl Beacons {
    /// Starts the room with these beacons.
    pub fn spawn(parts: Parts, setups: Vec<Setup>) -> (Beacons, JoinHandle<()>) {
        let (sender, receiver) = watch::channel(Arc::new(setups));
        let (wakes, woken) = mpsc::channel(WAKES);
        let task = BeaconsTask::new(parts, receiver, wakes);
        (Beacons { setups: Arc::new(sender) }, tokio::spawn(task.run(woken)))
    }

    /// Replaces the beacons. Those whose options have not changed go on undisturbed.
    pub fn replace(&self, setups: Vec<Setup>) {
        self.setups.send_replace(Arc::new(setups));
    }
}

#[cfg(test)]
mod tests;
