//! What is known of the minions that have asked something: their parsed keys, and the tokens that they have proven.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use proto::ids::MinionId;
use proto::keys::PublicKey as StoredKey;
use proto::salt::Nonce;
use proto::salt::request::ProvenToken;
use proto::salt::rsa::PublicKey;

use crate::keys::Keys;

/// How many minions are remembered. Beyond that the memory starts anew, which costs a parsed key each.
const MAX_REMEMBERED: usize = 50_000;
/// How many requests of a minion are remembered that have changed something: the same one again changes nothing.
const MAX_NONCES: usize = 64;

/// An accepted key.
pub(super) struct Minion {
    pem: String,
    /// The key.
    pub(super) public: PublicKey,
    /// The token that it has made.
    pub(super) token: OnceLock<ProvenToken>,
    done: Mutex<Done>,
}

/// The nonces of requests that were carried out, the oldest first.
#[derive(Default)]
struct Done {
    order: VecDeque<[u8; Nonce::LEN]>,
    known: HashSet<[u8; Nonce::LEN]>,
}

impl Minion {
    /// Tells whether a request with this nonce was carried out: somebody sends again what it has heard on the way, or
    /// its sender has missed the reply.
    pub(super) fn has_done(&self, nonce: &Nonce) -> bool {
        nonce_bytes(nonce).is_some_and(|nonce| self.done().known.contains(&nonce))
    }

    /// Remembers a request that was carried out.
    pub(super) fn did(&self, nonce: &Nonce) {
        let Some(nonce) = nonce_bytes(nonce) else { return };
        let mut done = self.done();
        if !done.known.insert(nonce) {
            return;
        }
        done.order.push_back(nonce);
        if done.order.len() > MAX_NONCES
            && let Some(oldest) = done.order.pop_front()
        {
            done.known.remove(&oldest);
        }
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nonce_bytes(nonce: &Nonce) -> Option<[u8; Nonce::LEN]> {
    nonce.as_str().as_bytes().try_into().ok()
}

/// All of them.
#[derive(Default)]
pub(super) struct Minions {
    known: Mutex<HashMap<MinionId, Arc<Minion>>>,
}

impl Minions {
    /// Returns the accepted RSA key of a minion. What the key store says counts, at this moment.
    pub(super) fn accepted(&self, id: &MinionId, keys: &Keys) -> Option<Arc<Minion>> {
        let Some(StoredKey::Rsa(pem)) = keys.key_of(id) else { return None };
        if let Some(minion) = self.known().get(id).filter(|minion| minion.pem == pem) {
            return Some(Arc::clone(minion));
        }
        let public = PublicKey::from_pem(&pem).ok()?;
        let minion = Arc::new(Minion { pem, public, token: OnceLock::new(), done: Mutex::default() });
        let mut known = self.known();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(id.clone(), Arc::clone(&minion));
        Some(minion)
    }

    /// Forgets a minion that has lost its rights.
    pub(super) fn forget(&self, id: &MinionId) {
        self.known().remove(id);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<MinionId, Arc<Minion>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
