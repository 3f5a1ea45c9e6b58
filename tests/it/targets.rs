//! Targets: who a job is for, by id, by grain, by address, by group; and what becomes of those who are not meant after all.

use halite_tests::Fleet;
use serde_json::{Value as Json, json};

/// Groups of all kinds, good and bad.
const NODEGROUPS: &str = "nodegroups:
  web: 'L@m1,m2'
  nested: 'N@web and G@role:r1'
  names:
    - m2
    - m3
  round: 'm1 or N@again'
  again: N@round
";

/// The three minions of the recordings.
fn three() -> Fleet {
    let mut fleet = Fleet::new().master_config(NODEGROUPS).start();
    for (id, role, dc) in [("m1", "r1", "y1"), ("m2", "r2", "y2"), ("m3", "r1x", "y3")] {
        fleet.start_minion(id, &grains(role, dc));
    }
    fleet.wait_up(&["m1", "m2", "m3"]);
    fleet
}

fn grains(role: &str, dc: &str) -> String {
    format!("grains:\n  role: {role}\n  site:\n    dc:\n      - x\n      - {dc}\n")
}

/// Returns who answers a ping to this target.
#[track_caller]
fn who(fleet: &Fleet, target: &[&str]) -> Vec<String> {
    let args = [target, &["test.ping", "--out", "json"]].concat();
    let pinged = fleet.halite(&args).expect_code(0).json();
    let mut ids: Vec<String> = pinged.as_object().unwrap().keys().cloned().collect();
    ids.sort();
    ids
}

#[test]
fn every_type_of_target_finds_its_minions() {
    let fleet = three();
    let check = |target: &[&str], expected: &[&str]| assert_eq!(who(&fleet, target), expected, "{target:?}");
    check(&["-G", "role:r2"], &["m2"]);
    check(&["-G", "role:R*"], &["m1", "m2", "m3"]);
    check(&["-G", "site:dc:y3"], &["m3"]);
    check(&["-G", "site|dc|y1", "--delimiter", "|"], &["m1"]);
    check(&["-P", "role:r(1|2)$"], &["m1", "m2"]);
    check(&["-E", "m(1|3)"], &["m1", "m3"]);
    check(&["-S", "127.0.0.0/8"], &["m1", "m2", "m3"]);
    check(&["-C", "G@role:r2 or ( E@m.* and not m2 and not P@role:.*x )"], &["m1", "m2"]);
    check(&["-N", "web"], &["m1", "m2"]);
    check(&["-N", "nested"], &["m1"]);
    check(&["-N", "names"], &["m2", "m3"]);
    check(&["-C", "N@web and not m1"], &["m2"]);
    let published = fleet.events("salt/job/*/new");
    let nested = published
        .iter()
        .find(|event| event["data"]["minions"] == json!(["m1"]) && event["data"]["tgt_type"] == "compound");
    assert!(nested.is_some(), "a nodegroup is published as what it stands for: {published:?}");
}

#[test]
fn a_target_that_makes_no_sense_is_refused_with_what_and_where() {
    let fleet = three();
    let refused = |args: &[&str], text: &str| {
        let outcome = fleet.halite(&[args, &["test.ping"]].concat()).expect_code(64);
        assert!(outcome.stderr.contains(text), "{outcome:?}");
    };
    refused(&["-E", "m("], "the regular expression \"m(\" cannot be used");
    refused(&["-C", "m1 and or m2"], "compound target, word 3 (\"or\"): expected a target");
    refused(&["-C", "X@m1"], "there is no X@");
    refused(&["-S", "10.0.0.1/8"], "host bits are set");
    refused(&["-N", "nope"], "Node group nope unavailable");
    refused(&["-N", "round"], "nodegroup round → again → round contains itself");
    refused(&["-I", "a"], "is no grain or pillar target");
    refused(&["-R", "%web"], "--range is not in this version; name the minions with -L");
    refused(&["-G", "os"], "write NAME:PATTERN");
    let nobody = fleet.halite(&["-G", "role:nobody", "test.ping"]).expect_code(2);
    assert!(nobody.stdout.contains("No minions matched the target."), "{nobody:?}");
    let status = fleet.halite(&["doctor"]);
    assert!(status.stdout.contains("nodegroup round cannot be used"), "{status:?}");
}

