//! What must be true: every promise that a host made, and what the log holds. Knows nothing of how either came about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use master::bus::Event;
use proto::message::Spooled;
use proto::msgpack;
use proto::value::{MapExt, Value};

/// How safe an event is on its minion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// Nothing is promised: it may be lost, but may not come twice.
    Open,
    /// It is in the spool's file: a kill does not take it.
    Stored,
    /// It is on the disk for good.
    Synced,
    /// The minion was told that the master has it.
    Acknowledged,
}

/// A job as its publisher saw it.
#[derive(Debug)]
pub(super) struct Job {
    /// Every minion is to answer it: it lives longer than the history.
    pub(super) lasts: bool,
    /// Its announcement is in the log.
    logged: bool,
}

/// What an event of the reactor's rule has set off.
#[derive(Debug, Default)]
struct Reactions {
    /// The jobs: one, in the log or not.
    jids: BTreeSet<String>,
    /// The key of the event, once it is in the log.
    key: Option<String>,
}

/// One return of one minion.
type Answer = (usize, String);

/// Everything that was promised, done and found.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    events: Vec<Vec<Fate>>,
    /// Where each event first came in from.
    places: HashMap<(usize, usize), Spooled>,
    jobs: BTreeMap<String, Job>,
    runs: HashMap<Answer, u32>,
    /// Returns that are on their minion's disk.
    kept: HashSet<Answer>,
    acknowledged: HashSet<Answer>,
    offsets: BTreeMap<u64, String>,
    logged: HashMap<(usize, usize), u64>,
    answers: HashMap<Answer, String>,
    /// By the tag of an event that the reactor's rule matches.
    reactions: BTreeMap<String, Reactions>,
    /// The events of these that are in the log.
    acts: BTreeSet<String>,
    /// The reactions that are noted as done: on the disk for good, or as far as the process is concerned.
    noted: [HashSet<i64>; 2],
    /// The highest offset that anybody was told of.
    pub(super) head: u64,
    broken: Option<String>,
}

impl Ledger {
    pub(super) fn new(minions: usize) -> Ledger {
        Ledger { events: vec![Vec::new(); minions], ..Ledger::default() }
    }

    /// Returns the first promise that was broken.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Notes a new event and returns its number.
    pub(super) fn fired(&mut self, minion: usize) -> usize {
        self.events[minion].push(Fate::Open);
        self.events[minion].len() - 1
    }

    /// Notes that an event is at least this safe.
    pub(super) fn safe(&mut self, minion: usize, number: usize, fate: Fate) {
        let known = &mut self.events[minion][number];
        *known = fate.max(*known);
    }

    /// Takes promises back that a crash may break: events that were less safe than this.
    pub(super) fn crashed(&mut self, minion: usize, least: Fate) {
        self.events[minion].iter_mut().filter(|fate| **fate < least).for_each(|fate| *fate = Fate::Open);
    }

    /// Everything that is in the file is on the disk now.
    pub(super) fn synced(&mut self, minion: usize) {
        self.events[minion].iter_mut().filter(|fate| **fate == Fate::Stored).for_each(|fate| *fate = Fate::Synced);
    }

    /// Notes the place under which an event came in: it has one only, whatever happens to its minion.
    pub(super) fn arrived(&mut self, minion: usize, number: usize, at: Spooled) {
        let first = *self.places.entry((minion, number)).or_insert(at);
        if first != at {
            self.breaks(format!("event {number} of m{minion} came under n {} and n {}", first.n, at.n));
        }
    }

    pub(super) fn published(&mut self, jid: &str, lasts: bool) {
        self.jobs.entry(jid.to_owned()).or_insert(Job { lasts, logged: false });
    }

    /// Notes that the reactor publishes a job because of an event.
    pub(super) fn reacted(&mut self, about: &str, jid: &str) {
        let jids = &mut self.reactions.entry(about.to_owned()).or_default().jids;
        jids.insert(jid.to_owned());
        if jids.len() > 1 {
            let text = format!("{about} has set off the jobs {jids:?}");
            self.breaks(text);
        }
    }

    /// Notes that a reaction was noted as done: its process will not take it up again.
    pub(super) fn noted(&mut self, number: i64) {
        self.noted[1].insert(number);
    }

