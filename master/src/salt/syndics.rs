//! Syndics: a Salt minion that another master has below it, and that speaks for the minions of that master (salt-wire.md §5.2).
//!
//! Whom the configuration names (`order_masters`, `syndics`) may return for ids that nobody has decided on here, and for its
//! own: a minion with a key on this master speaks for itself, and nobody else does. Who is not named gets no reply: its own
//! log says so, and it tries again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::ids::{Jid, MinionId};
use proto::message::event::with_sender;
use proto::salt::{command, syndic};
use proto::tag::Tag;
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};

use super::Salt;
use super::events::Denial;
use super::requests::Unanswered;
use super::returns::Intake;
use crate::bus::NewEvent;
use crate::jobs::Membership;

/// Who may speak for others, and how long they are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyndicsConfig {
    /// The ids of syndics (`syndics`).
    pub ids: Vec<Glob>,
    /// How long a syndic may take to pass a job on (`timeout`, default 5 s), where who publishes it does not say.
    pub timeout: Duration,
    /// How long a command waits for syndics to name their minions (`syndic_wait`, default 5 s).
    pub wait: Duration,
}

impl SyndicsConfig {
    /// Tells whether this minion speaks for others.
    pub fn names(&self, id: &MinionId) -> bool {
        self.ids.iter().any(|glob| glob.matches(id.as_str()))
    }
}

/// The syndics that Salt's tools have been told of.
#[derive(Debug, Default)]
pub(super) struct Marked(Mutex<HashSet<MinionId>>);

impl Marked {
    fn is_new(&self, id: &MinionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone())
    }
}

impl Salt {
    /// Tells whether this minion, which has proven to be it, speaks for others.
    pub(super) fn is_syndic(&self, id: &MinionId) -> bool {
        self.inner.parts.jobs.syndics().is_some_and(|syndics| syndics.names(id))
    }

    /// Tells whether a syndic may speak for this id: its own, or one that nobody has decided on here.
    fn speaks_for(&self, syndic: &MinionId, id: &MinionId) -> bool {
        id == syndic || !self.inner.parts.keys.has_decided(id)
    }

    /// Carries `_syndic_return` out: each return of each entry, as if its minion had sent it.
    pub(super) async fn syndic_return(&self, syndic: &MinionId, entries: Vec<Map>) -> Result<(), Unanswered> {
        if !self.is_syndic(syndic) {
            let tag = entries
                .iter()
                .find_map(syndic::returns)
                .and_then(|entry| Some((entry.jid, entry.returns.first()?.0.clone())));
            let tag = tag.map_or_else(|| "salt/job".to_owned(), |(jid, id)| format!("salt/job/{jid}/ret/{id}"));
            self.deny(syndic, &tag, Denial::Syndic);
            return Err(Unanswered::Refused);
        }
        self.mark(syndic).await;
        let mut intake = Intake::new(self, Membership::Syndic);
        for entry in &entries {
            let Some(returns) = syndic::returns(entry) else {
                tracing::warn!(minion_id = %syndic, "an entry of a syndic's returns is damaged, and passed over");
                continue;
            };
            if let Some(event) = self.job_of(syndic, &returns.jid, entry).await {
                intake.event(event).await?;
            }
            for (text, ret) in returns.returns {
                match MinionId::parse(&text) {
                    Ok(id) if self.speaks_for(syndic, &id) => intake.ret(id, ret).await?,
                    _ => self.deny(syndic, &format!("salt/job/{}/ret/{text}", returns.jid), Denial::OtherId),
                }
            }
        }
        intake.finish().await
    }

    /// Returns the event that makes a job known that this master has not published, if the syndic has brought its load: the
    /// master below has, for its own operator.
    async fn job_of(&self, syndic: &MinionId, jid: &Jid, entry: &Map) -> Option<NewEvent> {
        let load = entry.at("load").and_then(Value::as_map).filter(|load| !load.is_empty())?;
        if self.inner.parts.jobs.knows(jid).await.unwrap_or(true) {
            return None;
        }
        // Salt's job cache adds whom the job is for, under this name.
        let minions = load.at("Minions").and_then(Value::as_list).unwrap_or_default();
        let minions: Vec<String> = minions.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(announced(syndic, jid, load, &self.may_name(syndic, &minions)))
    }

