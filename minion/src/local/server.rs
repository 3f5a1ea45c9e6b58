//! The daemon's side of the socket: takes a request, runs the function or sends events.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::target::glob::Glob;
use proto::value::{Map, Value};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::socket::{self, BindError, SOCKET_NAME};
use super::wire::{self, Answer, MAX_MESSAGE, MAX_REQUEST, Request};
use crate::executor::{self, Done};
use crate::local_bus::{LocalBus, Received};
use crate::modules::{BeaconRoom, EventSink, Jobs, MasterRequests, ModuleContext, Reload, ServedBy, served_by};
use crate::pillar::Pillar;

/// Connections that are served at once; more wait in the kernel until one ends.
const MAX_CONNECTIONS: usize = 16;
/// How many of them may listen: some are left for calls. One more is refused.
const MAX_LISTENERS: usize = 8;
/// How long a peer may take to say what it wants.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// How long a function may run here. What takes longer is not about the daemon.
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait before accepting again when the system refuses.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Root's uid.
const ROOT: u32 = 0;

/// What is reached through the socket.
#[derive(Clone)]
pub struct Parts {
    /// This minion's id.
    pub id: String,
    /// The configuration, as it is now.
    pub config: watch::Receiver<Arc<Map>>,
    /// The grains, as they are now.
    pub grains: watch::Receiver<Arc<Map>>,
    /// The jobs that run here.
    pub jobs: Arc<dyn Jobs>,
    /// Where functions' events go.
    pub events: Arc<dyn EventSink>,
    /// The beacons.
    pub beacons: Arc<dyn BeaconRoom>,
    /// Has the configuration read anew.
    pub reload: Arc<dyn Reload>,
    /// The master.
    pub master: Arc<dyn MasterRequests>,
    /// The pillar, as it is now.
    pub pillar: Pillar,
    /// The bus whose events are sent to listeners.
    pub bus: LocalBus,
}

/// The open socket. It closes when this is dropped.
#[derive(Debug)]
pub struct Local {
    _stop: oneshot::Sender<()>,
}

impl Local {
    /// Opens the socket in `sock_dir` and serves it.
    pub fn spawn(sock_dir: &Path, parts: Parts) -> Result<(Local, JoinHandle<()>), BindError> {
        let listener = socket::bind(sock_dir)?;
        let (stop, stopped) = oneshot::channel();
        let path = sock_dir.join(SOCKET_NAME);
        Ok((Local { _stop: stop }, tokio::spawn(serve(listener, path, Arc::new(Served::new(parts)), stopped))))
    }
}

/// What all connections share.
struct Served {
    parts: Arc<Parts>,
    listeners: Semaphore,
}

impl Served {
    fn new(parts: Parts) -> Served {
        Served { parts: Arc::new(parts), listeners: Semaphore::new(MAX_LISTENERS) }
    }
}

async fn serve(listener: UnixListener, path: PathBuf, served: Arc<Served>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&served)))),
                Err(error) => {
                    warn!(%error, "the local socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    // The next daemon would replace it; a command that finds none says so sooner.
    let _ = fs::remove_file(path);
}

async fn connection(mut stream: UnixStream, served: Arc<Served>) {
    if let Err(error) = converse(&mut stream, &served).await {
        debug!(%error, "a connection of the local socket ended");
    }
}

async fn converse(stream: &mut UnixStream, served: &Served) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if !is_served(uid) {
        warn!(uid, "a user who is neither root nor the minion's own knocked at the local socket");
        return answer(stream, Answer::Refused("only root and the minion's user are served here".to_owned())).await;
    }
    let request = timeout(REQUEST_DEADLINE, wire::read(stream, MAX_REQUEST)).await;
    let request = request.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    match Request::decode(&request) {
        Some(Request::Call { fun, arg }) => {
            let done = call(&served.parts, uid, fun, arg).await;
            answer(stream, done).await
        }
        Some(Request::Events { tag }) => match served.listeners.try_acquire() {
            Ok(_place) => follow(stream, &served.parts.bus, &Glob::new(&tag)).await,
            Err(_) => answer(stream, Answer::Refused(format!("{MAX_LISTENERS} others listen already"))).await,
        },
        None => answer(stream, Answer::Refused("this minion does not know what is asked".to_owned())).await,
    }
}

