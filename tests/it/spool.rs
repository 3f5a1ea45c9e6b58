//! What a minion keeps on its disk: events and returns survive kill -9 while the master is away, and come once, in order.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use halite_tests::{Fleet, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

/// How many events are fired before the minion is killed, and again after it.
const EVENTS: usize = 60;

/// A fleet with one minion, which fires an event for each line of a file.
struct Scene {
    fleet: Fleet,
    lines: PathBuf,
    config: String,
}

impl Scene {
    fn start() -> Scene {
        let fleet = Fleet::new().start();
        let lines = fleet.write("lines", "");
        let config = format!(
            "beacons_before_connect: True\nbeacons:\n  log:\n    - file: {}\n    - tags:\n        line:\n          regex: spooled-\n    - interval: 1\n",
            lines.display()
        );
        let mut scene = Scene { fleet, lines, config };
        scene.start_minion();
        scene.fleet.wait_up(&["m1"]);
        scene.wait_watching();
        scene
    }

    fn start_minion(&mut self) {
        self.fleet.start_minion("m1", &self.config);
    }

    fn kill_minion(&mut self) {
        self.fleet.take_minion("m1").kill();
    }

    /// Waits until the beacon sees new lines.
    fn wait_watching(&self) {
        wait_for("the beacon to watch", || {
            self.append("spooled-probe");
            !self.fleet.events("salt/beacon/m1/log/*").is_empty()
        });
    }

    fn append(&self, line: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.lines).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn fire(&self, from: usize) {
        (from..from + EVENTS).for_each(|number| self.append(&format!("spooled-{number}.")));
        self.wait_stored(&format!("spooled-{}.", from + EVENTS - 1));
    }

    /// Waits until the minion's spool has a text on the disk.
    fn wait_stored(&self, text: &str) {
        wait_for(&format!("{text} in the spool"), || self.stored(text));
    }

    fn stored(&self, text: &str) -> bool {
        let folder = self.fleet.site.dir().join("m1/var/cache/halite/minion");
        ["spool.db-wal", "spool.db"].iter().any(|name| {
            let bytes = fs::read(folder.join(name)).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }

    /// Starts a job that says so, waits for a file, and says so again; returns its jid, where it writes and what it waits for.
    fn start_job(&self) -> (String, PathBuf, PathBuf) {
        let (said, go) = (self.fleet.site.dir().join("said"), self.fleet.site.dir().join("go"));
        let script = format!(
            "echo started >> {said}; until [ -e {go} ]; do sleep 0.05; done; echo ended-as-itself",
            said = said.display(),
            go = go.display()
        );
        let publish = self.fleet.halite(&["m1", "cmd.run", &script, "--async"]).expect_code(0);
        let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
        wait_for("the job to run", || said.exists());
        (jid, said, go)
    }

    /// Returns the job's returns, once everything that was spooled before has come.
    fn returns(&mut self, jid: &str) -> Vec<Json> {
        self.fleet.wait_up(&["m1"]);
        self.fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
        self.fleet.halite(&["m1", "test.ping"]).expect_code(0);
        self.fleet.events(&format!("salt/job/{jid}/ret/m1"))
    }

    fn numbers(&self) -> Vec<usize> {
        let number =
            |event: &Json| event["data"]["raw"].as_str()?.strip_prefix("spooled-")?.strip_suffix('.')?.parse().ok();
        self.fleet.events("salt/beacon/m1/log/*").iter().filter_map(number).collect()
    }
}

#[test]
fn what_is_fired_while_the_master_is_away_survives_kill_9_and_comes_once_in_order() {
    let mut scene = Scene::start();
    let (jid, said, go) = scene.start_job();
    scene.fleet.kill_master();
    scene.fire(0);
    fs::write(go, "").unwrap();
    scene.wait_stored("ended-as-itself");
    scene.kill_minion();
    scene.start_minion();
    // What is in the file at the start is not looked at: the minion has to watch before the next lines.
    wait_for("the minion to watch", || {
        scene.append("spooled-again");
        scene.stored("spooled-again")
    });
    scene.fire(EVENTS);
    scene.kill_minion();
    scene.fleet.restart_master();
    scene.start_minion();
    let returns = scene.returns(&jid);
    assert_eq!(returns.len(), 1, "{returns:?}");
    assert_eq!(returns[0]["data"]["return"], "ended-as-itself");
    assert_eq!(fs::read_to_string(said).unwrap(), "started\n", "it ran once");
    assert_eq!(scene.numbers(), (0..2 * EVENTS).collect::<Vec<_>>());
    assert!(scene.fleet.events("halite/minion/m1/dropped").is_empty(), "nothing is missing");
}

#[test]
fn a_job_that_kill_9_cuts_returns_interrupted_once_and_does_not_run_again() {
    let mut scene = Scene::start();
    let (jid, said, go) = scene.start_job();
    scene.kill_minion();
    scene.start_minion();
    scene.fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    // Killed again, it does not say it again.
    scene.kill_minion();
    scene.start_minion();
    let returns = scene.returns(&jid);
    fs::write(go, "").unwrap();
    assert_eq!(returns.len(), 1, "{returns:?}");
    assert_eq!((&returns[0]["data"]["return"], &returns[0]["data"]["retcode"]), (&"interrupted".into(), &1.into()));
    assert_eq!(fs::read_to_string(said).unwrap(), "started\n", "it ran once");
}

#[test]
fn a_return_whose_acknowledgement_did_not_come_before_kill_9_comes_once() {
    let mut scene = Scene::start();
    let (jid, said, go) = scene.start_job();
    // A master that takes the return and says nothing.
    scene.fleet.master().signal(Signal::SIGSTOP);
    fs::write(go, "").unwrap();
    scene.wait_stored("ended-as-itself");
    scene.kill_minion();
    scene.fleet.master().signal(Signal::SIGCONT);
    scene.start_minion();
    let returns = scene.returns(&jid);
    assert_eq!(returns.len(), 1, "{returns:?}");
    assert_eq!(returns[0]["data"]["return"], "ended-as-itself");
    assert_eq!(fs::read_to_string(said).unwrap(), "started\n", "it ran once");
}

#[test]
fn a_full_spool_says_that_events_are_missing() {
    let mut scene = Scene::start();
    scene.kill_minion();
    scene.config = format!("spool_max_bytes: 65536\n{}", scene.config);
    scene.start_minion();
    scene.fleet.wait_up(&["m1"]);
    scene.fleet.kill_master();
    wait_for("the minion to watch", || {
        scene.append("spooled-again");
        scene.stored("spooled-again")
    });
    let padding = "x".repeat(20_000);
    for number in 0..10 {
        scene.append(&format!("spooled-{padding}-{number}."));
        scene.wait_stored(&format!("-{number}."));
    }
    scene.fleet.restart_master();
    scene.fleet.wait_up(&["m1"]);
    let dropped = scene.fleet.wait_events("halite/minion/m1/dropped", 1);
    assert!(dropped[0]["data"]["loads"].as_u64().is_some_and(|loads| loads >= 5), "{dropped:?}");
}
