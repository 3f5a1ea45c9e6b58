//! The rules of the room: when each beacon looks, what becomes of one that takes too long, how much each may fire. Pure.

use std::time::{Duration, Instant};

/// How many events a beacon may fire at once: a person's busiest minute, or a package's installation.
pub const RATE_BURST: u32 = 1000;
/// How many events a beacon may fire per second in the long run. More are counted, not fired.
pub const RATE_PER_SECOND: u32 = 100;
/// How long a look may take before it is reported. The beacon looks again when it has come back.
pub const LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// How often at most dropped events are reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Numbers the beacons of one process; a beacon that was replaced has another number.
pub(super) type Serial = u64;

/// When a beacon looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) interval: Duration,
}

/// What happens in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BeaconsInput {
    /// A beacon was made.
    Built(Serial),
    /// A beacon has looked, or was found to rest; it wants to fire this many events.
    Looked { beacon: Serial, events: u32 },
    /// Time has passed.
    Tick,
    /// A beacon has something to tell.
    Woken(Serial),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BeaconsOutput {
    /// So many events of this beacon were dropped since the last report.
    Dropped { beacon: Serial, events: u64 },
    /// Fire the first so many of the events that it wants to fire.
    Fire { beacon: Serial, events: u32 },
    /// This beacon has been looking for too long.
    Late(Serial),
    /// Let it look.
    Look(Serial),
}

/// All beacons of the room.
#[derive(Debug, Default)]
pub(super) struct BeaconsState {
    entries: Vec<Entry>,
    last: Serial,
}

#[derive(Debug)]
struct Entry {
    serial: Serial,
    timing: Timing,
    phase: Phase,
    woken: bool,
    allowance: Allowance,
    dropped: u64,
    reported: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Building,
    Idle { due: Instant },
    Late,
    Looking { deadline: Instant, due: Instant },
}

/// A bucket of events that fills with time.
#[derive(Debug)]
struct Allowance {
    events: f64,
    at: Instant,
}

impl BeaconsState {
    /// Adds a beacon that is being made.
    pub(super) fn add(&mut self, now: Instant, timing: Timing) -> Serial {
        self.last += 1;
        self.entries.push(Entry {
            serial: self.last,
            timing,
            phase: Phase::Building,
            woken: false,
            allowance: Allowance { events: f64::from(RATE_BURST), at: now },
            dropped: 0,
            reported: None,
        });
        self.last
    }

    /// Forgets a beacon.
    pub(super) fn remove(&mut self, beacon: Serial) {
        self.entries.retain(|entry| entry.serial != beacon);
    }

    /// Returns when a tick is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.entries.iter().filter_map(Entry::next_tick).min()
    }

    /// Takes one input and returns what is to be done.
    pub(super) fn handle(&mut self, now: Instant, input: BeaconsInput) -> Vec<BeaconsOutput> {
        match input {
            BeaconsInput::Built(beacon) => self.entry(beacon).map_or_else(Vec::new, |entry| entry.built(now)),
            BeaconsInput::Looked { beacon, events } => {
                self.entry(beacon).map_or_else(Vec::new, |entry| entry.looked(now, events))
            }
            BeaconsInput::Tick => self.entries.iter_mut().flat_map(|entry| entry.tick(now)).collect(),
            BeaconsInput::Woken(beacon) => self.entry(beacon).map_or_else(Vec::new, |entry| entry.wake(now)),
        }
    }

    fn entry(&mut self, beacon: Serial) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.serial == beacon)
    }
}

impl Entry {
    fn next_tick(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Building | Phase::Late => None,
            Phase::Idle { due } => Some(due),
            Phase::Looking { deadline, .. } => Some(deadline),
        };
        let report = self.reported.filter(|_| self.dropped > 0).map(|at| at + REPORT_EVERY);
        [phase, report].into_iter().flatten().min()
    }

    /// As in Salt, the first look comes one interval after the start.
    fn built(&mut self, now: Instant) -> Vec<BeaconsOutput> {
        self.phase = Phase::Idle { due: now + self.timing.interval };
        if self.woken { self.look(now) } else { Vec::new() }
    }

    fn tick(&mut self, now: Instant) -> Vec<BeaconsOutput> {
        let mut outputs: Vec<BeaconsOutput> = self.report(now).into_iter().collect();
        match self.phase {
            Phase::Idle { due } if due <= now => outputs.extend(self.look(now)),
            Phase::Looking { deadline, .. } if deadline <= now => {
                self.phase = Phase::Late;
                outputs.push(BeaconsOutput::Late(self.serial));
            }
            _ => {}
        }
        outputs
    }

    fn wake(&mut self, now: Instant) -> Vec<BeaconsOutput> {
        self.woken = true;
        if matches!(self.phase, Phase::Idle { .. }) { self.look(now) } else { Vec::new() }
    }

    fn look(&mut self, now: Instant) -> Vec<BeaconsOutput> {
        let due = match self.phase {
            // An extra look does not move the regular ones.
            Phase::Idle { due } if due > now => due,
            _ => now + self.timing.interval,
        };
        self.woken = false;
        self.phase = Phase::Looking { deadline: now + LOOK_DEADLINE, due };
        vec![BeaconsOutput::Look(self.serial)]
    }

    fn looked(&mut self, now: Instant, events: u32) -> Vec<BeaconsOutput> {
        let mut outputs = Vec::new();
        let granted = self.allowance.take(now, events);
        if granted > 0 {
            outputs.push(BeaconsOutput::Fire { beacon: self.serial, events: granted });
        }
        self.dropped += u64::from(events - granted);
        outputs.extend(self.report(now));
        let due = match self.phase {
            Phase::Looking { due, .. } => due,
            _ => now + self.timing.interval,
        };
        self.phase = Phase::Idle { due };
        if self.woken {
            outputs.extend(self.look(now));
        }
        outputs
    }

    fn report(&mut self, now: Instant) -> Option<BeaconsOutput> {
        if self.dropped == 0 || self.reported.is_some_and(|at| at + REPORT_EVERY > now) {
            return None;
        }
        self.reported = Some(now);
        Some(BeaconsOutput::Dropped { beacon: self.serial, events: std::mem::take(&mut self.dropped) })
    }
}

