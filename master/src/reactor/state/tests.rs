//! What `reactor/state` promises, tested.

use proto::map;
use render::yaml::ReactorEntry;

use super::*;

const SECOND: i64 = 1_000_000;

fn rules(tags: &[&str]) -> Rules {
    let entry =
        |tag: &&str| ReactorEntry { tag: (*tag).to_owned(), paths: vec![format!("/{tag}.sls")], position: None };
    Rules::new(tags.iter().map(entry).collect())
}

fn seen(offset: u64, tag: &str, stamp_us: i64) -> Seen<'_> {
    Seen { offset, tag, stamp_us }
}

fn state() -> ReactorState {
    ReactorState::new(0, Vec::new())
}

fn check(globs: &[&str], tag: &str, expected: &[&str]) {
    let verdict = state().judge(&rules(globs), seen(1, tag, 0), &Map::new());
    let paths = expected.iter().map(|glob| format!("/{glob}.sls")).collect();
    assert_eq!(verdict, Verdict::React { paths, depth: 1, limited: Vec::new() }, "{tag}");
}

#[test]
fn all_matching_rules_apply_in_order() {
    check(&["salt/*", "other", "salt/beacon/*/sh/*"], "salt/beacon/m1/sh/1", &["salt/*", "salt/beacon/*/sh/*"]);
    check(&["*/[ab]?/fn"], "x/a1/fn", &["*/[ab]?/fn"]);
    check(&["*/[ab]?/fn"], "x/c1/fn", &[]);
    // The whole tag has to match.
    check(&["salt"], "salt/x", &[]);
}

#[test]
fn events_of_the_reactor_set_nothing_off() {
    let verdict = state().judge(&rules(&["*"]), seen(1, "salt/run/x/ret", 0), &map! { "user" => "Reactor" });
    assert_eq!(verdict, Verdict::Ignore);
}

#[test]
fn a_chain_of_reactions_is_cut() {
    let mut state = state();
    let rules = rules(&["*"]);
    let mut judge = |tag: &str, data: Map| state.judge(&rules, seen(1, tag, 0), &data);
    let Verdict::React { depth: 1, .. } = judge("salt/job/20261121002833351090/new", Map::new()) else { panic!() };
    state.note_cause("20261121002833351090".into(), 7);
    let mut judge = |tag: &str, data: Map| state.judge(&rules, seen(1, tag, 0), &data);
    for tag in ["salt/job/20261121002833351090/ret/m1", "salt/run/20261121002833351090/new", "20261121002833351090"] {
        assert!(matches!(judge(tag, Map::new()), Verdict::React { depth: 8, .. }), "{tag}");
    }
    state.note_cause("20261121002833351090".into(), MAX_DEPTH);
    state.note_cause("77.0".into(), MAX_DEPTH);
    let mut judge = |tag: &str, data: Map| state.judge(&rules, seen(1, tag, 0), &data);
    let cut = Verdict::Loop { cause: "20261121002833351090".into() };
    assert_eq!(judge("salt/job/20261121002833351090/new", Map::new()), cut);
    assert_eq!(judge("site/alert", map! { KEY => "77.0" }), Verdict::Loop { cause: "77.0".into() });
    assert!(matches!(judge("site/alert", map! { KEY => "78.0" }), Verdict::React { depth: 1, .. }));
}

#[test]
fn old_causes_are_forgotten() {
    let mut state = state();
    for n in 0..=MAX_CAUSES {
        state.note_cause(n.to_string(), 1);
    }
    assert_eq!(state.causes.len(), MAX_CAUSES);
    assert!(!state.causes.contains_key("0") && state.causes.contains_key("1"));
}

#[test]
fn a_rule_over_its_limit_is_named_once_a_minute() {
    let mut state = state();
    let rules = rules(&["busy/*", "busy/once"]);
    let mut judge = |tag: &str, at: i64| match state.judge(&rules, seen(1, tag, at), &Map::new()) {
        Verdict::React { paths, limited, .. } => (paths.len(), limited),
        other => panic!("{other:?}"),
    };
    for _ in 0..BURST {
        assert_eq!(judge("busy/x", 0), (1, vec![]));
    }
    let named = |dropped| vec![Limited { rule: "busy/*".into(), dropped }];
    assert_eq!(judge("busy/x", 0), (0, named(1)));
    assert_eq!(judge("busy/x", 0), (0, vec![]));
    // Another rule has a limit of its own.
    assert_eq!(judge("busy/once", 0), (1, vec![]));
    // A second brings a hundred.
    for _ in 0..RATE_PER_S {
        assert_eq!(judge("busy/x", SECOND).0, 1);
    }
    assert_eq!(judge("busy/x", SECOND), (0, vec![]));
    let later = LIMITED_EVERY_US;
    (0..BURST).for_each(|_| drop(judge("busy/x", later)));
    assert_eq!(judge("busy/x", later), (0, named(4)));
}

#[test]
fn events_that_are_too_old_after_an_outage_are_skipped_and_named() {
    let mut state = ReactorState::new(10, Vec::new());
    let rules = rules(&["*"]);
    state.note_outage(14, 100 * SECOND);
    let mut judge = |offset: u64, tag: &str, at: i64| {
        let seen = seen(offset, tag, at * SECOND);
        let skipped = state.judge(&rules, seen, &Map::new()) == Verdict::Skip;
        (skipped, state.end_of_outage(seen))
    };
    assert_eq!(judge(11, "a", 1), (true, None));
    assert_eq!(judge(12, "b", 2), (true, None));
    assert_eq!(judge(13, "a", 3), (true, None));
    let tags = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(judge(14, "c", 100), (false, Some(Skipped { count: 3, first: 11, last: 13, tags })));
    // Afterwards, age no longer matters: a clock that was set back must not stop the reactor.
    assert_eq!(judge(15, "a", 1), (false, None));
}

#[test]
fn nothing_is_too_old_without_an_outage() {
    let mut state = ReactorState::new(10, Vec::new());
    state.note_outage(10, 100 * SECOND);
    assert!(matches!(state.judge(&rules(&["*"]), seen(11, "a", 0), &Map::new()), Verdict::React { .. }));
}
