//! How long to wait before the next attempt: doubling delays with jitter, a pure function of attempt and seed.

use std::time::Duration;

use transport::Backoff;

/// The first delay and the longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Upper bound of the first delay.
    pub first: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Default for Pace {
    /// Short enough that a fleet is back within ten seconds of its master, long enough not to trample it.
    fn default() -> Pace {
        Pace { first: Duration::from_millis(500), max: Duration::from_secs(8) }
    }
}

impl Pace {
    /// Returns the delay before an attempt: between half of its bound and the whole, chosen by `seed`.
    pub(super) fn delay(self, attempt: u32, seed: u64) -> Duration {
        Backoff { first: self.first, max: self.max }.delay(attempt, seed)
    }
}
