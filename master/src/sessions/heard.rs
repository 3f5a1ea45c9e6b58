//! The registry's part for Salt minions: they have no session here, so all that is known is when they were last heard.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use proto::ids::MinionId;
use tokio::sync::mpsc;

use super::registry::Registry;
use crate::salt::SaltJob;

/// How many minions are remembered. Beyond that the memory starts anew.
const MAX_REMEMBERED: usize = 50_000;

/// What the registry knows of the Salt wire.
#[derive(Default)]
pub(super) struct SaltSide {
    /// Where jobs for Salt minions go, once the listener is open.
    outlet: OnceLock<mpsc::Sender<SaltJob>>,
    heard: Mutex<HashMap<MinionId, Instant>>,
    /// How many upgrades of Salt minions were refused.
    refused_upgrades: AtomicU64,
}

impl SaltSide {
    /// Returns how many seconds ago a minion was heard.
    pub(super) fn heard_s(&self, id: &MinionId) -> Option<u64> {
        self.heard().get(id).map(|at| at.elapsed().as_secs())
    }

    pub(super) fn forget(&self, id: &MinionId) {
        self.heard().remove(id);
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<MinionId, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Takes in where jobs for Salt minions go: once, when the listener opens.
    pub(crate) fn open_salt(&self, outlet: mpsc::Sender<SaltJob>) {
        let _ = self.salt().outlet.set(outlet);
    }

    /// Sends a job to Salt minions; waits while too many jobs wait to be sealed. Tells whether there is a listener.
    pub(crate) async fn publish_salt(&self, job: SaltJob) -> bool {
        match self.salt().outlet.get() {
            // A closed channel means that the master is stopping.
            Some(outlet) => outlet.send(job).await.is_ok(),
            None => false,
        }
    }

    /// Counts an upgrade that was refused; returns how many there were.
    pub(super) fn refused_upgrade(&self) -> u64 {
        self.salt().refused_upgrades.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns how many upgrades of Salt minions were refused.
    pub(crate) fn refused_upgrades(&self) -> u64 {
        self.salt().refused_upgrades.load(Ordering::Relaxed)
    }

    /// Notes that a Salt minion has proven to be there.
    pub(crate) fn heard_salt(&self, id: &MinionId) {
        let mut heard = self.salt().heard();
        if heard.len() >= MAX_REMEMBERED && !heard.contains_key(id) {
            heard.clear();
        }
        heard.insert(id.clone(), Instant::now());
    }
}
