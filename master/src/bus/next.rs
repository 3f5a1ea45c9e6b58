//! Keeps the file of the next segment ready, on a thread of its own: made when a segment begins, and filled with the marks of
//! all minions shortly before it ends. The commit that begins the segment then has only those to write that moved since.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Shared, now_us};

/// How often there is a look without being told to.
const EVERY: Duration = Duration::from_secs(5);

/// How long before a new day (UTC), which begins a new segment, the file is filled: a few looks.
const BEFORE_DAY_US: i64 = 20_000_000;

/// A day, in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// What the writer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A file with empty tables.
    File,
    /// A file with the marks as they are now.
    Marks,
}

/// Works until the sender is dropped.
pub(super) fn run(shared: &Shared, wanted: &Receiver<Wanted>) {
    let mut now = Wanted::File;
    loop {
        let done = match now {
            Wanted::File => shared.segments.prepare_next(),
            Wanted::Marks => shared.segments.fill_ahead(shared.epoch()),
        };
        if let Err(error) = done {
            // The writer does it then, and says what is wrong.
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "cannot make the next segment of the event log ahead");
        }
        now = match wanted.recv_timeout(EVERY) {
            Ok(wanted) => wanted,
            Err(RecvTimeoutError::Timeout) if is_late(now_us()) => Wanted::Marks,
            Err(RecvTimeoutError::Timeout) => Wanted::File,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

/// Tells whether a new day begins soon.
fn is_late(now_us: i64) -> bool {
    now_us.rem_euclid(DAY_US) >= DAY_US - BEFORE_DAY_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_late_just_before_midnight() {
        let check =
            |second: i64, late: bool| assert_eq!(is_late(second * 1_000_000 + DAY_US * 20_000), late, "{second}");
        [(0, false), (86_379, false), (86_380, true), (86_399, true), (86_400, false)]
            .into_iter()
            .for_each(|(second, late)| check(second, late));
    }
}
