//! The rules of the key store: how a key that shows up is judged (salt-wire.md §2.2, design §2), what an operator's act
//! changes, and what a file that changed by itself means.
//!
//! Pure: everything comes out as [`KeyChange`]s. The task carries one out on the disk and only then applies it here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proto::ids::MinionId;
use proto::keys::PublicKey;
use proto::message::SessionState;
use proto::target::glob::Glob;

use super::{KeyChange, KeyFingers, KeyLists, KeyPems, KeySelection, KeyState};

/// The limits of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) auto_accept: bool,
    pub(super) max_pending: usize,
    /// 0 for no limit.
    pub(super) max_minions: usize,
}

/// What an operator does to keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Accept,
    Delete,
    Reject,
}

/// What the lists say of a key that no person has decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// Let it in.
    Accept,
    /// A person is to decide, unless every key is accepted.
    Ask,
    /// A person is to decide: the list of those to reject cannot be read.
    Hold,
    /// Keep it out.
    Reject,
}

/// How a key is judged, and what has to be stored for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) state: SessionState,
    pub(super) reason: Option<&'static str>,
    pub(super) change: Option<KeyChange>,
}

/// What an act would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) changes: Vec<KeyChange>,
    /// The ids by their former state.
    pub(super) lists: KeyLists,
    /// Left as they are: their key is accepted under the other id.
    pub(super) shared: Vec<(MinionId, MinionId)>,
}

/// What lies in the four folders under one name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) accepted: Option<PublicKey>,
    pub(super) denied: Option<PublicKey>,
    pub(super) pending: Option<PublicKey>,
    pub(super) rejected: Option<PublicKey>,
}

impl Files {
    pub(super) fn put(&mut self, state: KeyState, key: PublicKey) {
        let place = match state {
            KeyState::Accepted => &mut self.accepted,
            KeyState::Denied => &mut self.denied,
            KeyState::Pending => &mut self.pending,
            KeyState::Rejected => &mut self.rejected,
        };
        *place = Some(key);
    }

    /// Tells whether there is no key that counts.
    pub(super) fn is_vacant(&self) -> bool {
        self.known().is_none()
    }

    /// Returns the one state that counts where several files exist: the order of Salt, the one with the fewest rights
    /// first.
    fn known(&self) -> Option<(KeyState, &PublicKey)> {
        let rejected = self.rejected.as_ref().map(|key| (KeyState::Rejected, key));
        let pending = || self.pending.as_ref().map(|key| (KeyState::Pending, key));
        let accepted = || self.accepted.as_ref().map(|key| (KeyState::Accepted, key));
        rejected.or_else(pending).or_else(accepted)
    }
}

/// What a peer is told whose key is rejected.
const REJECTED: &str = "the key was rejected";

/// What a key is compared by: spaces and line ends in a PEM text do not count.
type Print = Vec<u8>;

fn print(key: &PublicKey) -> Print {
    match key {
        PublicKey::X25519(key) => key.to_vec(),
        PublicKey::Rsa(pem) => pem.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect(),
    }
}

/// The keys that are known.
#[derive(Debug)]
pub(super) struct KeysState {
    limits: Limits,
    known: BTreeMap<MinionId, (KeyState, PublicKey)>,
    /// Keys that were turned away, one for each id, besides what is known of that id.
    denied: BTreeMap<MinionId, PublicKey>,
    /// Who is accepted with a key.
    holders: HashMap<Print, BTreeSet<MinionId>>,
    pending: usize,
    accepted: usize,
    rejected: usize,
}

impl KeysState {
    pub(super) fn new(limits: Limits) -> KeysState {
        KeysState {
            limits,
            known: BTreeMap::new(),
            denied: BTreeMap::new(),
            holders: HashMap::new(),
            pending: 0,
            accepted: 0,
            rejected: 0,
        }
    }

    /// Puts other limits in force.
    pub(super) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Tells whether nobody has decided on this id yet.
    pub(super) fn is_open(&self, id: &MinionId) -> bool {
        !matches!(self.known.get(id), Some((KeyState::Accepted | KeyState::Rejected, _)))
    }

