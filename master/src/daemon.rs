//! Starts every part of the master in order, serves until a signal, stops them in reverse.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use proto::WIRE_VERSION;
use proto::map;
use proto::message::hello::HelloReply;
use proto::tag::Tag;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use transport::{CurveKeyPair, Heartbeat, Listener, ListenerConfig, NullPolicy, SocketType};

use crate::acl::Acl;
use crate::bus::Bus;
use crate::command::{About, Door, ReloadRequest, Rooms};
use crate::config::{self, Config, ConfigWatch, SaltToolsConfig};
use crate::cursors::Cursors;
use crate::jobs::Jobs;
use crate::keys::Keys;
use crate::pillar::Pillars;
use crate::reactor::Reactor;
use crate::requests::Requests;
use crate::salt::tools::commands::{ClearCommands, ClearParts};
use crate::salt::tools::events::EventSockets;
use crate::salt::tools::files::SaltFiles;
use crate::salt::tools::local_key::LocalKey;
use crate::salt::{Salt, SaltConfig, SaltParts};
use crate::sessions::{self, Registry, SessionParts};
use crate::{SOFTWARE, api, presence};

/// How long a part may take to stop before it is named and left behind.
const GRACE: Duration = Duration::from_secs(10);
/// How many reload requests may wait; each one reads the same files.
const RELOADS: usize = 16;
/// After how many missed PINGs a peer counts as dead.
const MISSED_PINGS: u32 = 3;

/// A part that runs, in the order of starting.
struct Running {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Everything that runs.
#[derive(Default)]
struct Parts(Vec<Running>);

impl Parts {
    fn start<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(part(stop.clone()));
        self.0.push(Running { name, stop, task });
    }

    /// Waits until a part ends by itself, which none should; tells which and why.
    async fn first_end(&mut self) -> anyhow::Error {
        let ends = self.0.iter_mut().map(|part| {
            let name = part.name;
            Box::pin(async move { (name, (&mut part.task).await) })
        });
        let ((name, ended), ..) = futures_util::future::select_all(ends).await;
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("{name} ended by itself"),
            Ok(Err(error)) => error.context(format!("{name} failed")),
            Err(error) => anyhow::Error::from(error).context(format!("{name} failed")),
        }
    }

    /// Stops the parts in reverse order; names those that are late.
    async fn stop(self) {
        for part in self.0.into_iter().rev() {
            part.stop.cancel();
            if part.task.is_finished() {
                continue;
            }
            match tokio::time::timeout(GRACE, part.task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::error!(part = part.name, "{error:#}"),
                Ok(Err(error)) => {
                    tracing::error!(part = part.name, error = &error as &dyn std::error::Error, "part failed")
                }
                Err(_) => tracing::error!(part = part.name, "did not stop within {} s", GRACE.as_secs()),
            }
        }
    }
}

/// Runs the master until SIGTERM or SIGINT, or until standard input closes if its owner wants that.
pub async fn run(config: Config, until_stdin_closes: bool) -> anyhow::Result<()> {
    raise_fd_limit();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    make_dirs(&config).context("failed to make the master's directories")?;
    let mut signals = Signals::new().context("failed to listen for signals")?;
    let mut parts = Parts::default();
    let master = Master::start(config, &mut parts).await;
    let mut master = match master {
        Ok(master) => master,
        Err(error) => {
            parts.stop().await;
            return Err(error);
        }
    };
    tracing::info!(publish = %master.about.publish_addr, requests = %master.about.ret_addr, "{SOFTWARE} master ready");
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let orphaned = orphaned(until_stdin_closes);
    let mut watchdog = watchdog();
    let ended = loop {
        tokio::select! {
            () = fed(&mut watchdog) => drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
            () = orphaned.cancelled() => break Ok(()),
            _ = signals.term.recv() => break Ok(()),
            _ = signals.int.recv() => break Ok(()),
            _ = signals.hup.recv() => drop(master.reload().await),
            Some(answer) = master.reloads.recv() => {
                // Whoever asked may have gone.
                let _ = answer.send(master.reload().await);
            }
            error = parts.first_end() => break Err(error),
        }
    };
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    parts.stop().await;
    ended
}

