//! The native wire: the closed list of everything that crosses it (native-wire.md).
//!
//! A minion sends a [`Request`], the master pushes a [`Push`] on the DEALER and a [`Publish`] on the SUB; before CURVE
//! there is only [`hello`]. Every message is one msgpack map. Fields that this version does not know are ignored, what
//! it does not need decoded (event data, return values, grains) stays encoded.

pub mod event;
pub mod fields;
pub mod hello;
pub mod publish;
pub mod reply;
pub mod ret;
pub mod rsa;
pub mod session;

use bytes::Bytes;

pub use event::MinionEvents;
pub use fields::{BadLoad, Fields};
pub use publish::Publish;
pub use reply::{ErrorCode, Reply};
pub use ret::Return;
pub use rsa::RsaProof;
pub use session::{Kind, SessionRequest, SessionState, Welcome};

use crate::ids::Jid;
use crate::map;
use crate::msgpack;
use crate::value::Value;

/// The largest load, in bytes (native-wire.md §1).
pub const MAX_LOAD: usize = 16 * 1024 * 1024;
/// The largest load before the minion is accepted, and of a `hello`.
pub const MAX_LIMBO_LOAD: usize = 64 * 1024;
/// How many spooled loads a session may have in flight.
pub const WINDOW_LOADS: usize = 256;
/// How many bytes of spooled loads a session may have in flight.
pub const WINDOW_BYTES: usize = 1024 * 1024;

/// Where a spooled load stands: its spool and its number there, strictly rising from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spooled {
    /// The spool: a random value made with it.
    pub spool: [u8; 16],
    /// The number of the load.
    pub n: u64,
}

/// What a minion sends on its DEALER (native-wire.md §4).
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `grains`: the minion's grains have changed.
    Grains {
        /// Correlates the reply.
        seq: u64,
        /// All grains, as an encoded map.
        grains: Bytes,
    },
    /// `jobs_since`: which live jobs were missed?
    JobsSince {
        /// Correlates the reply.
        seq: u64,
        /// The last serial that was seen.
        serial: u64,
    },
    /// `_minion_event`: spooled events.
    MinionEvents(MinionEvents),
    /// `nomatch`: the job does not mean this minion after all.
    NoMatch {
        /// Correlates the reply.
        seq: u64,
        /// The job.
        jid: Jid,
    },
    /// One of Salt's other requests (`_pillar`, `_file_list`, `_mine`…).
    Other {
        /// Correlates the reply.
        seq: u64,
        /// The command.
        cmd: String,
        /// The whole load, still encoded: what it costs to decode is for whoever serves the command.
        load: Bytes,
    },
    /// `_return`: a spooled return.
    Return(Return),
    /// `session`: opens the session.
    Session(SessionRequest),
}

impl Request {
    /// Returns the command, for logs.
    pub fn name(&self) -> &str {
        match self {
            Request::Grains { .. } => "grains",
            Request::JobsSince { .. } => "jobs_since",
            Request::MinionEvents(_) => "_minion_event",
            Request::NoMatch { .. } => "nomatch",
            Request::Other { cmd, .. } => cmd,
            Request::Return(_) => "_return",
            Request::Session(_) => "session",
        }
    }

    /// Returns the number that correlates the reply, if this request gets one.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Request::Grains { seq, .. }
            | Request::JobsSince { seq, .. }
            | Request::NoMatch { seq, .. }
            | Request::Other { seq, .. } => Some(*seq),
            Request::Session(session) => Some(session.seq),
            Request::MinionEvents(_) | Request::Return(_) => None,
        }
    }

    /// Reads a request.
    pub fn decode(load: &Bytes) -> Result<Request, BadLoad> {
        let fields = Fields::read(load)?;
        Ok(match fields.str("cmd")? {
            "_minion_event" => Request::MinionEvents(MinionEvents::from_fields(load, &fields)?),
            "_return" => Request::Return(Return::from_fields(load, &fields)?),
            "grains" => Request::Grains { seq: fields.u64("seq")?, grains: fields.map_bytes(load, "grains")? },
            "jobs_since" => {
                Request::JobsSince { seq: fields.u64("seq")?, serial: fields.optional_u64("serial")?.unwrap_or(0) }
            }
            "nomatch" => {
                let jid = Jid::parse(fields.str("jid")?).map_err(|_| BadLoad::Field("jid"))?;
                Request::NoMatch { seq: fields.u64("seq")?, jid }
            }
            "session" => Request::Session(SessionRequest::from_fields(load, &fields)?),
            cmd => Request::Other { seq: fields.u64("seq")?, cmd: cmd.to_owned(), load: load.clone() },
        })
    }

    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Grains { seq, grains } => {
                let head = map! { "cmd" => "grains", "seq" => *seq };
                fields::encode_with(&head, &[("grains", grains)])
            }
            Request::JobsSince { seq, serial } => {
                msgpack::encode_map(&map! { "cmd" => "jobs_since", "seq" => *seq, "serial" => *serial })
            }
            Request::MinionEvents(events) => events.encode(),
            Request::NoMatch { seq, jid } => {
                msgpack::encode_map(&map! { "cmd" => "nomatch", "seq" => *seq, "jid" => jid })
            }
            Request::Other { load, .. } => load.to_vec(),
            Request::Return(ret) => ret.encode(),
            Request::Session(session) => session.encode(),
        }
    }
}

/// What the master pushes on a DEALER (native-wire.md §3).
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// `ack`: everything of this spool up to this number is in the log.
    Ack(Spooled),
    /// `reply`: the answer to a request.
    Reply(Reply),
    /// `subscribed`: the SUB of this session is in place.
    Subscribed {
        /// The session.
        session: u64,
    },
    /// `welcome`: how the master sees this minion; sent again at each change.
    Welcome(Welcome),
}

impl Push {
    /// Reads a push.
    pub fn decode(load: &Bytes) -> Result<Push, BadLoad> {
        let fields = Fields::read(load)?;
        Ok(match fields.str("cmd")? {
            "ack" => Push::Ack(Spooled { spool: fields.array16("spool")?, n: fields.u64("n")? }),
            "reply" => Push::Reply(Reply::from_fields(&fields)?),
            "subscribed" => Push::Subscribed { session: fields.u64("session")? },
            "welcome" => Push::Welcome(Welcome::from_fields(&fields)?),
            other => return Err(BadLoad::UnknownCmd(other.to_owned())),
        })
    }

    /// Encodes the push.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Push::Ack(spooled) => {
                let spool = Value::Bytes(spooled.spool.to_vec());
                msgpack::encode_map(&map! { "cmd" => "ack", "spool" => spool, "n" => spooled.n })
            }
            Push::Reply(reply) => reply.encode(),
            Push::Subscribed { session } => msgpack::encode_map(&map! { "cmd" => "subscribed", "session" => *session }),
            Push::Welcome(welcome) => welcome.encode(),
        }
    }
}

/// Returns the topic of a minion's publications: `m/<id>`.
pub fn topic(id: &crate::ids::MinionId) -> String {
    format!("m/{id}")
}

#[cfg(test)]
mod tests;
