//! `halite demo`: the main job, whole.

use std::process::Command;

use halite_tests::{Fleet, run};

#[test]
fn the_demonstration_shows_every_part_and_loses_nothing() {
    let fleet = Fleet::new().start();
    let mut demo = Command::new(&fleet.site.binaries().halite);
    demo.args(["demo", "--for", "20s", "--json"]);
    let report = run(demo).expect_code(0).json();
    assert_eq!((&report["minions"], &report["lost"]), (&3.into(), &0.into()));
    for count in ["reactions", "jobs", "returns"] {
        assert!(report[count].as_u64().is_some_and(|count| count > 0), "{count}: {report}");
    }
    for beacon in ["load", "memusage", "sh"] {
        let fired = &report["beacon_events"][beacon];
        let not_permitted = beacon == "sh" && fired.is_null();
        assert!(not_permitted || fired.as_u64().is_some_and(|count| count > 0), "{beacon}: {report}");
    }
}
