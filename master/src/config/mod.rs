//! The master's configuration: `CONFDIR/master` and `CONFDIR/master.d/*.conf`, YAML with Salt's keys, as one struct of
//! room configurations. Only this file reads them.
//!
//! ```yaml
//! interface: 0.0.0.0
//! publish_port: 4505
//! ret_port: 4506
//! reactor:
//!   - 'salt/beacon/*/sh/*':
//!     - /srv/reactor/sh.sls
//! ```

mod guards;
mod jobs;
mod keys;
mod known;
mod log;
mod requests;
mod salt;
mod salt_tools;
mod shown;
mod watch;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::target::nodegroup::{BadNodegroup, Nodegroups};
use proto::value::{Map, MapExt, Value};
use render::yaml;

use crate::bus::BusConfig;
use crate::jobs::JobsConfig;
use crate::keys::KeysConfig;
use crate::presence::PresenceConfig;
use crate::reactor::ReactorConfig;
use crate::requests::RequestsConfig;
use crate::salt::SaltConfig;

pub use salt_tools::SaltToolsConfig;
pub use watch::ConfigWatch;

/// Where the configuration lies when nobody says.
pub const DEFAULT_CONFDIR: &str = "/etc/halite";
/// The largest configuration file that is read.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// How many files `master.d` may hold.
const MAX_FILES: usize = 1_000;

/// Why the configuration cannot be used. Begins with file, line and column where there is one, as the minion's does.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: cannot be read; check that it is UTF-8 text and that this user may read it")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML.
    #[error(transparent)]
    Yaml(#[from] yaml::YamlError),
    /// A file does not hold a map of options.
    #[error("{path}:1:1: expected a map of options (`key: value` lines), found {found}")]
    Shape {
        /// The file.
        path: String,
        /// What it holds instead.
        found: &'static str,
    },
    /// An option has a value of the wrong kind.
    #[error("{place}: {key}: expected {expected}, found {found}")]
    Option {
        /// File, line and column.
        place: String,
        /// The option.
        key: &'static str,
        /// What is expected.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
    },
    /// The nodegroups have the wrong form.
    #[error("{place}")]
    Nodegroups {
        /// File, line and column.
        place: String,
        /// What is wrong.
        source: BadNodegroup,
    },
    /// The reactor's rules are wrong.
    #[error(transparent)]
    Reactor(#[from] yaml::PairError),
}

/// The whole configuration of a master.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub confdir: PathBuf,
    /// The master's name (`id`, default `<host>_master`).
    pub id: String,
    /// The address to listen on (`interface`, default all IPv4 addresses).
    pub interface: IpAddr,
    /// The port of publications (`publish_port`, default 4505).
    pub publish_port: u16,
    /// The port of requests (`ret_port`, default 4506).
    pub ret_port: u16,
    /// Where the sockets lie (`sock_dir`, default `/var/run/halite/master`).
    pub sock_dir: PathBuf,
    /// Where the log and the caches lie (`cachedir`, default `/var/cache/halite/master`).
    pub cachedir: PathBuf,
    /// How often PING is sent, in seconds (`ping_interval_s`, default 15).
    pub ping: Duration,
    /// The Salt listener, where it is on (`salt_listener`, default off).
    pub salt: Option<SaltConfig>,
    /// The log level (`log_level`, default `info`).
    pub log_level: String,
    /// The keys.
    pub keys: KeysConfig,
    /// The bus.
    pub bus: BusConfig,
    /// The jobs.
    pub jobs: JobsConfig,
    /// The presence events.
    pub presence: PresenceConfig,
    /// The reactor.
    pub reactor: ReactorConfig,
    /// What minions ask: files, pillar, the mine.
    pub requests: RequestsConfig,
    /// What Salt's tools find on this host; nothing without the Salt listener.
    pub salt_tools: Option<SaltToolsConfig>,
    /// What is odd but does not stop the master, each with its remedy.
    pub warnings: Vec<String>,
}

