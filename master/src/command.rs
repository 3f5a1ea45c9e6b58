//! All the master can be asked, and the one door through which it is asked.
//!
//! The API (so the CLI), the reactor and, later, the clear commands of the Salt wire all become a [`Command`] from a
//! [`Caller`]. Rights are checked here, once; every command is an audit event; then the part that can answer is asked.

mod audit;
mod compact;
mod keys;
mod show;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::tag::Tag;
use proto::target::{BadTarget, Target, TgtType};
use proto::value::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use crate::acl::Acl;
use crate::bus::{Bus, EventQuery, Subscription};
use crate::cursors::Cursors;
use crate::jobs::Jobs;
use crate::keys::Keys;
use crate::reactor::Reactor;
use crate::runners::Args;
use crate::sessions::Registry;

pub use self::keys::{KeyFingers, KeyLists, KeyPems, KeySelection};

/// Who asks, and where from. Filled in by the edge that knows it, never read from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name that jobs and events carry as `user`: `root`, `sudo_alice`, `Reactor`.
    pub user: String,
    /// Where the command came in.
    pub origin: Origin,
}

/// Where a command came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The API socket: the kernel says who is at the other end.
    Api {
        /// The user id of the peer process.
        uid: u32,
        /// Its process id, where the kernel tells.
        pid: Option<i32>,
    },
    /// The event socket of Salt's tools: the kernel says who is at the other end.
    EventSocket {
        /// The user id of the peer process.
        uid: u32,
        /// Its process id, where the kernel tells.
        pid: Option<i32>,
        /// Which event of its connection this is, from 1.
        nth: u64,
    },
    /// A minion, as far as the options `peer` and `peer_run` let it.
    Minion,
    /// A reaction: the chain of causes that led to it, for loop detection.
    Reactor {
        /// How many reactions stand between the first event and this command.
        depth: u32,
    },
    /// A command of one of Salt's tools that has shown the key of local clients.
    SaltClient {
        /// The address it came from.
        addr: IpAddr,
    },
}

/// A target as somebody wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetText {
    /// The target, text or list.
    pub tgt: Value,
    /// How to read it: Salt's names (`glob`, `list`…).
    pub tgt_type: String,
    /// What separates the parts of a grain target, if not a colon.
    pub delimiter: Option<String>,
}

impl TargetText {
    /// Makes a target; without a type, a list is one and a text is a pattern.
    pub fn new(tgt: Value, tgt_type: Option<&str>) -> TargetText {
        let default = if matches!(tgt, Value::List(_)) { TgtType::List } else { TgtType::Glob };
        let tgt_type = tgt_type.unwrap_or(default.name()).to_owned();
        TargetText { tgt, tgt_type, delimiter: None }
    }

    /// Reads the target.
    pub fn parse(&self) -> Result<Target, BadTarget> {
        let delimiter = self.delimiter.as_deref().unwrap_or(proto::target::DELIMITER);
        Target::parse(&self.tgt, TgtType::parse(&self.tgt_type)?, delimiter)
    }
}

/// A job to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishRequest {
    /// Who it is for.
    pub target: TargetText,
    /// The function, or a list of them.
    pub fun: Value,
    /// Its arguments as they go out: keyword arguments as one map with `__kwarg__: true` at the end.
    pub arg: Vec<Value>,
    /// Returners, joined by commas; usually empty.
    pub ret: String,
    /// The jid, where the caller has chosen one already (the reactor's outbox).
    pub jid: Option<Jid>,
    /// How long a minion that is away may still come and take the job; the configured `job_ttl` if not given.
    pub ttl: Option<Duration>,
    /// Passed through to minion and return.
    pub metadata: Option<Value>,
    /// Fields of the publication that only Salt minions know: `ret_config`, `module_executors`…
    pub options: Map,
}

/// Which jobs an operator wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobsQuery {
    /// Only jobs of functions that match this pattern.
    pub fun: Option<String>,
    /// Only jobs whose target matches this pattern.
    pub tgt: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// All the master can be asked.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a command lives for one call; there is never a crowd of them")]
