//! Beacons on the real host: what they fire, and how a bad one is told.

use halite_tests::{Fleet, wait_for};
use serde_json::{Value as Json, json};

fn keys(data: &Json) -> Vec<&str> {
    let mut keys: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn load_and_memusage_fire_as_in_the_recordings() {
    let mut fleet = Fleet::new().start();
    // Ranges that every host leaves: nothing has a negative load or uses no memory.
    let config = "beacons:\n  load:\n    - averages:\n        1m: [-2.0, -1.0]\n        5m: [-2.0, -1.0]\n        15m: [-2.0, -1.0]\n    - interval: 1\n  memusage:\n    - percent: 0%\n    - interval: 1\n";
    fleet.start_minion("m1", config);
    let load = &fleet.wait_events("salt/beacon/m1/load/", 1)[0]["data"];
    assert_eq!(keys(load), ["15m", "1m", "5m", "_stamp", "id"]);
    assert!(load["1m"].as_f64().is_some_and(|load| load >= 0.0));
    let memory = &fleet.wait_events("salt/beacon/m1/memusage/", 1)[0]["data"];
    assert_eq!(keys(memory), ["_stamp", "id", "memusage"]);
    assert!(memory["memusage"].as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent)));
}

#[test]
fn one_bad_beacon_disables_itself_alone() {
    let mut fleet = Fleet::new().start();
    let config = "beacons:\n  memusage:\n    - percent: 0%\n    - interval: 1\n  load:\n    - averages: nonsense\n  nosuch: []\n";
    fleet.start_minion("m1", config);
    fleet.wait_events("salt/beacon/m1/memusage/", 1);
    let log = fleet.minion("m1").log();
    assert!(log.contains("load") && log.contains("nosuch"), "{log}");
}

#[test]
fn beacons_change_without_a_restart() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    fleet.write("m1/minion.d/beacons.conf", "beacons:\n  memusage:\n    - percent: 0%\n    - interval: 1\n");
    fleet.minion("m1").signal(nix::sys::signal::Signal::SIGHUP);
    fleet.wait_events("salt/beacon/m1/memusage/", 1);
}

#[test]
fn sh_tells_exactly_what_a_persons_shell_ran() {
    let mut fleet = Fleet::new().start();
    let mut source = std::process::Command::new(&fleet.site.binaries().minion);
    source.arg("exec-source");
    let source = halite_tests::run(source);
    if source.code != 0 {
        halite_tests::skipped("the sh beacon", source.stderr.trim());
        return;
    }
    fleet.start_minion("m1", "beacons:\n  sh: []\n");
    wait_for("the sh beacon to watch", || fleet.minion("m1").log().contains("sh"));
    let pty = nix::pty::openpty(None, None).unwrap();
    let end = || std::process::Stdio::from(pty.slave.try_clone().unwrap());
    // Until the tracer is attached nothing is seen: run the command until it is.
    wait_for("the command on the bus", || {
        let mut shell = std::process::Command::new(&fleet.site.binaries().minion);
        shell.args(["pty-exec", "--", "/bin/sh", "-c", "/bin/echo 'a b' '' \"it's\" ü; exit 0"]);
        let status = shell.stdin(end()).stdout(end()).stderr(end()).status().unwrap();
        assert!(status.success());
        fleet.events("salt/beacon/m1/sh/*").iter().any(|event| event["data"]["cmd"] == "/bin/echo")
    });
    let events = fleet.events("salt/beacon/m1/sh/*");
    let echo = events.iter().find(|event| event["data"]["cmd"] == "/bin/echo").unwrap();
    assert_eq!(echo["data"]["args"], serde_json::json!(["/bin/echo", "a b", "", "it's", "ü"]));
    assert!(echo["data"]["user"].is_string() && echo["data"]["source"].is_string(), "{echo}");
    let pid = echo["tag"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(pid.parse::<u32>().is_ok(), "{echo}");
}

#[test]
fn a_job_changes_the_beacons_of_a_running_minion() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    let job = |args: &[&str]| fleet.halite(&[&["m1"], args, &["--out", "json"]].concat());
    let added = job(&["beacons.add", "memusage", "[{percent: 0%}, {interval: 1}]"]).expect_code(0).json();
    assert_eq!(added["m1"], json!({"comment": "Added beacon: memusage.", "result": true}));
    fleet.wait_events("salt/beacon/m1/memusage/", 1);
    let bad = job(&["beacons.add", "swapusage", "[{percent: much}]"]).expect_code(1).json();
    let comment = bad["m1"]["comment"].as_str().unwrap();
    assert!(comment.starts_with("Beacon swapusage configuration invalid, not adding.\n"), "{comment}");
    assert_eq!(job(&["beacons.list"]).json()["m1"], "beacons:\n  memusage:\n  - percent: 0%\n  - interval: 1\n");
    let saved = job(&["beacons.save"]).expect_code(0).json();
    assert!(saved["m1"]["comment"].as_str().unwrap().ends_with("/minion.d/beacons.conf."), "{saved}");
    job(&["beacons.delete", "memusage"]).expect_code(0);
    assert_eq!(job(&["beacons.list"]).json()["m1"], "beacons: {}\n");
}

