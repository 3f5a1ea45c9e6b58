//! What minions ask of the master, whichever wire they speak: files, pillar, the mine, jobs for other minions
//! (salt-wire.md §5.2). Each wire decodes a [`Command`], asks here, and carries the answer back.
//!
//! `files` are the file server's; `mine.rs`, `peer.rs` and `receive.rs` have the rest. Who asks is said by the session, never
//! by the load. What blocks runs off the async threads, a few at once.

mod mine;
mod peer;
mod receive;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::salt::command::{Command, Waits};
use proto::value::{Map, MapExt, Value};
use tokio::sync::Semaphore;

use crate::command::Command as MasterCommand;
use crate::command::{Caller, CommandError, Door, Origin, Reply, TargetText};
use crate::fileserver::{FileServer, FileServerConfig};
use crate::jobs::Jobs;
use crate::pillar::{PillarConfig, PillarError, PillarRequest, Pillars};

use mine::{Mine, MineError, Question};
use peer::Published;
use receive::Part;

pub use mine::Rights;

/// How many requests that block are worked on at once; others wait their turn.
const AT_ONCE: usize = 8;
/// How many may wait; one more is told to come again.
const MAX_WAITING: usize = 20_000;

/// What minions may ask.
#[derive(Debug, Clone)]
pub struct RequestsConfig {
    /// Where the mine and pushed files lie.
    pub cachedir: PathBuf,
    /// Which minions may publish which functions (`peer`, default none).
    pub peer: Option<Rights>,
    /// Which minions may run which runners (`peer_run`, default none).
    pub peer_run: Option<Rights>,
    /// Which minions may ask the mine for which functions (`mine_get`, default all).
    pub mine_get: Option<Rights>,
    /// The largest file that a minion may push, in bytes (`file_recv`, default off, and `file_recv_max_size`, MiB, default
    /// 100). None takes no files.
    pub receive: Option<u64>,
    /// The master's options, for what state runs ask of them.
    pub opts: Arc<Map>,
    /// The file server.
    pub files: FileServerConfig,
    /// Pillar.
    pub pillar: PillarConfig,
}

/// Why a request is not answered with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many ask at once.
    #[error("the master is busy; ask again in a moment")]
    Busy,
    /// It is for another part of the master, or for nobody.
    #[error("this is not asked here")]
    Elsewhere,
    /// The master failed; its log says why.
    #[error("{0}")]
    Failed(String),
    /// A limit holds.
    #[error("{0}")]
    TooLarge(String),
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub struct Requests {
    parts: Arc<Parts>,
}

