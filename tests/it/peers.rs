//! Real peers: a pyzmq program that speaks our wire is a minion.

use std::process::{Child, Command, Stdio};

use halite_tests::{Fleet, peers, wait_for};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn peers_pyzmq_minion_goes_from_pending_to_accepted_and_survives_a_master_restart() {
    let Some(python) = peers::python("the pyzmq minion") else { return };
    let mut fleet = Fleet::new().keys_pending().start();
    let (publish, requests) = fleet.site.ports().unwrap();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/minion.py");
    let _minion = Running(
        Command::new(python)
            .arg(script)
            .args(["--id", "py1", "--master", "127.0.0.1"])
            .args(["--publish-port", &publish.to_string(), "--request-port", &requests.to_string()])
            .arg("--keys")
            .arg(fleet.site.dir().join("py1"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_for("py1 to be pending", || fleet.halite(&["key", "list", "--out", "json"]).json()["minions_pre"][0] == "py1");
    fleet.halite(&["key", "accept", "py1", "-y"]).expect_code(0);
    fleet.wait_up(&["py1"]);
    assert_eq!(fleet.halite(&["py1", "test.ping", "--out", "json"]).expect_code(0).json()["py1"], true);
    fleet.wait_events("example/py1/*", 1);
    fleet.kill_master();
    fleet.restart_master();
    fleet.wait_up(&["py1"]);
    assert_eq!(fleet.halite(&["py1", "test.ping", "--out", "json"]).expect_code(0).json()["py1"], true);
    assert_eq!(fleet.events("example/py1/start").len(), 1, "an acknowledged event is not sent again");
}
