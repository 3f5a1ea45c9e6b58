//! `halite-minion doctor`: tells whether the daemon of this configuration runs and has a session, and what to do if not.

use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::health::{self, HealthError, Illness};

/// What `doctor` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  halite-minion doctor --quiet\n\nExit codes: 0 the daemon has its session, 1 it has none or does not run,\n78 the configuration cannot be used."
)]
pub(super) struct DoctorArgs {
    /// Print nothing if all is well, and what is not well to standard error.
    #[arg(long)]
    quiet: bool,
}

/// What is not well.
#[derive(Debug, thiserror::Error)]
enum Finding {
    #[error("failed to {0}")]
    Unread(HealthError),
    #[error(transparent)]
    Unwell(Illness),
}

impl Finding {
    fn remedy(&self) -> &'static str {
        match self {
            Finding::Unread(HealthError::Absent { .. }) => {
                "start halite-minion, or name its configuration with -c if it runs with another"
            }
            Finding::Unread(_) => {
                "run the doctor as root or as the minion's user; restart the minion if the file is bad"
            }
            Finding::Unwell(illness) => illness.remedy(),
        }
    }
}

/// Looks, prints, and tells by the exit code.
pub(super) fn run(config: &Config, args: &DoctorArgs) -> ExitCode {
    if !args.quiet {
        config.warnings.iter().for_each(|warning| println!("{:<8} {:<14} {warning}", "warning", "configuration"));
    }
    match look(&config.sock_dir) {
        Ok(for_s) => {
            if !args.quiet {
                println!("{:<8} {:<14} connected to {} for {for_s} s", "ok", "session", config.master);
            }
            ExitCode::SUCCESS
        }
        Err(finding) => {
            let line = format!("{:<8} {:<14} {finding}\n{:24}-> {}", "bad", "session", "", finding.remedy());
            if args.quiet {
                eprintln!("{line}")
            } else {
                println!("{line}")
            }
            ExitCode::FAILURE
        }
    }
}

fn look(sock_dir: &Path) -> Result<u64, Finding> {
    let health = health::read(sock_dir).map_err(Finding::Unread)?;
    let alive = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    health::judge(&health, health::uptime_ms(), alive).map_err(Finding::Unwell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_does_not_run_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let finding = look(dir.path()).unwrap_err();
        assert!(finding.to_string().starts_with("failed to find a running daemon: there is no "), "{finding}");
        assert!(finding.remedy().starts_with("start halite-minion"));
    }
}
