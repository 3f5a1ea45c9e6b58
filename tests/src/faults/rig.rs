//! A fleet that can be harmed in every way: a real master, real minions and a swarm, each behind a road of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use master::api::client::Client;
use master::fleet::{Binaries, Daemon, Site};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use super::clock::Clock;
use super::disk::SmallDisk;
use super::ledger::{Ledger, Sums, ran_twice};
use super::load::{Desk, Load};
use super::proxy::{Road, Way};
use crate::swarm::Swarm;
use crate::swarm::options::Options;

/// How long a fleet may take until it is whole again.
const HEALED: Duration = Duration::from_secs(90);
/// How long all that was begun may take to come to its end.
const SETTLED: Duration = Duration::from_secs(120);
/// How often the log is read while waiting for that.
const LOOK: Duration = Duration::from_millis(200);

/// What a fleet consists of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Real minions.
    pub minions: usize,
    /// Minions of the swarm.
    pub swarm: usize,
    /// Their events per second, all together.
    pub events_per_s: f64,
    /// How often the master says PING, in seconds; who is silent for three times as long is dead.
    pub ping_s: f64,
    /// Whether the log lies on a disk that can be filled.
    pub has_small_disk: bool,
    /// Whether the master's clock can be set.
    pub has_clock: bool,
}

/// The fleet.
pub struct Rig {
    // Dropped in this order: the swarm, minions, master, what they stand on.
    swarm: Swarm,
    load: Load,
    minions: Vec<Real>,
    master: Option<Daemon>,
    disk: Option<SmallDisk>,
    clock: Option<Clock>,
    site: Site,
    config: String,
    road: Road,
    setup: Setup,
    ledger: Ledger,
    crashes: u64,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

/// A real minion.
struct Real {
    desk: Desk,
    daemon: Option<Daemon>,
    road: Road,
    config: String,
    /// The number of the last line when the minion was whole again after it was killed: those before it may be missing.
    excused: u64,
}

/// What is wrong, if anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What there is, once each.
    pub sums: Sums,
    /// What was acknowledged and is not in the log.
    pub lost: Vec<String>,
    /// What is in the log, or ran, more than once.
    pub doubled: Vec<String>,
}

impl Rig {
    /// Starts everything and waits until all are connected.
    pub fn start(setup: &Setup, seed: u64) -> anyhow::Result<Rig> {
        let dir = tempfile::Builder::new().prefix("halite-faults-").tempdir().context("make a directory")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut binaries = Binaries::find().context("find the binaries")?;
        let clock = if setup.has_clock { Clock::over(dir.path(), &mut binaries.master)? } else { None };
        let mut site = Site::new(dir.path(), binaries)?;
        let cachedir = dir.path().join("master/var/cache/halite/master");
        std::fs::create_dir_all(&cachedir).context("make the master's cachedir")?;
        let disk = if setup.has_small_disk { SmallDisk::mount(&cachedir) } else { None };
        let config = format!(
            "auto_accept: true\nping_interval_s: {}\nevent_segment_size: 1MiB\njob_ttl: 86400\nlog_level: info",
            setup.ping_s
        );
        let master = site.start_master(&config)?;
        let ports = site.ports().context("the master says no ports")?;
        let road = Road::open(runtime.handle(), ports)?;
        let minions: anyhow::Result<Vec<Real>> =
            (1..=setup.minions).map(|number| Real::new(&site, runtime.handle(), ports, number)).collect();
        let mut minions = minions?;
        minions.iter_mut().try_for_each(|minion| minion.start(&site))?;
        let client = client(&site);
        let swarm = Swarm::start(&swarm_options(setup, &road, seed))?;
        let load = Load::start(runtime.handle(), client, minions.iter().map(|minion| minion.desk.clone()).collect());
        let ledger = Ledger::of(&cachedir.join("events"));
        let setup = setup.clone();
        let mut rig = Rig {
            swarm,
            load,
            minions,
            master: Some(master),
            disk,
            clock,
            site,
            config,
            road,
            setup,
            ledger,
            crashes: 0,
            runtime,
            _dir: dir,
        };
        rig.heal()?;
        // A beacon that has not looked yet does not see what is there already.
        rig.wait_lines()?;
        rig.minions.iter_mut().for_each(|minion| minion.excused = rig.load.said().lines);
        Ok(rig)
    }

    /// Begins the load, or ends it.
    pub fn work(&self, on: bool) {
        let events = if on { self.setup.events_per_s } else { 0.0 };
        self.swarm.order(|orders| orders.events_per_s = events);
        self.load.set(on);
    }

