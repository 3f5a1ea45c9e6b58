//! The spool: what is on its way to the master, in order, until the master has it in its log.
//!
//! Pure: no clock, no sockets. Items wait; those that wait together are packed into one load of events; a load gets its
//! number `n` when it is packed and keeps it until it is acknowledged, however often it is sent. The spool is in memory: it
//! lives as long as the process, and has a new random id with every start (native-wire.md §4).
//!
//! When it is full, events nobody waits for go, the oldest first; a sender that waits is refused instead; returns have room
//! of their own. What was dropped leaves a gap in `n`, from which the master tells that something is missing.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::message::event::{EventItem, MAX_EVENTS};
use proto::message::{BadLoad, MAX_LOAD, MinionEvents, Request, Return, Spooled, WINDOW_BYTES, WINDOW_LOADS};
use proto::value::Map;

/// How many bytes of events may wait. A beacon's event has about 300; this is what 3,000 of them take.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// How many events may wait, however small they are.
pub const MAX_EVENT_ITEMS: usize = 8192;
/// How many bytes of returns may wait or be under way; more are refused, and the executor keeps them.
pub const MAX_RETURN_BYTES: usize = 16 << 20;
/// How large a load of several events may grow.
pub const MAX_BATCH_BYTES: usize = 64 << 10;
/// What is counted for an item beside its text and data.
const ITEM_OVERHEAD: usize = 64;

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// It cannot become a return's load.
    #[error("it lacks a field that every return has")]
    BadReturn,
    /// There is no room, and nothing that may be dropped for it.
    #[error("the spool is full")]
    Full,
    /// The minion is stopping.
    #[error("the minion is stopping")]
    Stopped,
    /// It exceeds the largest load.
    #[error("it is larger than {MAX_LOAD} bytes")]
    TooLarge,
}

/// Whether somebody waits for an event's acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish<N> {
    /// Nobody waits: the event may be dropped if there is no room.
    Droppable,
    /// The note comes back when the event was acknowledged.
    Tell(N),
}

/// What is on its way. `N` is the note that comes back with an acknowledgement.
#[derive(Debug)]
pub struct Spool<N> {
    id: [u8; 16],
    waiting: VecDeque<Item<N>>,
    event_bytes: usize,
    return_bytes: usize,
    /// Packed loads that are not acknowledged, oldest first.
    loads: VecDeque<Load<N>>,
    load_bytes: usize,
    /// How many of `loads` were sent on this connection.
    sent: usize,
    last_n: u64,
    /// Dropped since the last load was packed.
    gap: u64,
    /// Dropped since the start.
    dropped: u64,
}

#[derive(Debug)]
enum Item<N> {
    Event { item: EventItem, wish: Wish<N> },
    Return { load: Map, bytes: usize, note: N },
}

#[derive(Debug)]
struct Load<N> {
    n: u64,
    bytes: Bytes,
    return_bytes: usize,
    notes: Vec<N>,
}

impl<N> Spool<N> {
    /// Makes an empty spool with a random id.
    pub fn new(id: [u8; 16]) -> Spool<N> {
        Spool {
            id,
            waiting: VecDeque::new(),
            event_bytes: 0,
            return_bytes: 0,
            loads: VecDeque::new(),
            load_bytes: 0,
            sent: 0,
            last_n: 0,
            gap: 0,
            dropped: 0,
        }
    }

    /// Takes an event. If there is no room, the oldest events nobody waits for go; failing that, the new one is refused, and
    /// counts as dropped if nobody waits for it.
    pub fn push_event(&mut self, item: EventItem, wish: Wish<N>) -> Result<(), SpoolError> {
        let size = event_size(&item);
        if size + ITEM_OVERHEAD > MAX_LOAD {
            return Err(SpoolError::TooLarge);
        }
        while self.event_bytes + size > MAX_EVENT_BYTES.max(size) || self.waiting.len() >= MAX_EVENT_ITEMS {
            if !self.drop_oldest() {
                if wish_is_droppable(&wish) {
                    self.count_dropped();
                }
                return Err(SpoolError::Full);
            }
        }
        self.event_bytes += size;
        self.waiting.push_back(Item::Event { item, wish });
        Ok(())
    }

