//! The options of what minions ask: file server, pillar, mine, peer publishing.

use std::path::PathBuf;
use std::sync::Arc;

use proto::target::nodegroup::Nodegroups;
use proto::value::{Map, MapExt, Value};

use super::{ConfigError, Options, Paths};
use crate::fileserver::{FileServerConfig, HashType, Ignored, MAX_PIECE, Roots};
use crate::pillar::{Lists, PillarConfig, Strategy, find_source};
use crate::requests::{RequestsConfig, Rights};

/// What Salt calls the file server's one source here.
const FILE_ROOTS: [&str; 2] = ["roots", "file"];

/// What else the options depend on.
pub(super) struct Around<'a> {
    pub(super) paths: &'a Paths,
    pub(super) opts: &'a Map,
    pub(super) nodegroups: &'a Nodegroups,
}

/// Reads them; what is not supported is told.
pub(super) fn read(
    options: &Options<'_>,
    around: &Around<'_>,
    warnings: &mut Vec<String>,
) -> Result<RequestsConfig, ConfigError> {
    let opts = Arc::new(around.opts.clone());
    let rights = |key| match options.map.at(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => Rights::read(value).map(Some).map_err(|_| {
            options.wrong(key, "a map of regular expressions over ids to lists of regular expressions over functions")
        }),
    };
    let largest: u32 = options.number("file_recv_max_size")?.unwrap_or(100);
    let receive = options.flag("file_recv", false)?.then(|| u64::from(largest) * 1024 * 1024);
    Ok(RequestsConfig {
        cachedir: around.paths.cachedir.clone(),
        peer: rights("peer")?,
        peer_run: rights("peer_run")?,
        mine_get: rights("mine_get")?,
        receive,
        files: files(options, warnings)?,
        pillar: pillar(options, around, warnings)?,
        opts,
    })
}

/// The directories of an environment's files (`file_roots`, `pillar_roots`).
pub(super) fn roots(options: &Options<'_>, key: &'static str, default: &str) -> Result<Roots, ConfigError> {
    match options.map.at(key) {
        None | Some(Value::Null) => Ok(Roots::base(vec![PathBuf::from(default)])),
        Some(value) => {
            Roots::read(value).ok_or_else(|| options.wrong(key, "a map of environments to lists of directories"))
        }
    }
}

fn files(options: &Options<'_>, warnings: &mut Vec<String>) -> Result<FileServerConfig, ConfigError> {
    for name in options.texts("fileserver_backend")?.iter().flat_map(|text| text.split(',')).map(str::trim) {
        if !FILE_ROOTS.contains(&name) {
            warnings.push(format!(
                "fileserver_backend: {name} is not supported; minions get the files of file_roots, and no others"
            ));
        }
    }
    let hash_type = options.text("hash_type")?.unwrap_or_else(|| "sha256".into());
    let hash_type = HashType::parse(&hash_type).ok_or_else(|| {
        options.wrong("hash_type", "sha256, sha384, sha512 or sha1 (md5 and sha224 are not supported)")
    })?;
    let piece: usize = options.number("file_buffer_size")?.unwrap_or(262_144);
    if !(1..=MAX_PIECE).contains(&piece) {
        return Err(options.wrong("file_buffer_size", "a number of bytes from 1 to 8388608"));
    }
    let ignored = Ignored::new(&options.texts("file_ignore_glob")?, &options.texts("file_ignore_regex")?)
        .map_err(|_| options.wrong("file_ignore_regex", "a list of regular expressions"))?;
    Ok(FileServerConfig {
        roots: Arc::new(roots(options, "file_roots", "/srv/salt")?),
        ignored,
        hash_type,
        piece,
        follow_links: options.flag("fileserver_followsymlinks", true)?,
        ignore_links: options.flag("fileserver_ignoresymlinks", false)?,
        list_age: options.span("fileserver_list_cache_time", 20)?,
    })
}

fn pillar(options: &Options<'_>, around: &Around<'_>, warnings: &mut Vec<String>) -> Result<PillarConfig, ConfigError> {
    let strategy = match options.text("pillar_source_merging_strategy")? {
        None => Strategy::default(),
        Some(name) => Strategy::parse(&name).unwrap_or_else(|| {
            warnings.push(format!(
                "pillar_source_merging_strategy: {name} is not supported and read as recurse; known are aggregate, none, \
                 overwrite, recurse, smart"
            ));
            Strategy::Recurse
        }),
    };
    let top = options.text("state_top")?.unwrap_or_else(|| "top.sls".into());
    let join = options.flag("pillar_merge_lists", false)?;
    Ok(PillarConfig {
        roots: Arc::new(roots(options, "pillar_roots", "/srv/pillar")?),
        top: top.strip_prefix("salt://").unwrap_or(&top).trim_start_matches('/').to_owned(),
        strategy,
        lists: if join { Lists::Join } else { Lists::Replace },
        includes_override: options.flag("pillar_includes_override_sls", false)?,
        env_from_saltenv: options.flag("pillarenv_from_saltenv", false)?,
        env_order: options.texts("env_order")?,
        safe_errors: options.flag("pillar_safe_render_error", true)?,
        ext: ext(options, warnings)?,
        ext_first: options.flag("ext_pillar_first", false)?,
        master_opts: options.flag("pillar_opts", false)?,
        cache: options.flag("minion_data_cache", true)?,
        nodegroups: around.nodegroups.clone(),
        opts: Arc::new(around.opts.clone()),
    })
}

/// The further sources of pillar. One that this version has not is told and left out: the pillar is then not whole.
fn ext(
    options: &Options<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static crate::pillar::Source, String)>, ConfigError> {
    const SHAPE: &str = "a list of one-key maps: - cmd_yaml: COMMAND";
    let wrong = || options.wrong("ext_pillar", SHAPE);
    let mut sources = Vec::new();
    let listed = match options.map.at("ext_pillar") {
        None | Some(Value::Null) => &[][..],
        Some(value) => value.as_list().ok_or_else(wrong)?,
    };
    for (name, command) in
        listed.iter().map(|one| one.as_map().ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let name = name.to_key();
        match find_source(&name) {
            Some(source) => sources.push((source, command.as_str().ok_or_else(wrong)?.to_owned())),
            None => warnings.push(format!(
                "ext_pillar {name} is not supported: what it says is missing in every pillar; known are cmd_json and cmd_yaml"
            )),
        }
    }
    Ok(sources)
}