    /// Returns how many processes were killed so far.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// Returns how many real minions there are.
    pub fn minions(&self) -> usize {
        self.minions.len()
    }

    /// Returns the disk that can be filled, if there is one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Returns the master's clock, if it can be set.
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// Returns the running master.
    pub fn master(&self) -> &Daemon {
        self.master.as_ref().expect("the master runs between two faults")
    }

    /// Returns a running minion.
    pub fn minion(&self, at: usize) -> &Daemon {
        self.minions[at].daemon.as_ref().expect("a minion runs between two faults")
    }

    /// Kills the master on the spot.
    pub fn kill_master(&mut self) {
        self.crashes += 1;
        self.master.take().expect("the master runs").kill();
    }

    /// Starts the master again.
    pub fn start_master(&mut self) -> anyhow::Result<()> {
        self.master = Some(self.site.start_master(&self.config)?);
        Ok(())
    }

    /// Starts the master again, on ports of its own choice; all roads lead there.
    pub fn start_master_elsewhere(&mut self) -> anyhow::Result<()> {
        self.site.forget_ports();
        self.start_master()?;
        let ports = self.site.ports().context("the master says no ports")?;
        self.roads().for_each(|road| road.lead_to(ports));
        Ok(())
    }

    /// Kills a minion on the spot.
    pub fn kill_minion(&mut self, at: usize) {
        self.crashes += 1;
        // What it had not looked at when it died, nobody has promised.
        self.minions[at].excused = u64::MAX;
        self.minions[at].daemon.take().expect("the minion runs").kill();
    }

    /// Starts a minion again.
    pub fn start_minion(&mut self, at: usize) -> anyhow::Result<()> {
        let site = self.site.clone();
        self.minions[at].start(&site)
    }

    /// Harms the roads of everybody.
    pub fn roads_are(&self, way: Way) {
        self.roads().for_each(|road| road.set(way));
    }

    /// Harms the road of one real minion.
    pub fn road_is(&self, at: usize, way: Way) {
        self.minions[at].road.set(way);
    }

    fn roads(&self) -> impl Iterator<Item = &Road> {
        std::iter::once(&self.road).chain(self.minions.iter().map(|minion| &minion.road))
    }

    /// Returns the files of the log that are written now.
    pub fn active_files(&self) -> Vec<PathBuf> {
        let folder = self.site.confdir("master").join("var/cache/halite/master/events");
        let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let newest = names.filter(|path| path.extension().is_some_and(|end| end == "db")).max();
        let wal = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        newest.into_iter().flat_map(|path| [wal(&path), path]).collect()
    }

    /// Asks the master how it is; nothing if it does not answer soon.
    pub fn status(&self) -> Option<Json> {
        let client = client(&self.site);
        let asked = async { tokio::time::timeout(Duration::from_secs(2), client.status()).await.ok()?.ok() };
        self.runtime.block_on(asked)
    }

    /// Tells whether the master says that its log is out of order.
    pub fn is_degraded(&self) -> bool {
        self.status().is_some_and(|status| status["bus"]["degraded"].is_string())
    }

    /// Waits until everybody has a session again; returns how long that took.
    pub fn heal(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let is_whole = |status: &Json| {
            let sessions = status["sessions"].as_u64().unwrap_or(0);
            sessions >= (self.minions.len() + self.setup.swarm) as u64 && status["bus"]["degraded"].is_null()
        };
        let whole = || self.status().as_ref().is_some_and(is_whole);
        ensure!(crate::comes_true(HEALED, whole), "the fleet does not come back: {:?}\n{}", self.status(), self.logs());
        ensure!(self.swarm.wait_connected(HEALED), "the swarm does not come back:\n{}", self.logs());
        Ok(began.elapsed())
    }

