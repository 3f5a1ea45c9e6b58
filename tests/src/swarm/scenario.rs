//! One master and N minions, measured from an empty log to a restart: the scenario `scale`.
//!
//! Each figure is taken where an operator would feel it: a job counts when its last return is acknowledged, which the
//! master does after the fsync; a restart counts until every minion has session and SUB again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use master::api::client::Client;
use master::api::jobs::{JobPublished, JobRequest};
use master::fleet::{Binaries, Daemon, Site};
use proto::ids::Jid;
use serde::Serialize;

use super::Swarm;
use super::machine::Usage;
use super::options::{Address, Options};
use super::tally::{Count, Percentiles};

/// How often each job is measured.
const SAMPLES: usize = 20;
/// How long the fleet is left alone before memory is read.
const IDLE: Duration = Duration::from_secs(5);
/// How long a phase may take before the scenario gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long one job may take.
const JOB_PATIENCE: Duration = Duration::from_secs(60);
/// How often the master is looked at during the event phase.
const WATCH: Duration = Duration::from_millis(500);

/// The rows of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// How many minions.
    pub minions: usize,
    /// Seconds from the first connection to the last SUB in place, keys new to the master.
    pub connect_s: f64,
    /// The master's processor time for that, in seconds.
    pub connect_cpu_s: f64,
    /// Resident memory of the master before the first minion, in KiB.
    pub empty_rss_kib: u64,
    /// The master, all connected and idle.
    pub idle: Usage,
    /// What each minion adds to the master's resident memory, in KiB.
    pub rss_per_minion_kib: f64,
    /// The master's processor time for one second of an idle fleet, in seconds.
    pub idle_cpu: f64,
    /// `'*' test.ping` to the last return in the log, in milliseconds.
    pub ping_all_ms: Percentiles,
    /// The master's processor time for one of these, in milliseconds.
    pub ping_all_cpu_ms: f64,
    /// A job for one minion to its return in the log, in milliseconds.
    pub ping_one_ms: Percentiles,
    /// `halite <id> test.ping`, the whole process, in milliseconds.
    pub cli_one_ms: Percentiles,
    /// The event phase.
    pub events: EventPhase,
    /// The restart.
    pub restart: Restart,
    /// Whether the log holds exactly the events and returns that were acknowledged.
    pub log: LogCheck,
    /// The master's processor time, restarts included, in seconds.
    pub master_cpu_s: f64,
    /// This process at the end.
    pub own: Usage,
    /// What the swarm counted.
    pub count: Count,
}

/// Events, sustained.
#[derive(Debug, Clone, Serialize)]
pub struct EventPhase {
    /// What was asked for.
    pub asked_per_s: f64,
    /// For how long.
    pub seconds: f64,
    /// Acknowledged per second.
    pub acknowledged_per_s: f64,
    /// From firing to acknowledgement, in milliseconds.
    pub ack_ms: Percentiles,
    /// The most that a reader of the bus (the job cache) was ever behind the log, in events.
    pub reader_lag: u64,
    /// How long after the last event that reader had everything, in milliseconds.
    pub reader_caught_up_ms: f64,
    /// Processor time of the master per acknowledged event, in microseconds.
    pub master_us_per_event: f64,
    /// Processor time of the master per second, in seconds.
    pub master_cpu: f64,
    /// Processor time of the swarm per second, in seconds.
    pub swarm_cpu: f64,
    /// The most memory the master had, in KiB.
    pub master_peak_kib: u64,
}

/// `kill -9` and a new start.
#[derive(Debug, Clone, Serialize)]
pub struct Restart {
    /// From the kill to the master's `ready`.
    pub ready_s: f64,
    /// From the kill to the last session.
    pub all_back_s: f64,
    /// The new master's processor time until then, in seconds.
    pub cpu_s: f64,
    /// A job for all that was published at `ready`: from there to its last return.
    pub ping_all_s: f64,
    /// Memory of the new master when all are back and idle, in KiB.
    pub rss_kib: u64,
}

/// The log against what was acknowledged.
#[derive(Debug, Clone, Serialize)]
pub struct LogCheck {
    /// The swarm's events in the log.
    pub events: u64,
    /// Those that were acknowledged.
    pub acknowledged: u64,
    /// Returns in the log.
    pub returns: u64,
    /// Those that were acknowledged.
    pub returns_acknowledged: u64,
}