/// Ticks twice in the time after which systemd takes this loop for dead; nothing without `WatchdogSec`.
fn watchdog() -> Option<Interval> {
    let half = sd_notify::watchdog_enabled()?.max(Duration::from_millis(2)) / 2;
    let mut ticks = tokio::time::interval(half);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(ticks)
}

/// Waits until systemd is to be told that the loop turns; for ever if it does not ask.
async fn fed(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Tells a part that listens to a watch when its token is cancelled.
fn stops(stop: CancellationToken) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        stop.cancelled().await;
        tell.send_replace(true);
    });
    told
}

/// Cancelled when standard input closes, if that matters. The thread ends with the process.
fn orphaned(matters: bool) -> CancellationToken {
    let token = CancellationToken::new();
    if matters {
        let closed = token.clone();
        std::thread::spawn(move || {
            crate::fleet::stdin_closed();
            closed.cancel();
        });
    }
    token
}

/// What the main loop holds on to.
struct Master {
    confdir: PathBuf,
    about: About,
    asked: Requests,
    bus: Bus,
    jobs: Jobs,
    keys: Keys,
    reactor: Reactor,
    reloads: mpsc::Receiver<ReloadRequest>,
}

impl Master {
    async fn start(config: Config, parts: &mut Parts) -> anyhow::Result<Master> {
        let (bus, bus_task) = Bus::open(config.bus.clone()).context("failed to open the event log")?;
        parts.start("bus", |stop| async move { Ok(bus_task.run(stops(stop)).await?) });
        parts.start("health", {
            let bus = bus.clone();
            |stop| async move {
                tell_health(&bus, stop).await;
                Ok(())
            }
        });
        let (keys, keys_task) = Keys::open(config.keys.clone()).context("failed to open the key store")?;
        parts.start("keys", |stop| async move { Ok(keys_task.run(stops(stop)).await?) });
        let registry = Registry::default();
        let (jobs, jobs_task) = Jobs::open(config.jobs.clone(), bus.clone(), keys.clone(), registry.clone())
            .context("failed to open the jobs")?;
        parts.start("jobs", |stop| async move { Ok(jobs_task.run(stop).await?) });
        let pillars = Pillars::new(config.requests.pillar.clone());
        jobs.see_pillars(pillars.clone());
        start_memories(&config, &registry, &keys, parts);
        let (requests, publications) = listen(&config, &keys)?;
        let about = about(&config, &requests, &publications);
        let (reload, reloads) = mpsc::channel(RELOADS);
        let door = Door::new(Rooms {
            acl: Acl { own_uid: nix::unistd::getuid().as_raw() },
            bus: bus.clone(),
            cursors: cursors(&config, &bus)?,
            keys: keys.clone(),
            jobs: jobs.clone(),
            registry: registry.clone(),
            reactor: std::sync::OnceLock::new(),
            reload: reload.clone(),
            about: about.clone(),
        });
        let socket = api::bind(&config.sock_dir).context("failed to open the API socket")?;
        let (reactor, reactor_task) =
            Reactor::open(config.reactor.clone(), bus.clone(), door.clone()).context("failed to open the reactor")?;
        door.admit_reactor(reactor.clone());
        parts.start("reactor", |stop| async move { Ok(reactor_task.run(stop).await?) });
        start_presence(&config, &bus, &registry, parts);
        let asked = Requests::new(config.requests.clone(), pillars.clone(), jobs.clone(), door.clone());
        let clear = match &config.salt_tools {
            Some(tools) => {
                let known = (registry.clone(), pillars);
                Some(start_salt_tools(&config, tools, parts, &bus, &keys, known, &door)?)
            }
            None => None,
        };
        let needs = SaltParts {
            clear,
            hello: hello(&config, &keys),
            asked: asked.clone(),
            bus: bus.clone(),
            jobs: jobs.clone(),
            keys: keys.clone(),
            registry,
            door: door.clone(),
        };
        start_sessions(&config, (requests, publications), needs, parts)?;
        let socket_path = config.sock_dir.join(api::SOCKET_NAME);
        parts.start("api", |stop| async move {
            api::serve(socket, door, stop.cancelled_owned()).await;
            // A command then says at once that the master is not there.
            std::fs::remove_file(&socket_path).with_context(|| format!("failed to remove {}", socket_path.display()))
        });
        let watch = ConfigWatch::new(&config.confdir);
        parts.start("watch", |stop| async move {
            watch.run(reload, stop).await;
            Ok(())
        });
        Ok(Master { confdir: config.confdir, about, asked, bus, jobs, keys, reactor, reloads })
    }

