//! The rules of live jobs: who may return what, and who has yet to get it. Pure: time comes in as an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use proto::ids::{Jid, MinionId};
use proto::message::Publish;
use proto::value::Value;

use super::earlier::{self, Earlier};

/// How many jobs are kept in memory. A job leaves when it can neither be caught up nor be returned any more soon; the
/// oldest go first when an operator publishes faster than that. What left memory is judged from the job cache.
pub(super) const MAX_LIVE_JOBS: usize = 10_000;
/// How many minions a job waits for at most when syndics name more. What the others return is taken all the same.
const MAX_NAMED: usize = 100_000;
/// How long a job stays in memory after it has expired, so that late returns are judged without the disk.
pub(super) const KEEP_AFTER_EXPIRY_MS: u64 = 3_600_000;

/// A job that may still get returns.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) publish: Arc<Publish>,
    /// Who it is for and has neither returned nor said that it is not meant.
    pub(super) outstanding: HashSet<MinionId>,
    /// Who has returned.
    pub(super) returned: HashSet<MinionId>,
    /// Who was away when it was published, and has not come for it.
    pub(super) missed: HashSet<MinionId>,
}

impl Live {
    /// Returns whom it is for.
    fn minions(&self) -> impl Iterator<Item = &MinionId> {
        self.outstanding.union(&self.returned)
    }

    /// Returns who may still return something: once the job has expired, those who never heard of it do not.
    pub(super) fn owing(&self, now_ms: u64) -> impl Iterator<Item = &MinionId> {
        let is_over = self.publish.expires_ms <= now_ms;
        self.outstanding.iter().filter(move |id| !is_over || !self.missed.contains(*id))
    }
}

/// Whom a job is for, as far as is known when it becomes live.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// All it is for.
    pub(super) minions: HashSet<MinionId>,
    /// Who of them has returned.
    pub(super) returned: HashSet<MinionId>,
    /// Who of them is not known to have heard of it.
    pub(super) missed: HashSet<MinionId>,
}

/// What to do with a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Log it under this jid.
    Accept(Jid),
    /// It is there already: acknowledge and drop.
    Duplicate,
    /// It is not this minion's to give: count, acknowledge and drop.
    Refuse,
    /// It came before, and it is not known yet whether that got into the log: neither acknowledge nor drop.
    Undecided,
    /// A minion that decides by itself whether a job means it was not among the recipients: log it, marked.
    Unexpected(Jid),
}

/// Who decides whether a minion belongs to the recipients of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// The minion: on the Salt wire all hear a job, and each looks whether it is meant.
    Itself,
    /// The master: on the native wire nobody else gets the job.
    Recipient,
    /// The master below a syndic: who it is for is told on the way, sooner or later than what they return.
    Syndic,
}

impl Membership {
    /// Judges the return of somebody who was not among the recipients.
    pub(super) fn verdict(self, jid: Jid) -> Verdict {
        match self {
            Membership::Itself => Verdict::Unexpected(jid),
            Membership::Recipient => Verdict::Refuse,
            Membership::Syndic => Verdict::Accept(jid),
        }
    }
}

/// What memory knows of a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// The job is live: this is the verdict.
    Live(Verdict),
    /// Ask the job cache.
    Unknown,
}

/// All live jobs.
#[derive(Debug, Default)]
pub(super) struct JobsState {
    live: HashMap<Jid, Live>,
    /// By serial, oldest first. While the log is degraded, several jobs share the serial of its head.
    order: BTreeSet<(u64, Jid)>,
    /// What each minion still owes, by serial: a session that opens asks for nothing else.
    owed: HashMap<MinionId, BTreeSet<(u64, Jid)>>,
    /// Returns that were admitted and are on their way into the log: no more than the sessions' windows hold.
    undecided: HashSet<(Jid, MinionId)>,
    last_jid_us: i64,
    serial: u64,
}

impl JobsState {
    /// Makes a jid that no other job of this process has.
    pub(super) fn allocate(&mut self, now_us: i64) -> Jid {
        self.last_jid_us = now_us.max(self.last_jid_us + 1);
        Jid::at(self.last_jid_us)
    }