pub enum Command {
    /// Move a reader's cursor behind an event that it has dealt with.
    CursorAdvance {
        /// The cursor.
        name: String,
        /// The event.
        offset: u64,
    },
    /// Forget a cursor.
    CursorDelete(String),
    /// List the cursors, and how far each is behind.
    CursorList,
    /// Find out from which offset a cursor's reader goes on; one that is new is made.
    CursorTakeUp {
        /// The cursor.
        name: String,
        /// Where a new one begins; none is behind the newest event.
        start: Option<u64>,
    },
    /// Tell what the log consists of.
    EventStats,
    /// Read events.
    Events(EventQuery),
    /// Fire an event on the bus.
    Fire {
        /// Its tag.
        tag: String,
        /// Its data.
        data: Map,
    },
    /// Show the cached grains of those that a target means.
    Grains(TargetText),
    /// Show one job.
    JobShow(Jid),
    /// List the live jobs that somebody still owes a return.
    JobsActive,
    /// List jobs.
    JobsList(JobsQuery),
    /// Accept keys.
    KeyAccept(KeySelection),
    /// Delete keys.
    KeyDelete(KeySelection),
    /// Show fingerprints.
    KeyFinger(KeySelection),
    /// List keys by state.
    KeyList,
    /// Show keys as PEM texts.
    KeyPrint(KeySelection),
    /// Reject keys.
    KeyReject(KeySelection),
    /// List accepted minions with their presence.
    Minions,
    /// Find the first offset that was submitted at this moment or later, in microseconds since 1970.
    OffsetAt(i64),
    /// Publish a job.
    Publish(PublishRequest),
    /// Add a rule to the reactor, until the master restarts.
    ReactorAdd {
        /// The tag glob.
        tag: String,
        /// Its files.
        paths: Vec<String>,
    },
    /// Take a rule out of the reactor; a configured one is back after a reload.
    ReactorDelete {
        /// The tag glob.
        tag: String,
    },
    /// Show the reactor's rules.
    ReactorList,
    /// Show the reactor's rules with what became of their events.
    ReactorShow,
    /// Show what an event would set off; runs nothing.
    ReactorTest {
        /// The tag of the event.
        tag: String,
        /// Its data.
        data: Map,
    },
    /// Read the configuration again.
    Reload,
    /// Run a function on the master (`state.event` apart, which is [`Command::Events`]).
    Run {
        /// The runner's function: `event.send`.
        fun: String,
        /// Positional arguments.
        arg: Vec<Value>,
        /// Keyword arguments.
        kwarg: Map,
        /// The jid of its events, where the caller has one already.
        jid: Option<Jid>,
    },
    /// Apply retention now and shrink the store.
    Compact,
    /// Show the daemon's state: versions, sockets, queues, configuration warnings.
    Status,
    /// Run a function of the wheel: what manages the master.
    Wheel {
        /// The wheel's function: `key.accept`.
        fun: String,
        /// Positional arguments.
        arg: Vec<Value>,
        /// Keyword arguments.
        kwarg: Map,
        /// The jid of its events, where the caller has one already.
        jid: Option<Jid>,
    },
}

/// One live job that was just published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its jid.
    pub jid: Jid,
    /// Who it is for, fixed now.
    pub minions: Vec<MinionId>,
    /// Listed ids that no accepted key has.
    pub missing: Vec<String>,
    /// Recipients that are not connected, and since when (seconds; none: never seen since the master started).
    pub down: Vec<(MinionId, Option<u64>)>,
    /// The offset of the job's first event: returns come after it.
    pub offset: u64,
    /// Salt minions that have told nothing of themselves and may match: for them alone the job went out on the Salt wire
    /// too, where every Salt minion can read its arguments.
    pub exposed: Vec<MinionId>,
    /// How long to wait for syndics to name their minions that it is for; nothing if no syndic heard of it.
    pub syndic_wait: Option<Duration>,
}

impl Published {
    /// Says that a job with this jid is there already.
    pub fn before(jid: Jid) -> Published {
        let none = Vec::new;
        let (missing, down) = (Vec::new(), Vec::new());
        Published { jid, minions: none(), missing, down, offset: 0, exposed: none(), syndic_wait: None }
    }

    /// Tells whether it was there already: no event has offset 0.
    pub fn was_before(&self) -> bool {
        self.offset == 0
    }
}

