//! What is said on the two connections: one request under way at a time, and publications as they come.

use std::time::Instant;

use bytes::Bytes;
use proto::message::Spooled;
use proto::salt::Nonce;
use proto::salt::crypticle::BadContent;
use proto::salt::pillar::BadPillar;
use proto::salt::publish::{BROADCAST, BadPublication, topic};
use proto::salt::request::{BadReply, Fresh, open_reply};
use proto::value::{MapExt, Value};
use tracing::{debug, error, info, warn};

use super::super::ask::{self, Question};
use super::super::intake::unix_ms;
use super::state::{Kept, Reply, SaltInput};
use super::task::{SaltTask, Work};
use super::{auth, loads};
use crate::modules::AskError;

/// Questions that wait for their turn: some for each job that may run. One more is refused.
const MAX_QUESTIONS: usize = 128;
/// Publications that wait for the next key, and their bytes; a master publishes few jobs while one `_auth` is answered.
const MAX_UNHEARD: usize = 64;
const MAX_UNHEARD_BYTES: usize = 1 << 20;
/// Jobs that may wait for the executor; one more is dropped, with a line in the log.
const MAX_BACKLOG: usize = 4096;
/// How often a load of the spool may fail to get an answer that opens, under keys that were renewed each time. Then it
/// goes: everything behind it waits.
const MAX_REFUSALS: u32 = 5;

/// The request under way.
pub(super) struct Flight {
    what: What,
    nonce: Option<Nonce>,
    /// What the last reply said that did not open.
    why: Option<String>,
}

enum What {
    Ask(Question),
    Ping,
    Spooled { at: Spooled, row: Bytes },
}

/// A pillar that was opened, or not.
pub(super) type Opened = Result<Value, BadPillar>;

impl What {
    fn kept(&self) -> Kept {
        match self {
            What::Ask(_) => Kept::Asked,
            What::Ping | What::Spooled { .. } => Kept::Spooled,
        }
    }
}

impl SaltTask {
    pub(super) fn ask(&mut self, question: Question) {
        let now = Instant::now();
        self.questions.retain(|waiting| waiting.until > now);
        if self.questions.len() >= MAX_QUESTIONS {
            let full = "too many requests of this minion wait for the master".to_owned();
            return ask::tell(&question.answer, Err(AskError::Refused(full)));
        }
        if !self.state.is_up() {
            return ask::tell(&question.answer, Err(AskError::NotConnected));
        }
        self.questions.push_back(question);
    }

    /// Tells everybody that there will be no answer.
    pub(super) fn abandon_questions(&mut self) {
        self.return_flight();
        self.questions.drain(..).for_each(|question| ask::tell(&question.answer, Err(AskError::NotConnected)));
    }

    /// Sends what is next, if nothing is under way.
    pub(super) fn send_next(&mut self) {
        while self.state.is_free()
            && let Some(what) = self.next_request()
        {
            let kept = what.kept();
            self.flight = Some(Flight { what, nonce: None, why: None });
            self.state.sent(Instant::now(), kept);
            self.send_flight();
        }
    }

    fn next_request(&mut self) -> Option<What> {
        let now = Instant::now();
        self.spool_is_next = !self.spool_is_next;
        if self.spool_is_next
            && let Some(spooled) = self.next_spooled()
        {
            return Some(spooled);
        }
        while let Some(question) = self.questions.pop_front() {
            if question.until > now {
                return Some(What::Ask(question));
            }
        }
        if let Some(spooled) = self.next_spooled() {
            return Some(spooled);
        }
        let due = self.ping_at.is_some_and(|at| at <= now);
        due.then(|| {
            self.ping_at = self.target.ping.map(|every| now + every);
            What::Ping
        })
    }

    fn next_spooled(&mut self) -> Option<What> {
        loop {
            let row = self.outbox.next_load()?;
            match loads::spooled(&row, &self.target.id) {
                Some((at, _)) => return Some(What::Spooled { at, row }),
                None => error!("a load of the spool cannot be read; it is left out"),
            }
        }
    }

    /// Seals the request under way with the keys as they are now, and sends it.
    pub(super) fn send_flight(&mut self) {
        let (Some(flight), Some(keys), Some(own)) = (&mut self.flight, &self.keys, &self.own) else { return };
        let load = match &flight.what {
            What::Ask(question) => {
                let mut load = question.fields.clone();
                load.set("cmd", question.cmd.as_str());
                load.set("id", &self.target.id);
                load
            }
            What::Ping => loads::ping(&self.target.id),
            // It was read before.
            What::Spooled { row, .. } => loads::spooled(row, &self.target.id).map(|(_, load)| load).unwrap_or_default(),
        };
        let (Ok(nonce), Ok(iv)) = (auth::random(), auth::random()) else {
            // The request is late then, and sent again.
            return error!("the system gives no random bytes; nothing can be sent");
        };
        let nonce = Nonce::from_random(nonce);
        flight.nonce = Some(nonce);
        let payload = own.asker.seal(&keys.session, &Fresh { nonce, iv, unix_s: unix_ms() / 1000 }, load);
        self.send_payload(payload);
    }

