//! The rules of reacting, without clock and files: where the cursor is, what is too old, how deep a chain of reactions
//! is, and what holds a rule back (`guard`). Time is the stamp of the event at hand, so that a replay is judged as it was
//! live.

mod guard;

use std::collections::{HashMap, VecDeque};

use proto::tag::Tag;
use proto::value::{Map, MapExt};

use super::rules::{Rules, Step};

pub(super) use guard::{BreakerNews, Counts, Guards, Held, Outcome, Print};

use guard::Guard;

/// How many reactions may follow from one another. A chain that is longer is a loop.
pub(super) const MAX_DEPTH: u32 = 8;
/// How many causes are remembered: at the full rate of one rule, those of the last three minutes. A loop turns faster.
pub(super) const MAX_CAUSES: usize = 20_000;
/// How many skipped tags are named; the others are counted.
pub(super) const MAX_NAMED: usize = 20;
/// The user of what the reactor runs on the master. Its events set nothing off (Salt's rule).
pub(super) const USER: &str = "Reactor";
/// The field that carries the key of the reaction that fired an event.
pub(super) const KEY: &str = "_reaction";

/// Tells whether an event is one of the reactor itself: those set nothing off.
pub(super) fn is_own(tag: &str, data: &Map) -> bool {
    data.text("user") == Some(USER) || tag.starts_with(Tag::reactor("").as_str())
}

/// An event, as far as the rules need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) offset: u64,
    pub(super) tag: &'a str,
    pub(super) stamp_us: i64,
    /// What it is compared by; all zeros where repeats count.
    pub(super) print: Print,
}

/// What to do about an event.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Ignore,
    /// It is the end of too long a chain of reactions.
    Loop {
        /// The jid or key that caused it.
        cause: String,
    },
    /// Render these files.
    React {
        /// The files of all rules that match and are not held back, in order.
        steps: Vec<Step>,
        /// How many reactions the commands of this one have behind them, itself included.
        depth: u32,
        /// Rules that match but are held back, and shall be named now.
        limited: Vec<Limited>,
    },
    /// It is older than allowed after an outage.
    Skip,
}

/// A rule that is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) rule: String,
    /// By what.
    pub(super) held: Held,
    /// How many events it did not react to since it was named last.
    pub(super) dropped: u64,
}

/// What was skipped after an outage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) tags: Vec<String>,
}

/// The time while the reactor was away.
#[derive(Debug)]
struct Outage {
    /// The last event that came meanwhile.
    until: u64,
    /// What is older than this is skipped.
    before_us: i64,
    skipped: Skipped,
}

/// The state of the reactor.
#[derive(Debug)]
pub(super) struct ReactorState {
    cursor: u64,
    stored: u64,
    outage: Option<Outage>,
    causes: HashMap<String, u32>,
    causes_by_age: VecDeque<String>,
    guards: Guards,
    by_rule: HashMap<String, Guard>,
}

/// How a rule does, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) counts: Counts,
    /// When its open breaker lets a trial through.
    pub(super) open_until_us: Option<i64>,
}

impl ReactorState {
    /// Starts behind `cursor`. `causes` are those that are known from before, oldest first.
    pub(super) fn new(cursor: u64, causes: Vec<(String, u32)>, guards: Guards) -> ReactorState {
        let mut state = ReactorState {
            cursor,
            stored: cursor,
            outage: None,
            causes: HashMap::new(),
            causes_by_age: VecDeque::new(),
            guards,
            by_rule: HashMap::new(),
        };
        for (cause, depth) in causes {
            state.note_cause(cause, depth);
        }
        state
    }

    /// Notes that events up to `head` came while nobody was here, and how old of them is too old.
    pub(super) fn note_outage(&mut self, head: u64, before_us: i64) {
        if head > self.cursor {
            self.outage = Some(Outage { until: head, before_us, skipped: Skipped::default() });
        }
    }

    /// Returns the last event that is done with.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Notes that everything up to this event is done with.
    pub(super) fn advance(&mut self, offset: u64) {
        self.cursor = self.cursor.max(offset);
    }

    /// Returns the cursor if the disk has an older one.
    pub(super) fn unstored(&self) -> Option<u64> {
        (self.cursor > self.stored).then_some(self.cursor)
    }

