//! A fleet in which the recordings of one group are run, one after the other.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use halite_tests::{Fleet, Outcome, PATIENCE, comes_true, run, skipped, wait_for};

use super::normal::normal;
use super::table::{self, Verdict};
use super::{Case, data, events};
use crate::docs::{expect_file, forget_file};

/// Where the recorded fleets lay.
const RECORDED_DIR: &str = "/opt/salt-lab";

/// How long events may still come in when all commands have run.
const SETTLING: Duration = Duration::from_secs(20);

/// A running fleet, and Salt's names for our programs.
pub(super) struct Scene {
    /// The fleet.
    pub(super) fleet: Fleet,
    group: &'static str,
    bin: PathBuf,
    jid: String,
    findings: Vec<String>,
}

impl Scene {
    /// Starts a master.
    pub(super) fn start(group: &'static str, config: &str, keys_pending: bool) -> Scene {
        let builder = Fleet::new().master_config(config);
        let fleet = if keys_pending { builder.keys_pending().start() } else { builder.start() };
        let bin = fleet.site.dir().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["salt", "salt-key", "salt-run"] {
            symlink(&fleet.site.binaries().halite, bin.join(name)).unwrap();
        }
        symlink(&fleet.site.binaries().minion, bin.join("salt-call")).unwrap();
        Scene { fleet, group, bin, jid: String::new(), findings: Vec::new() }
    }

    /// Starts a minion.
    pub(super) fn minion(&mut self, id: &str, config: &str) {
        self.fleet.start_minion(id, config);
    }

    /// Ends a minion and waits until the master knows.
    pub(super) fn lose_minion(&mut self, id: &str) {
        self.stop_minion(id);
        wait_for("the minion to be down", || {
            let minions = self.fleet.halite(&["minions", "--out", "json"]).json();
            minions.as_array().unwrap().iter().any(|minion| minion["id"] == id && minion["up"] == false)
        });
    }

    /// Ends a minion.
    pub(super) fn stop_minion(&mut self, id: &str) {
        self.fleet.take_minion(id).stop();
    }

    /// Waits until these keys are pending.
    pub(super) fn wait_pending(&self, ids: &[&str]) {
        wait_for("the keys to be pending", || {
            let keys = self.fleet.halite(&["key", "list", "pending", "--out", "json"]).stdout;
            ids.iter().all(|id| keys.contains(&format!("\"{id}\"")))
        });
    }

    /// Waits until a minion has returned the last job that nobody waited for.
    pub(super) fn wait_job(&self, id: &str) {
        self.fleet.wait_events(&format!("salt/job/{}/ret/{id}", self.jid), 1);
    }

    /// Writes a file that a recorded configuration names under the recorded directory.
    pub(super) fn write(&self, name: &str, text: &str) {
        self.fleet.write(name, text);
    }

    /// Runs a command in a person's session until the bus tells of it. Where this host lets nobody watch, nothing happens.
    pub(super) fn in_a_session(&self, argv: &[&str]) {
        let minion = &self.fleet.site.binaries().minion;
        let mut source = Command::new(minion);
        source.arg("exec-source");
        if run(source).code != 0 {
            return;
        }
        let pty = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        // Until the tracer is attached nothing is seen: the command is run until it is.
        wait_for("the command on the bus", || {
            let mut shell = Command::new(minion);
            shell.args(["pty-exec", "--"]).args(argv).stdin(end()).stdout(end()).stderr(end());
            assert!(shell.status().unwrap().success());
            !self.fleet.events("salt/beacon/*/sh/*").is_empty()
        });
    }

    /// Tells whether this is an event of a beacon that cannot work on this host, and says so.
    fn cannot_watch(&self, kind: &str) -> bool {
        let Some(name) = kind.strip_prefix("salt/beacon/<id>/").and_then(|rest| rest.split('/').next()) else {
            return false;
        };
        let log = self.fleet.minion("m1").log();
        let Some(why) = log.lines().find(|line| line.contains(&format!("beacon {name} is disabled"))) else {
            return false;
        };
        skipped(&format!("events of the {name} beacon"), why);
        true
    }