    /// Takes a return's load, as the executor builds it.
    pub fn push_return(&mut self, load: Map, note: N) -> Result<(), SpoolError> {
        let probe =
            Return::new(Spooled { spool: self.id, n: u64::MAX }, &load).map_err(|_: BadLoad| SpoolError::BadReturn)?;
        let bytes = probe.load.len() + ITEM_OVERHEAD;
        if bytes > MAX_LOAD {
            return Err(SpoolError::TooLarge);
        }
        if self.return_bytes > 0 && self.return_bytes + bytes > MAX_RETURN_BYTES {
            return Err(SpoolError::Full);
        }
        self.return_bytes += bytes;
        self.waiting.push_back(Item::Return { load, bytes, note });
        Ok(())
    }

    /// Returns the next load to send on this connection, while the window allows one.
    pub fn next_load(&mut self) -> Option<Bytes> {
        if self.sent == self.loads.len() {
            self.pack()?;
        }
        let load = self.loads.get(self.sent)?;
        self.sent += 1;
        Some(load.bytes.clone())
    }

    /// Takes an acknowledgement; returns the notes of everything that is now in the master's log.
    pub fn ack(&mut self, at: Spooled) -> Vec<N> {
        let mut notes = Vec::new();
        if at.spool != self.id {
            return notes;
        }
        while self.loads.front().is_some_and(|load| load.n <= at.n) {
            let Some(load) = self.loads.pop_front() else { break };
            self.load_bytes -= load.bytes.len();
            self.return_bytes -= load.return_bytes;
            self.sent = self.sent.saturating_sub(1);
            notes.extend(load.notes);
        }
        notes
    }

    /// Begins a new connection: what was sent and not acknowledged is sent again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Tells whether everything was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.loads.is_empty()
    }

    /// Returns how many events were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Packs what waits at the front into a load, if the window has room for it.
    fn pack(&mut self) -> Option<()> {
        let room = if self.loads.is_empty() { usize::MAX } else { WINDOW_BYTES.saturating_sub(self.load_bytes) };
        if self.loads.len() >= WINDOW_LOADS || self.waiting.front()?.size() > room {
            return None;
        }
        let n = self.last_n + 1 + self.gap;
        let at = Spooled { spool: self.id, n };
        let load = match self.waiting.pop_front()? {
            Item::Return { load, bytes, note } => {
                // It was encoded once when it was taken, so it can be encoded again.
                let ret = Return::new(at, &load).ok()?;
                Load { n, bytes: Request::Return(ret).encode().into(), return_bytes: bytes, notes: vec![note] }
            }
            first @ Item::Event { .. } => self.pack_events(first, at, room),
        };
        self.last_n = n;
        self.gap = 0;
        self.load_bytes += load.bytes.len();
        self.loads.push_back(load);
        Some(())
    }

    fn pack_events(&mut self, first: Item<N>, at: Spooled, room: usize) -> Load<N> {
        let (mut events, mut notes, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(Item::Event { item, wish }) = next.take() {
            let size = event_size(&item);
            bytes += size;
            self.event_bytes -= size;
            events.push(item);
            if let Wish::Tell(note) = wish {
                notes.push(note);
            }
            let limit = MAX_BATCH_BYTES.min(room);
            let fits = |item: &Item<N>| matches!(item, Item::Event { .. }) && bytes + item.size() <= limit;
            if events.len() < MAX_EVENTS && self.waiting.front().is_some_and(fits) {
                next = self.waiting.pop_front();
            }
        }
        let load = Request::MinionEvents(MinionEvents { at, events }).encode();
        Load { n: at.n, bytes: load.into(), return_bytes: 0, notes }
    }

    /// Drops the oldest event that nobody waits for; tells whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let droppable = |item: &Item<N>| matches!(item, Item::Event { wish: Wish::Droppable, .. });
        let Some(index) = self.waiting.iter().position(droppable) else { return false };
        if let Some(item) = self.waiting.remove(index) {
            self.event_bytes -= item.size();
        }
        self.count_dropped();
        true
    }

    fn count_dropped(&mut self) {
        self.gap += 1;
        self.dropped += 1;
    }
}

impl<N> Item<N> {
    fn size(&self) -> usize {
        match self {
            Item::Event { item, .. } => event_size(item),
            Item::Return { bytes, .. } => *bytes,
        }
    }
}

fn event_size(item: &EventItem) -> usize {
    item.tag.len() + item.data.len() + ITEM_OVERHEAD
}

fn wish_is_droppable<N>(wish: &Wish<N>) -> bool {
    matches!(wish, Wish::Droppable)
}

#[cfg(test)]
mod tests;
