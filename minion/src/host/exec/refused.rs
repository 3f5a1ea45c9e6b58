//! What the kernel says when it refuses a BPF program.

use std::io;

/// The kernel refused a BPF program.
#[derive(Debug, thiserror::Error)]
#[error("load a BPF program{}", self.verdict())]
pub(in crate::host) struct LoadProgramError {
    /// What the verifier printed; empty if it was not reached.
    pub(in crate::host) log: String,
    #[source]
    pub(in crate::host) cause: io::Error,
}

impl LoadProgramError {
    /// The last lines of the log, where the verifier says what it did not like.
    fn verdict(&self) -> String {
        let lines: Vec<&str> = self.log.lines().filter(|line| !line.starts_with("processed ")).collect();
        match lines.last() {
            Some(line) => format!(" (the verifier says: {line})"),
            None => String::new(),
        }
    }
}
