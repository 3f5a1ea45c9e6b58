//! One minion on Salt's wire, without sockets, clock and randomness: payloads in, payloads out. What it can ask, it asks one
//! after the other, as a REQ does; what a master that has changed its keys does not open is asked once more.

use std::collections::VecDeque;

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::salt::Nonce;
use proto::salt::crypticle::{SessionKey, SharedKey};
use proto::salt::publish::{BadPublication, Ear};
use proto::salt::request::{Asker, Fresh, open_reply};
use proto::target::{Facts, Target};
use proto::value::{Map, MapExt, Value};

use super::super::life::Life;
use super::super::minion::{Answers, Now};
use super::super::tally::Totals;

/// Jids that a minion remembers: Salt's `minion_jid_queue_hwm`.
const REMEMBERED: usize = 100;
/// Requests that may wait; with more, no further event is taken. Jobs are answered all the same, a master is not asked to
/// repeat them.
const MAX_WAITING: usize = 64;

/// Publications that may wait for new keys; more are lost, and counted as not understood.
const MAX_UNOPENED: usize = 16;

/// What a request is for.
#[derive(Debug)]
enum Note {
    /// So many events, fired then.
    Events { count: u64, fired_us: u64 },
    /// The return of a job.
    Return(Jid),
    /// The last of the start-up.
    Started,
    /// Nothing that is counted.
    Untold,
}

/// A request that is not answered.
struct Asked {
    load: Map,
    note: Note,
    /// It was asked before, and what came back made no sense.
    again: bool,
}

/// What a payload has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is done with.
    Taken,
    /// The keys are not the master's any more: the minion has to authenticate anew.
    Strange,
}

/// What a minion is once it is accepted.
struct Keys {
    session: SessionKey,
    ear: Ear,
}

/// One minion.
pub(super) struct SaltMinion {
    asker: Asker,
    keys: Option<Keys>,
    waiting: VecDeque<Asked>,
    flying: Option<(Nonce, Asked)>,
    /// The master has shown that it has other keys.
    stale: bool,
    /// Publications under keys that are not known yet.
    unopened: Vec<Vec<u8>>,
    seen: VecDeque<Jid>,
    life: Life,
    fired: u64,
}

impl SaltMinion {
    /// Makes a minion that has no keys yet.
    pub(super) fn new(asker: Asker) -> SaltMinion {
        SaltMinion {
            asker,
            keys: None,
            waiting: VecDeque::new(),
            flying: None,
            stale: false,
            unopened: Vec::new(),
            seen: VecDeque::new(),
            life: Life::New,
            fired: 0,
        }
    }

    /// Returns the id.
    pub(super) fn id(&self) -> &MinionId {
        &self.asker.id
    }

    /// Tells whether it must authenticate, and may: nothing is under way.
    pub(super) fn wants_keys(&self) -> bool {
        (self.stale || self.keys.is_none()) && self.flying.is_none()
    }

    /// Tells whether a request waits for its answer.
    pub(super) fn is_asking(&self) -> bool {
        self.flying.is_some()
    }

    /// Tells whether events can be fired.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Takes the keys of an acceptance. What did not open under the old ones is opened once more.
    pub(super) fn accepted(&mut self, (session, shared): (SessionKey, SharedKey), cx: &Answers, totals: &mut Totals) {
        // As a minion of Salt's by default, it does not ask for signed publications.
        self.keys = Some(Keys { session, ear: Ear::new(shared, None) });
        self.stale = false;
        for payload in std::mem::take(&mut self.unopened) {
            if !self.opens(&payload, cx, totals) {
                totals.count.not_understood += 1;
            }
        }
    }

    /// Returns the request for the pillar, which is answered under a key of its own.
    pub(super) fn ask_pillar(&self, fresh: &Fresh) -> Option<Vec<u8>> {
        let load = map! {
            "id" => self.id(), "grains" => grains(self.id()), "saltenv" => Value::Null, "pillarenv" => Value::Null,
            "pillar_override" => Map::new(), "extra_minion_data" => Map::new(), "ver" => "2", "cmd" => "_pillar",
        };
        Some(self.asker.seal(&self.keys.as_ref()?.session, fresh, load))
    }

    /// Queues the events of a start; when the last is answered, the minion counts as live.
    pub(super) fn started(&mut self, now: Now) {
        let id = self.id().clone();
        let text = format!("Minion {id} started at {}", now.unix_ms / 1_000);
        // The last goes to the front first.
        for (tag, note) in
            [(format!("salt/minion/{id}/start"), Note::Started), ("minion_start".to_owned(), Note::Untold)]
        {
            let load = map! {
                "id" => &id, "cmd" => "_minion_event", "pretag" => Value::Null, "data" => text.as_str(), "tag" => tag,
            };
            self.waiting.push_front(Asked { load, note, again: false });
        }
    }

    /// Queues so many events as one load.
    pub(super) fn fire(&mut self, (count, fired_us): (usize, u64), cx: &Answers) {
        let id = self.id().clone();
        let event = |number: u64| {
            let data = map! { "id" => &id, "number" => number, "padding" => cx.padding() };
            Value::Map(map! { "tag" => format!("salt/beacon/{id}/swarm/{number}"), "data" => data })
        };
        let count = count as u64;
        let events: Vec<Value> = (self.fired + 1..=self.fired + count).map(event).collect();
        self.fired += count;
        let load = map! { "id" => &id, "cmd" => "_minion_event", "pretag" => Value::Null, "events" => events };
        self.waiting.push_back(Asked { load, note: Note::Events { count, fired_us }, again: false });
    }

