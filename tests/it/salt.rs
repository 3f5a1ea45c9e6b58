//! Unmodified Salt minions of three releases and a native one under one master of ours: what a Salt user does on the first
//! day, a row each, with a verdict for each release; then what they do as one fleet. The tables go to the terminal, and
//! whatever is not green fails. They run where `HALITE_SALT` names the releases.

mod cells;
mod crossing;
mod fleet;
mod snippets;
mod storm;
mod syndic;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use halite_tests::salt::{self, Release, SaltMinion};
use halite_tests::{Fleet, comes_true, wait_for};
use serde_json::Value as Json;

use cells::Cell;

/// Our own minion, which shares the fleet with the others.
const NATIVE: &str = "native";
/// How long a Salt minion may take to load its modules, or to find its master again, on a busy machine.
const SLOW: Duration = Duration::from_secs(240);

/// What a cell came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It works.
    Green,
    /// It works as far as Salt itself can do it; says what Salt itself does not do.
    Salt(&'static str),
}

/// What is tried: an error says what is wrong.
type Tried = Result<Verdict, String>;

/// The fleet that the tables are about.
struct Bench {
    fleet: Fleet,
    /// The running minions of Salt, by their ids.
    minions: BTreeMap<String, SaltMinion>,
    /// What a file on the master holds.
    blob: Vec<u8>,
    srv: tempfile::TempDir,
}

impl Bench {
    /// Starts the master, our minion, and one of each release; their keys are pending.
    fn start(releases: &[Release]) -> Bench {
        let srv = tempfile::Builder::new().prefix("halite-srv-").tempdir().unwrap();
        let blob = cells::write_srv(srv.path());
        let fleet = salt::start(Fleet::new().keys_pending().master_config(&cells::master_config(srv.path())));
        let mut bench = Bench { fleet, minions: BTreeMap::new(), blob, srv };
        bench.fleet.start_minion(NATIVE, "");
        for release in releases {
            let id = id_of(release);
            let minion = release.start_minion(&bench.fleet, &id, cells::MINION_CONFIG);
            bench.minions.insert(id, minion);
        }
        wait_for("our minion to be pending", || bench.has_key("minions_pre", NATIVE));
        bench.fleet.halite(&["key", "accept", NATIVE, "-y"]).expect_code(0);
        bench.fleet.wait_up(&[NATIVE]);
        bench
    }

    /// Tells whether a key is in a state.
    fn has_key(&self, state: &str, id: &str) -> bool {
        let keys = self.fleet.halite(&["key", "list", "--out", "json"]);
        let Ok(keys) = serde_json::from_str::<Json>(&keys.stdout) else { return false };
        keys[state].as_array().is_some_and(|list| list.iter().any(|key| key == id))
    }

    /// Waits until a minion answers.
    fn wait_answer(&self, id: &str) -> Tried {
        let answers = || self.fleet.halite(&["-t", "5", id, "test.ping", "--out", "json"]).stdout.contains("true");
        check(comes_true(SLOW, answers), || {
            let log = self.minions.get(id).map(SaltMinion::output).unwrap_or_default();
            format!("{id} does not answer; it says:\n{log}")
        })
    }

    /// Returns the ids of all minions, ours too.
    fn ids(&self) -> Vec<&str> {
        self.minions.keys().map(String::as_str).chain([NATIVE]).collect()
    }

    /// Returns what everybody answers who answers this.
    fn everybody(&self, value: &Json) -> Json {
        self.ids().into_iter().map(|id| (id.to_owned(), value.clone())).collect::<serde_json::Map<_, _>>().into()
    }

    /// Runs `halite` for one document.
    fn json(&self, args: &[&str]) -> Result<Json, String> {
        let timeout: &[&str] = if args.contains(&"-t") { &[] } else { &["-t", "30"] };
        let answer = self.fleet.halite(&[timeout, args, &["--out", "json"]].concat());
        serde_json::from_str(&answer.stdout).map_err(|error| format!("{error}: {answer:?}"))
    }
}

/// The id of the minion of a release.
fn id_of(release: &Release) -> String {
    format!("salt-{}", release.version)
}