/// What a command on the same host needs to reach the master.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where it was read from.
    pub confdir: PathBuf,
    /// Where the API socket lies.
    pub sock_dir: PathBuf,
    /// The configured timeout of commands (`timeout`, seconds, default 5).
    pub timeout: Duration,
    /// What is odd, each with its remedy.
    pub warnings: Vec<String>,
}

/// Reads the configuration of the daemon.
pub fn load(confdir: &Path) -> Result<Config, ConfigError> {
    let files = Files::read(confdir)?;
    let options = Options { map: &files.options, places: &files.places };
    let paths = Paths::of(&options)?;
    let (rules, mut warnings) = files.reactor()?;
    warnings.extend(known::warnings(&files.options));
    warnings.extend(files.notes.clone());
    let nodegroups = nodegroups(&options)?;
    warnings.extend(nodegroups.problems());
    let id = match options.text("id")? {
        Some(id) => id,
        None => format!("{}_master", hostname()),
    };
    // Salt's `opts` always has it.
    let mut opts = files.options.clone();
    opts.set("id", id.as_str());
    let shown = shown::options(&files.options, &paths, id.as_str());
    let around = requests::Around { paths: &paths, opts: &shown, nodegroups: &nodegroups };
    let requests = requests::read(&options, &around, &mut warnings)?;
    let syndics = salt::syndics(&options, &mut warnings)?;
    let salt = salt::read(&options, &paths, &id, &opts)?;
    Ok(Config {
        confdir: confdir.to_owned(),
        id,
        interface: options.parsed("interface", "an IP address")?.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        publish_port: options.number("publish_port")?.unwrap_or(4505),
        ret_port: options.number("ret_port")?.unwrap_or(4506),
        ping: options.seconds("ping_interval_s", 15)?,
        log_level: log_level(&options)?,
        keys: keys::read(&options, &paths)?,
        bus: log::read(&options, &paths)?,
        jobs: jobs::read(&options, &paths, nodegroups, syndics)?,
        presence: PresenceConfig {
            events: options.flag("presence_events", false)?,
            interval: options.seconds("loop_interval", 60)?,
        },
        reactor: ReactorConfig {
            rules,
            file_roots: Arc::new(requests::roots(&options, "file_roots", "/srv/salt")?),
            max_age: options.seconds("reactor_max_age", 600)?,
            guards: guards::read(&options)?,
            path: paths.cachedir.join("reactor.db"),
            opts: shown,
        },
        requests,
        salt,
        salt_tools: salt_tools::read(&options, &paths)?,
        sock_dir: paths.sock_dir,
        cachedir: paths.cachedir,
        warnings,
    })
}

/// Reads what a command needs. A missing configuration is not an error: the defaults hold. A broken file in `master.d`
/// is noted: the running master has refused it too, and `halite reload` is there to say why.
pub fn client(confdir: &Path) -> Result<ClientConfig, ConfigError> {
    let files = Files::read_with(confdir, |files, path| {
        if let Err(error) = files.add(path) {
            files.notes.push(format!("{:#}", anyhow::Error::from(error)));
        }
        Ok(())
    })?;
    let options = Options { map: &files.options, places: &files.places };
    let sock_dir = Paths::of(&options)?.sock_dir;
    let timeout = options.seconds("timeout", 5)?;
    Ok(ClientConfig { confdir: confdir.to_owned(), sock_dir, timeout, warnings: files.notes })
}

/// The files of a configuration, merged: later files win, key by key.
struct Files {
    options: Map,
    /// Where each option stands: file, line and column.
    places: HashMap<String, String>,
    /// The `reactor` option needs its positions: file, marks and value of the file that set it.
    reactor: Option<(String, Value, yaml::Marks)>,
    notes: Vec<String>,
}

impl Files {
    fn read(confdir: &Path) -> Result<Files, ConfigError> {
        Files::read_with(confdir, Files::add)
    }