impl LogCheck {
    /// Tells whether nothing was lost and nothing came twice.
    pub fn is_good(&self) -> bool {
        self.events == self.acknowledged && self.returns == self.returns_acknowledged
    }
}

/// A master of our own and the swarm on it.
struct Stage {
    options: Options,
    site: Site,
    master: Option<Daemon>,
    client: Client,
    runtime: tokio::runtime::Runtime,
    spent_s: f64,
    /// Removes everything at the end.
    _dir: tempfile::TempDir,
}

/// Runs the scenario. Says on standard error where it is.
pub fn run(options: &Options) -> anyhow::Result<Table> {
    let mut stage = Stage::set(options)?;
    let empty = stage.usage();
    note("connecting");
    let swarm = Swarm::start(&stage.options)?;
    ensure!(swarm.wait_connected(PATIENCE), "only {} minions connected", swarm.look(|totals| totals.count.live));
    let connect_s = swarm.started().elapsed().as_secs_f64();
    let connected = stage.usage();
    note("idle");
    std::thread::sleep(IDLE);
    let before = stage.usage();
    std::thread::sleep(IDLE);
    let idle = stage.usage();
    note("jobs");
    let ping_all_ms = stage.sample(|stage| stage.ping(&swarm, "*", options.minions))?;
    let pinged = stage.usage();
    let one = format!("{}{}", options.prefix, options.minions.div_ceil(2));
    let ping_one_ms = stage.sample(|stage| stage.ping(&swarm, &one, 1))?;
    let cli_one_ms = stage.sample(|stage| stage.cli(&one))?;
    note("events");
    let events = stage.events(&swarm)?;
    note("restart");
    let restart = stage.restart(&swarm)?;
    note("reading the log");
    ensure!(swarm.drain(PATIENCE), "not everything was acknowledged");
    let log = stage.check(&swarm)?;
    let grown = idle.rss_kib.saturating_sub(empty.rss_kib) as f64;
    Ok(Table {
        minions: options.minions,
        connect_s,
        connect_cpu_s: connected.cpu_since(&empty),
        empty_rss_kib: empty.rss_kib,
        rss_per_minion_kib: grown / options.minions as f64,
        idle_cpu: idle.cpu_since(&before) / IDLE.as_secs_f64(),
        idle,
        ping_all_ms,
        ping_all_cpu_ms: pinged.cpu_since(&idle) / SAMPLES as f64 * 1_000.0,
        ping_one_ms,
        cli_one_ms,
        events,
        restart,
        log,
        master_cpu_s: stage.spent_s + stage.usage().cpu_since(&Usage::default()),
        own: Usage::own(),
        count: swarm.totals().count,
    })
}

fn note(phase: &str) {
    eprintln!("swarm: {phase}");
}

