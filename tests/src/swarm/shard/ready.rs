//! Which minions of a shard are awake: a queue of numbers, filled by wakers that know theirs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The queue. A minion is in it at most once, so it is never longer than the shard has minions.
#[derive(Default)]
pub(super) struct Ready {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    awake: VecDeque<Arc<Bell>>,
    /// Whoever serves the queue.
    shard: Option<Waker>,
}

/// The waker of one minion.
struct Bell {
    number: usize,
    /// Whether it is in the queue.
    rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        Wake::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut queue = self.ready.lock();
        queue.awake.push_back(Arc::clone(self));
        let shard = queue.shard.take();
        drop(queue);
        if let Some(shard) = shard {
            shard.wake();
        }
    }
}

impl Ready {
    /// Returns the waker of a minion.
    pub(super) fn waker(self: &Arc<Self>, number: usize) -> Waker {
        Arc::new(Bell { number, rung: AtomicBool::new(false), ready: Arc::clone(self) }).into()
    }

    /// Has this waker woken by the next minion that wakes.
    pub(super) fn watch(&self, shard: &Waker) {
        self.lock().shard = Some(shard.clone());
    }

    /// Takes the minion that has been awake longest. From now on it can be woken again.
    pub(super) fn pop(&self) -> Option<usize> {
        let bell = self.lock().awake.pop_front()?;
        bell.rung.store(false, Ordering::Release);
        Some(bell.number)
    }

    /// Tells whether everybody sleeps.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().awake.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A push or a pop cannot leave the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wakes_twice_is_served_once_and_can_wake_again() {
        let ready = Arc::new(Ready::default());
        let [first, second] = [0, 1].map(|number| ready.waker(number));
        first.wake_by_ref();
        second.wake_by_ref();
        first.wake_by_ref();
        assert_eq!([ready.pop(), ready.pop(), ready.pop()], [Some(0), Some(1), None]);
        first.wake();
        assert_eq!(ready.pop(), Some(0));
        assert!(ready.is_empty());
    }
}
