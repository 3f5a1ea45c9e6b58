//! Presence: who is there, as a table, as runners and as events.

use halite_tests::{Fleet, wait_for};
use serde_json::json;

#[test]
fn presence_is_told_on_the_bus_as_salt_tells_it() {
    let mut fleet = Fleet::new().master_config("presence_events: true\nloop_interval: 0.1").start();
    fleet.start_minions(2);
    fleet.wait_events("salt/presence/change", 1);
    wait_for("both to be told", || {
        let present = fleet.events("salt/presence/present");
        present.iter().any(|event| event["data"]["present"] == json!(["m1", "m2"]))
    });
    fleet.take_minion("m2").stop();
    wait_for("m2 to be lost", || {
        fleet.events("salt/presence/change").iter().any(|event| event["data"]["lost"] == json!(["m2"]))
    });
    let changes = fleet.events("salt/presence/change");
    let mut new: Vec<&str> = changes
        .iter()
        .flat_map(|event| event["data"]["new"].as_array().unwrap())
        .filter_map(|id| id.as_str())
        .collect();
    new.sort_unstable();
    assert_eq!(new, ["m1", "m2"], "each came once: {changes:?}");
    let fields: Vec<&String> = changes[0]["data"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["new", "lost", "_stamp"]);
    let present = fleet.events("salt/presence/present");
    assert_eq!(present[0]["data"].as_object().unwrap().keys().collect::<Vec<_>>(), ["present", "_stamp"]);
}

#[test]
fn minions_are_shown_with_state_way_and_version() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(2);
    wait_for("the way to be measured", || {
        let minions = fleet.halite(&["minions", "--out", "json"]).expect_code(0).json();
        minions.as_array().unwrap().iter().all(|minion| minion["round_trip_ms"].as_f64().is_some_and(|trip| trip > 0.0))
    });
    fleet.take_minion("m2").stop();
    wait_for("m2 to be down", || {
        fleet.halite(&["run", "manage.down", "--out", "json"]).expect_code(0).json() == json!(["m2"])
    });
    let table = fleet.halite(&["minions"]).expect_code(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("MINION  WIRE    STATE  SINCE"), "{table}");
    assert!(
        lines[1].starts_with("m1      native  up     2")
            && lines[1].contains(" ms ")
            && lines[1].contains("127.0.0.1:"),
        "{table}"
    );
    assert!(lines[2].starts_with("m2      native  down   -"), "{table}");
    let run = |fun: &str| fleet.halite(&["run", fun, "--out", "json"]).expect_code(0).json();
    assert_eq!((run("manage.up"), run("manage.present")), (json!(["m1"]), json!(["m1"])));
    assert_eq!(run("manage.status"), json!({"up": ["m1"], "down": ["m2"]}));
    let meant = fleet.halite(&["run", "manage.down", "tgt=m[2-9] or L@none", "tgt_type=compound", "--out", "json"]);
    assert_eq!(meant.expect_code(0).json(), json!(["m2"]));
    let lines = fleet.halite(&["minions", "--out", "jsonl"]).expect_code(0).stdout;
    let ids = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), ["m1", "m2"]);
    let versions = run("manage.versions");
    assert_eq!(versions["Up to date"], json!({"m1": versions["Master"]}));
}

#[test]
fn when_a_minion_was_last_seen_outlives_the_master() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(2);
    let left = |fleet: &Fleet, id: &str| {
        let minions = fleet.halite(&["minions", "--out", "json"]).expect_code(0).json();
        let minion = minions.as_array().unwrap().iter().find(|minion| minion["id"] == *id).unwrap().clone();
        (minion["up"].clone(), minion["left_s"].as_u64())
    };
    fleet.take_minion("m2").stop();
    wait_for("m2 to be down", || left(&fleet, "m2").0 == json!(false));
    fleet.take_minion("m1").stop();
    fleet.stop_master();
    fleet.restart_master();
    for id in ["m1", "m2"] {
        let (up, seen) = left(&fleet, id);
        assert!(up == json!(false) && seen.is_some(), "{id}: {up} {seen:?}");
    }
    let table = fleet.halite(&["minions"]).expect_code(0).stdout;
    assert!(table.lines().skip(1).all(|line| line.contains(" ago") || line.contains("just now")), "{table}");
    let run = |fun: &str| fleet.halite(&["run", fun, "--out", "json"]).expect_code(0).json();
    assert_eq!((run("manage.up"), run("manage.present")), (json!([]), json!([])));
    assert_eq!(run("manage.status"), json!({"up": [], "down": ["m1", "m2"]}));
    let ping = fleet.halite(&["m2", "test.ping"]).expect_code(1);
    assert!(format!("{}{}", ping.stdout, ping.stderr).contains("last seen"), "{ping:?}");
}
