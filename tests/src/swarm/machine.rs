//! What the kernel says of a process: processor time and memory. And the limit of open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// What a process has used, and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Processor time in its own code, in seconds.
    pub user_s: f64,
    /// Processor time in the kernel for it, in seconds.
    pub system_s: f64,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// The most it ever was, in KiB.
    pub peak_rss_kib: u64,
    /// Its share of resident memory, pages shared with others counted by halves, in KiB.
    pub pss_kib: u64,
}

impl Usage {
    /// Reads a process's use; all zero for one that is gone.
    pub fn of(pid: u32) -> Usage {
        let status = read(pid, "status");
        let (user_s, system_s) = cpu(&read(pid, "stat"));
        Usage {
            user_s,
            system_s,
            rss_kib: field(&status, "VmRSS:"),
            peak_rss_kib: field(&status, "VmHWM:"),
            pss_kib: field(&read(pid, "smaps_rollup"), "Pss:"),
        }
    }

    /// Reads this process's use.
    pub fn own() -> Usage {
        Usage::of(std::process::id())
    }

    /// Returns the processor time used since an earlier look, in seconds.
    pub fn cpu_since(&self, earlier: &Usage) -> f64 {
        self.user_s + self.system_s - earlier.user_s - earlier.system_s
    }
}

fn read(pid: u32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Reads fields 14 and 15 of `stat`; the name before them may hold anything, and ends with the last parenthesis.
fn cpu(stat: &str) -> (f64, f64) {
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |at: usize| rest.split_whitespace().nth(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) / ticks_per_s, ticks(12) / ticks_per_s)
}

/// Raises the soft limit of open files to the hard one: a minion has two.
pub fn raise_fd_limit() {
    // What is refused shows as connections that fail.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_use_is_told() {
        let usage = Usage::own();
        assert!(usage.rss_kib > 0 && usage.peak_rss_kib >= usage.rss_kib);
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 200 50 0 0 20";
        let (user, system) = cpu(line);
        assert!((user / system - 4.0).abs() < 1e-9, "{user} {system}");
    }
}