    /// Returns how many events the disk's cursor is behind.
    pub(super) fn unstored_count(&self) -> u64 {
        self.cursor - self.stored
    }

    /// Notes that the disk has this cursor.
    pub(super) fn note_stored(&mut self, cursor: u64) {
        self.stored = cursor;
    }

    /// Notes that what bears this jid or key comes from a reaction of this depth.
    pub(super) fn note_cause(&mut self, cause: String, depth: u32) {
        if self.causes.insert(cause.clone(), depth).is_none() {
            self.causes_by_age.push_back(cause);
        }
        while self.causes_by_age.len() > MAX_CAUSES {
            let Some(oldest) = self.causes_by_age.pop_front() else { break };
            self.causes.remove(&oldest);
        }
    }

    /// Puts other limits in force, and forgets rules that there are no more.
    pub(super) fn reload(&mut self, rules: &Rules, guards: Guards) {
        self.guards = guards;
        self.by_rule.retain(|tag, _| rules.has(tag));
    }

    /// Notes how the reactions of a rule to an event ended.
    pub(super) fn note_outcome(&mut self, rule: &str, outcome: Outcome, now_us: i64) -> Option<BreakerNews> {
        self.by_rule.get_mut(rule)?.note(&self.guards, outcome, now_us)
    }

    /// Returns how a rule does.
    pub(super) fn standing(&self, rule: &str) -> Standing {
        let of = |guard: &Guard| Standing { counts: guard.counts, open_until_us: guard.open_until() };
        self.by_rule.get(rule).map(of).unwrap_or_default()
    }

    /// Judges an event that some rule matches.
    pub(super) fn judge(&mut self, rules: &Rules, event: Seen<'_>, data: &Map) -> Verdict {
        if is_own(event.tag, data) {
            return Verdict::Ignore;
        }
        if self.is_too_old(event) {
            return Verdict::Skip;
        }
        let cause = self.cause(event.tag, data);
        let depth = cause.as_ref().map_or(1, |(_, depth)| depth + 1);
        if let Some((cause, _)) = cause.filter(|_| depth > MAX_DEPTH) {
            return Verdict::Loop { cause };
        }
        let (mut steps, mut limited) = (Vec::new(), Vec::new());
        let guards = self.guards;
        for rule in rules.matching(event.tag) {
            let fresh = || Guard::new(&guards, event.stamp_us);
            let guard = self.by_rule.entry(rule.tag.clone()).or_insert_with(fresh);
            match guard.pass(&guards, &event.print, event.stamp_us) {
                Ok(()) => steps.extend(rule.steps()),
                Err(told) => {
                    limited.extend(told.map(|(held, dropped)| Limited { rule: rule.tag.clone(), held, dropped }));
                }
            }
        }
        Verdict::React { steps, depth, limited }
    }

    /// Returns what was skipped, once the outage is over.
    pub(super) fn end_of_outage(&mut self, event: Seen<'_>) -> Option<Skipped> {
        let over = |outage: &mut Outage| event.offset >= outage.until || event.stamp_us >= outage.before_us;
        let outage = self.outage.take_if(over)?;
        (outage.skipped.count > 0).then_some(outage.skipped)
    }

    fn is_too_old(&mut self, event: Seen<'_>) -> bool {
        let Some(outage) = &mut self.outage else { return false };
        if event.offset > outage.until || event.stamp_us >= outage.before_us {
            return false;
        }
        let skipped = &mut outage.skipped;
        if skipped.count == 0 {
            skipped.first = event.offset;
        }
        skipped.count += 1;
        skipped.last = event.offset;
        if skipped.tags.len() < MAX_NAMED && !skipped.tags.iter().any(|tag| tag == event.tag) {
            skipped.tags.push(event.tag.to_owned());
        }
        true
    }

    /// Finds the reaction behind an event: by the jid in its tag, or by the key in its data.
    fn cause(&self, tag: &str, data: &Map) -> Option<(String, u32)> {
        let parts: Vec<&str> = tag.splitn(4, '/').collect();
        let name = match parts.as_slice() {
            ["salt", "job" | "run" | "wheel", jid, ..] => jid,
            [jid] if self.causes.contains_key(*jid) => jid,
            _ => data.text(KEY)?,
        };
        self.causes.get(name).map(|depth| (name.to_owned(), *depth))
    }
}

#[cfg(test)]
mod tests;