#[test]
fn saved_beacons_are_there_after_a_restart() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    fleet.halite(&["m1", "beacons.add", "memusage", "[{percent: 0%}, {interval: 1}]"]).expect_code(0);
    fleet.halite(&["m1", "beacons.add", "load", "[]"]).expect_code(0);
    fleet.halite(&["m1", "beacons.disable_beacon", "load"]).expect_code(0);
    let list =
        |fleet: &Fleet| fleet.halite(&["m1", "beacons.list", "--out", "json"]).expect_code(0).json()["m1"].clone();
    let before = list(&fleet);
    fleet.halite(&["m1", "beacons.save"]).expect_code(0);
    fleet.take_minion("m1").stop();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    assert_eq!(list(&fleet), before);
    // What is not saved does not last.
    fleet.halite(&["m1", "beacons.reset"]).expect_code(0);
    fleet.take_minion("m1").stop();
    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    assert_eq!(list(&fleet), before);
}

#[test]
fn a_bad_beacon_is_told_on_the_masters_bus() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "beacons:\n  load:\n    - averages: nonsense\n");
    let error = &fleet.wait_events("salt/minion/m1/beacon_error", 1)[0]["data"];
    assert_eq!(keys(error), ["_stamp", "beacon", "error", "goes_on", "id", "place"]);
    assert_eq!((&error["beacon"], &error["goes_on"]), (&json!("load"), &json!(false)));
    assert!(error["place"].as_str().unwrap().contains("/minion:"), "{error}");
}

#[test]
fn a_trial_shows_what_a_beacon_sees_and_fires_nothing() {
    let mut fleet = Fleet::new().start();
    fleet.start_minion("m1", "beacons:\n  memusage:\n    - percent: 0%\n    - interval: 3600\n  load: nonsense\n");
    fleet.wait_up(&["m1"]);
    let trial = fleet.call("m1", &["beacons.test", "memusage", "--out", "json"]).expect_code(0).json();
    let used = &trial["local"]["events"][0];
    assert_eq!(used["tag"], "salt/beacon/m1/memusage/");
    assert_eq!(keys(&used["data"]), ["id", "memusage"]);
    assert!(trial["local"]["reading"]["memusage"].is_number(), "{trial}");
    let bad = fleet.call("m1", &["beacons.test", "load", "--out", "json"]).expect_code(1).json();
    let why = bad["local"]["comment"].as_str().unwrap();
    assert!(why.contains("expected a list of maps"), "{why}");
    assert!(fleet.events("salt/beacon/m1/*").is_empty());
}
