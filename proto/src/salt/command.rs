//! What a minion asks under its session key (salt-wire.md §5.2): one variant for each command that Salt's master knows.
//!
//! Reading is the master's half, [`Command::to_load`] the minion's. What only passes through (returns, events, grains)
//! stays a map.

use std::fmt;

use super::request::MinionRequest;
use super::{Verified, bytes};
use crate::ids::MinionId;
use crate::map;
use crate::value::{Map, MapExt, Value};

/// Why a load is no command. The peer learns neither: the reply is an empty map, as Salt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// A field is missing or of the wrong kind.
    #[error("the command has no {0:?}, or a wrong one")]
    Field(&'static str),
    /// Salt has a function of this name, which wants more than a load (`verify_minion`): no request gets through to it.
    #[error("the command cannot be asked for")]
    Uncallable,
    /// There is no such command.
    #[error("there is no such command")]
    Unknown,
}

impl BadCommand {
    /// Returns what is replied under the session key.
    pub fn answer(self) -> Value {
        match self {
            // What every function answers that stumbles (salt-wire.md §1.4).
            BadCommand::Uncallable => "".into(),
            BadCommand::Field(_) | BadCommand::Unknown => Value::Map(Map::new()),
        }
    }
}

/// A file of the master's file server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// The path, relative to the roots of the environment.
    pub path: String,
    /// The environment.
    pub saltenv: String,
}

/// What is asked of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileQuery {
    /// `_file_find`: where it lies, and its stat.
    Find,
    /// `_file_hash`.
    Hash,
    /// `_file_hash_and_stat`.
    HashAndStat,
}

impl FileQuery {
    fn name(self) -> &'static str {
        match self {
            FileQuery::Find => "_file_find",
            FileQuery::Hash => "_file_hash",
            FileQuery::HashAndStat => "_file_hash_and_stat",
        }
    }
}

/// What is listed of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `_dir_list`.
    Dirs,
    /// `_file_list_emptydirs`.
    EmptyDirs,
    /// `_file_list`.
    Files,
    /// `_symlink_list`.
    Symlinks,
}

impl Listing {
    fn name(self) -> &'static str {
        match self {
            Listing::Dirs => "_dir_list",
            Listing::EmptyDirs => "_file_list_emptydirs",
            Listing::Files => "_file_list",
            Listing::Symlinks => "_symlink_list",
        }
    }
}

/// Whether a minion's publication waits for its returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// `minion_pub`: the reply names the job.
    No,
    /// `minion_publish`: the reply is what the minions returned.
    Yes,
}

/// A command of a minion.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// `_file_find`, `_file_hash`, `_file_hash_and_stat`.
    File(FileQuery, FileRef),
    /// `_file_envs`.
    FileEnvs,
    /// `_file_list` and its kin.
    FileList {
        /// What is listed.
        listing: Listing,
        /// The environment.
        saltenv: String,
        /// What the paths begin with.
        prefix: String,
    },
    /// `_file_recv`: a part of a file that the minion pushes.
    FileReceive {
        /// The path's parts: none is empty, a dot or two, or holds a separator.
        path: Vec<String>,
        /// The size of the whole file.
        size: u64,
        /// Where this part begins.
        loc: u64,
        /// The part.
        data: Vec<u8>,
    },
    /// `_master_opts`.
    MasterOpts {
        /// Only the environments are asked for.
        env_only: bool,
    },
    /// `_master_tops`: with the minion's whole configuration.
    MasterTops {
        /// The configuration.
        opts: Map,
    },
    /// `_mine`.
    Mine {
        /// What is kept.
        data: Map,
        /// Whether what was kept before is dropped.
        clear: bool,
    },
    /// `_mine_delete`.
    MineDelete {
        /// The function whose value is dropped.
        fun: String,
    },
    /// `_mine_flush`.
    MineFlush,
    /// `_mine_get`.
    MineGet {
        /// The target.
        tgt: Value,
        /// Its type.
        tgt_type: String,
        /// The functions: a text, a text with commas, or a list.
        fun: Value,
    },
    /// `_minion_event`.
    MinionEvents(Map),
    /// `_pillar`: the whole load.
    Pillar(Map),
    /// `minion_pub`, `minion_publish`: the whole load.
    Publish(Waits, Map),
    /// `pub_ret`.
    PublishReturns {
        /// The job.
        jid: String,
    },
    /// `_register_resources`, of 3008.
    RegisterResources {
        /// The resources.
        resources: Map,
        /// Their grains.
        resource_grains: Map,
    },
    /// `_return`: the whole load, which is the event's data; it has a `jid` and a `return`.
    Return(Map),
    /// `revoke_auth`.
    RevokeAuth {
        /// Whether the master keeps what it has cached.
        preserve_minion_cache: bool,
    },
    /// `minion_runner`: the whole load.
    Runner(Map),
    /// `_serve_file`: one chunk.
    ServeFile {
        /// The file.
        file: FileRef,
        /// Where the chunk begins.
        loc: u64,
        /// The level of compression, if any is wanted.
        gzip: Option<u64>,
    },
    /// `_syndic_return`: the returns of a syndic's minions, an entry for each job ([`super::syndic`]).
    SyndicReturn(Vec<Map>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configurations, returns and events may hold secrets.
        write!(f, "Command({})", self.name())
    }
}

