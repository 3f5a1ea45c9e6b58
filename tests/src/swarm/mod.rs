//! A fleet in one process: thousands of minions on few threads, each with its own id, key, session and spool, on the
//! real wire.
//!
//! ```text
//! Swarm ── orders ──▶ Shard (one task a thread) ── polls ──▶ Slot: Minion (rules, spool) + DEALER + SUB
//!       ◀─ totals ──┘
//! ```
//! Reading order: [`options`] (the command line), [`minion`] (one minion, pure: the rules of a session and the spool are
//! those of the real one), [`shard`] (many of them in one task), [`dial`] (keys and connections), [`fault`] (what goes
//! wrong on purpose), [`tally`] (what is counted), [`report`], [`scenario`] (a master of its own, measured), [`machine`].
//! The minions of `--wire salt` are in `salt/`, and are counted and reported the same way.
//!
//! What a real minion has and these have not: the executor and the jid memory on disk (a thread and a file each: 10,000
//! of either are no fleet but a disk test; the last jids are kept in memory), beacons that look at the machine, and a
//! `hello` each (the swarm asks for the master's key once).

pub mod dial;
pub mod fault;
mod life;
pub mod machine;
pub mod minion;
pub mod options;
pub mod report;
mod salt;
pub mod scenario;
pub mod shard;
pub mod spool;
pub mod tally;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use transport::Heartbeat;

use self::dial::{Dialler, KeyRing};
use self::minion::Answers;
use self::options::{Options, Wire};
use self::shard::{Shard, Share};
use self::tally::Totals;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What all shards are told; it may change while they run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orders {
    /// Rises with each change.
    pub number: u64,
    /// Beacon events per second, of all minions together.
    pub events_per_s: f64,
    /// Whether churn and faults happen.
    pub trouble: bool,
}

/// Returns when to ping, and when to give up.
fn heartbeat(ping_s: f64) -> Heartbeat {
    let interval = Duration::from_secs_f64(ping_s.clamp(0.1, 3_600.0));
    Heartbeat { interval, timeout: interval * 3 }
}

/// A running swarm. Dropped, it is gone, connections and all.
pub struct Swarm {
    orders: watch::Sender<Orders>,
    totals: Arc<Mutex<Totals>>,
    minions: usize,
    shards: u64,
    started: Instant,
    _runtime: Runtime,
}

impl Swarm {
    /// Starts all minions, the master's key asked for or all keys made before. They connect and answer; see
    /// [`begin`](Self::begin).
    pub fn start(options: &Options) -> anyhow::Result<Swarm> {
        if let Some(contradiction) = options.contradiction() {
            bail!(contradiction);
        }
        machine::raise_fd_limit();
        let threads = options.threads.max(1);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("swarm").enable_all();
        if options.wire == Wire::Salt {
            builder.max_blocking_threads(salt::RSA_THREADS);
        }
        let runtime = builder.build().context("failed to start the threads")?;
        let orders = watch::Sender::new(Orders { number: 0, events_per_s: 0.0, trouble: false });
        let totals = Arc::new(Mutex::new(Totals::default()));
        let (started, shards) = match options.wire {
            Wire::Native => (native(options, &runtime, &orders, &totals)?, threads as u64),
            Wire::Salt => {
                let fleet = salt::Fleet::prepare(options)?;
                let started = Instant::now();
                fleet.start(options, &runtime, orders.subscribe(), (Arc::clone(&totals), started))?;
                // One task gives out all events.
                (started, 1)
            }
        };
        Ok(Swarm { orders, totals, minions: options.minions, shards, started, _runtime: runtime })
    }

    /// Begins to fire, and to make trouble, as the options say.
    pub fn begin(&self, options: &Options) {
        self.order(|orders| (orders.events_per_s, orders.trouble) = (options.events_per_s, true));
    }

    /// Changes the orders.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(|orders| {
            orders.number += 1;
            change(orders);
        });
    }

    /// Returns what was counted so far.
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    /// Looks at what was counted so far, without a copy.
    pub fn look<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        look(&self.lock())
    }

    /// Forgets the latencies so far: a phase of a measurement begins.
    pub fn forget_latencies(&self) {
        self.lock().forget_latencies();
    }

    /// Returns when the swarm started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until what was counted satisfies a condition; tells whether it did in time.
    pub fn wait(&self, within: Duration, mut condition: impl FnMut(&Totals) -> bool) -> bool {
        let until = Instant::now() + within;
        loop {
            if self.look(&mut condition) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until every minion has its session and its SUB.
    pub fn wait_connected(&self, within: Duration) -> bool {
        let all = i64::try_from(self.minions).unwrap_or(i64::MAX);
        self.wait(within, |totals| totals.count.live >= all)
    }

    /// Stops firing and making trouble, and waits until all that was fired is acknowledged.
    pub fn drain(&self, within: Duration) -> bool {
        self.order(|orders| (orders.events_per_s, orders.trouble) = (0.0, false));
        // Until a shard has read the order it goes on firing.
        let obeyed = self.orders.borrow().number * self.shards;
        self.wait(within, |totals| totals.count.obeyed >= obeyed && totals.count.is_drained())
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        // Only counters are changed under it.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the minions of the native wire, shard by shard. Returns when.
fn native(
    options: &Options,
    runtime: &Runtime,
    orders: &watch::Sender<Orders>,
    totals: &Arc<Mutex<Totals>>,
) -> anyhow::Result<Instant> {
    let threads = options.threads.max(1);
    let ring = KeyRing::open(options.keys.as_deref()).context("failed to open the keys")?;
    let address = options.address().context("--master or --with-master is needed")?;
    let master_key = runtime.block_on(dial::hello(address)).context("failed to ask the master for its key")?;
    ring.pin(&master_key).context("failed to trust the master")?;
    let dialler = Arc::new(Dialler::new(address.clone(), master_key, ring, heartbeat(options.ping)));
    let answers = Arc::new(Answers::new(&options.answer, options.beacon_size));
    let started = Instant::now();
    for index in 0..threads {
        let share = Share { index, of: threads, started };
        let shard = Shard::new(options, share, Arc::clone(&dialler), Arc::clone(&answers), orders.subscribe())
            .context("failed to make the minions")?;
        runtime.spawn(shard.run(Arc::clone(totals)));
    }
    Ok(started)
}