    /// What was noted so far is on the disk for good.
    pub(super) fn notes_synced(&mut self) {
        let [synced, open] = &mut self.noted;
        synced.extend(open.drain());
    }

    /// Takes back what a power cut may take.
    pub(super) fn master_ended(&mut self, power: bool) {
        if power {
            self.noted[1].clear();
        } else {
            self.notes_synced();
        }
    }

    /// Notes which reactions a new process takes up.
    pub(super) fn takes_up(&mut self, numbers: &[i64]) {
        if let Some(number) = numbers.iter().find(|number| self.noted[0].contains(number)) {
            self.breaks(format!("reaction {number} was done, and is taken up again"));
        }
    }

    /// Notes that a job starts.
    pub(super) fn ran(&mut self, minion: usize, jid: &str) {
        let runs = self.runs.entry((minion, jid.to_owned())).or_default();
        *runs += 1;
        if *runs > 1 {
            let runs = *runs;
            self.breaks(format!("job {jid} ran {runs} times on m{minion}"));
        }
    }

    /// Notes that a return is on the minion's disk.
    pub(super) fn kept(&mut self, minion: usize, jid: &str) {
        self.kept.insert((minion, jid.to_owned()));
    }

    /// Notes that a minion was told that the master has a return.
    pub(super) fn answered(&mut self, minion: usize, jid: &str) {
        self.acknowledged.insert((minion, jid.to_owned()));
    }

    /// Takes in events that were not in the log before.
    pub(super) fn found(&mut self, events: &[Event]) {
        for event in events {
            let tag = event.tag.as_str().to_owned();
            let last = self.offsets.last_key_value().map_or(0, |(offset, _)| *offset);
            if event.offset <= last.max(self.head) && event.offset <= last {
                self.breaks(format!("offset {} was given to {tag} after {last} was", event.offset));
            }
            self.offsets.insert(event.offset, tag.clone());
            self.sort(event, &tag);
        }
        self.head = self.head.max(self.offsets.last_key_value().map_or(0, |(offset, _)| *offset));
    }

    fn sort(&mut self, event: &Event, tag: &str) {
        let parts: Vec<&str> = tag.split('/').collect();
        match parts[..] {
            ["sim" | "act", minion, number] => {
                let (Some(minion), Ok(number)) = (index(minion), number.parse()) else { return };
                if parts[0] == "act" {
                    self.acts.insert(tag.to_owned());
                }
                if self.logged.insert((minion, number), event.offset).is_some() {
                    self.breaks(format!("event {number} of m{minion} is in the log twice"));
                }
            }
            ["salt", "job", jid, "new"] => {
                if let Some(job) = self.jobs.get_mut(jid)
                    && std::mem::replace(&mut job.logged, true)
                {
                    self.breaks(format!("the job {jid} is in the log twice"));
                }
                let data = msgpack::decode_map(&event.data).unwrap_or_default();
                let about = data.at("arg").and_then(Value::as_list).and_then(|arg| arg.get(1)?.as_str());
                about.into_iter().for_each(|about| self.reacted(about, jid));
            }
            ["reacted", ..] => {
                let data = msgpack::decode_map(&event.data).unwrap_or_default();
                let key = data.text("_reaction").map(str::to_owned);
                let known = &mut self.reactions.entry(tag.trim_start_matches("reacted/").to_owned()).or_default().key;
                let first = known.get_or_insert_with(|| key.clone().unwrap_or_default());
                if Some(&*first) != key.as_ref() {
                    self.breaks(format!("{tag} has the key {key:?}, and had another one before"));
                }
            }
            ["salt", "job", jid, "ret", id] => {
                let data = msgpack::decode_map(&event.data).unwrap_or_default();
                let value = data.text("return").unwrap_or_default().to_owned();
                let Some(minion) = index(id) else { return };
                if self.answers.insert((minion, jid.to_owned()), value).is_some() {
                    self.breaks(format!("the return of m{minion} for {jid} is in the log twice"));
                }
            }
            _ => {}
        }
    }