/// What the master answers.
#[derive(Debug)]
pub enum Reply {
    /// Done; nothing to tell.
    Done,
    /// A running subscription.
    Events(Box<Subscription>),
    /// Fingerprints.
    KeyFingers(KeyFingers),
    /// Keys as PEM texts.
    KeyPems(KeyPems),
    /// Keys by state: all of them, or those that were changed (or would be).
    Keys(KeyLists),
    /// A published job.
    Published(Published),
    /// Anything that is shown as it is: runner results, jobs, minions, status.
    Value(Value),
}

/// Why a command was not carried out. The text is for the caller; it names the remedy where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The caller may not do this.
    #[error("{user} is not permitted to {what}; {remedy}")]
    NotPermitted {
        /// The caller.
        user: String,
        /// What was asked.
        what: &'static str,
        /// What to do about it.
        remedy: String,
    },
    /// The command itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No minion matched the target.
    #[error("No minions matched the target. No command was sent, no jid was assigned.")]
    NoMatch,
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A limit holds, or a part is not able to answer now.
    #[error("{0}")]
    Busy(String),
    /// The master failed.
    #[error("{0}")]
    Internal(String),
}

/// The door: a cheap handle that every edge has.
#[derive(Clone)]
pub struct Door {
    rooms: Arc<Rooms>,
}

/// What stands behind the door.
pub struct Rooms {
    /// Who may ask what.
    pub acl: Acl,
    /// The event bus.
    pub bus: Bus,
    /// Where its readers are.
    pub cursors: Cursors,
    /// The minions' keys.
    pub keys: Keys,
    /// The jobs.
    pub jobs: Jobs,
    /// Who is there.
    pub registry: Registry,
    /// The reactor, once it runs: it has the door too.
    pub reactor: OnceLock<Reactor>,
    /// Reads the configuration again.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// What `status` tells of the daemon itself.
    pub about: About,
}

/// Asks for the configuration to be read again; answered with what is odd in it, or why the old one stays.
pub type ReloadRequest = oneshot::Sender<Result<Vec<String>, String>>;

/// What the daemon tells of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// The master's name.
    pub id: String,
    /// Where its configuration lies.
    pub confdir: String,
    /// Where it listens for requests.
    pub ret_addr: String,
    /// Where it publishes.
    pub publish_addr: String,
    /// What is odd in its configuration.
    pub warnings: Arc<arc_swap::ArcSwap<Vec<String>>>,
}

impl Door {
    /// Builds the door in front of the rooms.
    pub fn new(rooms: Rooms) -> Door {
        Door { rooms: Arc::new(rooms) }
    }

    /// Lets the reactor be asked too: it is built after the door, which it needs itself.
    pub fn admit_reactor(&self, reactor: Reactor) {
        // Set once, at start.
        let _ = self.rooms.reactor.set(reactor);
    }

    /// Makes a jid for a job that is to be published later, exactly once.
    pub async fn new_jid(&self) -> Result<Jid, CommandError> {
        self.rooms.jobs.allocate().await
    }