    /// Waits until each minion has told a line that was written now.
    fn wait_lines(&mut self) -> anyhow::Result<()> {
        let target = self.load.line();
        let ids: Vec<String> = self.minions.iter().map(|minion| minion.desk.id.clone()).collect();
        let until = Instant::now() + SETTLED;
        loop {
            self.ledger.read()?;
            if ids.iter().all(|id| self.ledger.last_line(id) >= target) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "lines that minions saw do not come:\n{}", self.logs());
            std::thread::sleep(LOOK);
            // One that was killed watches only what is written after its start.
            self.load.line();
        }
    }

    /// Ends the load and waits until all that was begun has come to its end.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        self.work(false);
        ensure!(self.swarm.drain(SETTLED), "the swarm is not acknowledged: {:?}", self.swarm.totals().count);
        self.wait_lines()?;
        let until = Instant::now() + SETTLED;
        loop {
            self.ledger.read()?;
            let owed = self.ledger.owed();
            let behind = self.behind();
            if owed.is_empty() && behind == Some(0) {
                break;
            }
            let first = owed.first();
            ensure!(Instant::now() < until, "{first:?} owed, {behind:?} events behind:\n{}", self.logs());
            std::thread::sleep(LOOK);
        }
        let last = self.load.said().lines;
        self.minions.iter_mut().filter(|minion| minion.excused == u64::MAX).for_each(|minion| minion.excused = last);
        Ok(())
    }

    /// Returns how many events the job cache is behind the log.
    fn behind(&self) -> Option<u64> {
        let status = self.status()?;
        Some(status["head"].as_u64()?.saturating_sub(status["projected"].as_u64()?))
    }

    /// Compares the log with what was acknowledged. Only after [`settle`](Self::settle).
    pub fn judge(&self) -> Verdict {
        let sums = self.ledger.sums();
        let mut lost = self.ledger.unsent();
        let acknowledged = self.swarm.totals().count.acknowledged;
        if acknowledged > sums.swarm {
            lost.extend((sums.swarm..acknowledged).map(|_| "an event of the swarm".to_owned()));
        }
        for minion in &self.minions {
            let id = &minion.desk.id;
            let missing = self.ledger.missing_lines(id).iter().filter(|number| **number > minion.excused);
            lost.extend(missing.map(|number| format!("line {number} of {id}")));
        }
        lost.extend(self.ledger.owed());
        let mut doubled = self.ledger.doubled();
        doubled.extend(self.minions.iter().flat_map(|minion| ran_twice(&minion.desk.runs)));
        Verdict { sums, lost, doubled }
    }

    /// Returns the jobs that the master has taken and that are not in the log.
    pub fn unannounced(&self) -> Vec<String> {
        self.load.said().published.into_iter().filter(|jid| !self.ledger.has_job(jid)).collect()
    }

    /// Returns the ends of all logs.
    pub fn logs(&self) -> String {
        const LINES: usize = 25;
        let names = std::fs::read_dir(self.site.dir().join("log")).into_iter().flatten().flatten();
        let end = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("{}:\n{}\n", path.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"))
        };
        names.map(|entry| end(entry.path())).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A process that is stopped hears no SIGTERM.
        let daemons = self.minions.iter().filter_map(|minion| minion.daemon.as_ref()).chain(self.master.as_ref());
        daemons.for_each(|daemon| daemon.signal(nix::sys::signal::Signal::SIGCONT));
    }
}

impl Real {
    fn new(site: &Site, handle: &tokio::runtime::Handle, ports: (u16, u16), number: usize) -> anyhow::Result<Real> {
        let id = format!("real{number}");
        let folder = site.dir().join("desk");
        std::fs::create_dir_all(&folder).context("make the minions' folder")?;
        let desk = Desk { lines: folder.join(format!("{id}.lines")), runs: folder.join(format!("{id}.runs")), id };
        std::fs::write(&desk.lines, "").context("make a log")?;
        let config = format!(
            "beacons_before_connect: True\nrecon_default: 200\nrecon_max: 2000\nbeacons:\n  log:\n    - file: {}\n    \
             - tags:\n        line:\n          regex: {}\n    - interval: 1",
            desk.lines.display(),
            super::load::LINE
        );
        Ok(Real { desk, daemon: None, road: Road::open(handle, ports)?, config, excused: u64::MAX })
    }

    fn start(&mut self, site: &Site) -> anyhow::Result<()> {
        self.daemon = Some(site.through(self.road.ports()).start_minion(&self.desk.id, &self.config)?);
        Ok(())
    }
}

fn client(site: &Site) -> Client {
    let folder = site.confdir("master").join("var/run/halite/master");
    Client::new(folder.join(master::api::SOCKET_NAME))
}

fn swarm_options(setup: &Setup, road: &Road, seed: u64) -> Options {
    let (publications, requests) = road.ports();
    let (minions, seed, ping) = (setup.swarm.to_string(), seed.to_string(), setup.ping_s.to_string());
    let master = format!("127.0.0.1:{requests},{publications}");
    let words = ["swarm", "--master", &master, "--minions", &minions, "--burst", "4", "--seed", &seed, "--ping", &ping];
    Options::parse_from(words)
}
