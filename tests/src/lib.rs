//! The harness: a fleet of real processes on loopback, in a directory of its own, gone when the test ends.
//!
//! ```no_run
//! let mut fleet = halite_tests::Fleet::new().start();
//! fleet.start_minions(3);
//! assert_eq!(fleet.halite(&["*", "test.ping"]).code, 0);
//! ```

pub mod faults;
mod hosts;
pub mod peers;
pub mod salt;
pub mod swarm;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use master::fleet::{Binaries, Daemon, Site};
use serde_json::Value as Json;

pub use hosts::Hosts;

/// How long a condition may take to come true. Long, because machines are shared; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Reads standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Reads standard output as one JSON document a line.
    #[track_caller]
    pub fn jsonl(&self) -> Vec<Json> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// A fleet that is about to start.
#[derive(Debug, Default)]
pub struct Builder {
    master: String,
    pending: bool,
}

impl Builder {
    /// Adds lines to the master's configuration.
    pub fn master_config(mut self, lines: &str) -> Builder {
        self.master.push_str(lines);
        self.master.push('\n');
        self
    }

    /// Leaves new keys pending; otherwise the master accepts them by itself.
    pub fn keys_pending(mut self) -> Builder {
        self.pending = true;
        self
    }

    /// Starts the master.
    pub fn start(self) -> Fleet {
        let dir = tempfile::Builder::new().prefix("halite-it-").tempdir().expect("a temporary directory");
        let mut site = Site::new(dir.path(), binaries().clone()).expect("a site");
        let accept = if self.pending { "" } else { "auto_accept: true\n" };
        let config = format!("{accept}{}", self.master);
        let master = site.start_master(&config).unwrap_or_else(|error| panic!("{error}"));
        Fleet { master: Some(master), minions: BTreeMap::new(), config, site, _dir: dir }
    }
}

fn binaries() -> &'static Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    FOUND.get_or_init(|| Binaries::find().unwrap_or_else(|error| panic!("{error}")))
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    // Dropped in this order: minions, master, then the directory.
    minions: BTreeMap<String, Daemon>,
    master: Option<Daemon>,
    config: String,
    /// Directories and ports.
    pub site: Site,
    _dir: tempfile::TempDir,
}

impl Fleet {
    /// Begins a fleet.
    #[expect(clippy::new_ret_no_self, reason = "a fleet begins with its builder")]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Starts minions `m1`, `m2`, … and waits until all of them are up.
    pub fn start_minions(&mut self, count: usize) {
        let ids: Vec<String> = (1..=count).map(|number| format!("m{number}")).collect();
        ids.iter().for_each(|id| self.start_minion(id, ""));
        self.wait_up(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Starts one minion; does not wait until it is accepted.
    pub fn start_minion(&mut self, id: &str, extra: &str) {
        let minion = self.site.start_minion(id, extra).unwrap_or_else(|error| panic!("{error}"));
        self.minions.insert(id.to_owned(), minion);
    }

    /// Starts a minion that is this program and reaches the master through these ports; does not wait until it is accepted.
    pub fn start_minion_as_program(&mut self, program: &Path, id: &str, ports: (u16, u16), extra: &str) {
        let site = self.site.with_minion(program).through(ports);
        let minion = site.start_minion(id, extra).unwrap_or_else(|error| panic!("{error}"));
        self.minions.insert(id.to_owned(), minion);
    }

    /// Starts a minion in a directory of its own under an id that another one has.
    pub fn start_impostor(&mut self, dir: &str, id: &str) {
        let minion = self.site.start_minion_as(dir, id, "").unwrap_or_else(|error| panic!("{error}"));
        self.minions.insert(dir.to_owned(), minion);
    }

    /// Returns a running minion.
    #[track_caller]
    pub fn minion(&self, id: &str) -> &Daemon {
        self.minions.get(id).expect("the minion was started")
    }

    /// Takes a minion out of the fleet, still running.
    #[track_caller]
    pub fn take_minion(&mut self, id: &str) -> Daemon {
        self.minions.remove(id).expect("the minion was started")
    }

    /// Returns the running master.
    #[track_caller]
    pub fn master(&self) -> &Daemon {
        self.master.as_ref().expect("the master runs")
    }

    /// Kills the master on the spot.
    pub fn kill_master(&mut self) {
        self.master.take().expect("the master runs").kill();
    }

    /// Stops the master as an operator would.
    pub fn stop_master(&mut self) {
        self.master.take().expect("the master runs").stop();
    }

    /// Starts the master again, on the same ports.
    pub fn restart_master(&mut self) {
        let config = self.config.clone();
        self.master = Some(self.site.start_master(&config).unwrap_or_else(|error| panic!("{error}")));
    }

    /// Waits until these minions are connected.
    #[track_caller]
    pub fn wait_up(&self, ids: &[&str]) {
        wait_for(&format!("{ids:?} to be up"), || {
            let minions = self.halite(&["minions", "--out", "json"]);
            let Ok(Json::Array(list)) = serde_json::from_str(&minions.stdout) else { return false };
            ids.iter().all(|id| list.iter().any(|minion| minion["id"] == **id && minion["up"] == true))
        });
    }

    /// Runs `halite` with these arguments.
    pub fn halite(&self, args: &[&str]) -> Outcome {
        run(self.halite_command(args))
    }

    /// Prepares `halite` with these arguments.
    pub fn halite_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.site.binaries().halite);
        command.args(args).env("HALITE_CONFIG_DIR", self.site.confdir("master"));
        command
    }

    /// Runs `halite-minion call` beside a minion.
    pub fn call(&self, id: &str, args: &[&str]) -> Outcome {
        let mut command = Command::new(&self.site.binaries().minion);
        command.arg("-c").arg(self.site.confdir(id)).arg("call").args(args);
        run(command)
    }

    /// Returns all events in the log whose tag matches, oldest first.
    pub fn events(&self, tag: &str) -> Vec<Json> {
        self.halite(&["events", "--since", "start", "--tag", tag, "--out", "jsonl"]).expect_code(0).jsonl()
    }

    /// Waits until the log has at least so many events whose tag matches, and returns them.
    #[track_caller]
    pub fn wait_events(&self, tag: &str, count: usize) -> Vec<Json> {
        let mut found = Vec::new();
        wait_for(&format!("{count} events {tag}"), || {
            found = self.events(tag);
            found.len() >= count
        });
        found
    }

    /// Writes a file under the fleet's directory and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.site.dir().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("directories can be made");
        std::fs::write(&path, text).expect("files can be written");
        path
    }
}

/// Says loudly that a test did not run: past the capture that keeps the output of a passing test to itself.
pub fn skipped(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}\n");
    // Without a standard error there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Waits until a condition is true; fails the test if it never is.
#[track_caller]
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_true(PATIENCE, condition), "waited {} s for {what}", PATIENCE.as_secs());
}

/// Waits until a condition is true, so long at most; tells whether it was.
pub fn comes_true(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    /// How often the condition is looked at.
    const LOOK: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
