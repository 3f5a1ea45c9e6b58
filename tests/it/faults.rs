//! Real faults on real processes, under load: what was acknowledged is in the log, once.
//!
//! A campaign of many minutes: `FAULTS_MINUTES=20 FAULTS_SEED=7 cargo test --release -p halite-tests --test it -- faults::campaign --nocapture`

mod disk;
mod moved;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser as _;

use halite_tests::faults::campaign::{self, Plan};
use halite_tests::faults::kind::{Kind, Scale};
use halite_tests::faults::proxy::{Road, Way};
use halite_tests::faults::rig::Setup;
use halite_tests::swarm::Swarm;
use halite_tests::swarm::fault::Dice;
use halite_tests::swarm::options::Options;
use halite_tests::{Fleet, skipped};

/// How many kinds a run sees that is not told to be long: some different ones each time.
const FEW: usize = 6;
/// How many minions come back at once.
const CROWD: usize = 2_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        time: Duration::ZERO,
        kinds: Kind::ALL.to_vec(),
        scale: Scale { short: Duration::from_millis(800), long: Duration::from_secs(5) },
        setup: Setup {
            minions: 2,
            swarm: 30,
            events_per_s: 200.0,
            ping_s: 1.0,
            has_small_disk: false,
            has_clock: false,
        },
        rounds: Kind::ALL.len(),
    }
}

#[track_caller]
fn lead(plan: &Plan) {
    eprintln!("faults: seed {}", plan.seed);
    let table = campaign::run(plan).unwrap_or_else(|error| panic!("seed {}: {error:#}", plan.seed));
    eprintln!("{}jobs taken while the log was out of order: {}", table.lines(), table.unannounced);
    for (kind, why) in &table.skipped {
        skipped(kind.name(), why);
    }
    assert!(table.wrong().is_empty(), "seed {}:\n{}", plan.seed, table.wrong().join("\n"));
    assert!(table.rows.values().all(|row| row.acknowledged > 0), "nothing went on meanwhile: {}", table.lines());
}

fn is_slow() -> bool {
    std::env::var_os("RUN_SLOW_TESTS").is_some()
}

#[test]
fn campaign_loses_nothing_and_doubles_nothing() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("FAULTS_SEED").unwrap_or(u64::from(since.subsec_micros()));
    let mut plan = plan(seed);
    if let Some(minutes) = variable("FAULTS_MINUTES") {
        plan.time = Duration::from_secs(minutes * 60);
        plan.setup = Setup { minions: 4, swarm: 100, events_per_s: 500.0, ..plan.setup };
        plan.scale = Scale { short: Duration::from_secs(3), long: Duration::from_secs(8) };
    } else if !is_slow() {
        let mut dice = Dice::new(seed);
        while plan.kinds.len() > FEW {
            plan.kinds.swap_remove(dice.pick(plan.kinds.len()));
        }
    }
    lead(&plan);
}

/// With the interval that everybody has who says nothing: dead is who is silent for 45 s.
#[test]
fn processes_that_stand_still_for_40_seconds_lose_nothing() {
    if !is_slow() {
        return skipped("processes_that_stand_still_for_40_seconds_lose_nothing", "RUN_SLOW_TESTS is not set");
    }
    let mut plan = plan(7);
    plan.kinds = vec![Kind::StopMaster, Kind::StopMinion];
    plan.setup.ping_s = 15.0;
    plan.scale.long = Duration::from_secs(55);
    lead(&plan);
}

#[test]
fn a_crowd_that_is_cut_off_at_once_comes_back_at_once() {
    let crowd = if is_slow() { CROWD } else { CROWD / 10 };
    let fleet = Fleet::new().master_config("ping_interval_s: 5").start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    halite_tests::swarm::machine::raise_fd_limit();
    let road = Road::open(runtime.handle(), fleet.site.ports().unwrap()).unwrap();
    let (publications, requests) = road.ports();
    let master = format!("127.0.0.1:{requests},{publications}");
    let words = ["swarm", "--master", &master, "--minions", &crowd.to_string(), "--events-per-s", "500"];
    let options = Options::parse_from(words);
    let swarm = Swarm::start(&options).unwrap();
    let patience = halite_tests::PATIENCE * 2;
    assert!(swarm.wait_connected(patience), "{:?}", swarm.totals().count);
    swarm.begin(&options);
    assert!(swarm.wait(patience, |totals| totals.count.acknowledged > 500));
    road.set(Way::Cut);
    assert!(swarm.wait(patience, |totals| totals.count.live == 0), "{:?}", swarm.totals().count);
    road.set(Way::Open);
    let began = Instant::now();
    assert!(swarm.wait_connected(patience), "{:?}", swarm.totals().count);
    eprintln!("faults: {crowd} minions were back {:.1} s after their links", began.elapsed().as_secs_f64());
    assert!(swarm.drain(patience), "{:?}", swarm.totals().count);
    let count = swarm.totals().count;
    let logged = fleet.events("salt/beacon/*/swarm/*");
    let tags: std::collections::BTreeSet<_> = logged.iter().filter_map(|event| event["tag"].as_str()).collect();
    assert_eq!((tags.len() as u64, logged.len() as u64), (count.acknowledged, count.acknowledged), "{count:?}");
    assert_eq!((count.misdelivered, count.not_understood), (0, 0));
}
