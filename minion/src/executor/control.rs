//! How one running job is stopped, and which process it has: shared by the executor and the job's thread.
//!
//! The executor asks, the job's thread acts: only that thread signals its child, so a pid is never used after it was reaped.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use thiserror::Error;

/// SIGTERM by number, as `saltutil` takes it.
pub const SIGTERM: i32 = 15;
/// SIGKILL by number.
pub const SIGKILL: i32 = 9;

/// Why a job must end. The texts are what the job returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Stop {
    /// It ran past its deadline.
    #[error("The job ran past its deadline and was stopped.")]
    Deadline,
    /// The minion is stopping.
    #[error("The job was interrupted: the minion is stopping.")]
    Interrupted,
    /// Someone killed or terminated it.
    #[error("The job was stopped by signal {0}.")]
    Signal(i32),
}

impl Stop {
    /// Returns the job's return code, as a shell would give it.
    pub fn retcode(self) -> i64 {
        match self {
            Stop::Deadline => 124,
            Stop::Interrupted => 128 + i64::from(SIGTERM),
            Stop::Signal(signal) => 128 + i64::from(signal),
        }
    }

    /// Returns the signal that a child process gets first.
    pub fn signal(self) -> i32 {
        match self {
            Stop::Deadline => SIGKILL,
            Stop::Interrupted => SIGTERM,
            Stop::Signal(signal) => signal,
        }
    }
}

/// The control of one job.
#[derive(Debug, Default)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: Option<Stop>,
    /// A signal that does not end the job by itself (`saltutil.signal_job`), not delivered yet.
    signal: Option<i32>,
    child: Option<u32>,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the job to end. A later, harder reason replaces an earlier one.
    pub fn stop(&self, stop: Stop) {
        let mut state = self.state();
        if state.stop.is_none() || stop == Stop::Signal(SIGKILL) {
            state.stop = Some(stop);
        }
        self.changed.notify_all();
    }

    /// Passes a signal on: to the child if there is one; one that ends processes also ends the job.
    pub fn signal(&self, signal: i32) {
        // SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGKILL and SIGTERM end what does not handle them; a job handles none.
        if [1, 2, 3, 6, SIGKILL, SIGTERM].contains(&signal) {
            return self.stop(Stop::Signal(signal));
        }
        self.state().signal = Some(signal);
        self.changed.notify_all();
    }

    /// Tells why the job must end, if it must.
    pub fn stopped(&self) -> Option<Stop> {
        self.state().stop
    }

    /// Takes the signal that the child shall get.
    pub fn take_signal(&self) -> Option<i32> {
        self.state().signal.take()
    }

    /// Returns the pid of the job's child process, if it has one.
    pub fn child(&self) -> Option<u32> {
        self.state().child
    }

    /// Notes that the job has, or no longer has, a child process.
    pub fn set_child(&self, child: Option<u32>) {
        self.state().child = child;
    }

    /// Waits until the job must end or the time has come; for ever if there is none.
    pub fn wait_until(&self, end: Option<Instant>) {
        let mut state = self.state();
        while state.stop.is_none() {
            state = match end {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => match end.checked_duration_since(Instant::now()) {
                    None => return,
                    Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harder_reason_replaces_an_earlier_one() {
        let control = Control::default();
        control.signal(SIGTERM);
        control.stop(Stop::Deadline);
        assert_eq!(control.stopped(), Some(Stop::Signal(SIGTERM)));
        control.signal(SIGKILL);
        assert_eq!(control.stopped(), Some(Stop::Signal(SIGKILL)));
    }

    #[test]
    fn a_harmless_signal_does_not_stop_the_job() {
        let control = Control::default();
        control.signal(10);
        assert_eq!((control.stopped(), control.take_signal(), control.take_signal()), (None, Some(10), None));
    }
}
