//! How the daemon stands, told to the outside: a small file for `halite-minion doctor`, and systemd if it asks.
//!
//! The file, `sock_dir/health.json`, is written at each change and every few seconds. It therefore says two things: how the
//! link stands, and, by its age, that the daemon's loop turns. A clean stop removes it. `judge` reads it, purely.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::link::LinkStatus;

/// The file under `sock_dir`.
pub const FILE: &str = "health.json";
/// How often the file is written while nothing changes: one small file, usually in memory.
const REFRESH: Duration = Duration::from_secs(10);
/// A file older than this is that of a daemon whose loop stands still: three times in a row it was not written.
const STALE_MS: u64 = 30_000;
/// The largest file that is read; ours has some 200 bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// How the link stands, as the file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Standing {
    /// There is no session.
    Down {
        /// Why the last attempt failed, if there was one.
        why: Option<String>,
    },
    /// The master does not accept this minion, at least not yet.
    Limbo {
        /// How it sees the minion's key.
        key: String,
    },
    /// The session is complete.
    Up {
        /// Its number.
        session: u64,
    },
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The daemon.
    pub pid: u32,
    /// The master's host name or address.
    pub master: String,
    /// When this was written, in milliseconds since the machine started.
    pub written_ms: u64,
    /// Since when the link stands as it does, likewise.
    pub since_ms: u64,
    /// How the link stands.
    pub link: Standing,
}

/// Why a daemon is not well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illness {
    /// There is no session.
    #[error("no session with the master {master} for {for_s} s{}", why.as_ref().map(|why| format!(": failed to {why}")).unwrap_or_default())]
    Down {
        /// Its host name or address.
        master: String,
        /// How long already.
        for_s: u64,
        /// Why the last attempt failed.
        why: Option<String>,
    },
    /// The daemon is not there any more, and did not stop cleanly.
    #[error("the daemon that was pid {pid} has ended without stopping")]
    Gone {
        /// Its process.
        pid: u32,
    },
    /// The master does not accept the key.
    #[error("the master {master} does not accept this minion: its key is {key} there")]
    Limbo {
        /// Its host name or address.
        master: String,
        /// How it sees the key.
        key: String,
    },
    /// The loop stands still.
    #[error("the daemon, pid {pid}, has not moved for {for_s} s")]
    Stuck {
        /// Its process.
        pid: u32,
        /// How long already.
        for_s: u64,
    },
}

impl Illness {
    /// Returns what to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Illness::Down { .. } => {
                "see that the master runs and that its ports can be reached; the minion tries again by itself"
            }
            Illness::Gone { .. } => "start halite-minion",
            Illness::Limbo { key, .. } if key == "pending" => {
                "on the master: compare fingerprints, then accept the key: `halite key finger` and `halite key accept`; on a Salt \
                 master `salt-key -f` and `salt-key -a`"
            }
            Illness::Limbo { .. } => "the minion's log says why, and what to do about it",
            Illness::Stuck { .. } => "if it was not stopped on purpose (SIGSTOP, a paused container), restart it",
        }
    }
}

/// There is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The file is not there.
    #[error("find a running daemon: there is no {}", path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// The content is not ours.
    #[error("read {}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Reads what the daemon of this `sock_dir` says of itself.
pub fn read(sock_dir: &Path) -> Result<Health, HealthError> {
    let path = sock_dir.join(FILE);
    let text = fs::metadata(&path).and_then(|meta| match meta.len() {
        0..=MAX_BYTES => fs::read_to_string(&path),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    });
    match text {
        Ok(text) => serde_json::from_str(&text).map_err(|source| HealthError::Content { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HealthError::Absent { path }),
        Err(source) => Err(HealthError::Read { path, source }),
    }
}

/// Judges what a daemon said of itself, now; `alive` tells whether its process exists.
pub fn judge(health: &Health, now_ms: u64, alive: impl FnOnce(u32) -> bool) -> Result<u64, Illness> {
    let Health { pid, master, written_ms, since_ms, link } = health;
    // A file from the future is from before the machine was started anew.
    if *written_ms > now_ms || !alive(*pid) {
        return Err(Illness::Gone { pid: *pid });
    }
    if now_ms - written_ms > STALE_MS {
        return Err(Illness::Stuck { pid: *pid, for_s: (now_ms - written_ms) / 1000 });
    }
    let (master, for_s) = (master.clone(), now_ms.saturating_sub(*since_ms) / 1000);
    match link {
        Standing::Down { why } => Err(Illness::Down { master, for_s, why: why.clone() }),
        Standing::Limbo { key } => Err(Illness::Limbo { master, key: key.clone() }),
        Standing::Up { .. } => Ok(for_s),
    }
}

/// Returns the milliseconds since the machine started: a clock that every process of the machine shares and nobody sets.
pub fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or_default();
    u64::try_from(Duration::from_secs_f64(seconds.max(0.0)).as_millis()).unwrap_or(u64::MAX)
}

/// Tells how things stand until the link ends. Runs on the daemon's loop, so that its silence means something.
pub(crate) async fn tell(sock_dir: PathBuf, master: String, mut status: watch::Receiver<LinkStatus>) {
    let watchdog = sd_notify::watchdog_enabled();
    // Half of what systemd allows, as sd_watchdog_enabled(3) advises.
    let mut ticks = interval(watchdog.map_or(REFRESH, |limit| REFRESH.min(limit / 2)).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let path = sock_dir.join(FILE);
    let now_ms = uptime_ms();
    let link = Standing::Down { why: None };
    let mut health = Health { pid: std::process::id(), master, written_ms: now_ms, since_ms: now_ms, link };
    let mut told = Told::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = status.changed() => if changed.is_err() { break },
        }
        let Some(link) = standing(&status.borrow_and_update()) else { break };
        told.systemd(watchdog.is_some(), &link, &health.master);
        health.written_ms = uptime_ms();
        if health.link != link {
            (health.link, health.since_ms) = (link, health.written_ms);
        }
        told.file(&path, &health);
    }
    // Without the file there is nothing to remove.
    let _ = fs::remove_file(&path);
}