    /// Takes in a published job; forgets the oldest when there are too many.
    pub(super) fn insert(&mut self, publish: Arc<Publish>, told: Told) {
        self.serial = self.serial.max(publish.serial);
        if self.contains(&publish.jid) {
            return self.widen(&publish, told);
        }
        let Told { minions, returned, missed } = told;
        self.order.insert((publish.serial, publish.jid.clone()));
        let outstanding: HashSet<MinionId> = minions.difference(&returned).cloned().collect();
        for id in &outstanding {
            self.owed.entry(id.clone()).or_default().insert((publish.serial, publish.jid.clone()));
        }
        self.live.insert(publish.jid.clone(), Live { publish, outstanding, returned, missed });
        while self.live.len() > MAX_LIVE_JOBS {
            let Some((_, oldest)) = self.order.first().cloned() else { break };
            self.forget(&oldest);
        }
    }

    /// Takes in a further part of a job. Who comes back for it gets it in a publication that means all its parts.
    fn widen(&mut self, part: &Publish, told: Told) {
        let Some(job) = self.live.get_mut(&part.jid) else { return };
        let fresh = told.minions.into_iter().filter(|id| !job.returned.contains(id));
        for id in fresh {
            self.owed.entry(id.clone()).or_default().insert((job.publish.serial, part.jid.clone()));
            job.outstanding.insert(id);
        }
        job.missed.extend(told.missed);
        let Publish { jid, serial, expires_ms, mut load } = (*job.publish).clone();
        earlier::address(&mut load, job.minions().map(Value::from).collect());
        job.publish = Arc::new(Publish { jid, serial, expires_ms: expires_ms.max(part.expires_ms), load });
    }

    /// Returns what is known of a live job.
    pub(super) fn earlier(&self, jid: &Jid) -> Option<Earlier> {
        let job = self.live.get(jid)?;
        Some(Earlier::of(&job.publish.load, job.minions().cloned().collect()))
    }

    /// Tells whether a jid is in use.
    pub(super) fn contains(&self, jid: &Jid) -> bool {
        self.live.contains_key(jid)
    }

    /// Judges a return and, if it is accepted, notes that it came.
    pub(super) fn admit(&mut self, id: &MinionId, jid: &Jid, membership: Membership) -> Known {
        if self.undecided.contains(&(jid.clone(), id.clone())) {
            return Known::Live(Verdict::Undecided);
        }
        let Some(job) = self.live.get_mut(jid) else { return Known::Unknown };
        if job.returned.contains(id) {
            return Known::Live(Verdict::Duplicate);
        }
        if !job.outstanding.remove(id) {
            let verdict = membership.verdict(jid.clone());
            if verdict != Verdict::Refuse {
                job.returned.insert(id.clone());
            }
            return Known::Live(verdict);
        }
        job.returned.insert(id.clone());
        let serial = job.publish.serial;
        self.settle(id, serial, jid);
        Known::Live(Verdict::Accept(jid.clone()))
    }

    /// Notes that a return is on its way into the log.
    pub(super) fn admitted(&mut self, id: &MinionId, jid: &Jid) {
        self.undecided.insert((jid.clone(), id.clone()));
    }

    /// Notes that an admitted return is in the log.
    pub(super) fn logged(&mut self, id: &MinionId, jid: &Jid) {
        self.undecided.remove(&(jid.clone(), id.clone()));
    }

    /// Takes back an admitted return that could not be logged: the minion will send it again.
    pub(super) fn take_back(&mut self, id: &MinionId, jid: &Jid) {
        self.undecided.remove(&(jid.clone(), id.clone()));
        if let Some(job) = self.live.get_mut(jid)
            && job.returned.remove(id)
        {
            job.outstanding.insert(id.clone());
            self.owed.entry(id.clone()).or_default().insert((job.publish.serial, jid.clone()));
        }
    }

    /// Adds the minions that a syndic has named to those that a job is for. The syndic runs nothing itself: unless it names
    /// its own id, which a minion beside it may have, nobody waits for it.
    pub(super) fn extend(&mut self, jid: &Jid, syndic: &MinionId, minions: Vec<MinionId>) {
        let Some(job) = self.live.get_mut(jid) else { return };
        let names_itself = minions.contains(syndic);
        let serial = job.publish.serial;
        let room = MAX_NAMED.saturating_sub(job.outstanding.len());
        let fresh: Vec<MinionId> = minions.into_iter().filter(|id| !job.returned.contains(id)).take(room).collect();
        // They have no session here, so nobody comes and asks for what they owe.
        job.outstanding.extend(fresh);
        if !names_itself && job.outstanding.remove(syndic) {
            self.settle(syndic, serial, jid);
        }
    }

    /// Notes that a minion is not meant by a job after all; tells whether it was until now.
    pub(super) fn no_match(&mut self, id: &MinionId, jid: &Jid) -> bool {
        let Some(job) = self.live.get_mut(jid) else { return false };
        let was_meant = job.outstanding.remove(id);
        let serial = job.publish.serial;
        if was_meant {
            self.settle(id, serial, jid);
        }
        was_meant
    }

