//! What `/proc` knows of a process: session, terminal, login uid, directory, arguments. For the source that has only
//! a pid.

use std::{fs, io::Read, os::unix::ffi::OsStringExt, path::PathBuf};

/// The most of one file read; the kernel allows no longer arguments.
const MAX_FILE_BYTES: u64 = 6 * 1024 * 1024;

/// One process as it was at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) ppid: u32,
    pub(super) sid: u32,
    pub(super) uid: u32,
    pub(super) loginuid: Option<u32>,
    pub(super) tty: Option<Vec<u8>>,
    pub(super) cwd: Option<Vec<u8>>,
    pub(super) exe: Option<Vec<u8>>,
    /// NUL-terminated arguments.
    pub(super) cmdline: Vec<u8>,
}

impl Process {
    /// Returns the process `pid`, or nothing if it has gone.
    pub(super) fn read(pid: u32) -> Option<Process> {
        let cmdline = read(pid, "cmdline")?;
        let stat = Stat::parse(&read(pid, "stat")?)?;
        let status = read(pid, "status")?;
        let loginuid = read(pid, "loginuid").and_then(|text| number(&text)).filter(|uid| *uid != u32::MAX);
        Some(Process {
            ppid: stat.ppid,
            sid: stat.session,
            uid: uid(&status)?,
            loginuid,
            tty: (stat.tty_nr != 0).then(|| terminal(stat.tty_nr)),
            cwd: link(pid, "cwd"),
            exe: link(pid, "exe"),
            cmdline,
        })
    }

    /// Returns whether a person started it: it has a controlling terminal or a login uid.
    pub(super) fn is_of_a_person(&self) -> bool {
        self.tty.is_some() || self.loginuid.is_some()
    }
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    ppid: u32,
    session: u32,
    tty_nr: u32,
}

impl Stat {
    /// The second field is the program's name in parentheses and may hold anything, parentheses too: count from the
    /// last.
    fn parse(text: &[u8]) -> Option<Stat> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let mut fields = text[end + 1..].split(|byte| *byte == b' ').skip(2);
        let mut next = || std::str::from_utf8(fields.next()?).ok()?.parse::<i64>().ok();
        let (ppid, _group, session, tty_nr) = (next()?, next()?, next()?, next()?);
        let field = |value: i64| u32::try_from(value).ok();
        Some(Stat { ppid: field(ppid)?, session: field(session)?, tty_nr: i32::try_from(tty_nr).ok()?.cast_unsigned() })
    }
}

/// The name of a terminal under `/dev`, from its device number as `stat` encodes it.
fn terminal(tty_nr: u32) -> Vec<u8> {
    let major = (tty_nr >> 8) & 0xfff;
    let minor = (tty_nr & 0xff) | ((tty_nr >> 12) & 0xfff00);
    if (136..=143).contains(&major) {
        return format!("pts/{}", (major - 136) * 256 + minor).into_bytes();
    }
    let device = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/uevent")).unwrap_or_default();
    let name = device.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| format!("{major}:{minor}"), str::to_owned).into_bytes()
}

fn uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:\t"))?;
    number(line.split(|byte| *byte == b'\t').next()?)
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn read(pid: u32, file: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/{file}")).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn link(pid: u32, name: &str) -> Option<Vec<u8>> {
    let target: PathBuf = fs::read_link(format!("/proc/{pid}/{name}")).ok()?;
    Some(target.into_os_string().into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_any_program_name() {
        let stat = Stat::parse(b"12 (a) b) R 5 12 9 34819 12 4194304");
        assert_eq!(stat, Some(Stat { ppid: 5, session: 9, tty_nr: 34819 }));
        assert_eq!(Stat::parse(b"12 (sh) R 5 12"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn pseudo_terminals_are_named_as_under_dev() {
        assert_eq!(terminal(34819), b"pts/3");
        assert_eq!(terminal((136 << 8) | (1 << 20) | 4), b"pts/260");
    }

    #[test]
    fn this_process_can_be_read() {
        let me = Process::read(std::process::id()).unwrap();
        assert_eq!(me.uid, nix::unistd::getuid().as_raw());
        assert!(!me.cmdline.is_empty());
        assert_eq!(Process::read(0), None);
    }
}
