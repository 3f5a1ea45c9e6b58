//! The README's tour and the tutorial, typed as they are printed. Two things differ: the directory is the test's own, and
//! so are the ports.

mod tutorial;

use std::path::Path;
use std::process::Command;

use halite_tests::{Fleet, Outcome, run, wait_for};
use master::fleet::{Binaries, Daemon};

const README: &str = include_str!("../../README.md");
/// The directory that the README uses.
const PRINTED_DIR: &str = "/tmp/halite";

/// Returns the fenced blocks of a text, in order: language and text.
fn blocks(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let parts = text.split("```").skip(1).step_by(2);
    parts.map(|block| block.split_once('\n').expect("a block has its language")).collect()
}

/// Returns the block of the tour that holds a text.
fn block(with: &str) -> &'static str {
    let (_, tour) = README.split_once("## Ten minutes").expect("the README has its tour");
    let (tour, _) = tour.split_once("## The map").expect("the tour ends before the map");
    blocks(tour)
        .into_iter()
        .map(|(_, text)| text)
        .find(|text| text.contains(with))
        .expect("the tour still has this step")
}

/// A master and a minion that somebody starts by hand.
struct ByHand {
    _minion: Daemon,
    _master: Daemon,
}

impl ByHand {
    /// Starts both in a directory whose files are written, on ports that are free.
    fn start(shell: &Shell, binaries: &Binaries) -> ByHand {
        let dir = shell.dir;
        append(&dir.join("master"), "publish_port: 0\nret_port: 0\n");
        let master = Daemon::start("the master", &binaries.master, dir, &dir.join("master.log")).unwrap();
        let (publish, requests) = (master.port("publish").unwrap(), master.port("requests").unwrap());
        append(&dir.join("minion"), &format!("publish_port: {publish}\nmaster_port: {requests}\n"));
        let minion = Daemon::start("the minion", &binaries.minion, dir, &dir.join("minion.log")).unwrap();
        ByHand { _minion: minion, _master: master }
    }
}

struct Shell<'a> {
    dir: &'a Path,
    bin: &'a Path,
}

impl Shell<'_> {
    fn types(&self, text: &str) -> Outcome {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("bash");
        shell.arg("-ec").arg(text.replace(PRINTED_DIR, &self.dir.display().to_string()));
        shell.env("PATH", path).env("HALITE_CONFIG_DIR", self.dir);
        run(shell)
    }

    /// Types what follows each `$ ` of a console block, and expects what is printed below it.
    fn session(&self, text: &str) {
        for step in text.split("$ ").skip(1) {
            let (command, printed) = step.split_once('\n').unwrap_or((step, ""));
            // The answer to the question that a terminal would be asked.
            let command = if command.contains("key accept") { format!("{command} -y") } else { command.to_owned() };
            let outcome = self.types(&command).expect_code(0);
            if !printed.trim().is_empty() {
                assert_eq!(outcome.stdout, printed, "{command}");
            }
        }
    }
}

#[test]
fn the_tour_gives_what_it_says() {
    // Only for its directory and the place of the binaries.
    let fleet = Fleet::new().start();
    let dir = fleet.site.dir().join("tour");
    std::fs::create_dir(&dir).unwrap();
    let bin = fleet.site.binaries().halite.parent().unwrap();
    let shell = Shell { dir: &dir, bin };
    let setup = block("mkdir -p");
    let typed: Vec<&str> =
        setup.lines().filter(|line| line.starts_with("mkdir") || line.starts_with("printf")).collect();
    assert_eq!(typed.len(), 3, "{setup}");
    shell.types(&typed.join("\n")).expect_code(0);
    let _daemons = ByHand::start(&shell, fleet.site.binaries());
    let keys = block("key list");
    wait_for("the key to be pending", || shell.types("halite key list").stdout.contains("Unaccepted Keys:\nweb1"));
    shell.session(keys);
    wait_for("web1 to be connected", || shell.types("halite minions --out json").stdout.contains("\"up\": true"));
    shell.session(block("test.ping"));
    shell.types(block("memory.sls")).expect_code(0);
    let told = |tag: &str| shell.types(&format!("halite events --since start --tag '{tag}' --out jsonl")).jsonl();
    wait_for("the beacon", || !told("salt/beacon/web1/memusage/").is_empty());
    let mut returned = Vec::new();
    wait_for("the reaction's return", || {
        returned = told("salt/job/*/ret/web1");
        returned.iter().any(|event| event["data"]["fun_args"][0].as_str().is_some_and(|arg| arg.starts_with("ps ")))
    });
    let last = returned.last().unwrap();
    let jid = last["data"]["jid"].as_str().unwrap();
    for command in block("jobs list").lines() {
        shell.types(&command.replace("JID", jid)).expect_code(0);
    }
}

fn append(path: &Path, lines: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text + lines).unwrap();
}