    /// Judges the key that a peer has proven to hold.
    pub(super) fn judge(&self, id: &MinionId, key: &PublicKey, advice: Advice) -> Ruling {
        let accepts = advice == Advice::Accept || (self.limits.auto_accept && advice == Advice::Ask);
        let ruling = |state, reason, change| Ruling { state, reason, change };
        let change = |from, to| Some(KeyChange { id: id.clone(), key: key.clone(), from, to: Some(to) });
        let known = self.known.get(id).map(|(state, stored)| (*state, print(stored) == print(key)));
        let accept = |from| {
            if self.full(id) {
                return ruling(SessionState::Full, Some("the master takes no more minions"), None);
            }
            ruling(SessionState::Accepted, None, change(from, KeyState::Accepted))
        };
        match known {
            Some((KeyState::Rejected, _)) => ruling(SessionState::Rejected, Some(REJECTED), None),
            None | Some((KeyState::Pending, _)) if advice == Advice::Reject => self.reject(id, key),
            Some((_, false)) => self.deny(id, key, "another key is known for this id"),
            Some((KeyState::Accepted, true)) => ruling(SessionState::Accepted, None, None),
            _ if self.other_holder(id, &print(key)).is_some() => {
                self.deny(id, key, "this key is accepted under another id")
            }
            Some(_) if accepts => accept(Some(KeyState::Pending)),
            Some(_) => ruling(SessionState::Pending, None, None),
            None if self.full(id) => ruling(SessionState::Full, Some("the master takes no more minions"), None),
            None if accepts => accept(None),
            None if self.pending >= self.limits.max_pending => {
                ruling(SessionState::Full, Some("too many keys wait to be accepted"), None)
            }
            None => ruling(SessionState::Pending, None, change(None, KeyState::Pending)),
        }
    }

    /// Rejects what nobody has decided on. Ids cost a stranger nothing: beyond as many as may be pending, a new one is
    /// turned away without being kept.
    fn reject(&self, id: &MinionId, key: &PublicKey) -> Ruling {
        let to = Some(KeyState::Rejected);
        let change = match self.known.get(id) {
            Some((from, stored)) => Some(KeyChange { id: id.clone(), key: stored.clone(), from: Some(*from), to }),
            None if self.rejected >= self.limits.max_pending => None,
            None => Some(KeyChange { id: id.clone(), key: key.clone(), from: None, to }),
        };
        Ruling { state: SessionState::Rejected, reason: Some(REJECTED), change }
    }

    /// Turns a key away, and keeps it for the operator unless there are too many already.
    fn deny(&self, id: &MinionId, key: &PublicKey, reason: &'static str) -> Ruling {
        let same = self.denied.get(id).is_some_and(|stored| print(stored) == print(key));
        let room = self.denied.contains_key(id) || self.denied.len() < self.limits.max_pending;
        let change = (!same && room).then(|| KeyChange {
            id: id.clone(),
            key: key.clone(),
            from: None,
            to: Some(KeyState::Denied),
        });
        Ruling { state: SessionState::Denied, reason: Some(reason), change }
    }

    /// Says what changes when a native key takes the place of the RSA key that vouches for it; nothing if that key is not
    /// the accepted one of this id, or if the native key is accepted under another id.
    pub(super) fn upgrade(&self, id: &MinionId, rsa: &PublicKey, native: [u8; 32]) -> Option<KeyChange> {
        let (state, stored) = self.known.get(id)?;
        let key = PublicKey::X25519(native);
        let is_own = *state == KeyState::Accepted && print(stored) == print(rsa);
        let is_free = self.other_holder(id, &print(&key)).is_none();
        let accepted = Some(KeyState::Accepted);
        (is_own && is_free).then(|| KeyChange { id: id.clone(), key, from: accepted, to: accepted })
    }

    /// Says what becomes of the denied key of an id once that key is accepted.
    pub(super) fn undenied(&self, id: &MinionId) -> Option<KeyChange> {
        let (state, key) = self.known.get(id)?;
        let denied = self.denied.get(id).filter(|denied| print(denied) == print(key))?;
        let from = Some(KeyState::Denied);
        (*state == KeyState::Accepted).then(|| KeyChange { id: id.clone(), key: denied.clone(), from, to: None })
    }

