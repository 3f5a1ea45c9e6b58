//! The rules of the log: which offset, which stamp, what is a duplicate, what is degraded and when to try again.
//!
//! Pure: time comes in, a [`Plan`] comes out. The writer carries the plan out and says whether it worked; only then does
//! the state change, so a failed transaction leaves no trace here either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::MinionId;
use proto::message::Kind;

use super::event::{Batch, Committed, Mark};

/// How many spools of one id and kind are remembered; with more, the one that was used longest ago is forgotten. A minion
/// has one, and a new one with each start. Each process of `halite-minion call` has its own, which lives for seconds: a
/// crowd of them must not make the daemon's forgotten, or what it sends again would be logged twice.
pub(super) const SPOOLS_PER_ID: usize = 8;

/// How far the clock may step back before stamps follow it. Below, they stand still, so that they stay sorted; above,
/// standing still for so long would be the greater lie.
const STEP_BACK_US: i64 = 5_000_000;

/// The first wait before the log is opened anew, and the longest. A full disk is not helped by haste.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What is stored of one spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpoolMark {
    pub(super) spool: [u8; 16],
    pub(super) n: u64,
    /// The head of the log when it last moved: says which spool was used longest ago.
    pub(super) used: u64,
    pub(super) kind: Kind,
}

/// What a log says of itself when it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) head: u64,
    pub(super) stamp_us: i64,
    pub(super) marks: HashMap<MinionId, Vec<SpoolMark>>,
}

/// What one transaction has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// For each batch, in order.
    pub(super) verdicts: Vec<Verdict>,
    /// Marks to store.
    pub(super) marks: Vec<(MinionId, SpoolMark)>,
    /// Marks to forget.
    pub(super) forgotten: Vec<(MinionId, [u8; 16])>,
    /// The head and the last stamp after it.
    pub(super) head: u64,
    pub(super) stamp_us: i64,
    staged: HashMap<MinionId, Vec<SpoolMark>>,
}

impl Plan {
    /// Tells whether there is anything to write.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.verdicts.iter().all(|verdict| verdict.committed.count == 0)
    }
}

/// What becomes of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) committed: Committed,
    pub(super) stamp_us: i64,
}

/// What opening the log anew has brought to light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reopened {
    /// The offset to go on from.
    pub(super) head: u64,
    /// Events that were not acknowledged but are in the log after all.
    pub(super) gained: u64,
    /// Events that were acknowledged and are gone: the disk has lied.
    pub(super) lost: u64,
}

#[derive(Debug)]
enum Health {
    Durable,
    Degraded { reason: Arc<str>, retry_at: Duration, delay: Duration },
}

/// The rules of the log.
#[derive(Debug)]
pub(super) struct BusState {
    head: u64,
    stamp_us: i64,
    marks: HashMap<MinionId, Vec<SpoolMark>>,
    health: Health,
    /// The wait after the next failure; short again after a commit.
    delay: Duration,
}

impl BusState {
    pub(super) fn new(tail: Tail) -> BusState {
        let Tail { head, stamp_us, marks } = tail;
        BusState { head, stamp_us, marks, health: Health::Durable, delay: RETRY_FIRST }
    }