    /// Compares the whole log with what was seen in it before a crash, and with what was acknowledged.
    pub(super) fn reread(&mut self, events: &[Event]) {
        let now: BTreeMap<u64, &str> = events.iter().map(|event| (event.offset, event.tag.as_str())).collect();
        let gone = self.offsets.iter().find(|(offset, tag)| now.get(offset) != Some(&tag.as_str()));
        if let Some((offset, tag)) = gone {
            let text = format!("offset {offset} was {tag} and is {:?} now", now.get(offset));
            return self.breaks(text);
        }
        let known = self.offsets.last_key_value().map_or(0, |(offset, _)| *offset);
        let (old, new): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| event.offset <= known);
        if old.len() != self.offsets.len() {
            return self.breaks("an offset was filled that had been passed over".to_owned());
        }
        self.found(&new);
        self.acknowledged_is_logged();
    }

    fn acknowledged_is_logged(&mut self) {
        for minion in 0..self.events.len() {
            for number in 0..self.events[minion].len() {
                let told = self.events[minion][number] == Fate::Acknowledged;
                if told && !self.logged.contains_key(&(minion, number)) {
                    self.breaks(format!("event {number} of m{minion} was acknowledged and is not in the log"));
                }
            }
        }
        let lost = self.acknowledged.iter().filter(|answer| !self.answers.contains_key(*answer)).min();
        if let Some((minion, jid)) = lost {
            let text = format!("the return of m{minion} for {jid} was acknowledged and is not in the log");
            self.breaks(text);
        }
    }

    /// Returns what is still to come; nothing once everything that was promised is there.
    pub(super) fn missing(&self) -> Option<String> {
        for (minion, events) in self.events.iter().enumerate() {
            let lost = |number: &usize| events[*number] > Fate::Open && !self.logged.contains_key(&(minion, *number));
            if let Some(number) = (0..events.len()).find(lost) {
                return Some(format!("event {number} of m{minion} ({:?}) never came", events[number]));
            }
        }
        for (jid, _) in self.jobs.iter().filter(|(_, job)| job.lasts && job.logged) {
            let silent = |minion: &usize| !self.answers.contains_key(&(*minion, jid.clone()));
            if let Some(minion) = (0..self.events.len()).find(silent) {
                return Some(format!("m{minion} never answered the job {jid}"));
            }
        }
        for act in &self.acts {
            let known = self.reactions.get(act);
            if known.is_none_or(|known| known.jids.is_empty() || known.key.is_none()) {
                return Some(format!("{act} is in the log, and has set off {known:?}"));
            }
        }
        let vanished = self.runs.keys().filter(|answer| !self.answers.contains_key(*answer)).min();
        vanished.map(|(minion, jid)| format!("the job {jid} ran on m{minion} and its return never came"))
    }

    /// Judges the whole history, when it is over.
    pub(super) fn close(&mut self) {
        self.acknowledged_is_logged();
        if let Some(missing) = self.missing() {
            self.breaks(missing);
        }
        for minion in 0..self.events.len() {
            self.order(minion);
        }
        let wrong = self.kept.iter().filter(|answer| self.answers.get(*answer).is_some_and(|value| value != "done"));
        if let Some((minion, jid)) = wrong.min().cloned() {
            self.breaks(format!("m{minion} had kept the result of {jid}, and returned something else"));
        }
        let strange =
            self.answers.iter().filter(|(answer, value)| *value == "done" && !self.runs.contains_key(*answer));
        if let Some(((minion, jid), _)) = strange.min() {
            let text = format!("m{minion} returned a result of {jid}, which it never ran");
            self.breaks(text);
        }
    }

    /// Within one spool, the log has events in the order in which they were fired.
    fn order(&mut self, minion: usize) {
        let mut found: Vec<(u64, usize, Spooled)> = Vec::new();
        for ((_, number), offset) in self.logged.iter().filter(|((of, _), _)| *of == minion) {
            found.extend(self.places.get(&(minion, *number)).map(|at| (*offset, *number, *at)));
        }
        found.sort_unstable_by_key(|(offset, ..)| *offset);
        let mut last: HashMap<[u8; 16], (u64, usize)> = HashMap::new();
        for (_, number, at) in found {
            if let Some((n, before)) = last.insert(at.spool, (at.n, number))
                && (n > at.n || before > number)
            {
                self.breaks(format!("event {number} of m{minion} stands behind event {before} in the log"));
            }
        }
    }

    /// Counts what the history consisted of: events, and returns, in the log.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.logged.len(), self.answers.len())
    }
}

fn index(id: &str) -> Option<usize> {
    id.strip_prefix('m')?.parse().ok()
}
