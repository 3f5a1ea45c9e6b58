//! What the log is told of a new job, in one commit: everything that a later master needs to serve it.

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::msgpack;
use proto::tag::Tag;
use proto::value::{Map, MapExt, Value};

use crate::bus::NewEvent;

/// A job that is about to be logged.
pub(super) struct Announced<'a> {
    pub(super) jid: &'a Jid,
    /// The publication's own fields.
    pub(super) load: &'a Map,
    pub(super) minions: &'a [MinionId],
    pub(super) missing: &'a [String],
    /// Until when a minion may still come and take it.
    pub(super) expires_ms: u64,
}

impl Announced<'_> {
    /// Returns the events: Salt's, in its order, then ours, which keeps the job alive over a restart.
    pub(super) fn events(&self, jid_events: bool) -> Vec<NewEvent> {
        let Announced { jid, load, minions, missing, expires_ms } = self;
        let ids: Vec<Value> = minions.iter().map(Value::from).collect();
        let field = |name: &str| load.at(name).cloned().unwrap_or_default();
        let mut events = Vec::with_capacity(4);
        if jid_events {
            events.push(event(Tag::bare_jid(jid), &map! { "minions" => ids.clone() }));
        }
        let mut new = map! { "jid" => *jid, "tgt_type" => field("tgt_type"), "tgt" => field("tgt"), "user" => field("user"),
        "fun" => field("fun"), "arg" => field("arg"), "minions" => ids, "missing" => missing.to_vec() };
        for optional in ["delimiter", "metadata"] {
            if let Some(value) = load.at(optional) {
                new.set(optional, value.clone());
            }
        }
        events.push(event(Tag::job_new(jid), &new));
        events.push(event(Tag::job_publish(jid), load));
        events.push(event(Tag::job_live(jid), &map! { "jid" => *jid, "expires" => *expires_ms }));
        events
    }
}

fn event(tag: Tag, data: &Map) -> NewEvent {
    NewEvent { tag, data: msgpack::encode_map(data).into() }
}
