//! The link to the master: connects, opens a session, keeps it, and carries events, returns and jobs over it.
//!
//! [`Link`] is the handle. `state.rs` has the order of a session, `task.rs` the loop, `connect.rs` the first contact
//! (with `trust.rs` and `keys.rs`), `pump.rs` one connection, `ask.rs` what functions ask. What is sent goes through the spool and stays there until the
//! master has it in its log. A link never gives up: it comes back with jittered back-off whatever happened.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::ids::{Jid, MinionId};
use proto::message::event::EventItem;
use proto::message::{Kind, Publish, SessionState};
use proto::msgpack;
use proto::tag::Tag;
use proto::value::{Map, Value};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::jids::Jids;
use crate::local_bus::LocalBus;
use crate::modules::{AskError, EventSink, MasterRequests, NoDaemon, NotDone, SendError};
use crate::spool::{self, Keeper, SpoolError};
use task::LinkTask;

mod ask;
mod connect;
mod intake;
pub mod keys;
mod outbox;
mod pace;
mod pulse;
mod pump;
pub mod salt;
mod state;
mod task;
mod trust;
mod upgrade;
mod words;

pub use connect::Target;
pub use intake::{Intake, IntakeParts};
/// The rules of the intake without its task, for the simulation.
pub use intake::{Verdict, failure, judge};
pub use pace::Pace;
/// The rules of a session without its loop, for who drives many of them: the fleet simulator.
pub use state::{Failure, LinkInput, LinkOutput, LinkState};
pub use trust::{Demands, TrustError};

/// Requests on their way to the loop, which takes them at once; a sender waits when it is full.
const REQUESTS: usize = 256;
/// Jobs on their way to the executor; when it is full, they wait in the loop.
const JOBS: usize = 64;
/// How soon a full spool or queue is asked again by somebody who may block.
const RETRY: Duration = Duration::from_millis(50);

/// How things stand with the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// There is no session.
    Down {
        /// Why the last attempt failed.
        why: Option<String>,
    },
    /// The master does not accept this minion, at least not yet.
    Limbo {
        /// How it sees the minion's key.
        state: SessionState,
        /// Why, in its words.
        reason: Option<String>,
    },
    /// The link has ended.
    Stopped,
    /// The session is complete.
    Up {
        /// Its number.
        session: u64,
    },
}

/// What a link needs.
pub struct Parts {
    /// Daemon or call.
    pub kind: Kind,
    /// All grains, for a daemon.
    pub grains: Option<Map>,
    /// Grains that may vouch for a pending key.
    pub autosign_grains: Option<Map>,
    /// How fast to come back.
    pub pace: Pace,
    /// How long to wait before the first attempt.
    pub first_delay: Duration,
    /// Where acknowledged returns are noted.
    pub jids: Option<Jids>,
    /// What keeps events and returns until they are acknowledged.
    pub keeper: Keeper,
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<LinkStatus>,
}

/// Who is told of an acknowledgement.
#[derive(Debug)]
enum Note {
    Event(SyncSender<Result<(), SpoolError>>),
    Told(oneshot::Sender<()>),
}

/// What a handle asks of the loop.
#[derive(Debug)]
enum Request {
    Ask(ask::Question),
    Event { item: EventItem, told: Option<SyncSender<Result<(), SpoolError>>> },
    Grains(Bytes),
    NoMatch(Jid),
    Return { load: Map, jid: Option<Jid>, note: Option<Note>, taken: oneshot::Sender<Result<(), SpoolError>> },
    Stop,
}

/// Why a link cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system has no random numbers: no session can be opened safely.
    #[error("start the link: the system gives no random bytes")]
    NoRandom,
    /// The thread cannot be started.
    #[error("start the thread of the spool")]
    Thread(#[source] std::io::Error),
}

