//! Who fires how many events: one task gives them out, in turn, to the minions that can fire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::super::Orders;
use super::super::fault::Meter;
use super::drive::Common;

/// How often events are given out.
const TICK: Duration = Duration::from_millis(5);
/// Bursts that may wait for one minion; with more, its events are refused, and counted as such.
pub(super) const MAX_BURSTS: usize = 16;

/// So many events, fired then.
pub(super) type Burst = (usize, u64);

/// Whether a minion can fire.
#[derive(Clone, Default)]
pub(super) struct Up(Arc<AtomicBool>);

impl Up {
    /// Says whether it can.
    pub(super) fn set(&self, up: bool) {
        self.0.store(up, Ordering::Relaxed);
    }
}

/// Where one minion takes its bursts from.
pub(super) struct Mailbox {
    /// Whether it looks.
    pub(super) up: Up,
    /// The way in.
    pub(super) bursts: mpsc::Sender<Burst>,
}

/// Gives out the events of a swarm.
pub(super) struct Firer {
    mailboxes: Vec<Mailbox>,
    common: Arc<Common>,
    burst: usize,
    next: usize,
    obeyed: u64,
}

impl Firer {
    /// Makes the firer of all minions.
    pub(super) fn new(mailboxes: Vec<Mailbox>, common: Arc<Common>, burst: usize) -> Firer {
        Firer { mailboxes, common, burst: burst.max(1), next: 0, obeyed: 0 }
    }

    /// Fires as ordered, until its runtime is gone.
    pub(super) async fn run(mut self, orders: watch::Receiver<Orders>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut meter, mut ticked) = (Meter::default(), Instant::now());
        loop {
            ticks.tick().await;
            let order = *orders.borrow();
            let span = std::mem::replace(&mut ticked, Instant::now());
            let due = meter.due(order.events_per_s, ticked - span);
            self.fire(due);
            // After the last event of the order before it: whoever waits for it counts on that.
            let obeyed = order.number - std::mem::replace(&mut self.obeyed, order.number);
            self.common.count(|totals| totals.count.obeyed += obeyed);
        }
    }

    /// Gives out so many events, a burst to each minion that can fire, in turn.
    fn fire(&mut self, mut events: usize) {
        let at_us = self.common.clock.now().us;
        let (mut fired, mut refused, mut asleep) = (0, 0, 0);
        while events > 0 && asleep < self.mailboxes.len() {
            let mailbox = &self.mailboxes[self.next];
            self.next = (self.next + 1) % self.mailboxes.len();
            if !mailbox.up.0.load(Ordering::Relaxed) {
                asleep += 1;
                continue;
            }
            asleep = 0;
            let burst = self.burst.min(events);
            events -= burst;
            match mailbox.bursts.try_send((burst, at_us)) {
                Ok(()) => fired += burst as u64,
                Err(_) => refused += burst as u64,
            }
        }
        if fired + refused > 0 {
            self.common.count(|totals| {
                totals.count.fired += fired;
                totals.count.refused += refused;
            });
        }
    }
}
