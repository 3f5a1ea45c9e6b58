//! What a spooled load becomes in the log: events or a return, and the mark of its place. Pure.

use bytes::Bytes;
use proto::ids::{Jid, MinionId};
use proto::message::{Kind, MinionEvents, Return, Spooled, event};
use proto::tag::Tag;

use crate::bus::{Batch, Mark, NewEvent};
use crate::jobs::Verdict;

/// How much of a load may be neither tag nor data without its events being copied out of it.
const SLACK: usize = 64 * 1024;

/// Whose loads they are: what the session has proven, not what a load says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) id: &'a MinionId,
    pub(super) kind: Kind,
}

impl Sender<'_> {
    /// Returns what moves the mark and logs nothing.
    pub(super) fn nothing(self, at: Spooled) -> Batch {
        Batch { events: Vec::new(), mark: Some(self.mark(at)) }
    }

    /// Takes the events that are this minion's to fire, with its id in them; also returns the tags of the others.
    pub(super) fn events(self, load: MinionEvents, bytes: usize) -> (Batch, Vec<String>) {
        let (mut events, mut denied) = (Vec::with_capacity(load.events.len()), Vec::new());
        let used: usize = load.events.iter().map(|item| item.data.len()).sum();
        for item in load.events {
            let data = detached(item.data, bytes, used);
            match Tag::parse(&item.tag) {
                Ok(tag) if tag.allowed_from(self.id) => match event::with_sender(&data, self.id) {
                    Ok(data) => events.push(NewEvent { tag, data }),
                    Err(_) => denied.push(item.tag),
                },
                _ => denied.push(item.tag),
            }
        }
        (Batch { events, mark: Some(self.mark(load.at)) }, denied)
    }

    /// Takes a return as it was judged, and says which job's it is if it is to be logged. Nothing if it is undecided.
    pub(super) fn ret(self, ret: &Return, verdict: Verdict, unix_s: i64) -> Option<(Batch, Option<Jid>)> {
        match verdict {
            Verdict::Accept(jid) => {
                let data = ret.event_data(self.id, jid.as_str(), unix_s);
                let events = vec![NewEvent { tag: Tag::job_ret(&jid, self.id), data }];
                Some((Batch { events, mark: Some(self.mark(ret.at)) }, Some(jid)))
            }
            // A refused one is acknowledged all the same, so that the spool drains. Here the master says who is meant, so
            // none is unexpected.
            Verdict::Duplicate | Verdict::Refuse | Verdict::Unexpected(_) => Some((self.nothing(ret.at), None)),
            Verdict::Undecided => None,
        }
    }

    fn mark(self, at: Spooled) -> Mark {
        Mark { id: self.id.clone(), spool: at.spool, n: at.n, kind: self.kind }
    }
}

/// Returns an event's data, copied if the rest of its load is too large to be kept alive with it: the bus counts what it
/// shows, not what lies around it.
pub(super) fn detached(data: Bytes, load: usize, used: usize) -> Bytes {
    if load > 2 * used + SLACK { Bytes::copy_from_slice(&data) } else { data }
}
