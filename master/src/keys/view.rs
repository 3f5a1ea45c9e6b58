//! The keys that were decided on, for everybody to look at without asking the task.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use proto::ids::MinionId;
use proto::keys::PublicKey;

use super::{KeyChange, KeyState};

/// The accepted keys by id and by key, and whose key was rejected. The lock is held for a look or a change, never across a wait.
#[derive(Debug, Default)]
pub(super) struct View {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<MinionId, PublicKey>,
    by_key: HashMap<[u8; 32], Vec<MinionId>>,
    rejected: HashSet<MinionId>,
    /// Made when asked for, forgotten at each change.
    ids: Option<Arc<[MinionId]>>,
}

impl View {
    pub(super) fn apply(&self, changes: &[KeyChange]) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            if change.from == Some(KeyState::Accepted) {
                inner.remove(&change.id);
            }
            if change.to == Some(KeyState::Accepted) {
                inner.remove(&change.id);
                inner.insert(&change.id, &change.key);
            }
            if change.from == Some(KeyState::Rejected) {
                inner.rejected.remove(&change.id);
            }
            if change.to == Some(KeyState::Rejected) {
                inner.rejected.insert(change.id.clone());
            }
        }
    }

    pub(super) fn ids_of(&self, key: &[u8; 32]) -> Vec<MinionId> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_key.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn key_of(&self, id: &MinionId) -> Option<PublicKey> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    pub(super) fn has_decided(&self, id: &MinionId) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.contains_key(id) || inner.rejected.contains(id)
    }

    pub(super) fn is_salt(&self, id: &MinionId) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        matches!(inner.by_id.get(id), Some(PublicKey::Rsa(_)))
    }

    pub(super) fn ids(&self) -> Arc<[MinionId]> {
        if let Some(ids) = &self.inner.read().unwrap_or_else(PoisonError::into_inner).ids {
            return Arc::clone(ids);
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let ids: Arc<[MinionId]> = inner.by_id.keys().cloned().collect();
        inner.ids = Some(Arc::clone(&ids));
        ids
    }
}

impl Inner {
    fn insert(&mut self, id: &MinionId, key: &PublicKey) {
        self.ids = None;
        if let PublicKey::X25519(key) = key {
            self.by_key.entry(*key).or_default().push(id.clone());
        }
        self.by_id.insert(id.clone(), key.clone());
    }

    fn remove(&mut self, id: &MinionId) {
        self.ids = None;
        if let Some(PublicKey::X25519(key)) = self.by_id.remove(id)
            && let Some(ids) = self.by_key.get_mut(&key)
        {
            ids.retain(|other| other != id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}
