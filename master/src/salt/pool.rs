//! RSA work, in turns: so many at a time, on blocking threads, what established minions need first, then those who log
//! in, address by address. A thousand that log in at once keep nobody waiting who is in already.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many that log in may wait from one address: a fleet may sit behind one router.
const MAX_WAITING_OF_ONE: usize = 1_024;
/// How many that log in may wait in all. Beyond either, a peer gets no answer and asks again later.
const MAX_WAITING: usize = 4_096;
/// How many of the established may wait: each has one request under way.
const MAX_ESTABLISHED: usize = 65_536;

/// Whose work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A minion that is in, or the master itself.
    Established,
    /// Somebody at this address who wants to be.
    Login(IpAddr),
}

/// Those who wait, and who is next.
#[derive(Debug)]
struct Waiting<T> {
    established: VecDeque<T>,
    logins: HashMap<IpAddr, VecDeque<T>>,
    /// The addresses that wait, in their order.
    order: VecDeque<IpAddr>,
    count: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting { established: VecDeque::new(), logins: HashMap::new(), order: VecDeque::new(), count: 0 }
    }
}

impl<T> Waiting<T> {
    /// Takes somebody in; tells whether there was room.
    fn push(&mut self, lane: Lane, one: T) -> bool {
        match lane {
            Lane::Established if self.established.len() >= MAX_ESTABLISHED => return false,
            Lane::Established => self.established.push_back(one),
            Lane::Login(address) => {
                let queue = self.logins.entry(address).or_default();
                if queue.len() >= MAX_WAITING_OF_ONE || self.count >= MAX_WAITING {
                    if queue.is_empty() {
                        self.logins.remove(&address);
                    }
                    return false;
                }
                if queue.is_empty() {
                    self.order.push_back(address);
                }
                queue.push_back(one);
                self.count += 1;
            }
        }
        true
    }

    /// Returns who is next: the established first, then one of each address in turn.
    fn pop(&mut self) -> Option<T> {
        if let Some(one) = self.established.pop_front() {
            return Some(one);
        }
        let address = self.order.pop_front()?;
        let queue = self.logins.get_mut(&address)?;
        let one = queue.pop_front();
        self.count -= 1;
        if queue.is_empty() {
            self.logins.remove(&address);
        } else {
            self.order.push_back(address);
        }
        one
    }
}

struct Shared {
    free: usize,
    waiting: Waiting<oneshot::Sender<Turn>>,
}

/// The handle.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Mutex<Shared>>,
}

impl Default for Pool {
    /// Half of the processors, at least one: the others have connections to serve.
    fn default() -> Pool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Pool::new((cores / 2).max(1))
    }
}

/// The right to work, until it is dropped.
pub(super) struct Turn {
    pool: Option<Pool>,
}

impl Pool {
    fn new(workers: usize) -> Pool {
        Pool { shared: Arc::new(Mutex::new(Shared { free: workers, waiting: Waiting::default() })) }
    }

    /// Waits for a turn; none if too many wait.
    pub(super) async fn turn(&self, lane: Lane) -> Option<Turn> {
        let turn = {
            let mut shared = self.lock();
            if shared.free > 0 {
                shared.free -= 1;
                return Some(Turn { pool: Some(self.clone()) });
            }
            let (give, turn) = oneshot::channel();
            if !shared.waiting.push(lane, give) {
                return None;
            }
            turn
        };
        turn.await.ok()
    }

    /// Gives a place on to who is next and still there.
    fn give(&self) {
        loop {
            let next = {
                let mut shared = self.lock();
                match shared.waiting.pop() {
                    Some(next) => next,
                    None => {
                        shared.free += 1;
                        return;
                    }
                }
            };
            let Err(mut unwanted) = next.send(Turn { pool: Some(self.clone()) }) else { return };
            unwanted.pool = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give();
        }
    }
}

/// Runs something that computes on a blocking thread. Nothing if the runtime is going away, or if it panicked.
pub(super) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            if error.is_panic() {
                tracing::error!("a computation of the Salt wire panicked");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_established_go_first_then_each_address_in_turn() {
        let mut waiting = Waiting::default();
        for at in 0..3 {
            waiting.push(Lane::Login(address(1)), format!("a{at}"));
        }
        waiting.push(Lane::Login(address(2)), "b0".into());
        waiting.push(Lane::Established, "e".into());
        let order: Vec<String> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!(order, ["e", "a0", "b0", "a1", "a2"]);
        assert!(waiting.logins.is_empty() && waiting.order.is_empty() && waiting.count == 0);
    }

    #[test]
    fn one_address_has_only_so_many_places() {
        let mut waiting = Waiting::default();
        let taken = (0..2 * MAX_WAITING_OF_ONE).filter(|at| waiting.push(Lane::Login(address(1)), *at)).count();
        assert_eq!(taken, MAX_WAITING_OF_ONE);
        assert!(waiting.push(Lane::Login(address(2)), 0), "another address still has places");
    }

    #[tokio::test]
    async fn a_turn_is_given_on_also_past_those_who_left() {
        let pool = Pool::new(1);
        let first = pool.turn(Lane::Established).await.unwrap();
        let mut gone = Box::pin(pool.turn(Lane::Login(address(1))));
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        let mut waits = Box::pin(pool.turn(Lane::Login(address(2))));
        assert!((&mut waits).now_or_never().is_none());
        drop(first);
        let second = waits.await.unwrap();
        drop(second);
        assert_eq!(pool.lock().free, 1);
    }
}
