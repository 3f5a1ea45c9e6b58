//! When a job is over: who is still to return, when to ask whether they are still at it, when to give up. Pure.
//!
//! ```text
//! Waiting --timeout--> Asking (saltutil.find_job) --all answered, or its timeout--> Waiting for those still running
//! ```
//! A minion that answers that it is not running the job, or does not answer, is given up. Returns and answers come in
//! the order of the log, so the return of a minion that has just finished is always seen before its answer.
//!
//! While syndics may still name minions of theirs, it is not over, even if all that are known have returned.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The least time between two questions, whatever the timeout: `-t 0` must not flood the fleet.
const LEAST: Duration = Duration::from_secs(1);

/// Who is still to return.
#[derive(Debug)]
pub(super) struct Wait {
    timeout: Duration,
    gather: Duration,
    outstanding: BTreeSet<String>,
    returned: BTreeSet<String>,
    /// Until when syndics may name more minions; none if no syndic heard of the job.
    naming_until: Option<Instant>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Asking { since: Instant, unanswered: BTreeSet<String>, running: BTreeSet<String> },
}

/// What is to be done when the deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask these minions whether they are still running the job.
    Ask(Vec<String>),
    /// Take these minions as lost.
    GiveUp(Vec<String>),
}

impl Wait {
    /// Begins to wait. `timeout` is how long between two questions, `gather` how long a question may take.
    pub(super) fn new(
        minions: impl IntoIterator<Item = String>,
        timeout: Duration,
        gather: Duration,
        now: Instant,
    ) -> Wait {
        let phase = Phase::Waiting { until: after(now, timeout) };
        let (outstanding, returned) = (minions.into_iter().collect(), BTreeSet::new());
        Wait { timeout, gather, outstanding, returned, naming_until: None, phase }
    }

    /// Lets syndics name more minions for so long.
    pub(super) fn for_syndics(mut self, wait: Option<Duration>, now: Instant) -> Wait {
        self.naming_until = wait.map(|wait| after(now, wait));
        self
    }

    /// Tells whether nobody is waited for.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.outstanding.is_empty() && self.naming_until.is_none_or(|until| until <= now)
    }

    /// Returns who is waited for.
    pub(super) fn outstanding(&self) -> &BTreeSet<String> {
        &self.outstanding
    }

    /// Returns when to call [`Wait::expired`].
    pub(super) fn deadline(&self) -> Instant {
        if let (true, Some(until)) = (self.outstanding.is_empty(), self.naming_until) {
            return until;
        }
        match &self.phase {
            // Everybody has answered: settle at once.
            Phase::Asking { since, unanswered, .. } if unanswered.is_empty() => *since,
            Phase::Asking { since, .. } => after(*since, self.gather),
            Phase::Waiting { until } => *until,
        }
    }

    /// Takes a return.
    pub(super) fn returned(&mut self, id: &str) {
        self.returned.insert(id.to_owned());
        self.drop(id);
    }

    /// Waits for a minion no more.
    pub(super) fn drop(&mut self, id: &str) {
        self.outstanding.remove(id);
        if let Phase::Asking { unanswered, running, .. } = &mut self.phase {
            unanswered.remove(id);
            running.remove(id);
        }
    }

    /// Takes a minion that a syndic has named; it has as much time as the others had. Tells whether it is a new one.
    pub(super) fn named(&mut self, id: &str, now: Instant) -> bool {
        if self.returned.contains(id) || !self.outstanding.insert(id.to_owned()) {
            return false;
        }
        match &mut self.phase {
            Phase::Asking { running, .. } => drop(running.insert(id.to_owned())),
            Phase::Waiting { until } => *until = (*until).max(after(now, self.timeout)),
        }
        true
    }

    /// Takes an answer to the question.
    pub(super) fn answered(&mut self, id: &str, is_running: bool) {
        if let Phase::Asking { unanswered, running, .. } = &mut self.phase
            && unanswered.remove(id)
            && is_running
        {
            running.insert(id.to_owned());
        }
    }

    /// Returns what is due now.
    pub(super) fn expired(&mut self, now: Instant) -> Due {
        if self.outstanding.is_empty() {
            return Due::GiveUp(Vec::new());
        }
        let waiting = Phase::Waiting { until: after(now, self.timeout.max(LEAST)) };
        match std::mem::replace(&mut self.phase, waiting) {
            Phase::Waiting { .. } => {
                let unanswered = self.outstanding.clone();
                self.phase = Phase::Asking { since: now, unanswered, running: BTreeSet::new() };
                Due::Ask(self.outstanding.iter().cloned().collect())
            }
            Phase::Asking { running, .. } => {
                let lost = std::mem::replace(&mut self.outstanding, running.clone());
                Due::GiveUp(lost.into_iter().filter(|id| !running.contains(id)).collect())
            }
        }
    }
}