/// Returns what the file says for a state of the link; nothing once it has ended.
fn standing(status: &LinkStatus) -> Option<Standing> {
    Some(match status {
        LinkStatus::Down { why } => Standing::Down { why: why.as_deref().map(plain) },
        LinkStatus::Limbo { state, .. } => Standing::Limbo { key: state.name().to_owned() },
        LinkStatus::Stopped => return None,
        LinkStatus::Up { session } => Standing::Up { session: *session },
    })
}

/// Returns a text as one harmless line: it may hold what a stranger sent, and goes to terminals and to systemd's protocol.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What has been told already.
#[derive(Debug, Default)]
struct Told {
    line: String,
    failed: bool,
}

impl Told {
    /// Feeds the watchdog, and says in a line how things stand when that has changed.
    fn systemd(&mut self, watchdog: bool, link: &Standing, master: &str) {
        if watchdog {
            // Without systemd there is nobody to tell.
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        let line = match link {
            Standing::Down { why: None } => format!("connecting to {master}"),
            Standing::Down { why: Some(why) } => format!("not connected to {master}: failed to {why}"),
            Standing::Limbo { key } => format!("{master} does not accept the key: {key}"),
            Standing::Up { .. } => format!("connected to {master}"),
        };
        if line != self.line {
            let _ = sd_notify::notify(&[NotifyState::Status(&line)]);
            self.line = line;
        }
    }

    /// Writes the file; a failure is told once, since nothing but the doctor depends on it.
    fn file(&mut self, path: &Path, health: &Health) {
        match write(path, health) {
            Ok(()) => self.failed = false,
            Err(_) if self.failed => {}
            Err(error) => {
                self.failed = true;
                warn!(path = %path.display(), %error, "halite-minion doctor cannot be told how this minion stands");
            }
        }
    }
}

/// Writes the file at once or not at all, for everyone to read: it holds no secret.
fn write(path: &Path, health: &Health) -> io::Result<()> {
    let text = serde_json::to_vec(health)?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let draft = path.with_extension("json.new");
    fs::write(&draft, text)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o644))?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(link: Standing) -> Health {
        Health { pid: 7, master: "salt".into(), written_ms: 100_000, since_ms: 40_000, link }
    }

    #[test]
    fn a_session_is_well_and_only_a_session() {
        let check = |link, now_ms, alive, expected: Result<u64, &str>| {
            let judged = judge(&health(link), now_ms, |_| alive).map_err(|illness| illness.to_string());
            assert_eq!(judged.as_ref().map(|for_s| *for_s).map_err(String::as_str), expected);
        };
        let up = || Standing::Up { session: 1 };
        check(up(), 101_000, true, Ok(61));
        check(up(), 101_000, false, Err("the daemon that was pid 7 has ended without stopping"));
        check(up(), 131_000, true, Err("the daemon, pid 7, has not moved for 31 s"));
        check(up(), 99_000, true, Err("the daemon that was pid 7 has ended without stopping"));
        let key = "pending".to_owned();
        let limbo = "the master salt does not accept this minion: its key is pending there";
        check(Standing::Limbo { key }, 101_000, true, Err(limbo));
        let why = Some("connect to salt:4506".to_owned());
        let down = "no session with the master salt for 61 s: failed to connect to salt:4506";
        check(Standing::Down { why }, 101_000, true, Err(down));
        check(Standing::Down { why: None }, 101_000, true, Err("no session with the master salt for 61 s"));
    }

    #[test]
    fn the_file_is_read_as_it_was_written_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(HealthError::Absent { .. })));
        for link in
            [Standing::Up { session: 3 }, Standing::Limbo { key: "denied".into() }, Standing::Down { why: None }]
        {
            write(&dir.path().join(FILE), &health(link.clone())).unwrap();
            assert_eq!(read(dir.path()).unwrap(), health(link));
        }
        fs::write(dir.path().join(FILE), "{\"pid\": -1}").unwrap();
        assert!(matches!(read(dir.path()), Err(HealthError::Content { .. })));
    }

    #[test]
    fn what_a_stranger_sent_stays_in_its_line() {
        let why = Some("read a\nWATCHDOG=trigger\u{1b}[2J".to_owned());
        let expected = Standing::Down { why: Some("read a WATCHDOG=trigger [2J".into()) };
        assert_eq!(standing(&LinkStatus::Down { why }), Some(expected));
    }

    #[tokio::test]
    async fn the_file_follows_the_link_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, receiver) = watch::channel(LinkStatus::Down { why: None });
        let telling = tokio::spawn(tell(dir.path().to_owned(), "salt".into(), receiver));
        let stands = |wanted: Standing| {
            let dir = dir.path().to_owned();
            async move {
                while !matches!(read(&dir), Ok(health) if health.link == wanted) {
                    tokio::task::yield_now().await;
                }
            }
        };
        stands(Standing::Down { why: None }).await;
        sender.send_replace(LinkStatus::Up { session: 4 });
        stands(Standing::Up { session: 4 }).await;
        sender.send_replace(LinkStatus::Stopped);
        telling.await.unwrap();
        assert!(matches!(read(dir.path()), Err(HealthError::Absent { .. })));
    }
}
