//! One budget for all the incomplete messages of a listener's peers.
//!
//! A return can have megabytes before anything in it can be checked. Each peer may buffer a whole message, but all of
//! them together only so much, proven key or not: a peer with one accepted key can open any number of connections.
//! Beyond the budget the oldest incomplete message goes, and its link with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::queue::Shared;

/// Less than this is not counted: it is what one read may bring anyway, and the budget stays off the usual path.
const UNCOUNTED: usize = 80 * 1024;
const DEFAULT_LIMIT: usize = 256 * 1024 * 1024;

/// A budget in bytes. Share one among listeners by cloning the `Arc`.
pub struct ReadBudget {
    limit: usize,
    holders: Mutex<Holders>,
}

#[derive(Default)]
struct Holders {
    used: usize,
    next: u64,
    /// By age: the first is the oldest.
    by_age: BTreeMap<u64, (usize, Arc<Shared>)>,
}

impl ReadBudget {
    /// Returns a budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<ReadBudget> {
        Arc::new(ReadBudget { limit, holders: Mutex::default() })
    }

    /// Returns how many bytes are counted now.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadBudget {
    /// Returns the default budget: 256 MiB.
    pub(crate) fn standard() -> Arc<ReadBudget> {
        ReadBudget::new(DEFAULT_LIMIT)
    }
}

/// One link's part of the budget.
pub(crate) struct Hold {
    budget: Arc<ReadBudget>,
    ticket: Option<u64>,
}

impl Hold {
    pub(crate) fn new(budget: Arc<ReadBudget>) -> Hold {
        Hold { budget, ticket: None }
    }

    /// Says how many bytes of an incomplete message the link has.
    pub(crate) fn update(&mut self, bytes: usize, link: &Arc<Shared>) {
        if bytes <= UNCOUNTED {
            return self.release();
        }
        let mut holders = self.budget.lock();
        let ticket = *self.ticket.get_or_insert(holders.next);
        holders.next = holders.next.max(ticket + 1);
        let (before, _) = holders.by_age.insert(ticket, (bytes, Arc::clone(link))).unwrap_or((0, Arc::clone(link)));
        holders.used = holders.used - before + bytes;
        while holders.used > self.budget.limit
            && let Some((_, (held, oldest))) = holders.by_age.pop_first()
        {
            holders.used -= held;
            oldest.crowd_out();
        }
    }

    fn release(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut holders = self.budget.lock();
        if let Some((held, _)) = holders.by_age.remove(&ticket) {
            holders.used -= held;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{ConnId, LinkSender, QueueLimits};
    use tokio::time::Instant;

    fn link() -> Arc<Shared> {
        Shared::new(ConnId::next(), QueueLimits::default(), Instant::now())
    }

    #[test]
    fn the_oldest_goes_first_and_everything_is_given_back() {
        let budget = ReadBudget::new(300_000);
        let links = [link(), link(), link()];
        let mut holds = [(); 3].map(|()| Hold::new(Arc::clone(&budget)));
        for at in 0..3 {
            holds[at].update(100_000, &links[at]);
        }
        holds[0].update(50_000, &links[0]);
        assert_eq!(budget.used(), 200_000, "a small rest is not counted");
        holds[0].update(150_000, &links[0]);
        let closed = links.each_ref().map(|link| LinkSender::new(Arc::clone(link)).is_closed());
        assert_eq!(closed, [false, true, false]);
        assert_eq!(budget.used(), 250_000);
        drop(holds);
        assert_eq!(budget.used(), 0);
    }
}
