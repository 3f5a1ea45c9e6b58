//! The daemon: starts every part in order, reloads what can be reloaded, stops them in reverse and names any that did not.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use proto::map;
use proto::tag::Tag;
use proto::value::{Map, MapExt, Value};
use render::yaml::{self, Source};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use crate::beacons::{self, Beacons, Configured};
use crate::config::{self, Config, Fingerprint, Overrides};
use crate::executor::{self, Executor, Limit, Limits, MAX_RETURN_SIZE};
use crate::grains::{self, GrainsContext};
use crate::health;
use crate::host::system::boot_id;
use crate::jids::{Jids, Owed};
use crate::link::{self, Intake, IntakeParts, Link};
use crate::local::{self, Local};
use crate::local_bus::LocalBus;
use crate::modules::{NoJobs, NotDone, Reload};
use crate::pillar::Pillar;
use crate::schedule;
use crate::spool::{self, Keeper};

pub mod wire;

/// How often the configuration's files are looked at: a few `stat` calls.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long running jobs may take to end: longer than the executor gives them.
const EXECUTOR_GRACE: Duration = Duration::from_secs(12);
/// How long any other part may take to stop.
const PART_GRACE: Duration = Duration::from_secs(5);
/// Functions that wait for the configuration to be read anew; one more is refused.
const RELOADS: usize = 16;
/// How long such a function waits.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);
/// Options that are read once, at the start.
const FIXED: [&str; 13] = [
    "wire",
    "id",
    "master",
    "master_port",
    "publish_port",
    "root_dir",
    "pki_dir",
    "cachedir",
    "sock_dir",
    "master_finger",
    "master_key",
    "spool_max_age",
    "spool_max_bytes",
];

/// The parts of a running minion.
struct Daemon {
    config: Config,
    overrides: Overrides,
    files: Fingerprint,
    options: watch::Sender<Arc<Map>>,
    grains: watch::Sender<Arc<Map>>,
    link: Link,
    executor: Executor,
    beacons: Beacons,
    local: Option<Local>,
    reloads: mpsc::Receiver<SyncSender<()>>,
    /// What was started, in that order.
    started: Vec<(&'static str, JoinHandle<()>)>,
    jids_thread: std::thread::JoinHandle<()>,
}

/// Runs the minion until a signal ends it.
pub async fn run(config: Config, overrides: Overrides) -> anyhow::Result<()> {
    // Before anything that takes time: a signal meanwhile is a clean stop.
    let mut term = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let hup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let mut daemon = Daemon::start(config, overrides).await?;
    notify(&[NotifyState::Ready]);
    info!(id = %daemon.config.id, master = daemon.config.master, "ready");
    tokio::select! {
        _ = term.recv() => info!("SIGTERM: stopping"),
        _ = int.recv() => info!("SIGINT: stopping"),
        () = daemon.watch(hup) => {}
    }
    notify(&[NotifyState::Stopping]);
    daemon.stop().await;
    info!("stopped");
    Ok(())
}

/// Reads all grains. Blocks.
pub fn collect_grains(config: &Config) -> Map {
    let path = config.folder.join("grains");
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => match yaml::load(&text, &Source { name: &path.display().to_string() }) {
            Ok(Value::Map(map)) => Some(map),
            Ok(Value::Null) => None,
            Ok(other) => {
                warn!("{}: a grains file is a map, not {}; it is ignored", path.display(), other.kind());
                None
            }
            Err(error) => {
                warn!("{error}; the grains file is ignored");
                None
            }
        },
        Err(_) => None,
    };
    let master = Value::from(config.master.as_str());
    let cx = GrainsContext { id: config.id.as_str(), master: &master, config: &config.options, file: file.as_ref() };
    grains::collect(&cx)
}