#[test]
fn nodegroups_take_effect_when_they_are_saved() {
    let fleet = three();
    fleet.write("master/master.d/groups.conf", "nodegroups:\n  fresh: 'm3'\n");
    fleet.halite(&["reload"]).expect_code(0);
    assert_eq!(who(&fleet, &["-N", "fresh"]), ["m3"]);
}

#[test]
fn runners_and_reactions_take_the_same_types() {
    let fleet = three();
    let run = |args: &[&str]| fleet.halite(&[&["run"], args, &["--out", "json"]].concat()).expect_code(0).json();
    assert_eq!(run(&["salt.execute", "role:r2", "test.ping", "tgt_type=grain"])["minions"], json!(["m2"]));
    assert_eq!(run(&["salt.execute", "N@web", "test.ping", "expr_form=compound"])["minions"], json!(["m1", "m2"]));
    let grains = run(&["cache.grains", "role:r1x", "tgt_type=grain"]);
    assert_eq!((grains["m3"]["role"].as_str(), grains.as_object().unwrap().len()), (Some("r1x"), 1));
    let sls = "ping them:\n  local.test.ping:\n    - tgt: 'role:r1*'\n    - expr_form: grain\n";
    let sls = fleet.write("srv/ping.sls", sls);
    fleet.write("master/master.d/reactor.conf", &format!("reactor:\n  - my/event:\n    - {}\n", sls.display()));
    fleet.halite(&["reload"]).expect_code(0);
    fleet.halite(&["run", "event.send", "my/event"]).expect_code(0);
    halite_tests::wait_for("the reaction's job", || {
        let jobs = fleet.events("salt/job/*/new");
        jobs.iter().any(|job| job["data"]["tgt_type"] == "grain" && job["data"]["minions"] == json!(["m1", "m3"]))
    });
}

#[test]
fn a_minion_that_is_away_is_meant_by_what_it_was_and_says_so_if_it_is_not() {
    let mut fleet = three();
    fleet.take_minion("m3").stop();
    fleet.stop_master();
    fleet.restart_master();
    fleet.wait_up(&["m1", "m2"]);
    let publish = fleet.halite(&["-G", "role:r1*", "test.ping", "--async"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    let show = || fleet.halite(&["jobs", "show", &jid, "--out", "json"]).expect_code(0).json();
    assert_eq!(show()["Minions"], json!(["m1", "m3"]), "grains outlive the master");
    fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    let active = fleet.halite(&["jobs", "active", "--out", "json"]).expect_code(0).json();
    assert_eq!((&active[&jid]["Running"], &active[&jid]["Away"]), (&json!([]), &json!(["m3"])));
    fleet.start_minion("m3", &grains("other", "y3"));
    let unmatched = fleet.wait_events(&format!("halite/job/{jid}/nomatch/m3"), 1);
    assert_eq!(unmatched[0]["data"]["jid"], jid.as_str());
    let show = || fleet.halite(&["jobs", "show", &jid, "--out", "json"]).expect_code(0).json();
    assert_eq!(show()["Minions"], json!(["m1"]), "it is no recipient any more");
    let active = fleet.halite(&["jobs", "active", "--out", "json"]).expect_code(0).json();
    assert_eq!(active.get(&jid), None, "nobody is waited for");
    assert_eq!(fleet.events(&format!("salt/job/{jid}/ret/m3")), Vec::<Json>::new());
}

#[test]
fn a_key_that_is_deleted_takes_its_grains_along() {
    let mut fleet = three();
    fleet.take_minion("m3").stop();
    fleet.halite(&["key", "delete", "-y", "m3"]).expect_code(0);
    let cached = fleet.halite(&["run", "cache.grains", "*", "--out", "json"]).expect_code(0).json();
    assert_eq!(cached.as_object().unwrap().keys().collect::<Vec<_>>(), ["m1", "m2"]);
}
