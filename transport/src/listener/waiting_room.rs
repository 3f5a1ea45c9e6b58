//! Who is in the middle of a handshake: how many in all, how many of each address, who the longest.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

/// One unfinished handshake.
struct Stranger {
    since: Instant,
    task: AbortHandle,
    /// Set once the handshake is done and the peer only waits to be taken.
    done: Arc<AtomicBool>,
}

/// All unfinished handshakes. Owned by the acceptor's task alone.
#[derive(Default)]
pub(super) struct WaitingRoom {
    addresses: HashMap<Id, IpAddr>,
    counts: HashMap<IpAddr, usize>,
    /// In order of arrival. May still name some who have left; they are skipped.
    order: VecDeque<Stranger>,
}

impl WaitingRoom {
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    pub(super) fn count(&self, address: IpAddr) -> usize {
        self.counts.get(&address).copied().unwrap_or(0)
    }

    pub(super) fn enter(&mut self, address: IpAddr, task: AbortHandle, done: Arc<AtomicBool>, now: Instant) {
        self.addresses.insert(task.id(), address);
        *self.counts.entry(address).or_default() += 1;
        self.order.push_back(Stranger { since: now, task, done });
    }

    pub(super) fn leave(&mut self, id: Id) {
        let Some(address) = self.addresses.remove(&id) else { return };
        if let Some(count) = self.counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
            }
        }
        self.forget_leavers();
    }

    /// Returns when the oldest stranger will have been here for `stale`.
    pub(super) fn stale_at(&self, stale: Duration) -> Option<Instant> {
        self.order.iter().find(|stranger| !stranger.is_done()).map(|stranger| stranger.since + stale)
    }

    /// Sends the oldest stranger away if it has been here for `stale`. Its place is free once its task has ended.
    pub(super) fn evict(&mut self, stale: Duration, now: Instant) -> bool {
        let Some(at) = self.order.iter().position(|stranger| !stranger.is_done()) else { return false };
        let old = self.order[at].since + stale <= now;
        if old && let Some(stranger) = self.order.remove(at) {
            stranger.task.abort();
        }
        old
    }

    /// Keeps the order no longer than twice the room, whoever leaves first.
    fn forget_leavers(&mut self) {
        while self.order.front().is_some_and(|stranger| !self.addresses.contains_key(&stranger.task.id())) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.addresses.len() + 16 {
            self.order.retain(|stranger| self.addresses.contains_key(&stranger.task.id()));
        }
    }
}

impl Stranger {
    fn is_done(&self) -> bool {
        self.task.is_finished() || self.done.load(Ordering::Relaxed)
    }
}
