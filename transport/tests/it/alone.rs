//! Tests that need a process to themselves, since they measure its memory or change its limits; and slow ones.

use std::process::Stdio;

use tokio::process::{Child, Command};

/// Set in the environment of such a process.
const MARK: &str = "HALITE_TEST_ALONE";

/// Tells whether the long forms of tests are wanted too.
pub(crate) fn slow() -> bool {
    std::env::var_os("RUN_SLOW_TESTS").is_some()
}

/// Tells whether this process is one that [`spawn`] made.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs one test of this binary again, in a process of its own. Its output comes through its pipes.
pub(crate) fn spawn(test: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Returns how much memory this process has in use, in bytes.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
