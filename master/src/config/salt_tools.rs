//! The options of what Salt's own tools find on the master's host: `ipc_framing`, `salt_sock_dir_prefixed`,
//! `max_event_size`, `salt_files`, `keep_jobs_seconds`, `clear_commands_from`. They count with `salt_listener: true`.

use proto::target::ipcidr::Cidr;
use proto::value::{MapExt as _, Value};

use super::{ConfigError, Options, Paths};
use crate::salt::tools::events::{EventSocketsConfig, FramingPolicy};
use crate::salt::tools::files::SaltFilesConfig;

/// The smallest `max_event_size`: below it, nothing of an event is left.
const MIN_EVENT: usize = 1024;
/// Salt's own limit of an event.
const MAX_EVENT: usize = 1_048_576;
/// How many networks `clear_commands_from` may name.
const MAX_NETWORKS: usize = 1_000;

/// What Salt's tools find on the master's host.
#[derive(Debug, Clone)]
pub struct SaltToolsConfig {
    /// The sockets of events.
    pub sockets: EventSocketsConfig,
    /// The files; none with `salt_files: false`.
    pub files: Option<SaltFilesConfig>,
    /// Who may send commands in the clear besides the host itself.
    pub clear_from: Vec<Cidr>,
}

/// Reads the options; nothing without the Salt listener.
pub(super) fn read(options: &Options<'_>, paths: &Paths) -> Result<Option<SaltToolsConfig>, ConfigError> {
    let listens = options.flag("salt_listener", false)?;
    let framing = match options.text("ipc_framing")? {
        None => FramingPolicy::Auto,
        Some(name) => {
            FramingPolicy::parse(&name).ok_or_else(|| options.wrong("ipc_framing", "auto, stream or prefixed"))?
        }
    };
    let max_event_size = options.number("max_event_size")?.unwrap_or(MAX_EVENT);
    if max_event_size < MIN_EVENT {
        return Err(options.wrong("max_event_size", "at least 1024 bytes"));
    }
    let keep_jobs = options.span("keep_jobs_seconds", 86_400)?;
    let files = SaltFilesConfig {
        cachedir: paths.cachedir.clone(),
        facts: options.flag("minion_data_cache", true)?,
        keep_jobs: Some(keep_jobs).filter(|keep| !keep.is_zero()),
    };
    let prefixed_dir = paths.optional(options, "salt_sock_dir_prefixed")?;
    if prefixed_dir.as_ref() == Some(&paths.sock_dir) {
        let expected = "another directory than sock_dir (ipc_framing: prefixed is for that)";
        return Err(options.wrong("salt_sock_dir_prefixed", expected));
    }
    let config = SaltToolsConfig {
        sockets: EventSocketsConfig { sock_dir: paths.sock_dir.clone(), framing, prefixed_dir, max_event_size },
        files: options.flag("salt_files", listens)?.then_some(files),
        clear_from: networks(options)?,
    };
    Ok(listens.then_some(config))
}

fn networks(options: &Options<'_>) -> Result<Vec<Cidr>, ConfigError> {
    let wrong = || options.wrong("clear_commands_from", "a list of addresses and networks (10.0.0.5, 10.1.0.0/16)");
    let items = match options.map.at("clear_commands_from") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::List(items)) => items.clone(),
        Some(Value::Str(one)) => vec![one.as_str().into()],
        Some(_) => return Err(wrong()),
    };
    if items.len() > MAX_NETWORKS {
        return Err(wrong());
    }
    items.iter().map(|item| item.as_str().and_then(|text| Cidr::parse(text).ok()).ok_or_else(wrong)).collect()
}
