//! The order of a session, step by step, with a hand-cranked clock.

use proto::map;
use proto::message::ErrorCode;

use super::*;

const PACE: Pace = Pace { first: Duration::from_millis(500), max: Duration::from_secs(8) };

struct Bench {
    state: LinkState,
    now: Instant,
}

impl Bench {
    fn new(kind: Kind) -> Bench {
        let now = Instant::now();
        Bench { state: LinkState::new(kind, PACE, 7, now), now }
    }

    fn give(&mut self, input: LinkInput) -> Vec<LinkOutput> {
        self.state.handle(self.now, input)
    }

    fn push(&mut self, push: Push) -> Vec<LinkOutput> {
        self.give(LinkInput::Push(push))
    }

    /// Lets the time pass until something is due.
    fn wait(&mut self) -> Vec<LinkOutput> {
        self.now = self.state.next_tick().expect("something is due");
        self.give(LinkInput::Tick)
    }

    fn greeted(kind: Kind) -> Bench {
        let mut bench = Bench::new(kind);
        assert_eq!(bench.give(LinkInput::Tick), [LinkOutput::ConnectDealer]);
        assert_eq!(bench.give(LinkInput::DealerReady), []);
        bench
    }

    fn open() -> Bench {
        let mut bench = Bench::greeted(Kind::Daemon);
        assert_eq!(bench.push(welcome(SessionState::Accepted, 5)), [LinkOutput::SendSession { seq: 1 }]);
        assert_eq!(bench.push(ok(1, Value::Null)), [LinkOutput::ConnectSub]);
        bench
    }

    fn live() -> Bench {
        let mut bench = Bench::open();
        assert_eq!(bench.give(LinkInput::SubReady), []);
        let outputs = bench.push(Push::Subscribed { session: 5 });
        assert_eq!(outputs, [LinkOutput::SendJobsSince { seq: 2, serial: 0 }]);
        assert!(!bench.state.is_flowing());
        let outputs = bench.push(ok(2, map! { "serial" => 40, "jobs" => vec!["job"] }.into()));
        assert_eq!(outputs, [LinkOutput::Jobs(vec!["job".into()]), LinkOutput::Flow, LinkOutput::Live { session: 5 }]);
        assert!(bench.state.is_flowing());
        bench
    }
}

fn welcome(state: SessionState, session: u64) -> Push {
    Push::Welcome(welcome_of(state, session))
}

fn welcome_of(state: SessionState, session: u64) -> Welcome {
    Welcome { state, session, serial: 3, ping_s: 15, now_ms: None, reason: None }
}

fn ok(seq: u64, value: Value) -> Push {
    Push::Reply(Reply { seq, result: Ok(value) })
}

#[test]
fn a_session_opens_in_its_order() {
    Bench::live();
}

#[test]
fn a_call_needs_no_sub() {
    let mut bench = Bench::greeted(Kind::Call);
    bench.push(welcome(SessionState::Accepted, 5));
    assert_eq!(bench.push(ok(1, Value::Null)), [LinkOutput::Flow]);
    assert!(bench.state.is_flowing() && bench.state.next_tick().is_none());
}

#[test]
fn limbo_is_left_by_a_welcome_on_the_same_connection() {
    let mut bench = Bench::greeted(Kind::Daemon);
    for state in [SessionState::Pending, SessionState::Rejected, SessionState::Full, SessionState::Duplicate] {
        assert_eq!(bench.push(welcome(state, 0)), [LinkOutput::Limbo(welcome_of(state, 0))]);
        assert!(!bench.state.is_open());
    }
    assert_eq!(bench.push(welcome(SessionState::Accepted, 9)), [LinkOutput::SendSession { seq: 1 }]);
}

#[test]
fn a_minion_comes_back_from_limbo_within_thirty_seconds() {
    let mut bench = Bench::new(Kind::Daemon);
    for _ in 0..40 {
        assert_eq!(bench.wait(), [LinkOutput::ConnectDealer]);
        bench.give(LinkInput::DealerReady);
        bench.push(welcome(SessionState::Rejected, 0));
        assert_eq!(bench.give(LinkInput::DealerClosed), [LinkOutput::Close]);
        let wait = bench.state.next_tick().unwrap() - bench.now;
        assert!(wait >= Duration::from_millis(400) && wait <= Duration::from_secs(30), "{wait:?}");
    }
}

#[test]
fn an_unreachable_master_is_tried_for_ever() {
    let mut bench = Bench::new(Kind::Daemon);
    for _ in 0..40 {
        assert_eq!(bench.wait(), [LinkOutput::ConnectDealer]);
        assert_eq!(bench.give(LinkInput::DealerFailed(Failure::Unreachable)), []);
        assert!(bench.state.next_tick().unwrap() - bench.now <= PACE.max);
    }
}

