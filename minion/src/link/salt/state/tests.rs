//! The rules of a session with a Salt master, without one.

use super::*;

const PATIENCE: Patience = Patience {
    acceptance: Duration::from_secs(10),
    acceptance_max: Duration::from_secs(40),
    auth: Duration::from_secs(5),
    request: Duration::from_secs(60),
    tries: 2,
};

/// A state with a hand-cranked clock.
struct Scene {
    state: SaltState,
    now: Instant,
}

impl Scene {
    fn new(kind: Kind) -> Scene {
        let now = Instant::now();
        Scene { state: SaltState::new(kind, Pace::default(), PATIENCE, 7, now), now }
    }

    #[track_caller]
    fn gives(&mut self, input: SaltInput, expected: &[SaltOutput]) {
        assert_eq!(self.state.handle(self.now, input), expected, "{input:?}");
    }

    /// Waits until something is due; returns how long that was.
    fn wait(&mut self) -> Duration {
        let due = self.state.next_tick().expect("something is due");
        let waited = due.saturating_duration_since(self.now);
        self.now = due;
        waited
    }

    /// Connects and is accepted.
    fn accept(&mut self) {
        self.gives(SaltInput::Tick, &[SaltOutput::ConnectReq]);
        self.gives(SaltInput::ReqReady, &[SaltOutput::Authenticate]);
        self.gives(SaltInput::AuthSent, &[]);
    }

    /// A daemon that publications come in to.
    fn live() -> Scene {
        let mut scene = Scene::new(Kind::Daemon);
        scene.accept();
        scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen, SaltOutput::ConnectSub]);
        assert!(!scene.state.is_flowing(), "nothing is sent before publications can come in");
        scene.gives(SaltInput::SubReady, &[SaltOutput::Live]);
        assert!(scene.state.is_free() && scene.state.is_flowing() && scene.state.is_up());
        // Long after the last authentication.
        scene.now += Duration::from_secs(100);
        scene
    }
}

#[test]
fn a_daemon_authenticates_then_listens_then_sends() {
    Scene::live();
}

#[test]
fn a_call_sends_as_soon_as_it_is_accepted_and_never_listens() {
    let mut scene = Scene::new(Kind::Call);
    scene.accept();
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen]);
    assert!(scene.state.is_free() && scene.state.is_up());
}

#[test]
fn a_pending_key_waits_longer_each_time_up_to_the_limit_and_never_gives_up() {
    let mut scene = Scene::new(Kind::Daemon);
    scene.accept();
    for seconds in [10, 20, 40, 40, 40] {
        scene.gives(SaltInput::Judged(Judged::Standing(Standing::Pending)), &[]);
        assert_eq!(scene.wait(), Duration::from_secs(seconds));
        scene.gives(SaltInput::Tick, &[SaltOutput::Authenticate]);
        scene.gives(SaltInput::AuthSent, &[]);
    }
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen, SaltOutput::ConnectSub]);
}

#[test]
fn a_rejected_key_and_a_full_master_are_asked_again_not_all_at_once() {
    for standing in [Standing::Rejected, Standing::Full] {
        let mut scene = Scene::new(Kind::Daemon);
        scene.accept();
        scene.gives(SaltInput::Judged(Judged::Standing(standing)), &[]);
        let waited = scene.wait();
        assert!((Duration::from_secs(10)..=Duration::from_secs(15)).contains(&waited), "{waited:?}");
        scene.gives(SaltInput::Tick, &[SaltOutput::Authenticate]);
    }
}

#[test]
fn an_answer_that_is_not_believed_makes_the_next_attempt_wait() {
    let mut scene = Scene::new(Kind::Daemon);
    scene.accept();
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        scene.gives(SaltInput::Judged(Judged::Distrusted), &[]);
        let waited = scene.wait();
        assert!(waited > last && waited <= PATIENT.max, "{waited:?} after {last:?}");
        last = waited;
        scene.gives(SaltInput::Tick, &[SaltOutput::Authenticate]);
        scene.gives(SaltInput::AuthSent, &[]);
    }
}

#[test]
fn an_auth_without_an_answer_closes_the_connection_and_comes_back() {
    let mut scene = Scene::new(Kind::Daemon);
    scene.accept();
    assert_eq!(scene.wait(), PATIENCE.auth);
    scene.gives(SaltInput::Tick, &[SaltOutput::CloseReq]);
    scene.wait();
    scene.accept();
}

#[test]
fn one_request_is_under_way_at_a_time() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Spooled);
    assert!(!scene.state.is_free() && scene.state.is_flowing());
    scene.gives(SaltInput::Replied(Reply::Opened), &[]);
    assert!(scene.state.is_free());
}

