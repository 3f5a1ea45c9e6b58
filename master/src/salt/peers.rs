//! The connections of Salt peers: so many, and those that have proven nothing give way first.
//!
//! Nothing can be asked of a connection before it speaks: a REQ socket of Salt's that libzmq has reconnected stays silent
//! until its minion has something to say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use transport::{ConnId, LinkSender};

/// How many connections may have proven nothing yet; beyond, the one that came first is closed.
const MAX_UNPROVEN: usize = 16_384;
/// How many bytes of complete requests may be worked on at a time, of large ones and of others; a peer that comes beyond
/// is closed and asks again. Apart, so that nobody's large garbage takes the place of small requests.
const MAX_LARGE_BYTES: usize = 256 * 1024 * 1024;
const MAX_SMALL_BYTES: usize = 128 * 1024 * 1024;
/// The unit of that.
const UNIT: usize = 1_024;
/// From this size on a request is opened on a blocking thread.
pub(super) const LARGE: usize = 64 * 1024;
/// How many large requests are opened at a time: each takes some tens of milliseconds.
const LARGE_AT_ONCE: usize = 2;

/// The handle.
#[derive(Clone)]
pub(super) struct Peers {
    unproven: Arc<Mutex<BTreeMap<u64, LinkSender>>>,
    small_room: Arc<Semaphore>,
    large_room: Arc<Semaphore>,
    large: Arc<Semaphore>,
    crowded_out: Arc<AtomicU64>,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers {
            unproven: Arc::default(),
            small_room: Arc::new(Semaphore::new(MAX_SMALL_BYTES / UNIT)),
            large_room: Arc::new(Semaphore::new(MAX_LARGE_BYTES / UNIT)),
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            crowded_out: Arc::default(),
        }
    }
}

/// A connection among those that have proven nothing, until it is dropped.
pub(super) struct Unproven {
    peers: Peers,
    conn: ConnId,
}

impl Peers {
    /// Takes in a connection. If there are too many, the one that came first is closed.
    pub(super) fn enter(&self, conn: ConnId, sender: LinkSender) -> Unproven {
        let mut unproven = self.unproven();
        unproven.insert(conn.0, sender);
        if unproven.len() > MAX_UNPROVEN
            && let Some((_, first)) = unproven.pop_first()
        {
            drop(unproven);
            first.close();
            self.crowd_out("connections that have proven nothing");
        }
        Unproven { peers: self.clone(), conn }
    }

    /// Gives room for a complete request; none if too much is being worked on.
    pub(super) fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let room = if bytes > LARGE { &self.large_room } else { &self.small_room };
        let room = Arc::clone(room).try_acquire_many_owned(units).ok();
        if room.is_none() {
            self.crowd_out("bytes of requests");
        }
        room
    }

    /// Waits until a large request may be opened.
    pub(super) async fn large(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.large).acquire_owned().await.ok()
    }

    fn crowd_out(&self, what: &'static str) {
        let before = self.crowded_out.fetch_add(1, Ordering::Relaxed);
        if (before + 1).is_power_of_two() {
            tracing::warn!(closed = before + 1, "too many {what} of Salt peers; some are closed");
        }
    }

    fn unproven(&self) -> MutexGuard<'_, BTreeMap<u64, LinkSender>> {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        self.peers.unproven().remove(&self.conn.0);
    }
}