    fn full(&self, id: &MinionId) -> bool {
        let accepted = matches!(self.known.get(id), Some((KeyState::Accepted, _)));
        self.limits.max_minions > 0 && self.accepted >= self.limits.max_minions && !accepted
    }

    fn other_holder(&self, id: &MinionId, print: &Print) -> Option<&MinionId> {
        self.holders.get(print)?.iter().find(|holder| *holder != id)
    }

    /// Says what an operator's act changes.
    pub(super) fn choose(&self, act: Act, selection: &KeySelection) -> Chosen {
        let globs: Vec<Glob> = selection.globs.iter().map(|glob| Glob::new(glob)).collect();
        let wanted = |id: &MinionId| globs.iter().any(|glob| glob.matches(id.as_str()));
        let mut chosen = Chosen::default();
        let mut taken = HashSet::new();
        for (id, (from, key)) in self.known.iter().filter(|(id, _)| wanted(id)) {
            if takes(act, selection, *from) {
                self.add(act, &mut chosen, &mut taken, (id, key, *from));
            }
        }
        for (id, key) in self.denied.iter().filter(|(id, _)| wanted(id)) {
            if takes(act, selection, KeyState::Denied) {
                self.add(act, &mut chosen, &mut taken, (id, key, KeyState::Denied));
            }
        }
        chosen
    }

    fn add(
        &self,
        act: Act,
        chosen: &mut Chosen,
        taken: &mut HashSet<Print>,
        (id, key, from): (&MinionId, &PublicKey, KeyState),
    ) {
        let to = match act {
            Act::Accept => Some(KeyState::Accepted),
            Act::Delete => None,
            Act::Reject => Some(KeyState::Rejected),
        };
        if act == Act::Accept {
            if let Some(other) = self.other_holder(id, &print(key)) {
                chosen.shared.push((id.clone(), other.clone()));
                return;
            }
            if !taken.insert(print(key)) {
                let first = chosen.changes.iter().find(|change| print(&change.key) == print(key));
                chosen.shared.extend(first.map(|first| (id.clone(), first.id.clone())));
                return;
            }
        }
        // A denied key takes the place of what was known of its id.
        let replaced = self.known.get(id).filter(|_| from == KeyState::Denied && to.is_some());
        if let Some((state, old)) = replaced {
            chosen.changes.retain(|change| change.id != *id);
            let (id, key) = (id.clone(), old.clone());
            chosen.changes.push(KeyChange { id, key, from: Some(*state), to: None });
        }
        chosen.changes.push(KeyChange { id: id.clone(), key: key.clone(), from: Some(from), to });
        list(&mut chosen.lists, from).push(id.clone());
    }

    /// Compares what lies on the disk under one name with what is known, and says what has changed.
    pub(super) fn observe(&self, id: &MinionId, files: &Files) -> Vec<KeyChange> {
        let known = self.known.get(id).map(|(state, key)| (*state, key));
        let denied = self.denied.get(id).map(|key| (KeyState::Denied, key));
        let mut changes = difference(id, known, files.known());
        changes.extend(difference(id, denied, files.denied.as_ref().map(|key| (KeyState::Denied, key))));
        changes
    }

    /// Takes note of a change that is on the disk.
    pub(super) fn apply(&mut self, change: &KeyChange) {
        let KeyChange { id, key, from, to } = change;
        match from {
            Some(KeyState::Denied) => drop(self.denied.remove(id)),
            Some(_) => self.forget(id),
            None => {}
        }
        match to {
            Some(KeyState::Denied) => drop(self.denied.insert(id.clone(), key.clone())),
            Some(state) => {
                self.forget(id);
                self.pending += usize::from(*state == KeyState::Pending);
                self.rejected += usize::from(*state == KeyState::Rejected);
                if *state == KeyState::Accepted {
                    self.accepted += 1;
                    self.holders.entry(print(key)).or_default().insert(id.clone());
                }
                self.known.insert(id.clone(), (*state, key.clone()));
            }
            None => {}
        }
    }

