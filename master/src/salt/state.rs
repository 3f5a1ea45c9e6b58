//! When the shared key is replaced (salt-wire.md §2.7): at once when a minion loses its rights, then at most once a
//! minute; when it is old; and when somebody asks. Pure: the time comes in as an argument.

use std::time::{Duration, Instant};

/// How long after a replacement the next one has to wait: each makes every Salt minion authenticate anew.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// Whether the shared key is to be replaced.
#[derive(Debug)]
pub(super) struct SaltState {
    /// How long a key lives; zero for ever.
    life: Duration,
    /// When the present key is too old, if ever.
    old_at: Option<Instant>,
    /// When a key was last replaced for somebody who lost its rights.
    replaced: Option<Instant>,
    /// Somebody who has lost its rights still knows the key.
    wanted: bool,
}

impl SaltState {
    /// Begins with a key that is this old.
    pub(super) fn new(life: Duration, age: Duration, now: Instant) -> SaltState {
        let old_at = (!life.is_zero()).then(|| now + life.saturating_sub(age));
        SaltState { life, old_at, replaced: None, wanted: false }
    }

    /// Notes that somebody who knows the key has lost its rights.
    pub(super) fn revoked(&mut self) {
        self.wanted = true;
    }

    /// Tells whether the key is to be replaced now; the caller does so.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let old = self.old_at.is_some_and(|at| at <= now);
        let paused = self.replaced.is_some_and(|replaced| now.duration_since(replaced) < PAUSE);
        if !old && (!self.wanted || paused) {
            return false;
        }
        *self = SaltState { replaced: Some(now), ..SaltState::new(self.life, Duration::ZERO, now) };
        true
    }

    /// Returns when to look again at the latest, if there is anything to wait for.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let paused = self.replaced.filter(|_| self.wanted).map(|replaced| replaced + PAUSE);
        paused.into_iter().chain(self.old_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_right_replaces_the_key_at_once_then_at_most_once_a_minute() {
        let start = Instant::now();
        let mut state = SaltState::new(Duration::ZERO, 10 * PAUSE, start);
        assert!(!state.is_due(start) && state.look_at().is_none());
        state.revoked();
        assert!(state.is_due(start), "at once");
        state.revoked();
        state.revoked();
        assert!(!state.is_due(start + Duration::from_secs(59)));
        assert_eq!(state.look_at(), Some(start + PAUSE));
        assert!(state.is_due(start + PAUSE), "what had to wait is not forgotten");
        assert!(!state.is_due(start + 10 * PAUSE), "once for all of them");
    }

    #[test]
    fn a_key_has_an_age() {
        let start = Instant::now();
        let day = Duration::from_secs(86_400);
        let mut state = SaltState::new(day, PAUSE, start);
        assert!(!state.is_due(start + day - 2 * PAUSE), "what it has lived before a restart counts");
        assert!(state.is_due(start + day - PAUSE));
        assert_eq!(state.look_at(), Some(start + 2 * day - PAUSE));
        assert!(SaltState::new(day, 2 * day, start).is_due(start));
    }
}