impl Stage {
    fn set(options: &Options) -> anyhow::Result<Stage> {
        let dir = tempfile::Builder::new().prefix("halite-swarm-").tempdir().context("make a directory")?;
        let mut site = Site::new(dir.path(), Binaries::find().context("find the binaries")?)?;
        let master = site.start_master(CONFIG)?;
        let (publications, requests) = site.ports().context("the master says no ports")?;
        let client = Client::new(socket(&site)?);
        let mut options = options.clone();
        options.master = Some(Address { host: "127.0.0.1".into(), requests, publications });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Stage { options, site, master: Some(master), client, runtime, spent_s: 0.0, _dir: dir })
    }

    fn usage(&self) -> Usage {
        self.master.as_ref().map(|master| Usage::of(master.pid())).unwrap_or_default()
    }

    /// Takes a measurement some times.
    fn sample(&self, measure: impl Fn(&Stage) -> anyhow::Result<Duration>) -> anyhow::Result<Percentiles> {
        let samples: anyhow::Result<Vec<f64>> =
            (0..SAMPLES).map(|_| measure(self).map(|took| took.as_secs_f64() * 1_000.0)).collect();
        Ok(Percentiles::of(&samples?))
    }

    /// Publishes `test.ping`; returns how long it took until so many returns were acknowledged.
    fn ping(&self, swarm: &Swarm, tgt: &str, returns: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let job = serde_json::json!({ "tgt": tgt, "fun": "test.ping" });
        let job: JobRequest = serde_json::from_value(job).context("make a job")?;
        let published: JobPublished = self.runtime.block_on(self.client.publish(&job))?;
        let jid = Jid::parse(&published.jid).context("read the jid")?;
        let came = |totals: &super::tally::Totals| totals.jobs.get(&jid).map_or(0, |job| job.acknowledged);
        if !swarm.wait(JOB_PATIENCE, |totals| came(totals) >= returns) {
            bail!("job {jid} for {tgt}: {} of {returns} returned", swarm.look(came));
        }
        let last = swarm.look(|totals| totals.jobs.get(&jid).map(|job| job.last)).unwrap_or(began);
        Ok(last.saturating_duration_since(began))
    }

    /// Runs the operator's command.
    fn cli(&self, id: &str) -> anyhow::Result<Duration> {
        let mut command = Command::new(&self.site.binaries().halite);
        command.args([id, "test.ping"]).env("HALITE_CONFIG_DIR", self.site.confdir("master"));
        let began = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().context("run halite")?;
        ensure!(status.success(), "halite {id} test.ping ended with {status}");
        Ok(began.elapsed())
    }

    /// Fires events for the whole duration, and looks after the reader that is slowest: the job cache.
    fn events(&self, swarm: &Swarm) -> anyhow::Result<EventPhase> {
        let (asked, duration) = (self.options.events_per_s, Duration::from_secs_f64(self.options.duration));
        let (before, own_before) = (self.usage(), Usage::own());
        swarm.forget_latencies();
        let (began, acknowledged) = (Instant::now(), swarm.look(|totals| totals.count.acknowledged));
        swarm.order(|orders| orders.events_per_s = asked);
        let mut reader_lag = 0;
        while began.elapsed() < duration {
            std::thread::sleep(WATCH.min(duration.saturating_sub(began.elapsed())));
            reader_lag = reader_lag.max(self.reader_lag()?);
        }
        let seconds = began.elapsed().as_secs_f64();
        let done = swarm.look(|totals| totals.count.acknowledged) - acknowledged;
        let (after, own_after) = (self.usage(), Usage::own());
        ensure!(swarm.drain(PATIENCE), "not everything was acknowledged");
        let drained = Instant::now();
        // With what was still under way: a machine that is too slow shall not make an event look dear.
        let all = swarm.look(|totals| totals.count.acknowledged) - acknowledged;
        let master_us_per_event = self.usage().cpu_since(&before) / (all.max(1) as f64) * 1e6;
        while self.reader_lag()? > 0 {
            ensure!(drained.elapsed() < PATIENCE, "the job cache does not catch up");
        }
        Ok(EventPhase {
            asked_per_s: asked,
            seconds,
            acknowledged_per_s: done as f64 / seconds,
            ack_ms: swarm.look(super::tally::Totals::ack_ms),
            reader_lag,
            reader_caught_up_ms: drained.elapsed().as_secs_f64() * 1_000.0,
            master_us_per_event,
            master_cpu: after.cpu_since(&before) / seconds,
            swarm_cpu: own_after.cpu_since(&own_before) / seconds,
            master_peak_kib: after.peak_rss_kib,
        })
    }

    /// Returns how far the job cache, a reader of all events, is behind the log.
    fn reader_lag(&self) -> anyhow::Result<u64> {
        let status = self.runtime.block_on(self.client.status())?;
        let number = |name: &str| status[name].as_u64().with_context(|| format!("status says no {name}"));
        Ok(number("head")?.saturating_sub(number("projected")?))
    }

    fn restart(&mut self, swarm: &Swarm) -> anyhow::Result<Restart> {
        self.spent_s += self.usage().cpu_since(&Usage::default());
        let killed = Instant::now();
        self.master.take().context("the master runs")?.kill();
        self.master = Some(self.site.start_master(CONFIG)?);
        let ready_s = killed.elapsed().as_secs_f64();
        // Published while nearly everybody is away: whoever comes back catches up.
        let pinged = self.ping(swarm, "*", self.options.minions)?;
        ensure!(swarm.wait_connected(PATIENCE), "only {} came back", swarm.look(|totals| totals.count.live));
        let all_back_s = killed.elapsed().as_secs_f64();
        let cpu_s = self.usage().cpu_since(&Usage::default());
        std::thread::sleep(IDLE);
        Ok(Restart { ready_s, all_back_s, cpu_s, ping_all_s: pinged.as_secs_f64(), rss_kib: self.usage().rss_kib })
    }

    /// Counts what the log holds, segment by segment.
    fn check(&self, swarm: &Swarm) -> anyhow::Result<LogCheck> {
        let segments = find(&self.site.confdir("master"), |path| path.parent().is_some_and(is_log) && is_segment(path));
        ensure!(!segments.is_empty(), "the event log was not found");
        let count = |tags: &str| -> anyhow::Result<u64> {
            let counts = segments.iter().map(|segment| count(segment, tags));
            counts.sum::<anyhow::Result<u64>>().context("count the events")
        };
        let totals = swarm.totals().count;
        Ok(LogCheck {
            events: count("salt/beacon/*/swarm/*")?,
            acknowledged: totals.acknowledged,
            returns: count("salt/job/*/ret/*")?,
            returns_acknowledged: totals.returns_acknowledged,
        })
    }
}

