//! The top files: which SLS files concern a minion.
//!
//! ```yaml
//! base:                       # an environment
//!   '*': [common]             # a target, compound unless `match` says otherwise
//!   'os:Debian':
//!     - match: grain
//!     - apt
//! ```

use std::collections::HashSet;

use indexmap::IndexMap;
use proto::map;
use proto::target::nodegroup::Nodegroups;
use proto::target::{BadTarget, DELIMITER, Facts, Target, TgtType};
use proto::value::{Map, MapExt, Value};

use super::compile::Compiler;

/// What Salt says of a top file that makes no sense.
const MALFORMED: &str = "Error encountered while rendering pillar top file.";
/// How many further top files one may include.
const MAX_INCLUDED: usize = 100;

/// The targets of one environment, in order.
type Targets = IndexMap<String, Entry>;

/// What stands under one target.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Entry {
    /// The type of the target, if it says one.
    matcher: Option<String>,
    order: i64,
    sls: Vec<String>,
}

/// The merged top files: targets by environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Top {
    envs: IndexMap<String, Targets>,
    /// Files that may be missing (`ignore_missing`), by environment.
    ignored: HashSet<(String, String)>,
}

impl Top {
    /// Tells whether a file may be missing.
    pub(super) fn ignores(&self, env: &str, sls: &str) -> bool {
        self.ignored.contains(&(env.to_owned(), sls.to_owned()))
    }

    fn merge(&mut self, top: &Map) -> Option<()> {
        for (env, targets) in top {
            let (env, targets) = (env.to_key(), targets.as_map()?);
            for (tgt, entry) in targets {
                let entry = Entry::read(entry)?;
                if entry.ignore_missing {
                    self.ignored.extend(entry.entry.sls.iter().map(|sls| (env.clone(), sls.clone())));
                }
                // A later file replaces what an earlier one says of the same target, in its place.
                self.envs.entry(env.clone()).or_default().insert(tgt.to_key(), entry.entry);
            }
        }
        Some(())
    }

    fn sort(&mut self) {
        for targets in self.envs.values_mut() {
            targets.sort_by(|_, one, _, other| one.order.cmp(&other.order));
        }
    }
}

struct Read {
    entry: Entry,
    ignore_missing: bool,
}

impl Entry {
    fn read(value: &Value) -> Option<Read> {
        let mut read = Read { entry: Entry::default(), ignore_missing: false };
        if let Value::Str(sls) = value {
            read.entry.sls.push(sls.clone());
            return Some(read);
        }
        for part in value.as_list()? {
            match part {
                Value::Str(sls) if !read.entry.sls.contains(sls) => read.entry.sls.push(sls.clone()),
                Value::Map(options) => {
                    if let Some(matcher) = options.text("match") {
                        read.entry.matcher = Some(matcher.to_owned());
                    }
                    if let Some(order) = options.at("order") {
                        read.entry.order = integer(order);
                    }
                    read.ignore_missing |= options.at("ignore_missing").is_some_and(Value::is_truthy);
                }
                _ => {}
            }
        }
        Some(read)
    }

    /// Tells whether the minion is meant.
    fn means(&self, tgt: &str, groups: &Nodegroups, facts: Facts<'_>, pillar: &Map) -> Result<bool, String> {
        let tgt_type =
            TgtType::parse(self.matcher.as_deref().unwrap_or("compound")).map_err(|error| error.to_string())?;
        let expanded = match tgt_type {
            TgtType::Nodegroup => groups.expand(tgt),
            TgtType::Compound if tgt.contains("N@") => groups.expand_compound(tgt),
            _ => Ok(tgt.to_owned()),
        };
        let text = expanded.map_err(|error| BadTarget::from(error).to_string())?;
        let tgt_type = if tgt_type == TgtType::Nodegroup { TgtType::Compound } else { tgt_type };
        let target = Target::parse(&text.into(), tgt_type, DELIMITER).map_err(|error| error.to_string())?;
        target.matches_with(facts, pillar).map_err(|error| error.to_string())
    }
}

