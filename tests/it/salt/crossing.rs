//! Which jobs go out where every Salt minion can read them, and who is told.

use halite_tests::{Fleet, wait_for};

#[test]
fn arguments_that_cross_the_salt_wire_for_nobody_known_are_warned_of() {
    let mut fleet = Fleet::new().master_config("salt_listener: true").start();
    fleet.start_minions(1);
    let warned = |fleet: &Fleet, args: &[&str]| {
        let said = fleet.halite(args).expect_code(0);
        assert!(said.stdout.contains("m1"), "{said:?}");
        said.stderr.contains("warning: s1 told nothing of themselves yet and may match")
    };
    assert!(!warned(&fleet, &["-G", "kernel:Linux", "test.echo", "secret"]), "there is no Salt minion");
    // An accepted key whose minion has never been here.
    let pki = fleet.site.confdir("master").join("etc/halite/pki/master");
    std::fs::copy(pki.join("master.pub"), pki.join("minions/s1")).unwrap();
    wait_for("the key to be seen", || {
        fleet.halite(&["key", "list", "--out", "json"]).json()["minions"].to_string().contains("s1")
    });
    assert!(warned(&fleet, &["-G", "kernel:Linux", "test.echo", "secret"]));
    assert!(!warned(&fleet, &["-G", "kernel:Linux", "test.ping"]), "there are no arguments");
    for target in [&["m1"][..], &["-L", "m1"], &["-C", "G@kernel:Linux and m*"]] {
        assert!(!warned(&fleet, &[target, &["test.echo", "secret"]].concat()), "{target:?}: s1 is not meant");
    }
}
