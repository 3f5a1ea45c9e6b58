//! `_minion_event`: events from a minion's spool. One load is one unit: all of it is committed together.

use bytes::Bytes;

use super::{BadLoad, Fields, Spooled, fields};
use crate::map;
use crate::msgpack::{self, Reader};
use crate::value::Value;

/// How many events one load may carry (native-wire.md §1).
pub const MAX_EVENTS: usize = 1000;

/// One event, its data still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventItem {
    /// The tag, not yet checked.
    pub tag: String,
    /// The data: an encoded map.
    pub data: Bytes,
}

/// A load of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinionEvents {
    /// Where the load stands in its spool.
    pub at: Spooled,
    /// The events, oldest first.
    pub events: Vec<EventItem>,
}

impl MinionEvents {
    pub(super) fn from_fields(load: &Bytes, fields: &Fields<'_>) -> Result<MinionEvents, BadLoad> {
        let at = Spooled { spool: fields.array16("spool")?, n: fields.u64("n")? };
        let raw = fields.raw("events").ok_or(BadLoad::Field("events"))?;
        let mut reader = Reader::new(raw);
        let len = reader.array_len().map_err(|_| BadLoad::Field("events"))?;
        if len > MAX_EVENTS {
            return Err(BadLoad::TooMany("events", MAX_EVENTS));
        }
        let mut events = Vec::with_capacity(len);
        for _ in 0..len {
            let item = Fields::read(reader.raw()?)?;
            events.push(EventItem { tag: item.str("tag")?.to_owned(), data: item.map_bytes(load, "data")? });
        }
        Ok(MinionEvents { at, events })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let head = map! { "cmd" => "_minion_event", "spool" => Value::Bytes(self.at.spool.to_vec()), "n" => self.at.n };
        fields::encode_with(&head, &[("events", &encode_items(&self.events))])
    }
}

/// Encodes events as the array that the load carries.
pub fn encode_items(events: &[EventItem]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(16 + events.iter().map(|event| event.tag.len() + event.data.len() + 24).sum::<usize>());
    let len = u32::try_from(events.len()).expect("a load has at most MAX_EVENTS events");
    rmp::encode::write_array_len(&mut out, len).expect("writing to a vector cannot fail");
    for event in events {
        out.extend_from_slice(&fields::encode_with(&map! { "tag" => event.tag.as_str() }, &[("data", &event.data)]));
    }
    out
}

/// Returns event data with the sender's id in it, whatever it said itself (design §4: the id comes from the session), and
/// however often.
pub fn with_sender(data: &Bytes, id: &crate::ids::MinionId) -> Result<Bytes, msgpack::DecodeError> {
    let fields = Fields::read(data).ok();
    let says = |raw| Reader::new(raw).str().ok() == Some(id.as_str());
    let said = fields.iter().flat_map(Fields::iter).filter(|(name, _)| *name == "id").map(|(_, raw)| says(raw));
    if said.reduce(|all, this| all && this) == Some(true) {
        return Ok(data.clone());
    }
    msgpack::with_field(data, "id", &Value::from(id)).map(Bytes::from)
}
