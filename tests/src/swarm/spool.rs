//! The real minion's spool in memory, without its thread: both ends cranked in place.

use std::time::Instant;

use bytes::Bytes;
use minion::spool::{Flow, Item, Keeper, MAX_EVENT_BYTES, Window};
use proto::message::Spooled;
use proto::message::event::EventItem;
use proto::value::Map;
use tokio::sync::oneshot;

/// How many bytes of events may be unacknowledged; more are refused. So few that the keeper never has to drop any.
const ROOM: usize = MAX_EVENT_BYTES / 2;

/// A spool whose every event and return is waited for. `N` is the note that comes back.
#[derive(Debug)]
pub struct Spool<N> {
    window: Window<(N, usize)>,
    keeper: Keeper,
    bytes: usize,
}

/// There is no room for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<N> Spool<N> {
    /// Makes an empty spool.
    pub fn new(id: [u8; 16]) -> Spool<N> {
        Spool { window: Window::default(), keeper: Keeper::in_memory(id), bytes: 0 }
    }

    /// Takes an event.
    pub fn push_event(&mut self, item: EventItem, note: N) -> Result<(), Full> {
        let size = item.tag.len() + item.data.len();
        if self.bytes + size > ROOM {
            return Err(Full);
        }
        self.window.push_event(item, Some((note, size))).map_err(|_| Full)?;
        self.bytes += size;
        Ok(())
    }

    /// Takes a return; one for which there is no room is dropped, which a swarm's small ones never are.
    pub fn push_return(&mut self, load: Map, note: N) {
        let (taken, _) = oneshot::channel();
        self.window.push_return(Item::Return { load, jid: None, note: Some((note, 0)), taken });
    }

    /// Returns the next load that the window allows; only while there is a session.
    pub fn next_load(&mut self) -> Option<Bytes> {
        while let Some(exchange) = self.window.exchange(Flow::On) {
            // Nothing here depends on the time: there is no disk, and nothing grows old.
            let answer = self.keeper.answer(exchange, Instant::now(), 0);
            self.window.exchanged(answer);
        }
        self.window.next_load()
    }

    /// Takes an acknowledgement; returns the notes of what the master has now.
    pub fn ack(&mut self, at: Spooled) -> Vec<N> {
        let settled = self.window.ack(at).notes;
        self.bytes -= settled.iter().map(|(_, size)| size).sum::<usize>();
        settled.into_iter().map(|(note, _)| note).collect()
    }

    /// Begins a new connection: what is not acknowledged is sent again.
    pub fn rewind(&mut self) {
        self.window.rewind();
    }
}
