//! Delays between attempts to connect: a pure function of attempt and seed.

use std::time::Duration;

/// Doubling delays with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first delay. Default 500 ms.
    pub first: Duration,
    /// Upper bound of every delay. Default 30 s.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// Returns the delay before attempt `attempt` (0 for the first repetition): between half of its bound and the
    /// whole, chosen by `seed`, so that a fleet does not come back in step.
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let bound = self.first.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.max);
        let share = mix(seed ^ (u64::from(attempt) << 32)) >> 40;
        // 24 bits of the hash, as a share of one half.
        let jitter = bound.as_secs_f64() / 2.0 * (share as f64 / f64::from(1u32 << 24));
        bound / 2 + Duration::from_secs_f64(jitter)
    }
}

/// The finaliser of splitmix64: each input bit changes half of the output bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound_and_differ_by_seed() {
        let backoff = Backoff::default();
        for attempt in 0..100 {
            let bound = Duration::from_millis(500).saturating_mul(1 << attempt.min(10)).min(backoff.max);
            for seed in 0..50 {
                let delay = backoff.delay(attempt, seed);
                assert!(delay >= bound / 2 && delay <= bound, "{attempt} {seed} {delay:?}");
                assert_eq!(delay, backoff.delay(attempt, seed));
            }
        }
        let distinct: std::collections::HashSet<_> = (0..100).map(|seed| backoff.delay(10, seed)).collect();
        assert!(distinct.len() > 95);
    }
}
