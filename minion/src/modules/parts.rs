//! The parts of a running minion that functions may reach, as traits; and what stands in for them where none runs.

use std::time::Duration;

use proto::value::{Map, Value};
use thiserror::Error;

/// Which process runs a function when it is called on this host, beside the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedBy {
    /// The process that was started for the call.
    Caller,
    /// The daemon: the function is about it and means nothing elsewhere.
    Daemon,
    /// The daemon if one runs, else the caller.
    DaemonIfAny,
}

/// Tells which process runs this function in a call on this host.
pub fn served_by(fun: &str) -> ServedBy {
    match fun {
        "beacons.list" | "beacons.list_available" | "beacons.test" => ServedBy::DaemonIfAny,
        "event.fire" => ServedBy::Daemon,
        "grains.append" | "grains.delkey" | "grains.delval" | "grains.remove" | "grains.set" | "grains.setval"
        | "grains.setvals" => ServedBy::DaemonIfAny,
        _ if fun.starts_with("saltutil.sync_") => ServedBy::Caller,
        "saltutil.revoke_auth" => ServedBy::Caller,
        _ if fun.starts_with("beacons.") || fun.starts_with("saltutil.") => ServedBy::Daemon,
        _ => ServedBy::Caller,
    }
}

/// There is no daemon that could do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no halite-minion daemon is reached from here: start it, and leave --local out")]
pub struct NoDaemon;

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotDone {
    /// There is no daemon.
    #[error(transparent)]
    NoDaemon(#[from] NoDaemon),
    /// The daemon refused or did not answer.
    #[error("{0}")]
    Refused(String),
}

/// The beacons of this minion, as the module `beacons` sees and changes them.
pub trait BeaconRoom: Send + Sync {
    /// Returns the names of all kinds.
    fn available(&self) -> Vec<&'static str>;
    /// Says what is wrong with a beacon of this name and these options on this host, if anything is. May block.
    fn check(&self, name: &str, options: &Value) -> Result<(), String>;
    /// Returns what is configured now, in the shape of the option `beacons`: the files, and what was changed since.
    fn configured(&self) -> Map;
    /// Changes what is configured. In force when this returns; two changes never mix.
    fn change(&self, edit: &mut dyn FnMut(&mut Map)) -> Result<(), NoDaemon>;
    /// Makes a beacon of these options beside those that run, lets it look once, and returns what it saw (`reading`) and
    /// would fire (`events`); fires nothing. May block.
    fn try_out(&self, name: &str, options: &Value) -> Result<Map, String>;
}

/// No beacons at all: for calls without a minion's configuration.
pub struct NoBeacons;

impl BeaconRoom for NoBeacons {
    fn available(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn check(&self, _name: &str, _options: &Value) -> Result<(), String> {
        Err(NoDaemon.to_string())
    }

    fn configured(&self) -> Map {
        Map::new()
    }

    fn change(&self, _edit: &mut dyn FnMut(&mut Map)) -> Result<(), NoDaemon> {
        Err(NoDaemon)
    }

    fn try_out(&self, _name: &str, _options: &Value) -> Result<Map, String> {
        Err(NoDaemon.to_string())
    }
}

/// Has the daemon read its configuration and this host's grains anew.
pub trait Reload: Send + Sync {
    /// Returns when it is done. Blocks.
    fn reload(&self) -> Result<(), NotDone>;
}

/// Nothing to reload: for calls without a daemon.
pub struct NoReload;

impl Reload for NoReload {
    fn reload(&self) -> Result<(), NotDone> {
        Err(NoDaemon.into())
    }
}

/// The jobs of this minion, as `saltutil` sees them.
pub trait Jobs: Send + Sync {
    /// Returns what runs or waits now, each in the shape of `saltutil.running`.
    fn running(&self) -> Vec<Map>;
    /// Signals a job; returns the pid it went to, or nothing if there is no such job.
    fn signal(&self, jid: &str, signal: i32) -> Option<u32>;
}

/// No jobs at all: for calls without a daemon.
pub struct NoJobs;

impl Jobs for NoJobs {
    fn running(&self) -> Vec<Map> {
        Vec::new()
    }

    fn signal(&self, _jid: &str, _signal: i32) -> Option<u32> {
        None
    }
}

/// Where a function's events go.
pub trait EventSink: Send + Sync {
    /// Sends an event to the master; `data` is the event's whole data as the master's bus shall show it. Returns once the
    /// master has acknowledged it, or fails when `wait` has passed (it may then still arrive).
    fn send(&self, tag: &str, data: Map, wait: Duration) -> Result<(), SendError>;
    /// Fires an event on this minion's own bus.
    fn fire_local(&self, tag: &str, data: Map) -> Result<(), NotDone>;
}

/// Why an event was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no connection, and none is made for this call.
    #[error("no connection to the master")]
    NotConnected,
    /// The master did not acknowledge in time; the event stays queued if it was accepted.
    #[error("no acknowledgement by the master in time")]
    NotAcknowledged,
    /// The event cannot be sent at all: too large, a bad tag, the spool full.
    #[error("event refused: {0}")]
    Refused(String),
}

/// Refuses all events: for calls without a master.
pub struct NoEvents;

impl EventSink for NoEvents {
    fn send(&self, _tag: &str, _data: Map, _wait: Duration) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }

    fn fire_local(&self, _tag: &str, _data: Map) -> Result<(), NotDone> {
        Err(NoDaemon.into())
    }
}

/// The master, as functions ask it: one request, one answer. Whatever wire the minion speaks has one of these.
pub trait MasterRequests: Send + Sync {
    /// Asks one command of salt-wire.md §5.2, such as `_serve_file`, and returns Salt's plain reply. `fields` are the
    /// command's own: what the wire adds (the command's name, the minion's id, a number, a token) is not among them.
    /// Blocks, for `wait` at most.
    fn ask(&self, cmd: &str, fields: Map, wait: Duration) -> Result<Value, AskError>;
}

/// Why the master gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AskError {
    /// It did not answer in time.
    #[error("the master did not answer in time")]
    NoAnswer,
    /// There is no session with it.
    #[error("no connection to the master")]
    NotConnected,
    /// It refused.
    #[error("the master refused: {0}")]
    Refused(String),
}

/// No master at all: for calls without one.
pub struct NoMaster;

impl MasterRequests for NoMaster {
    fn ask(&self, _cmd: &str, _fields: Map, _wait: Duration) -> Result<Value, AskError> {
        Err(AskError::NotConnected)
    }
}
