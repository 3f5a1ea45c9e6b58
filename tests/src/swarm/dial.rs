//! Keys and connections of the swarm.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::hello::{HelloReply, HelloRequest};
use proto::message::{self, WINDOW_BYTES, WINDOW_LOADS};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use transport::{
    ConnectConfig, ConnectError, ConnectMechanism, CurveKeyPair, Heartbeat, Incoming, Link, QueueLimits, SocketType,
};

use super::options::Address;

/// How long the master may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// What may wait for a minion's socket: a whole window and its session's own requests, as the real minion has it.
const QUEUE: QueueLimits = QueueLimits { messages: 2 * WINDOW_LOADS, bytes: 64 * WINDOW_BYTES };

/// Which of a minion's two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// Requests, events, returns.
    Dealer,
    /// Publications.
    Sub,
}

/// The secret that all keys of a swarm are made of, and the pin of its master.
pub struct KeyRing {
    seed: [u8; 32],
    dir: Option<PathBuf>,
}

impl KeyRing {
    /// Opens the keys of a directory, or makes new ones; without a directory they are gone with the process.
    pub fn open(dir: Option<&Path>) -> anyhow::Result<KeyRing> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).ok().context("the system gives no random bytes")?;
        let Some(dir) = dir else { return Ok(KeyRing { seed, dir: None }) };
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let path = dir.join("swarm.seed");
        match fs::read(&path) {
            Ok(kept) => {
                seed = kept.try_into().ok().with_context(|| format!("{}: it has no 32 bytes", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                file.write_all(&seed).with_context(|| format!("write {}", path.display()))?;
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
        Ok(KeyRing { seed, dir: Some(dir.to_owned()) })
    }

    /// Returns the pair of a minion: the hash of seed and id.
    pub fn pair(&self, id: &MinionId) -> CurveKeyPair {
        let hash = digest(&SHA256, &[&self.seed, id.as_str().as_bytes()].concat());
        let mut secret = [0; 32];
        secret.copy_from_slice(hash.as_ref());
        CurveKeyPair::from_secret(secret)
    }

    /// Remembers the master's key at the first contact, and refuses another one later.
    pub fn pin(&self, key: &[u8; 32]) -> anyhow::Result<()> {
        let Some(path) = self.dir.as_ref().map(|dir| dir.join("master.key")) else { return Ok(()) };
        match fs::read(&path) {
            Ok(pinned) if pinned == key => Ok(()),
            Ok(_) => bail!("the master's key is not the one in {}; remove it if that is right", path.display()),
            Err(_) => fs::write(&path, key).with_context(|| format!("write {}", path.display())),
        }
    }
}

/// Asks the master for its key, without any protection: as a minion does at its first contact.
pub async fn hello(address: &Address) -> anyhow::Result<[u8; 32]> {
    let target = format!("{}:{}", address.host, address.requests);
    let config = ConnectConfig::new(target, SocketType::Dealer, ConnectMechanism::Null);
    let mut link = transport::connect(&config).await?.link;
    link.sender().try_send(Bytes::from(HelloRequest::current().encode()))?;
    let answer = tokio::time::timeout(HELLO_TIMEOUT, link.recv()).await.context("no answer in time")??;
    let Incoming::Message(frames) = answer else { bail!("the answer is no message") };
    Ok(HelloReply::decode(&frames.last().cloned().unwrap_or_default())?.key)
}

/// Makes the connections of a swarm.
pub struct Dialler {
    address: Address,
    master_key: [u8; 32],
    ring: KeyRing,
    heartbeat: Heartbeat,
}

impl Dialler {
    /// Makes a dialler for a master whose key is known.
    pub fn new(address: Address, master_key: [u8; 32], ring: KeyRing, heartbeat: Heartbeat) -> Dialler {
        Dialler { address, master_key, ring, heartbeat }
    }

    /// Returns the pair of a minion.
    pub fn pair(&self, id: &MinionId) -> Arc<CurveKeyPair> {
        Arc::new(self.ring.pair(id))
    }

    /// Connects one socket; a SUB has subscribed when it is returned.
    pub async fn dial(&self, id: MinionId, keys: Arc<CurveKeyPair>, socket: Socket) -> Result<Link, ConnectError> {
        let Address { host, requests, publications } = &self.address;
        let (port, kind) = match socket {
            Socket::Dealer => (requests, SocketType::Dealer),
            Socket::Sub => (publications, SocketType::Sub),
        };
        let mechanism = ConnectMechanism::Curve { server_key: self.master_key, keys };
        let mut config = ConnectConfig::new(format!("{host}:{port}"), kind, mechanism);
        let name = Bytes::copy_from_slice(id.as_str().as_bytes());
        match socket {
            Socket::Dealer => config.identity = name,
            Socket::Sub => config.properties = vec![("X-minion".to_owned(), name)],
        }
        config.heartbeat = self.heartbeat;
        config.queue = QUEUE;
        let link = transport::connect(&config).await?.link;
        if socket == Socket::Sub {
            // A new link's queue is empty.
            let _ = link.subscribe(message::topic(&id).as_bytes());
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_keys_are_the_same_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let id = MinionId::parse("swarm-1").unwrap();
        let public = |ring: &KeyRing| ring.pair(&id).public();
        let ring = KeyRing::open(Some(dir.path())).unwrap();
        let again = KeyRing::open(Some(dir.path())).unwrap();
        assert_eq!(public(&ring), public(&again));
        assert_ne!(public(&ring), ring.pair(&MinionId::parse("swarm-2").unwrap()).public());
        assert_ne!(public(&ring), public(&KeyRing::open(None).unwrap()));
        ring.pin(&[1; 32]).unwrap();
        again.pin(&[1; 32]).unwrap();
        assert!(again.pin(&[2; 32]).is_err(), "another master is refused");
    }
}