    /// Returns the jobs that a minion may still take, oldest first; it has heard of them then.
    pub(super) fn since(&mut self, id: &MinionId, now_ms: u64) -> Vec<Arc<Publish>> {
        let mut jobs = Vec::new();
        for (_, jid) in self.owed.get(id).into_iter().flatten() {
            let Some(job) = self.live.get_mut(jid).filter(|job| job.publish.expires_ms > now_ms) else { continue };
            job.missed.remove(id);
            jobs.push(Arc::clone(&job.publish));
        }
        jobs
    }

    /// Notes that a minion owes a return no more.
    fn settle(&mut self, id: &MinionId, serial: u64, jid: &Jid) {
        if let Some(owed) = self.owed.get_mut(id) {
            owed.remove(&(serial, jid.clone()));
            if owed.is_empty() {
                self.owed.remove(id);
            }
        }
    }

    /// Forgets a job and all that is owed for it.
    fn forget(&mut self, jid: &Jid) {
        let Some(job) = self.live.remove(jid) else { return };
        let serial = job.publish.serial;
        self.order.remove(&(serial, jid.clone()));
        for id in &job.outstanding {
            self.settle(id, serial, jid);
        }
    }

    /// Returns the last serial that was used.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Returns all live jobs that somebody may still return something for, oldest first.
    pub(super) fn active(&self, now_ms: u64) -> impl Iterator<Item = &Live> {
        let jobs = self.order.iter().filter_map(|(_, jid)| self.live.get(jid));
        jobs.filter(move |job| job.owing(now_ms).next().is_some())
    }

    /// Forgets jobs that expired long ago.
    pub(super) fn expire(&mut self, now_ms: u64) {
        let old = |job: &Live| job.publish.expires_ms + KEEP_AFTER_EXPIRY_MS < now_ms;
        let gone: Vec<Jid> = self.live.values().filter(|job| old(job)).map(|job| job.publish.jid.clone()).collect();
        gone.iter().for_each(|jid| self.forget(jid));
    }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn id(text: &str) -> MinionId {
        MinionId::parse(text).unwrap()
    }

    fn job(state: &mut JobsState, serial: u64, minions: &[&str]) -> Jid {
        let jid = state.allocate(1_795_218_752_821_625);
        let publish = Publish { jid: jid.clone(), serial, expires_ms: 1_000, load: map! { "fun" => "test.ping" } };
        let minions = minions.iter().map(|text| id(text)).collect();
        state.insert(Arc::new(publish), Told { minions, ..Told::default() });
        jid
    }

    #[test]
    fn a_return_counts_once_and_only_from_a_recipient() {
        let mut state = JobsState::default();
        let jid = job(&mut state, 1, &["a", "b"]);
        assert_eq!(state.admit(&id("a"), &jid, Membership::Recipient), Known::Live(Verdict::Accept(jid.clone())));
        state.admitted(&id("a"), &jid);
        let again = state.admit(&id("a"), &jid, Membership::Recipient);
        assert_eq!(again, Known::Live(Verdict::Undecided), "its first copy may still fail");
        state.logged(&id("a"), &jid);
        assert_eq!(state.admit(&id("a"), &jid, Membership::Recipient), Known::Live(Verdict::Duplicate));
        assert_eq!(state.admit(&id("c"), &jid, Membership::Recipient), Known::Live(Verdict::Refuse));
        assert_eq!(state.admit(&id("b"), &Jid::at(5), Membership::Recipient), Known::Unknown);
    }

    #[test]
    fn a_minion_that_matched_by_itself_counts_once_and_is_marked() {
        let mut state = JobsState::default();
        let jid = job(&mut state, 1, &["a"]);
        let unexpected = Known::Live(Verdict::Unexpected(jid.clone()));
        assert_eq!(state.admit(&id("c"), &jid, Membership::Itself), unexpected);
        assert_eq!(state.admit(&id("c"), &jid, Membership::Itself), Known::Live(Verdict::Duplicate));
        state.take_back(&id("c"), &jid);
        assert_eq!(state.admit(&id("c"), &jid, Membership::Itself), Known::Live(Verdict::Accept(jid)));
    }

