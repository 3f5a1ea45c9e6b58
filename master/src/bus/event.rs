//! What goes into the bus and what comes out: events, batches of them, and the marks of the spools they come from.

use bytes::Bytes;
use proto::ids::{self, MinionId};
use proto::message::Kind;
use proto::msgpack::{self, DecodeError};
use proto::tag::Tag;
use proto::value::{Map, MapExt};

/// An event on the bus. Its data stays encoded, so cloning costs two reference counts and nobody decodes in vain.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the log. An event that is not durable has none: it carries the offset of the last durable event
    /// before it, so that resuming after this offset is right either way.
    pub offset: u64,
    /// Its tag.
    pub tag: Tag,
    /// When it was submitted, in microseconds since 1970; never earlier than that of the event before it, except after
    /// the clock was set back by more than a few seconds.
    pub stamp_us: i64,
    /// An encoded msgpack map, without `_stamp`.
    pub data: Bytes,
    /// Whether it is in the log. Only events that the master fires while the log is out of order are not.
    pub durable: bool,
}

impl Event {
    /// Decodes the data and sets `_stamp`: in place if the data had one, else at the end.
    pub fn map(&self) -> Result<Map, DecodeError> {
        let mut map = msgpack::decode_map(&self.data)?;
        map.set("_stamp", ids::stamp(self.stamp_us));
        Ok(map)
    }

    /// Returns what this event costs in memory, roughly.
    pub(super) fn cost(&self) -> usize {
        self.data.len() + self.tag.as_str().len() + OVERHEAD
    }
}

/// What an event costs besides tag and data: its struct, two reference-counted headers, allocator slack.
const OVERHEAD: usize = size_of::<Event>() + 48;

/// An event that is not on the bus yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its tag.
    pub tag: Tag,
    /// An encoded msgpack map. It should not be a small slice of a large buffer, which it would keep alive in the ring.
    pub data: Bytes,
}

/// The place of a load in the spool of a minion (native-wire.md §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whose spool.
    pub id: MinionId,
    /// Which spool of this minion.
    pub spool: [u8; 16],
    /// The number of the load in it, from 1.
    pub n: u64,
    /// What kind of process the spool belongs to: a daemon's is kept, those of calls come and go.
    pub kind: Kind,
}

/// Events that are committed together, and the mark that is stored with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The events; may be empty, where only the mark has to move.
    pub events: Vec<NewEvent>,
    /// The spool's mark, for loads that came from a spool.
    pub mark: Option<Mark>,
}

impl Batch {
    /// Returns what this batch costs in memory, roughly.
    pub(super) fn cost(&self) -> usize {
        let event = |event: &NewEvent| event.data.len() + event.tag.as_str().len() + OVERHEAD;
        self.events.iter().map(event).sum::<usize>() + OVERHEAD
    }
}

/// What became of a batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The offset of its first event; the others follow without a hole. With `count` 0: the last offset before it.
    pub offset: u64,
    /// How many events were written.
    pub count: usize,
    /// The mark says that this load was committed before: nothing was written.
    pub duplicate: bool,
    /// How many loads of this spool were skipped before this one. A spool that is not known counts from 0.
    pub gap: u64,
}
