//! The names of the processes of this host, and nothing else of them: cheap enough to look once a second.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use thiserror::Error;

/// The kernel keeps this many bytes of a name; of a longer one the command line has the rest.
const KEPT: usize = 15;

/// Why the processes are unknown.
#[derive(Debug, Error)]
#[error("list /proc")]
pub struct NamesError(#[source] io::Error);

/// Reads the names of all processes, as Python's `psutil` has them.
pub fn read() -> Result<BTreeSet<String>, NamesError> {
    let entries = fs::read_dir("/proc").map_err(NamesError)?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // A process that has ended meanwhile has no name.
    Ok(pids.filter_map(name).collect())
}

fn name(pid: u32) -> Option<String> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let comm = String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned();
    if comm.len() < KEPT {
        return Some(comm);
    }
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some(whole(comm, &String::from_utf8_lossy(&cmdline)))
}

/// Returns the whole name, if the first word of the command line is one that the kernel has cut.
fn whole(comm: String, cmdline: &str) -> String {
    let program = cmdline.split('\0').next().unwrap_or_default();
    match program.rsplit('/').next() {
        Some(program) if program.starts_with(&comm) => program.to_owned(),
        _ => comm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_name_is_taken_from_the_command_line() {
        let check = |cmdline: &str, expected: &str| assert_eq!(whole("gnome-keyring-d".into(), cmdline), expected);
        check("/usr/bin/gnome-keyring-daemon\0--start\0", "gnome-keyring-daemon");
        check("python3\0gnome-keyring-daemon\0", "gnome-keyring-d");
        check("", "gnome-keyring-d");
    }

    #[test]
    fn this_process_is_among_them() {
        let own = std::env::current_exe().expect("a path");
        let own = own.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(read().expect("Linux").contains(own), "{own}");
    }
}
