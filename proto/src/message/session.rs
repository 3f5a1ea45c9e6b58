//! `session` and `welcome`: how a session opens (native-wire.md §3, §4).

use std::fmt;

use bytes::Bytes;

use super::{BadLoad, Fields, RsaProof, fields};
use crate::WIRE_VERSION;
use crate::map;
use crate::msgpack;
use crate::value::{Map, MapExt, Value};

/// What kind of process a session belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One command: `halite-minion call`.
    Call,
    /// The minion itself: it has beacons and takes jobs.
    Daemon,
}

impl Kind {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::Daemon => "daemon",
        }
    }
}

/// What a minion says of itself.
#[derive(Clone, PartialEq)]
pub struct SessionRequest {
    /// Correlates the reply.
    pub seq: u64,
    /// Random, new with every start of the process.
    pub instance: [u8; 16],
    /// Daemon or call.
    pub kind: Kind,
    /// The version of the native wire.
    pub version: u64,
    /// Software and version, for people.
    pub software: String,
    /// All grains, as an encoded map (daemons).
    pub grains: Option<Bytes>,
    /// Grains that may vouch for a pending key.
    pub autosign_grains: Option<Map>,
    /// The minion's key of Salt's, which vouches for the native one: the id is kept if the master had accepted it.
    pub upgrade: Option<RsaProof>,
}

impl fmt::Debug for SessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Autosign grains can be shared secrets.
        write!(f, "SessionRequest {{ seq: {}, kind: {}, software: {:?} }}", self.seq, self.kind.name(), self.software)
    }
}

impl SessionRequest {
    pub(super) fn from_fields(load: &Bytes, fields: &Fields<'_>) -> Result<SessionRequest, BadLoad> {
        Ok(SessionRequest {
            seq: fields.u64("seq")?,
            instance: fields.array16("instance")?,
            kind: match fields.str("kind")? {
                "call" => Kind::Call,
                "daemon" => Kind::Daemon,
                _ => return Err(BadLoad::Field("kind")),
            },
            version: fields.u64("version")?,
            software: fields.optional_str("software")?.unwrap_or_default().chars().take(MAX_SOFTWARE).collect(),
            grains: fields.raw("grains").map(|_| fields.map_bytes(load, "grains")).transpose()?,
            autosign_grains: fields.map("autosign_grains")?,
            upgrade: match fields.map("upgrade")? {
                None => None,
                Some(mut upgrade) => RsaProof::read(upgrade.take("rsa_pub"), upgrade.take("sig"))?,
            },
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut head = map! {
            "cmd" => "session",
            "seq" => self.seq,
            "instance" => Value::Bytes(self.instance.to_vec()),
            "kind" => self.kind.name(),
            "version" => self.version,
            "software" => self.software.as_str(),
        };
        if let Some(grains) = &self.autosign_grains {
            head.set("autosign_grains", grains.clone());
        }
        if let Some(RsaProof { rsa_pub, sig }) = &self.upgrade {
            head.set("upgrade", map! { "rsa_pub" => rsa_pub.as_str(), "sig" => Value::Bytes(sig.clone()) });
        }
        match &self.grains {
            Some(grains) => fields::encode_with(&head, &[("grains", grains)]),
            None => msgpack::encode_map(&head),
        }
    }
}

/// How much of a peer's description of itself is kept, in characters.
const MAX_SOFTWARE: usize = 128;

/// How the master sees a minion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Its key is accepted: the session has rights.
    Accepted,
    /// Its id cannot be one.
    BadId,
    /// Its id is taken by a key of another minion, or its key by another id.
    Denied,
    /// Another daemon with this id is alive.
    Duplicate,
    /// The master takes no more minions, or no more pending keys.
    Full,
    /// An operator has yet to accept its key.
    Pending,
    /// An operator rejected its key.
    Rejected,
}

impl SessionState {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            SessionState::Accepted => "accepted",
            SessionState::BadId => "bad-id",
            SessionState::Denied => "denied",
            SessionState::Duplicate => "duplicate",
            SessionState::Full => "full",
            SessionState::Pending => "pending",
            SessionState::Rejected => "rejected",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<SessionState> {
        use SessionState::{Accepted, BadId, Denied, Duplicate, Full, Pending, Rejected};
        [Accepted, BadId, Denied, Duplicate, Full, Pending, Rejected].into_iter().find(|state| state.name() == name)
    }
}

/// What the master says first, and at each change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The state of the minion's key.
    pub state: SessionState,
    /// The number of this session; 0 in limbo.
    pub session: u64,
    /// The resume point of publications at this moment.
    pub serial: u64,
    /// How often the master sends PING, in seconds.
    pub ping_s: u64,
    /// The master's clock, in Unix milliseconds: `expires` of a publication is told by it. None if it does not say.
    pub now_ms: Option<u64>,
    /// Why, for people.
    pub reason: Option<String>,
}

impl Welcome {
    pub(super) fn from_fields(fields: &Fields<'_>) -> Result<Welcome, BadLoad> {
        Ok(Welcome {
            state: SessionState::parse(fields.str("state")?).ok_or(BadLoad::Field("state"))?,
            session: fields.optional_u64("session")?.unwrap_or(0),
            serial: fields.optional_u64("serial")?.unwrap_or(0),
            ping_s: fields.optional_u64("ping_s")?.unwrap_or(15),
            now_ms: fields.optional_u64("now")?,
            reason: fields.optional_str("reason")?.map(str::to_owned),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut load = map! {
            "cmd" => "welcome",
            "state" => self.state.name(),
            "session" => self.session,
            "version" => WIRE_VERSION,
            "serial" => self.serial,
            "ping_s" => self.ping_s,
        };
        if let Some(now) = self.now_ms {
            load.set("now", now);
        }
        if let Some(reason) = &self.reason {
            load.set("reason", reason.as_str());
        }
        msgpack::encode_map(&load)
    }
}