    /// Reads the main file, and each of the others as told.
    fn read_with(
        confdir: &Path,
        mut add: impl FnMut(&mut Files, &Path) -> Result<(), ConfigError>,
    ) -> Result<Files, ConfigError> {
        let mut files = Files { options: Map::new(), places: HashMap::new(), reactor: None, notes: Vec::new() };
        let main = confdir.join("master");
        // A link that leads nowhere, and a folder that may not be looked into, are no missing file.
        if std::fs::symlink_metadata(&main).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            files.notes.push(format!("{} does not exist; the defaults hold", main.display()));
        } else {
            files.add(&main)?;
        }
        let dir = confdir.join("master.d");
        let mut extra: Vec<PathBuf> = match std::fs::read_dir(&dir) {
            Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).take(MAX_FILES).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ConfigError::Read { path: dir.display().to_string(), source }),
        };
        extra.retain(|path| path.extension().is_some_and(|end| end == "conf"));
        extra.sort();
        extra.iter().try_for_each(|path| add(&mut files, path))?;
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let text = read_text(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        // Seed 004's reactor.conf is printed with no-break spaces; a reactor's file is read as it was meant.
        let (text, repaired) =
            if text.contains("reactor:") { yaml::plain_spaces(&text, &name) } else { (text.as_str().into(), None) };
        self.notes.extend(repaired.map(|warning| warning.to_string()));
        let (value, marks) = yaml::load_marked(&text, &yaml::Source { name: &name })?;
        match value {
            Value::Null => {}
            Value::Map(map) => {
                for key in map.keys().filter_map(Value::as_str) {
                    let place =
                        marks.at(&[key]).map_or_else(|| name.clone(), |at| format!("{name}:{}:{}", at.line, at.column));
                    self.places.insert(key.to_owned(), place);
                }
                if let Some(reactor) = map.at("reactor") {
                    self.reactor = Some((name, reactor.clone(), marks));
                }
                self.options.extend(map);
            }
            other => return Err(ConfigError::Shape { path: name, found: other.kind() }),
        }
        Ok(())
    }

    fn reactor(&self) -> Result<(Vec<yaml::ReactorEntry>, Vec<String>), ConfigError> {
        let Some((file, value, marks)) = &self.reactor else { return Ok((Vec::new(), Vec::new())) };
        let (entries, warnings) = yaml::pair_reactor(value, file, marks)?;
        Ok((entries, warnings.iter().map(ToString::to_string).collect()))
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE {
        let text = format!("it has {size} bytes; a configuration file has at most {MAX_FILE}");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    }
    std::fs::read_to_string(path)
}

/// The directories, moved under `root_dir`.
struct Paths {
    root: PathBuf,
    pki_dir: PathBuf,
    cachedir: PathBuf,
    sock_dir: PathBuf,
}

impl Paths {
    fn of(options: &Options<'_>) -> Result<Paths, ConfigError> {
        let root = PathBuf::from(options.text("root_dir")?.unwrap_or_else(|| "/".into()));
        let place = |key, default: &str| -> Result<PathBuf, ConfigError> {
            Ok(moved(&root, options.text(key)?.unwrap_or_else(|| default.to_owned())))
        };
        Ok(Paths {
            pki_dir: place("pki_dir", "/etc/halite/pki/master")?,
            cachedir: place("cachedir", "/var/cache/halite/master")?,
            sock_dir: place("sock_dir", "/var/run/halite/master")?,
            root,
        })
    }

    /// Returns a path that has no default.
    fn optional(&self, options: &Options<'_>, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let given = options.text(key)?.filter(|path| !path.is_empty());
        Ok(given.map(|path| moved(&self.root, path)))
    }
}

