//! The real Salt: a directory of virtualenvs, one a release, that `HALITE_SALT` names; `tests/salt/install` makes it.
//!
//! `minion.rs` starts Salt's minions beside a fleet of ours, `master.rs` Salt's master with a minion of ours.

mod master;
mod minion;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{Builder, Fleet, Outcome, run};

pub use master::{SaltMaster, SaltsMinion};
pub use minion::SaltMinion;

/// The releases that Halite is tried with, oldest first.
pub const RELEASES: [&str; 3] = ["3006.30", "3007.17", "3008.5"];

/// What a Salt user's master configuration says; ours and Salt's tools read it.
pub const MASTER_CONFIG: &str = "\
salt_listener: true
pki_dir: /etc/salt/pki/master
cachedir: /var/cache/salt/master
sock_dir: /var/run/salt/master
timeout: 20
";

/// How long a real daemon may live, in seconds, whatever becomes of its test.
const LIFE: &str = "1200";

/// One installed release of Salt.
#[derive(Debug, Clone)]
pub struct Release {
    /// What it calls itself, such as `3008.5`.
    pub version: &'static str,
    home: PathBuf,
}

/// Returns the installed releases, oldest first. Says loudly which are missing, for a test does not run with those.
pub fn installed(test: &str) -> Vec<Release> {
    if std::env::var_os("HALITE_SALT").is_none() {
        crate::skipped(test, "HALITE_SALT names no directory of Salt releases (tests/salt/install makes one)");
        return Vec::new();
    }
    RELEASES.into_iter().filter_map(|version| release(test, version)).collect()
}

/// Returns one release. Without it, says loudly that the test did not run.
pub fn release(test: &str, version: &'static str) -> Option<Release> {
    let Some(dir) = std::env::var_os("HALITE_SALT").map(PathBuf::from) else {
        crate::skipped(test, "HALITE_SALT names no directory of Salt releases (tests/salt/install makes one)");
        return None;
    };
    let home = dir.join(version);
    if home.join("bin/salt-minion").exists() {
        return Some(Release { version, home });
    }
    crate::skipped(test, &format!("HALITE_SALT has no Salt {version}"));
    None
}

/// Starts a master whose file names its ports, because Salt's tools read them there.
pub fn start(builder: Builder) -> Fleet {
    let mut fleet = builder.master_config(MASTER_CONFIG).start();
    fleet.stop_master();
    fleet.restart_master();
    fleet
}

impl Release {
    /// Returns the number before the dot: `3008`.
    pub fn line(&self) -> &'static str {
        self.version.split('.').next().unwrap_or(self.version)
    }

    /// Prepares one of Salt's programs, or its `python`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.home.join("bin").join(program));
        // What Python says of itself is none of the test's business.
        command.env("PYTHONWARNINGS", "ignore").stdin(Stdio::null());
        command
    }

    /// Runs one of Salt's programs beside a fleet's master.
    pub fn tool(&self, fleet: &Fleet, program: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(program);
        command.arg("-c").arg(fleet.site.confdir("master")).args(args);
        run(command)
    }

    /// Starts one of Salt's programs that goes on beside the test; returns the file that it prints to.
    pub fn beside(&self, fleet: &Fleet, program: &str, args: &[&str]) -> (impl Drop + use<>, PathBuf) {
        let path = fleet.site.dir().join(format!("{program}-{}.out", self.version));
        let mut command = self.command(program);
        command.arg("-c").arg(fleet.site.confdir("master")).args(args);
        (Group::start(command, &path), path)
    }

    /// Prepares `salt-sproxy` with the library of this release, where it is installed beside it.
    pub fn sproxy(&self) -> Option<Command> {
        let home = self.home.parent()?.join("sproxy");
        let program = home.join("bin/salt-sproxy");
        program.exists().then(|| {
            let mut command = self.command("python");
            command.arg(program).env("PYTHONPATH", home);
            command
        })
    }

    /// Prepares one of Salt's daemons: it ends by itself, at the latest after [`LIFE`].
    fn daemon(&self, program: &str, confdir: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIFE]).arg(self.home.join("bin").join(program)).arg("-c").arg(confdir);
        command.args(["-l", "warning"]).env("PYTHONWARNINGS", "ignore");
        command
    }
}

/// A process with everything that it started; all of it ends when this is dropped.
#[derive(Debug)]
struct Group(Child);

impl Group {
    /// Starts a process that writes into this file, behind what is there.
    fn start(mut command: Command, output: &Path) -> Group {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(output).expect("files can be written");
        command.stdout(file.try_clone().expect("files can be shared")).stderr(file);
        command.process_group(0).stdin(Stdio::null());
        Group(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Returns how it has ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Group {
    /// Ends it with everything that it started.
    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It may have ended by itself; else it has nothing to lose, for its directory goes as well.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}