    /// Decides on batches, in order; each comes with the moment it was submitted.
    pub(super) fn plan<'a>(&self, batches: impl Iterator<Item = (&'a Batch, i64)>) -> Plan {
        let mut plan = Plan { head: self.head, stamp_us: self.stamp_us, ..Plan::default() };
        for (batch, at_us) in batches {
            let verdict = self.judge(batch, at_us, &mut plan);
            plan.verdicts.push(verdict);
        }
        for (id, spools) in &plan.staged {
            let old = self.marks.get(id).map_or(&[][..], Vec::as_slice);
            plan.marks.extend(spools.iter().filter(|mark| !old.contains(mark)).map(|mark| (id.clone(), *mark)));
            let gone = old.iter().filter(|mark| spools.iter().all(|kept| kept.spool != mark.spool));
            plan.forgotten.extend(gone.map(|mark| (id.clone(), mark.spool)));
        }
        plan
    }

    fn judge(&self, batch: &Batch, at_us: i64, plan: &mut Plan) -> Verdict {
        let step_back = (1..=STEP_BACK_US).contains(&(plan.stamp_us - at_us));
        let stamp_us = if step_back { plan.stamp_us } else { at_us };
        let mut gap = 0;
        if let Some(mark) = &batch.mark {
            match self.advance(mark, plan) {
                Some(skipped) => gap = skipped,
                None => {
                    let committed = Committed { offset: plan.head, count: 0, duplicate: true, gap: 0 };
                    return Verdict { committed, stamp_us };
                }
            }
        }
        let count = batch.events.len();
        let offset = plan.head + u64::from(count > 0);
        plan.head += count as u64;
        plan.stamp_us = stamp_us;
        Verdict { committed: Committed { offset, count, duplicate: false, gap }, stamp_us }
    }

    /// Moves a spool's mark in the plan; returns how many loads were skipped, or nothing for a duplicate.
    fn advance(&self, mark: &Mark, plan: &mut Plan) -> Option<u64> {
        if !plan.staged.contains_key(&mark.id) {
            plan.staged.insert(mark.id.clone(), self.marks.get(&mark.id).cloned().unwrap_or_default());
        }
        let used = plan.head;
        let spools = plan.staged.get_mut(&mark.id)?;
        if let Some(stored) = spools.iter_mut().find(|stored| stored.spool == mark.spool) {
            if mark.n <= stored.n {
                return None;
            }
            let gap = mark.n - stored.n - 1;
            (stored.n, stored.used) = (mark.n, used);
            return Some(gap);
        }
        let same = (0..spools.len()).filter(|at| spools[*at].kind == mark.kind);
        if same.clone().count() >= SPOOLS_PER_ID
            && let Some(oldest) = same.min_by_key(|at| spools[*at].used)
        {
            spools.remove(oldest);
        }
        spools.push(SpoolMark { spool: mark.spool, n: mark.n, used, kind: mark.kind });
        Some(mark.n.saturating_sub(1))
    }

    /// Takes note that a plan is in the log.
    pub(super) fn committed(&mut self, plan: Plan) {
        (self.head, self.stamp_us) = (plan.head, plan.stamp_us);
        self.marks.extend(plan.staged);
        self.delay = RETRY_FIRST;
    }

    /// Takes note that the log cannot be written; returns whether that is news. `now` is any steady clock.
    pub(super) fn failed(&mut self, now: Duration, reason: Arc<str>) -> bool {
        let news = matches!(self.health, Health::Durable);
        let delay = self.delay;
        self.delay = (delay * 2).min(RETRY_LONGEST);
        self.health = Health::Degraded { reason, retry_at: now + delay, delay };
        news
    }

    /// Takes note that the log was opened anew, and what it says of itself.
    pub(super) fn reopened(&mut self, tail: Tail) -> Reopened {
        // An offset that somebody may have seen is never given out again, even if its event is gone.
        let head = self.head.max(tail.head);
        let reopened =
            Reopened { head, gained: tail.head.saturating_sub(self.head), lost: self.head.saturating_sub(tail.head) };
        self.head = head;
        self.stamp_us = self.stamp_us.max(tail.stamp_us);
        self.marks = tail.marks;
        self.health = Health::Durable;
        reopened
    }

    /// Returns why the log is out of order, if it is.
    pub(super) fn degraded(&self) -> Option<&Arc<str>> {
        match &self.health {
            Health::Durable => None,
            Health::Degraded { reason, .. } => Some(reason),
        }
    }

    /// Returns how long to wait before the log is to be opened anew; nothing while it is in order.
    pub(super) fn retry_in(&self, now: Duration) -> Option<Duration> {
        match &self.health {
            Health::Durable => None,
            Health::Degraded { retry_at, delay, .. } => Some(retry_at.saturating_sub(now).min(*delay)),
        }
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn stamp_us(&self) -> i64 {
        self.stamp_us
    }

    /// Returns all marks, in the order of their ids: a segment that begins takes them over.
    pub(super) fn marks(&self) -> impl Iterator<Item = (&MinionId, &SpoolMark)> {
        let mut ids: Vec<_> = self.marks.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        ids.into_iter().flat_map(|(id, marks)| marks.iter().map(move |mark| (id, mark)))
    }

    /// Returns the minions with a mark that may have moved since the head of the log was there, each with all its marks, in
    /// the order of their ids. A mark that was forgotten made room for one that has moved.
    pub(super) fn moved(&self, since: u64) -> Vec<(&MinionId, &[SpoolMark])> {
        let has_moved = |marks: &[SpoolMark]| marks.iter().any(|mark| mark.used >= since);
        let marks = self.marks.iter().map(|(id, marks)| (id, &marks[..]));
        let mut moved: Vec<_> = marks.filter(|(_, marks)| has_moved(marks)).collect();
        moved.sort_unstable_by_key(|(id, _)| *id);
        moved
    }
}

#[cfg(test)]
mod tests;