    /// Reads the configuration again. A bad one is told with file and line, and the old one stays.
    async fn reload(&mut self) -> Result<Vec<String>, String> {
        let confdir = self.confdir.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&confdir)).await;
        let loaded = match read {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!("{error}; the old configuration keeps running");
                self.bus.try_fire(Tag::config("rejected"), &map! { "error" => error.as_str() });
                return Err(error);
            }
            Err(_) => return Err("the master is stopping".into()),
        };
        self.keys.reload(loaded.keys).await;
        self.reactor.reload(loaded.reactor).await;
        self.jobs.set_nodegroups(loaded.jobs.nodegroups);
        self.jobs.set_syndics(loaded.jobs.syndics);
        self.asked.reload(loaded.requests);
        self.about.warnings.store(Arc::new(loaded.warnings.clone()));
        tracing::info!("configuration reloaded (ports and paths need a restart)");
        self.bus.try_fire(Tag::config("reloaded"), &map! { "warnings" => loaded.warnings.clone() });
        Ok(loaded.warnings)
    }
}

/// Serves the two ports: the native wire, and Salt's where its listener is on.
fn start_sessions(
    config: &Config,
    (requests, publications): (Listener, Listener),
    needs: SaltParts,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    let SaltParts { bus, jobs, keys, registry, hello, asked, .. } = needs.clone();
    let salt = match config.salt.clone() {
        None => None,
        Some(salt) => {
            let salt = SaltConfig { publish_port: publications.local_addr().port(), ..salt };
            let opened = Salt::open(salt, needs).context("failed to open the Salt listener (salt_listener)");
            let (salt, task) = opened?;
            parts.start("salt", |stop| async move {
                task.run(stop).await;
                Ok(())
            });
            Some(salt)
        }
    };
    let session_parts = SessionParts { bus, jobs, keys, registry, asked: Some(asked), hello, salt, ping: config.ping };
    parts.start("sessions", |stop| async move {
        sessions::serve(requests, publications, session_parts, stop).await;
        Ok(())
    });
    Ok(())
}

/// Starts what Salt's own tools find on this host; returns who answers what they ask.
fn start_salt_tools(
    config: &Config,
    tools: &SaltToolsConfig,
    parts: &mut Parts,
    bus: &Bus,
    keys: &Keys,
    known: (Registry, Pillars),
    door: &Door,
) -> anyhow::Result<Arc<ClearCommands>> {
    let own_user = crate::unix::user_name(nix::unistd::geteuid().as_raw());
    let key = LocalKey::open(&config.cachedir, &own_user)?;
    let files = match tools.files.clone() {
        Some(config) => {
            let (files, task) = SaltFiles::open(config, bus.clone(), keys.clone(), known)?;
            parts.start("salt files", |stop| async move {
                task.run(stop).await;
                Ok(())
            });
            Some(files)
        }
        None => None,
    };
    let door: Arc<dyn crate::runners::Ask> = Arc::new(door.clone());
    let (events, task) = EventSockets::open(&tools.sockets, bus.clone(), Arc::clone(&door))
        .context("failed to open the event sockets of Salt's tools")?;
    parts.start("event sockets", |stop| async move {
        task.run(stop).await;
        Ok(())
    });
    let from = tools.clear_from.clone();
    Ok(Arc::new(ClearCommands::new(ClearParts { door, key, own_user, from, events, files })))
}

/// Tells who is there.
fn start_presence(config: &Config, bus: &Bus, registry: &Registry, parts: &mut Parts) {
    let (presence, events, there) = (config.presence.clone(), bus.clone(), registry.clone());
    parts.start("presence", |stop| async move {
        presence::run(presence, events, there, stop).await;
        Ok(())
    });
}

