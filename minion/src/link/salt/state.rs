//! The rules of a session with a Salt master: when to connect, to authenticate, to ask again, to come back. Pure.
//!
//! ```text
//!  REQ:  Waiting ──tick──► Connecting ──ready──► Up ──lost, or an answer is late──► Waiting
//!  auth: Needed ──REQ is up and free──► Preparing ──sent──► Asking ──accepted──► Done
//!          ▲                                │                 └── pending, rejected, full, not believed: wait ──┐
//!          ├────────────────────────────────┴──────────────────────────────────────────────────────────────────┘
//!          └── a reply or a publication that does not open, a bare answer, a lost connection
//!  SUB:  Off ──accepted──► Connecting ──ready──► Up ──lost──► Waiting ──tick──► Connecting
//! ```
//! One request is under way at a time, as on a REQ socket. One authentication is under way at a time, and one that changes
//! nothing makes the next one wait longer.

use std::time::{Duration, Instant};

use proto::message::Kind;
use proto::salt::auth::Standing;

use super::super::pace::Pace;

/// How fast to come back where waiting is what helps: an answer that is not believed, a rejected key.
const PATIENT: Pace = Pace { first: Duration::from_secs(1), max: Duration::from_secs(30) };
/// The least time between two authentications that succeeded: what a peer that sends rubbish can cost.
const REAUTH_GAP: Duration = Duration::from_secs(1);

/// How long to wait for what, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// `acceptance_wait_time`: how long a pending key waits before it is asked for again.
    pub acceptance: Duration,
    /// `acceptance_wait_time_max`: how long that may become by doubling; zero: it does not double.
    pub acceptance_max: Duration,
    /// `auth_timeout`: how long the master may take to answer `_auth`.
    pub auth: Duration,
    /// `request_channel_timeout`: how long it may take to answer anything else.
    pub request: Duration,
    /// `request_channel_tries`: how often a request is sent before whoever asked hears that there is no answer.
    pub tries: u32,
}

/// What became of an `_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// The key is accepted, and the master has proven itself.
    Accepted,
    /// The key stands like this.
    Standing(Standing),
    /// The answer is not believed, or the key files cannot be used.
    Distrusted,
    /// The master could not be asked, or gave an answer without content.
    Failed,
}

/// What a reply is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// It opened.
    Opened,
    /// It did not open, or was a bare answer: the keys are not the master's any more.
    Unopened,
}