impl Link {
    /// Starts a link. Jobs come out of the receiver; the task ends after [`Link::stop`].
    pub fn spawn(target: Target, parts: Parts) -> Result<(Link, mpsc::Receiver<Publish>, JoinHandle<()>), StartError> {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let (status_sender, status) = watch::channel(LinkStatus::Down { why: None });
        let (jobs_sender, jobs) = mpsc::channel(JOBS);
        let (wire_sender, wire) = mpsc::channel(pump::WIRE_BOUND);
        let [instance, seed] = [random()?, random()?];
        let seed = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at: usize| seed[at]));
        let state = LinkState::new(parts.kind, parts.pace, seed, Instant::now() + parts.first_delay)
            .vouching(parts.autosign_grains.is_some());
        let spool = spool::spawn(parts.keeper).map_err(StartError::Thread)?;
        let parts = task::Parts {
            target,
            kind: parts.kind,
            grains: parts.grains,
            autosign_grains: parts.autosign_grains,
            jids: parts.jids,
            instance,
            state,
            spool: spool.to,
            status: status_sender,
            jobs: jobs_sender,
            wire: wire_sender,
        };
        let handle = tokio::spawn(LinkTask::new(parts).run(requests, wire, spool.from));
        Ok((Link { requests: sender, status }, jobs, handle))
    }

    /// Returns how things stand, and tells of changes.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Fires an event that nobody waits for. It is stored until it is acknowledged, or dropped if the spool overflows.
    pub async fn fire(&self, tag: &Tag, data: &Map) {
        let item = EventItem { tag: tag.as_str().to_owned(), data: msgpack::encode_map(data).into() };
        // An error means that the minion is stopping.
        let _ = self.requests.send(Request::Event { item, told: None }).await;
    }

    /// Tells the master new grains, now and with each later session.
    pub async fn set_grains(&self, grains: &Map) {
        let grains = msgpack::encode_map(grains).into();
        // An error means that the minion is stopping.
        let _ = self.requests.send(Request::Grains(grains)).await;
    }

    /// Tells the master that a job does not mean this minion.
    pub async fn no_match(&self, jid: Jid) {
        // An error means that the minion is stopping.
        let _ = self.requests.send(Request::NoMatch(jid)).await;
    }

    /// Sends a return. Done when the spool has stored it; the jid memory hears of the acknowledgement.
    pub async fn put_return(&self, jid: Jid, load: Map) -> Result<(), SpoolError> {
        self.offer_return(load, Some(jid), None).await
    }

    /// Sends a return that belongs to no job, and waits until the master has it in its log.
    pub async fn send_return(&self, load: Map) -> Result<(), SpoolError> {
        let (told, done) = oneshot::channel();
        self.offer_return(load, None, Some(Note::Told(told))).await?;
        done.await.map_err(|_| SpoolError::Stopped)
    }

    /// Sends a return, and blocks while the spool is full. Not for async threads.
    pub fn put_return_blocking(&self, jid: &Jid, load: &Map) -> Result<(), SpoolError> {
        loop {
            let (taken, answer) = oneshot::channel();
            let request = Request::Return { load: load.clone(), jid: Some(jid.clone()), note: None, taken };
            self.requests.blocking_send(request).map_err(|_| SpoolError::Stopped)?;
            match answer.blocking_recv().map_err(|_| SpoolError::Stopped)? {
                Err(SpoolError::Full) => std::thread::sleep(RETRY),
                done => return done,
            }
        }
    }

    /// Stops: sends what can be sent within a short time, then closes.
    pub async fn stop(&self) {
        // An error means that it has stopped already.
        let _ = self.requests.send(Request::Stop).await;
    }

    /// Returns the sink through which functions send events.
    pub fn events(&self, id: MinionId, bus: Option<LocalBus>) -> Arc<dyn EventSink> {
        Arc::new(Events { link: self.clone(), id, bus })
    }

    /// Returns the way in which functions ask the master.
    pub fn master(&self) -> Arc<dyn MasterRequests> {
        Arc::new(Requests { link: self.clone() })
    }

    async fn offer_return(&self, load: Map, jid: Option<Jid>, note: Option<Note>) -> Result<(), SpoolError> {
        let (taken, answer) = oneshot::channel();
        self.requests.send(Request::Return { load, jid, note, taken }).await.map_err(|_| SpoolError::Stopped)?;
        answer.await.map_err(|_| SpoolError::Stopped)?
    }
}

/// The events of functions: to the master by the link, or to the local bus.
struct Events {
    link: Link,
    id: MinionId,
    /// The daemon's bus; a call has none.
    bus: Option<LocalBus>,
}

impl EventSink for Events {
    fn send(&self, tag: &str, data: Map, wait: Duration) -> Result<(), SendError> {
        let until = Instant::now() + wait;
        let tag = Tag::parse(tag).map_err(|error| SendError::Refused(error.to_string()))?;
        if !tag.allowed_from(&self.id) {
            return Err(SendError::Refused(format!("a minion may not fire the tag {tag}")));
        }
        let item = EventItem { tag: tag.as_str().to_owned(), data: msgpack::encode_map(&data).into() };
        let (told, answer) = sync_channel(1);
        let mut request = Request::Event { item, told: Some(told) };
        // The queue to the loop is full only for a moment.
        while let Err(refused) = self.link.requests.try_send(request) {
            match refused {
                mpsc::error::TrySendError::Closed(_) => return Err(SendError::NotConnected),
                mpsc::error::TrySendError::Full(_) if Instant::now() >= until => {
                    return Err(SendError::NotAcknowledged);
                }
                mpsc::error::TrySendError::Full(again) => request = again,
            }
            std::thread::sleep(RETRY);
        }
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SendError::Refused(error.to_string())),
            Err(_) if matches!(*self.link.status.borrow(), LinkStatus::Stopped) => Err(SendError::NotConnected),
            Err(_) => Err(SendError::NotAcknowledged),
        }
    }

    fn fire_local(&self, tag: &str, data: Map) -> Result<(), NotDone> {
        let Some(bus) = &self.bus else { return Err(NoDaemon.into()) };
        bus.fire(tag, data).map_err(|error| NotDone::Refused(error.to_string()))
    }
}

/// The requests of functions.
struct Requests {
    link: Link,
}

impl MasterRequests for Requests {
    fn ask(&self, cmd: &str, fields: Map, wait: Duration) -> Result<Value, AskError> {
        let until = Instant::now() + wait;
        let (answer, answered) = sync_channel(1);
        let mut request = Request::Ask(ask::Question { cmd: cmd.to_owned(), fields, until, answer });
        // The queue to the loop is full only for a moment.
        while let Err(refused) = self.link.requests.try_send(request) {
            match refused {
                mpsc::error::TrySendError::Closed(_) => return Err(AskError::NotConnected),
                mpsc::error::TrySendError::Full(_) if Instant::now() >= until => return Err(AskError::NoAnswer),
                mpsc::error::TrySendError::Full(again) => request = again,
            }
            std::thread::sleep(RETRY);
        }
        match answered.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(answer) => answer,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(AskError::NotConnected),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(AskError::NoAnswer),
        }
    }
}

/// Returns a random id, of an instance or a spool.
pub fn random() -> Result<[u8; 16], StartError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) use tests::idle_for_tests;

#[cfg(test)]
mod tests;
