//! What a session is told at its start, and why it may end.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::zmtp::SocketType;
use crate::zmtp::command::CommandError;
use crate::zmtp::frame::{FrameError, Limits};
use crate::zmtp::greeting::GreetingError;
use crate::zmtp::mechanism::curve::{CurveError, CurveKeyPair};
use crate::zmtp::mechanism::{ConnectMechanism, NullPolicy};
use crate::zmtp::metadata::MetadataError;

/// What a listening half needs to know.
pub struct ServerConfig {
    /// What we are: ROUTER or PUB.
    pub socket: SocketType,
    /// Our long-term pair; without it, CURVE peers are refused.
    pub curve: Option<Arc<CurveKeyPair>>,
    /// Whether peers without keys are welcome.
    pub null: NullPolicy,
    /// What peers may make us keep.
    pub limits: Limits,
}

/// What a connecting half needs to know.
pub struct ClientConfig {
    /// What we are: DEALER, SUB or REQ.
    pub socket: SocketType,
    /// How we prove who we are.
    pub mechanism: ConnectMechanism,
    /// Our `Identity`; may be empty.
    pub identity: Bytes,
    /// Further properties, such as `X-minion`.
    pub properties: Vec<(String, Bytes)>,
    /// What the peer may make us keep.
    pub limits: Limits,
}

/// Why a session ended. The peer is not told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// The session was closed before.
    #[error("the session is closed")]
    Closed,
    /// A command without a name.
    #[error("reading a command")]
    Command(#[from] CommandError),
    /// The CURVE handshake or a seal is wrong.
    #[error("checking a sealed command")]
    Curve(#[from] CurveError),
    /// A frame is against the rules or the limits.
    #[error("reading a frame")]
    Frame(#[from] FrameError),
    /// The greeting is wrong.
    #[error("reading the greeting")]
    Greeting(#[from] GreetingError),
    /// The server greets with another mechanism than ours.
    #[error("the server does not speak our mechanism")]
    MechanismMismatch,
    /// We are a server and do not allow the mechanism.
    #[error("the peer's mechanism is not allowed here")]
    MechanismRefused,
    /// A message is above its limit.
    #[error("a message is above the limit of {0} bytes")]
    MessageTooLarge(usize),
    /// READY's properties are wrong.
    #[error("reading the peer's properties")]
    Metadata(#[from] MetadataError),
    /// The peer refuses us.
    #[error("the peer refuses us: {0:?}")]
    PeerError(String),
    /// The two socket types do not talk to each other.
    #[error("a {theirs} cannot talk to our {ours}")]
    SocketType {
        /// What we are.
        ours: SocketType,
        /// What the peer is.
        theirs: SocketType,
    },
    /// A message has too many frames.
    #[error("a message has more than {0} frames")]
    TooManyFrames(usize),
    /// A handshake was interrupted by something else.
    #[error("the handshake was out of order")]
    Unexpected,
    /// Something came outside the seal.
    #[error("a frame was not sealed")]
    Unsealed,
}
