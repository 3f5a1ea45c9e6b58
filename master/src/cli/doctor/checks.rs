//! What the doctor looks at, one function a subject.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::Finding;
use crate::api::keys::KeysView;
use crate::config;
use crate::fleet::rss_kib;

/// How much memory an idle daemon is promised to take at most (design §10), in KiB.
const MASTER_KIB: u64 = 50 * 1024;
const MINION_KIB: u64 = 10 * 1024;
/// How many open files a master for a large fleet needs: two sockets a minion, and room.
const FILES: u64 = 65_536;
/// How many files are written to see how long an fsync takes.
const FSYNCS: usize = 21;
/// An fsync that takes longer than this slows every acknowledgement down.
const SLOW_FSYNC: Duration = Duration::from_millis(20);

/// Reads the configuration as the daemon would.
pub(super) fn configuration(confdir: &Path) -> Vec<Finding> {
    let main = confdir.join("master");
    match config::load(confdir) {
        Ok(_) if !main.exists() => {
            let detail = format!("{} does not exist; the defaults hold", main.display());
            vec![Finding::warning("configuration", detail, "write it, or name another directory with -c")]
        }
        Ok(config) if config.warnings.is_empty() => vec![Finding::ok("configuration", confdir.display().to_string())],
        Ok(config) => {
            let warn = |warning: String| {
                Finding::warning("configuration", warning, "correct or remove it, then `halite reload`")
            };
            config.warnings.into_iter().map(warn).collect()
        }
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            vec![Finding::bad("configuration", error, "correct it; until then the running master keeps the old one")]
        }
    }
}

/// Looks at what the master says of itself.
pub(super) fn master(status: &Json) -> Vec<Finding> {
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let mut findings = vec![
        version(&text("software")),
        Finding::ok("ports", format!("publish {}, requests {}", text("publish_addr"), text("ret_addr"))),
        Finding::ok(
            "sessions",
            format!("{} of {} accepted minions connected", status["sessions"], status["accepted_keys"]),
        ),
    ];
    findings.push(match status["bus"]["degraded"].as_str() {
        None => Finding::ok("event log", log_detail(status)),
        Some(reason) => Finding::bad(
            "event log",
            format!("nothing is acknowledged: {reason}"),
            "make room on the disk; the master recovers by itself",
        ),
    });
    if let Some(pid) = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) {
        findings.push(memory("master", pid, MASTER_KIB + 30 * status["accepted_keys"].as_u64().unwrap_or(0)));
        findings.push(files(pid));
    }
    findings
}

/// Says how far the log is and how long its last thousand commits took.
fn log_detail(status: &Json) -> String {
    let ms = |name: &str| status["bus"][name].as_u64().unwrap_or(0).div_ceil(1_000);
    let (p50, p99, max) = (ms("commit_p50_us"), ms("commit_p99_us"), ms("commit_max_us"));
    format!("{} events so far; commits take {p50} ms (p50), {p99} ms (p99), {max} ms at most", status["head"])
}

fn version(running: &str) -> Finding {
    if running == crate::SOFTWARE {
        Finding::ok("version", running)
    } else {
        Finding::warning(
            "version",
            format!("this is {}, the master is {running}", crate::SOFTWARE),
            "restart the older one",
        )
    }
}

fn memory(name: &'static str, pid: u32, promised_kib: u64) -> Finding {
    let check = if name == "master" { "memory master" } else { "memory minion" };
    match rss_kib(pid) {
        None => Finding::ok(check, format!("pid {pid}: not readable for this user")),
        Some(kib) if kib <= promised_kib => Finding::ok(check, format!("pid {pid}: {kib} KiB resident")),
        Some(kib) => {
            let remedy = "if it keeps growing, report it with the output of `halite doctor --out json`";
            Finding::warning(check, format!("pid {pid}: {kib} KiB resident, promised idle: {promised_kib} KiB"), remedy)
        }
    }
}