fn is_log(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "events")
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".db"));
    name.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Counts the events of one segment whose tags match.
fn count(segment: &Path, tags: &str) -> anyhow::Result<u64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let log = rusqlite::Connection::open_with_flags(segment, flags)?;
    let sql = "SELECT count(*) FROM events WHERE tag GLOB ?1";
    Ok(log.query_row(sql, [tags], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// The configuration of the scenario's master. Jobs may be caught up for long enough that a slow machine changes no
/// result.
const CONFIG: &str = "auto_accept: true\njob_ttl: 120";

fn socket(site: &Site) -> anyhow::Result<PathBuf> {
    let is_socket = |path: &Path| path.file_name().is_some_and(|name| name == master::api::SOCKET_NAME);
    find(&site.confdir("master"), is_socket).pop().context("find the API's socket")
}

/// Finds files below a directory.
fn find(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let (mut dirs, mut found) = (vec![dir.to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            } else if wanted(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found
}

impl Table {
    /// Returns the rows for people.
    pub fn lines(&self) -> String {
        let ms = |p: &Percentiles| format!("{:.1} ms / {:.1} ms", p.p50, p.p99);
        let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1_024.0);
        let Table { events, restart, log, .. } = self;
        let rows = [
            ("minions", self.minions.to_string()),
            ("time to connect all; master's CPU", format!("{:.1} s; {:.1} s", self.connect_s, self.connect_cpu_s)),
            ("master without minions, VmRSS", mib(self.empty_rss_kib)),
            ("master idle, VmRSS / PSS", format!("{} / {}", mib(self.idle.rss_kib), mib(self.idle.pss_kib))),
            ("per minion, VmRSS", format!("{:.1} KiB", self.rss_per_minion_kib)),
            ("master's CPU, idle fleet", format!("{:.1} %", (self.idle_cpu * 100.0).max(0.0))),
            ("'*' test.ping, all returns logged, p50 / p99", ms(&self.ping_all_ms)),
            ("its CPU on the master, each", format!("{:.0} ms", self.ping_all_cpu_ms)),
            ("job for one of them, p50 / p99", ms(&self.ping_one_ms)),
            ("halite ID test.ping, p50 / p99", ms(&self.cli_one_ms)),
            (
                "events acknowledged",
                format!("{:.0}/s of {:.0}/s, {:.0} s", events.acknowledged_per_s, events.asked_per_s, events.seconds),
            ),
            ("event to acknowledgement, p50 / p99", ms(&events.ack_ms)),
            ("slowest reader behind, most", format!("{} events", events.reader_lag)),
            ("slowest reader has all after", format!("{:.0} ms", events.reader_caught_up_ms)),
            ("CPUs during events, master / swarm", format!("{:.2} / {:.2}", events.master_cpu, events.swarm_cpu)),
            ("master's CPU per event", format!("{:.1} µs", events.master_us_per_event)),
            ("master's peak, VmHWM", mib(events.master_peak_kib)),
            ("kill -9 to ready", format!("{:.1} s", restart.ready_s)),
            (
                "kill -9 to all sessions back; master's CPU",
                format!("{:.1} s; {:.1} s", restart.all_back_s, restart.cpu_s),
            ),
            ("'*' test.ping published at ready, to the last return", format!("{:.1} s", restart.ping_all_s)),
            ("master after restart, VmRSS", mib(restart.rss_kib)),
            ("events in the log / acknowledged", format!("{} / {}", log.events, log.acknowledged)),
            ("returns in the log / acknowledged", format!("{} / {}", log.returns, log.returns_acknowledged)),
            (
                "CPU seconds, master / swarm",
                format!("{:.1} / {:.1}", self.master_cpu_s, self.own.user_s + self.own.system_s),
            ),
            ("swarm itself, VmRSS", mib(self.own.rss_kib)),
        ];
        rows.map(|(name, value)| format!("| {name} | {value} |")).join("\n")
    }
}
