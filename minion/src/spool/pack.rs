//! From items to loads: events that wait together become one, a return is one by itself. Pure.

use bytes::Bytes;
use proto::ids::Jid;
use proto::message::event::{EventItem, MAX_EVENTS};
use proto::message::{BadLoad, MAX_LOAD, MinionEvents, Request, Return, Spooled};
use proto::value::Map;
use tokio::sync::oneshot;

use super::{Item, OVERHEAD, SpoolError};

/// How large a load of several events may grow.
pub(super) const MAX_BATCH_BYTES: usize = 64 << 10;

/// A load that has no number yet.
#[derive(Debug)]
pub(super) struct Pack<N> {
    pub(super) body: Body,
    pub(super) notes: Vec<N>,
    pub(super) taken: Option<oneshot::Sender<Result<(), SpoolError>>>,
    size: usize,
}

/// What a load consists of.
#[derive(Debug)]
pub(super) enum Body {
    Events(Vec<EventItem>),
    Return { load: Map, jid: Option<Jid> },
}

/// Makes loads of items, in their order. A return that can be none is answered at once.
pub(super) fn pack<N>(items: Vec<Item<N>>) -> Vec<Pack<N>> {
    let mut packs: Vec<Pack<N>> = Vec::new();
    for item in items {
        match item {
            Item::Event { item, note } => add_event(&mut packs, item, note),
            Item::Return { load, jid, note, taken } => match return_size(&load) {
                Ok(size) => {
                    let (body, notes) = (Body::Return { load, jid }, note.into_iter().collect());
                    packs.push(Pack { body, notes, taken: Some(taken), size });
                }
                // Whoever sent it may be gone.
                Err(refused) => drop(taken.send(Err(refused))),
            },
        }
    }
    packs
}

/// Adds an event to the last load, or begins one.
fn add_event<N>(packs: &mut Vec<Pack<N>>, item: EventItem, note: Option<N>) {
    let size = event_size(&item);
    if let Some(Pack { body: Body::Events(events), notes, size: packed, .. }) = packs.last_mut()
        && events.len() < MAX_EVENTS
        && *packed + size <= MAX_BATCH_BYTES
    {
        events.push(item);
        notes.extend(note);
        *packed += size;
        return;
    }
    packs.push(Pack { body: Body::Events(vec![item]), notes: note.into_iter().collect(), taken: None, size });
}

impl<N> Pack<N> {
    /// Returns the load as it is sent from this place.
    pub(super) fn encode(&self, at: Spooled) -> Result<Bytes, BadLoad> {
        let request = match &self.body {
            Body::Events(events) => Request::MinionEvents(MinionEvents { at, events: events.clone() }),
            Body::Return { load, .. } => Request::Return(Return::new(at, load)?),
        };
        Ok(request.encode().into())
    }

    /// Returns the room that a return takes, nothing for events.
    pub(super) fn return_bytes(&self) -> u64 {
        match self.body {
            Body::Events(_) => 0,
            Body::Return { .. } => self.size as u64,
        }
    }
}

/// Returns the room that an event takes.
pub(super) fn event_size(item: &EventItem) -> usize {
    item.tag.len() + item.data.len() + OVERHEAD
}

fn return_size(load: &Map) -> Result<usize, SpoolError> {
    let longest = Spooled { spool: [0xff; 16], n: u64::MAX };
    let size = Return::new(longest, load).map_err(|_: BadLoad| SpoolError::BadReturn)?.load.len() + OVERHEAD;
    if size > MAX_LOAD { Err(SpoolError::TooLarge) } else { Ok(size) }
}