#[test]
fn a_reply_that_does_not_open_renews_the_keys_and_asks_once_more() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Asked);
    scene.gives(SaltInput::Replied(Reply::Unopened), &[SaltOutput::Authenticate]);
    assert!(!scene.state.is_free());
    scene.gives(SaltInput::AuthSent, &[]);
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen, SaltOutput::SendAgain]);
    // A second time it is an answer, and whoever asked hears of it.
    scene.now += REAUTH_GAP;
    scene.gives(SaltInput::Replied(Reply::Unopened), &[SaltOutput::Return]);
    assert!(!scene.state.is_free(), "the keys are renewed all the same");
}

#[test]
fn a_spooled_load_that_does_not_open_goes_back_to_the_spool() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Spooled);
    scene.gives(SaltInput::Replied(Reply::Unopened), &[SaltOutput::Return, SaltOutput::Authenticate]);
    assert!(!scene.state.is_flowing(), "it is read again from the first that has no answer");
}

#[test]
fn a_late_reply_closes_the_connection_and_the_request_is_sent_again_so_often() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Asked);
    assert_eq!(scene.wait(), PATIENCE.request);
    scene.gives(SaltInput::Tick, &[SaltOutput::CloseReq]);
    scene.wait();
    scene.accept();
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen, SaltOutput::SendAgain]);
    scene.wait();
    scene.gives(SaltInput::Tick, &[SaltOutput::CloseReq, SaltOutput::Return]);
}

#[test]
fn a_publication_that_does_not_open_renews_the_keys_once_the_reply_under_way_is_there() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Spooled);
    scene.gives(SaltInput::Unheard, &[]);
    scene.gives(SaltInput::Unheard, &[]);
    scene.gives(SaltInput::Replied(Reply::Opened), &[SaltOutput::Authenticate]);
    scene.gives(SaltInput::Unheard, &[]);
    scene.gives(SaltInput::AuthSent, &[]);
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen]);
    scene.gives(SaltInput::Heard, &[]);
}

#[test]
fn who_publishes_rubbish_cannot_make_the_minion_authenticate_all_the_time() {
    let mut scene = Scene::live();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let outputs = scene.state.handle(scene.now, SaltInput::Unheard);
        if outputs.is_empty() {
            waits.push(scene.wait());
            scene.gives(SaltInput::Tick, &[SaltOutput::Authenticate]);
        } else {
            waits.push(Duration::ZERO);
        }
        scene.gives(SaltInput::AuthSent, &[]);
        scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen]);
    }
    assert!(waits[1] >= REAUTH_GAP, "{waits:?}");
    assert!(waits[7] >= Duration::from_secs(15), "{waits:?}");
    scene.gives(SaltInput::Heard, &[]);
    assert_eq!(scene.state.barren, 0, "one that opens makes the next renewal quick again");
}

#[test]
fn a_lost_connection_for_publications_comes_back_with_new_keys_and_a_new_pillar() {
    let mut scene = Scene::live();
    scene.gives(SaltInput::SubLost, &[SaltOutput::Authenticate]);
    scene.gives(SaltInput::AuthSent, &[]);
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen]);
    scene.wait();
    scene.gives(SaltInput::Tick, &[SaltOutput::ConnectSub]);
    scene.gives(SaltInput::SubReady, &[SaltOutput::Live]);
}

#[test]
fn a_lost_request_connection_leaves_the_other_one_alone() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Spooled);
    scene.gives(SaltInput::ReqLost, &[SaltOutput::Return]);
    assert!(!scene.state.is_flowing() && !scene.state.is_up());
    scene.wait();
    scene.accept();
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen]);
    assert!(scene.state.is_free() && scene.state.is_up());
}

#[test]
fn a_key_that_was_deleted_and_accepted_again_asks_for_its_pillar_anew() {
    let mut scene = Scene::live();
    scene.state.sent(scene.now, Kept::Asked);
    scene.gives(SaltInput::Replied(Reply::Unopened), &[SaltOutput::Authenticate]);
    scene.gives(SaltInput::AuthSent, &[]);
    scene.gives(SaltInput::Judged(Judged::Standing(Standing::Pending)), &[SaltOutput::Return]);
    assert!(!scene.state.is_flowing());
    scene.wait();
    scene.gives(SaltInput::Tick, &[SaltOutput::Authenticate]);
    scene.gives(SaltInput::AuthSent, &[]);
    scene.gives(SaltInput::Judged(Judged::Accepted), &[SaltOutput::Listen, SaltOutput::Live]);
}

#[test]
fn a_master_that_cannot_be_reached_is_tried_with_growing_delays() {
    let mut scene = Scene::new(Kind::Daemon);
    let mut last = Duration::ZERO;
    for _ in 0..6 {
        scene.gives(SaltInput::Tick, &[SaltOutput::ConnectReq]);
        scene.gives(SaltInput::ReqLost, &[]);
        let waited = scene.wait();
        assert!(waited >= last / 2 && waited <= Pace::default().max, "{waited:?} after {last:?}");
        last = waited;
    }
    assert!(last >= Duration::from_secs(4), "{last:?}");
}
