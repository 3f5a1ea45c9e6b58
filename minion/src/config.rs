//! The configuration: `CONFDIR/minion` and `CONFDIR/minion.d/*.conf`, Salt's options under Salt's names, one struct.
//!
//! Nothing is taken silently: an option of the wrong kind is an error with file, line and column; one that this version does
//! not support, or does not know, is a warning that says so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::ids::{BadMinionId, MinionId};
use proto::keys::PublicKey;
use proto::value::{Map, MapExt, Value};
use transport::Heartbeat;

use crate::link::{Demands, Pace};

mod files;
mod identity;
mod keys;
mod reader;
mod salt;

pub use files::{Files, FilesError, Fingerprint, fingerprint};
pub use reader::OptionError;
pub use salt::{ONLY as SALT_OPTIONS, SaltOptions, Wire};

use keys::Meaning;
use reader::Reader;

/// Where the configuration lies unless `-c` says otherwise.
pub const DEFAULT_FOLDER: &str = "/etc/halite";
const REQUEST_PORT: u16 = 4506;
const PUBLISH_PORT: u16 = 4505;

/// What the command line says over the files.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--id`.
    pub id: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--master`.
    pub master: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The id cannot be one.
    #[error("{place}: id: {id:?} cannot be a minion's id")]
    Id {
        /// Where it comes from.
        place: String,
        /// The id.
        id: String,
        /// What is wrong with it.
        source: BadMinionId,
    },
    /// An option cannot be used.
    #[error(transparent)]
    Option(#[from] OptionError),
}

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// `recon_default`, `recon_max`: how fast to come back to a master that cannot be reached: the first delay and the longest,
    /// in milliseconds. Defaults: 500 and 8000.
    pub pace: Pace,
    /// `autosign_grains`: names of grains that vouch for a pending key. Default: none.
    pub autosign_grains: Vec<String>,
    /// `beacons`: the beacons and their options. Default: none.
    pub beacons: Map,
    /// `beacons_before_connect`: whether beacons look before the first session. Default: False.
    pub beacons_before_connect: bool,
    /// `cachedir`: the folder for what may be lost. Default: `var/cache/halite/minion` under `root_dir`.
    pub cachedir: PathBuf,
    /// `-c`: the folder of this configuration. Default: [`DEFAULT_FOLDER`].
    pub folder: PathBuf,
    /// `event_send_timeout`: how long a call waits for the master, in seconds. Default: 60.
    pub call_timeout: Duration,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// `grains`: grains that an administrator sets. Default: none.
    pub grains: Map,
    /// How often to ping a silent master and when to give it up, before it has said how often it does. Not configurable:
    /// 15 s and 45 s.
    pub heartbeat: Heartbeat,
    /// `id`: the minion's id. Default: the file `minion_id` beside the configuration, else the host's name in full.
    pub id: MinionId,
    /// Whether the id was generated because none is configured.
    pub id_is_generated: bool,
    /// `job_deadline`: how long one job may run, in seconds. Default: 86400.
    pub job_deadline: Option<Duration>,
    /// `enable_legacy_startup_events`: whether `minion_start` is fired beside `salt/minion/<id>/start`. Default: True.
    pub legacy_start_event: bool,
    /// `log_format`: `text` or `json`. Default: `text`.
    pub log_format: Option<String>,
    /// `log_level`: Salt's names; default `info`.
    pub log_level: String,
    /// `loop_interval`: how often a beacon without `interval` looks, in seconds. Default: 1.
    pub loop_interval: Duration,
    /// `master`: the master's host name or address, with a port if it is not `master_port`. Default: `salt`.
    pub master: String,
    /// `master_key`, `master_finger`: what the master's key must be: the key itself as PEM or base64, or Salt's fingerprint of
    /// it. Default: the first key seen is pinned.
    pub master_demands: Demands,
    /// `max_jobs`: how many jobs run at once. Default: the executor's.
    pub max_jobs: Option<usize>,
    /// `max_return_size`: how long a return may be, in bytes. Default: the executor's.
    pub max_return_size: Option<usize>,
    /// `mine_enabled`, `mine_interval`: how often the master is told the mine, in minutes; not at all if it is not enabled.
    /// Defaults: True and 60.
    pub mine_interval: Option<Duration>,
    /// All options as modules see them (`config.get`): the files' options over the values of the fields here.
    pub options: Map,
    /// `pki_dir`: the folder of keys. Default: `etc/halite/pki/minion` under `root_dir`.
    pub pki_dir: PathBuf,
    /// `publish_port`: the master's port of publications. Default: 4505.
    pub publish_port: u16,
    /// `random_startup_delay`: the longest delay before the first connection, in seconds. Default: 0.
    pub random_startup_delay: Duration,
    /// `master_port`: the master's port of requests. Default: 4506.
    pub request_port: u16,
    /// `root_dir`: the folder that relative and default paths are under. Default: `/`.
    pub root_dir: PathBuf,
    /// `sock_dir`: the folder of sockets. Default: `var/run/halite/minion` under `root_dir`.
    pub sock_dir: PathBuf,
    /// `spool_max_age`: how long an event is kept for a master that is away, in seconds. Default: the spool's, a week.
    pub spool_max_age: Option<Duration>,
    /// `spool_max_bytes`: how many bytes of events are kept for it, bare or with a unit. Default: the spool's, 16 MiB.
    pub spool_max_bytes: Option<u64>,
    /// `start_event_grains`: names of grains that the start event carries. Default: none.
    pub start_event_grains: Vec<String>,
    /// `waiting_jobs`: how many more jobs may wait for their turn. Default: the executor's.
    pub waiting_jobs: Option<usize>,
    /// What an administrator should know about the files.
    pub warnings: Vec<String>,
    /// `wire`: what the master speaks: `native` or `salt`. Default: `native`.
    pub wire: Wire,
    /// Where each beacon's configuration stands, by its name.
    pub beacon_places: Vec<(String, String)>,
}

impl Config {
    /// Reads the configuration of a folder.
    pub fn load(folder: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
        let mut files = Files::read(folder)?;
        for (option, value) in
            [("id", &overrides.id), ("log_level", &overrides.log_level), ("master", &overrides.master)]
        {
            if let Some(value) = value {
                files.options.set(option, value.as_str());
            }
        }
        let reader = Reader::new(&files);
        let mut warnings = warnings(&files);
        if files.read.is_empty() {
            warnings.push(format!("no configuration in {}; all options have their defaults", folder.display()));
        }
        let root_dir = reader.path("root_dir")?.unwrap_or_else(|| PathBuf::from("/"));
        let under = |option: &str, default: &str| -> Result<PathBuf, OptionError> {
            // An absolute path is moved under the root as well, as in Salt, unless it is there already.
            let path = reader.path(option)?.unwrap_or_else(|| PathBuf::from(default));
            let inside = path.strip_prefix("/").map_or(path.clone(), Path::to_owned);
            Ok(if path.starts_with(&root_dir) { path } else { root_dir.join(inside) })
        };
        let address = master(&reader, &mut warnings)?;
        let mut config = Config {
            pace: pace(&reader)?,
            autosign_grains: reader.texts("autosign_grains")?,
            beacons: beacons(&reader)?,
            beacons_before_connect: reader.flag("beacons_before_connect", false)?,
            cachedir: under("cachedir", "var/cache/halite/minion")?,
            folder: folder.to_owned(),
            call_timeout: seconds(reader.number("event_send_timeout", 1, 86_400)?, 60),
            files: files.read.clone(),
            grains: reader.map("grains")?,
            heartbeat: Heartbeat::default(),
            id: id(&reader, folder)?,
            id_is_generated: reader.value("id").is_none(),
            job_deadline: reader.number("job_deadline", 1, 31_536_000)?.map(Duration::from_secs),
            legacy_start_event: reader.flag("enable_legacy_startup_events", true)?,
            log_format: log_format(&reader)?,
            log_level: log_level(&reader)?,
            loop_interval: seconds(reader.number("loop_interval", 1, 3_600)?, 1),
            master: address.host,
            master_demands: demands(&reader)?,
            max_jobs: count(reader.number("max_jobs", 1, 1_024)?),
            max_return_size: count(reader.number("max_return_size", 1_024, 15 << 20)?),
            mine_interval: mine_interval(&reader)?,
            options: Map::new(),
            pki_dir: under("pki_dir", "etc/halite/pki/minion")?,
            publish_port: port(&reader, "publish_port")?.unwrap_or(PUBLISH_PORT),
            random_startup_delay: seconds(reader.number("random_startup_delay", 0, 86_400)?, 0),
            request_port: address.port.or(port(&reader, "master_port")?).unwrap_or(REQUEST_PORT),
            sock_dir: under("sock_dir", "var/run/halite/minion")?,
            root_dir: root_dir.clone(),
            spool_max_age: reader.number("spool_max_age", 60, 31_536_000)?.map(Duration::from_secs),
            spool_max_bytes: reader.bytes("spool_max_bytes", 65_536, 1 << 34)?,
            start_event_grains: reader.texts("start_event_grains")?,
            waiting_jobs: count(reader.number("waiting_jobs", 0, 65_536)?),
            warnings,
            wire: salt::wire(&reader)?,
            beacon_places: Vec::new(),
        };
        config.beacon_places = places(&reader, &config.beacons);
        config.options = options(&files.options, &config);
        Ok(config)
    }

    /// Returns where a beacon is configured.
    pub fn beacon_place(&self, beacon: &str) -> &str {
        let found = self.beacon_places.iter().find(|(name, _)| name == beacon);
        found.map_or("the configuration", |(_, place)| place)
    }

    /// Keeps a generated id for the next start, as Salt does. Best effort: without it, the id is generated again.
    pub fn remember_id(&self) {
        let wanted = self.options.at("minion_id_caching").and_then(Value::as_bool) != Some(false);
        if wanted && self.id_is_generated {
            identity::remember(&self.folder, &self.id);
        }
    }
}

fn seconds(given: Option<u64>, default: u64) -> Duration {
    Duration::from_secs(given.unwrap_or(default))
}

fn count(given: Option<u64>) -> Option<usize> {
    given.and_then(|number| usize::try_from(number).ok())
}

fn port(reader: &Reader<'_>, option: &str) -> Result<Option<u16>, OptionError> {
    Ok(reader.number(option, 1, 65_535)?.and_then(|port| u16::try_from(port).ok()))
}

fn mine_interval(reader: &Reader<'_>) -> Result<Option<Duration>, OptionError> {
    let minutes = reader.number("mine_interval", 1, 525_600)?.unwrap_or(60);
    Ok(reader.flag("mine_enabled", true)?.then(|| Duration::from_secs(60 * minutes)))
}

fn pace(reader: &Reader<'_>) -> Result<Pace, OptionError> {
    let default = Pace::default();
    let ms = |option| Ok(reader.number(option, 1, 3_600_000)?.map(Duration::from_millis));
    let (first, max) = (ms("recon_default")?.unwrap_or(default.first), ms("recon_max")?.unwrap_or(default.max));
    Ok(Pace { first: first.min(max), max })
}

/// The master's address as it was written.
struct Address {
    host: String,
    port: Option<u16>,
}

/// Reads `master`: a host, `host:port`, `[v6]:port`, or a list, of which the first counts.
fn master(reader: &Reader<'_>, warnings: &mut Vec<String>) -> Result<Address, OptionError> {
    let value = match reader.value("master") {
        None => return Ok(Address { host: "salt".to_owned(), port: None }),
        Some(Value::List(masters)) if !masters.is_empty() => {
            if masters.len() > 1 {
                let place = reader.place(&["master"]);
                warnings.push(format!(
                    "{place}: master: several masters are not supported by this version; the first is used"
                ));
            }
            &masters[0]
        }
        Some(one) => one,
    };
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| reader.wrong("master", "a host name or address", value))?.trim();
    split_address(text).ok_or_else(|| reader.wrong("master", "a host name or address, or host:port", value))
}

fn split_address(text: &str) -> Option<Address> {
    let whole = |host: &str| Some(Address { host: host.to_owned(), port: None });
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => whole(host),
            None => None,
            Some(port) => Some(Address { host: host.to_owned(), port: Some(port.parse().ok()?) }),
        };
    }
    match text.split_once(':') {
        None => whole(text),
        // More than one colon: an IPv6 address.
        Some((_, rest)) if rest.contains(':') => whole(text),
        Some((host, port)) => Some(Address { host: host.to_owned(), port: Some(port.parse().ok()?) }),
    }
}

fn demands(reader: &Reader<'_>) -> Result<Demands, OptionError> {
    let key = match reader.text("master_key")? {
        None => None,
        Some(text) => {
            let key = match PublicKey::from_pem(&text) {
                Ok(PublicKey::X25519(key)) => Some(key),
                Ok(PublicKey::Rsa(_)) => None,
                Err(_) => bare_key(text.trim()),
            };
            let given = Value::from(text.as_str());
            Some(key.ok_or_else(|| {
                reader.wrong("master_key", "an X25519 public key as PEM or 44 letters of base64", &given)
            })?)
        }
    };
    Ok(Demands { key, finger: reader.text("master_finger")?.map(|finger| finger.trim().to_ascii_lowercase()) })
}

/// Reads a bare key in base64. The twelve bytes before it in a PEM body are whole letters of base64, so the key can be put
/// behind them as it is.
fn bare_key(text: &str) -> Option<[u8; 32]> {
    const SPKI_PREFIX: &str = "MCowBQYDK2VuAyEA";
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{SPKI_PREFIX}{text}\n-----END PUBLIC KEY-----");
    match PublicKey::from_pem(&pem) {
        Ok(PublicKey::X25519(key)) => Some(key),
        _ => None,
    }
}

fn beacons(reader: &Reader<'_>) -> Result<Map, OptionError> {
    match reader.value("beacons") {
        // Salt also takes a list of one-key maps here.
        Some(Value::List(items)) => {
            let mut beacons = Map::new();
            for item in items {
                let map = item.as_map().ok_or_else(|| reader.wrong("beacons", "a map of beacons", item))?;
                beacons.extend(map.clone());
            }
            Ok(beacons)
        }
        _ => reader.map("beacons"),
    }
}

fn places(reader: &Reader<'_>, beacons: &Map) -> Vec<(String, String)> {
    beacons.keys().map(|name| (name.to_key(), reader.place(&["beacons", &name.to_key()]))).collect()
}

fn log_format(reader: &Reader<'_>) -> Result<Option<String>, OptionError> {
    match reader.text("log_format")? {
        Some(format) if !matches!(format.as_str(), "json" | "text") => {
            Err(reader.wrong("log_format", "text or json", &format.as_str().into()))
        }
        format => Ok(format),
    }
}

/// Salt's names of levels; several are one here.
const LOG_LEVELS: [&str; 10] =
    ["all", "garbage", "trace", "debug", "profile", "info", "warning", "error", "critical", "quiet"];

fn log_level(reader: &Reader<'_>) -> Result<String, OptionError> {
    let Some(level) = reader.text("log_level")? else { return Ok("info".to_owned()) };
    let lower = level.to_ascii_lowercase();
    // `warn` is what most other programs call it.
    if LOG_LEVELS.contains(&lower.as_str()) || lower == "warn" {
        return Ok(lower);
    }
    Err(reader.wrong("log_level", &format!("one of {}", LOG_LEVELS.join(", ")), &level.as_str().into()))
}

fn id(reader: &Reader<'_>, folder: &Path) -> Result<MinionId, ConfigError> {
    let (place, mut id) = match reader.text("id")? {
        Some(id) => (reader.place(&["id"]), id),
        None => identity::generate(folder),
    };
    if reader.flag("minion_id_lowercase", false)? {
        id = id.to_lowercase();
    }
    if let Some(domain) = reader.value("minion_id_remove_domain") {
        id = identity::without_domain(&id, domain);
    }
    MinionId::parse(&id).map_err(|source| ConfigError::Id { place, id, source })
}

/// Says which options are not supported or not known.
fn warnings(files: &Files) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_native = files.options.text("wire") != Some("salt");
    for key in files.options.keys().map(Value::to_key) {
        let place = files.place(&[&key]).unwrap_or_else(|| "the command line".to_owned());
        match keys::meaning(&key) {
            Meaning::Read if is_native && salt::ONLY.contains(&key.as_str()) => {
                warnings.push(format!("{place}: option {key} counts with `wire: salt` alone"));
            }
            Meaning::Read => {}
            Meaning::Unknown(Some(known)) => {
                warnings.push(format!("{place}: unknown option {key}; did you mean {known}?"));
            }
            Meaning::Unknown(None) => {
                warnings.push(format!("{place}: unknown option {key}; only config.get sees it"));
            }
            Meaning::Unsupported => warnings.push(format!("{place}: option {key} is not supported by this version")),
        }
    }
    let user = files.options.text("user").unwrap_or("root");
    let own = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    if files.options.at("user").is_some() && own.as_deref() != Some(user) {
        let place = files.place(&["user"]).unwrap_or_default();
        warnings
            .push(format!("{place}: user: this version does not change users; start it as {user} (User= in its unit)"));
    }
    warnings
}

/// Builds what modules see: the fields' values under Salt's names, then everything the files say.
fn options(given: &Map, config: &Config) -> Map {
    let path = |path: &Path| path.display().to_string();
    let mut options = proto::map! {
        "id" => &config.id,
        "master" => config.master.as_str(),
        "master_port" => config.request_port,
        "publish_port" => config.publish_port,
        "root_dir" => path(&config.root_dir),
        "conf_dir" => path(&config.folder),
        "conf_file" => path(&config.folder.join("minion")),
        "default_include" => files::DEFAULT_INCLUDE,
        "log_level" => config.log_level.as_str(),
        "loop_interval" => config.loop_interval.as_secs(),
        "user" => "root",
    };
    for (key, value) in given {
        options.insert(key.clone(), value.clone());
    }
    // What was moved under the root, and the id without its domain, count as they are now.
    options.set("id", &config.id);
    for (option, folder) in
        [("pki_dir", &config.pki_dir), ("cachedir", &config.cachedir), ("sock_dir", &config.sock_dir)]
    {
        options.set(option, path(folder));
    }
    options
}

#[cfg(test)]
mod tests;
