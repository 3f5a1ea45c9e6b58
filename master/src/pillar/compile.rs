//! One pillar for one minion: top files, the SLS files they name, further sources, merged as configured.
//!
//! Nothing is remembered from one compilation to the next but the texts of files: what one minion sees never depends on
//! another. Every loop has a limit, and the whole has a deadline.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use proto::ids::MinionId;
use proto::map;
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};
use render::jinja::Repairs;
use render::sls::{Context, render_sls};

use super::functions::PillarFunctions;
use super::top::{Top, place};
use super::{PillarConfig, PillarRequest, texts::Texts};
use crate::fileserver::RelPath;

/// How many files one pillar may render.
const MAX_FILES: usize = 1_000;
/// How deep files may include others.
const MAX_DEPTH: usize = 32;
/// How many errors a pillar names.
const MAX_ERRORS: usize = 100;
/// Where a pillar names what is wrong with it.
pub(super) const ERRORS: &str = "_errors";

/// A compilation under way.
pub(super) struct Compiler<'a> {
    pub(super) config: &'a PillarConfig,
    pub(super) texts: &'a Texts,
    pub(super) id: MinionId,
    pub(super) grains: Arc<Map>,
    pub(super) saltenv: Option<String>,
    pub(super) pillarenv: Option<String>,
    /// What is known of the pillar so far, as files see it.
    pub(super) pillar: Arc<Map>,
    pub(super) errors: Vec<String>,
    given: Map,
    opts: Arc<Map>,
    /// The SLS files there are, by environment.
    available: HashMap<String, Arc<BTreeSet<String>>>,
    rendered: usize,
    until: Instant,
}

/// What one file says, its includes merged in.
type State = Option<Map>;
/// What each file said by itself.
type Seen = HashMap<String, State>;

