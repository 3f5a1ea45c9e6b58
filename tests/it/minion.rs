//! The minion by itself: functions, grains, `call`.

use std::process::{Command, Stdio};

use halite_tests::{Fleet, wait_for};
use serde_json::Value as Json;

#[test]
fn a_call_needs_no_master_when_it_is_local() {
    let fleet = Fleet::new().start();
    fleet.site.configure_minion("alone", "grains:\n  role: web\n").unwrap();
    let ping = fleet.call("alone", &["--local", "test.ping"]).expect_code(0);
    assert_eq!(ping.stdout, "local:\n    True\n");
    let role = fleet.call("alone", &["--local", "grains.get", "role", "--out", "json"]).expect_code(0).json();
    assert_eq!(role["local"], "web");
    let items = fleet.call("alone", &["--local", "grains.items", "--out", "json"]).expect_code(0).json();
    for grain in
        ["id", "kernel", "os", "os_family", "osrelease", "cpuarch", "num_cpus", "mem_total", "nodename", "ipv4"]
    {
        assert!(!items["local"][grain].is_null(), "{grain}");
    }
    assert_eq!(items["local"]["id"], "alone");
}

#[test]
fn a_call_passes_on_what_failed() {
    let fleet = Fleet::new().start();
    fleet.site.configure_minion("alone", "").unwrap();
    assert_eq!(fleet.call("alone", &["--local", "cmd.run", "exit 7"]).code, 1);
    assert_eq!(fleet.call("alone", &["--local", "--retcode-passthrough", "cmd.run", "exit 7"]).code, 7);
    assert_eq!(fleet.call("alone", &["--local", "no.such"]).code, 1);
    assert_eq!(fleet.call("alone", &["--no-such-flag"]).code, 64);
}

#[test]
fn the_functions_describe_themselves() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let functions = fleet.halite(&["m1", "sys.list_functions", "test", "--out", "json"]).expect_code(0).json();
    let listed = functions["m1"].as_array().unwrap();
    for name in ["test.ping", "test.echo", "test.arg", "test.sleep", "test.exception", "test.version"] {
        assert!(listed.iter().any(|function| function == name), "{name}");
    }
    let doc = fleet.halite(&["m1", "sys.doc", "test.ping"]).expect_code(0);
    assert!(doc.stdout.contains("test.ping"), "{doc:?}");
}

#[test]
fn memory_stays_small() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(2);
    fleet.halite(&["*", "test.ping"]).expect_code(0);
    // The promises are for release builds; a debug build is allowed half as much again.
    let slack = if cfg!(debug_assertions) { 3 } else { 2 };
    let (master, minion) = (fleet.master().rss_kib().unwrap(), fleet.minion("m1").rss_kib().unwrap());
    assert!(master <= 50 * 1024 * slack / 2, "master: {master} KiB");
    assert!(minion <= 10 * 1024 * slack / 2 + 12 * 1024 * (slack - 2), "minion: {minion} KiB");
}

#[test]
fn local_events_are_followed_on_the_host() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    let mut follower = Command::new(&fleet.site.binaries().minion);
    follower.arg("-c").arg(fleet.site.confdir("m1")).args(["events", "--tag", "custom/*", "--count", "4"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    // It sees only what comes after it: fire until it has seen enough, by a job and by a command beside the daemon.
    wait_for("the follower to end", || {
        fleet.halite(&["m1", "event.fire", "{\"data\": \"job\"}", "custom/tag"]).expect_code(0);
        fleet.call("m1", &["event.fire", "{data: call}", "custom/tag"]).expect_code(0);
        follower.try_wait().unwrap().is_some()
    });
    let text = String::from_utf8(follower.wait_with_output().unwrap().stdout).unwrap();
    let events: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<&Json> = events.iter().map(|event| &event["data"]["data"]).collect();
    assert_eq!((events.len(), events[0]["tag"].as_str()), (4, Some("custom/tag")));
    assert!(said.contains(&&"job".into()) && said.contains(&&"call".into()), "{text}");
    // What is fired here does not reach the master.
    assert!(fleet.events("custom/*").is_empty());
}

#[test]
fn a_call_reaches_the_daemon_of_this_host() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    let added = fleet.call("m1", &["beacons.add", "load", "[]", "--out", "json"]).expect_code(0).json();
    assert_eq!(added["local"]["comment"], "Added beacon: load.");
    let listed = fleet.halite(&["m1", "beacons.list", "--out", "json"]).expect_code(0).json();
    assert_eq!(listed["m1"], "beacons:\n  load: []\n");
    let mut job = fleet.halite_command(&["m1", "test.sleep", "60"]).stdout(Stdio::null()).spawn().unwrap();
    let running = || fleet.call("m1", &["saltutil.running", "--out", "json"]).expect_code(0).json()["local"].clone();
    wait_for("the job to be seen", || running()[0]["fun"] == "test.sleep");
    fleet.call("m1", &["saltutil.kill_job", running()[0]["jid"].as_str().unwrap()]).expect_code(0);
    assert!(!job.wait().unwrap().success());
}

#[test]
fn a_call_says_when_there_is_no_daemon() {
    let fleet = Fleet::new().start();
    fleet.site.configure_minion("alone", "beacons:\n  memusage:\n    - percent: 0%\n").unwrap();
    let none = fleet.call("alone", &["saltutil.running"]).expect_code(3);
    assert!(none.stderr.contains("no halite-minion daemon answers at") && none.stderr.contains("start it"), "{none:?}");
    let local = fleet.call("alone", &["--local", "event.fire", "{}", "t"]).expect_code(1);
    assert!(local.stdout.contains("no halite-minion daemon"), "{local:?}");
    // What the files say can be tried without one.
    let trial = fleet.call("alone", &["beacons.test", "memusage", "--out", "json"]).expect_code(0).json();
    assert_eq!(trial["local"]["beacon"], "memusage");
}

#[test]
fn a_grain_that_is_set_is_there_at_once_and_after_a_restart() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    let set = fleet.halite(&["m1", "grains.setval", "rack", "r7", "--out", "json"]).expect_code(0).json();
    assert_eq!(set["m1"]["rack"], "r7");
    let get = |fleet: &Fleet| {
        fleet.halite(&["m1", "grains.get", "rack", "--out", "json"]).expect_code(0).json()["m1"].clone()
    };
    assert_eq!(get(&fleet), "r7");
    fleet.take_minion("m1").stop();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    assert_eq!(get(&fleet), "r7");
    fleet.halite(&["m1", "grains.delkey", "rack"]).expect_code(0);
    assert_eq!(get(&fleet), "");
}