impl Compiler<'_> {
    /// Reads and merges the top files of the environments.
    pub(super) fn top(&mut self) -> Top {
        let mut top = Top::default();
        let mut files = Vec::new();
        for env in self.top_envs() {
            match self.render_file(&env, &self.config.top.clone(), "", &Map::new()) {
                Ok(Some(value)) => files.push((env, value)),
                Ok(None) => {}
                Err(error) => {
                    self.fail_rendering("Rendering Primary Top file failed", &error);
                    break;
                }
            }
        }
        let included = self.included_tops(&mut files);
        for value in files.iter().map(|(_, value)| value).chain(&included) {
            let merged = match value {
                Value::Map(file) => top.merge(file),
                Value::Null => Some(()),
                _ => None,
            };
            if merged.is_none() {
                self.errors.push(MALFORMED.to_owned());
                return Top::default();
            }
        }
        top.sort();
        top
    }

    fn top_envs(&self) -> Vec<String> {
        let roots = &self.config.roots;
        if let Some(env) = &self.pillarenv {
            return roots.of(env).is_some().then(|| env.clone()).into_iter().collect();
        }
        let envs = self.envs();
        if self.config.strategy == super::Strategy::None {
            let only = self.saltenv.clone().unwrap_or_else(|| "base".to_owned());
            return envs.into_iter().filter(|env| *env == only).collect();
        }
        envs
    }

    /// Renders the top files that others include, and takes the includes out of those.
    fn included_tops(&mut self, files: &mut [(String, Value)]) -> Vec<Value> {
        let mut wanted: Vec<(String, String)> = Vec::new();
        let take = |env: &str, value: &mut Value, wanted: &mut Vec<(String, String)>| {
            let Some(include) = value.as_map_mut().and_then(|file| file.take("include")) else { return };
            let names = include.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
            wanted.extend(names.map(|sls| (env.to_owned(), sls.to_owned())));
        };
        files.iter_mut().for_each(|(env, value)| take(env, value, &mut wanted));
        let (mut found, mut at) = (Vec::new(), 0);
        while at < wanted.len().min(MAX_INCLUDED) {
            let (env, sls) = wanted[at].clone();
            at += 1;
            if wanted[..at - 1].contains(&(env.clone(), sls.clone())) {
                continue;
            }
            let Some(path) = self.locate(&env, &sls) else { continue };
            match self.render_file(&env, &path, &sls, &Map::new()) {
                Ok(Some(mut value)) => {
                    take(&env, &mut value, &mut wanted);
                    found.push(value);
                }
                Ok(None) => {}
                Err(error) => self.fail_rendering(&format!("Rendering Top file {sls} failed"), &error),
            }
        }
        found
    }

    /// Returns the files that concern the minion, by environment.
    pub(super) fn matches(&mut self, top: &Top) -> IndexMap<String, Vec<String>> {
        let mut matches: IndexMap<String, Vec<String>> = IndexMap::new();
        let facts = Facts { id: self.id.as_str(), grains: &self.grains };
        for (env, targets) in &top.envs {
            if self.pillarenv.as_ref().is_some_and(|only| only != env) {
                continue;
            }
            for (tgt, entry) in targets {
                match entry.means(tgt, &self.config.nodegroups, facts, &self.pillar) {
                    Ok(false) => {}
                    Ok(true) => {
                        let files = matches.entry(env.clone()).or_default();
                        let new: Vec<&String> = entry.sls.iter().filter(|sls| !files.contains(sls)).collect();
                        let new: Vec<String> = new.into_iter().cloned().collect();
                        files.extend(new);
                    }
                    Err(error) => tracing::error!(env, tgt, "a target in a pillar's top file cannot be used: {error}"),
                }
            }
        }
        matches
    }
}

/// Returns the variables that tell a file where it stands.
pub(super) fn place(full: &str, path: &str, sls: &str) -> Map {
    let file = if sls.is_empty() { path.rsplit('/').next().unwrap_or(path) } else { path };
    let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
    map! {
        "sls" => sls,
        "tplpath" => full,
        "tplfile" => file,
        "tpldir" => if dir.is_empty() { "." } else { dir },
        "tpldot" => dir.replace('/', "."),
        "tplroot" => dir.split('/').next().unwrap_or_default(),
        "slspath" => dir,
        "slsdotpath" => dir.replace('/', "."),
        "slscolonpath" => dir.replace('/', ":"),
        "sls_path" => dir.replace('/', "_"),
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Int(number) => i64::try_from(*number).unwrap_or(0),
        other => other.as_str().and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}