impl Daemon {
    async fn start(config: Config, overrides: Overrides) -> anyhow::Result<Daemon> {
        let files = config::fingerprint(&config.folder, &config.options);
        config.remember_id();
        let grains = blocking({
            let config = config.clone();
            move || collect_grains(&config)
        })
        .await?;
        let (jids, owed, jids_thread) = Jids::open(&config.cachedir)
            .context("failed to open the memory of jobs; the minion cannot run without it")?;
        let (keeper, owed) = open_spool(&config, owed)?;
        let (link, jobs, link_task) = wire::daemon(&config, &grains, jids.clone(), keeper)?;
        let (options_sender, options) = watch::channel(Arc::new(config.options.clone()));
        let (grains_sender, grains_receiver) = watch::channel(Arc::new(grains));
        let bus = LocalBus::default();
        let beacons = Beacons::new(config.id.clone(), configured(&config));
        let (reload, reloads) = mpsc::channel(RELOADS);
        let (pillar, proc) = (Pillar::default(), wire::proc_folder(&config));
        let parts = executor::Parts {
            id: config.id.to_string(),
            config: options.clone(),
            grains: grains_receiver,
            events: link.events(config.id.clone(), Some(bus.clone())),
            beacons: Arc::new(beacons.clone()),
            reload: Arc::new(Reloads(reload)),
            master: link.master(),
            pillar: pillar.clone(),
            returns: Intake::returns(link.clone(), jids.clone(), proc.clone()),
            limit: return_limit(&config),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("halite-minion")),
        };
        let grains = parts.grains.clone();
        let mut served = local_parts(&parts, bus);
        let (executor, executor_task) = Executor::spawn(parts, limits(&config));
        greet(&config, &link, &grains_sender.borrow().clone(), owed).await;
        let (id, link_of_jobs) = (config.id.clone(), link.clone());
        let intake = IntakeParts {
            id,
            grains,
            pillar: pillar.clone(),
            executor: executor.clone(),
            jids,
            link: link_of_jobs,
            proc,
        };
        let intake_task = tokio::spawn(Intake::run(intake, jobs));
        let told = follow_pillar(&pillar, &link, &options, &grains_sender);
        let beacons_task = beacons.spawn(beacon_parts(&config, &link, &executor));
        served.jobs = Arc::new(executor.clone());
        let mine = tell_mine(&config, &link, &served);
        let (local, local_task) = open_local(&config, served);
        let mut started = vec![("health", tell_health(&config, &link)), ("pillar", told), ("mine", mine)];
        started.extend([("link", link_task), ("intake", intake_task)]);
        started.extend([("executor", executor_task), ("beacons", beacons_task)]);
        started.extend(local_task.map(|task| ("local", task)));
        Ok(Daemon {
            config,
            overrides,
            files,
            options: options_sender,
            grains: grains_sender,
            link,
            executor,
            beacons,
            local,
            reloads,
            started,
            jids_thread,
        })
    }

    /// Reloads at SIGHUP and when a file has changed. Never ends.
    async fn watch(&mut self, mut hup: Signal) {
        let mut ticks = interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hup.recv() => info!("SIGHUP: reading the configuration"),
                Some(done) = self.reloads.recv() => {
                    self.reload().await;
                    // Whoever asked may have given up.
                    let _ = done.try_send(());
                    continue;
                }
                _ = ticks.tick() => {
                    let files = config::fingerprint(&self.config.folder, &self.config.options);
                    if files == self.files {
                        continue;
                    }
                    info!("the configuration has changed");
                }
            }
            self.reload().await;
        }
    }

    /// Takes a new configuration, or keeps the old one if the new one is bad.
    async fn reload(&mut self) {
        notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading)]);
        self.files = config::fingerprint(&self.config.folder, &self.config.options);
        match Config::load(&self.config.folder, &self.overrides) {
            Ok(config) => self.take(config).await,
            Err(refused) => {
                error!(
                    "the new configuration is refused, the old one stays in force: {:#}",
                    anyhow::Error::new(refused)
                );
            }
        }
        notify(&[NotifyState::Ready]);
    }

    async fn take(&mut self, config: Config) {
        config.warnings.iter().for_each(|warning| warn!("{warning}"));
        for option in FIXED.iter().chain(config::SALT_OPTIONS) {
            if config.options.at(option) != self.config.options.at(option) {
                warn!("option {option} has changed; the change takes effect at the next start");
            }
        }
        self.beacons.reload(configured(&config));
        self.options.send_replace(Arc::new(config.options.clone()));
        self.config = config;
        let config = self.config.clone();
        if let Ok(grains) = blocking(move || collect_grains(&config)).await
            && **self.grains.borrow() != grains
        {
            self.link.set_grains(&grains).await;
            self.grains.send_replace(Arc::new(grains));
        }
        info!(beacons = self.beacons.count(), "the configuration is in force");
    }

    /// Stops the parts in reverse order: no more commands, no more events, then jobs and their returns, then what carries them.
    async fn stop(self) {
        let Daemon { link, executor, beacons, local, reloads, mut started, jids_thread, .. } = self;
        // A function that waits for a reload ends now.
        drop(reloads);
        if local.is_some() {
            drop(local);
            join_part(started.pop(), PART_GRACE).await;
        }
        beacons.stop();
        join_part(started.pop(), PART_GRACE).await;
        executor.stop().await;
        join_part(started.pop(), EXECUTOR_GRACE).await;
        link.stop().await;
        drop(executor);
        // The intake ends with the link, which feeds it.
        let (intake, link_task) = (started.pop(), started.pop());
        join_part(link_task, PART_GRACE).await;
        join_part(intake, PART_GRACE).await;
        drop(link);
        // They end with the link: what tells the mine, what asks for the pillar, and what tells of the link.
        while let Some(part) = started.pop() {
            join_part(Some(part), PART_GRACE).await;
        }
        let waited = tokio::task::spawn_blocking(move || jids_thread.join());
        if !matches!(timeout(PART_GRACE, waited).await, Ok(Ok(Ok(())))) {
            warn!(part = "jids", "did not stop in time");
        }
    }
}

