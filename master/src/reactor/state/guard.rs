//! The guard rails of one rule: how often it may fire, what it has seen already, and whether it works at all. Pure: time
//! is the stamp of the event at hand.

use std::collections::{HashMap, VecDeque};

/// How many different events a rule remembers against repeats. Beyond, the oldest are forgotten: they may set it off again.
pub(in crate::reactor) const MAX_REMEMBERED: usize = 10_000;
/// How often a rule that is over its limit is named.
const LIMITED_EVERY_US: i64 = 60_000_000;
/// A token of the bucket, in millionths of an event: that is what a microsecond brings at one event a second.
const TOKEN: i64 = 1_000_000;

/// What an event is compared by: a digest of its tag and its data.
pub(in crate::reactor) type Print = [u8; 32];

/// The limits of every rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) struct Guards {
    /// How many events a second a rule reacts to in the long run.
    pub(in crate::reactor) rate_per_s: u32,
    /// How many events a rule reacts to at once.
    pub(in crate::reactor) burst: u32,
    /// How long an event that comes again sets nothing off; 0: every one counts.
    pub(in crate::reactor) repeats_us: i64,
    /// After how many failures in a row a rule is switched off; 0: never.
    pub(in crate::reactor) failures: u32,
    /// For how long.
    pub(in crate::reactor) off_us: i64,
}

/// What became of a rule's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::reactor) struct Counts {
    /// It reacted.
    pub(in crate::reactor) fired: u64,
    /// Of these: something of the reaction did not work.
    pub(in crate::reactor) failed: u64,
    /// It was over its limit.
    pub(in crate::reactor) limited: u64,
    /// It had reacted to the same just before.
    pub(in crate::reactor) deduplicated: u64,
    /// Its breaker was open.
    pub(in crate::reactor) skipped: u64,
}

/// Why a rule does not react.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) enum Held {
    /// It is over its limit.
    Rate,
    /// It had reacted to the same just before.
    Repeat,
}

/// How a reaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) enum Outcome {
    Failed,
    Good,
}

/// The news of a breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::reactor) enum BreakerNews {
    /// A trial went well: the rule reacts again.
    Closed {
        /// How many events it did not react to meanwhile.
        skipped: u64,
    },
    /// The rule reacts to nothing for a while.
    Opened {
        /// How often it has failed in a row.
        failures: u32,
        /// When the next event is let through as a trial.
        until_us: i64,
    },
}

/// Tells whether it is less than a span ago; what lies in the future does not count: the clock was set back.
fn is_within(at_us: i64, span_us: i64, now_us: i64) -> bool {
    (0..span_us).contains(&now_us.saturating_sub(at_us))
}

/// A token bucket.
#[derive(Debug, Default)]
struct Bucket {
    level: i64,
    at_us: i64,
}

impl Bucket {
    fn take(&mut self, guards: &Guards, now_us: i64) -> bool {
        let full = i64::from(guards.burst) * TOKEN;
        let passed = now_us.saturating_sub(self.at_us).clamp(0, full);
        self.level = self.level.saturating_add(passed.saturating_mul(guards.rate_per_s.into())).min(full);
        // Also when the clock was set back: a rule must not wait for it to catch up.
        self.at_us = now_us;
        let taken = self.level >= TOKEN;
        if taken {
            self.level -= TOKEN;
        }
        taken
    }
}

/// The events that a rule reacted to lately.
#[derive(Debug, Default)]
struct Repeats {
    seen: HashMap<Print, i64>,
    by_age: VecDeque<(Print, i64)>,
}

impl Repeats {
    fn has(&self, print: &Print, window_us: i64, now_us: i64) -> bool {
        self.seen.get(print).is_some_and(|at_us| is_within(*at_us, window_us, now_us))
    }

    fn note(&mut self, print: Print, window_us: i64, now_us: i64) {
        self.seen.insert(print, now_us);
        self.by_age.push_back((print, now_us));
        while let Some((oldest, at_us)) = self.by_age.front().copied() {
            if is_within(at_us, window_us, now_us) && self.by_age.len() <= MAX_REMEMBERED {
                break;
            }
            self.by_age.pop_front();
            if self.seen.get(&oldest) == Some(&at_us) {
                self.seen.remove(&oldest);
            }
        }
    }
}