struct Parts {
    config: ArcSwap<RequestsConfig>,
    files: FileServer,
    pillars: Pillars,
    mine: Arc<Mine>,
    published: Published,
    jobs: Jobs,
    door: Door,
    places: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Requests {
    /// Makes the handle. `pillars` is what targets look at too.
    pub fn new(config: RequestsConfig, pillars: Pillars, jobs: Jobs, door: Door) -> Requests {
        Requests {
            parts: Arc::new(Parts {
                files: FileServer::new(config.files.clone()),
                pillars,
                mine: Arc::new(Mine::new(&config.cachedir)),
                published: Published::default(),
                jobs,
                door,
                places: Arc::new(Semaphore::new(AT_ONCE)),
                waiting: Semaphore::new(MAX_WAITING),
                config: ArcSwap::from_pointee(config),
            }),
        }
    }

    /// Takes a new configuration.
    pub fn reload(&self, config: RequestsConfig) {
        self.parts.files.reload(config.files.clone());
        self.parts.pillars.reload(config.pillar.clone());
        self.parts.config.store(Arc::new(config));
    }

    /// Forgets what a minion has told: its key is gone.
    pub async fn forget(&self, id: &MinionId) {
        self.parts.pillars.forget(id);
        let (mine, id) = (Arc::clone(&self.parts.mine), id.clone());
        let done = self.blocking(move || mine.flush(&id).map_err(|error| error.to_string())).await;
        if let Ok(Err(error)) = done {
            tracing::error!(error, "a minion's mine cannot be removed");
        }
    }

    /// Answers a request of a minion with Salt's plain reply.
    pub async fn answer(&self, id: &MinionId, command: Command) -> Result<Value, Unanswered> {
        let parts = &self.parts;
        let files = parts.files.clone();
        match command {
            Command::File(query, file) => self.blocking(move || files.query(query, &file)).await,
            Command::FileEnvs => Ok(files.envs().into()),
            Command::FileList { listing, saltenv, prefix } => {
                self.blocking(move || files.list(listing, &saltenv, &prefix)).await
            }
            Command::FileReceive { path, size, loc, data } => self.receive(id, path, (size, loc), data).await,
            Command::MasterOpts { env_only } => Ok(self.master_opts(env_only).into()),
            Command::MasterTops { .. } => Ok(Map::new().into()),
            Command::Mine { data, clear } => {
                let (mine, id) = (Arc::clone(&parts.mine), id.clone());
                kept(self.blocking(move || mine.keep(&id, data, clear)).await?)
            }
            Command::MineDelete { fun } => {
                let (mine, id) = (Arc::clone(&parts.mine), id.clone());
                kept(self.blocking(move || mine.delete(&id, &fun)).await?)
            }
            Command::MineFlush => {
                let (mine, id) = (Arc::clone(&parts.mine), id.clone());
                kept(self.blocking(move || mine.flush(&id).map_err(MineError::from)).await?)
            }
            Command::MineGet { tgt, tgt_type, fun } => self.mine_get(id, tgt, &tgt_type, &fun).await,
            Command::Pillar(load) => self.pillar(id, &load).await,
            Command::Publish(Waits::No, load) => self.publish(id, &load).await,
            Command::Publish(Waits::Yes, load) => self.publish_stumbling(id, &load).await,
            Command::PublishReturns { jid } => self.published_returns(id, &jid).await,
            Command::RegisterResources { .. } => Ok(true.into()),
            Command::Runner(load) => self.run(id, &load).await,
            Command::ServeFile { file, loc, gzip } => self.blocking(move || files.serve(&file, loc, gzip)).await,
            Command::MinionEvents(_) | Command::Return(_) | Command::RevokeAuth { .. } | Command::SyndicReturn(_) => {
                Err(Unanswered::Elsewhere)
            }
        }
    }

    /// Compiles a minion's pillar from its load: `grains`, `saltenv`, `pillarenv`, `pillar_override`.
    pub async fn pillar(&self, id: &MinionId, load: &Map) -> Result<Value, Unanswered> {
        let text = |name: &str| load.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let map = |name: &str| load.at(name).and_then(Value::as_map).cloned().unwrap_or_default();
        let request = PillarRequest {
            id: id.clone(),
            grains: map("grains"),
            saltenv: text("saltenv"),
            pillarenv: text("pillarenv"),
            given: map("pillar_override"),
        };
        match self.parts.pillars.compile(request).await {
            Ok(pillar) => Ok(pillar.into()),
            Err(PillarError::Busy) => Err(Unanswered::Busy),
            Err(error @ PillarError::Failed) => Err(Unanswered::Failed(error.to_string())),
            Err(error @ PillarError::TooLarge) => Err(Unanswered::TooLarge(error.to_string())),
        }
    }

    async fn mine_get(&self, id: &MinionId, tgt: Value, tgt_type: &str, fun: &Value) -> Result<Value, Unanswered> {
        let config = self.parts.config.load_full();
        let question = Question::read(tgt, tgt_type, fun).and_then(|asked| asked.allowed(config.mine_get.as_ref(), id));
        let Some(question) = question else { return Ok(Map::new().into()) };
        // A target that makes no sense means nobody, as in Salt.
        let minions = self.parts.jobs.matching(question.target.clone()).await.unwrap_or_default();
        let (mine, jobs, id) = (Arc::clone(&self.parts.mine), self.parts.jobs.clone(), id.clone());
        let sees = move |target: &TargetText| jobs.means_blocking(target, &id);
        self.blocking(move || question.answer(&mine, &minions, &sees).into()).await
    }

    async fn publish(&self, id: &MinionId, load: &Map) -> Result<Value, Unanswered> {
        let none = || Ok(Map::new().into());
        let config = self.parts.config.load_full();
        let Some(request) = config.peer.as_ref().and_then(|rights| peer::publication(rights, id, load)) else {
            tracing::info!(minion_id = %id, fun = load.text("fun"), "a minion may not publish this (peer)");
            return none();
        };
        match self.ask(id, MasterCommand::Publish(request)).await {
            Ok(Reply::Published(job)) => {
                self.parts.published.note(job.jid.clone(), id.clone());
                let minions: Vec<Value> = job.minions.iter().map(Value::from).collect();
                Ok(map! { "jid" => &job.jid, "minions" => minions }.into())
            }
            Ok(_) => none(),
            Err(error) => {
                tracing::info!(minion_id = %id, %error, "a minion's job is not published");
                none()
            }
        }
    }

    /// Answers `minion_publish` as Salt 3008's master does, which no module of a minion asks: a job that may not be published
    /// is an empty map; of one that may, it publishes the job, stumbles over the first return, or over there being none, and
    /// says an empty text.
    async fn publish_stumbling(&self, id: &MinionId, load: &Map) -> Result<Value, Unanswered> {
        let refused = || Ok(Map::new().into());
        let config = self.parts.config.load_full();
        let Some(request) = config.peer.as_ref().and_then(|rights| peer::publication(rights, id, load)) else {
            tracing::info!(minion_id = %id, fun = load.text("fun"), "a minion may not publish this (peer)");
            return refused();
        };
        if let Some(answer) = peer::bad_wait(load) {
            return Ok(answer);
        }
        let names_group = request.target.tgt_type.starts_with("node");
        match self.ask(id, MasterCommand::Publish(request)).await {
            Ok(Reply::Published(job)) => self.parts.published.note(job.jid, id.clone()),
            Err(CommandError::Invalid(_)) if names_group => return refused(),
            Ok(_) => {}
            Err(error) => tracing::info!(minion_id = %id, %error, "a minion's job is not published"),
        }
        Ok("".into())
    }

    async fn published_returns(&self, id: &MinionId, jid: &str) -> Result<Value, Unanswered> {
        let owner = Jid::parse(jid).ok().and_then(|jid| Some((self.parts.published.owner(&jid)?, jid)));
        match owner {
            // Salt's master stumbles over a job that it does not know.
            None => Ok("".into()),
            Some((owner, _)) if owner != *id => Ok(Map::new().into()),
            Some((_, jid)) => {
                let job = self.parts.jobs.show(jid).await;
                let job = job.map_err(|error| Unanswered::Failed(error.to_string()))?;
                Ok(job.map(|job| peer::returns(&job)).unwrap_or_default().into())
            }
        }
    }

    async fn run(&self, id: &MinionId, load: &Map) -> Result<Value, Unanswered> {
        let config = self.parts.config.load_full();
        let Some(command) = config.peer_run.as_ref().and_then(|rights| peer::run(rights, id, load)) else {
            tracing::info!(minion_id = %id, fun = load.text("fun"), "a minion may not run this (peer_run)");
            return Ok(Map::new().into());
        };
        match self.ask(id, command).await {
            Ok(Reply::Value(value)) => Ok(value),
            Ok(_) => Ok(Value::Null),
            Err(error) => Ok(error.to_string().into()),
        }
    }

    async fn ask(&self, id: &MinionId, command: MasterCommand) -> Result<Reply, CommandError> {
        let caller = Caller { user: id.to_string(), origin: Origin::Minion };
        Box::pin(self.parts.door.ask(caller, command)).await
    }

    async fn receive(
        &self,
        id: &MinionId,
        path: Vec<String>,
        (size, loc): (u64, u64),
        data: Vec<u8>,
    ) -> Result<Value, Unanswered> {
        let config = self.parts.config.load_full();
        let Some(longest) = config.receive else { return Ok(false.into()) };
        let owner = id.clone();
        let written = self.blocking(move || {
            let part = Part { path: &path, size, loc, data: &data };
            receive::write(&config.cachedir, &owner, &part, longest)
        });
        match written.await? {
            Ok(()) => Ok(true.into()),
            Err(error) => {
                tracing::warn!(minion_id = %id, error = &error as &dyn std::error::Error, "a pushed file is not taken");
                Ok(false.into())
            }
        }
    }

    /// Tells a minion what its state runs need to know of the master.
    fn master_opts(&self, env_only: bool) -> Map {
        let config = self.parts.config.load();
        let option = |name: &str, default: Value| config.opts.at(name).cloned().unwrap_or(default);
        let mut roots = Map::new();
        self.parts.files.envs().iter().for_each(|env| roots.set(env, Vec::<Value>::new()));
        let mut told = map! {
            "file_roots" => roots,
            "top_file_merging_strategy" => option("top_file_merging_strategy", "merge".into()),
            "env_order" => option("env_order", Value::List(Vec::new())),
            "default_top" => option("default_top", "base".into()),
        };
        if env_only {
            return told;
        }
        for (name, default) in [
            ("renderer", "jinja|yaml".into()),
            ("failhard", false.into()),
            ("state_top", "salt://top.sls".into()),
            ("state_top_saltenv", Value::Null),
            ("nodegroups", Map::new().into()),
            ("state_auto_order", true.into()),
            ("state_events", false.into()),
            ("state_aggregate", false.into()),
            ("jinja_env", Map::new().into()),
            ("jinja_sls_env", Map::new().into()),
            ("jinja_lstrip_blocks", false.into()),
            ("jinja_trim_blocks", false.into()),
        ] {
            told.set(name, option(name, default));
        }
        told
    }

    /// Runs what blocks off the async threads, when there is a place.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unanswered> {
        let _waits = self.parts.waiting.try_acquire().map_err(|_| Unanswered::Busy)?;
        let place = Arc::clone(&self.parts.places).acquire_owned().await.map_err(|_| Unanswered::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(|_| Unanswered::Failed("the master failed; its log says why".to_owned()))
    }
}

fn kept(done: Result<(), MineError>) -> Result<Value, Unanswered> {
    match done {
        Ok(()) => Ok(true.into()),
        Err(error @ MineError::TooLarge) => {
            tracing::warn!(%error, "the mine does not take what a minion tells");
            Ok(false.into())
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the mine cannot be written");
            Ok(false.into())
        }
    }
}