    #[test]
    fn a_syndic_adds_its_minions_and_is_not_waited_for_itself() {
        let mut state = JobsState::default();
        let jid = job(&mut state, 1, &["a", "low"]);
        let owing = |state: &JobsState| {
            let mut ids: Vec<_> = state.active(0).flat_map(|job| job.owing(0)).map(ToString::to_string).collect();
            ids.sort();
            ids.join(" ")
        };
        let accepted = Known::Live(Verdict::Accept(jid.clone()));
        assert_eq!(state.admit(&id("early"), &jid, Membership::Syndic), accepted, "it is not marked");
        state.extend(&jid, &id("low"), ["early", "b"].map(id).into());
        assert_eq!(owing(&state), "a b");
        assert!(state.since(&id("low"), 0).is_empty());
        state.extend(&jid, &id("low"), ["low"].map(id).into());
        assert_eq!(owing(&state), "a b low", "the minion beside the syndic");
        assert_eq!(state.admit(&id("b"), &jid, Membership::Syndic), accepted);
        assert_eq!(state.admit(&id("b"), &jid, Membership::Syndic), Known::Live(Verdict::Duplicate));
        state.extend(&Jid::at(5), &id("low"), vec![id("b")]);
        state.extend(&jid, &id("low"), (0..=MAX_NAMED).map(|number| id(&format!("w{number}"))).collect());
        assert_eq!(state.active(0).flat_map(|job| job.owing(0)).count(), MAX_NAMED - 1, "without the syndic");
        state.forget(&jid);
        assert!(state.owed.is_empty() && state.order.is_empty());
    }

    #[test]
    fn a_return_that_was_not_logged_may_come_again() {
        let mut state = JobsState::default();
        let jid = job(&mut state, 1, &["a"]);
        state.admit(&id("a"), &jid, Membership::Recipient);
        state.take_back(&id("a"), &jid);
        assert_eq!(state.admit(&id("a"), &jid, Membership::Recipient), Known::Live(Verdict::Accept(jid)));
    }

    #[test]
    fn an_expired_job_is_not_waited_for_by_those_who_never_heard_of_it() {
        let mut state = JobsState::default();
        let jid = state.allocate(1_795_218_752_821_625);
        let publish = Publish { jid, serial: 1, expires_ms: 1_000, load: map! { "fun" => "test.ping" } };
        let [all, missed] = [&["a", "b", "c"][..], &["b", "c"]].map(|ids| ids.iter().map(|text| id(text)).collect());
        state.insert(Arc::new(publish), Told { minions: all, missed, ..Told::default() });
        state.since(&id("b"), 999);
        state.since(&id("c"), 1_000);
        let owing = |state: &JobsState, now_ms| {
            let mut owing: Vec<String> =
                state.active(now_ms).flat_map(|job| job.owing(now_ms)).map(ToString::to_string).collect();
            owing.sort();
            owing.join(" ")
        };
        assert_eq!((owing(&state, 999), owing(&state, 1_000)), ("a b c".to_owned(), "a b".to_owned()));
    }

    #[test]
    fn who_comes_back_gets_what_it_still_owes() {
        let mut state = JobsState::default();
        let first = job(&mut state, 1, &["a", "b"]);
        let second = job(&mut state, 2, &["a"]);
        let third = job(&mut state, 3, &["a"]);
        state.admit(&id("a"), &second, Membership::Recipient);
        assert!(state.no_match(&id("a"), &third));
        assert!(
            !state.no_match(&id("a"), &third) && !state.no_match(&id("b"), &second),
            "told once, by those it is for"
        );
        let jids = |list: Vec<Arc<Publish>>| list.iter().map(|publish| publish.jid.clone()).collect::<Vec<_>>();
        assert_eq!(jids(state.since(&id("a"), 0)), [first]);
        assert!(state.since(&id("a"), 1_000).is_empty(), "expired jobs are not started");
        assert_eq!(state.serial(), 3);
    }

    #[test]
    fn jids_differ_even_within_a_microsecond() {
        let mut state = JobsState::default();
        assert_ne!(state.allocate(7), state.allocate(7));
        assert!(state.allocate(3) > state.allocate(1).min(Jid::at(0)), "a clock that goes back does not matter");
    }

    #[test]
    fn memory_is_bounded() {
        let mut state = JobsState::default();
        let first = job(&mut state, 1, &["a"]);
        for serial in 2..=MAX_LIVE_JOBS as u64 + 1 {
            job(&mut state, serial, &["a"]);
        }
        assert!(!state.contains(&first));
        state.expire(1_001 + KEEP_AFTER_EXPIRY_MS);
        assert_eq!(state.active(0).count(), 0);
        assert!(state.owed.is_empty() && state.order.is_empty());
    }
}