    /// Moves recorded paths into this fleet's directory.
    pub(super) fn local(&self, text: &str) -> String {
        let dir = self.fleet.site.dir().display().to_string();
        let mut text = text.to_owned();
        for lab in ["labJ", "labR", "lab"] {
            text = text.replace(&format!("{RECORDED_DIR}/{lab}/"), &format!("{dir}/"));
        }
        text.replace(RECORDED_DIR, &dir)
    }

    /// Runs every case of the group; `before` gets the scene ready for one.
    pub(super) fn run_all(&mut self, before: &mut dyn FnMut(&mut Scene, &str)) {
        for (name, verdict) in table::of(self.group) {
            before(self, name);
            let path = format!("{}/{name}", self.group);
            let text = fs::read_to_string(data().join(format!("{path}.txt"))).unwrap();
            let case = Case::parse(&path, &text);
            let ours = self.types(&case.command);
            if let Some(jid) = ours.stdout.strip_prefix("Executed command with job ID: ") {
                jid.trim().clone_into(&mut self.jid);
            }
            self.judge(&path, verdict, &case, &ours);
        }
    }

    /// Types a recorded command.
    pub(super) fn types(&self, command: &str) -> Outcome {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap_or_default());
        // The one place where a configuration directory is not found in the environment.
        let call =
            format!("salt-call() {{ command salt-call -c {} \"$@\"; }}\n", self.fleet.site.confdir("m1").display());
        let mut command = self.local(command);
        for word in command.clone().split(' ').filter(|word| word.len() == 20 && word.starts_with("20261121")) {
            command = command.replace(word, &self.jid);
        }
        let mut shell = Command::new("timeout");
        shell.args([&PATIENCE.as_secs().to_string(), "bash", "-c"]).arg(call + &command);
        shell.env("PATH", path).env("HALITE_CONFIG_DIR", self.fleet.site.confdir("master"));
        run(shell)
    }

    fn judge(&mut self, path: &str, verdict: Verdict, case: &Case, ours: &Outcome) {
        let dir = self.fleet.site.dir().display().to_string();
        let report = |stdout: &str, stderr: &str, code: i32| {
            let (stdout, stderr) = (normal(stdout, &dir), normal(stderr, &dir));
            let stderr = if stderr.is_empty() { stderr } else { format!("--- stderr\n{stderr}") };
            format!("{stdout}{stderr}--- exit {code}\n")
        };
        let recorded = report(&case.stdout, &case.stderr, case.code);
        let ours = report(&ours.stdout, &ours.stderr, ours.code);
        let kept = format!("tests/it/recorded/data/{path}.halite");
        match verdict {
            Verdict::Same if recorded == ours => forget_file(&kept),
            Verdict::Same => {
                self.findings.push(format!("{path}: $ {}\n<<< Salt\n{recorded}>>> ours\n{ours}", case.command))
            }
            Verdict::Differs(_) if recorded == ours => {
                self.findings.push(format!("{path}: the same as Salt's by now; its verdict is Same"))
            }
            Verdict::Differs(_) => expect_file(&kept, &ours),
        }
    }

    /// Fails the test if anything was not as expected; compares the events.
    pub(super) fn finish(self) {
        self.finish_with(Vec::new());
    }

    /// Fails the test if anything was not as expected, these findings included; compares the events.
    pub(super) fn finish_with(mut self, findings: Vec<String>) {
        self.findings.extend(findings);
        let mut differ = Vec::new();
        // Presence and beacons speak in their own time.
        comes_true(SETTLING, || {
            differ = events::compare(self.group, &self.fleet.events("*"), &|kind| self.cannot_watch(kind));
            differ.is_empty()
        });
        self.findings.extend(differ);
        assert!(self.findings.is_empty(), "{} findings:\n{}", self.findings.len(), self.findings.join("\n"));
    }
}
