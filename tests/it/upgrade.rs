//! A host that was a Salt minion becomes a native one, and nobody lifts a hand on the master.

use halite_tests::{Fleet, wait_for};

#[test]
fn a_minion_that_is_accepted_on_salts_wire_keeps_its_id_on_the_native_one() {
    let mut fleet = Fleet::new().keys_pending().master_config("salt_listener: true").start();
    let keys = |fleet: &Fleet| fleet.halite(&["key", "list", "--out", "json"]).expect_code(0).json();
    fleet.start_minion("m1", "wire: salt\nacceptance_wait_time: 1");
    wait_for("the RSA key to be pending", || keys(&fleet)["minions_pre"][0] == "m1");
    fleet.halite(&["key", "accept", "m1", "-y"]).expect_code(0);
    wait_for("the minion to answer on Salt's wire", || {
        fleet.halite(&["-t", "5", "m1", "test.ping", "--out", "json"]).stdout.contains("true")
    });
    let pki = fleet.site.confdir("m1").join("etc/halite/pki/minion");
    let pinned = std::fs::read_to_string(pki.join("minion_master.pub")).unwrap();
    fleet.take_minion("m1").stop();

    fleet.start_minion("m1", "");
    fleet.wait_up(&["m1"]);
    let upgraded = fleet.wait_events("salt/key", 2);
    assert_eq!(upgraded.last().unwrap()["data"]["act"], "upgraded", "{upgraded:?}");
    let found = keys(&fleet);
    assert_eq!(found["minions"][0], "m1", "{found}");
    assert_eq!(found["minions_pre"].as_array().map(Vec::len), Some(0), "{found}");
    let minions = fleet.halite(&["minions", "--out", "json"]).expect_code(0).json();
    assert_eq!(minions[0]["wire"], "native", "{minions}");
    assert_eq!(fleet.halite(&["m1", "test.ping", "--out", "json"]).expect_code(0).json()["m1"], true);
    assert_eq!(std::fs::read_to_string(pki.join("minion_master.pub")).unwrap(), pinned, "the pin stays as it was");
}
