//! Who is trusted: the keys of the minions, in Salt's folders, and the master's own pair.
//!
//! `pki_dir/minions` holds accepted keys, `minions_pre` pending ones, `minions_rejected` and `minions_denied` what they
//! say. The folders are the truth: `salt-key` and people may move files in them, which counts within a second. An id has
//! one state; `minions_denied` besides keeps the last key that was turned away for it.
//!
//! One thread owns the store (files are slow, and every request is one step). Accepted keys can be looked up without
//! asking it. Files: `state.rs` the rules, `autosign.rs` and `patterns.rs` what decides without a person, `store.rs` the
//! disk, `pair.rs` and `rsa_pair.rs` the master's pairs, `task.rs` the thread, `view.rs` what can be looked up, `watch.rs` the folders'
//! watcher.

mod autosign;
mod pair;
mod patterns;
mod rsa_pair;
mod state;
mod store;
mod task;
mod view;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proto::ids::MinionId;
use proto::keys::PublicKey;
use proto::message::SessionState;
use proto::salt::rsa::PrivateKey;
use proto::target::glob::Glob;
use proto::value::Map;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::command::{KeyFingers, KeyLists, KeyPems, KeySelection};

pub use pair::{MasterPair, PairError};
pub use rsa_pair::RsaPairError;
pub use store::FileError;
pub use task::{KeysTask, RunError};

use autosign::Autosign;
use state::{Act, KeysState, Limits};
use store::Store;
use task::{Keeper, Request};
use view::View;
use watch::Touched;

/// How many requests wait for the store. Sessions judge one key each and wait for the answer; beyond, they wait here.
const REQUESTS: usize = 1_024;

/// How many changes a listener may be behind. One that is further back is told so (`RecvError::Lagged`) and judges all
/// its keys anew; accepting thousands of keys at once leads there.
const CHANGES: usize = 1_024;

/// Where the keys are, and who may join.
#[derive(Debug, Clone)]
pub struct KeysConfig {
    /// Salt's `pki_dir`. Default `/etc/halite/pki/master`.
    pub pki_dir: PathBuf,
    /// Accepts every new key. Default off.
    pub auto_accept: bool,
    /// How many keys may wait to be accepted, and how many denied ones are kept. Default 1,000.
    pub max_pending: usize,
    /// How many ids may be accepted; 0 for no limit, the default. Operators may go beyond it.
    pub max_minions: usize,
    /// What accepts or rejects new keys by itself.
    pub autosign: AutosignConfig,
}

/// What accepts or rejects new keys by itself. Paths that are not given decide on nothing.
#[derive(Debug, Clone)]
pub struct AutosignConfig {
    /// Ids, globs and regular expressions of those to accept (`autosign_file`, default none).
    pub autosign_file: Option<PathBuf>,
    /// Those to reject (`autoreject_file`, default none). It wins.
    pub autoreject_file: Option<PathBuf>,
    /// A file per grain, a value a line (`autosign_grains_dir`, default none).
    pub autosign_grains_dir: Option<PathBuf>,
    /// How long a stub in `pki_dir/minions_autosign` is good (`autosign_timeout`, minutes, default 120; 0: for ever).
    pub autosign_timeout: Duration,
    /// Whether the group of these files may write to them (`permissive_pki_access`, default False).
    pub permissive: bool,
}

impl Default for AutosignConfig {
    fn default() -> AutosignConfig {
        AutosignConfig {
            autosign_file: None,
            autoreject_file: None,
            autosign_grains_dir: None,
            autosign_timeout: Duration::from_secs(120 * 60),
            permissive: false,
        }
    }
}

impl KeysConfig {
    /// Returns the defaults for a store in this folder.
    pub fn new(pki_dir: impl Into<PathBuf>) -> KeysConfig {
        KeysConfig {
            pki_dir: pki_dir.into(),
            auto_accept: false,
            max_pending: 1_000,
            max_minions: 0,
            autosign: AutosignConfig::default(),
        }
    }

    fn limits(&self) -> Limits {
        let KeysConfig { auto_accept, max_pending, max_minions, .. } = *self;
        Limits { auto_accept, max_pending, max_minions }
    }
}

/// Which folder a key is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyState {
    /// `minions`.
    Accepted,
    /// `minions_denied`.
    Denied,
    /// `minions_pre`.
    Pending,
    /// `minions_rejected`.
    Rejected,
}

impl KeyState {
    /// All of them.
    pub const ALL: [KeyState; 4] = [KeyState::Accepted, KeyState::Denied, KeyState::Pending, KeyState::Rejected];