impl Allowance {
    fn take(&mut self, now: Instant, wanted: u32) -> u32 {
        let filled = self.events + now.duration_since(self.at).as_secs_f64() * f64::from(RATE_PER_SECOND);
        self.events = filled.min(f64::from(RATE_BURST));
        self.at = now;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and RATE_BURST")]
        let granted = wanted.min(self.events as u32);
        self.events -= f64::from(granted);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn room(interval: Duration) -> (BeaconsState, Serial, Instant) {
        let now = Instant::now();
        let mut state = BeaconsState::default();
        let beacon = state.add(now, Timing { interval });
        assert_eq!(state.handle(now, BeaconsInput::Built(beacon)), []);
        (state, beacon, now)
    }

    fn looked(beacon: Serial, events: u32) -> BeaconsInput {
        BeaconsInput::Looked { beacon, events }
    }

    #[test]
    fn it_looks_once_per_interval_however_long_a_look_takes() {
        let (mut state, beacon, start) = room(5 * SECOND);
        assert_eq!(state.next_tick(), Some(start + 5 * SECOND));
        assert_eq!(state.handle(start + 4 * SECOND, BeaconsInput::Tick), []);
        assert_eq!(state.handle(start + 5 * SECOND, BeaconsInput::Tick), [BeaconsOutput::Look(beacon)]);
        assert_eq!(state.handle(start + 7 * SECOND, looked(beacon, 0)), []);
        assert_eq!(state.next_tick(), Some(start + 10 * SECOND));
    }

    #[test]
    fn a_woken_beacon_looks_at_once_and_keeps_its_interval() {
        let (mut state, beacon, start) = room(5 * SECOND);
        assert_eq!(state.handle(start + SECOND, BeaconsInput::Woken(beacon)), [BeaconsOutput::Look(beacon)]);
        // Woken again while it looks: it looks once more.
        assert_eq!(state.handle(start + SECOND, BeaconsInput::Woken(beacon)), []);
        let fire = BeaconsOutput::Fire { beacon, events: 2 };
        assert_eq!(state.handle(start + SECOND, looked(beacon, 2)), [fire, BeaconsOutput::Look(beacon)]);
        state.handle(start + SECOND, looked(beacon, 0));
        assert_eq!(state.next_tick(), Some(start + 5 * SECOND));
    }

    #[test]
    fn a_look_that_hangs_is_reported_once_and_not_repeated() {
        let (mut state, beacon, start) = room(SECOND);
        state.handle(start + SECOND, BeaconsInput::Tick);
        let late = start + SECOND + LOOK_DEADLINE;
        assert_eq!(state.handle(late, BeaconsInput::Tick), [BeaconsOutput::Late(beacon)]);
        assert_eq!((state.next_tick(), state.handle(late + SECOND, BeaconsInput::Tick)), (None, vec![]));
        state.handle(late + 2 * SECOND, looked(beacon, 0));
        assert_eq!(state.next_tick(), Some(late + 3 * SECOND));
    }

    #[test]
    fn a_flood_is_cut_and_reported_once_a_minute() {
        let (mut state, beacon, start) = room(SECOND);
        let fire = |events| BeaconsOutput::Fire { beacon, events };
        let dropped = |events| BeaconsOutput::Dropped { beacon, events };
        assert_eq!(state.handle(start, looked(beacon, RATE_BURST + 5)), [fire(RATE_BURST), dropped(5)]);
        assert_eq!(state.handle(start, looked(beacon, 7)), []);
        assert_eq!(state.handle(start + SECOND, looked(beacon, 300)), [fire(RATE_PER_SECOND)]);
        let outputs = state.handle(start + 60 * SECOND, BeaconsInput::Tick);
        assert!(outputs.contains(&dropped(207)), "{outputs:?}");
    }

    #[test]
    fn a_removed_beacon_is_heard_no_more() {
        let (mut state, beacon, start) = room(SECOND);
        state.remove(beacon);
        assert_eq!(state.handle(start, looked(beacon, 3)), []);
        assert_eq!(state.next_tick(), None);
    }
}
