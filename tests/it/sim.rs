//! Whole histories of a small fleet, each from a seed: a master and two minions, made of the daemons' own rules and stores,
//! under a simulated clock, network and disk. What was promised must hold in every one of them.
//!
//! `SIM_SEEDS=20000 cargo test -p halite-tests --test it -- sim::` looks at more; `SIM_SEED=17 …` lives one again and prints it.

mod faults;
mod ledger;
mod master;
mod minion;
mod reactor;
mod world;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ::master::bus::Disk;
use world::{Lies, World};

/// How many histories are lived unless `SIM_SEEDS` says otherwise.
const SEEDS: u64 = 400;
/// Seeds that once found something.
const KEPT: &str = include_str!("sim/seeds");
/// How many lines of a broken history are shown.
const SHOWN: usize = 80;

/// What one history came to.
struct Outcome {
    broken: Option<(u64, String)>,
    trace: Vec<String>,
    counts: (usize, usize),
    faults: usize,
}

fn live(seed: u64, lies: Lies) -> Outcome {
    let folder = tempfile::Builder::new().prefix("halite-sim-").tempdir_in(memory()).unwrap();
    let mut world = World::new(seed, folder.path());
    if world.chance(15) {
        world.master.segment_bytes = 32 << 10;
    }
    world.lies = lies;
    if lies == Lies::Log {
        (world.master.disk, world.master.disk_until) = (Disk::Lies, u64::MAX);
    }
    let broken = world.live().err();
    let counts = world.ledger.counts();
    Outcome { broken, trace: world.trace.iter().cloned().collect(), counts, faults: world.faults }
}

/// Returns a place for files that costs no disk, if there is one.
fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// Asks a future whose answer is either there or not; nothing wakes it.
fn poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn report(seed: u64, outcome: &Outcome) -> String {
    let (step, what) = outcome.broken.clone().unwrap_or((0, "nothing".to_owned()));
    let from = outcome.trace.len().saturating_sub(SHOWN);
    format!("seed {seed}, step {step}: {what}\n{}\nSIM_SEED={seed} lives it again", outcome.trace[from..].join("\n"))
}

#[test]
fn what_was_promised_holds_in_every_history() {
    if let Some(seed) = setting("SIM_SEED") {
        let outcome = live(seed, Lies::Nothing);
        println!("{}", outcome.trace.join("\n"));
        assert!(outcome.broken.is_none(), "{}", report(seed, &outcome));
        return;
    }
    let (began, mut events, mut returns, mut faults) = (Instant::now(), 0, 0, 0);
    let kept = KEPT.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let seeds: Vec<u64> = kept.chain(1..=setting("SIM_SEEDS").unwrap_or(SEEDS)).collect();
    for seed in &seeds {
        let outcome = live(*seed, Lies::Nothing);
        assert!(outcome.broken.is_none(), "{}", report(*seed, &outcome));
        events += outcome.counts.0;
        returns += outcome.counts.1;
        faults += outcome.faults;
    }
    assert!(
        events > seeds.len() && returns > 0 && faults > seeds.len(),
        "these histories are too quiet to prove anything"
    );
    println!("{} histories: {events} events, {returns} returns, {faults} faults, {:?}", seeds.len(), began.elapsed());
}

/// Tells in how many of so many histories something was found to be broken.
fn found_out(seeds: u64, lies: Lies) -> usize {
    (1..=seeds).filter(|seed| live(*seed, lies).broken.is_some()).count()
}

#[test]
fn a_log_that_keeps_nothing_is_found_out() {
    assert!(found_out(20, Lies::Log) >= 18);
}

#[test]
fn a_memory_of_jobs_that_keeps_nothing_is_found_out() {
    assert!(found_out(60, Lies::Jobs) >= 1);
}

#[test]
fn a_master_that_publishes_a_jid_twice_is_found_out() {
    assert!(found_out(60, Lies::Jids) >= 1);
}
