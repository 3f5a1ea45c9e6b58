//! Many minions at once: the fleet simulator against a real master.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use clap::Parser as _;
use halite_tests::swarm::machine::Usage;
use halite_tests::swarm::options::Options;
use halite_tests::swarm::{Swarm, tally::Count};
use halite_tests::{Fleet, PATIENCE, run, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts a swarm on a fleet's master.
fn swarm(fleet: &Fleet, arguments: &str) -> Swarm {
    let command = format!("swarm --master {} {arguments}", master(fleet));
    let options = Options::parse_from(command.split_whitespace());
    let swarm = Swarm::start(&options).unwrap_or_else(|error| panic!("{error:#}"));
    swarm.begin(&options);
    swarm
}

fn master(fleet: &Fleet) -> String {
    let (publications, requests) = fleet.site.ports().unwrap();
    format!("127.0.0.1:{requests},{publications}")
}

#[track_caller]
fn until(swarm: &Swarm, what: &str, condition: impl Fn(&Count) -> bool) {
    let done = swarm.wait(PATIENCE, |totals| condition(&totals.count));
    assert!(done, "waited for {what}: {:?}", swarm.totals().count);
}

/// Returns how many of the swarm's events are in the log, and checks that none is there twice.
#[track_caller]
fn logged(fleet: &Fleet) -> u64 {
    let events = fleet.events("salt/beacon/*/swarm/*");
    let tags: BTreeSet<&str> = events.iter().filter_map(|event| event["tag"].as_str()).collect();
    assert_eq!(tags.len(), events.len(), "every event has a tag of its own");
    events.len() as u64
}

#[track_caller]
fn ping_all(fleet: &Fleet, minions: usize) {
    let answers = fleet.halite(&["*", "test.ping", "--out", "json"]).expect_code(0).json();
    let answers = answers.as_object().unwrap();
    assert!(answers.len() == minions && answers.values().all(|answer| *answer == true), "{answers:?}");
}

#[test]
fn a_swarm_loses_nothing_to_a_master_that_is_killed() {
    let mut fleet = Fleet::new().start();
    let swarm = swarm(&fleet, "--minions 50 --events-per-s 200 --burst 2");
    until(&swarm, "50 sessions", |count| count.live == 50);
    ping_all(&fleet, 50);
    until(&swarm, "acknowledged events", |count| count.acknowledged > 100);
    fleet.kill_master();
    fleet.restart_master();
    until(&swarm, "all to come back", |count| count.reconnects >= 50 && count.live == 50);
    let acknowledged = swarm.totals().count.acknowledged;
    until(&swarm, "more events", |count| count.acknowledged > acknowledged + 100);
    ping_all(&fleet, 50);
    assert!(swarm.drain(PATIENCE), "{:?}", swarm.totals().count);
    let count = swarm.totals().count;
    assert_eq!((logged(&fleet), count.fired), (count.acknowledged, count.acknowledged), "{count:?}");
    assert_eq!((count.misdelivered, count.not_understood, count.refused), (0, 0, 0));
    assert_eq!(count.returns_acknowledged, 100);
}

#[test]
fn faults_lose_nothing_and_churn_only_what_was_not_acknowledged() {
    let fleet = Fleet::new().start();
    let faults = "--fault kill=20,lag=5:0.3,repeat=30,stall=5:0.3 --churn 3";
    let swarm = swarm(&fleet, &format!("--minions 20 --events-per-s 200 {faults} --seed 7"));
    until(&swarm, "a bad time", |count| count.troubles > 150 && count.acknowledged > 300);
    assert!(swarm.drain(PATIENCE), "{:?}", swarm.totals().count);
    until(&swarm, "peace", |count| count.live == 20);
    let (count, logged) = (swarm.totals().count, logged(&fleet));
    assert!(logged >= count.acknowledged && logged <= count.fired, "{logged} in the log: {count:?}");
    assert_eq!((count.misdelivered, count.not_understood), (0, 0));
}

/// What eight readers may cost in memory, one of them stalled, while events come as fast as they do.
const BURST_KIB: u64 = 200 * 1024;

#[test]
fn a_burst_with_a_stalled_reader_costs_little_memory() {
    // No faster than a debug build's swarm can fire and serve its sockets too.
    let (burst, events_per_s) =
        if std::env::var_os("RUN_SLOW_TESTS").is_some() { (100_000, 8_000.0) } else { (5_000, 2_000.0) };
    let fleet = Fleet::new().start();
    let swarm = swarm(&fleet, "--minions 50 --burst 100");
    until(&swarm, "50 sessions", |count| count.live == 50);
    let mut readers: Vec<Child> = (0..8)
        .map(|_| fleet.halite_command(&["events", "--out", "jsonl"]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    let stalled = Pid::from_raw(i32::try_from(readers[0].id()).unwrap());
    kill(stalled, Signal::SIGSTOP).unwrap();
    let before = Usage::of(fleet.master().pid());
    swarm.order(|orders| orders.events_per_s = events_per_s);
    let within = PATIENCE * 2;
    let come = swarm.wait(within, |totals| totals.count.acknowledged >= burst);
    assert!(come, "{:?}", swarm.totals().count);
    assert!(swarm.drain(PATIENCE), "{:?}", swarm.totals().count);
    let after = Usage::of(fleet.master().pid());
    kill(stalled, Signal::SIGCONT).unwrap();
    readers.iter_mut().for_each(|reader| {
        let _ = (reader.kill(), reader.wait());
    });
    let grown = after.peak_rss_kib.saturating_sub(before.rss_kib);
    eprintln!(
        "swarm: {} events, 8 readers, one stalled: {grown} KiB more at the peak",
        swarm.totals().count.acknowledged
    );
    assert!(grown <= BURST_KIB, "{grown} KiB");
    assert_eq!(logged(&fleet), swarm.totals().count.acknowledged);
}

#[test]
fn the_command_reports_in_json() {
    let fleet = Fleet::new().start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.args(["--minions", "5", "--events-per-s", "100", "--duration", "0.5", "--report", "json"]);
    command.args(["--master", &master(&fleet)]);
    let report = run(command).expect_code(0).json();
    assert_eq!((&report["connected"], &report["drained"]), (&5.into(), &true.into()), "{report}");
    assert_eq!(report["count"]["acknowledged"], report["count"]["fired"], "{report}");
    assert!(report["own"]["rss_kib"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_master_that_is_not_there_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.args(["--master", "127.0.0.1:1,2"]);
    let failed = run(command).expect_code(1);
    assert!(failed.stderr.contains("failed to ask the master for its key"), "{failed:?}");
}

#[test]
fn salt_minions_and_native_ones_are_one_fleet() {
    let fleet = Fleet::new().master_config("salt_listener: true").start();
    let native = swarm(&fleet, "--minions 3 --prefix native- --events-per-s 50");
    let salt = swarm(&fleet, "--minions 4 --prefix salt- --wire salt --events-per-s 50 --burst 2");
    until(&native, "3 native sessions", |count| count.live == 3);
    until(&salt, "4 Salt minions", |count| count.live == 4);
    ping_all(&fleet, 7);
    let listed = fleet.halite(&["-L", "salt-1,salt-3,native-2", "no.such", "--out", "json"]).json();
    assert_eq!(listed.as_object().map(serde_json::Map::len), Some(3), "{listed}");
    assert_eq!(listed["salt-3"], "'no.such' is not available.", "{listed}");
    until(&salt, "acknowledged events", |count| count.acknowledged > 50);
    assert!(salt.drain(PATIENCE) && native.drain(PATIENCE), "{:?} {:?}", salt.totals().count, native.totals().count);
    let (theirs, ours) = (salt.totals().count, native.totals().count);
    assert_eq!(logged(&fleet), theirs.acknowledged + ours.acknowledged, "{theirs:?} {ours:?}");
    assert_eq!((theirs.acknowledged, theirs.not_understood, theirs.lost), (theirs.fired, 0, 0), "{theirs:?}");
    assert_eq!(theirs.returns_acknowledged, theirs.returns, "{theirs:?}");
    assert_eq!((ours.misdelivered, ours.not_understood), (0, 0), "{ours:?}");
}

#[test]
fn salt_minions_come_back_to_a_master_that_was_killed() {
    let mut fleet = Fleet::new().master_config("salt_listener: true").start();
    let swarm = swarm(&fleet, "--minions 4 --wire salt --events-per-s 100");
    until(&swarm, "acknowledged events", |count| count.live == 4 && count.acknowledged > 50);
    fleet.kill_master();
    fleet.restart_master();
    until(&swarm, "all to come back", |count| count.reconnects >= 4 && count.live == 4);
    ping_all(&fleet, 4);
    assert!(swarm.drain(PATIENCE), "{:?}", swarm.totals().count);
    let count = swarm.totals().count;
    let tags: BTreeSet<String> =
        fleet.events("salt/beacon/*/swarm/*").iter().map(|event| event["tag"].to_string()).collect();
    // A request whose answer was lost is asked again, and Salt's wire has no number to know it by: nothing is missing,
    // but an event can be there twice.
    assert_eq!((tags.len() as u64, count.acknowledged), (count.fired, count.fired), "{count:?}");
    assert_eq!(count.not_understood, 0, "{count:?}");
}

#[test]
fn salt_minions_wait_until_their_keys_are_accepted_and_authenticate_anew_when_keys_change() {
    let fleet = Fleet::new().master_config("salt_listener: true").keys_pending().start();
    let swarm = swarm(&fleet, "--minions 3 --wire salt");
    let pending =
        || fleet.halite(&["key", "list", "--out", "json"]).json()["minions_pre"].as_array().map_or(0, Vec::len);
    wait_for("3 keys to be pending", || pending() == 3);
    assert_eq!(swarm.totals().count.live, 0);
    fleet.halite(&["key", "accept", "*", "-y"]).expect_code(0);
    until(&swarm, "3 Salt minions", |count| count.live == 3);
    ping_all(&fleet, 3);
    // The key that all share is replaced: the next job finds minions with the old one.
    fleet.halite(&["key", "delete", "swarm-3", "-y"]).expect_code(0);
    fleet.wait_events("key", 1);
    let answers = fleet.halite(&["-L", "swarm-1,swarm-2", "test.ping", "--out", "json"]).expect_code(0).json();
    assert_eq!(answers.as_object().map(serde_json::Map::len), Some(2), "{answers}");
}

#[test]
fn what_the_salt_wire_has_not_is_said() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.args(["--wire", "salt", "--with-master"]);
    let failed = run(command).expect_code(1);
    assert!(failed.stderr.contains("--with-master measures the native wire"), "{failed:?}");
}
