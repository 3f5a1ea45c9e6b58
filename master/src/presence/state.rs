//! What changed since the last look.

use std::collections::BTreeSet;

use proto::ids::MinionId;

/// Who was there at the last look.
#[derive(Debug, Default)]
pub(super) struct PresenceState {
    before: BTreeSet<MinionId>,
}

impl PresenceState {
    /// Returns who is new and who is lost, if anybody.
    pub(super) fn change(&mut self, present: &[MinionId]) -> Option<(Vec<MinionId>, Vec<MinionId>)> {
        let now: BTreeSet<MinionId> = present.iter().cloned().collect();
        let new: Vec<MinionId> = now.difference(&self.before).cloned().collect();
        let lost: Vec<MinionId> = self.before.difference(&now).cloned().collect();
        self.before = now;
        if new.is_empty() && lost.is_empty() { None } else { Some((new, lost)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let ids = |names: &[&str]| names.iter().map(|name| MinionId::parse(name).unwrap()).collect::<Vec<_>>();
        let mut state = PresenceState::default();
        assert_eq!(state.change(&ids(&["a"])), Some((ids(&["a"]), vec![])));
        assert_eq!(state.change(&ids(&["a"])), None);
        assert_eq!(state.change(&ids(&["b"])), Some((ids(&["b"]), ids(&["a"]))));
    }
}
