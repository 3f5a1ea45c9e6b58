//! The newest events in memory, bounded in bytes. Every live reader reads it at its own speed; one that falls behind
//! goes to the log.

use std::collections::VecDeque;

use super::event::Event;

/// The ring. Entries are numbered by `seq`, which also counts events that are not durable.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    /// The number of the oldest entry.
    first: u64,
    bytes: usize,
    limit: usize,
    /// Every durable event after this offset is in the ring.
    floor: u64,
}

/// What one visit of a reader brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The reader stood before the oldest entry: it has to read from the log.
    Behind,
    /// Where the reader stands now; the same place if there was nothing new.
    Upto(u64),
}

impl Ring {
    pub(super) fn new(limit: usize, head: u64) -> Ring {
        Ring { events: VecDeque::new(), first: 0, bytes: 0, limit, floor: head }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns the place behind the newest entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds an event and drops the oldest ones beyond the limit, itself if it alone is too large.
    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.cost();
        self.events.push_back(event);
        while self.bytes > self.limit {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.cost();
            self.first += 1;
            if oldest.durable {
                self.floor = oldest.offset;
            }
        }
    }

    /// Forgets everything after the log was opened anew, at this head. Every reader has to look into the log: what the
    /// ring knew may not be what the log has.
    pub(super) fn restart(&mut self, head: u64) {
        // One more than there are, so that readers at the very end notice too.
        self.first = self.end() + 1;
        self.events.clear();
        self.bytes = 0;
        self.floor = head;
    }

    /// Returns where a reader that wants this offset next can go on, if the ring has all from there.
    pub(super) fn join(&self, next: u64) -> Option<u64> {
        if next <= self.floor {
            return None;
        }
        // Events that are not durable stand behind the durable one whose offset they carry.
        let before = self.events.partition_point(|event| (event.offset, !event.durable) < (next - 1, true));
        Some(self.first + before as u64)
    }

    /// Copies entries from this place on, at most so many and so many bytes (but at least one).
    pub(super) fn take(&self, seq: u64, most: Most, into: &mut VecDeque<Event>) -> Taken {
        if seq < self.first {
            return Taken::Behind;
        }
        let mut bytes = 0;
        let mut at = seq;
        for event in self.events.range((seq - self.first).min(self.events.len() as u64) as usize..).take(most.events) {
            bytes += event.cost();
            if bytes > most.bytes && at > seq {
                break;
            }
            into.push_back(event.clone());
            at += 1;
        }
        Taken::Upto(at)
    }
}

/// How much a reader takes at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::tag::Tag;

    use super::*;

    fn event(offset: u64, durable: bool) -> Event {
        let tag = Tag::parse("a").unwrap();
        Event { offset, tag, stamp_us: 0, data: Bytes::from_static(&[0x80]), durable }
    }

    fn taken(ring: &Ring, seq: u64) -> (Taken, Vec<u64>) {
        let mut into = VecDeque::new();
        let taken = ring.take(seq, Most { events: 10, bytes: 1 << 20 }, &mut into);
        (taken, into.iter().map(|event| event.offset).collect())
    }

    #[test]
    fn the_limit_holds_and_who_is_behind_is_told() {
        let mut ring = Ring::new(event(1, true).cost() * 3, 0);
        for offset in 1..=5 {
            ring.push(event(offset, true));
        }
        assert_eq!((ring.len(), ring.bytes()), (3, event(1, true).cost() * 3));
        assert_eq!(taken(&ring, 1), (Taken::Behind, vec![]));
        assert_eq!(taken(&ring, 2), (Taken::Upto(5), vec![3, 4, 5]));
        assert_eq!(taken(&ring, 5), (Taken::Upto(5), vec![]));
        assert_eq!((ring.join(2), ring.join(3), ring.join(6), ring.join(99)), (None, Some(2), Some(5), Some(5)));
    }

    #[test]
    fn an_event_that_is_too_large_goes_by_the_log() {
        let mut ring = Ring::new(10, 0);
        ring.push(event(1, true));
        assert_eq!((ring.len(), ring.bytes(), ring.join(1), ring.join(2)), (0, 0, None, Some(1)));
    }

    #[test]
    fn joining_keeps_what_came_while_the_log_was_out_of_order() {
        let mut ring = Ring::new(1 << 20, 0);
        for (offset, durable) in [(1, true), (1, false), (1, false), (2, true)] {
            ring.push(event(offset, durable));
        }
        assert_eq!((ring.join(1), ring.join(2), ring.join(3)), (Some(0), Some(1), Some(4)));
    }

    #[test]
    fn a_restart_sends_everybody_to_the_log() {
        let mut ring = Ring::new(1 << 20, 0);
        ring.push(event(1, true));
        let end = ring.end();
        ring.restart(7);
        assert_eq!(taken(&ring, end).0, Taken::Behind);
        assert_eq!((ring.join(7), ring.join(8)), (None, Some(ring.end())));
    }
}
