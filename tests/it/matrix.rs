//! Every installed release of Salt beside our own minion, all under one master of ours: what a Salt user does on the first
//! day, a row each; a verdict for each release. The table goes to the terminal.

mod cells;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use halite_tests::releases::{self, Release, SaltDaemon};
use halite_tests::{Fleet, comes_true, wait_for};

use cells::CELLS;

/// Our own minion, which shares the fleet with the others.
const NATIVE: &str = "native";

/// The fleet that the table is about.
struct Bench {
    fleet: Fleet,
    /// The running minions of Salt, by their ids.
    minions: BTreeMap<String, SaltDaemon>,
    /// What a file on the master holds.
    blob: Vec<u8>,
    _srv: tempfile::TempDir,
}

impl Bench {
    /// Starts the master, our minion, and one of each release; their keys are pending.
    fn start(releases: &[Release]) -> Bench {
        let srv = tempfile::Builder::new().prefix("halite-srv-").tempdir().unwrap();
        let blob = cells::write_srv(srv.path());
        let dir = srv.path().display();
        let fleet = Fleet::new()
            .keys_pending()
            .master_config(&format!(
                "salt_listener: true\nfile_roots:\n  base: [{dir}/salt]\npillar_roots:\n  base: [{dir}/pillar]\n\
                 reactor:\n  - 'salt/beacon/*/status/*':\n    - {dir}/reactor/seen.sls\n"
            ))
            .start();
        let mut bench = Bench { fleet, minions: BTreeMap::new(), blob, _srv: srv };
        bench.fleet.start_minion(NATIVE, "");
        wait_for("our minion to be pending", || bench.pending(NATIVE));
        bench.fleet.halite(&["key", "accept", NATIVE, "-y"]).expect_code(0);
        bench.fleet.wait_up(&[NATIVE]);
        for release in releases {
            let id = id_of(release);
            let minion = release.start_minion(&bench.fleet, &id, cells::MINION_CONFIG);
            bench.minions.insert(id, minion);
        }
        bench
    }

    fn pending(&self, id: &str) -> bool {
        let keys = self.fleet.halite(&["key", "list", "--out", "json"]);
        let Ok(keys) = serde_json::from_str::<serde_json::Value>(&keys.stdout) else { return false };
        keys["minions_pre"].as_array().is_some_and(|list| list.iter().any(|key| key == id))
    }

    /// Tells whether a minion answers.
    fn answers(&self, id: &str) -> bool {
        let answer = self.fleet.halite(&["-t", "5", id, "test.ping", "--out", "json"]);
        answer.stdout.contains("true")
    }

    /// Waits until a minion answers.
    fn wait_answer(&self, id: &str) -> Result<(), String> {
        // A minion of Salt may take its time to find its master again.
        if (0..4).any(|_| comes_true(halite_tests::PATIENCE, || self.answers(id))) {
            Ok(())
        } else {
            let log = self.minions.get(id).map(SaltDaemon::output).unwrap_or_default();
            Err(format!("{id} does not answer; it says:\n{log}"))
        }
    }
}

/// The id of the minion of a release.
fn id_of(release: &Release) -> String {
    format!("salt-{}", release.version)
}

#[test]
fn salts_minions_do_all_of_the_first_day() {
    let Some(releases) = releases::installed("Salt's minions under our master") else { return };
    let mut bench = Bench::start(&releases);
    let mut failures = String::new();
    let mut table = header(&releases);
    for cell in CELLS {
        let _ = write!(table, "{:<28}", cell.name);
        for release in &releases {
            let id = id_of(release);
            let verdict = catch_unwind(AssertUnwindSafe(|| (cell.run)(&mut bench, &id)));
            let verdict = verdict.unwrap_or_else(|panic| Err(said(panic.as_ref())));
            let _ = write!(table, "{:<12}", if verdict.is_ok() { "green" } else { "RED" });
            if let Err(reason) = verdict {
                let _ = writeln!(failures, "{} with {}: {reason}", cell.name, release.version);
            }
        }
        table.push('\n');
    }
    // Past the capture: a table that passes is worth seeing too.
    let _ = std::io::stderr().write_all(table.as_bytes());
    let master = bench.fleet.master().log();
    assert!(failures.is_empty(), "{table}\n{failures}\nthe master says:\n{}", tail(&master));
}

fn header(releases: &[Release]) -> String {
    let versions: String = releases.iter().map(|release| format!("{:<12}", release.version)).collect();
    format!("\n{:<28}{versions}\n", "Salt minions under Halite")
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