    /// Returns the name of the folder.
    pub fn folder(self) -> &'static str {
        match self {
            KeyState::Accepted => "minions",
            KeyState::Denied => "minions_denied",
            KeyState::Pending => "minions_pre",
            KeyState::Rejected => "minions_rejected",
        }
    }

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            KeyState::Accepted => "accepted",
            KeyState::Denied => "denied",
            KeyState::Pending => "pending",
            KeyState::Rejected => "rejected",
        }
    }
}

/// A key has come, gone, or changed its state. It speaks of this id with this key: a session with another key of the
/// same id is not meant. From accepted to accepted, the key has taken the place of the RSA key that vouched for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Whose.
    pub id: MinionId,
    /// Which.
    pub key: PublicKey,
    /// Where it was; nothing for a new one.
    pub from: Option<KeyState>,
    /// Where it is; nothing for a deleted one.
    pub to: Option<KeyState>,
}

/// The grains that are to vouch for a pending key. They can be secrets, so nothing shows them.
#[derive(Clone, PartialEq)]
pub struct Vouching(pub Map);

impl std::fmt::Debug for Vouching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vouching({} grains)", self.0.len())
    }
}

/// How a key was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Accepted, denied, full, pending or rejected.
    pub state: SessionState,
    /// Something was stored: this key had not been seen in this state before.
    pub changed: bool,
    /// Why, for people; fit for the peer to read.
    pub reason: Option<String>,
}

/// Why the key store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file of the store.
    #[error("open the key store")]
    Store(#[from] FileError),
    /// The master's own pair.
    #[error("open the key store")]
    Pair(#[from] PairError),
}

/// Why an act on keys was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// All that was left to accept is accepted under other ids.
    #[error(
        "accept the key of {id}: the same key is accepted as {other}; delete that one first, or give {id} its own key"
    )]
    SharedKey {
        /// The id that was to be accepted.
        id: MinionId,
        /// The id that has the key.
        other: MinionId,
    },
    /// A file could not be changed. What was changed before it stays so.
    #[error("change the key store")]
    Store(#[source] FileError),
    /// The key store has stopped.
    #[error("change the key store: it has stopped")]
    Stopped,
}

/// The handle of the key store.
#[derive(Clone)]
pub struct Keys {
    requests: mpsc::Sender<Request>,
    changes: broadcast::Sender<KeyChange>,
    view: Arc<View>,
    pair: Arc<MasterPair>,
    /// The fingerprint of the RSA pair, once it is in use.
    rsa_finger: Arc<OnceLock<String>>,
}

impl Keys {
    /// Opens the store and reads every key; makes folders and the master's pair at the first start. Blocks for a moment;
    /// call it while starting.
    pub fn open(config: KeysConfig) -> Result<(Keys, KeysTask), OpenError> {
        let store = Store::open(&config.pki_dir)?;
        let pair = Arc::new(MasterPair::load(&config.pki_dir)?);
        let mut state = KeysState::new(config.limits());
        let autosign = Autosign::new(config.autosign, &config.pki_dir);
        let view = Arc::new(View::default());
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let touched = Arc::new(Touched::default());
        // Watched before they are read, so that nothing falls in between.
        let watching = watch::watch(&KeyState::ALL.map(|state| store.folder(state)), &touched, &requests);
        for (id, files) in &store.scan()? {
            let changes = state.observe(id, files);
            changes.iter().for_each(|change| state.apply(change));
            view.apply(&changes);
        }
        let changes = broadcast::Sender::new(CHANGES);
        let keys = Keys {
            requests: requests.clone(),
            changes: changes.clone(),
            view: Arc::clone(&view),
            pair,
            rsa_finger: Arc::default(),
        };
        let keeper = Keeper { state, autosign, store, view, requests: receiver, changes, touched, _watching: watching };
        Ok((keys, KeysTask { keeper, stop: requests }))
    }

    /// Returns the master's own pair.
    pub fn master_pair(&self) -> Arc<MasterPair> {
        Arc::clone(&self.pair)
    }

    /// Reads the master's RSA pair of the Salt wire; makes it, of so many bits, if there is none. Blocks for a moment.
    pub fn rsa_pair(&self, pki_dir: &Path, bits: u32, passphrase: Option<&str>) -> Result<PrivateKey, RsaPairError> {
        let pair = rsa_pair::load(pki_dir, rsa_pair::NAME, bits, passphrase)?;
        let _ = self.rsa_finger.set(pair.public().fingerprint().as_str().to_owned());
        Ok(pair)
    }

    /// Reads the pair of another name, which vouches for the master's; makes it if there is none. Blocks for a moment.
    pub fn signing_pair(
        &self,
        pki_dir: &Path,
        name: &str,
        bits: u32,
        passphrase: Option<&str>,
    ) -> Result<PrivateKey, RsaPairError> {
        rsa_pair::load(pki_dir, name, bits, passphrase)
    }