fn files(pid: u32) -> Finding {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    match soft {
        None => Finding::ok("fd limit", "not readable for this user"),
        Some(soft) if soft >= FILES => Finding::ok("fd limit", soft.to_string()),
        Some(soft) => {
            let remedy = format!("for more minions set LimitNOFILE={FILES} in the master's unit");
            Finding::warning(
                "fd limit",
                format!("{soft}: enough for about {} minions", soft.saturating_sub(200) / 2),
                remedy,
            )
        }
    }
}

/// Looks at the API socket.
pub(super) fn socket(path: &Path) -> Finding {
    match fs::metadata(path) {
        Ok(meta) => {
            Finding::ok("api socket", format!("{} mode {:o}", path.display(), meta.permissions().mode() & 0o777))
        }
        Err(error) => Finding::bad("api socket", format!("{}: {error}", path.display()), "restart the master"),
    }
}

/// Looks for keys that wait.
pub(super) fn keys(keys: &KeysView) -> Finding {
    if keys.pending.is_empty() {
        return Finding::ok("keys", format!("{} accepted, none pending", keys.accepted.len()));
    }
    Finding::warning(
        "keys",
        format!("{} pending", keys.pending.len()),
        "compare fingerprints (`halite key finger`), then `halite key accept ID`",
    )
}

/// Looks at this host: its disk, its minions, its `sh` source.
pub(super) fn host(confdir: &Path, minion: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(config) = config::load(confdir) {
        findings.push(disk(&config.cachedir));
    }
    findings.extend(minions());
    findings.push(sh_source(minion));
    findings
}

fn disk(dir: &Path) -> Finding {
    match fsync_p50(dir) {
        Ok(p50) if p50 <= SLOW_FSYNC => {
            Finding::ok("disk", format!("fsync p50 {} µs in {}", p50.as_micros(), dir.display()))
        }
        Ok(p50) => {
            let detail = format!("fsync p50 {} ms in {}", p50.as_millis(), dir.display());
            Finding::warning("disk", detail, "put cachedir on a faster disk: every acknowledgement waits for an fsync")
        }
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => "start halite-master once: it makes this directory",
                _ => "run the doctor as root or as the master's user",
            };
            Finding::warning("disk", format!("fsync not measured in {}: {error}", dir.display()), remedy)
        }
    }
}

/// Returns the median time of an fsync of one page.
fn fsync_p50(dir: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        file.write_all(&[0; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[FSYNCS / 2])
}

/// Finds the minion daemons of this host and how much memory they take.
fn minions() -> Vec<Finding> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let minion = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "halite-minion"
    };
    pids.filter(minion).map(|pid| memory("minion", pid, MINION_KIB)).collect()
}

fn sh_source(minion: &Path) -> Finding {
    let asked = Command::new(minion).arg("exec-source").stdin(Stdio::null()).output();
    let remedy = "run halite-minion as root, or give it CAP_SYS_ADMIN; only the sh beacon needs it";
    match asked {
        Err(error) => Finding::ok("sh source", format!("no halite-minion at {}: {error}", minion.display())),
        Ok(output) if output.status.success() => {
            let source = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if source.contains("lossy") {
                Finding::warning("sh source", source, remedy)
            } else {
                Finding::ok("sh source", source)
            }
        }
        Ok(output) => Finding::warning("sh source", String::from_utf8_lossy(&output.stderr).trim().to_owned(), remedy),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Health;
    use super::*;

    #[test]
    fn a_degraded_log_is_bad_and_names_the_remedy() {
        let status = json!({"software": crate::SOFTWARE, "bus": {"degraded": "disk full"}, "head": 3});
        let found = master(&status);
        let log = found.iter().find(|finding| finding.check == "event log").unwrap();
        assert_eq!(log.health, Health::Bad);
        assert!(log.remedy.as_deref().unwrap().contains("disk"));
    }

    #[test]
    fn what_is_not_there_yet_has_another_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let found = configuration(dir.path());
        assert!(found[0].remedy.as_deref().unwrap().ends_with("another directory with -c"), "{found:?}");
        assert!(disk(&dir.path().join("none")).remedy.unwrap().starts_with("start halite-master once"));
    }

    #[test]
    fn a_disk_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        assert!(fsync_p50(dir.path()).is_ok());
        assert!(fsync_p50(&dir.path().join("none")).is_err());
    }
}
