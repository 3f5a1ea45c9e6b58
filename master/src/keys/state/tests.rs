//! What `keys/state` promises, tested.

use proptest::prelude::*;

use super::*;
use KeyState::{Accepted, Denied, Pending, Rejected};

const OPEN: Limits = Limits { auto_accept: false, max_pending: 3, max_minions: 0 };

fn id(text: &str) -> MinionId {
    MinionId::parse(text).unwrap()
}

fn key(n: u8) -> PublicKey {
    PublicKey::X25519([n; 32])
}

fn change(name: &str, n: u8, from: Option<KeyState>, to: Option<KeyState>) -> KeyChange {
    KeyChange { id: id(name), key: key(n), from, to }
}

/// Builds a state from keys in it: name, key, state.
fn with(limits: Limits, keys: &[(&str, u8, KeyState)]) -> KeysState {
    let mut state = KeysState::new(limits);
    for (name, n, to) in keys {
        state.apply(&change(name, *n, None, Some(*to)));
    }
    state
}

/// A new peer `web1` with key 1 meets a store with these keys.
fn check(limits: Limits, keys: &[(&str, u8, KeyState)], expected: SessionState, stored: Option<KeyChange>) {
    let ruling = with(limits, keys).judge(&id("web1"), &key(1), Advice::Ask);
    assert_eq!((ruling.state, ruling.change), (expected, stored), "{keys:?} {limits:?}");
}

#[test]
fn keys_are_judged_by_the_table() {
    use SessionState as S;
    let auto = Limits { auto_accept: true, ..OPEN };
    let denied = || Some(change("web1", 1, None, Some(Denied)));
    // The numbers are the rows of salt-wire.md §2.2.
    check(OPEN, &[("web1", 1, Rejected)], S::Rejected, None); // 4
    check(OPEN, &[("web1", 2, Rejected)], S::Rejected, None); // 4
    check(OPEN, &[("web1", 2, Accepted)], S::Denied, denied()); // 5
    check(OPEN, &[("web1", 2, Accepted), ("web1", 1, Denied)], S::Denied, None); // 5, seen before
    check(OPEN, &[("web1", 1, Accepted)], S::Accepted, None); // 6
    check(OPEN, &[], S::Pending, Some(change("web1", 1, None, Some(Pending)))); // 8
    check(auto, &[], S::Accepted, Some(change("web1", 1, None, Some(Accepted)))); // 9
    check(OPEN, &[("web1", 2, Pending)], S::Denied, denied()); // 11
    check(auto, &[("web1", 2, Pending)], S::Denied, denied()); // 11
    check(OPEN, &[("web1", 1, Pending)], S::Pending, None); // 12
    check(auto, &[("web1", 1, Pending)], S::Accepted, Some(change("web1", 1, Some(Pending), Some(Accepted)))); // 13
    // A denied key alone says nothing of its id.
    check(OPEN, &[("web1", 1, Denied)], S::Pending, Some(change("web1", 1, None, Some(Pending))));
    // Design §2: the same key under another id.
    check(OPEN, &[("web2", 1, Accepted)], S::Denied, denied());
    check(auto, &[("web2", 1, Accepted), ("web1", 1, Pending)], S::Denied, denied());
    check(OPEN, &[("web2", 1, Pending)], S::Pending, Some(change("web1", 1, None, Some(Pending))));
    check(OPEN, &[("web2", 1, Accepted), ("web1", 1, Accepted)], S::Accepted, None);
}

#[test]
fn limits_hold_for_newcomers_only() {
    use SessionState as S;
    let three = [("a", 7, Pending), ("b", 8, Pending), ("c", 9, Pending)];
    check(OPEN, &three, S::Full, None);
    let one = Limits { max_minions: 1, ..OPEN };
    let auto = Limits { auto_accept: true, ..one };
    check(one, &[("a", 7, Accepted)], S::Full, None);
    check(one, &[("web1", 1, Accepted)], S::Accepted, None);
    check(auto, &[("a", 7, Accepted), ("web1", 1, Pending)], S::Full, None);
    // Refused keys are not kept without end either.
    let denied = [("web1", 2, Accepted), ("a", 7, Denied), ("b", 8, Denied), ("c", 9, Denied)];
    check(OPEN, &denied, S::Denied, None);
}

