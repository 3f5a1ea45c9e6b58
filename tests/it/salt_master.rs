//! Our minion under a real, unmodified Salt master: a table with a verdict for each cell, and a failure if one is not good.

use halite_tests::salt::{self, Release, SaltMaster, SaltsMinion};
use halite_tests::wait_for;

mod cells;

/// What a cell is tried on.
struct Scene {
    // Ends first: it writes below the master's directory.
    minion: SaltsMinion,
    master: SaltMaster,
}

/// One thing that has to work; says what is wrong if it does not.
type Cell = (&'static str, fn(&mut Scene) -> Result<(), String>);

impl Scene {
    fn start(release: Release) -> Scene {
        let master = SaltMaster::start(release, "peer:\n  .*: [test.*]\npeer_run:\n  .*: [test.arg]\n");
        cells::prepare(&master);
        let mine = "mine_functions:\n  kernel:\n    - mine_function: grains.get\n    - kernel\n";
        let beacons = "beacons:\n  status:\n    - interval: 1\n    - time: [all]\n";
        let minion = master.minion("halite1", &format!("{mine}{beacons}"));
        Scene { master, minion }
    }
}

/// Tries every cell, and prints the table past the capture of a passing test's output.
fn table(version: &'static str) {
    let test = format!("our minion under Salt {version}");
    let Some(release) = salt::release(&test, version) else { return };
    let mut scene = Scene::start(release);
    let mut bad = Vec::new();
    for (name, cell) in cells::ALL {
        let verdict = match cell(&mut scene) {
            Ok(()) => "ok".to_owned(),
            Err(why) => {
                bad.push(format!("{name}: {why}"));
                format!("NOT OK: {why}")
            }
        };
        use std::io::Write as _;
        // Without a standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "salt {version} | {name} | {verdict}");
    }
    assert!(bad.is_empty(), "Salt {version}:\n{}\n\nthe minion's log:\n{}", bad.join("\n"), scene.minion.log());
}

#[test]
fn salt_master_3008_5_has_our_minion() {
    table("3008.5");
}

#[test]
fn salt_master_3007_17_has_our_minion() {
    table("3007.17");
}

#[test]
fn salt_master_3006_30_has_our_minion() {
    table("3006.30");
}

/// Waits until the master lists the minion's key in this state.
fn wait_key(master: &SaltMaster, state: &str) {
    wait_for(&format!("the key to be in {state}"), || {
        let listed = master.tool("salt-key", &["-L", "--out", "json"]);
        let keys: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
        keys[state].as_array().is_some_and(|ids| ids.iter().any(|id| id == "halite1"))
    });
}
