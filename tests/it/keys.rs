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
fn a_key_file_moved_by_hand_counts_in_every_direction() {
    let mut fleet = Fleet::new().keys_pending().start();
    fleet.start_minion("m1", "");
    let pki = fleet.site.confdir("master").join("etc/halite/pki/master");
    wait_for("the pending key file", || pki.join("minions_pre/m1").exists());
    let moves = |from: &str, to: &str| {
        std::fs::rename(pki.join(from).join("m1"), pki.join(to).join("m1")).unwrap();
        wait_for(&format!("m1 to be in {to} alone"), || {
            let listed = fleet.halite(&["key", "list", "--out", "json"]).expect_code(0).json();
            let lists = listed.as_object().unwrap();
            lists.iter().all(|(folder, ids)| ids.as_array().unwrap().is_empty() == (folder != to))
        });
    };
    moves("minions_pre", "minions");
    fleet.wait_up(&["m1"]);
    moves("minions", "minions_rejected");
    assert_eq!(fleet.halite(&["minions", "--out", "json"]).json(), serde_json::json!([]), "it is cut off");
    moves("minions_rejected", "minions_denied");
    // While it is only denied, the minion may show up as pending again.
    std::fs::rename(pki.join("minions_denied/m1"), pki.join("minions/m1")).unwrap();
    fleet.wait_up(&["m1"]);
    moves("minions", "minions_pre");
}

#[test]
fn autosign_file_lets_minions_in_and_an_edit_counts_while_they_wait() {
    let config = "autosign_file: /etc/halite/autosign.conf\nautoreject_file: /etc/halite/autoreject.conf";
    let mut fleet = Fleet::new().keys_pending().master_config(config).start();
    let list = |name: &str, text: &str| fleet.write(&format!("master/etc/halite/{name}"), text);
    list("autosign.conf", "# the web servers\nweb*\n(broken\n");
    list("autoreject.conf", "web-evil\n");
    fleet.start_minion("web1", "");
    fleet.wait_up(&["web1"]);
    assert!(fleet.master().log().contains("autosign.conf:3: this line does not count"), "{}", fleet.master().log());
    let acts: Vec<_> = fleet.events("salt/auth").iter().map(|event| event["data"]["act"].clone()).collect();
    assert_eq!(acts, ["accept"], "it was never pending");
    fleet.start_minion("web-evil", "");
    fleet.start_minion("db1", "");
    let state =
        |folder: &str, id: &str| fleet.halite(&["key", "list", "--out", "json"]).expect_code(0).json()[folder][0] == id;
    wait_for("web-evil to be rejected", || state("minions_rejected", "web-evil"));
    wait_for("db1 to be pending", || state("minions_pre", "db1"));
    fleet.write("master/etc/halite/autosign.conf", "web*\ndb\\d+\n");
    fleet.wait_up(&["db1"]);
    let rejected = fleet.events("salt/auth");
    assert!(rejected.iter().any(|event| event["data"]["act"] == "reject" && event["data"]["id"] == "web-evil"));
    assert_eq!(fleet.halite(&["db1", "test.ping", "--out", "json"]).expect_code(0).json()["db1"], true);
}

#[test]
fn grains_vouch_for_a_key_and_a_wrong_value_does_not() {
    let mut fleet = Fleet::new().keys_pending().master_config("autosign_grains_dir: /etc/halite/vouched").start();
    fleet.write("master/etc/halite/vouched/serial", "# the first batch\nA-77\n");
    let minion = |serial: &str| format!("autosign_grains: [serial]\ngrains: {{serial: {serial}}}");
    fleet.start_minion("thief", &minion("A-7"));
    fleet.start_minion("m1", &minion("A-77"));
    fleet.wait_up(&["m1"]);
    let listed = fleet.halite(&["key", "list", "--out", "json"]).expect_code(0).json();
    assert_eq!(
        (&listed["minions"], &listed["minions_pre"]),
        (&serde_json::json!(["m1"]), &serde_json::json!(["thief"]))
    );
    let acts = |id: &str| -> Vec<serde_json::Value> {
        let events = fleet.events("salt/auth");
        events.iter().filter(|event| event["data"]["id"] == id).map(|event| event["data"]["act"].clone()).collect()
    };
    assert_eq!(acts("m1"), ["pend", "accept"]);
    assert_eq!(acts("thief"), ["pend"]);
    assert!(!format!("{:?}", fleet.events("*")).contains("A-77"), "what vouches is a secret");
}

/// Every text of `salt-key` that was recorded, byte by byte, from a link of that name.
#[test]
fn started_as_salt_key_it_says_what_salt_key_says() {
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEA82IRN/AwGbR47kumQJb0YqOXVZhs5G5arOrYdYW6FEs=\n-----END PUBLIC KEY-----\n";
    let fleet = Fleet::new().keys_pending().start();
    let link = fleet.site.dir().join("salt-key");
    std::os::unix::fs::symlink(&fleet.site.binaries().halite, &link).unwrap();
    let salt_key = |words: &str| {
        let mut command = std::process::Command::new(&link);
        command.args(words.split(' ')).env("HALITE_CONFIG_DIR", fleet.site.confdir("master"));
        halite_tests::run(command).expect_code(0).stdout
    };
    let lists = |accepted: &str, pending: &str, rejected: &str| {
        format!("Accepted Keys:\n{accepted}Denied Keys:\nUnaccepted Keys:\n{pending}Rejected Keys:\n{rejected}")
    };
    fleet.write("master/etc/halite/pki/master/minions_pre/m2", PEM);
    wait_for("m2 to be pending", || salt_key("-L") == lists("", "m2\n", ""));
    let check = |words: &str, expected: &str| assert_eq!(salt_key(words), expected, "salt-key {words}");
    check(
        "-y -r m2",
        "The following keys are going to be rejected:\nUnaccepted Keys:\nm2\nKey for minion m2 rejected.\n",
    );
    check("-L", &lists("", "", "m2\n"));
    check("-y -A", "The key glob '*' does not match any unaccepted keys.\n");
    check("-y -a nosuch", "The key glob 'nosuch' does not match any unaccepted keys.\n");
    check(
        "-y --include-rejected -a m2",
        "The following keys are going to be accepted:\nRejected Keys:\nm2\nKey for minion m2 accepted.\n",
    );
    check("-p m2", &format!("Accepted Keys:\nm2:  {PEM}"));
    check("-l acc", "Accepted Keys:\nm2\n");
    check("-y -d m2", "The following keys are going to be deleted:\nAccepted Keys:\nm2\nKey for minion m2 deleted.\n");
    check("-L", &lists("", "", ""));
}

#[test]
fn keys_are_printed_as_salt_key_does() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let printed = fleet.halite(&["key", "print", "m1"]).expect_code(0).stdout;
    let file = fleet.site.confdir("master").join("etc/halite/pki/master/minions/m1");
    assert_eq!(printed, format!("Accepted Keys:\nm1:  {}", std::fs::read_to_string(file).unwrap()));
    assert_eq!(fleet.halite(&["key", "print", "nosuch"]).code, 2);
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