#[test]
fn pem_texts_are_compared_without_their_line_ends() {
    let pem = |text: &str| PublicKey::Rsa(text.to_owned());
    let mut state = KeysState::new(OPEN);
    state.apply(&KeyChange { id: id("web1"), key: pem("-----A\nB\nC\n"), from: None, to: Some(Accepted) });
    assert_eq!(state.judge(&id("web1"), &pem("-----A\r\nB\r\nC"), Advice::Ask).state, SessionState::Accepted);
    assert_eq!(state.judge(&id("web1"), &pem("-----A\nB\nD"), Advice::Ask).state, SessionState::Denied);
}

fn selection(globs: &[&str]) -> KeySelection {
    KeySelection {
        globs: globs.iter().map(|glob| (*glob).to_owned()).collect(),
        include_rejected: false,
        include_denied: false,
        include_accepted: false,
        dry_run: false,
    }
}

#[test]
fn an_act_takes_pending_keys_and_what_is_included() {
    let state = with(
        OPEN,
        &[("a1", 1, Accepted), ("p1", 2, Pending), ("r1", 3, Rejected), ("d1", 4, Denied), ("x", 5, Pending)],
    );
    let changes = |act, selection: &KeySelection| state.choose(act, selection).changes;
    let all =
        KeySelection { include_accepted: true, include_denied: true, include_rejected: true, ..selection(&["?1"]) };
    let to = |to| [change("p1", 2, Some(Pending), to)];
    assert_eq!(changes(Act::Accept, &selection(&["?1"])), to(Some(Accepted)));
    assert_eq!(changes(Act::Reject, &selection(&["?1"])), to(Some(Rejected)));
    assert_eq!(changes(Act::Accept, &selection(&[])), []);
    let mut expected = to(Some(Accepted)).to_vec();
    expected.push(change("r1", 3, Some(Rejected), Some(Accepted)));
    expected.push(change("d1", 4, Some(Denied), Some(Accepted)));
    assert_eq!(changes(Act::Accept, &all), expected);
    assert_eq!(changes(Act::Reject, &all).len(), 3);
    let lists = state.choose(Act::Delete, &selection(&["?1"])).lists;
    let one = |name: &str| vec![id(name)];
    let expected = KeyLists {
        accepted: one("a1"),
        denied: one("d1"),
        pending: one("p1"),
        rejected: one("r1"),
        ..KeyLists::default()
    };
    assert_eq!(lists, expected);
}

#[test]
fn a_key_is_accepted_under_one_id_only() {
    let state = with(OPEN, &[("a", 1, Accepted), ("b", 1, Pending), ("c", 2, Pending), ("d", 2, Pending)]);
    let chosen = state.choose(Act::Accept, &selection(&["*"]));
    assert_eq!(chosen.changes, [change("c", 2, Some(Pending), Some(Accepted))]);
    assert_eq!(chosen.shared, [(id("b"), id("a")), (id("d"), id("c"))]);
}

#[test]
fn an_accepted_denied_key_replaces_the_one_before() {
    let mut state = with(OPEN, &[("a", 1, Accepted), ("a", 2, Denied)]);
    let chosen = state.choose(Act::Accept, &KeySelection { include_denied: true, ..selection(&["a"]) });
    assert_eq!(chosen.changes, [change("a", 1, Some(Accepted), None), change("a", 2, Some(Denied), Some(Accepted))]);
    chosen.changes.iter().for_each(|change| state.apply(change));
    assert_eq!(state.judge(&id("a"), &key(2), Advice::Ask).state, SessionState::Accepted);
    assert_eq!(state.judge(&id("a"), &key(1), Advice::Ask).state, SessionState::Denied);
}

#[test]
fn of_several_files_the_one_with_fewest_rights_counts() {
    let state = with(OPEN, &[("a", 1, Accepted)]);
    let mut files = Files { accepted: Some(key(1)), ..Files::default() };
    assert_eq!(state.observe(&id("a"), &files), []);
    files.pending = Some(key(1));
    assert_eq!(state.observe(&id("a"), &files), [change("a", 1, Some(Accepted), Some(Pending))]);
    files.rejected = Some(key(2));
    assert_eq!(
        state.observe(&id("a"), &files),
        [change("a", 1, Some(Accepted), None), change("a", 2, None, Some(Rejected))]
    );
    files = Files { denied: Some(key(3)), ..Files::default() };
    assert_eq!(
        state.observe(&id("a"), &files),
        [change("a", 1, Some(Accepted), None), change("a", 3, None, Some(Denied))]
    );
}

