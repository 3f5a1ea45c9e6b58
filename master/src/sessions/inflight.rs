//! Spooled loads between their arrival and their acknowledgement: in order, counted, bounded by the window.

use std::collections::VecDeque;

use futures_util::FutureExt;
use proto::ids::Jid;
use proto::message::{Spooled, WINDOW_BYTES, WINDOW_LOADS};

use crate::bus::{CommitError, CommitTicket, Committed};

/// One load on its way into the log.
pub(super) struct Load {
    /// Where it stands in its spool.
    pub(super) at: Spooled,
    /// Its size, for the window.
    pub(super) bytes: usize,
    /// The job whose return it is, if it is one.
    pub(super) ret: Option<Jid>,
    /// Resolves when it is in the log.
    pub(super) ticket: CommitTicket,
}

/// The loads of one session, oldest first.
#[derive(Default)]
pub(super) struct Inflight {
    loads: VecDeque<Load>,
    bytes: usize,
    /// The bus's epoch when the oldest of them was taken.
    epoch: u64,
}

impl Inflight {
    /// Takes in a load that was handed to the bus.
    pub(super) fn push(&mut self, load: Load) {
        self.bytes += load.bytes;
        self.loads.push_back(load);
    }

    /// Returns the epoch to submit the next load with; `now` is the bus's. As long as a load before it is undecided it shares
    /// that one's fate.
    pub(super) fn epoch(&mut self, now: u64) -> u64 {
        if self.loads.is_empty() {
            self.epoch = now;
        }
        self.epoch
    }

    /// Tells whether the window is used up: then the socket is not read.
    pub(super) fn is_full(&self) -> bool {
        self.loads.len() >= WINDOW_LOADS || self.bytes >= WINDOW_BYTES
    }

    /// Tells whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    /// Waits until the oldest load is decided. Cancel-safe: an undecided load stays.
    pub(super) async fn next(&mut self) -> Option<(Load, Result<Committed, CommitError>)> {
        let front = self.loads.front_mut()?;
        let outcome = (&mut front.ticket).await;
        self.pop().map(|load| (load, outcome))
    }

    /// Returns the oldest load if it is decided already.
    pub(super) fn ready(&mut self) -> Option<(Load, Result<Committed, CommitError>)> {
        let outcome = (&mut self.loads.front_mut()?.ticket).now_or_never()?;
        self.pop().map(|load| (load, outcome))
    }

    fn pop(&mut self) -> Option<Load> {
        let load = self.loads.pop_front()?;
        self.bytes -= load.bytes;
        Some(load)
    }
}
