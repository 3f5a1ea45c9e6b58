//! The only crate that opens a socket: ZeroMQ over TCP, driven with tokio. The protocol itself is `proto::zmtp`.
//!
//! Reading order: [`Listener`] (accepts peers whose handshake is done) and [`connect`]; both give an [`Established`],
//! which is who the peer is and the [`Link`] to it. [`LinkSender`] is the handle that everyone else keeps. Then
//! [`publish()`] (one message to many links), [`Dealer`] and [`Subscriber`] (links that come back by themselves), and
//! [`Backoff`].
//!
//! A link has no task of its own: the task that owns the [`Link`] drives it by being in [`Link::recv`] (or
//! [`Link::recv_paused`], or [`Link::flush`]). Nothing is written, no PING is sent or answered, and no death is noticed
//! while it is elsewhere.

mod backoff;
mod budget;
mod connect;
mod dealer;
mod ended;
mod handshake;
mod link;
mod listener;
mod publish;
mod queue;
mod reconnect;
mod socket;
mod subscribe;

use std::net::SocketAddr;

use bytes::Bytes;

pub use self::backoff::Backoff;
pub use self::budget::ReadBudget;
pub use self::connect::{ConnectConfig, ConnectError, connect};
pub use self::dealer::Dealer;
pub use self::ended::{FlushError, LinkClosed};
pub use self::handshake::HandshakeError;
pub use self::link::{Heartbeat, Incoming, Link};
pub use self::listener::{BindError, HandshakeLimits, Listener, ListenerConfig, ListenerStats};
pub use self::publish::{Published, publish};
pub use self::queue::{ConnId, LinkSender, QueueLimits, SendError};
pub use self::reconnect::LinkState;
pub use self::subscribe::{Publication, Subscriber};
pub use proto::zmtp::{ConnectMechanism, CurveKeyPair, Limits, Mechanism, Multipart, NullPolicy, SocketType};

/// A peer whose handshake is done.
pub struct Established {
    /// Who it is.
    pub info: PeerInfo,
    /// The connection to it.
    pub link: Link,
}

/// Who a peer is. Only `addr` and the key inside `mechanism` are proven.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// This connection's number, unique in this process.
    pub conn: ConnId,
    /// Where the peer is.
    pub addr: SocketAddr,
    /// The mechanism, and the public key that the peer proved.
    pub mechanism: Mechanism,
    /// The peer's socket type.
    pub socket_type: SocketType,
    /// The peer's identity; empty if it sent none.
    pub identity: Bytes,
    /// All other properties, such as `X-minion`.
    pub properties: Vec<(String, Bytes)>,
}

impl PeerInfo {
    /// Returns the first property of this name; names are case-insensitive.
    pub fn property(&self, name: &str) -> Option<&Bytes> {
        self.properties.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