    /// Logs what a syndic tells of the master below it: each event under `syndic/<its id>/`, and as it is if the minion that it
    /// names may fire it. More minions of a job are taken note of. A load that comes again because a part of it could not be
    /// logged tells the rest once more.
    pub(super) async fn events_below(&self, syndic: &MinionId, load: &Map) -> Result<(), Unanswered> {
        let mut intake = Intake::new(self, Membership::Syndic);
        let mut named = Vec::new();
        for (tag, data) in command::events(load) {
            let Ok(below) = Tag::below(syndic, tag) else {
                self.deny(syndic, tag, Denial::Tag);
                continue;
            };
            let encoded = bytes::Bytes::from(proto::msgpack::encode_map(&data));
            intake.event(NewEvent { tag: below, data: encoded.clone() }).await?;
            let sender = self.sender(syndic, &data);
            if let (Ok(tag), Ok(data)) = (Tag::parse(tag), with_sender(&encoded, &sender))
                && tag.allowed_from(&sender)
            {
                intake.event(NewEvent { tag, data }).await?;
            }
            if let Some(announcement) = syndic::announcement(tag, &data) {
                let minions = self.may_name(syndic, &announcement.minions);
                intake.event(announced(syndic, &announcement.jid, &data, &minions)).await?;
                named.push((announcement.jid, minions));
            }
        }
        intake.finish().await?;
        for (jid, minions) in named {
            self.mark(syndic).await;
            self.inner.parts.jobs.extend(&jid, syndic, minions).await;
        }
        Ok(())
    }

    /// Returns whom an event is from: the minion that its data names, if the syndic may speak for it.
    fn sender(&self, syndic: &MinionId, data: &Map) -> MinionId {
        let named = data.text("id").and_then(|id| MinionId::parse(id).ok());
        named.filter(|id| self.speaks_for(syndic, id)).unwrap_or_else(|| syndic.clone())
    }

    /// Returns those of the ids that a syndic may name.
    fn may_name(&self, syndic: &MinionId, ids: &[String]) -> Vec<MinionId> {
        let parsed = ids.iter().filter_map(|id| MinionId::parse(id).ok());
        parsed.filter(|id| self.speaks_for(syndic, id)).collect()
    }

    /// Tells Salt's tools, once, that this id is a syndic's: they do not miss its return.
    async fn mark(&self, syndic: &MinionId) {
        let Some(files) = self.inner.parts.clear.as_ref().and_then(|clear| clear.files()) else { return };
        if !self.inner.marked.is_new(syndic) {
            return;
        }
        if let Err(error) = files.mark_syndic(syndic.clone()).await {
            tracing::error!(minion_id = %syndic, error = &error as &dyn std::error::Error, "Salt's tools will miss a syndic's return");
        }
    }
}

impl Salt {
    /// Tells whether a tag is what a syndic says of itself: `salt/syndic/<its id>/start`.
    pub(super) fn is_own_syndic_tag(&self, id: &MinionId, tag: &Tag) -> bool {
        let own = tag.as_str().strip_prefix("salt/syndic/").and_then(|rest| rest.strip_prefix(id.as_str()));
        own.is_some_and(|rest| rest.starts_with('/')) && self.is_syndic(id)
    }
}

/// Tells whether a load tells of the master below: Salt's syndics say so.
pub(super) fn is_from_below(syndic: &MinionId, load: &Map) -> bool {
    load.text("pretag").and_then(|pretag| pretag.strip_prefix("syndic/")) == Some(syndic.as_str())
}

/// Returns the event by which a job gets more minions, or becomes known.
fn announced(syndic: &MinionId, jid: &Jid, said: &Map, minions: &[MinionId]) -> NewEvent {
    let mut data = syndic::job(jid, said);
    data.set("minions", minions.iter().map(Value::from).collect::<Vec<_>>());
    data.set("syndic", syndic);
    NewEvent { tag: Tag::job_syndic(jid, syndic), data: proto::msgpack::encode_map(&data).into() }
}
