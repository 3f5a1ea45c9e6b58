//! The processes of this host, as `/proc` and Python's `psutil` tell of them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::unistd::{SysconfVar, Uid, User, sysconf};

/// The most that is read of one file of a process.
const MAX_FILE: u64 = 256 << 10;
/// The first of the fields of `stat` that are kept: the state. It stands after the name, which may hold anything.
const STATE: usize = 3;

/// One process, as it was when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub ppid: i32,
    /// Its name; the kernel cuts it at 15 bytes, so a longer one is taken from the command line.
    pub name: String,
    /// Its command line; empty for the kernel's own threads.
    pub cmdline: Vec<String>,
    /// Its state, as `psutil` calls it.
    pub status: &'static str,
    /// Its real, effective and saved users.
    pub uids: [u32; 3],
    /// Its real, effective and saved groups.
    pub gids: [u32; 3],
    /// Its niceness.
    pub nice: i64,
    /// How many threads it has.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub started: f64,
    /// The seconds it has computed: itself, in the kernel, its dead children, theirs in the kernel, waiting for disks.
    pub times: [f64; 5],
    /// Its memory in bytes: resident, virtual, shared, code, libraries, data, dirty.
    pub memory: [u64; 7],
}

impl Process {
    /// Returns the name of its real user, or the number of one without a name.
    pub fn user(&self) -> String {
        user_name(self.uids[0])
    }

    /// Returns the seconds it has computed, itself and in the kernel.
    pub fn busy(&self) -> f64 {
        self.times[0] + self.times[1]
    }

    /// Returns a link of its folder, such as `exe` or `cwd`; nothing if this user may not know.
    pub fn link(&self, name: &str) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/{name}", self.pid)).ok()
    }
}

/// Returns the name of a user, or the number of one without a name.
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Reads the numbers of all processes, in order.
pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// Reads all processes, in order of their numbers.
pub fn all() -> Vec<Process> {
    let boot = boot_time();
    pids().into_iter().filter_map(|pid| read_with(pid, boot)).collect()
}

/// Reads one process; nothing if there is none such.
pub fn read(pid: i32) -> Option<Process> {
    read_with(pid, boot_time())
}

/// Reads when this host started, in seconds since 1970.
pub fn boot_time() -> u64 {
    let text = file("/proc/stat");
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

/// Reads the jiffies of each processor since the start, the sum of all first: `(busy, total)`.
pub fn processor_times() -> Vec<(u64, u64)> {
    let text = file("/proc/stat");
    let rows = text.lines().take_while(|line| line.starts_with("cpu"));
    let times = rows.map(|line| {
        // The guests' time, fields eight on, is part of the users' already.
        let numbers: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let total: u64 = numbers.iter().sum();
        let idle = numbers.get(3).copied().unwrap_or_default() + numbers.get(4).copied().unwrap_or_default();
        (total - idle, total)
    });
    times.collect()
}

fn file(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // What could be read is worth more than nothing.
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_with(pid: i32, boot: u64) -> Option<Process> {
    let stat = file(&format!("/proc/{pid}/stat"));
    let mut process = parse_stat(pid, &stat, boot)?;
    let cmdline = file(&format!("/proc/{pid}/cmdline"));
    if !cmdline.is_empty() {
        process.cmdline = cmdline.strip_suffix('\0').unwrap_or(&cmdline).split('\0').map(str::to_owned).collect();
    }
    let whole = process.cmdline.first().and_then(|first| first.rsplit('/').next());
    if let Some(whole) = whole.filter(|whole| process.name.len() >= 15 && whole.starts_with(&process.name)) {
        process.name = whole.to_owned();
    }
    let status = file(&format!("/proc/{pid}/status"));
    let owner = fs::metadata(format!("/proc/{pid}")).ok();
    let numbers = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let numbers: Vec<u32> = line.split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect();
        <[u32; 3]>::try_from(numbers).ok()
    };
    process.uids = numbers("Uid:").or_else(|| owner.as_ref().map(|owner| [owner.uid(); 3])).unwrap_or_default();
    process.gids = numbers("Gid:").or_else(|| owner.as_ref().map(|owner| [owner.gid(); 3])).unwrap_or_default();
    process.memory = memory(&file(&format!("/proc/{pid}/statm")));
    Some(process)
}

#[expect(clippy::cast_precision_loss, reason = "seconds with two decimals")]
fn parse_stat(pid: i32, text: &str, boot: u64) -> Option<Process> {
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Numbered as in proc_pid_stat(5).
    let number = |field: usize| fields.get(field - STATE).and_then(|word| word.parse::<i64>().ok()).unwrap_or_default();
    let ticks = unit(SysconfVar::CLK_TCK, 100) as f64;
    let seconds = |field: usize| number(field) as f64 / ticks;
    Some(Process {
        pid,
        ppid: i32::try_from(number(4)).unwrap_or_default(),
        name: name.to_owned(),
        cmdline: Vec::new(),
        status: status(fields.first()?),
        uids: [0; 3],
        gids: [0; 3],
        nice: number(19),
        threads: u64::try_from(number(20)).unwrap_or_default(),
        started: boot as f64 + seconds(22),
        times: [seconds(14), seconds(15), seconds(16), seconds(17), seconds(42)],
        memory: [0; 7],
    })
}

fn status(letter: &str) -> &'static str {
    match letter {
        "R" => "running",
        "S" => "sleeping",
        "D" => "disk-sleep",
        "T" => "stopped",
        "t" => "tracing-stop",
        "Z" => "zombie",
        "X" | "x" => "dead",
        "K" => "wake-kill",
        "W" => "waking",
        "I" => "idle",
        "P" => "parked",
        _ => "?",
    }
}

fn unit(name: SysconfVar, usual: u64) -> u64 {
    sysconf(name).ok().flatten().and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(usual)
}

/// Reads `statm`: pages, in the order virtual, resident, shared, code, libraries, data, dirty.
fn memory(text: &str) -> [u64; 7] {
    let page = unit(SysconfVar::PAGE_SIZE, 4096);
    let mut sizes = [0; 7];
    for (size, word) in sizes.iter_mut().zip(text.split_whitespace()) {
        *size = word.parse::<u64>().unwrap_or_default().saturating_mul(page);
    }
    sizes.swap(0, 1);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let pid = i32::try_from(std::process::id()).expect("small");
        assert!(pids().contains(&pid));
        let me = read(pid).expect("alive");
        let first = std::env::args().next().expect("a name");
        assert_eq!(me.cmdline.first(), Some(&first));
        assert_eq!((me.uids[1], me.gids[1]), (crate::host::users::me().uid, crate::host::users::me().gid));
        assert!(me.memory[0] > 0 && me.memory[1] >= me.memory[0]);
        assert!(me.started > 1e9 && me.threads > 0);
        assert!(me.link("exe").is_some());
        assert!(read(-1).is_none());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 200 100 0 0 20 5 3 0 500 9 9";
        let process = parse_stat(7, &format!("7 (a) b (c) {rest}"), 1000).expect("complete");
        assert_eq!((process.name.as_str(), process.status, process.ppid), ("a) b (c", "sleeping", 1));
        assert_eq!((process.nice, process.threads, process.times[0]), (5, 3, 2.0));
        assert_eq!(process.started, 1005.0);
        assert!(parse_stat(7, "7 nothing", 0).is_none());
    }

    #[test]
    fn processors_are_counted() {
        let times = processor_times();
        assert!(times.len() > 1 && times.iter().all(|(busy, total)| busy <= total));
    }
}