fn is_served(uid: u32) -> bool {
    uid == ROOT || uid == nix::unistd::geteuid().as_raw()
}

async fn answer(stream: &mut UnixStream, answer: Answer) -> io::Result<()> {
    wire::write(stream, &answer.encode(), MAX_MESSAGE).await
}

/// Runs a function that is about the daemon; every other one runs in the caller's own process, with the caller's rights.
async fn call(parts: &Arc<Parts>, uid: u32, fun: String, arg: Vec<Value>) -> Answer {
    if served_by(&fun) == ServedBy::Caller {
        return Answer::Refused(format!("{fun} is not run by the daemon"));
    }
    info!(fun, uid, "called on this host");
    let parts = Arc::clone(parts);
    let work = tokio::task::spawn_blocking(move || executor::call(&context(&parts), &fun, &arg));
    match timeout(CALL_DEADLINE, work).await {
        Ok(Ok(done)) => Answer::Done(done),
        Ok(Err(_)) => Answer::Done(Done::failed("The minion failed to run it.".to_owned(), 1)),
        Err(_) => Answer::Refused(format!("it is not done within {} s; it may still end", CALL_DEADLINE.as_secs())),
    }
}

/// Returns what a function sees that runs beside the jobs.
pub fn context(parts: &Parts) -> ModuleContext {
    let (config, grains) = (Arc::clone(&parts.config.borrow()), Arc::clone(&parts.grains.borrow()));
    ModuleContext {
        jobs: Arc::clone(&parts.jobs),
        events: Arc::clone(&parts.events),
        beacons: Arc::clone(&parts.beacons),
        reload: Arc::clone(&parts.reload),
        master: Arc::clone(&parts.master),
        pillar: parts.pillar.clone(),
        deadline: Some(Instant::now() + CALL_DEADLINE),
        ..ModuleContext::offline(&parts.id, config, grains)
    }
}

/// Sends events until the listener goes, or does not read.
async fn follow(stream: &mut UnixStream, bus: &LocalBus, tags: &Glob) -> io::Result<()> {
    let mut events = bus.subscribe("");
    answer(stream, Answer::Listening).await?;
    loop {
        let received = tokio::select! {
            received = events.next() => received,
            () = gone(stream) => return Ok(()),
        };
        match received {
            Some(Received::Event(event)) if tags.matches(&event.tag) => answer(stream, Answer::Event(event)).await?,
            Some(Received::Event(_)) => {}
            Some(Received::Missed(count)) => answer(stream, Answer::Missed(count)).await?,
            None => return Ok(()),
        }
    }
}

