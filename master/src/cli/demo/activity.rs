//! Real host activity: busy cores, touched memory, a shell in a terminal of its own.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::tally::PROBE;
use crate::api::events::EventView;

/// What the reaction does: a job for the minion whose load went up.
pub(super) const REACTION: &str = "\
what_is_the_load:
  local.cmd.run:
    - tgt: {{ data['id'] }}
    - arg:
      - cat /proc/loadavg
";

/// The command of that job.
pub(super) const REACTION_RUNS: &str = "cat /proc/loadavg";

/// What is typed into the shell.
const TYPED: [&str; 4] = ["id\n", "ls /tmp\n", "echo 'a real shell' | wc -c\n", "uname -a\n"];
/// How often it is typed.
const TYPE_EVERY: Duration = Duration::from_secs(3);
/// How far above the present load average and memory use the beacons' ranges end.
const LOAD_ABOVE: f64 = 0.05;
const MEMORY_ABOVE_PERCENT: f64 = 0.6;
/// How much memory is touched: three times what the range leaves.
const TOUCH_PERCENT: u64 = 2;
/// How many cores are kept busy at most; more raise the load average no faster than the demonstration needs.
const MAX_BURNERS: usize = 8;

/// Returns the beacons' configuration, with ranges that end just above what this host does now.
pub(super) fn beacons(sh: bool) -> anyhow::Result<String> {
    let memory = Memory::read()?;
    let load = std::fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    let load: f64 =
        load.split_whitespace().next().and_then(|one| one.parse().ok()).context("understand /proc/loadavg")?;
    let mut beacons = format!(
        "beacons:\n  load:\n    - averages:\n        1m: [0.0, {:.2}]\n        5m: [0.0, 1000.0]\n        15m: [0.0, 1000.0]\n    - interval: 2\n  memusage:\n    - percent: {:.1}%\n    - interval: 2\n",
        load + LOAD_ABOVE,
        memory.used_percent() + MEMORY_ABOVE_PERCENT,
    );
    if sh {
        beacons.push_str("  sh: []\n");
    }
    Ok(beacons)
}

/// Asks the minion's binary which source the `sh` beacon would have, or why it has none.
pub(super) fn sh_source(minion: &Path) -> Result<String, String> {
    let asked = Command::new(minion).arg("exec-source").stdin(Stdio::null()).output();
    let output = asked.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Sends events by `halite-minion call event.send` and returns how many were acknowledged.
pub(super) fn send_probes(minion: &Path, confdir: &Path, count: usize) -> usize {
    let send = |number: usize| {
        let mut call = Command::new(minion);
        call.arg("-c").arg(confdir).args(["call", "event.send", PROBE, &format!("{{number: {number}}}")]);
        call.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        call.status().is_ok_and(|status| status.success())
    };
    (0..count).filter(|number| send(*number)).count()
}

/// What keeps the host busy. Dropped, it stops.
pub(super) struct Activity {
    load: Arc<AtomicBool>,
    memory: Arc<AtomicBool>,
    sh: Arc<AtomicBool>,
}

impl Activity {
    /// Starts all of it. Each part ends when its beacon has fired, the shell when the demonstration does.
    pub(super) fn start(minion: &Path, sh: bool) -> Activity {
        let flag = || Arc::new(AtomicBool::new(true));
        let activity = Activity { load: flag(), memory: flag(), sh: flag() };
        let burners = std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1).min(MAX_BURNERS);
        for _ in 0..burners {
            let on = Arc::clone(&activity.load);
            std::thread::spawn(move || burn(&on));
        }
        let on = Arc::clone(&activity.memory);
        std::thread::spawn(move || touch_memory(&on));
        if sh {
            let (on, minion) = (Arc::clone(&activity.sh), minion.to_owned());
            std::thread::spawn(move || {
                if let Err(error) = type_commands(&minion, &on) {
                    eprintln!("halite demo: the shell could not be started: {error:#}");
                }
            });
        }
        activity
    }

    /// Stops what made this event happen.
    pub(super) fn seen(&self, event: &EventView) {
        match event.tag.split('/').nth(3) {
            Some("load") if event.tag.starts_with("salt/beacon/") => self.load.store(false, Ordering::Relaxed),
            Some("memusage") if event.tag.starts_with("salt/beacon/") => self.memory.store(false, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        for flag in [&self.load, &self.memory, &self.sh] {
            flag.store(false, Ordering::Relaxed);
        }
    }
}

fn burn(on: &AtomicBool) {
    let mut number = 0u64;
    while on.load(Ordering::Relaxed) {
        for _ in 0..100_000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn touch_memory(on: &AtomicBool) {
    /// Memory is handed out by the page, and only when it is written to.
    const PAGE: usize = 4096;
    let Ok(memory) = Memory::read() else { return };
    let bytes = memory.total_kib * 1024 / 100 * TOUCH_PERCENT;
    let Ok(bytes) = usize::try_from(bytes) else { return };
    let mut block = vec![0u8; bytes];
    for byte in block.iter_mut().step_by(PAGE) {
        *byte = 1;
    }
    while on.load(Ordering::Relaxed) {
        std::hint::black_box(&block);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a shell whose controlling terminal is a pty of ours, and types into it.
fn type_commands(minion: &Path, on: &AtomicBool) -> anyhow::Result<()> {
    let pty = nix::pty::openpty(None, None).context("open a pty")?;
    let end = |fd: &OwnedFd| fd.try_clone().map(Stdio::from);
    let mut shell = Command::new(minion)
        .args(["pty-exec", "--", "/bin/sh"])
        .stdin(end(&pty.slave)?)
        .stdout(end(&pty.slave)?)
        .stderr(end(&pty.slave)?)
        .spawn()
        .context("start a shell")?;
    drop(pty.slave);
    let mut keyboard = File::from(pty.master.try_clone()?);
    // Somebody must read the screen, or the shell waits for room on it. Ends when the shell does.
    let mut screen = File::from(pty.master);
    let reader = std::thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
    let mut typed = TYPED.iter().cycle();
    'typing: while on.load(Ordering::Relaxed) {
        let Some(line) = typed.next() else { break };
        keyboard.write_all(line.as_bytes())?;
        for _ in 0..TYPE_EVERY.as_millis() / 100 {
            if !on.load(Ordering::Relaxed) {
                break 'typing;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // A shell that has ended already has closed the terminal.
    let _ = keyboard.write_all(b"exit\n");
    shell.wait()?;
    drop(keyboard);
    let _ = reader.join();
    Ok(())
}

/// The host's memory.
struct Memory {
    total_kib: u64,
    available_kib: u64,
}

impl Memory {
    fn read() -> anyhow::Result<Memory> {
        let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).context("understand /proc/meminfo")
        };
        Ok(Memory { total_kib: field("MemTotal:")?, available_kib: field("MemAvailable:")? })
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage needs few digits")]
    fn used_percent(&self) -> f64 {
        (self.total_kib - self.available_kib.min(self.total_kib)) as f64 / self.total_kib as f64 * 100.0
    }
}