impl<'a> Compiler<'a> {
    pub(super) fn new(
        config: &'a PillarConfig,
        texts: &'a Texts,
        request: PillarRequest,
        until: Instant,
    ) -> Compiler<'a> {
        let PillarRequest { id, mut grains, saltenv, pillarenv, given } = request;
        // Whatever a minion says, it is who it is.
        grains.set("id", &id);
        let pillarenv = pillarenv.or_else(|| saltenv.clone().filter(|_| config.env_from_saltenv));
        let mut opts = (*config.opts).clone();
        for (name, env) in [("saltenv", &saltenv), ("pillarenv", &pillarenv)] {
            opts.set(name, env.as_deref());
        }
        opts.set("id", &id);
        opts.set("minion_id", &id);
        opts.set("grains", grains.clone());
        Compiler {
            config,
            texts,
            id,
            grains: Arc::new(grains),
            saltenv,
            pillarenv,
            pillar: Arc::default(),
            errors: Vec::new(),
            given,
            opts: Arc::new(opts),
            available: HashMap::new(),
            rendered: 0,
            until,
        }
    }

    /// Compiles the pillar.
    pub(super) fn run(mut self) -> Map {
        let top = self.top();
        let top_errors = std::mem::take(&mut self.errors);
        let mut pillar = if self.config.ext_first {
            let mut known = self.given.clone();
            self.ext(&mut known);
            self.pillar = Arc::new(known.clone());
            let later = self.files(&top);
            self.merge(&mut known, later);
            known
        } else {
            let mut pillar = self.files(&top);
            self.pillar = Arc::new(pillar.clone());
            self.ext(&mut pillar);
            pillar
        };
        self.errors.extend(top_errors);
        if self.config.master_opts {
            pillar.set("master", (*self.opts).clone());
        }
        self.errors.truncate(MAX_ERRORS);
        if !self.errors.is_empty() {
            pillar.set(ERRORS, self.errors.clone());
        }
        let given = std::mem::take(&mut self.given);
        self.merge(&mut pillar, given);
        pillar
    }

    /// Returns the environments, `base` first.
    pub(super) fn envs(&self) -> Vec<String> {
        let others = self.config.roots.envs().filter(|env| *env != "base" && *env != "__env__").map(str::to_owned);
        std::iter::once("base".to_owned()).chain(others).collect()
    }

    fn merge(&self, into: &mut Map, later: Map) {
        self.config.strategy.merge(into, later, self.config.lists);
    }

    /// Asks the further sources.
    fn ext(&mut self, pillar: &mut Map) {
        if !self.config.ext.is_empty() {
            self.merge(pillar, self.given.clone());
        }
        for (source, command) in &self.config.ext {
            match source.pillar(&self.id, command) {
                Ok(found) => self.merge(pillar, found),
                Err(error) => {
                    tracing::error!(minion_id = %self.id, source = source.name, "failed to load ext_pillar: {error}");
                    self.errors.push(format!("Failed to load ext_pillar {}: {error}", source.name));
                }
            }
        }
    }

    /// Renders and merges the files that concern the minion.
    fn files(&mut self, top: &Top) -> Map {
        let matches = self.matches(top);
        let ordered = self.config.env_order.iter().filter(|env| matches.contains_key(*env));
        let rest = matches.keys().filter(|env| !self.config.env_order.contains(env));
        let envs: Vec<String> = ordered.chain(rest).cloned().collect();
        let mut pillar = self.given.clone();
        for env in envs {
            let mut seen = Seen::new();
            for sls in self.expanded(&env, &matches[&env]) {
                if let Some(state) = self.state(top, &env, &sls, &mut seen, &mut Map::new(), 0) {
                    self.merge(&mut pillar, state);
                }
            }
        }
        pillar
    }

    /// Replaces patterns by the files they mean.
    fn expanded(&mut self, env: &str, names: &[String]) -> Vec<String> {
        let Some(available) = self.available(env) else {
            let error = format!("No matching pillar environment for environment '{env}' found");
            self.errors.extend(names.iter().map(|_| error.clone()));
            return names.to_vec();
        };
        names.iter().flat_map(|name| meant(&available, name)).collect()
    }

    /// Returns the SLS files of an environment.
    fn available(&mut self, env: &str) -> Option<Arc<BTreeSet<String>>> {
        if let Some(known) = self.available.get(env) {
            return Some(Arc::clone(known));
        }
        let known = env == "base" || self.config.roots.of(env).is_some();
        let found = known.then(|| self.texts.sls_files(&self.config.roots, env))?;
        self.available.insert(env.to_owned(), Arc::clone(&found));
        Some(found)
    }

    /// Returns the path of an SLS file, if there is one.
    pub(super) fn locate(&self, env: &str, sls: &str) -> Option<String> {
        let base = sls.replace('.', "/");
        [format!("{base}.sls"), format!("{base}/init.sls")]
            .into_iter()
            .find(|path| RelPath::parse(path).is_some_and(|path| self.config.roots.open(env, &path).is_some()))
    }

    /// Renders one SLS file with what it includes. `defaults` are the variables that an include gives along; they stay for
    /// the includes behind it, as in Salt.
    fn state(&mut self, top: &Top, env: &str, sls: &str, seen: &mut Seen, defaults: &mut Map, depth: usize) -> State {
        let Some(path) = self.locate(env, sls) else {
            return self.missing(top, env, sls, seen);
        };
        let value = match self.render_file(env, &path, sls, defaults) {
            Ok(value) => value.unwrap_or_else(|| Map::new().into()),
            Err(error) => {
                self.fail_rendering_sls(sls, &error);
                seen.insert(sls.to_owned(), None);
                return None;
            }
        };
        let Value::Map(mut own) = value else {
            if value.is_truthy() {
                self.fail(format!("SLS '{sls}' does not render to a dictionary"));
            }
            seen.insert(sls.to_owned(), None);
            return None;
        };
        // What is no list stays, as in Salt.
        let include = match own.at("include") {
            Some(Value::List(_)) => own.take("include"),
            other => other.cloned(),
        };
        seen.insert(sls.to_owned(), Some(own.clone()));
        match include {
            None => Some(own),
            Some(Value::List(include)) if depth < MAX_DEPTH => {
                let place = Place { env, sls, is_init: path.ends_with("/init.sls"), depth };
                Some(self.with_includes(top, &place, own, &include, seen, defaults))
            }
            Some(Value::List(_)) => {
                self.fail(format!("SLS '{sls}' is included more than {MAX_DEPTH} levels deep"));
                Some(own)
            }
            Some(_) => {
                self.fail(format!("Include Declaration in SLS '{sls}' is not formed as a list"));
                Some(own)
            }
        }
    }

    fn missing(&mut self, top: &Top, env: &str, sls: &str, seen: &mut Seen) -> State {
        let has_dirs = self.config.roots.of(env).is_some_and(|dirs| !dirs.is_empty());
        if !top.ignores(env, sls) && has_dirs {
            self.fail(format!("Specified SLS '{sls}' in environment '{env}' is not available on the salt master"));
            seen.insert(sls.to_owned(), Some(Map::new()));
        }
        None
    }

    fn with_includes(
        &mut self,
        top: &Top,
        place: &Place<'_>,
        own: Map,
        include: &[Value],
        seen: &mut Seen,
        defaults: &mut Map,
    ) -> Map {
        let mut parts = Vec::new();
        for one in include {
            let Some((name, key)) = included(one, defaults) else { continue };
            for sls in self.included_files(place, &name) {
                let state = match seen.get(&sls) {
                    Some(state) => state.clone(),
                    None => self.state(top, place.env, &sls, seen, defaults, place.depth + 1),
                };
                parts.extend(state.filter(|state| !state.is_empty()).map(|state| under(key.as_deref(), state)));
            }
        }
        if self.config.includes_override {
            return self.merged(own, parts);
        }
        parts.push(own);
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or_default();
        self.merged(first, parts)
    }

    fn merged(&self, mut into: Map, parts: impl IntoIterator<Item = Map>) -> Map {
        parts.into_iter().for_each(|part| self.merge(&mut into, part));
        into
    }

    /// Returns the files that an include means: a pattern, a name, or one that is relative to where it stands.
    fn included_files(&mut self, place: &Place<'_>, name: &str) -> Vec<String> {
        let Some(available) = self.available(place.env) else {
            self.fail(format!("No matching pillar environment for environment '{}' found", place.env));
            return vec![name.to_owned()];
        };
        let absolute = match name.strip_prefix('.') {
            None => name.to_owned(),
            Some(rest) => {
                let parts: Vec<&str> = place.sls.split('.').collect();
                let above = if place.is_init { parts.as_slice() } else { &parts[..parts.len() - 1] };
                above.iter().copied().chain([rest]).collect::<Vec<_>>().join(".")
            }
        };
        let pattern = Glob::new(&name.trim_start_matches('.').replace('/', "."));
        let mut found: Vec<String> = available.iter().filter(|sls| pattern.matches(sls)).cloned().collect();
        let pattern = Glob::new(&absolute);
        found.extend(available.iter().filter(|sls| pattern.matches(sls)).cloned());
        if found.is_empty() {
            found.push(absolute);
        }
        found
    }

    /// Renders a file of an environment; nothing if there is none, or it is empty.
    pub(super) fn render_file(
        &mut self,
        env: &str,
        path: &str,
        sls: &str,
        defaults: &Map,
    ) -> Result<Option<Value>, String> {
        let Some((full, text)) = self.texts.read(&self.config.roots, env, path)? else { return Ok(None) };
        if text.trim().is_empty() {
            return Ok(None);
        }
        self.rendered += 1;
        if self.rendered > MAX_FILES {
            return Err(format!("the pillar of one minion renders at most {MAX_FILES} files"));
        }
        if Instant::now() > self.until {
            return Err(format!("the pillar takes more than {} s", super::DEADLINE.as_secs()));
        }
        let mut extra = place(&full, path, sls);
        extra.extend(defaults.clone());
        let context = self.context(env, path, extra);
        match render_sls(&text, &full, &context, Repairs::Off) {
            Ok((value, _)) => Ok(Some(value)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn context(&self, env: &str, path: &str, extra: Map) -> Context {
        let (roots, texts, env_name) = (Arc::clone(&self.config.roots), self.texts.clone(), env.to_owned());
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let loader = move |path: &str| {
            let path = match path.strip_prefix("./") {
                Some(rest) if folder.is_empty() => rest.to_owned(),
                Some(rest) => format!("{folder}/{rest}"),
                None => path.trim_start_matches('/').to_owned(),
            };
            Ok(texts.read(&roots, &env_name, &path)?.map(|(_, text)| text.to_string()))
        };
        let functions = PillarFunctions {
            grains: Arc::clone(&self.grains),
            opts: Arc::clone(&self.opts),
            pillar: Arc::clone(&self.pillar),
        };
        Context {
            opts: Some(Value::Map((*self.opts).clone())),
            grains: Some(Value::Map((*self.grains).clone())),
            pillar: Some(Value::Map((*self.pillar).clone())),
            saltenv: Some(env.to_owned()),
            now: Some(SystemTime::now()),
            extra,
            functions: Some(Arc::new(functions)),
            loader: Some(Arc::new(loader)),
            ..Context::default()
        }
    }

    fn fail(&mut self, error: String) {
        tracing::error!(minion_id = %self.id, "pillar: {error}");
        self.errors.push(error);
    }

    /// Notes that a top file failed.
    pub(super) fn fail_rendering(&mut self, what: &str, error: &str) {
        self.fail(format!("{what}, render error:\n{error}"));
    }

    /// Notes that an SLS file failed. The minion learns why only where that is configured: the reason may show what is
    /// meant for another one.
    fn fail_rendering_sls(&mut self, sls: &str, error: &str) {
        tracing::error!(minion_id = %self.id, "Rendering SLS '{sls}' failed, render error:\n{error}");
        self.errors.push(match self.config.safe_errors {
            true => format!("Rendering SLS '{sls}' failed. Please see master log for details."),
            false => format!("Rendering SLS '{sls}' failed, render error:\n{error}"),
        });
    }
}

/// Where an include stands.
struct Place<'a> {
    env: &'a str,
    sls: &'a str,
    is_init: bool,
    depth: usize,
}

/// Reads an include: a name, or a map of a name to `defaults` and `key`.
fn included(one: &Value, defaults: &mut Map) -> Option<(String, Option<String>)> {
    match one {
        Value::Str(name) => Some((name.clone(), None)),
        Value::Map(map) => {
            let (name, options) = map.first()?;
            let options = options.as_map();
            *defaults = options.and_then(|options| options.at("defaults")?.as_map()).cloned().unwrap_or_default();
            let key = options.and_then(|options| options.at("key")).filter(|key| !key.is_null()).map(Value::to_key);
            Some((name.as_str()?.to_owned(), key))
        }
        _ => None,
    }
}

/// Puts what a file says under a key: `a:b` is `b` within `a`.
fn under(key: Option<&str>, state: Map) -> Map {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return state };
    key.rsplit(':').fold(state, |inner, name| map! { name => inner })
}

/// Returns the files that a name means: itself, if nothing matches it as a pattern.
fn meant(available: &BTreeSet<String>, name: &str) -> Vec<String> {
    let pattern = Glob::new(name);
    let found: Vec<String> = available.iter().filter(|sls| pattern.matches(sls)).cloned().collect();
    if found.is_empty() { vec![name.to_owned()] } else { found }
}
