//! Whether a minion is live, as the swarm's gauge counts it.

use super::tally::Totals;

/// Whether a minion has all that it needs to get jobs: its session and its SUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It never had.
    New,
    /// It has.
    Live,
    /// It had.
    Gone,
}

impl Life {
    /// Notes that it has everything.
    pub(super) fn begin(&mut self, totals: &mut Totals) {
        match self {
            Life::Live => return,
            Life::Gone => totals.count.reconnects += 1,
            Life::New => {}
        }
        *self = Life::Live;
        totals.count.live += 1;
    }

    /// Notes that something is gone.
    pub(super) fn end(&mut self, totals: &mut Totals) {
        if *self == Life::Live {
            *self = Life::Gone;
            totals.count.live -= 1;
        }
    }
}