/// Opens the spool; also gives the returns that are not in it yet.
fn open_spool(config: &Config, mut owed: Owed) -> anyhow::Result<(Keeper, Owed)> {
    let default = spool::Limits::default();
    let limits = spool::Limits {
        max_age: config.spool_max_age.unwrap_or(default.max_age),
        max_bytes: config.spool_max_bytes.unwrap_or(default.max_bytes),
    };
    let place = spool::Place { path: config.cachedir.join("spool.db"), boot: boot_id(), limits };
    let id = link::random().context("failed to start")?;
    let (keeper, on_their_way) = Keeper::on_disk(place, id, Instant::now());
    owed.retain(|(jid, _)| !on_their_way.contains(jid));
    Ok((keeper, owed))
}

/// Has the outside told how the link stands, from now until it ends.
fn tell_health(config: &Config, link: &Link) -> JoinHandle<()> {
    tokio::spawn(health::tell(config.sock_dir.clone(), config.master.clone(), link.status()))
}

/// Has the pillar asked for at each session.
fn follow_pillar(
    pillar: &Pillar,
    link: &Link,
    options: &watch::Receiver<Arc<Map>>,
    grains: &watch::Sender<Arc<Map>>,
) -> JoinHandle<()> {
    let (options, grains) = (options.clone(), grains.subscribe());
    pillar.follow(link.master(), link.status(), move || (options.borrow().clone(), grains.borrow().clone()))
}

/// Has the mine told by time, unless that is turned off.
fn tell_mine(config: &Config, link: &Link, parts: &local::Parts) -> JoinHandle<()> {
    let Some(every) = config.mine_interval else { return tokio::spawn(async {}) };
    let parts = parts.clone();
    schedule::tell_mine(every, link.status(), Arc::new(move || local::context(&parts)))
}

fn limits(config: &Config) -> Limits {
    let default = Limits::default();
    Limits {
        max_running: config.max_jobs.unwrap_or(default.max_running),
        max_waiting: config.waiting_jobs.unwrap_or(default.max_waiting),
        deadline: config.job_deadline.unwrap_or(default.deadline),
    }
}

fn return_limit(config: &Config) -> Limit {
    let max_return_size = config.max_return_size.unwrap_or(MAX_RETURN_SIZE);
    Limit { max_return_size, folder: config.cachedir.join("returns") }
}

fn beacon_parts(config: &Config, link: &Link, executor: &Executor) -> beacons::Parts {
    beacons::Parts {
        id: config.id.clone(),
        link: link.clone(),
        executor: executor.clone(),
        loop_interval: config.loop_interval,
        before_connect: config.beacons_before_connect,
    }
}

/// Returns the beacons as the files have them.
fn configured(config: &Config) -> Configured {
    Configured { beacons: config.beacons.clone(), places: config.beacon_places.clone() }
}