/// Far enough away for any timeout that overflows.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

fn after(now: Instant, span: Duration) -> Instant {
    now + span.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const GATHER: Duration = Duration::from_secs(3);

    fn wait(now: Instant) -> Wait {
        Wait::new(["a", "b", "c"].map(str::to_owned), TIMEOUT, GATHER, now)
    }

    fn names(due: &Due) -> (&'static str, String) {
        match due {
            Due::Ask(ids) => ("ask", ids.join(" ")),
            Due::GiveUp(ids) => ("give up", ids.join(" ")),
        }
    }

    #[test]
    fn it_is_over_when_all_have_returned() {
        let mut wait = wait(Instant::now());
        for id in ["a", "b", "c"] {
            assert!(!wait.is_over(Instant::now()));
            wait.returned(id);
        }
        wait.returned("stranger");
        assert!(wait.is_over(Instant::now()));
    }

    #[test]
    fn those_still_running_are_waited_for_again_and_again() {
        let start = Instant::now();
        let mut wait = wait(start);
        assert_eq!(wait.deadline(), start + TIMEOUT);
        wait.returned("a");
        let now = start + TIMEOUT;
        assert_eq!(names(&wait.expired(now)), ("ask", "b c".to_owned()));
        assert_eq!(wait.deadline(), now + GATHER);
        wait.answered("b", true);
        wait.answered("c", false);
        assert!(wait.deadline() <= now, "nobody is left to answer");
        assert_eq!(names(&wait.expired(now)), ("give up", "c".to_owned()));
        assert_eq!(wait.deadline(), now + TIMEOUT);
        let now = now + TIMEOUT;
        assert_eq!(names(&wait.expired(now)), ("ask", "b".to_owned()));
        assert_eq!(names(&wait.expired(now + GATHER)), ("give up", "b".to_owned()));
        assert!(wait.is_over(Instant::now()));
    }

    #[test]
    fn a_return_between_question_and_answer_counts() {
        let start = Instant::now();
        let mut wait = wait(start);
        wait.expired(start + TIMEOUT);
        wait.returned("a");
        wait.answered("a", false);
        wait.answered("b", true);
        wait.returned("b");
        assert_eq!(names(&wait.expired(start + TIMEOUT + GATHER)), ("give up", "c".to_owned()));
        assert!(wait.is_over(Instant::now()));
    }

    #[test]
    fn a_timeout_of_nothing_does_not_flood_the_fleet() {
        let start = Instant::now();
        let mut wait = Wait::new(["a".to_owned()], Duration::ZERO, GATHER, start);
        assert_eq!(names(&wait.expired(start)), ("ask", "a".to_owned()));
        wait.answered("a", true);
        assert_eq!(names(&wait.expired(start)), ("give up", String::new()));
        assert_eq!(wait.deadline(), start + LEAST);
    }

    #[test]
    fn syndics_have_their_time_to_name_minions() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut wait = wait(start).for_syndics(Some(TIMEOUT), start);
        wait.drop("b");
        ["a", "c"].iter().for_each(|id| wait.returned(id));
        assert!(!wait.is_over(later(4)) && wait.deadline() == later(5) && wait.is_over(later(5)));
        assert!(wait.named("w", later(4)) && !wait.named("w", later(4)) && !wait.named("a", later(4)));
        assert!(!wait.is_over(later(5)));
        assert_eq!(wait.deadline(), later(9), "it has its own time");
        assert_eq!(names(&wait.expired(later(9))), ("ask", "w".to_owned()));
        wait.named("late", later(10));
        assert_eq!(names(&wait.expired(later(12))), ("give up", "w".to_owned()));
        assert_eq!(wait.deadline(), later(17), "and so has one that is named meanwhile");
        wait.returned("late");
        assert!(wait.is_over(later(12)));
    }

    #[test]
    fn any_timeout_can_be_asked_for() {
        Wait::new(["a".to_owned()], Duration::MAX, GATHER, Instant::now());
    }
}