#[test]
fn salt_minions_of_three_releases_live_under_our_master() {
    let releases = salt::installed("Salt's minions under our master");
    if releases.is_empty() {
        return;
    }
    let mut bench = Bench::start(&releases);
    let mut table = Table::new(&releases);
    for cell in cells::CELLS {
        table.row(cell.name, || each(&mut bench, cell, &releases));
    }
    table.text.push_str("\nWhat Salt's documentation prints\n");
    for cell in snippets::CELLS {
        table.row(cell.name, || each(&mut bench, cell, &releases));
    }
    table.text.push_str("\nOne fleet of Salt minions and a native one\n");
    for (name, run) in fleet::ALL {
        table.row(name, || vec![("all".to_owned(), caught(|| run(&mut bench)))]);
    }
    // Past the capture: a table that passes is worth seeing too.
    let _ = std::io::stderr().write_all(table.shown().as_bytes());
    let master = bench.fleet.master().log();
    let master: Vec<&str> = master.lines().rev().take(60).collect();
    assert!(
        table.failures.is_empty(),
        "{}\n{}\nthe master says, newest first:\n{}",
        table.shown(),
        table.failures,
        master.join("\n")
    );
}

/// Tries a cell with all releases at once.
fn each(bench: &mut Bench, cell: &Cell, releases: &[Release]) -> Vec<(String, Tried)> {
    if let Err(why) = caught(|| (cell.first)(bench)) {
        return releases.iter().map(|release| (release.version.to_owned(), Err(why.clone()))).collect();
    }
    let bench = &*bench;
    std::thread::scope(|scope| {
        let running: Vec<_> = releases
            .iter()
            .map(|release| (release, scope.spawn(|| caught(|| (cell.run)(bench, &id_of(release))))))
            .collect();
        let result = |(release, running): (&Release, std::thread::ScopedJoinHandle<'_, Tried>)| {
            let tried = running.join().unwrap_or_else(|panic| Err(said(panic.as_ref())));
            (release.version.to_owned(), tried)
        };
        running.into_iter().map(result).collect()
    })
}

/// Runs a check; a panic is a failure of this check alone.
fn caught(run: impl FnOnce() -> Tried) -> Tried {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(said(panic.as_ref())))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// The table that is printed.
struct Table {
    text: String,
    /// What Salt itself does not do, and where that was met.
    notes: BTreeMap<&'static str, Vec<String>>,
    failures: String,
}

impl Table {
    fn new(releases: &[Release]) -> Table {
        let versions: String = releases.iter().map(|release| format!("{:<12}", release.version)).collect();
        let text = format!("\n        {:<44}{versions}\n", "Salt minions under Halite");
        Table { text, notes: BTreeMap::new(), failures: String::new() }
    }

    /// Tries something and adds its row, with the seconds that it took.
    fn row(&mut self, name: &str, run: impl FnOnce() -> Vec<(String, Tried)>) {
        let begin = Instant::now();
        let tried = run();
        let _ = write!(self.text, "{:>4} s  {name:<44}", begin.elapsed().as_secs());
        for (with, tried) in tried {
            let shown = match &tried {
                Ok(Verdict::Green) => "green",
                Ok(Verdict::Salt(_)) => "green *",
                Err(_) => "RED",
            };
            let _ = write!(self.text, "{shown:<12}");
            match tried {
                Ok(Verdict::Green) => {}
                Ok(Verdict::Salt(lacks)) => self.notes.entry(lacks).or_default().push(format!("{name} ({with})")),
                Err(why) => drop(writeln!(self.failures, "{name}, {with}: {why}")),
            }
        }
        self.text.push('\n');
    }

    fn shown(&self) -> String {
        let notes = self.notes.iter().map(|(lacks, met)| format!("* {lacks}: {}\n", met.join(", ")));
        format!("{}{}", self.text, notes.collect::<String>())
    }
}

fn is(found: &Json, expected: &Json) -> Tried {
    check(found == expected, || format!("{found}, not {expected}"))
}

fn check(holds: bool, reason: impl FnOnce() -> String) -> Tried {
    if holds { Ok(Verdict::Green) } else { Err(reason()) }
}