    /// Asks: checks the caller's rights, tells the bus who asked what, and has the right room answer.
    pub async fn ask(&self, caller: Caller, command: Command) -> Result<Reply, CommandError> {
        let checked = self.rooms.acl.check(&caller, &command);
        self.audit(&caller, &command, checked.is_ok());
        checked?;
        let rooms = &self.rooms;
        match command {
            Command::CursorAdvance { name, offset } => {
                rooms.cursors.advance(name, rooms.acl.owner(&caller), offset).await.map(|()| Reply::Done)
            }
            Command::CursorDelete(name) => {
                rooms.cursors.delete(name, rooms.acl.owner(&caller)).await.map(|()| Reply::Done)
            }
            Command::CursorList => Ok(Reply::Value(rooms.cursors.list())),
            Command::CursorTakeUp { name, start } => {
                let next = rooms.cursors.take_up(name, rooms.acl.owner(&caller), start).await?;
                Ok(Reply::Value(next.into()))
            }
            Command::EventStats => self.event_stats().await,
            Command::Events(query) => Ok(Reply::Events(Box::new(rooms.bus.subscribe(query)))),
            Command::Fire { tag, data } => self.fire(&tag, &data).await,
            Command::Grains(target) => Ok(Reply::Value(rooms.jobs.grains(target).await?.into())),
            Command::JobShow(jid) => match rooms.jobs.show(jid.clone()).await? {
                Some(job) => Ok(Reply::Value(job.into())),
                None => Err(CommandError::NotFound(format!(
                    "there is no job {jid}; `halite jobs list` shows those there are"
                ))),
            },
            Command::JobsActive => Ok(Reply::Value(rooms.jobs.active().await?.into())),
            Command::JobsList(query) => Ok(Reply::Value(rooms.jobs.list(query).await?.into())),
            Command::KeyAccept(selection) => rooms.keys.accept(selection).await.map(Reply::Keys).map_err(key_error),
            Command::KeyDelete(selection) => rooms.keys.delete(selection).await.map(Reply::Keys).map_err(key_error),
            Command::KeyFinger(selection) => Ok(Reply::KeyFingers(rooms.keys.finger(selection).await)),
            Command::KeyPrint(selection) => Ok(Reply::KeyPems(rooms.keys.print(selection).await)),
            Command::KeyList => Ok(Reply::Keys(rooms.keys.list().await)),
            Command::KeyReject(selection) => rooms.keys.reject(selection).await.map(Reply::Keys).map_err(key_error),
            Command::Minions => Ok(Reply::Value(self.minions())),
            Command::OffsetAt(stamp_us) => self.offset_at(stamp_us).await,
            Command::Publish(request) => rooms.jobs.publish(&caller.user, request).await.map(Reply::Published),
            Command::ReactorAdd { tag, paths } => Ok(Reply::Value(self.reactor()?.add(&tag, paths)?)),
            Command::ReactorDelete { tag } => Ok(Reply::Value(self.reactor()?.delete(&tag))),
            Command::ReactorList => Ok(Reply::Value(self.reactor()?.list())),
            Command::ReactorShow => Ok(Reply::Value(self.reactor()?.show())),
            Command::ReactorTest { tag, data } => self.reactor()?.test(&tag, data).await.map(Reply::Value),
            Command::Reload => self.reload().await,
            Command::Compact => self.compact().await,
            Command::Run { fun, arg, kwarg, jid } => {
                let args = Args { arg, kwarg };
                match fun.strip_prefix("wheel.") {
                    Some(fun) => self.wheel(caller, fun, args, jid).await,
                    None => {
                        let run = crate::runners::run(self, &rooms.bus, caller, &fun, args, jid);
                        Box::pin(run).await.map(Reply::Value)
                    }
                }
            }
            Command::Status => Ok(Reply::Value(self.status())),
            Command::Wheel { fun, arg, kwarg, jid } => self.wheel(caller, &fun, Args { arg, kwarg }, jid).await,
        }
    }

    async fn wheel(&self, caller: Caller, fun: &str, args: Args, jid: Option<Jid>) -> Result<Reply, CommandError> {
        let run = crate::wheel::run(self, &self.rooms.bus, caller, fun, args, jid);
        Box::pin(run).await.map(Reply::Value)
    }

    fn reactor(&self) -> Result<&Reactor, CommandError> {
        self.rooms
            .reactor
            .get()
            .ok_or_else(|| CommandError::Busy("the master is starting; ask again in a moment".into()))
    }

    async fn fire(&self, tag: &str, data: &Map) -> Result<Reply, CommandError> {
        let tag = Tag::parse(tag).map_err(|error| CommandError::Invalid(error.to_string()))?;
        let fired = self.rooms.bus.fire(tag, data).await;
        fired.map(|_| Reply::Done).map_err(|error| CommandError::Internal(format!("failed to log the event: {error}")))
    }

    async fn reload(&self) -> Result<Reply, CommandError> {
        let (answer, answered) = oneshot::channel();
        let stopping = || CommandError::Busy("the master is stopping; ask again in a moment".into());
        self.rooms.reload.send(answer).await.map_err(|_| stopping())?;
        match answered.await.map_err(|_| stopping())? {
            Ok(warnings) => Ok(Reply::Value(map! { "reloaded" => true, "warnings" => warnings }.into())),
            Err(error) => Err(CommandError::Invalid(error)),
        }
    }
}

fn key_error(error: crate::keys::KeysError) -> CommandError {
    CommandError::Internal(format!("failed to {error}"))
}
