//! What `bus/state` promises, tested.

use bytes::Bytes;
use proptest::prelude::*;
use proto::tag::Tag;

use super::super::event::NewEvent;
use proto::message::Kind;

use super::*;

fn batch(count: usize, mark: Option<(&str, u8, u64)>) -> Batch {
    let event = NewEvent { tag: Tag::parse("a").unwrap(), data: Bytes::from_static(&[0x80]) };
    let mark =
        mark.map(|(id, spool, n)| Mark { id: MinionId::parse(id).unwrap(), spool: [spool; 16], n, kind: Kind::Daemon });
    Batch { events: vec![event; count], mark }
}

fn commit(state: &mut BusState, batches: &[Batch]) -> Vec<Committed> {
    let plan = state.plan(batches.iter().map(|batch| (batch, 10)));
    let committed = plan.verdicts.iter().map(|verdict| verdict.committed).collect();
    state.committed(plan);
    committed
}

fn committed(offset: u64, count: usize, duplicate: bool, gap: u64) -> Committed {
    Committed { offset, count, duplicate, gap }
}

#[test]
fn offsets_follow_each_other_without_a_hole() {
    let mut state = BusState::new(Tail { head: 41, ..Tail::default() });
    let got = commit(&mut state, &[batch(2, None), batch(0, None), batch(1, None)]);
    assert_eq!(got, [committed(42, 2, false, 0), committed(43, 0, false, 0), committed(44, 1, false, 0)]);
    assert_eq!(state.head(), 44);
}

#[test]
fn a_load_counts_once_even_within_one_transaction() {
    let mut state = BusState::new(Tail::default());
    let load = batch(1, Some(("web1", 1, 1)));
    let got = commit(&mut state, &[load.clone(), load.clone(), batch(1, Some(("web1", 1, 5)))]);
    assert_eq!(got, [committed(1, 1, false, 0), committed(1, 0, true, 0), committed(2, 1, false, 3)]);
    assert!(commit(&mut state, &[load])[0].duplicate);
    assert!(!commit(&mut state, &[batch(1, Some(("web2", 1, 1)))])[0].duplicate);
}

#[test]
fn a_failed_transaction_leaves_no_mark() {
    let mut state = BusState::new(Tail::default());
    let load = batch(1, Some(("web1", 1, 1)));
    let plan = state.plan([(&load, 10)].into_iter());
    assert_eq!((plan.head, plan.marks.len()), (1, 1));
    drop(plan);
    assert_eq!(commit(&mut state, &[load]), [committed(1, 1, false, 0)]);
}

#[test]
fn the_spool_used_longest_ago_is_forgotten() {
    let mut state = BusState::new(Tail::default());
    for spool in 0..8 {
        commit(&mut state, &[batch(1, Some(("web1", spool, 1)))]);
    }
    commit(&mut state, &[batch(1, Some(("web1", 0, 2)))]);
    let ninth = batch(1, Some(("web1", 8, 1)));
    let plan = state.plan([(&ninth, 10)].into_iter());
    assert_eq!(plan.forgotten, [(MinionId::parse("web1").unwrap(), [1; 16])]);
    assert_eq!(plan.marks.len(), 1);
    state.committed(plan);
    assert_eq!(state.marks.values().next().unwrap().len(), SPOOLS_PER_ID);
}

#[test]
fn stamps_stay_sorted_across_a_small_step_of_the_clock() {
    let mut state = BusState::new(Tail { stamp_us: 100_000_000, ..Tail::default() });
    let one = batch(1, None);
    let stamps = |state: &BusState, at: &[i64]| {
        let plan = state.plan(at.iter().map(|at| (&one, *at)));
        plan.verdicts.iter().map(|verdict| verdict.stamp_us).collect::<Vec<_>>()
    };
    assert_eq!(stamps(&state, &[99_000_000, 100_000_001]), [100_000_000, 100_000_001]);
    assert_eq!(stamps(&state, &[90_000_000]), [90_000_000]);
    commit(&mut state, std::slice::from_ref(&one));
    assert_eq!(state.stamp_us(), 10);
}

