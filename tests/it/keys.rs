//! Keys: pending, accepted, rejected, deleted, and what a minion makes of it.

use std::os::unix::fs::PermissionsExt;

use halite_tests::{Fleet, wait_for};

#[test]
fn a_new_minion_waits_until_it_is_accepted() {
    let mut fleet = Fleet::new().keys_pending().start();
    fleet.start_minion("m1", "");
    wait_for("m1 to be pending", || fleet.halite(&["key", "list", "--out", "json"]).json()["minions_pre"][0] == "m1");
    assert_eq!(fleet.halite(&["*", "test.ping"]).code, 2, "a pending minion is no target");
    let finger = fleet.halite(&["key", "finger", "m1", "--out", "json"]).expect_code(0).json();
    assert_eq!(finger["minions_pre"]["m1"].as_str().map(str::len), Some(95));
    let accepted = fleet.halite(&["key", "accept", "m1", "-y"]).expect_code(0);
    assert!(accepted.stdout.contains("Key for minion m1 accepted."), "{accepted:?}");
    fleet.wait_up(&["m1"]);
    assert_eq!(fleet.halite(&["*", "test.ping", "--out", "json"]).expect_code(0).json()["m1"], true);
    let acts: Vec<_> = fleet.events("salt/auth").iter().map(|event| event["data"]["act"].clone()).collect();
    assert_eq!(acts, ["pend", "accept"]);
    let told = &fleet.events("salt/key")[0]["data"];
    assert_eq!((&told["act"], &told["id"], &told["result"]), (&"accepted".into(), &"m1".into(), &true.into()));
    assert!(told["pub"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN PUBLIC KEY-----")));
}

#[test]
fn a_rejected_minion_is_cut_off_and_comes_back_when_accepted() {
    let mut fleet = Fleet::new().keys_pending().start();
    fleet.start_minion("m1", "");
    wait_for("m1 to be pending", || fleet.halite(&["key", "list", "--out", "json"]).json()["minions_pre"][0] == "m1");
    fleet.halite(&["key", "accept", "m1", "-y"]).expect_code(0);
    fleet.wait_up(&["m1"]);
    let pid = fleet.minion("m1").pid();
    fleet.halite(&["key", "reject", "m1", "-y", "--include-accepted"]).expect_code(0);
    wait_for("m1 to be cut off", || fleet.halite(&["minions", "--out", "json"]).json() == serde_json::json!([]));
    assert_eq!(fleet.halite(&["*", "test.ping"]).code, 2);
    fleet.halite(&["key", "accept", "m1", "-y", "--include-rejected"]).expect_code(0);
    fleet.wait_up(&["m1"]);
    assert_eq!(fleet.minion("m1").pid(), pid, "never by a restart");
}

#[test]
fn a_deleted_minion_starts_anew_as_pending() {
    let mut fleet = Fleet::new().keys_pending().start();
    fleet.start_minion("m1", "");
    let pending = || fleet.halite(&["key", "list", "--out", "json"]).json()["minions_pre"][0] == "m1";
    wait_for("m1 to be pending", pending);
    fleet.halite(&["key", "accept", "m1", "-y"]).expect_code(0);
    fleet.wait_up(&["m1"]);
    fleet.halite(&["key", "delete", "m1", "-y"]).expect_code(0);
    wait_for("m1 to be pending again", pending);
    let acts: Vec<_> = fleet.events("salt/key").iter().map(|event| event["data"]["act"].clone()).collect();
    assert_eq!(acts, ["accepted", "delete"]);
}

#[test]
fn a_key_file_moved_by_hand_counts() {
    let mut fleet = Fleet::new().keys_pending().start();
    fleet.start_minion("m1", "");
    let pki = fleet.site.confdir("master").join("etc/halite/pki/master");
    wait_for("the pending key file", || pki.join("minions_pre/m1").exists());
    std::fs::rename(pki.join("minions_pre/m1"), pki.join("minions/m1")).unwrap();
    fleet.wait_up(&["m1"]);
}

#[test]
fn private_keys_are_for_their_owner_alone() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let mode = |path: &str| std::fs::metadata(fleet.site.dir().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("master/etc/halite/pki/master/halite_master.pem") & 0o077, 0);
    assert_eq!(mode("m1/etc/halite/pki/minion/halite_minion.pem") & 0o077, 0);
    assert_eq!(mode("master/etc/halite/pki/master"), 0o700);
}

#[test]
fn a_changed_master_key_is_refused_and_never_overwritten() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let pin = fleet.site.confdir("m1").join("etc/halite/pki/minion/halite_master.pub");
    let pinned = std::fs::read_to_string(&pin).unwrap();
    fleet.stop_master();
    std::fs::remove_dir_all(fleet.site.confdir("master").join("etc/halite/pki/master")).unwrap();
    fleet.restart_master();
    wait_for("m1 to refuse the new key", || fleet.minion("m1").log().contains("halite_master.pub"));
    assert_eq!(std::fs::read_to_string(&pin).unwrap(), pinned);
    assert_eq!(fleet.halite(&["minions", "--out", "json"]).json(), serde_json::json!([]));
}

#[test]
fn two_minions_with_one_id_are_told_apart() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    // A cloned image: the same id, the same key, another process.
    let original = fleet.site.confdir("m1").join("etc/halite/pki/minion");
    let clone = fleet.site.confdir("clone");
    let pki = clone.join("etc/halite/pki/minion");
    std::fs::create_dir_all(&pki).unwrap();
    for entry in std::fs::read_dir(original).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), pki.join(entry.file_name())).unwrap();
    }
    fleet.start_impostor("clone", "m1");
    fleet.wait_events("halite/minion/duplicate", 1);
    wait_for("the clone to say so", || fleet.minion("clone").log().contains("another minion with this id"));
    assert_eq!(fleet.halite(&["m1", "test.ping", "--out", "json"]).expect_code(0).json()["m1"], true);
    // A foreign key under a known id is denied, and the id's owner keeps working.
    fleet.start_impostor("thief", "m1");
    wait_for("the thief to be denied", || {
        fleet.halite(&["key", "list", "--out", "json"]).json()["minions_denied"][0] == "m1"
    });
    assert_eq!(fleet.halite(&["m1", "test.ping", "--out", "json"]).expect_code(0).json()["m1"], true);
}
