//! Why a link ended, and why not everything was written.

use std::io;

use proto::zmtp::CloseReason;
use thiserror::Error;

/// Why a link ended. It stays ended: every later call returns the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkClosed {
    /// The peer's incomplete message was the oldest when memory for such messages ran out.
    #[error("too many large messages were incomplete")]
    CrowdedOut,
    /// The network failed.
    #[error("the connection broke: {0}")]
    Io(io::ErrorKind),
    /// We closed it.
    #[error("the link was closed here")]
    Local,
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Peer,
    /// The peer broke the rules.
    #[error("the peer broke the protocol")]
    Protocol(#[source] CloseReason),
    /// Nothing came from the peer for too long.
    #[error("the peer has been silent for too long")]
    Silent,
    /// The peer has begun a message and does not get on with it.
    #[error("the peer's message came too slowly")]
    Stalled,
}

/// Why not everything was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FlushError {
    /// The link ended.
    #[error("writing what is left")]
    Closed(#[source] LinkClosed),
    /// The peer did not take it in time.
    #[error("the peer does not read")]
    Deadline,
}