impl Command {
    /// Returns the name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Command::File(query, _) => query.name(),
            Command::FileEnvs => "_file_envs",
            Command::FileList { listing, .. } => listing.name(),
            Command::FileReceive { .. } => "_file_recv",
            Command::MasterOpts { .. } => "_master_opts",
            Command::MasterTops { .. } => "_master_tops",
            Command::Mine { .. } => "_mine",
            Command::MineDelete { .. } => "_mine_delete",
            Command::MineFlush => "_mine_flush",
            Command::MineGet { .. } => "_mine_get",
            Command::MinionEvents(_) => "_minion_event",
            Command::Pillar(_) => "_pillar",
            Command::Publish(Waits::No, _) => "minion_pub",
            Command::Publish(Waits::Yes, _) => "minion_publish",
            Command::PublishReturns { .. } => "pub_ret",
            Command::RegisterResources { .. } => "_register_resources",
            Command::Return(_) => "_return",
            Command::RevokeAuth { .. } => "revoke_auth",
            Command::Runner(_) => "minion_runner",
            Command::ServeFile { .. } => "_serve_file",
            Command::SyndicReturn(_) => "_syndic_return",
        }
    }

    /// Reads the command of a proven request.
    pub fn decode(request: &Verified<MinionRequest>) -> Result<Command, BadCommand> {
        Command::from_load(&request.get().load)
    }

    /// Reads a command from a load whose sender is proven otherwise: by the native wire's session.
    pub fn from_load(load: &Map) -> Result<Command, BadCommand> {
        let load = Load(load);
        let cmd = load.text("cmd")?;
        if let Some(listing) = LISTINGS.into_iter().find(|listing| listing.name() == cmd) {
            return Ok(Command::FileList {
                listing,
                saltenv: load.text_or("saltenv", "base"),
                prefix: load.text_or("prefix", ""),
            });
        }
        if let Some(query) = QUERIES.into_iter().find(|query| query.name() == cmd) {
            return Ok(Command::File(query, load.file()?));
        }
        load.command(&cmd)
    }

    /// Returns the load that asks this, in the order in which Salt's modules write it.
    pub fn to_load(&self, id: &MinionId) -> Map {
        let cmd = self.name();
        match self {
            Command::File(_, file) => {
                map! { "path" => file.path.as_str(), "saltenv" => file.saltenv.as_str(), "cmd" => cmd }
            }
            Command::FileEnvs => map! { "cmd" => cmd },
            Command::FileList { saltenv, prefix, .. } => {
                map! { "saltenv" => saltenv.as_str(), "prefix" => prefix.as_str(), "cmd" => cmd }
            }
            Command::FileReceive { path, size, loc, data } => map! {
                "cmd" => cmd,
                "id" => id,
                "path" => path.clone(),
                "size" => *size,
                "loc" => *loc,
                "data" => Value::Bytes(data.clone()),
            },
            Command::MasterOpts { env_only: false } => map! { "cmd" => cmd },
            Command::MasterOpts { env_only: true } => map! { "cmd" => cmd, "env_only" => true },
            Command::MasterTops { opts } => map! { "opts" => opts.clone(), "cmd" => cmd },
            Command::Mine { data, clear } => {
                map! { "cmd" => cmd, "data" => data.clone(), "id" => id, "clear" => *clear }
            }
            Command::MineDelete { fun } => map! { "cmd" => cmd, "fun" => fun.as_str(), "id" => id },
            Command::MineFlush => map! { "cmd" => cmd, "id" => id },
            Command::MineGet { tgt, tgt_type, fun } => map! {
                "cmd" => cmd,
                "id" => id,
                "tgt" => tgt.clone(),
                "fun" => fun.clone(),
                "tgt_type" => tgt_type.as_str(),
            },
            Command::PublishReturns { jid } => map! { "cmd" => cmd, "id" => id, "jid" => jid.as_str() },
            Command::RegisterResources { resources, resource_grains } => map! {
                "cmd" => cmd,
                "id" => id,
                "resources" => resources.clone(),
                "resource_grains" => resource_grains.clone(),
            },
            Command::RevokeAuth { preserve_minion_cache } => map! {
                "cmd" => cmd,
                "id" => id,
                "preserve_minion_cache" => *preserve_minion_cache,
            },
            Command::ServeFile { file, loc, gzip } => {
                let (path, saltenv) = (file.path.as_str(), file.saltenv.as_str());
                let mut load = map! { "path" => path, "saltenv" => saltenv, "cmd" => cmd, "loc" => *loc };
                if let Some(level) = gzip {
                    load.set("gzip", *level);
                }
                load
            }
            Command::SyndicReturn(returns) => {
                map! { "cmd" => cmd, "load" => returns.clone(), "id" => id }
            }
            Command::MinionEvents(load)
            | Command::Pillar(load)
            | Command::Publish(_, load)
            | Command::Return(load)
            | Command::Runner(load) => load.clone(),
        }
    }
}

