//! The Salt wire: unmodified Salt minions join this master on the same two ports, by ZMTP's mechanism NULL. Off until
//! `salt_listener: true`.
//!
//! ```text
//!  4506  NULL  ── hello ────────────────────────────► answered as ever, whoever asks
//!              ── {enc: clear, _auth} ──► auth.rs ──► keys ──► signed answer          (RSA: pool.rs, in turns)
//!              ── {enc: clear, ...} ────► clear.rs                                    commands of local clients
//!              ── {enc: aes, id, load} ─► opened with the session key ─► requests.rs  one arm for each command
//!  4505  NULL  ◄── one box under the shared key, signed, for all ── publisher.rs ◄── jobs
//! ```
//!
//! Reading order: [`Salt`] (the handle: what every connection's task has), `peer.rs` (one task for each connection of
//! the request port), `auth.rs`, `requests.rs` (the closed list of what a minion may ask, and who answers), `clear.rs`,
//! `returns.rs`, `events.rs` and `syndics.rs` (what minions bring, for themselves or for others), `publisher.rs` (what goes
//! out, and who hears it). `secrets.rs` holds the shared key and the session keys, `state.rs`
//! decides when they are replaced, `pool.rs` shares the processors out, `task.rs` is the loop.
//!
//! What a Salt peer says of itself is believed only when its session key opens it and its RSA key has made its token.

mod auth;
mod clear;
mod config;
mod disk;
mod dropfile;
mod events;
mod failures;
mod minions;
mod peer;
mod peers;
mod pool;
mod publisher;
mod requests;
mod returns;
mod secrets;
mod state;
mod subscriber;
mod syndics;
mod task;
pub mod tools;
mod vouch;

use std::sync::Arc;

use proto::message::RsaProof;
use proto::message::hello::HelloReply;
use proto::salt::rsa::PrivateKey;
use proto::salt::upgrade;
use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::command::Door;
use crate::jobs::Jobs;
use crate::keys::{Keys, RsaPairError};
use crate::requests::Requests;
use crate::sessions::Registry;

pub use config::SaltConfig;
pub use disk::FileError;
pub use publisher::SaltJob;
pub use syndics::SyndicsConfig;
pub use task::SaltTask;
pub use vouch::PubKeySignature;

use minions::Minions;
use peers::Peers;
use pool::Pool;
use publisher::Subscribers;
use secrets::Secrets;
use syndics::Marked;
use tools::commands::ClearCommands;

/// How many publications wait to be sealed; each takes less than a millisecond. When it is full, publishers wait.
const PUBLICATIONS: usize = 1_024;

/// The other parts that the Salt side works with.
#[derive(Clone)]
pub struct SaltParts {
    /// Where events go.
    pub bus: Bus,
    /// Where returns are judged.
    pub jobs: Jobs,
    /// Where keys are judged.
    pub keys: Keys,
    /// Who is there, and what it told of itself.
    pub registry: Registry,
    /// All the master can be asked.
    pub door: Door,
    /// Who answers what minions ask of files, pillar and each other.
    pub asked: Requests,
    /// Who answers local clients.
    pub clear: Option<Arc<ClearCommands>>,
    /// What a `hello` is answered.
    pub hello: Arc<HelloReply>,
}

/// Why the Salt listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of its keys.
    #[error("open the Salt listener")]
    File(#[from] FileError),
    /// There is no signature of the master's key (`master_use_pubkey_signature`).
    #[error("read the signature of the master's key {path}; Salt's `salt-key --gen-signature` makes it")]
    NoSignature {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The master's RSA pair, or the one that vouches for it.
    #[error("open the Salt listener")]
    Pair(#[from] RsaPairError),
}

/// The handle: cheap to clone, held by every connection's task.
#[derive(Clone)]
pub struct Salt {
    inner: Arc<Inner>,
}

/// What all connections share.
struct Inner {
    config: SaltConfig,
    parts: SaltParts,
    /// The master's RSA pair.
    master: Arc<PrivateKey>,
    secrets: Secrets,
    minions: Minions,
    peers: Peers,
    pool: Pool,
    subscribers: Subscribers,
    denied: events::Denied,
    marked: Marked,
}

impl Salt {
    /// Reads or makes the keys, and takes up the jobs that are to go out. Blocks for a moment; call it while starting.
    pub fn open(config: SaltConfig, parts: SaltParts) -> Result<(Salt, SaltTask), OpenError> {
        let passphrase = config.key_pass.as_ref().map(|text| text.as_str());
        let master = Arc::new(parts.keys.rsa_pair(&config.pki_dir, config.keysize, passphrase)?);
        let native = parts.keys.master_pair().public;
        let rsa =
            RsaProof { rsa_pub: master.public().pem().to_owned(), sig: upgrade::vouch_for_master(&master, &native) };
        // An existing pin of the RSA key carries over to the native wire.
        let hello = HelloReply { rsa: Some(rsa), ..HelloReply::clone(&parts.hello) };
        let parts = SaltParts { hello: Arc::new(hello), ..parts };
        let accepted = parts.keys.accepted_ids();
        let pub_sig = vouch::open(&config, &parts.keys)?;
        let secrets = Secrets::open(&config, (&master, pub_sig), |id| accepted.binary_search(id).is_ok())?;
        let (outlet, publications) = mpsc::channel(PUBLICATIONS);
        parts.registry.open_salt(outlet);
        let inner = Inner {
            config,
            parts,
            master,
            secrets,
            minions: Minions::default(),
            peers: Peers::default(),
            pool: Pool::default(),
            subscribers: Subscribers::default(),
            denied: events::Denied::default(),
            marked: Marked::default(),
        };
        let salt = Salt { inner: Arc::new(inner) };
        Ok((salt.clone(), SaltTask::new(salt, publications)))
    }
}

/// Returns fresh random bytes.
fn random<const N: usize>() -> zeroize::Zeroizing<[u8; N]> {
    use ring::rand::SecureRandom;
    let mut bytes = zeroize::Zeroizing::new([0; N]);
    ring::rand::SystemRandom::new().fill(bytes.as_mut()).expect("a running kernel gives random numbers");
    bytes
}

/// Returns the seconds since 1970.
fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