/// Whether a rule works.
#[derive(Debug)]
enum Breaker {
    Closed { failures: u32 },
    Open { failures: u32, until_us: i64, skipped: u64 },
}

/// What was held back of one kind, and when that was told last.
#[derive(Debug, Default)]
struct Untold {
    dropped: u64,
    told_us: Option<i64>,
}

impl Untold {
    /// Counts one more; returns how many there are, if they shall be told now.
    fn add(&mut self, every_us: i64, now_us: i64) -> Option<u64> {
        self.dropped += 1;
        if self.told_us.is_some_and(|told_us| is_within(told_us, every_us, now_us)) {
            return None;
        }
        self.told_us = Some(now_us);
        Some(std::mem::take(&mut self.dropped))
    }
}

/// The guard rails of one rule, and what became of its events.
#[derive(Debug)]
pub(super) struct Guard {
    bucket: Bucket,
    repeats: Repeats,
    breaker: Breaker,
    limited: Untold,
    deduplicated: Untold,
    pub(super) counts: Counts,
}

impl Guard {
    pub(super) fn new(guards: &Guards, now_us: i64) -> Guard {
        Guard {
            bucket: Bucket { level: i64::from(guards.burst) * TOKEN, at_us: now_us },
            repeats: Repeats::default(),
            breaker: Breaker::Closed { failures: 0 },
            limited: Untold::default(),
            deduplicated: Untold::default(),
            counts: Counts::default(),
        }
    }

    /// Tells whether the rule may react; if it may not, what holds it back, and how often it did, if that shall be told now.
    pub(super) fn pass(&mut self, guards: &Guards, print: &Print, now_us: i64) -> Result<(), Option<(Held, u64)>> {
        if let Breaker::Open { until_us, skipped, .. } = &mut self.breaker
            && guards.failures > 0
            && is_within(until_us.saturating_sub(guards.off_us), guards.off_us, now_us)
        {
            *skipped += 1;
            self.counts.skipped += 1;
            return Err(None);
        }
        if guards.repeats_us > 0 && self.repeats.has(print, guards.repeats_us, now_us) {
            self.counts.deduplicated += 1;
            let untold = self.deduplicated.add(guards.repeats_us, now_us);
            return Err(untold.map(|dropped| (Held::Repeat, dropped)));
        }
        if !self.bucket.take(guards, now_us) {
            self.counts.limited += 1;
            let untold = self.limited.add(LIMITED_EVERY_US, now_us);
            return Err(untold.map(|dropped| (Held::Rate, dropped)));
        }
        if guards.repeats_us > 0 {
            self.repeats.note(*print, guards.repeats_us, now_us);
        }
        self.counts.fired += 1;
        Ok(())
    }

    /// Notes how a reaction ended.
    pub(super) fn note(&mut self, guards: &Guards, outcome: Outcome, now_us: i64) -> Option<BreakerNews> {
        self.counts.failed += u64::from(outcome == Outcome::Failed);
        match (&mut self.breaker, outcome) {
            (Breaker::Closed { failures }, Outcome::Good) => {
                *failures = 0;
                None
            }
            (Breaker::Closed { failures }, Outcome::Failed) => {
                *failures += 1;
                let failures = *failures;
                (guards.failures > 0 && failures >= guards.failures).then(|| self.open(guards, failures, 0, now_us))
            }
            (Breaker::Open { skipped, .. }, Outcome::Good) => {
                let skipped = *skipped;
                self.breaker = Breaker::Closed { failures: 0 };
                Some(BreakerNews::Closed { skipped })
            }
            (Breaker::Open { failures, skipped, .. }, Outcome::Failed) => {
                let (failures, skipped) = (failures.saturating_add(1), *skipped);
                Some(self.open(guards, failures, skipped, now_us))
            }
        }
    }

    /// Returns when an open breaker lets a trial through.
    pub(super) fn open_until(&self) -> Option<i64> {
        match self.breaker {
            Breaker::Closed { .. } => None,
            Breaker::Open { until_us, .. } => Some(until_us),
        }
    }

    fn open(&mut self, guards: &Guards, failures: u32, skipped: u64, now_us: i64) -> BreakerNews {
        let until_us = now_us.saturating_add(guards.off_us);
        self.breaker = Breaker::Open { failures, until_us, skipped };
        BreakerNews::Opened { failures, until_us }
    }
}
