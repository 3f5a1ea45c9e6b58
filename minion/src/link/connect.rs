//! Connecting to the master: its key first (`hello`, trust, pin), then the two sockets.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::hello::{HelloReply, HelloRequest};
use proto::message::{self, BadLoad, RsaProof, WINDOW_BYTES};
use tokio::time::timeout;
use tracing::info;
use transport::{
    ConnectConfig, ConnectError, ConnectMechanism, Established, Heartbeat, Incoming, Link as Connection, LinkClosed,
    QueueLimits, SendError, SocketType,
};

use super::keys::{self, KeyError, OwnKey};
use super::state::Failure;
use super::trust::{self, Demands, TrustError, Verdict};
use super::upgrade;

/// How long the master may take to answer a `hello`.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Loads that may wait for the socket: a whole window and the session's own requests, so that the queue never refuses.
pub(super) const QUEUE: QueueLimits = QueueLimits { messages: 2 * message::WINDOW_LOADS, bytes: 64 * WINDOW_BYTES };

/// Where the master is, who we are, and whom we trust.
#[derive(Clone)]
pub struct Target {
    /// The minion's id.
    pub id: MinionId,
    /// The master's host name or address.
    pub host: String,
    /// The port of requests.
    pub request_port: u16,
    /// The port of publications.
    pub publish_port: u16,
    /// The folder of key files.
    pub pki_dir: PathBuf,
    /// Our own pair.
    pub key: OwnKey,
    /// What the configuration demands of the master's key.
    pub demands: Demands,
    /// When a silent master is dead.
    pub heartbeat: Heartbeat,
}

/// A connection that was made.
pub(super) struct Dialed {
    pub(super) link: Connection,
    /// What vouches for this minion with this master: its key of Salt's, if it has one.
    pub(super) upgrade: Option<Box<RsaProof>>,
}

impl From<Connection> for Dialed {
    fn from(link: Connection) -> Dialed {
        Dialed { link, upgrade: None }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("ask the master for its key: its answer makes no sense")]
    Answer(#[source] BadLoad),
    #[error("ask the master for its key: the connection ended")]
    Closed(#[source] LinkClosed),
    #[error("connect to the master")]
    Connect(#[from] ConnectError),
    #[error("use the key files")]
    Keys(#[from] KeyError),
    #[error("talk to the master")]
    Send(#[from] SendError),
    #[error("ask the master for its key: no answer within {} s", HELLO_TIMEOUT.as_secs())]
    Silent,
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("talk to the master: it speaks version {0} of the native wire, this minion version {ours}", ours = proto::WIRE_VERSION)]
    Version(u64),
}

impl DialError {
    pub(super) fn failure(&self) -> Failure {
        match self {
            DialError::Keys(_) | DialError::Trust(_) | DialError::Version(_) => Failure::Distrusted,
            _ => Failure::Unreachable,
        }
    }
}

/// Connects the DEALER. At the first contact the master's key is asked for and pinned. If a handshake with the pinned key
/// fails, it is asked for again, to tell a changed key from a master that is down.
pub(super) async fn dealer(target: &Target) -> Result<Dialed, DialError> {
    let key = match known_key(target)? {
        Some(key) => key,
        None => first_contact(target).await?,
    };
    match sealed(target, SocketType::Dealer, key).await {
        Ok(established) => {
            let upgrade = upgrade::vouch(target, key).await.map(Box::new);
            Ok(Dialed { link: established.link, upgrade })
        }
        Err(error @ ConnectError::Handshake { .. }) => {
            if let Ok(offered) = hello(target).await {
                let pinned = keys::pinned(&target.pki_dir)?.or(Some(key));
                trust::judge(&offered.key, pinned, &keys::pin_path(&target.pki_dir), &target.demands)?;
            }
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Connects the SUB and subscribes. The DEALER was connected before, so the key is known.
pub(super) async fn subscriber(target: &Target) -> Result<Dialed, DialError> {
    let key = match known_key(target)? {
        Some(key) => key,
        None => first_contact(target).await?,
    };
    let established = sealed(target, SocketType::Sub, key).await?;
    established.link.subscribe(message::topic(&target.id).as_bytes())?;
    Ok(established.link.into())
}

/// Returns the key to insist on, if there is one before any contact.
fn known_key(target: &Target) -> Result<Option<[u8; 32]>, DialError> {
    let path = keys::pin_path(&target.pki_dir);
    let pinned = keys::pinned(&target.pki_dir)?;
    let Some(key) = target.demands.key.or(pinned) else { return Ok(None) };
    trust::judge(&key, pinned, &path, &target.demands)?;
    Ok(Some(key))
}

async fn first_contact(target: &Target) -> Result<[u8; 32], DialError> {
    let reply = hello(target).await?;
    if reply.version != proto::WIRE_VERSION {
        return Err(DialError::Version(reply.version));
    }
    let path = keys::pin_path(&target.pki_dir);
    upgrade::judge(target, &reply).await?;
    if trust::judge(&reply.key, None, &path, &target.demands)? == Verdict::Pin {
        keys::pin(&target.pki_dir, &reply.key)?;
        let fingerprint = trust::fingerprint(&reply.key);
        info!(master = reply.master_id, %fingerprint, path = %path.display(), "the master's key is pinned");
    }
    // Another process may have pinned first; what is pinned counts.
    Ok(keys::pinned(&target.pki_dir)?.unwrap_or(reply.key))
}

/// Asks the master who it is, without any protection: nothing in the answer is to be believed before it is judged.
async fn hello(target: &Target) -> Result<HelloReply, DialError> {
    let config =
        ConnectConfig::new(address(&target.host, target.request_port), SocketType::Dealer, ConnectMechanism::Null);
    let mut connection = transport::connect(&config).await?.link;
    connection.sender().try_send(Bytes::from(HelloRequest::current().encode()))?;
    let answer = timeout(HELLO_TIMEOUT, connection.recv()).await.map_err(|_| DialError::Silent)?;
    match answer.map_err(DialError::Closed)? {
        // A master may mirror the empty frame of a REQ.
        Incoming::Message(frames) => {
            HelloReply::decode(&frames.last().cloned().unwrap_or_default()).map_err(DialError::Answer)
        }
        Incoming::Subscribe(_) | Incoming::Unsubscribe(_) => Err(DialError::Answer(BadLoad::Field("cmd"))),
    }
}

async fn sealed(target: &Target, socket: SocketType, key: [u8; 32]) -> Result<Established, ConnectError> {
    let port = if socket == SocketType::Sub { target.publish_port } else { target.request_port };
    let mechanism = ConnectMechanism::Curve { server_key: key, keys: target.key.pair.clone() };
    let mut config = ConnectConfig::new(address(&target.host, port), socket, mechanism);
    let id = Bytes::copy_from_slice(target.id.as_str().as_bytes());
    if socket == SocketType::Sub {
        config.properties = vec![("X-minion".to_owned(), id)];
    } else {
        config.identity = id;
    }
    config.heartbeat = target.heartbeat;
    config.queue = QUEUE;
    transport::connect(&config).await
}

/// Joins host and port; an IPv6 address gets its brackets.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
