//! Asks the init system of this host whether a service runs. Never waits longer than it is allowed to.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use super::system;

/// The first pause between two looks at a command that runs; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Who starts the services of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// OpenRC: `rc-service NAME status`.
    OpenRc,
    /// systemd: `systemctl is-active NAME`.
    Systemd,
    /// Scripts: `/etc/init.d/NAME status`.
    Sysv,
}

/// Why it is not known whether a service runs.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The init system gave an answer that is none.
    #[error("ask {init} about service {name}: it exited with {code}")]
    Answer {
        /// Who was asked.
        init: Init,
        /// About which service.
        name: String,
        /// What it exited with.
        code: i32,
    },
    /// The init system did not answer in time; the command was killed.
    #[error("ask {init} about service {name}: no answer in {} s", waited.as_secs())]
    Late {
        /// Who was asked.
        init: Init,
        /// About which service.
        name: String,
        /// For how long.
        waited: Duration,
    },
    /// The command could not be started.
    #[error("ask {init} about service {name}")]
    Start {
        /// Who was asked.
        init: Init,
        /// About which service.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Init::OpenRc => "OpenRC",
            Init::Systemd => "systemd",
            Init::Sysv => "its script in /etc/init.d",
        })
    }
}

/// Returns who starts the services of this host; nobody in most containers.
pub fn init() -> Option<Init> {
    let is_dir = |path| Path::new(path).is_dir();
    choose(system::is_systemd(), is_dir("/run/openrc"), is_dir("/etc/init.d"))
}

/// OpenRC has scripts in `/etc/init.d` too; systemd brings some for compatibility.
fn choose(systemd: bool, openrc: bool, scripts: bool) -> Option<Init> {
    let found = [(systemd, Init::Systemd), (openrc, Init::OpenRc), (scripts, Init::Sysv)];
    found.into_iter().find(|(is, _)| *is).map(|(_, init)| init)
}

/// Tells whether this can be the name of a service: no path, no option, no pattern.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"/*?[]".contains(c);
    !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(is_plain)
}

impl Init {
    /// Asks whether a service runs. One that is not known does not run.
    pub fn runs(self, name: &str, patience: Duration) -> Result<bool, ServiceError> {
        let mut command = match self {
            Init::OpenRc => with("rc-service", &[name, "status"]),
            Init::Systemd => with("systemctl", &["is-active", "--quiet", "--", name]),
            Init::Sysv => {
                let script = Path::new("/etc/init.d").join(name);
                if !script.is_file() {
                    return Ok(false);
                }
                let mut command = Command::new(script);
                command.arg("status");
                command
            }
        };
        let name = || name.to_owned();
        match run(&mut command, patience) {
            Ok(Some(code)) => self.judge(code).ok_or_else(|| ServiceError::Answer { init: self, name: name(), code }),
            Ok(None) => Err(ServiceError::Late { init: self, name: name(), waited: patience }),
            Err(source) => Err(ServiceError::Start { init: self, name: name(), source }),
        }
    }

    /// Reads an exit code. `systemctl` has 3 for a service that rests and 4 for an unknown one; 1 is a bus that is not there.
    fn judge(self, code: i32) -> Option<bool> {
        match (self, code) {
            (_, 0) => Some(true),
            (Init::Systemd, 3 | 4) => Some(false),
            (Init::Systemd, _) => None,
            (Init::OpenRc | Init::Sysv, _) => Some(false),
        }
    }
}

fn with(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs a command in a group of its own; returns its exit code, or nothing if it had to be killed for being late.
fn run(command: &mut Command, patience: Duration) -> io::Result<Option<i32>> {
    let deadline = Instant::now() + patience;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
    let mut child = command.spawn()?;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(status) = child.try_wait()? {
            // One that was killed by a signal has no code.
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            end(&mut child);
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Kills the group: a script's hanging part may be a child of its own.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // An error means that it has ended just now.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // It is dead: this does not wait.
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str, patience: Duration) -> Option<i32> {
        run(&mut with("/bin/sh", &["-c", script]), patience).expect("a shell")
    }

    #[test]
    fn the_init_system_that_runs_is_asked() {
        assert_eq!(choose(true, false, true), Some(Init::Systemd));
        assert_eq!(choose(false, true, true), Some(Init::OpenRc));
        assert_eq!(choose(false, false, true), Some(Init::Sysv));
        assert_eq!(choose(false, false, false), None);
    }

    #[test]
    fn exit_codes_are_read() {
        assert_eq!(
            (Init::Systemd.judge(0), Init::Systemd.judge(3), Init::Systemd.judge(4)),
            (Some(true), Some(false), Some(false))
        );
        assert_eq!(
            (Init::Systemd.judge(1), Init::OpenRc.judge(3), Init::Sysv.judge(1)),
            (None, Some(false), Some(false))
        );
    }

    #[test]
    fn names_are_names() {
        for good in ["cron", "getty@tty1.service", "nosuchd", "dbus-org.x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "../x", "-x", "salt*", "..", "x\n"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        assert_eq!(shell("exit 3", LONG), Some(3));
        assert_eq!(shell("kill -9 $$", LONG), Some(-1));
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
        assert_eq!(shell(&script, Duration::from_secs(2)), None);
        let child = std::fs::read_to_string(pid).expect("the shell began");
        let deadline = Instant::now() + LONG;
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            // A killed child is gone, or waits for the init process to bury it.
            !(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "))
        };
        while lives() {
            assert!(Instant::now() < deadline, "process {child} goes on");
            thread::yield_now();
        }
    }

    #[test]
    fn a_service_that_nobody_knows_does_not_run() {
        assert!(!Init::Sysv.runs("halite-no-such-service", LONG).expect("an answer"));
    }
}