/// What is to become of the request under way when the connection goes: a request is kept, a spooled load is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Whoever asked waits for the answer.
    Asked,
    /// It is in the spool.
    Spooled,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SaltInput {
    /// `_auth` was answered, or not.
    Judged(Judged),
    /// `_auth` is on its way.
    AuthSent,
    /// A publication opened.
    Heard,
    /// The reply to the request under way came.
    Replied(Reply),
    /// The REQ is gone, or did not come about.
    ReqLost,
    /// The REQ is ready.
    ReqReady,
    /// The SUB is gone, or did not come about.
    SubLost,
    /// The SUB is ready and has subscribed.
    SubReady,
    /// Time has passed.
    Tick,
    /// A publication did not open with the shared key.
    Unheard,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SaltOutput {
    /// Make an `_auth` and send it.
    Authenticate,
    /// Close the REQ.
    CloseReq,
    /// Connect the REQ.
    ConnectReq,
    /// Connect the SUB.
    ConnectSub,
    /// Publications that did not open may open now.
    Listen,
    /// Publications come in, for the first time on this connection: the pillar is to be asked for.
    Live,
    /// The request under way is given up: it stays in the spool, or nobody answered it often enough.
    Return,
    /// Send the request under way once more, under the keys as they are now.
    SendAgain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Req {
    Waiting { until: Instant },
    Connecting,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Needed { from: Instant },
    Preparing,
    Asking { until: Instant },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sub {
    Off,
    Waiting { until: Instant },
    Connecting,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    kept: Kept,
    tries: u32,
    /// Until when the answer may come; none while it waits to be sent again.
    until: Option<Instant>,
    /// Whether keys were renewed for it: a second reply that does not open is an answer.
    cured: bool,
}

/// One session after the other, with one Salt master.
#[derive(Debug)]
pub(super) struct SaltState {
    kind: Kind,
    pace: Pace,
    patience: Patience,
    /// Makes the jitter differ from other minions'.
    seed: u64,
    /// Connections that failed since one was last of use.
    attempt: u32,
    /// Answers to `_auth` in a row that were no acceptance.
    waits: u32,
    /// Authentications in a row after which nothing opened.
    barren: u32,
    req: Req,
    auth: Auth,
    sub: Sub,
    flight: Option<Flight>,
    /// When the master last accepted the key.
    accepted: Option<Instant>,
    /// Whether publications came in at some time: spooled loads may be sent.
    was_live: bool,
    /// Whether `Live` was said since the key was last not accepted or a connection was lost.
    is_live: bool,
}

impl SaltState {
    /// Begins at `start`; the first tick from then on connects.
    pub(super) fn new(kind: Kind, pace: Pace, patience: Patience, seed: u64, start: Instant) -> SaltState {
        SaltState {
            kind,
            pace,
            patience,
            seed,
            attempt: 0,
            waits: 0,
            barren: 0,
            req: Req::Waiting { until: start },
            auth: Auth::Needed { from: start },
            sub: Sub::Off,
            flight: None,
            accepted: None,
            was_live: false,
            is_live: false,
        }
    }

    /// Tells whether a request may be sent now.
    pub(super) fn is_free(&self) -> bool {
        self.auth == Auth::Done && self.req == Req::Up && self.flight.is_none() && self.is_open()
    }

    /// Tells whether loads of the spool are sent, or one of them is under way.
    pub(super) fn is_flowing(&self) -> bool {
        self.req == Req::Up && self.is_open() && (self.auth == Auth::Done || self.flight.is_some())
    }

    /// Tells whether the master accepts this minion, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.auth == Auth::Done && self.req == Req::Up && (self.kind == Kind::Call || self.sub == Sub::Up)
    }

    /// Tells whether an `_auth` is wanted that was not sent yet.
    pub(super) fn is_preparing(&self) -> bool {
        self.auth == Auth::Preparing
    }

    /// Notes that a request was sent.
    pub(super) fn sent(&mut self, now: Instant, kept: Kept) {
        let until = Some(now + self.patience.request);
        self.flight = Some(Flight { kept, tries: 1, until, cured: false });
    }

    /// Returns when a tick is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let req = match self.req {
            Req::Waiting { until } => Some(until),
            Req::Connecting | Req::Up => None,
        };
        let auth = match self.auth {
            Auth::Needed { from } => (self.req == Req::Up && !self.is_asking()).then_some(from),
            Auth::Asking { until } => Some(until),
            Auth::Preparing | Auth::Done => None,
        };
        let sub = match self.sub {
            Sub::Waiting { until } => Some(until),
            Sub::Off | Sub::Connecting | Sub::Up => None,
        };
        let flight = self.flight.and_then(|flight| flight.until);
        [req, auth, sub, flight].into_iter().flatten().min()
    }

    /// Takes one input and returns what is to be done, in order.
    pub(super) fn handle(&mut self, now: Instant, input: SaltInput) -> Vec<SaltOutput> {
        let mut out = Vec::new();
        match input {
            SaltInput::AuthSent => self.auth = Auth::Asking { until: now + self.patience.auth },
            SaltInput::Heard => self.barren = 0,
            SaltInput::Judged(judged) => self.judged(now, judged, &mut out),
            SaltInput::Replied(reply) => self.replied(now, reply, &mut out),
            SaltInput::ReqLost => self.req_lost(now, &mut out),
            SaltInput::ReqReady => self.req = Req::Up,
            SaltInput::SubLost => self.sub_lost(now),
            SaltInput::SubReady => {
                self.sub = Sub::Up;
                self.attempt = 0;
            }
            SaltInput::Tick => self.tick(now, &mut out),
            SaltInput::Unheard => self.need_auth(now),
        }
        self.advance(now, &mut out);
        out
    }

    fn is_open(&self) -> bool {
        self.kind == Kind::Call || self.was_live
    }

    fn is_asking(&self) -> bool {
        self.flight.is_some_and(|flight| flight.until.is_some())
    }

    /// Does whatever the states call for.
    fn advance(&mut self, now: Instant, out: &mut Vec<SaltOutput>) {
        if matches!(self.req, Req::Waiting { until } if until <= now) {
            self.req = Req::Connecting;
            out.push(SaltOutput::ConnectReq);
        }
        let due = matches!(self.auth, Auth::Needed { from } if from <= now);
        if due && self.req == Req::Up && !self.is_asking() {
            self.auth = Auth::Preparing;
            out.push(SaltOutput::Authenticate);
        }
        if matches!(self.sub, Sub::Waiting { until } if until <= now) {
            self.sub = Sub::Connecting;
            out.push(SaltOutput::ConnectSub);
        }
        if self.auth != Auth::Done || self.req != Req::Up {
            return;
        }
        if self.kind == Kind::Daemon && self.sub == Sub::Off {
            self.sub = Sub::Connecting;
            out.push(SaltOutput::ConnectSub);
        }
        if self.sub == Sub::Up && !self.is_live {
            (self.is_live, self.was_live) = (true, true);
            out.push(SaltOutput::Live);
        }
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.until.is_none()) {
            flight.until = Some(now + self.patience.request);
            out.push(SaltOutput::SendAgain);
        }
    }

    fn judged(&mut self, now: Instant, judged: Judged, out: &mut Vec<SaltOutput>) {
        let jitter = |pace: Pace, attempt| now + pace.delay(attempt, self.seed);
        let from = match judged {
            Judged::Accepted => {
                (self.auth, self.accepted, self.waits) = (Auth::Done, Some(now), 0);
                self.attempt = 0;
                self.barren = self.barren.saturating_add(1);
                return out.push(SaltOutput::Listen);
            }
            Judged::Distrusted => jitter(PATIENT, self.waits),
            Judged::Failed => now + self.acceptance_wait(),
            Judged::Standing(Standing::Pending) => now + self.acceptance_wait(),
            Judged::Standing(Standing::Full | Standing::Rejected) => {
                // Never sooner than a pending key, and not all at once.
                let wait = self.acceptance_wait();
                now + wait + Pace { first: wait / 2, max: wait / 2 }.delay(0, self.seed)
            }
        };
        self.waits = self.waits.saturating_add(1);
        self.is_live = false;
        self.auth = Auth::Needed { from };
        self.give_back(out);
    }

    /// Doubles with each wait, if the configuration lets it.
    fn acceptance_wait(&self) -> Duration {
        let Patience { acceptance, acceptance_max, .. } = self.patience;
        let doubled = acceptance.saturating_mul(1 << self.waits.min(16));
        doubled.min(acceptance_max.max(acceptance))
    }

    fn replied(&mut self, now: Instant, reply: Reply, out: &mut Vec<SaltOutput>) {
        let Some(flight) = &mut self.flight else { return };
        match reply {
            Reply::Opened => {
                (self.flight, self.barren, self.attempt) = (None, 0, 0);
            }
            Reply::Unopened => {
                let cured = std::mem::replace(&mut flight.cured, true);
                flight.until = None;
                if cured || flight.kept == Kept::Spooled {
                    self.flight = None;
                    out.push(SaltOutput::Return);
                }
                self.need_auth(now);
            }
        }
    }

    /// Authenticates anew: at once, unless that was done just now or has changed nothing.
    fn need_auth(&mut self, now: Instant) {
        if self.auth != Auth::Done {
            return;
        }
        let gap = self.accepted.map_or(now, |accepted| accepted + REAUTH_GAP);
        let barren = self.barren.saturating_sub(1);
        let wait = if barren == 0 { now } else { now + PATIENT.delay(barren - 1, self.seed) };
        self.auth = Auth::Needed { from: now.max(gap).max(wait) };
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<SaltOutput>) {
        let late = matches!(self.auth, Auth::Asking { until } if until <= now)
            || self.flight.and_then(|flight| flight.until).is_some_and(|until| until <= now);
        if late {
            // As a REQ does: the late answer must not be taken for the next one's.
            out.push(SaltOutput::CloseReq);
            self.req_lost(now, out);
        }
    }

    fn req_lost(&mut self, now: Instant, out: &mut Vec<SaltOutput>) {
        if matches!(self.req, Req::Waiting { .. }) {
            return;
        }
        self.req = Req::Waiting { until: now + self.pace.delay(self.attempt, self.seed) };
        self.attempt = self.attempt.saturating_add(1);
        self.auth = Auth::Needed { from: now };
        let Some(flight) = &mut self.flight else { return };
        let was_sent = flight.until.take().is_some();
        if was_sent {
            flight.tries += 1;
        }
        if flight.kept == Kept::Spooled || flight.tries > self.patience.tries {
            self.give_back(out);
        }
    }

    fn give_back(&mut self, out: &mut Vec<SaltOutput>) {
        if self.flight.take().is_some() {
            out.push(SaltOutput::Return);
        }
    }

    /// The SUB is gone: the master may have been restarted, so its keys are asked for again too.
    fn sub_lost(&mut self, now: Instant) {
        if self.sub == Sub::Off {
            return;
        }
        self.sub = Sub::Waiting { until: now + self.pace.delay(self.attempt, self.seed) };
        self.attempt = self.attempt.saturating_add(1);
        self.is_live = false;
        self.need_auth(now);
    }
}

#[cfg(test)]
mod tests;