    /// Takes the reply to the request under way.
    pub(super) fn replied(&mut self, payload: Bytes) {
        let (Some(flight), Some(keys)) = (&self.flight, &self.keys) else {
            return debug!("the master said something that nobody asked");
        };
        let Some(nonce) = flight.nonce else { return };
        if matches!(&flight.what, What::Ask(question) if question.cmd == "_pillar") {
            let (Some(own), master, round) = (self.own.clone(), keys.master.clone(), self.round) else { return };
            self.work.spawn_blocking(move || Work::Pillar(round, auth::open_pillar(&own, &master, nonce, &payload)));
            return;
        }
        match open_reply(&keys.session, &nonce, &payload) {
            Ok(reply) => self.taken(Ok(reply.into_inner())),
            // Whoever closed it held the key.
            Err(BadReply::Content(bad @ BadContent::Decode(_))) => {
                self.taken(Err(AskError::Refused(format!("its answer cannot be read: {bad}"))));
            }
            Err(unopened) => self.unopened(unopened.to_string()),
        }
    }

    pub(super) fn pillar_opened(&mut self, round: u64, opened: Opened) {
        let asked =
            self.flight.as_ref().is_some_and(|flight| matches!(&flight.what, What::Ask(q) if q.cmd == "_pillar"));
        if round != self.round || !asked {
            return;
        }
        match opened {
            Ok(pillar) => self.taken(Ok(pillar)),
            Err(unopened) => self.unopened(unopened.to_string()),
        }
    }

    /// The master has answered: what is spooled is its own now, and whoever asked hears.
    fn taken(&mut self, answer: Result<Value, AskError>) {
        match self.flight.take().map(|flight| flight.what) {
            Some(What::Ask(question)) => ask::tell(&question.answer, answer),
            Some(What::Spooled { at, .. }) => {
                if !matches!(answer, Ok(Value::Null)) {
                    debug!(?at, "the master answered a load with something else than nothing");
                }
                self.refused = None;
                self.outbox.acked(at);
            }
            Some(What::Ping) | None => {}
        }
        self.give(SaltInput::Replied(Reply::Opened));
    }

    fn unopened(&mut self, why: String) {
        info!("{why}; authenticating anew");
        if let Some(flight) = &mut self.flight {
            flight.why = Some(why);
            if let What::Spooled { at, .. } = flight.what {
                let before = self.refused.filter(|(refused, _)| *refused == at).map_or(0, |(_, times)| times);
                self.refused = Some((at, before + 1));
            }
        }
        self.give(SaltInput::Replied(Reply::Unopened));
    }

    /// Gives up the request under way. One of the spool stays there, unless the master refuses it again and again.
    pub(super) fn return_flight(&mut self) {
        let Some(Flight { what, why, .. }) = self.flight.take() else { return };
        match what {
            What::Ask(question) => {
                let error = why.map_or(AskError::NoAnswer, AskError::Refused);
                ask::tell(&question.answer, Err(error));
            }
            What::Spooled { at, .. } => {
                if self.refused.is_some_and(|(refused, times)| refused == at && times >= MAX_REFUSALS) {
                    error!(why, "the master refuses a load again and again; it is given up, for others wait behind it");
                    self.refused = None;
                    self.outbox.acked(at);
                }
            }
            What::Ping => {}
        }
    }

    /// Takes a publication. Where the master sends by topic, another minion's may come along.
    pub(super) fn published(&mut self, frames: &[Bytes]) {
        let payload = match frames {
            [payload] => payload,
            [to, payload] if to == BROADCAST.as_bytes() || to == topic(&self.target.id).as_bytes() => payload,
            _ => return,
        };
        let Some(ear) = &mut self.ear else { return };
        match ear.open(payload) {
            Ok(load) => {
                self.give(SaltInput::Heard);
                self.queue(load.into_inner());
            }
            Err(BadPublication::Content(BadContent::Box(_))) => {
                info!("a publication is under another key; authenticating anew");
                self.keep_unheard(payload.clone());
                self.give(SaltInput::Unheard);
            }
            Err(BadPublication::Replayed { serial, last }) => {
                warn!(serial, last, "a publication came again and is dropped; is someone replaying them?");
            }
            Err(error) => warn!(%error, "a publication is dropped"),
        }
    }

    /// Opens once more what did not open under the last key. What does not open now either is nobody's.
    pub(super) fn listen_again(&mut self) {
        let waiting = std::mem::take(&mut self.unheard);
        self.unheard_bytes = 0;
        for payload in waiting {
            let Some(ear) = &mut self.ear else { return };
            match ear.open(&payload) {
                Ok(load) => {
                    self.give(SaltInput::Heard);
                    self.queue(load.into_inner());
                }
                Err(error) => warn!(%error, "a publication does not open under the new key either; it is dropped"),
            }
        }
    }

    pub(super) fn forget_unheard(&mut self) {
        self.unheard.clear();
        self.unheard_bytes = 0;
    }

    fn keep_unheard(&mut self, payload: Bytes) {
        if self.unheard.len() >= MAX_UNHEARD || self.unheard_bytes + payload.len() > MAX_UNHEARD_BYTES {
            return warn!("too many publications do not open; one is dropped");
        }
        self.unheard_bytes += payload.len();
        // Its own memory, not a slice of what the socket read.
        self.unheard.push_back(Bytes::copy_from_slice(&payload));
    }

    fn queue(&mut self, load: proto::value::Map) {
        match loads::publication(load, unix_ms()) {
            Ok(publish) if self.backlog.len() >= MAX_BACKLOG => {
                warn!(jid = %publish.jid, "too many jobs wait to be started; this one is dropped");
            }
            Ok(publish) => self.backlog.push_back(publish),
            Err(why) => debug!(why, "a publication is not for this minion"),
        }
    }
}
