//! The rules of a session: which step comes next, what each message means, when to give up and come back. Pure.
//!
//! ```text
//!  Waiting ──tick──► Connecting ──ready──► Greeted ──welcome──► Limbo ─┐ (welcome: accepted)
//!     ▲                  │                    └────── accepted ────────┴─► Opening ──reply──► Open
//!     └── any failure, with back-off ◄─────────────────────────────────────────────────────────┘
//!  Open, daemon:  Waiting ──tick──► Connecting ──ready──► Greeted ──subscribed──► CatchingUp ──reply──► Live
//! ```
//! Spooled loads flow once the SUB was live for the first time; a `call` has no SUB and sends at once (native-wire.md §6).

use std::time::{Duration, Instant};

use super::pace::Pace;
use proto::message::{Kind, Push, Reply, SessionState, Spooled, Welcome};
use proto::value::Value;

/// How long the master may take for each step of opening a session. It answers at once unless it is overloaded.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to stay in limbo if the master does not end it; it does so after 60 s.
const LIMBO_TIMEOUT: Duration = Duration::from_secs(120);
/// The first delay before coming back after limbo or a refused master key, and the longest one (design §3).
const LIMBO_PACE: Pace = Pace { first: Duration::from_secs(1), max: Duration::from_secs(30) };

