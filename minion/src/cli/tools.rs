//! Hidden subcommands and flags for `halite demo`, `halite doctor` and the tests.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, ExitCode};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{exec, lead_session_on_stdin};

/// What the shell says for a program that cannot be started.
const CANNOT_START: u8 = 126;

/// Prints which source the `sh` beacon would have here; without one prints why and fails.
pub(super) fn exec_source() -> ExitCode {
    let available = exec::available();
    let reasons: Vec<String> =
        available.refusals.iter().map(|no| format!("{}: {}; {}", no.source, no.reason, no.remedy)).collect();
    match available.source {
        Some(source) if reasons.is_empty() => println!("{source}"),
        Some(source) => println!("{source} (lossy, since not {})", reasons.join("; ")),
        None => {
            eprintln!("{}", reasons.join("; "));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a program as the leader of a new session whose controlling terminal is our standard input.
pub(super) fn pty_exec(argv: &[OsString]) -> ExitCode {
    let Some((program, args)) = argv.split_first() else { return ExitCode::from(super::USAGE) };
    let mut command = Command::new(program);
    lead_session_on_stdin(command.args(args));
    match command.status() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into(),
        Err(error) => {
            eprintln!("halite-minion pty-exec: failed to start {}: {error}", program.display());
            CANNOT_START.into()
        }
    }
}

/// Has this process stop as on SIGTERM when its standard input closes, and so with the process at the other end.
pub(super) fn end_with_stdin() {
    std::thread::spawn(|| {
        let mut buffer = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while matches!(stdin.read(&mut buffer), Ok(read) if read > 0) {}
        // There is no process that could not be told: it is this one.
        let _ = kill(Pid::this(), Signal::SIGTERM);
    });
}
