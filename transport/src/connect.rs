//! Connecting: name to address to finished handshake, all within one deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::zmtp::{ClientConfig, ConnectMechanism, Limits, Session, SocketType};
use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::Established;
use crate::handshake::{self, HandshakeError, READ_STEP, Terms};
use crate::link::Heartbeat;
use crate::queue::QueueLimits;
use crate::socket::set_options;

/// Default for [`ConnectConfig::handshake_timeout`].
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried; more would only be a longer way to the same error.
const MAX_ADDRESSES: usize = 8;

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct ConnectConfig {
    /// `host:port`; an IPv6 address in brackets. Resolved anew by each [`connect`].
    pub addr: String,
    /// What we are: DEALER, SUB or REQ. A REQ writes its own empty delimiter.
    pub socket: SocketType,
    /// How we prove who we are.
    pub mechanism: ConnectMechanism,
    /// Our `Identity`, at most 255 bytes; a SUB sends none.
    pub identity: Bytes,
    /// Further properties, such as `X-minion`.
    pub properties: Vec<(String, Bytes)>,
    /// What the peer may make us keep.
    pub limits: Limits,
    /// When a silent peer is dead.
    pub heartbeat: Heartbeat,
    /// What may wait to be written.
    pub queue: QueueLimits,
    /// How long each address may take, TCP and handshake together. Default 10 s.
    pub handshake_timeout: Duration,
}

impl ConnectConfig {
    /// Returns a config with the defaults. `max_message_null` is as large as `max_message`: we chose this server.
    pub fn new(addr: impl Into<String>, socket: SocketType, mechanism: ConnectMechanism) -> ConnectConfig {
        let limits = Limits::default();
        ConnectConfig {
            addr: addr.into(),
            socket,
            mechanism,
            identity: Bytes::new(),
            properties: Vec::new(),
            limits: Limits { max_message_null: limits.max_message, ..limits },
            heartbeat: Heartbeat::default(),
            queue: QueueLimits::default(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }

    fn session_config(&self) -> Arc<ClientConfig> {
        Arc::new(ClientConfig {
            socket: self.socket,
            mechanism: self.mechanism.clone(),
            identity: self.identity.clone(),
            properties: self.properties.clone(),
            limits: self.limits,
        })
    }
}

/// Why a connection was not made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The handshake failed.
    #[error("shaking hands with {addr}")]
    Handshake {
        /// The address tried.
        addr: SocketAddr,
        /// What went wrong.
        source: HandshakeError,
    },
    /// The name does not resolve.
    #[error("resolving {name}")]
    Resolve {
        /// What was to be resolved.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// TCP failed.
    #[error("connecting to {addr}")]
    Tcp {
        /// The address tried.
        addr: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Connects, and returns once both sides are ready. Tries each address of the name in turn; the last error counts.
/// Dropping the future ends the attempt.
pub async fn connect(config: &ConnectConfig) -> Result<Established, ConnectError> {
    let resolve = |source| ConnectError::Resolve { name: config.addr.clone(), source };
    let resolved = timeout(config.handshake_timeout, lookup_host(&config.addr)).await;
    let found = resolved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(resolve)?;
    let mut last = resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for addr in found.take(MAX_ADDRESSES) {
        match connect_one(config, addr).await {
            Ok(established) => return Ok(established),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_one(config: &ConnectConfig, addr: SocketAddr) -> Result<Established, ConnectError> {
    let late = || HandshakeError::Timeout;
    let attempt = async {
        let stream = TcpStream::connect(addr).await.map_err(|source| ConnectError::Tcp { addr, source })?;
        set_options(&SockRef::from(&stream)).map_err(|source| ConnectError::Tcp { addr, source })?;
        shake(config, stream, addr).await.map_err(|source| ConnectError::Handshake { addr, source })
    };
    timeout(config.handshake_timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(ConnectError::Handshake { addr, source: late() }))
}

async fn shake(config: &ConnectConfig, stream: TcpStream, addr: SocketAddr) -> Result<Established, HandshakeError> {
    let session = Session::client(config.session_config(), handshake::seed()?);
    let terms = Terms { heartbeat: config.heartbeat, queue: config.queue, budget: None };
    handshake::run(stream, addr, session, BytesMut::with_capacity(READ_STEP), None, &terms).await
}
