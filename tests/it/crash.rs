//! What was acknowledged survives kill -9, and what was not comes again; nothing comes twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use halite_tests::{Fleet, wait_for};

/// How many events must be acknowledged before the master is killed, each time.
const BEFORE_KILL: usize = 5;
/// How often it is killed.
const KILLS: usize = 3;

#[test]
fn every_acknowledged_event_is_in_the_log_once() {
    // So small that the log is in the middle of rolling now and then.
    let mut fleet = Fleet::new().master_config("event_segment_size: 64KiB").start();
    fleet.start_minions(2);
    let padding = "x".repeat(8_000);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let minion = fleet.site.binaries().minion.clone();
    let senders: Vec<_> = ["m1", "m2"]
        .into_iter()
        .map(|id| {
            let (acknowledged, stop, minion) = (Arc::clone(&acknowledged), Arc::clone(&stop), minion.clone());
            let padding = padding.clone();
            let confdir = fleet.site.confdir(id);
            std::thread::spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{id}-{number}");
                    let mut call = std::process::Command::new(&minion);
                    call.arg("-c").arg(&confdir).args([
                        "call",
                        "event.send",
                        "crash/test",
                        &format!("{{name: {name}, padding: {padding}}}"),
                    ]);
                    if halite_tests::run(call).code == 0 {
                        acknowledged.lock().unwrap().push(name);
                    }
                }
            })
        })
        .collect();
    let count = || acknowledged.lock().unwrap().len();
    for _ in 0..KILLS {
        let before = count();
        wait_for("events to be acknowledged", || count() >= before + BEFORE_KILL);
        fleet.kill_master();
        fleet.restart_master();
    }
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let mut logged: BTreeMap<String, usize> = BTreeMap::new();
    for event in fleet.events("crash/test") {
        *logged.entry(event["data"]["data"]["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() >= KILLS * BEFORE_KILL);
    for name in acknowledged.iter() {
        assert_eq!(logged.get(name), Some(&1), "{name} of {} acknowledged", acknowledged.len());
    }
    assert!(logged.values().all(|times| *times == 1), "no event is there twice");
    let segments = std::fs::read_dir(fleet.site.dir().join("master/var/cache/halite/master/events")).unwrap();
    assert!(segments.count() > 3, "the log was rolled");
}

#[test]
fn minions_come_back_after_a_master_restart_and_take_what_they_missed() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(2);
    let minion = fleet.take_minion("m2");
    minion.signal(nix::sys::signal::Signal::SIGSTOP);
    let publish = fleet.halite(&["*", "test.echo", "after", "--async", "--queue", "10m"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    fleet.kill_master();
    fleet.restart_master();
    minion.signal(nix::sys::signal::Signal::SIGCONT);
    fleet.wait_up(&["m1", "m2"]);
    fleet.wait_events(&format!("salt/job/{jid}/ret/m2"), 1);
    let returns = fleet.events(&format!("salt/job/{jid}/ret/*"));
    assert_eq!(returns.len(), 2, "each minion ran the job once: {returns:?}");
}

#[test]
fn a_master_stops_cleanly_on_sigterm() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let log = fleet.site.dir().join("log/master.log");
    fleet.stop_master();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("stopping") && !log.contains("ERROR"), "{log}");
    assert!(!fleet.site.confdir("master").join("var/run/halite/master/api.sock").exists());
}
