//! Beacons: they watch this host and fire events, as the option `beacons` says.
//!
//! One file per beacon, listed in [`all`]. A beacon has a config struct, a `look` that touches the machine, and a pure `judge`.
//! It may block: it runs off the async threads, with a deadline ([`LOOK_DEADLINE`]). `setup.rs` reads the configuration,
//! `roster.rs` knows what was changed since, `state.rs` decides when each one looks and how much it may fire, `task.rs` is the loop.
//!
//! ```yaml
//! beacons:
//!   load:
//!     - averages:
//!         1m: [0.0, 2.0]
//!     - interval: 10
//!   sh: []
//! ```

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::MinionId;
use proto::map;
use proto::tag::{BadTag, Tag};
use proto::value::{Map, MapExt, Value};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::executor::Executor;
use crate::link::Link;
use crate::modules::{BeaconRoom, NoDaemon};
use roster::Roster;
use task::BeaconsTask;

mod diskusage;
mod load;
mod log;
mod memusage;
mod network_info;
mod ps;
mod roster;
mod service;
mod setup;
mod sh;
mod state;
mod status;
mod swapusage;
mod task;

pub use roster::Configured;
pub use setup::{Setup, SetupError};
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
    /// Returns what there is to see now, whether or not it fires: what `beacons.test` shows.
    fn reading(&self) -> Result<Value, LookError>;
    /// Returns how much escaped it since it was asked last, for want of speed or room: what is lost is told.
    fn missed(&mut self) -> u64 {
        0
    }
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
    /// Returns the tag and the whole data with which it is fired.
    fn addressed(self, id: &MinionId, beacon: &str) -> Result<(Tag, Map), BadTag> {
        let BeaconEvent { suffix, mut data } = self;
        if data.at("id").is_none() {
            data.set("id", id);
        }
        Tag::beacon(id, beacon, &suffix).map(|tag| (tag, data))
    }

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

/// The handle; cheap to clone. The task ends with [`Beacons::stop`], or when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Beacons {
    id: MinionId,
    roster: Arc<watch::Sender<Roster>>,
    stop: Arc<Notify>,
}

impl Beacons {
    /// Returns the handle of a room that is yet to start, with the beacons that the files say: the room knows the executor,
    /// and what the executor runs knows this handle.
    pub fn new(id: MinionId, files: Configured) -> Beacons {
        Beacons::with(id, Roster::new(files))
    }

    fn with(id: MinionId, roster: Roster) -> Beacons {
        Beacons { id, roster: Arc::new(watch::Sender::new(roster)), stop: Arc::default() }
    }

    /// Starts the room. Once.
    pub fn spawn(&self, parts: Parts) -> JoinHandle<()> {
        let (wakes, woken) = mpsc::channel(WAKES);
        let task = BeaconsTask::new(parts, self.roster.subscribe(), Arc::clone(&self.stop), wakes);
        tokio::spawn(task.run(woken))
    }

    /// Ends the room; the beacons look no more.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Takes over what has changed in the files. Beacons whose options have not changed go on undisturbed.
    pub fn reload(&self, files: Configured) {
        self.roster.send_modify(|roster| roster.reload(files));
    }

    /// Returns how many beacons there shall be.
    pub fn count(&self) -> usize {
        self.roster.borrow().setups.len()
    }
}

/// For functions, which run off the async threads.
impl BeaconRoom for Beacons {
    fn available(&self) -> Vec<&'static str> {
        names()
    }

    fn check(&self, name: &str, options: &Value) -> Result<(), String> {
        check(&self.id, name, options)
    }

    fn configured(&self) -> Map {
        self.roster.borrow().configured().clone()
    }

    fn change(&self, edit: &mut dyn FnMut(&mut Map)) -> Result<(), NoDaemon> {
        self.roster.send_modify(|roster| roster.edit(edit));
        Ok(())
    }

    fn try_out(&self, name: &str, options: &Value) -> Result<Map, String> {
        try_out(&self.id, name, options)
    }
}

/// The beacons of a configuration without a daemon: they can be listed and tried, and not changed.
#[derive(Debug, Clone)]
pub struct Offline {
    /// This minion's id.
    pub id: MinionId,
    /// The option `beacons`.
    pub beacons: Map,
}

impl BeaconRoom for Offline {
    fn available(&self) -> Vec<&'static str> {
        names()
    }

    fn check(&self, name: &str, options: &Value) -> Result<(), String> {
        check(&self.id, name, options)
    }

    fn configured(&self) -> Map {
        self.beacons.clone()
    }

    fn change(&self, _edit: &mut dyn FnMut(&mut Map)) -> Result<(), NoDaemon> {
        Err(NoDaemon)
    }

    fn try_out(&self, name: &str, options: &Value) -> Result<Map, String> {
        try_out(&self.id, name, options)
    }
}

fn names() -> Vec<&'static str> {
    all().iter().map(|kind| kind.name).collect()
}

/// Makes a beacon beside those that run, if it can be made on this host.
fn make(id: &MinionId, name: &str, options: &Value) -> Result<(Box<dyn Beacon>, BeaconContext), String> {
    let Some(setup) = setup::one(name, &roster::switched_on(options), String::new())? else {
        return Err("it is switched off".to_owned());
    };
    let (wakes, _nobody_listens) = mpsc::channel(1);
    let waker = Waker { name: name.into(), wakes };
    let cx = BeaconContext { id: id.clone(), name: name.to_owned(), waker };
    let beacon = setup.kind.build(&setup.options, &cx).map_err(|error| match error {
        BuildError::Host(why) => format!("it cannot work on this host: {why}"),
        BuildError::Options(why) => why,
    })?;
    Ok((beacon, cx))
}

fn check(id: &MinionId, name: &str, options: &Value) -> Result<(), String> {
    make(id, name, options).map(drop)
}

/// Lets a beacon look once, beside those that run.
fn try_out(id: &MinionId, name: &str, options: &Value) -> Result<Map, String> {
    let (mut beacon, cx) = make(id, name, options)?;
    let events = beacon.look(&cx).map_err(|error| chain(&error))?;
    let reading = beacon.reading().map_err(|error| chain(&error))?;
    let events: Result<Vec<Map>, BadTag> = events.into_iter().map(|event| shown(event, id, name)).collect();
    let events = events.map_err(|error| error.to_string())?;
    Ok(map! { "beacon" => name, "reading" => reading, "events" => events })
}

fn shown(event: BeaconEvent, id: &MinionId, name: &str) -> Result<Map, BadTag> {
    let (tag, data) = event.addressed(id, name)?;
    Ok(map! { "tag" => tag.as_str(), "data" => data })
}

/// Returns what failed and why, in one line.
fn chain(error: &LookError) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(format!("failed to {error}"), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