/// As Salt does: a path that is under the root already stays, every other one moves there.
fn moved(root: &Path, path: String) -> PathBuf {
    let path = PathBuf::from(path);
    if path.starts_with(root) { path } else { root.join(path.strip_prefix("/").unwrap_or(&path)) }
}

/// Typed reading of options.
struct Options<'a> {
    map: &'a Map,
    places: &'a HashMap<String, String>,
}

impl Options<'_> {
    fn wrong(&self, key: &'static str, expected: impl Into<Cow<'static, str>>) -> ConfigError {
        let found = match self.map.at(key) {
            // The message goes into the log.
            Some(value) if shown::SECRETS.contains(&key) => value.kind().to_owned(),
            Some(value @ (Value::Bool(_) | Value::Float(_) | Value::Int(_) | Value::Str(_))) => format!("{value:?}"),
            other => other.unwrap_or(&Value::Null).kind().to_owned(),
        };
        let place = self.places.get(key).cloned().unwrap_or_default();
        ConfigError::Option { place, key, expected: expected.into(), found }
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.map.at(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text.clone())),
            Some(Value::Int(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(key, "text")),
        }
    }

    /// Reads a list of texts, or one.
    fn texts(&self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(key, "a list of texts"));
        match self.map.at(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::List(list)) => list.iter().map(text).collect(),
            Some(one) => Ok(vec![text(one)?]),
        }
    }

    fn has(&self, key: &'static str) -> bool {
        self.map.at(key).is_some_and(|value| *value != Value::Null)
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.map.at(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// Reads a whole number of an unsigned kind.
    fn number<T: TryFrom<i128>>(&self, key: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.map.at(key).filter(|value| **value != Value::Null) else { return Ok(None) };
        let read = if let Value::Int(number) = value { T::try_from(*number).ok() } else { None };
        read.map(Some).ok_or_else(|| {
            let most = u128::MAX >> (128 - 8 * size_of::<T>());
            self.wrong(key, format!("a whole number from 0 to {most}"))
        })
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        self.text(key)?.map(|text| text.parse().map_err(|_| self.wrong(key, expected))).transpose()
    }

    fn seconds(&self, key: &'static str, default: u64) -> Result<Duration, ConfigError> {
        match self.span(key, default)? {
            Duration::ZERO => Err(self.wrong(key, "a number of seconds above 0")),
            span => Ok(span),
        }
    }

    /// Reads seconds, where 0 means off.
    fn span(&self, key: &'static str, default: u64) -> Result<Duration, ConfigError> {
        /// No interval needs more than a year.
        const LONGEST_S: f64 = 366.0 * 86_400.0;
        match self.map.at(key) {
            None | Some(Value::Null) => Ok(Duration::from_secs(default)),
            Some(value) => match value.as_f64() {
                Some(seconds) if (0.0..=LONGEST_S).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
                _ => Err(self.wrong(key, "a number of seconds above 0")),
            },
        }
    }
}

/// The groups that targets may name (`nodegroups`). One that makes no sense is a warning: the others work.
fn nodegroups(options: &Options<'_>) -> Result<Nodegroups, ConfigError> {
    let place = || options.places.get("nodegroups").cloned().unwrap_or_default();
    let read = Nodegroups::read(options.map.at("nodegroups").unwrap_or(&Value::Null));
    read.map_err(|source| ConfigError::Nodegroups { place: place(), source })
}

/// Salt's names of levels, and `warn`, which is what most other programs call it.
const LOG_LEVELS: &[&str] =
    &["all", "garbage", "trace", "debug", "profile", "info", "warning", "warn", "error", "critical", "quiet"];

fn log_level(options: &Options<'_>) -> Result<String, ConfigError> {
    let level = options.text("log_level")?.unwrap_or_else(|| "info".to_owned()).to_ascii_lowercase();
    if LOG_LEVELS.contains(&level.as_str()) {
        return Ok(level);
    }
    Err(options.wrong("log_level", format!("one of {}", LOG_LEVELS.join(", "))))
}

fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests;