/// Returns the events of a `_minion_event` load as they are fired: tag and data (salt-wire.md §5.5). In the single form
/// the data is the whole load. An event without a tag, and a load of neither form, is nothing.
pub fn events(load: &Map) -> Vec<(&str, Map)> {
    match (load.at("events"), load.text("tag")) {
        (Some(Value::List(events)), _) => events.iter().filter_map(event).collect(),
        (_, Some(tag)) if load.at("data").is_some() => vec![(tag, load.clone())],
        _ => Vec::new(),
    }
}

fn event(event: &Value) -> Option<(&str, Map)> {
    let event = event.as_map()?;
    let data = event.at("data").map_or(Some(event), Value::as_map)?;
    Some((event.text("tag")?, data.clone()))
}

const LISTINGS: [Listing; 4] = [Listing::Dirs, Listing::EmptyDirs, Listing::Files, Listing::Symlinks];
const QUERIES: [FileQuery; 3] = [FileQuery::Find, FileQuery::Hash, FileQuery::HashAndStat];

/// A load whose fields are asked for by name.
struct Load<'a>(&'a Map);

impl Load<'_> {
    fn command(&self, cmd: &str) -> Result<Command, BadCommand> {
        Ok(match cmd {
            "_file_envs" => Command::FileEnvs,
            "_file_recv" => self.file_receive()?,
            "_master_opts" => Command::MasterOpts { env_only: self.flag("env_only") },
            "_master_tops" => Command::MasterTops { opts: self.map("opts")? },
            "_mine" => Command::Mine { data: self.map("data")?, clear: self.flag("clear") },
            "_mine_delete" => Command::MineDelete { fun: self.text("fun")? },
            "_mine_flush" => Command::MineFlush,
            "_mine_get" => Command::MineGet {
                tgt: self.value("tgt")?,
                tgt_type: self.text_or("tgt_type", "glob"),
                fun: self.value("fun")?,
            },
            "_minion_event" => Command::MinionEvents(self.0.clone()),
            "_pillar" => self.whole(&["grains"], Command::Pillar)?,
            "_register_resources" => Command::RegisterResources {
                resources: self.map("resources")?,
                resource_grains: self.map("resource_grains")?,
            },
            "_return" => self.whole(&["jid", "return"], Command::Return)?,
            "_serve_file" => {
                Command::ServeFile { file: self.file()?, loc: self.number("loc")?, gzip: self.number("gzip").ok() }
            }
            "_syndic_return" => self.syndic_return(),
            "minion_pub" => self.whole(&["fun", "tgt"], |load| Command::Publish(Waits::No, load))?,
            "minion_publish" => self.whole(&["fun", "tgt"], |load| Command::Publish(Waits::Yes, load))?,
            "minion_runner" => self.whole(&["fun"], Command::Runner)?,
            "pub_ret" => Command::PublishReturns { jid: self.text("jid")? },
            "revoke_auth" => Command::RevokeAuth { preserve_minion_cache: self.flag("preserve_minion_cache") },
            "verify_minion" => return Err(BadCommand::Uncallable),
            _ => return Err(BadCommand::Unknown),
        })
    }

    fn file(&self) -> Result<FileRef, BadCommand> {
        Ok(FileRef { path: self.text("path")?, saltenv: self.text_or("saltenv", "base") })
    }

    /// A path must stay below the minion's own folder, whoever looks at it next.
    fn file_receive(&self) -> Result<Command, BadCommand> {
        const BAD_PATH: BadCommand = BadCommand::Field("path");
        let parts = self.0.at("path").and_then(Value::as_list).filter(|parts| !parts.is_empty()).ok_or(BAD_PATH)?;
        let part = |part: &Value| part.as_str().filter(|part| is_plain(part)).map(str::to_owned).ok_or(BAD_PATH);
        Ok(Command::FileReceive {
            path: parts.iter().map(part).collect::<Result<_, _>>()?,
            size: self.number("size")?,
            loc: self.number("loc")?,
            data: bytes(self.0, "data").ok_or(BadCommand::Field("data"))?.to_vec(),
        })
    }

    /// What is no map has no place among the entries, and one damaged entry takes no other with it.
    fn syndic_return(&self) -> Command {
        Command::SyndicReturn(match self.0.at("load") {
            Some(Value::List(entries)) => entries.iter().filter_map(Value::as_map).cloned().collect(),
            // An old syndic sends one job at a time, and what was published as its `load`.
            _ => vec![self.0.clone()],
        })
    }

    fn whole(&self, needs: &[&'static str], make: fn(Map) -> Command) -> Result<Command, BadCommand> {
        match needs.iter().find(|name| self.0.at(name).is_none()) {
            Some(missing) => Err(BadCommand::Field(missing)),
            None => Ok(make(self.0.clone())),
        }
    }

    fn value(&self, name: &'static str) -> Result<Value, BadCommand> {
        self.0.at(name).cloned().ok_or(BadCommand::Field(name))
    }

    fn text(&self, name: &'static str) -> Result<String, BadCommand> {
        self.0.text(name).map(str::to_owned).ok_or(BadCommand::Field(name))
    }

    fn text_or(&self, name: &str, default: &str) -> String {
        self.0.text(name).unwrap_or(default).to_owned()
    }

    fn map(&self, name: &'static str) -> Result<Map, BadCommand> {
        self.0.at(name).and_then(Value::as_map).cloned().ok_or(BadCommand::Field(name))
    }

    fn number(&self, name: &'static str) -> Result<u64, BadCommand> {
        self.0.at(name).and_then(Value::as_u64).ok_or(BadCommand::Field(name))
    }

    fn flag(&self, name: &str) -> bool {
        self.0.at(name).is_some_and(Value::is_truthy)
    }
}

fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(['/', '\\', '\0'])
}