/// How the connection to the master did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The master's key is not the one we trust.
    Distrusted,
    /// It could not be reached, or did not finish the handshake.
    Unreachable,
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkInput {
    /// The DEALER ended.
    DealerClosed,
    /// The DEALER did not come about.
    DealerFailed(Failure),
    /// The DEALER's handshake is done.
    DealerReady,
    /// The master said something on the DEALER.
    Push(Push),
    /// The SUB ended.
    SubClosed,
    /// The SUB did not come about.
    SubFailed,
    /// The SUB's handshake is done, and its subscription sent.
    SubReady,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkOutput {
    /// Everything of the spool up to here is in the master's log.
    Acked(Spooled),
    /// Close both connections.
    Close,
    /// Close the SUB.
    CloseSub,
    /// Connect the DEALER.
    ConnectDealer,
    /// Connect the SUB, and subscribe.
    ConnectSub,
    /// The session is open: spooled loads may be sent, from the first unacknowledged one.
    Flow,
    /// The live jobs that were missed, oldest first.
    Jobs(Vec<Value>),
    /// The master does not accept us, at least not yet.
    Limbo(Welcome),
    /// The session is complete: jobs come in.
    Live {
        /// Its number.
        session: u64,
    },
    /// The answer to a request that is none of the session's own.
    Reply(Reply),
    /// Send `jobs_since`.
    SendJobsSince {
        /// Its number.
        seq: u64,
        /// The resume point.
        serial: u64,
    },
    /// Send `session`.
    SendSession {
        /// Its number.
        seq: u64,
    },
}

/// One session after the other, with one master.
#[derive(Debug)]
pub struct LinkState {
    kind: Kind,
    pace: Pace,
    /// Makes the jitter differ from other minions'.
    seed: u64,
    /// Attempts since a session was last open.
    attempt: u32,
    seq: u64,
    /// The resume point of publications: the highest that was seen.
    serial: u64,
    /// Whether something vouches for a pending key: then the session is sent in limbo too (native-wire.md §4).
    vouches: bool,
    /// Whether a key of Salt's vouches for the native one: the master may know the id by that key alone, and deny this one.
    upgrades: bool,
    phase: Phase,
}

#[derive(Debug, PartialEq)]
enum Phase {
    Waiting { until: Instant },
    Connecting,
    Greeted { until: Instant },
    Limbo { until: Instant },
    Opening { session: u64, seq: u64, until: Instant },
    Open { session: u64, sub: Sub, flowing: bool },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sub {
    /// A call hears no publications.
    None,
    Waiting {
        until: Instant,
    },
    Connecting,
    Greeted {
        until: Instant,
    },
    CatchingUp {
        seq: u64,
        until: Instant,
    },
    Live,
}

impl LinkState {
    /// Begins at `start`; the first tick from then on connects.
    pub fn new(kind: Kind, pace: Pace, seed: u64, start: Instant) -> LinkState {
        LinkState {
            kind,
            pace,
            seed,
            attempt: 0,
            seq: 0,
            serial: 0,
            vouches: false,
            upgrades: false,
            phase: Phase::Waiting { until: start },
        }
    }

    /// Makes a pending minion send its session, so that the master sees what vouches for it.
    pub fn vouching(self, vouches: bool) -> LinkState {
        LinkState { vouches, ..self }
    }

    /// Says whether a key of Salt's vouches for this minion on the connection that was just made.
    pub fn upgrades(&mut self, upgrades: bool) {
        self.upgrades = upgrades;
    }

    /// Returns a fresh number for a request.
    pub fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Tells whether spooled loads may be sent.
    pub fn is_flowing(&self) -> bool {
        matches!(self.phase, Phase::Open { flowing: true, .. })
    }

    /// Tells whether requests are answered.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Notes a publication, so that a later session resumes behind it.
    pub fn saw(&mut self, serial: u64) {
        self.serial = self.serial.max(serial);
    }

    /// Returns when a tick is due.
    pub fn next_tick(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until }
            | Phase::Greeted { until }
            | Phase::Limbo { until }
            | Phase::Opening { until, .. } => Some(until),
            Phase::Open {
                sub: Sub::Waiting { until } | Sub::Greeted { until } | Sub::CatchingUp { until, .. },
                ..
            } => Some(until),
            Phase::Connecting | Phase::Open { .. } => None,
        }
    }

    /// Takes one input and returns what is to be done, in order.
    pub fn handle(&mut self, now: Instant, input: LinkInput) -> Vec<LinkOutput> {
        match input {
            LinkInput::DealerClosed => self.lost(now),
            LinkInput::DealerFailed(failure) => self.failed(now, failure),
            LinkInput::DealerReady => {
                self.phase = Phase::Greeted { until: now + STEP_TIMEOUT };
                Vec::new()
            }
            LinkInput::Push(push) => self.push(now, push),
            LinkInput::SubClosed | LinkInput::SubFailed => self.sub_lost(now),
            LinkInput::SubReady => self.sub_ready(now),
            LinkInput::Tick => self.tick(now),
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<LinkOutput> {
        if self.next_tick().is_none_or(|due| due > now) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Connecting;
                vec![LinkOutput::ConnectDealer]
            }
            Phase::Open { sub: sub @ Sub::Waiting { .. }, .. } => {
                *sub = Sub::Connecting;
                vec![LinkOutput::ConnectSub]
            }
            // A step took too long: begin anew.
            _ => self.lost(now),
        }
    }

    /// The DEALER is gone, or useless: close everything, come back later.
    fn lost(&mut self, now: Instant) -> Vec<LinkOutput> {
        let pace = if matches!(self.phase, Phase::Limbo { .. }) { LIMBO_PACE } else { self.pace };
        self.come_back(now, pace);
        vec![LinkOutput::Close]
    }

    fn failed(&mut self, now: Instant, failure: Failure) -> Vec<LinkOutput> {
        self.come_back(now, if failure == Failure::Distrusted { LIMBO_PACE } else { self.pace });
        Vec::new()
    }

    fn come_back(&mut self, now: Instant, pace: Pace) {
        self.phase = Phase::Waiting { until: now + pace.delay(self.attempt, self.seed) };
        self.attempt = self.attempt.saturating_add(1);
    }

    fn push(&mut self, now: Instant, push: Push) -> Vec<LinkOutput> {
        match push {
            Push::Ack(at) => vec![LinkOutput::Acked(at)],
            Push::Reply(reply) => self.reply(now, reply),
            Push::Subscribed { session } => self.subscribed(now, session),
            Push::Welcome(welcome) => self.welcome(now, welcome),
        }
    }

    fn welcome(&mut self, now: Instant, welcome: Welcome) -> Vec<LinkOutput> {
        let had_sub = matches!(self.phase, Phase::Open { .. });
        if welcome.state != SessionState::Accepted {
            self.phase = Phase::Limbo { until: now + LIMBO_TIMEOUT };
            let judged = match welcome.state {
                SessionState::Pending => self.vouches || self.upgrades,
                SessionState::Denied => self.upgrades,
                _ => false,
            };
            let vouch = judged.then(|| LinkOutput::SendSession { seq: self.next_seq() });
            let close = had_sub.then_some(LinkOutput::CloseSub);
            return close.into_iter().chain([LinkOutput::Limbo(welcome)]).chain(vouch).collect();
        }
        if matches!(self.phase, Phase::Open { session, .. } | Phase::Opening { session, .. } if session == welcome.session)
        {
            return Vec::new();
        }
        let seq = self.next_seq();
        self.phase = Phase::Opening { session: welcome.session, seq, until: now + STEP_TIMEOUT };
        let close = had_sub.then_some(LinkOutput::CloseSub);
        close.into_iter().chain([LinkOutput::SendSession { seq }]).collect()
    }

    fn reply(&mut self, now: Instant, reply: Reply) -> Vec<LinkOutput> {
        match &mut self.phase {
            Phase::Opening { session, seq, .. } if *seq == reply.seq => {
                if reply.result.is_err() {
                    return self.lost(now).into_iter().chain([LinkOutput::Reply(reply)]).collect();
                }
                let call = self.kind == Kind::Call;
                let sub = if call { Sub::None } else { Sub::Connecting };
                self.phase = Phase::Open { session: *session, sub, flowing: call };
                self.attempt = 0;
                vec![if call { LinkOutput::Flow } else { LinkOutput::ConnectSub }]
            }
            Phase::Open { sub: Sub::CatchingUp { seq, .. }, .. } if *seq == reply.seq => self.caught_up(now, reply),
            _ => vec![LinkOutput::Reply(reply)],
        }
    }

    fn caught_up(&mut self, now: Instant, reply: Reply) -> Vec<LinkOutput> {
        let jobs = match &reply.result {
            Ok(found) => found.get("jobs").and_then(Value::as_list).unwrap_or_default().to_vec(),
            Err(_) => return self.lost(now).into_iter().chain([LinkOutput::Reply(reply)]).collect(),
        };
        let serial = reply.result.ok().and_then(|found| found.get("serial").and_then(Value::as_u64));
        self.saw(serial.unwrap_or(0));
        let Phase::Open { session, sub, flowing } = &mut self.phase else { return Vec::new() };
        *sub = Sub::Live;
        let first = !std::mem::replace(flowing, true);
        let mut outputs = vec![LinkOutput::Jobs(jobs)];
        if first {
            outputs.push(LinkOutput::Flow);
        }
        outputs.push(LinkOutput::Live { session: *session });
        outputs
    }

    fn sub_ready(&mut self, now: Instant) -> Vec<LinkOutput> {
        if let Phase::Open { sub: sub @ Sub::Connecting, .. } = &mut self.phase {
            *sub = Sub::Greeted { until: now + STEP_TIMEOUT };
        }
        Vec::new()
    }

    fn subscribed(&mut self, now: Instant, session: u64) -> Vec<LinkOutput> {
        let (seq, serial) = (self.seq + 1, self.serial);
        match &mut self.phase {
            // Also while it catches up or is live: the first word may have been about the SUB of the connection before, which
            // the master had not given up yet. What was published into that one is asked for again; a job runs once.
            Phase::Open { session: own, sub, .. }
                if *own == session && !matches!(*sub, Sub::None | Sub::Waiting { .. }) =>
            {
                *sub = Sub::CatchingUp { seq, until: now + STEP_TIMEOUT };
                self.seq = seq;
                vec![LinkOutput::SendJobsSince { seq, serial }]
            }
            _ => Vec::new(),
        }
    }

    /// The SUB alone is gone: it comes back under the same session.
    fn sub_lost(&mut self, now: Instant) -> Vec<LinkOutput> {
        let until = now + self.pace.delay(self.attempt, self.seed);
        let Phase::Open { sub, .. } = &mut self.phase else { return Vec::new() };
        if *sub != Sub::None {
            *sub = Sub::Waiting { until };
            self.attempt = self.attempt.saturating_add(1);
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