/// Returns what commands on this host reach: the same as jobs do, whose executor is still to come.
fn local_parts(parts: &executor::Parts, bus: LocalBus) -> local::Parts {
    local::Parts {
        id: parts.id.clone(),
        config: parts.config.clone(),
        grains: parts.grains.clone(),
        jobs: Arc::new(NoJobs),
        events: Arc::clone(&parts.events),
        beacons: Arc::clone(&parts.beacons),
        reload: Arc::clone(&parts.reload),
        master: Arc::clone(&parts.master),
        pillar: parts.pillar.clone(),
        bus,
    }
}

/// Opens the socket for commands on this host. The minion does its work without it too.
fn open_local(config: &Config, parts: local::Parts) -> (Option<Local>, Option<JoinHandle<()>>) {
    match Local::spawn(&config.sock_dir, parts) {
        Ok((local, task)) => (Some(local), Some(task)),
        Err(error) => {
            let error = anyhow::Error::new(error);
            error!("failed to serve commands on this host: {error:#}; `halite-minion call` does not reach this minion");
            (None, None)
        }
    }
}

/// Asks the daemon's loop to reload: for functions.
#[derive(Clone)]
struct Reloads(mpsc::Sender<SyncSender<()>>);

impl Reload for Reloads {
    fn reload(&self) -> Result<(), NotDone> {
        let (done, told) = sync_channel(1);
        match self.0.try_send(done) {
            Ok(()) => told
                .recv_timeout(RELOAD_PATIENCE)
                .map_err(|_| NotDone::Refused("the configuration was not read anew in time".to_owned())),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(NotDone::Refused("the minion is busy reading its configuration; try again".to_owned()))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotDone::Refused("the minion is stopping".to_owned())),
        }
    }
}

/// Puts into the spool what a start adds: the start events, and returns from before it that are not in the spool yet.
async fn greet(config: &Config, link: &Link, grains: &Map, owed: Owed) {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let started = Tag::started(&config.id);
    let chosen: Map = config
        .start_event_grains
        .iter()
        .filter_map(|name| Some((name.as_str().into(), grains.at(name)?.clone())))
        .collect();
    for tag in config.legacy_start_event.then(Tag::minion_start).into_iter().chain([started]) {
        let mut data = start_event(config.id.as_str(), &tag, unix_s);
        if !chosen.is_empty() {
            data.set("grains", chosen.clone());
        }
        link.fire(&tag, &data).await;
    }
    for (jid, load) in owed {
        if let Err(refused) = link.put_return(jid.clone(), load).await {
            warn!(%jid, %refused, "a return from before the restart is not sent");
        }
    }
}

/// Builds a start event as Salt's minion sends it.
fn start_event(id: &str, tag: &Tag, unix_s: u64) -> Map {
    map! {
        "id" => id,
        "cmd" => "_minion_event",
        "pretag" => Value::Null,
        "data" => format!("Minion {id} started at {}", asctime(unix_s)),
        "tag" => tag.as_str(),
        "ts" => unix_s,
    }
}

/// Formats a moment as C's `asctime` does, in UTC: `Fri Nov 20 23:51:51 2026`.
fn asctime(unix_s: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let ([year, month, day], [hour, minute, second]) = proto::ids::civil(unix_s.cast_signed());
    let weekday = DAYS[usize::try_from(unix_s / 86_400 % 7).unwrap_or_default()];
    let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"???");
    format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread of the minion failed")
}

async fn join_part(part: Option<(&'static str, JoinHandle<()>)>, grace: Duration) {
    let Some((name, task)) = part else { return };
    match timeout(grace, task).await {
        Ok(Ok(())) => {}
        Ok(Err(failed)) => error!(part = name, error = %failed, "failed"),
        Err(_) => warn!(part = name, "did not stop in time"),
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_event_is_salts() {
        let event = start_event("m1", &Tag::minion_start(), 1_795_218_711);
        assert_eq!(
            Value::Map(event).to_json().to_string(),
            r#"{"id":"m1","cmd":"_minion_event","pretag":null,"data":"Minion m1 started at Fri Nov 20 23:51:51 2026","tag":"minion_start","ts":1795218711}"#
        );
    }

    #[test]
    fn days_below_ten_are_padded_with_a_blank() {
        assert_eq!(asctime(1_793_577_600), "Mon Nov  2 00:00:00 2026");
    }
}
