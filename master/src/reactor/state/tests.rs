//! What `reactor/state` promises, tested.

use proto::map;
use render::yaml::ReactorEntry;

use super::*;

const SECOND: i64 = 1_000_000;
const GUARDS: Guards = Guards { rate_per_s: 100, burst: 1_000, repeats_us: 0, failures: 3, off_us: 60 * SECOND };

fn rules(tags: &[&str]) -> Rules {
    let entry =
        |tag: &&str| ReactorEntry { tag: (*tag).to_owned(), paths: vec![format!("/{tag}.sls")], position: None };
    Rules::new(tags.iter().map(entry).collect())
}

fn seen(offset: u64, tag: &str, stamp_us: i64) -> Seen<'_> {
    Seen { offset, tag, stamp_us, print: Print::default() }
}

fn state() -> ReactorState {
    ReactorState::new(0, Vec::new(), GUARDS)
}

fn check(globs: &[&str], tag: &str, expected: &[&str]) {
    let verdict = state().judge(&rules(globs), seen(1, tag, 0), &Map::new());
    let step = |glob: &&str| Step { rule: (*glob).to_owned(), path: format!("/{glob}.sls") };
    let steps = expected.iter().map(step).collect();
    assert_eq!(verdict, Verdict::React { steps, depth: 1, limited: Vec::new() }, "{tag}");
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
        Verdict::React { steps, limited, .. } => (steps.len(), limited),
        other => panic!("{other:?}"),
    };
    for _ in 0..GUARDS.burst {
        assert_eq!(judge("busy/x", 0), (1, vec![]));
    }
    let named = |dropped| vec![Limited { rule: "busy/*".into(), held: Held::Rate, dropped }];
    assert_eq!(judge("busy/x", 0), (0, named(1)));
    assert_eq!(judge("busy/x", 0), (0, vec![]));
    // Another rule has a limit of its own.
    assert_eq!(judge("busy/once", 0), (1, vec![]));
    // A second brings a hundred.
    for _ in 0..GUARDS.rate_per_s {
        assert_eq!(judge("busy/x", SECOND).0, 1);
    }
    assert_eq!(judge("busy/x", SECOND), (0, vec![]));
    let later = 60 * SECOND;
    (0..GUARDS.burst).for_each(|_| drop(judge("busy/x", later)));
    assert_eq!(judge("busy/x", later), (0, named(4)));
}

#[test]
fn events_that_are_too_old_after_an_outage_are_skipped_and_named() {
    let mut state = ReactorState::new(10, Vec::new(), GUARDS);
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
    let mut state = ReactorState::new(10, Vec::new(), GUARDS);
    state.note_outage(10, 100 * SECOND);
    assert!(matches!(state.judge(&rules(&["*"]), seen(11, "a", 0), &Map::new()), Verdict::React { .. }));
}

/// Judges an event of the rule `*`: whether it reacts, and what is told.
fn fire(state: &mut ReactorState, print: u8, at_us: i64) -> (bool, Vec<Limited>) {
    let seen = Seen { print: [print; 32], ..seen(1, "a", at_us) };
    match state.judge(&rules(&["*"]), seen, &Map::new()) {
        Verdict::React { steps, limited, .. } => (!steps.is_empty(), limited),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_event_within_the_window_fires_once() {
    let mut state = ReactorState::new(0, Vec::new(), Guards { repeats_us: 10 * SECOND, ..GUARDS });
    let told = |dropped| vec![Limited { rule: "*".into(), held: Held::Repeat, dropped }];
    assert_eq!(fire(&mut state, 1, 0), (true, vec![]));
    assert_eq!(fire(&mut state, 1, SECOND), (false, told(1)));
    // Told once a window, and the rest then.
    assert_eq!(fire(&mut state, 1, 2 * SECOND), (false, vec![]));
    assert_eq!(fire(&mut state, 2, 3 * SECOND), (true, vec![]), "other data");
    // A repeat does not make the window longer.
    assert_eq!(fire(&mut state, 1, 10 * SECOND), (true, vec![]));
    assert_eq!(fire(&mut state, 1, 11 * SECOND), (false, told(2)));
    // A clock that was set back holds nothing up.
    assert_eq!(fire(&mut state, 1, 5 * SECOND), (true, vec![]));
    let counts = state.standing("*").counts;
    assert_eq!((counts.fired, counts.deduplicated), (4, 3));
}

#[test]
fn without_a_window_every_event_counts() {
    let mut state = state();
    assert!(fire(&mut state, 1, 0).0 && fire(&mut state, 1, 0).0);
}

#[test]
fn what_is_remembered_against_repeats_is_bounded() {
    let mut state = ReactorState::new(0, Vec::new(), Guards { repeats_us: i64::MAX, burst: 1_000_000, ..GUARDS });
    let mut judge = |n: usize| {
        let mut print = Print::default();
        print[..8].copy_from_slice(&n.to_be_bytes());
        let verdict = state.judge(&rules(&["*"]), Seen { print, ..seen(1, "a", 0) }, &Map::new());
        matches!(verdict, Verdict::React { steps, .. } if !steps.is_empty())
    };
    assert!((0..=guard::MAX_REMEMBERED).all(&mut judge));
    assert!(!judge(1) && judge(0), "the oldest was forgotten");
}

#[test]
fn a_rule_that_only_fails_is_switched_off_until_a_trial_goes_well() {
    let mut state = state();
    let fail = |state: &mut ReactorState, at: i64| {
        assert!(fire(state, 0, at).0);
        state.note_outcome("*", Outcome::Failed, at)
    };
    assert_eq!((fail(&mut state, 0), fail(&mut state, 0)), (None, None));
    assert_eq!(fail(&mut state, 0), Some(BreakerNews::Opened { failures: 3, until_us: 60 * SECOND }));
    assert_eq!(fire(&mut state, 0, SECOND), (false, vec![]));
    assert_eq!(state.standing("*").open_until_us, Some(60 * SECOND));
    // A trial that fails, and one that does not.
    assert_eq!(fail(&mut state, 60 * SECOND), Some(BreakerNews::Opened { failures: 4, until_us: 120 * SECOND }));
    assert!(!fire(&mut state, 0, 61 * SECOND).0);
    assert!(fire(&mut state, 0, 120 * SECOND).0);
    assert_eq!(state.note_outcome("*", Outcome::Good, 120 * SECOND), Some(BreakerNews::Closed { skipped: 2 }));
    let standing = state.standing("*");
    assert_eq!((standing.counts.failed, standing.counts.skipped, standing.open_until_us), (4, 2, None));
    // It takes as many again.
    assert_eq!(fail(&mut state, 121 * SECOND), None);
}

#[test]
fn a_success_in_between_keeps_a_rule_on_and_zero_failures_mean_never() {
    let mut state = state();
    for _ in 0..10 {
        for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Good] {
            assert!(fire(&mut state, 0, 0).0);
            assert_eq!(state.note_outcome("*", outcome, 0), None);
        }
    }
    let mut never = ReactorState::new(0, Vec::new(), Guards { failures: 0, ..GUARDS });
    for _ in 0..100 {
        assert!(fire(&mut never, 0, 0).0);
        assert_eq!(never.note_outcome("*", Outcome::Failed, 0), None);
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_keep_a_rule_off() {
    let mut state = state();
    for _ in 0..3 {
        fire(&mut state, 0, 1_000 * SECOND);
        state.note_outcome("*", Outcome::Failed, 1_000 * SECOND);
    }
    assert!(!fire(&mut state, 0, 1_001 * SECOND).0);
    assert!(fire(&mut state, 0, 0).0);
}