/// Keeps what sessions tell over restarts: grains, and who was seen when.
fn start_memories(config: &Config, registry: &Registry, keys: &Keys, parts: &mut Parts) {
    let accepted = keys.accepted_ids();
    let grains = registry.open_grains(&config.cachedir.join("grains.db"), &accepted);
    parts.start("grains", |stop| async move {
        grains.run(stop).await;
        Ok(())
    });
    let seen = registry.open_seen(&config.cachedir.join("presence.db"), &accepted);
    parts.start("seen", |stop| async move {
        seen.run(stop).await;
        Ok(())
    });
}

/// Says on the bus, to those who read it live, when the log cannot be written, and when it can be again.
async fn tell_health(bus: &Bus, stop: CancellationToken) {
    let mut health = bus.watch_degraded();
    let mut degraded = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = health.changed() => if changed.is_err() { return },
        }
        let reason = health.borrow_and_update().clone();
        if reason.is_some() == degraded {
            continue;
        }
        degraded = reason.is_some();
        let remedy = "make room on the disk of cachedir, or mend it; the master recovers by itself";
        match &reason {
            Some(reason) => bus.try_fire(Tag::bus("degraded"), &map! { "reason" => &**reason, "remedy" => remedy }),
            None => bus.try_fire(Tag::bus("recovered"), &map! {}),
        };
    }
}

fn listen(config: &Config, keys: &Keys) -> anyhow::Result<(Listener, Listener)> {
    let pair = Arc::new(CurveKeyPair::from_secret(*keys.master_pair().secret()));
    let bind = |socket, port, null, what: &str| {
        let mut listen = ListenerConfig::new(socket, Some(Arc::clone(&pair)));
        listen.null = null;
        if config.salt.is_some() {
            // The first message of a Salt peer can be a large return, and nothing about it is proven yet.
            listen.limits.max_message_null = listen.limits.max_message;
        }
        listen.heartbeat = Heartbeat { interval: config.ping, timeout: config.ping * MISSED_PINGS };
        let addr = (config.interface, port).into();
        Listener::bind(addr, listen).with_context(|| format!("failed to open the {what} port"))
    };
    let requests = bind(SocketType::Router, config.ret_port, NullPolicy::Allow, "request (ret_port)")?;
    let subscribers = if config.salt.is_some() { NullPolicy::Allow } else { NullPolicy::Refuse };
    let publications = bind(SocketType::Pub, config.publish_port, subscribers, "publish (publish_port)")?;
    Ok((requests, publications))
}

fn cursors(config: &Config, bus: &Bus) -> anyhow::Result<Cursors> {
    Cursors::open(&config.cachedir.join("cursors.db"), bus.clone()).context("failed to open the cursors")
}

fn about(config: &Config, requests: &Listener, publications: &Listener) -> About {
    About {
        id: config.id.clone(),
        confdir: config.confdir.display().to_string(),
        ret_addr: requests.local_addr().to_string(),
        publish_addr: publications.local_addr().to_string(),
        warnings: Arc::new(ArcSwap::from_pointee(config.warnings.clone())),
    }
}

fn hello(config: &Config, keys: &Keys) -> Arc<HelloReply> {
    Arc::new(HelloReply {
        version: WIRE_VERSION,
        master_id: config.id.clone(),
        key: keys.master_pair().public,
        software: SOFTWARE.to_owned(),
        rsa: None,
    })
}

fn make_dirs(config: &Config) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for (dir, mode) in [(&config.cachedir, 0o700), (&config.sock_dir, 0o755), (&config.keys.pki_dir, 0o700)] {
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).with_context(|| {
            format!("{}: make it, or set root_dir to a directory this user may write", dir.display())
        })?;
    }
    Ok(())
}

/// Raises the soft limit of open files to the hard one, and says what it is: a minion needs two.
fn raise_fd_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    });
    match raised {
        Ok((was, limit)) => tracing::info!(limit, was, "open files are limited; a minion needs two"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the limit of open files could not be raised");
        }
    }
}

/// The signals the daemon answers.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}