    /// Returns the next request, if none is under way and there are keys.
    pub(super) fn next_request(&mut self, fresh: &Fresh) -> Option<Vec<u8>> {
        if self.flying.is_some() || self.stale {
            return None;
        }
        let keys = self.keys.as_ref()?;
        let asked = self.waiting.pop_front()?;
        let payload = self.asker.seal(&keys.session, fresh, asked.load.clone());
        self.flying = Some((fresh.nonce, asked));
        Some(payload)
    }

    /// Takes the answer to the request that is under way.
    pub(super) fn answered(&mut self, now: Now, payload: &[u8], totals: &mut Totals) -> Heard {
        let Some((nonce, asked)) = self.flying.take() else {
            totals.count.not_understood += 1;
            return Heard::Taken;
        };
        let opened = self.keys.as_ref().map(|keys| open_reply(&keys.session, &nonce, payload));
        match opened {
            Some(Ok(value)) if *value.get() == Value::Null => self.done(now, asked.note, totals),
            // Opened, and still no thanks: the master's handler has failed.
            Some(Ok(_)) => give_up(&asked.note, totals),
            Some(Err(_)) | None if asked.again => give_up(&asked.note, totals),
            Some(Err(_)) | None => {
                self.waiting.push_front(Asked { again: true, ..asked });
                self.stale = true;
                return Heard::Strange;
            }
        }
        Heard::Taken
    }

    /// Takes the payload of a publication.
    pub(super) fn published(&mut self, payload: &[u8], cx: &Answers, totals: &mut Totals) -> Heard {
        if self.opens(payload, cx, totals) {
            return Heard::Taken;
        }
        self.stale = true;
        match self.unopened.len() < MAX_UNOPENED {
            true => self.unopened.push(payload.to_vec()),
            false => totals.count.not_understood += 1,
        }
        Heard::Strange
    }

    /// Takes a publication, unless it is under another key.
    fn opens(&mut self, payload: &[u8], cx: &Answers, totals: &mut Totals) -> bool {
        let Some(keys) = &mut self.keys else { return false };
        match keys.ear.open(payload) {
            Ok(load) => self.job(load.get(), cx, totals),
            Err(BadPublication::Replayed { .. }) => totals.count.duplicates += 1,
            Err(BadPublication::Content(_)) => return false,
            Err(_) => totals.count.not_understood += 1,
        }
        true
    }

    /// Forgets keys and connections; what was not answered is asked again.
    pub(super) fn closed(&mut self, totals: &mut Totals) {
        self.life.end(totals);
        (self.keys, self.stale) = (None, false);
        if let Some((_, asked)) = self.flying.take() {
            self.waiting.push_front(asked);
        }
        self.waiting.retain(|asked| !matches!(asked.note, Note::Started | Note::Untold));
    }

    fn done(&mut self, now: Now, note: Note, totals: &mut Totals) {
        match note {
            Note::Events { count, fired_us } => {
                (0..count).for_each(|_| totals.event_acknowledged(now.us.saturating_sub(fired_us)));
            }
            Note::Return(jid) => totals.return_acknowledged(jid, now.at),
            Note::Started => self.life.begin(totals),
            Note::Untold => {}
        }
    }

    fn job(&mut self, load: &Map, cx: &Answers, totals: &mut Totals) {
        let Some(jid) = load.text("jid").and_then(|jid| Jid::parse(jid).ok()) else {
            totals.count.not_understood += 1;
            return;
        };
        let grains = grains(self.id());
        let facts = Facts { id: self.id().as_str(), grains: &grains };
        // Every minion hears of every job: the target alone says whose it is.
        if !Target::of(load).is_ok_and(|target| target.matches(facts) == Ok(true)) {
            return;
        }
        totals.count.publications += 1;
        if self.seen.contains(&jid) {
            totals.count.duplicates += 1;
            return;
        }
        self.seen.push_back(jid.clone());
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        let load = self.answer(load, &jid, cx);
        self.waiting.push_back(Asked { load, note: Note::Return(jid), again: false });
        totals.count.returns += 1;
    }

    fn answer(&self, load: &Map, jid: &Jid, cx: &Answers) -> Map {
        let mut ret = cx.answer(load, jid);
        if load.text("fun") == Some("saltutil.find_job") {
            // Whatever is asked for, it is answered already.
            ret.set("return", Map::new());
            ret.set("retcode", 0);
            ret.set("success", true);
        } else if ret.at("success") == Some(&Value::Bool(false)) {
            ret.set("retcode", 1);
        }
        ret.set("id", self.id());
        ret
    }
}

/// Notes that a request was answered with something that is no thanks.
fn give_up(note: &Note, totals: &mut Totals) {
    totals.count.not_understood += 1;
    if let Note::Events { count, .. } = note {
        totals.count.abandoned += count;
    }
}

fn grains(id: &MinionId) -> Map {
    map! { "id" => id, "os" => "swarm", "kernel" => "Linux", "cpuarch" => "x86_64" }
}

#[cfg(test)]
mod tests;
