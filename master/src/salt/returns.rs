//! What the jobs of Salt minions came to: `_return` of one, `_syndic_return` of many. Each (jid, id) counts once; a minion that
//! matched by itself is taken too.

use std::collections::HashSet;

use proto::ids::{Jid, MinionId};
use proto::tag::Tag;
use proto::value::{Map, MapExt};

use super::events::Denial;
use super::requests::Unanswered;
use super::{Salt, failures};
use crate::bus::{Batch, NewEvent};
use crate::jobs::{Membership, Verdict};

/// How many events, and about how many bytes of them, a syndic's load has logged in one commit: minions' own loads go
/// between.
const CHUNK_EVENTS: usize = 1_000;
const CHUNK_BYTES: usize = 1024 * 1024;

impl Salt {
    /// Logs a minion's own return, if it did not come before.
    pub(super) async fn ret(&self, id: &MinionId, load: Map) -> Result<(), Unanswered> {
        let mut intake = Intake::new(self, Membership::Itself);
        intake.ret(id.clone(), load).await?;
        intake.finish().await
    }
}

/// What one request brings, on its way into the log: a chunk at a time, each in one commit. To be finished.
#[must_use = "what was admitted is logged or taken back"]
pub(super) struct Intake<'a> {
    salt: &'a Salt,
    membership: Membership,
    events: Vec<NewEvent>,
    bytes: usize,
    /// Whose returns are among the events.
    admitted: HashSet<(MinionId, Jid)>,
    is_undecided: bool,
}

impl<'a> Intake<'a> {
    /// Begins a request whose minions belong to a job as this says.
    pub(super) fn new(salt: &'a Salt, membership: Membership) -> Intake<'a> {
        Intake { salt, membership, events: Vec::new(), bytes: 0, admitted: HashSet::new(), is_undecided: false }
    }

    /// Takes a return, if it did not come before. Whose it is, is proven.
    pub(super) async fn ret(&mut self, id: MinionId, mut load: Map) -> Result<(), Unanswered> {
        let said = load.text("jid").unwrap_or_default().to_owned();
        let Ok(verdict) = self.salt.inner.parts.jobs.admit(&id, &said, self.membership).await else {
            self.take_back().await;
            return Err(Unanswered::Stopping);
        };
        let jid = match verdict {
            Verdict::Accept(jid) => jid,
            Verdict::Unexpected(jid) => {
                load.set("unexpected", true);
                jid
            }
            Verdict::Duplicate => return Ok(()),
            Verdict::Undecided => {
                // The same return twice in one request is one; the copy of another request may still fail.
                let is_here = Jid::parse(&said).is_ok_and(|jid| self.admitted.contains(&(id, jid)));
                self.is_undecided |= !is_here;
                return Ok(());
            }
            Verdict::Refuse => {
                self.salt.deny(&id, &format!("salt/job/{said}/ret/{id}"), Denial::Tag);
                return Ok(());
            }
        };
        load.set("jid", &jid);
        load.set("id", &id);
        let data = proto::msgpack::encode_map(&load).into();
        let mut events = vec![NewEvent { tag: Tag::job_ret(&jid, &id), data }];
        events.extend(failures::of(&load, &jid, &id));
        self.admitted.insert((id, jid));
        self.together(events).await
    }

    /// Takes an event.
    pub(super) async fn event(&mut self, event: NewEvent) -> Result<(), Unanswered> {
        self.together(vec![event]).await
    }

    /// Takes events that one commit has to hold.
    async fn together(&mut self, events: Vec<NewEvent>) -> Result<(), Unanswered> {
        self.bytes += events.iter().map(|event| event.tag.as_str().len() + event.data.len()).sum::<usize>();
        self.events.extend(events);
        if self.events.len() < CHUNK_EVENTS && self.bytes < CHUNK_BYTES {
            return Ok(());
        }
        self.commit().await
    }

    /// Logs what is left. Without an answer a Salt minion sends all of it again.
    pub(super) async fn finish(mut self) -> Result<(), Unanswered> {
        self.commit().await?;
        if self.is_undecided { Err(Unanswered::Undecided) } else { Ok(()) }
    }

    async fn commit(&mut self) -> Result<(), Unanswered> {
        let events = std::mem::take(&mut self.events);
        self.bytes = 0;
        if events.is_empty() {
            return Ok(());
        }
        let parts = &self.salt.inner.parts;
        match parts.bus.commit(Batch { events, mark: None }).await {
            Ok(_) => {
                for (id, jid) in self.admitted.drain() {
                    parts.jobs.logged(&id, &jid).await;
                }
                Ok(())
            }
            Err(error) => {
                self.take_back().await;
                Err(Unanswered::NotLogged(error))
            }
        }
    }

    async fn take_back(&mut self) {
        for (id, jid) in self.admitted.drain() {
            self.salt.inner.parts.jobs.take_back(&id, &jid).await;
        }
    }
}