    fn forget(&mut self, id: &MinionId) {
        let Some((state, key)) = self.known.remove(id) else { return };
        self.pending -= usize::from(state == KeyState::Pending);
        self.rejected -= usize::from(state == KeyState::Rejected);
        if state == KeyState::Accepted {
            self.accepted -= 1;
            let print = print(&key);
            if let Some(holders) = self.holders.get_mut(&print) {
                holders.remove(id);
                if holders.is_empty() {
                    self.holders.remove(&print);
                }
            }
        }
    }

    /// Returns every id that the store has heard of.
    pub(super) fn ids(&self) -> BTreeSet<MinionId> {
        self.known.keys().chain(self.denied.keys()).cloned().collect()
    }

    pub(super) fn lists(&self) -> KeyLists {
        let mut lists = KeyLists { denied: self.denied.keys().cloned().collect(), ..KeyLists::default() };
        for (id, (state, _)) in &self.known {
            list(&mut lists, *state).push(id.clone());
        }
        let keys = self.known.iter().map(|(id, (_, key))| (id, key)).chain(&self.denied);
        let salt: BTreeSet<&MinionId> = keys.filter(|(_, key)| key.wire() == "salt").map(|(id, _)| id).collect();
        lists.salt = salt.into_iter().cloned().collect();
        lists
    }

    /// Returns the fingerprints of all keys whose ids match, whatever their state.
    pub(super) fn fingers(&self, selection: &KeySelection) -> KeyFingers {
        let keys = self.matching(selection, |key| key.fingerprint().as_str().to_owned());
        KeyFingers { local: Vec::new(), keys }
    }

    /// Returns all keys whose ids match, whatever their state, as PEM texts.
    pub(super) fn pems(&self, selection: &KeySelection) -> KeyPems {
        KeyPems { keys: self.matching(selection, PublicKey::to_pem) }
    }

    fn matching(
        &self,
        selection: &KeySelection,
        shown: impl Fn(&PublicKey) -> String,
    ) -> Vec<(&'static str, MinionId, String)> {
        let globs: Vec<Glob> = selection.globs.iter().map(|glob| Glob::new(glob)).collect();
        let wanted = |id: &MinionId| globs.iter().any(|glob| glob.matches(id.as_str()));
        let known = self.known.iter().map(|(id, (state, key))| (*state, id, key));
        let denied = self.denied.iter().map(|(id, key)| (KeyState::Denied, id, key));
        let mut found: Vec<_> = known.chain(denied).filter(|(_, id, _)| wanted(id)).collect();
        found.sort_by_key(|(state, id, _)| (*state, *id));
        found.into_iter().map(|(state, id, key)| (state.folder(), id.clone(), shown(key))).collect()
    }
}

fn takes(act: Act, selection: &KeySelection, from: KeyState) -> bool {
    match (act, from) {
        (Act::Delete, _) | (_, KeyState::Pending) => true,
        (Act::Accept, KeyState::Accepted) | (Act::Reject, KeyState::Rejected) => false,
        (_, KeyState::Accepted) => selection.include_accepted,
        (_, KeyState::Denied) => selection.include_denied,
        (_, KeyState::Rejected) => selection.include_rejected,
    }
}

fn list(lists: &mut KeyLists, state: KeyState) -> &mut Vec<MinionId> {
    match state {
        KeyState::Accepted => &mut lists.accepted,
        KeyState::Denied => &mut lists.denied,
        KeyState::Pending => &mut lists.pending,
        KeyState::Rejected => &mut lists.rejected,
    }
}

fn difference(
    id: &MinionId,
    old: Option<(KeyState, &PublicKey)>,
    new: Option<(KeyState, &PublicKey)>,
) -> Vec<KeyChange> {
    let change = |key: &PublicKey, from, to| KeyChange { id: id.clone(), key: key.clone(), from, to };
    match (old, new) {
        (Some((from, old)), Some((to, new))) if print(old) == print(new) => {
            if from == to {
                Vec::new()
            } else {
                vec![change(new, Some(from), Some(to))]
            }
        }
        (old, new) => {
            let gone = old.map(|(from, key)| change(key, Some(from), None));
            let come = new.map(|(to, key)| change(key, None, Some(to)));
            gone.into_iter().chain(come).collect()
        }
    }
}

#[cfg(test)]
mod tests;