    /// Judges the key that a peer has proven to hold, and stores it if it is new; something may vouch for it. A store that
    /// has stopped lets nobody in.
    pub async fn judge(&self, id: &MinionId, key: &PublicKey, vouching: Option<&Vouching>) -> Judgement {
        let (id, key, vouching) = (id.clone(), key.clone(), vouching.cloned());
        let stopped =
            || Judgement { state: SessionState::Full, changed: false, reason: Some("the master is stopping".into()) };
        self.ask(|done| Request::Judge { id, key, vouching, done }).await.unwrap_or_else(stopped)
    }

    /// Replaces the accepted RSA key of an id by the native key that it has vouched for; tells whether that key was the
    /// accepted one. Who calls this has verified the signature.
    pub async fn upgrade(&self, id: &MinionId, rsa_pem: &str, native: [u8; 32]) -> bool {
        let (id, rsa) = (id.clone(), PublicKey::Rsa(rsa_pem.to_owned()));
        self.ask(|done| Request::Upgrade { id, rsa, native, done }).await.unwrap_or_default()
    }

    /// Returns all ids by state; nothing once the store has stopped.
    pub async fn list(&self) -> KeyLists {
        self.ask(|done| Request::List { done }).await.unwrap_or_default()
    }

    /// Accepts pending keys (rejected and denied ones where included); returns the ids by their former state. A key that
    /// is accepted under another id is left out.
    pub async fn accept(&self, selection: KeySelection) -> Result<KeyLists, KeysError> {
        self.act(Act::Accept, selection).await
    }

    /// Rejects pending keys (accepted and denied ones where included); returns the ids by their former state.
    pub async fn reject(&self, selection: KeySelection) -> Result<KeyLists, KeysError> {
        self.act(Act::Reject, selection).await
    }

    /// Deletes keys in any state; returns the ids by their former state.
    pub async fn delete(&self, selection: KeySelection) -> Result<KeyLists, KeysError> {
        self.act(Act::Delete, selection).await
    }

    /// Returns the fingerprints of the keys whose ids match, and those of the master's own files whose names match.
    pub async fn finger(&self, selection: KeySelection) -> KeyFingers {
        let wants = |name: &str| selection.globs.iter().any(|glob| Glob::new(glob).matches(name));
        let (local, rsa) = (wants(pair::PUBLIC_FILE), wants(rsa_pair::PUBLIC_FILE));
        let mut fingers = self.ask(|done| Request::Finger { selection, done }).await.unwrap_or_default();
        if local {
            fingers.local.push((pair::PUBLIC_FILE.to_owned(), self.pair.fingerprint()));
        }
        if let Some(finger) = self.rsa_finger.get().filter(|_| rsa) {
            fingers.local.push((rsa_pair::PUBLIC_FILE.to_owned(), finger.clone()));
        }
        fingers
    }

    /// Returns the keys whose ids match, as PEM texts.
    pub async fn print(&self, selection: KeySelection) -> KeyPems {
        self.ask(|done| Request::Print { selection, done }).await.unwrap_or_default()
    }

    /// Puts other limits and lists in force, from the next key on. The folder stays where it is.
    pub async fn reload(&self, config: KeysConfig) {
        // A store that has stopped judges nothing any more.
        let _ = self.ask(|done| Request::Reload { config: Box::new(config), done }).await;
    }

    /// Reads all folders again. Needed only where watching them may have failed.
    pub async fn rescan(&self) -> Result<(), KeysError> {
        self.ask(|done| Request::Rescan { done }).await.unwrap_or(Err(KeysError::Stopped))
    }

    /// Returns every change from now on.
    pub fn watch_changes(&self) -> broadcast::Receiver<KeyChange> {
        self.changes.subscribe()
    }

    /// Returns the accepted ids that have this key: one, unless files were copied by hand.
    pub fn id_of(&self, key: &[u8; 32]) -> Vec<MinionId> {
        self.view.ids_of(key)
    }

    /// Returns the accepted ids, sorted. Cheap while nothing changes.
    pub fn accepted_ids(&self) -> Arc<[MinionId]> {
        self.view.ids()
    }

    /// Tells whether a key of this id was accepted or rejected: strangers' pending keys change nothing.
    pub fn has_decided(&self, id: &MinionId) -> bool {
        self.view.has_decided(id)
    }

    /// Tells whether an id is accepted with an RSA key: it speaks Salt's wire.
    pub fn is_salt(&self, id: &MinionId) -> bool {
        self.view.is_salt(id)
    }

    /// Returns the accepted key of an id.
    pub fn key_of(&self, id: &MinionId) -> Option<PublicKey> {
        self.view.key_of(id)
    }

    async fn act(&self, act: Act, selection: KeySelection) -> Result<KeyLists, KeysError> {
        self.ask(|done| Request::Act { act, selection, done }).await.unwrap_or(Err(KeysError::Stopped))
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests;
