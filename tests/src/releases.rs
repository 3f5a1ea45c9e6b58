//! Where the real Salt is: a directory of virtualenvs, one a release, that `HALITE_SALT` names; and its minions, started
//! beside a fleet.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Fleet;

/// How long a real daemon may live, in seconds, whatever becomes of its test.
const LIFE: &str = "1200";

/// One installed release of Salt.
#[derive(Debug, Clone)]
pub struct Release {
    /// What it calls itself, such as `3008.5`.
    pub version: String,
    bin: PathBuf,
}

/// Returns the installed releases, oldest first. Without any, says loudly that the test did not run.
pub fn installed(test: &str) -> Option<Vec<Release>> {
    let Some(dir) = std::env::var_os("HALITE_SALT").map(PathBuf::from) else {
        crate::skipped(test, "HALITE_SALT names no directory of Salt releases (tests/salt/install makes one)");
        return None;
    };
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("HALITE_SALT: {}: {error}", dir.display()));
    let mut found: Vec<Release> = entries
        .filter_map(Result::ok)
        .map(|entry| Release {
            version: entry.file_name().to_string_lossy().into_owned(),
            bin: entry.path().join("bin"),
        })
        .filter(|release| release.bin.join("salt-minion").exists())
        .collect();
    found.sort_by(|one, other| one.version.cmp(&other.version));
    assert!(!found.is_empty(), "HALITE_SALT: no release of Salt in {}", dir.display());
    Some(found)
}

impl Release {
    /// Prepares one of Salt's programs.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // What Python says of itself is none of the test's business.
        command.env("PYTHONWARNINGS", "ignore").stdin(Stdio::null());
        command
    }

    /// Writes a minion's configuration into a directory of the fleet: it looks for the fleet's master.
    pub fn configure_minion(&self, fleet: &Fleet, id: &str, extra: &str) -> PathBuf {
        let (publish, requests) = fleet.site.ports().expect("the master has run");
        let confdir = fleet.site.confdir(id);
        fs::create_dir_all(&confdir).expect("a directory for the minion");
        let config = format!(
            "user: root\nid: {id}\nroot_dir: {}\nmaster: 127.0.0.1\npublish_port: {publish}\nmaster_port: {requests}\n\
             acceptance_wait_time: 1\nrandom_reauth_delay: 1\nrecon_default: 100\nrecon_max: 500\nauth_timeout: 5\n\
             log_level_logfile: info\n{extra}\n",
            confdir.join("root").display(),
        );
        fs::write(confdir.join("minion"), config).expect("the minion's configuration");
        confdir
    }

    /// Starts a minion of this release beside a fleet.
    pub fn start_minion(&self, fleet: &Fleet, id: &str, extra: &str) -> SaltDaemon {
        let confdir = self.configure_minion(fleet, id, extra);
        self.start("salt-minion", &confdir)
    }

    /// Starts one of Salt's daemons with a configuration directory.
    pub fn start(&self, daemon: &str, confdir: &Path) -> SaltDaemon {
        let log = fs::File::create(confdir.join("output")).expect("a file for its output");
        let child = Command::new("timeout")
            .args(["--kill-after=5", LIFE])
            .arg(self.bin.join(daemon))
            .arg("-c")
            .arg(confdir)
            .args(["-l", "warning"])
            .env("PYTHONWARNINGS", "ignore")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file again"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{daemon} of Salt {}: {error}", self.version));
        SaltDaemon { child, confdir: confdir.to_owned() }
    }
}

/// A running daemon of Salt, and all the processes it started; gone when dropped.
#[derive(Debug)]
pub struct SaltDaemon {
    child: Child,
    confdir: PathBuf,
}

impl SaltDaemon {
    /// Returns what it wrote to its terminal.
    pub fn output(&self) -> String {
        fs::read_to_string(self.confdir.join("output")).unwrap_or_default()
    }

    /// Returns its configuration directory.
    pub fn confdir(&self) -> &Path {
        &self.confdir
    }
}

impl Drop for SaltDaemon {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It has nothing to lose: its directory goes as well.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