#[test]
fn retries_grow_apart_until_a_commit() {
    let mut state = BusState::new(Tail::default());
    assert_eq!(state.retry_in(Duration::ZERO), None);
    assert!(state.failed(Duration::ZERO, "full".into()));
    assert_eq!(state.retry_in(Duration::from_millis(50)), Some(Duration::from_millis(150)));
    assert!(!state.failed(Duration::from_secs(1), "full".into()));
    assert_eq!(state.retry_in(Duration::from_secs(1)), Some(Duration::from_millis(400)));
    state.reopened(Tail::default());
    assert_eq!((state.degraded(), state.retry_in(Duration::ZERO)), (None, None));
    assert!(state.failed(Duration::ZERO, "full".into()));
    assert_eq!(state.retry_in(Duration::ZERO), Some(Duration::from_millis(800)));
    state.reopened(Tail::default());
    commit(&mut state, &[batch(1, None)]);
    state.failed(Duration::ZERO, "full".into());
    assert_eq!(state.retry_in(Duration::ZERO), Some(RETRY_FIRST));
}

#[test]
fn what_the_log_says_after_reopening_counts_but_no_offset_comes_back() {
    let mut state = BusState::new(Tail { head: 10, ..Tail::default() });
    assert_eq!(state.reopened(Tail { head: 12, ..Tail::default() }), Reopened { head: 12, gained: 2, lost: 0 });
    assert_eq!(state.reopened(Tail { head: 11, ..Tail::default() }), Reopened { head: 12, gained: 0, lost: 1 });
    assert_eq!(commit(&mut state, &[batch(1, None)])[0].offset, 13);
}

proptest! {
    /// Whatever is sent again, in whatever groups, some of which fail: every load is in the log exactly once, in order.
    #[test]
    fn resent_loads_are_in_the_log_once(
        groups in proptest::collection::vec((proptest::collection::vec((0u8..3, 1u64..6), 1..6), any::<bool>()), 1..40)
    ) {
        let mut state = BusState::new(Tail::default());
        let mut log: Vec<(u8, u64)> = Vec::new();
        for (loads, works) in groups {
            let batches: Vec<Batch> = loads.iter().map(|(spool, n)| batch(1, Some(("web1", *spool, *n)))).collect();
            let plan = state.plan(batches.iter().map(|batch| (batch, 0)));
            if !works {
                state.failed(Duration::ZERO, "failed".into());
                continue;
            }
            for (load, verdict) in loads.iter().zip(&plan.verdicts) {
                if !verdict.committed.duplicate {
                    log.push(*load);
                    prop_assert_eq!(verdict.committed.offset, log.len() as u64);
                }
            }
            state.committed(plan);
        }
        for spool in 0..3 {
            let numbers: Vec<u64> = log.iter().filter(|load| load.0 == spool).map(|load| load.1).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", numbers);
        }
    }
}

#[test]
fn a_crowd_of_calls_does_not_make_the_daemons_spool_forgotten() {
    let mut state = BusState::new(Tail::default());
    let id = MinionId::parse("web1").unwrap();
    let batch = |spool: u8, n: u64, kind: Kind| Batch {
        events: Vec::new(),
        mark: Some(Mark { id: id.clone(), spool: [spool; 16], n, kind }),
    };
    let mut commit = |batch: &Batch| {
        let plan = state.plan([(batch, 0)].into_iter());
        let committed = plan.verdicts[0].committed;
        state.committed(plan);
        committed
    };
    commit(&batch(1, 1, Kind::Daemon));
    for call in 0..20 {
        commit(&batch(100 + call, 1, Kind::Call));
    }
    assert_eq!(commit(&batch(1, 2, Kind::Daemon)).gap, 0);
    assert!(commit(&batch(1, 2, Kind::Daemon)).duplicate);
}
