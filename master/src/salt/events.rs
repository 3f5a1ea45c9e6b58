//! `_minion_event`: events of Salt minions, in both forms, judged by the same rules as those of native ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use proto::ids::MinionId;
use proto::map;
use proto::message::event::{MAX_EVENTS, with_sender};
use proto::salt::command;
use proto::tag::Tag;
use proto::value::Map;

use super::Salt;
use super::requests::Unanswered;
use super::syndics::is_from_below;
use crate::bus::{Batch, NewEvent};

/// How often refused tags are told on the bus: the first, and then each time their number has grown tenfold.
const TELL_DENIED_AT: [u64; 5] = [1, 10, 100, 1_000, 10_000];
/// How many refusals of minions are counted apart. Beyond that counting starts anew.
const MAX_COUNTED: usize = 50_000;
/// How many characters of a refused tag are shown.
const MAX_SHOWN: usize = 200;

/// Why something is not this minion's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Denial {
    /// A syndic speaks for an id whose key was accepted or rejected here, or for what is no id.
    OtherId,
    /// It returns for others, and the configuration does not let it.
    Syndic,
    /// The tag is not its own.
    Tag,
}

impl Denial {
    /// Returns what the log says.
    fn text(self) -> &'static str {
        match self {
            Denial::OtherId => {
                "a syndic's return is dropped: its id has a key of its own here, accepted or rejected, or is no id"
            }
            Denial::Syndic => {
                "a minion returns for others (_syndic_return), and gets no reply; if it is a syndic, set `order_masters: true` \
                 and name its id in `syndics`"
            }
            Denial::Tag => "minion fired a tag that is not its own",
        }
    }
}

/// How much each minion was refused.
#[derive(Default)]
pub(super) struct Denied(Mutex<HashMap<(MinionId, Denial), u64>>);

impl Denied {
    fn count(&self, id: &MinionId, denial: Denial) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = (id.clone(), denial);
        if counts.len() >= MAX_COUNTED && !counts.contains_key(&counted) {
            counts.clear();
        }
        let count = counts.entry(counted).or_default();
        *count += 1;
        *count
    }
}

impl Salt {
    /// Logs the events of a load: those that are this minion's to fire, with its id in them. All of them together.
    pub(super) async fn events(&self, id: &MinionId, load: &Map) -> Result<(), Unanswered> {
        if is_from_below(id, load) && self.is_syndic(id) {
            return self.events_below(id, load).await;
        }
        let items = command::events(load);
        if items.len() > MAX_EVENTS {
            tracing::warn!(minion_id = %id, events = items.len(), "a load has at most {MAX_EVENTS} events; the rest is dropped");
        }
        let mut events = Vec::new();
        for (tag, data) in items.into_iter().take(MAX_EVENTS) {
            let data = Bytes::from(proto::msgpack::encode_map(&data));
            match (Tag::parse(tag), with_sender(&data, id)) {
                (Ok(tag), Ok(data)) if tag.allowed_from(id) || self.is_own_syndic_tag(id, &tag) => {
                    events.push(NewEvent { tag, data })
                }
                _ => self.deny(id, tag, Denial::Tag),
            }
        }
        if events.is_empty() {
            return Ok(());
        }
        self.inner.parts.bus.commit(Batch { events, mark: None }).await.map(drop).map_err(Unanswered::NotLogged)
    }

    /// Counts what is not this minion's to say, and says so now and then.
    pub(super) fn deny(&self, id: &MinionId, tag: &str, denial: Denial) {
        let denied = self.inner.denied.count(id, denial);
        if TELL_DENIED_AT.contains(&denied) {
            let shown: String = tag.chars().take(MAX_SHOWN).collect();
            tracing::warn!(minion_id = %id, tag = shown, denied, "{}", denial.text());
            let data = map! { "id" => id, "tag" => shown, "denied" => denied };
            self.inner.parts.bus.try_fire(Tag::denied(id), &data);
        }
    }
}
