//! The link's end of the spool: what waits to be stored, and the stored loads that may be under way. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::ids::Jid;
use proto::message::event::EventItem;
use proto::message::{MAX_LOAD, Spooled, WINDOW_BYTES, WINDOW_LOADS};

use super::pack::event_size;
use super::{Exchange, Exchanged, Item, MAX_EVENT_BYTES, MAX_EVENT_ITEMS, OVERHEAD, Read, Row, SpoolError};

/// Reading ahead begins when so few loads are left: half a window at a time, not one load per acknowledgement.
const READ_BELOW: usize = WINDOW_LOADS / 2;

/// What the link's loop has of the spool. `N` is the note that comes back with an acknowledgement.
#[derive(Debug)]
pub struct Window<N> {
    waiting: Vec<Item<N>>,
    waiting_bytes: usize,
    /// Refused since the last exchange.
    skipped: u64,
    exchange: Exchanging,
    /// Stored loads that are not acknowledged, oldest first; only while they may be sent.
    rows: VecDeque<Row>,
    row_bytes: usize,
    /// How many of `rows` were sent on this connection.
    sent: usize,
    /// The place of the last load that was read.
    read: u64,
    /// Whether there may be loads behind it.
    more: bool,
    /// The next load is larger than the room that is left: nothing is asked for until there is more of it.
    stalled: bool,
    acked: u64,
    told_acked: u64,
    notes: VecDeque<(u64, N)>,
}

/// The one exchange that may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchanging {
    No,
    /// Its loads are of no use: nothing was asked for, or a new connection began meanwhile.
    Blind,
    Reading,
}

/// Whether loads may be sent at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// There is a session.
    On,
    /// There is none: loads are only stored.
    Off,
}

/// What an acknowledgement settles.
#[derive(Debug, PartialEq)]
pub struct Settled<N> {
    /// The notes of whoever waited.
    pub notes: Vec<N>,
    /// The jobs whose returns the master has.
    pub jids: Vec<Jid>,
}

impl<N> Default for Window<N> {
    fn default() -> Window<N> {
        Window {
            waiting: Vec::new(),
            waiting_bytes: 0,
            skipped: 0,
            exchange: Exchanging::No,
            rows: VecDeque::new(),
            row_bytes: 0,
            sent: 0,
            read: 0,
            more: true,
            stalled: false,
            acked: 0,
            told_acked: 0,
            notes: VecDeque::new(),
        }
    }
}

impl<N> Window<N> {
    /// Takes an event. It is refused only if it is too large or the disk is far behind; the note comes back with the refusal.
    pub fn push_event(&mut self, item: EventItem, note: Option<N>) -> Result<(), (SpoolError, Option<N>)> {
        let size = event_size(&item);
        if size + OVERHEAD > MAX_LOAD {
            return Err((SpoolError::TooLarge, note));
        }
        if self.waiting_bytes + size > MAX_EVENT_BYTES.max(size) || self.waiting.len() >= MAX_EVENT_ITEMS {
            self.skipped += u64::from(note.is_none());
            return Err((SpoolError::Full, note));
        }
        self.waiting_bytes += size;
        self.waiting.push(Item::Event { item, note });
        Ok(())
    }

    /// Takes a return. Whoever sent it waits until it is stored, so there are no more of them than jobs.
    pub fn push_return(&mut self, item: Item<N>) {
        self.waiting.push(item);
    }

    /// Returns what to give the keeper now, if there is anything and it has answered the last one.
    pub fn exchange(&mut self, flow: Flow) -> Option<Exchange<N>> {
        if flow == Flow::Off {
            self.rewind();
        }
        if self.exchange != Exchanging::No {
            return None;
        }
        self.more |= !self.waiting.is_empty();
        let read = (flow == Flow::On && self.more && !self.stalled).then(|| self.room()).flatten();
        if self.waiting.is_empty() && self.acked == self.told_acked && read.is_none() {
            return None;
        }
        self.exchange = if read.is_some() { Exchanging::Reading } else { Exchanging::Blind };
        self.told_acked = self.acked;
        self.waiting_bytes = 0;
        Some(Exchange {
            put: std::mem::take(&mut self.waiting),
            skipped: std::mem::take(&mut self.skipped),
            acked: self.acked,
            held: if flow == Flow::On { self.read } else { self.acked },
            read,
        })
    }

    /// Takes the keeper's answer; returns the notes of what was dropped.
    pub fn exchanged(&mut self, answer: Exchanged<N>) -> Vec<N> {
        let reading = std::mem::replace(&mut self.exchange, Exchanging::No) == Exchanging::Reading;
        self.notes.extend(answer.stored);
        if reading {
            self.more = answer.more;
            self.stalled = answer.more && answer.rows.is_empty();
            self.read = answer.rows.last().map_or(self.read, |row| row.seq);
            self.row_bytes += answer.rows.iter().map(|row| row.bytes.len()).sum::<usize>();
            self.rows.extend(answer.rows);
        }
        let (dropped, kept) =
            self.notes.drain(..).partition::<Vec<_>, _>(|(seq, _)| answer.dropped.binary_search(seq).is_ok());
        self.notes = kept.into();
        dropped.into_iter().map(|(_, note)| note).collect()
    }

    /// Returns the next load to send on this connection.
    pub fn next_load(&mut self) -> Option<Bytes> {
        let row = self.rows.get(self.sent)?;
        self.sent += 1;
        Some(row.bytes.clone())
    }

    /// Takes an acknowledgement.
    pub fn ack(&mut self, at: Spooled) -> Settled<N> {
        let mut settled = Settled { notes: Vec::new(), jids: Vec::new() };
        while self.rows.front().is_some_and(|row| row.at.spool == at.spool && row.at.n <= at.n) {
            let Some(row) = self.rows.pop_front() else { break };
            self.row_bytes -= row.bytes.len();
            self.sent = self.sent.saturating_sub(1);
            self.acked = row.seq;
            self.stalled = false;
            settled.jids.extend(row.jid);
        }
        while self.notes.front().is_some_and(|(seq, _)| *seq <= self.acked) {
            settled.notes.extend(self.notes.pop_front().map(|(_, note)| note));
        }
        settled
    }

    /// Begins a new connection: what is not acknowledged is read and sent again.
    pub fn rewind(&mut self) {
        self.rows.clear();
        self.row_bytes = 0;
        self.sent = 0;
        self.read = self.acked;
        self.more = true;
        self.stalled = false;
        if self.exchange == Exchanging::Reading {
            self.exchange = Exchanging::Blind;
        }
    }

    /// Tells whether the keeper owes an answer.
    pub fn is_exchanging(&self) -> bool {
        self.exchange != Exchanging::No
    }

    /// Tells whether everything was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.exchange == Exchanging::No && self.rows.is_empty() && !self.more
    }

    /// Returns what may be read now, as the session's window allows.
    fn room(&self) -> Option<Read> {
        let bytes = WINDOW_BYTES.saturating_sub(self.row_bytes);
        // What is new is read as soon as it is stored; what is old, half a window at a time.
        let wanted = self.rows.len() < READ_BELOW || !self.waiting.is_empty();
        let room = Read { after: self.read, loads: WINDOW_LOADS.saturating_sub(self.rows.len()), bytes };
        (wanted && room.loads > 0 && bytes > 0).then_some(room)
    }
}
