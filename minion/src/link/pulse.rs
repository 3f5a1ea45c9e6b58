//! How often the master says PING, as its last `welcome` told: both sides give a silent peer up after three of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use transport::Heartbeat;

/// After how many intervals of silence a peer is dead (native-wire.md §6).
const MISSED: u32 = 3;
/// The shortest interval that is heeded, in seconds: PINGs are no load.
const SHORTEST_S: u64 = 1;
/// The longest one, in seconds: who is silent for a quarter of an hour is gone, whatever was said.
const LONGEST_S: u64 = 300;

/// What the master said; shared by the loop, which hears it, and both connections.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// Takes note of what a `welcome` says.
    pub(super) fn told(&self, ping_s: u64) {
        self.0.store(ping_s.clamp(SHORTEST_S, LONGEST_S), Ordering::Relaxed);
    }

    /// Returns when to ping and when to give up; `before` as long as nothing was said.
    pub(super) fn heartbeat(&self, before: Heartbeat) -> Heartbeat {
        match self.0.load(Ordering::Relaxed) {
            0 => before,
            seconds => {
                let interval = Duration::from_secs(seconds);
                Heartbeat { interval, timeout: interval * MISSED }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_interval_counts_within_reason() {
        let pulse = Pulse::default();
        let check = |seconds: u64| {
            let heartbeat = pulse.heartbeat(Heartbeat::default());
            assert_eq!(heartbeat.interval, Duration::from_secs(seconds));
            assert_eq!(heartbeat.timeout, Duration::from_secs(3 * seconds));
        };
        check(15);
        for (told, heeded) in [(5, 5), (0, SHORTEST_S), (u64::MAX, LONGEST_S)] {
            pulse.told(told);
            check(heeded);
        }
    }
}