/// Waits until the listener goes: it says nothing more, so there is something to read only at its end.
async fn gone(stream: &UnixStream) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::map;
    use proto::value::MapExt;

    use super::*;
    use crate::config::{Config, Overrides};
    use crate::local::{Followed, Follower, LocalError, call};
    use crate::modules::{NoBeacons, NoDaemon, NoJobs, NoMaster, NoReload, NotDone, SendError};

    /// Fires on a bus and sends nothing.
    struct Bus(LocalBus);

    impl EventSink for Bus {
        fn send(&self, _tag: &str, _data: Map, _wait: Duration) -> Result<(), SendError> {
            Err(SendError::NotConnected)
        }

        fn fire_local(&self, tag: &str, data: Map) -> Result<(), NotDone> {
            self.0.fire(tag, data).map_err(|_| NoDaemon.into())
        }
    }

    struct Scene {
        config: Config,
        bus: LocalBus,
        _folder: tempfile::TempDir,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("minion"),
            format!("root_dir: {}\nsock_dir: /s\nid: m1\n", folder.path().display()),
        )
        .unwrap();
        let config = Config::load(folder.path(), &Overrides::default()).unwrap();
        Scene { config, bus: LocalBus::default(), _folder: folder }
    }

    impl Scene {
        fn serve(&self) -> Local {
            let parts = Parts {
                id: "m1".to_owned(),
                config: watch::channel(Arc::new(Map::new())).1,
                grains: watch::channel(Arc::new(Map::new())).1,
                jobs: Arc::new(NoJobs),
                events: Arc::new(Bus(self.bus.clone())),
                beacons: Arc::new(NoBeacons),
                reload: Arc::new(NoReload),
                master: Arc::new(NoMaster),
                pillar: Pillar::default(),
                bus: self.bus.clone(),
            };
            Local::spawn(&self.config.sock_dir, parts).unwrap().0
        }
    }

    #[tokio::test]
    async fn an_event_that_is_fired_here_reaches_who_listens_here() {
        let scene = scene();
        let _local = scene.serve();
        let mut follower = Follower::begin(&scene.config, "custom/*").await.unwrap();
        let arg = |tag: &str| [map! { "data" => "x" }.into(), Value::from(tag)];
        let fired = call(&scene.config, "event.fire", &arg("other/tag")).await.unwrap();
        assert_eq!(fired.ret, true.into());
        call(&scene.config, "event.fire", &arg("custom/tag")).await.unwrap();
        let Followed::Event(event) = follower.next().await.unwrap() else { panic!("an event") };
        assert_eq!((event.tag.as_str(), event.data.text("data")), ("custom/tag", Some("x")));
    }

    #[tokio::test]
    async fn what_is_not_about_the_daemon_is_refused() {
        let scene = scene();
        let _local = scene.serve();
        let refused = call(&scene.config, "cmd.run", &["id".into()]).await.unwrap_err();
        assert!(matches!(refused, LocalError::Refused(why) if why.contains("cmd.run")));
        let failed = call(&scene.config, "beacons.reset", &[]).await.unwrap();
        assert_eq!(failed.retcode, 1.into());
    }

    #[tokio::test]
    async fn nonsense_and_silence_end_only_their_connection() {
        let scene = scene();
        let _local = scene.serve();
        let path = scene.config.sock_dir.join(SOCKET_NAME);
        let mut nonsense = UnixStream::connect(&path).await.unwrap();
        wire::write(&mut nonsense, &map! { "do" => 1 }, MAX_REQUEST).await.unwrap();
        let refused = Answer::decode(wire::read(&mut nonsense, MAX_MESSAGE).await.unwrap());
        assert!(matches!(refused, Some(Answer::Refused(_))));
        let mut large = UnixStream::connect(&path).await.unwrap();
        tokio::io::AsyncWriteExt::write_u32(&mut large, u32::MAX).await.unwrap();
        assert!(wire::read(&mut large, MAX_MESSAGE).await.is_err());
        let _silent = UnixStream::connect(&path).await.unwrap();
        assert!(call(&scene.config, "saltutil.running", &[]).await.is_ok());
    }

    #[tokio::test]
    async fn without_a_daemon_it_is_said_what_to_do() {
        let scene = scene();
        let none = call(&scene.config, "saltutil.running", &[]).await.unwrap_err().to_string();
        assert!(none.contains("no halite-minion daemon answers at") && none.contains("start it"), "{none}");
        // The file of a daemon that was killed is no daemon.
        let local = scene.serve();
        let path = scene.config.sock_dir.join(SOCKET_NAME);
        drop(local);
        let gone = async {
            while path.exists() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.expect("the socket goes with its daemon");
    }

    #[test]
    fn only_root_and_the_own_user_are_served() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(is_served(ROOT) && is_served(own));
        assert!(!is_served(own + 4_242));
    }
}