proptest! {
    /// Whatever shows up and whatever an operator does: one key never gets in under two ids, the limits hold, and the
    /// counts are right.
    #[test]
    fn the_rules_hold_in_any_history(steps in proptest::collection::vec((0u8..6, 0u8..5, 0u8..5), 1..60), auto in any::<bool>()) {
        let limits = Limits { auto_accept: auto, ..OPEN };
        let mut state = KeysState::new(limits);
        for (step, name, n) in steps {
            let name = format!("m{name}");
            let all = KeySelection { include_accepted: true, include_denied: true, include_rejected: true, ..selection(&[&name]) };
            let changes = match step {
                0 => state.choose(Act::Accept, &all).changes,
                1 => state.choose(Act::Reject, &selection(&["*"])).changes,
                2 => state.choose(Act::Delete, &all).changes,
                _ => state.judge(&id(&name), &key(n), Advice::Ask).change.into_iter().collect(),
            };
            changes.iter().for_each(|change| state.apply(change));
            let lists = state.lists();
            prop_assert_eq!((state.pending, state.accepted), (lists.pending.len(), lists.accepted.len()));
            prop_assert!(lists.pending.len() <= limits.max_pending && lists.denied.len() <= limits.max_pending);
            let holders: usize = state.holders.values().map(BTreeSet::len).sum();
            prop_assert_eq!(holders, lists.accepted.len());
            prop_assert!(state.holders.values().all(|ids| ids.len() == 1));
        }
    }
}

#[test]
fn lists_decide_on_what_nobody_has_decided_on() {
    use SessionState as S;
    let advised = |keys: &[(&str, u8, KeyState)], limits: Limits, advice: Advice| {
        let ruling = with(limits, keys).judge(&id("web1"), &key(1), advice);
        (ruling.state, ruling.change)
    };
    let from = |from, to| Some(change("web1", 1, from, Some(to)));
    let auto = Limits { auto_accept: true, ..OPEN };
    assert_eq!(advised(&[], OPEN, Advice::Accept), (S::Accepted, from(None, Accepted)));
    assert_eq!(advised(&[("web1", 1, Pending)], OPEN, Advice::Accept), (S::Accepted, from(Some(Pending), Accepted)));
    assert_eq!(advised(&[], auto, Advice::Hold), (S::Pending, from(None, Pending)));
    assert_eq!(advised(&[], auto, Advice::Reject), (S::Rejected, from(None, Rejected)));
    assert_eq!(advised(&[("web1", 1, Pending)], OPEN, Advice::Reject), (S::Rejected, from(Some(Pending), Rejected)));
    // The stored key is the one that moves.
    let moved = change("web1", 2, Some(Pending), Some(Rejected));
    assert_eq!(advised(&[("web1", 2, Pending)], OPEN, Advice::Reject), (S::Rejected, Some(moved)));
    // What a person has decided stays.
    assert_eq!(advised(&[("web1", 1, Accepted)], OPEN, Advice::Reject), (S::Accepted, None));
    assert_eq!(advised(&[("web1", 1, Rejected)], OPEN, Advice::Accept), (S::Rejected, None));
    // No list makes a thief out of a stranger.
    assert_eq!(advised(&[("web1", 2, Pending)], OPEN, Advice::Accept).0, S::Denied);
    assert_eq!(advised(&[("web2", 1, Accepted)], OPEN, Advice::Accept).0, S::Denied);
    let full = Limits { max_minions: 1, ..OPEN };
    assert_eq!(advised(&[("web2", 2, Accepted)], full, Advice::Accept), (S::Full, None));
}

#[test]
fn what_is_rejected_by_a_list_is_bounded() {
    let keys: Vec<(String, u8)> =
        (2..2 + u8::try_from(OPEN.max_pending).unwrap()).map(|n| (format!("m{n}"), n)).collect();
    let keys: Vec<(&str, u8, KeyState)> = keys.iter().map(|(name, n)| (name.as_str(), *n, Rejected)).collect();
    let ruling = with(OPEN, &keys).judge(&id("web1"), &key(1), Advice::Reject);
    assert_eq!((ruling.state, ruling.change), (SessionState::Rejected, None));
}