#[test]
fn a_sub_that_is_told_of_again_asks_again_what_was_missed() {
    let mut bench = Bench::live();
    bench.state.saw(44);
    // The word before was about the SUB of an earlier connection: what was published since went into that.
    assert_eq!(bench.push(Push::Subscribed { session: 5 }), [LinkOutput::SendJobsSince { seq: 3, serial: 44 }]);
    assert_eq!(bench.push(Push::Subscribed { session: 5 }), [LinkOutput::SendJobsSince { seq: 4, serial: 44 }]);
    assert!(bench.state.is_flowing(), "what is spooled goes on");
    let outputs = bench.push(ok(4, map! { "serial" => 45, "jobs" => Value::List(vec![]) }.into()));
    assert_eq!(outputs, [LinkOutput::Jobs(vec![]), LinkOutput::Live { session: 5 }]);
}

#[test]
fn a_lost_sub_repeats_only_its_own_steps() {
    let mut bench = Bench::live();
    bench.state.saw(44);
    assert_eq!(bench.give(LinkInput::SubClosed), []);
    assert!(bench.state.is_flowing());
    assert_eq!(bench.wait(), [LinkOutput::ConnectSub]);
    bench.give(LinkInput::SubReady);
    assert_eq!(bench.push(Push::Subscribed { session: 5 }), [LinkOutput::SendJobsSince { seq: 3, serial: 44 }]);
    let outputs = bench.push(ok(3, map! { "serial" => 45, "jobs" => Value::List(vec![]) }.into()));
    assert_eq!(outputs, [LinkOutput::Jobs(vec![]), LinkOutput::Live { session: 5 }]);
}

#[test]
fn a_lost_dealer_closes_both_and_begins_anew() {
    let mut bench = Bench::live();
    assert_eq!(bench.give(LinkInput::DealerClosed), [LinkOutput::Close]);
    assert!(!bench.state.is_flowing());
    assert_eq!(bench.give(LinkInput::SubClosed), []);
    assert_eq!(bench.wait(), [LinkOutput::ConnectDealer]);
}

#[test]
fn a_step_that_takes_too_long_begins_anew() {
    let mut bench = Bench::greeted(Kind::Daemon);
    assert_eq!(bench.wait(), [LinkOutput::Close]);
    let mut bench = Bench::open();
    bench.give(LinkInput::SubReady);
    assert_eq!(bench.wait(), [LinkOutput::Close]);
}

#[test]
fn another_sessions_subscription_does_not_count() {
    let mut bench = Bench::open();
    bench.give(LinkInput::SubReady);
    assert_eq!(bench.push(Push::Subscribed { session: 4 }), []);
}

#[test]
fn a_revoked_key_ends_the_session_in_place() {
    let mut bench = Bench::live();
    let outputs = bench.push(welcome(SessionState::Rejected, 0));
    assert_eq!(outputs, [LinkOutput::CloseSub, LinkOutput::Limbo(welcome_of(SessionState::Rejected, 0))]);
    assert!(!bench.state.is_flowing());
}

#[test]
fn a_refused_session_is_tried_again_later() {
    let mut bench = Bench::greeted(Kind::Daemon);
    bench.push(welcome(SessionState::Accepted, 5));
    let reply = Reply { seq: 1, result: Err((ErrorCode::Busy, "later".into())) };
    assert_eq!(bench.push(Push::Reply(reply.clone())), [LinkOutput::Close, LinkOutput::Reply(reply)]);
}

#[test]
fn a_repeated_welcome_changes_nothing() {
    let mut bench = Bench::live();
    assert_eq!(bench.push(welcome(SessionState::Accepted, 5)), []);
    let outputs = bench.push(welcome(SessionState::Accepted, 6));
    assert_eq!(outputs, [LinkOutput::CloseSub, LinkOutput::SendSession { seq: 3 }]);
}

#[test]
fn a_pending_minion_that_something_vouches_for_sends_its_session_in_limbo() {
    let mut bench = Bench::new(Kind::Daemon);
    bench.state = bench.state.vouching(true);
    bench.give(LinkInput::Tick);
    bench.give(LinkInput::DealerReady);
    let outputs = bench.push(welcome(SessionState::Pending, 0));
    let limbo = LinkOutput::Limbo(welcome_of(SessionState::Pending, 0));
    assert_eq!(outputs, [limbo, LinkOutput::SendSession { seq: 1 }]);
    assert!(!bench.state.is_open());
    assert_eq!(bench.push(welcome(SessionState::Accepted, 5)), [LinkOutput::SendSession { seq: 2 }]);
}
