//! The keys of the Salt wire: the one that all minions share, one for each minion, and the serial of publications.
//!
//! They lie under `cachedir` (0600), so that a restart makes nobody authenticate anew: `salt_aes_key`, `salt_serial`,
//! and `sessions/<id>` where Salt has them too. A session key is made only for an accepted key.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use proto::ids::MinionId;
use proto::salt::auth::{Acceptance, PubSig};
use proto::salt::crypticle::{Crypticle, SessionKey, SharedKey};
use proto::salt::rsa::PrivateKey;

use super::config::SaltConfig;
use super::disk::{self, FileError};
use super::random;

/// How many serials are reserved at a time: a crash skips at most so many.
const SERIALS: u64 = 1_000;

/// The shared key, and what every accepted minion is told of it.
pub(super) struct Current {
    pub(super) shared: SharedKey,
    pub(super) acceptance: Acceptance,
}

/// The key between the master and one minion.
#[derive(Clone)]
struct Session {
    key: Arc<SessionKey>,
    made: SystemTime,
}

/// All of them.
pub(super) struct Secrets {
    master: Arc<PrivateKey>,
    pub_sig: Option<Arc<PubSig>>,
    publish_port: u16,
    life: Duration,
    aes_path: PathBuf,
    serial_path: PathBuf,
    folder: PathBuf,
    current: ArcSwap<Current>,
    sessions: Mutex<HashMap<MinionId, Session>>,
    serials: Mutex<Serials>,
}

/// The last serial that was given out, and up to which they are reserved on the disk.
struct Serials {
    last: u64,
    reserved: u64,
}

impl Secrets {
    /// Takes up the keys that are there, and makes what is missing.
    pub(super) fn open(
        config: &SaltConfig,
        (master, pub_sig): (&Arc<PrivateKey>, Option<Arc<PubSig>>),
        accepted: impl Fn(&MinionId) -> bool,
    ) -> Result<Secrets, FileError> {
        let folder = config.cachedir.join("sessions");
        disk::folder(&folder)?;
        let (aes_path, serial_path) = (config.cachedir.join("salt_aes_key"), config.cachedir.join("salt_serial"));
        let serial = disk::read(&serial_path)?.and_then(|text| text.trim().parse::<u64>().ok());
        let stored = disk::read(&aes_path)?.and_then(|text| Crypticle::parse(text.trim().as_bytes()).ok());
        // Without its serial the old key is of no use: minions would ignore what comes under it.
        let (crypticle, last) = match (stored, serial) {
            (Some(stored), Some(serial)) => (stored, serial),
            (_, serial) => (new_key(&aes_path)?, serial.unwrap_or_default()),
        };
        let sessions = read_sessions(&folder, accepted);
        let current = current((master, pub_sig.clone()), config.publish_port, SharedKey(crypticle));
        Ok(Secrets {
            master: Arc::clone(master),
            pub_sig,
            publish_port: config.publish_port,
            life: config.key_life,
            aes_path,
            serial_path,
            folder,
            current: ArcSwap::from_pointee(current),
            sessions: Mutex::new(sessions),
            serials: Mutex::new(Serials { last, reserved: last }),
        })
    }

    /// Returns the shared key.
    pub(super) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Returns how old the shared key is. Blocks for a moment.
    pub(super) fn age(&self) -> Duration {
        let made = std::fs::metadata(&self.aes_path).and_then(|known| known.modified());
        made.ok().and_then(|made| made.elapsed().ok()).unwrap_or_default()
    }

    /// Replaces the shared key. Blocks.
    pub(super) fn rotate(&self) -> Result<(), FileError> {
        let shared = SharedKey(new_key(&self.aes_path)?);
        self.current.store(Arc::new(current((&self.master, self.pub_sig.clone()), self.publish_port, shared)));
        Ok(())
    }

    /// Gives out the next serial: larger than any before, also before a restart. Blocks now and then.
    pub(super) fn serial(&self) -> Result<u64, FileError> {
        let mut serials = self.serials.lock().unwrap_or_else(PoisonError::into_inner);
        if serials.last >= serials.reserved {
            let reserved = serials.last + SERIALS;
            disk::write(&self.serial_path, reserved.to_string().as_bytes())?;
            serials.reserved = reserved;
        }
        serials.last += 1;
        Ok(serials.last)
    }

    /// Returns the session key of a minion, unless it is too old or there is none.
    pub(super) fn session(&self, id: &MinionId) -> Option<Arc<SessionKey>> {
        let sessions = self.sessions();
        let session = sessions.get(id).filter(|session| !self.is_old(session))?;
        Some(Arc::clone(&session.key))
    }

    /// Returns the session key of a minion whose key is accepted; makes one if need be. Blocks.
    pub(super) fn open_session(&self, id: &MinionId) -> Result<Arc<SessionKey>, FileError> {
        if let Some(key) = self.session(id) {
            return Ok(key);
        }
        // Held while the file is written: two processes of one minion must be told the same key.
        let mut sessions = self.sessions();
        if let Some(session) = sessions.get(id).filter(|session| !self.is_old(session)) {
            return Ok(Arc::clone(&session.key));
        }
        let crypticle = Crypticle::from_random(random());
        disk::write(&self.folder.join(id.as_str()), crypticle.key_text().as_bytes())?;
        let key = Arc::new(SessionKey(crypticle));
        sessions.insert(id.clone(), Session { key: Arc::clone(&key), made: SystemTime::now() });
        Ok(key)
    }

    /// Forgets the session key of a minion that has lost its rights. Blocks for a moment.
    pub(super) fn close_session(&self, id: &MinionId) {
        self.sessions().remove(id);
        if let Err(error) = disk::remove(&self.folder.join(id.as_str())) {
            tracing::error!(minion_id = %id, error = &error as &dyn std::error::Error, "a session key is left on the disk");
        }
    }

    fn is_old(&self, session: &Session) -> bool {
        let age = session.made.elapsed().unwrap_or_default();
        !self.life.is_zero() && age >= self.life
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<MinionId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current((master, pub_sig): (&PrivateKey, Option<Arc<PubSig>>), publish_port: u16, shared: SharedKey) -> Current {
    let acceptance = Acceptance::new(master, publish_port, &shared, pub_sig);
    Current { shared, acceptance }
}

fn new_key(path: &Path) -> Result<Crypticle, FileError> {
    let crypticle = Crypticle::from_random(random());
    disk::write(path, crypticle.key_text().as_bytes())?;
    Ok(crypticle)
}

/// Takes up the session keys of accepted minions; others have lost theirs while the master was away.
fn read_sessions(folder: &Path, accepted: impl Fn(&MinionId) -> bool) -> HashMap<MinionId, Session> {
    let mut sessions = HashMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| MinionId::parse(name).ok()) else { continue };
        let made = entry.metadata().and_then(|known| known.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let text = disk::read(&entry.path()).ok().flatten();
        let key = text.and_then(|text| Crypticle::parse(text.trim().as_bytes()).ok());
        match key {
            Some(key) if accepted(&id) => drop(sessions.insert(id, Session { key: Arc::new(SessionKey(key)), made })),
            _ => drop(disk::remove(&entry.path())),
        }
    }
    sessions
}
