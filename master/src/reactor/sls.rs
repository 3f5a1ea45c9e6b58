//! The files of the reactor: found by path, glob or `salt://`, read again when they change, and rendered.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use proto::tag::Tag;
use proto::target::glob::Glob;
use proto::value::{Map, Value};
use render::jinja::Repairs;
use render::sls::{Context, render_sls};
use render::yaml::Warning;

use super::Loaded;
use super::functions::MasterFunctions;
use super::high::{self, High};
use super::report::Fault;
use super::spaces;
use crate::fileserver::{RelPath, Roots};

/// The largest file that is read.
const MAX_FILE: u64 = 1024 * 1024;
/// How many files one path may name.
const MAX_MATCHES: usize = 1_000;
/// How many files are kept in memory; beyond, all are read anew.
const MAX_CACHED: usize = 1_000;
/// How many warnings are remembered as told; beyond, they are told again.
const MAX_TOLD: usize = 10_000;

/// What the files of one path say about an event.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// The declarations, by id.
    pub(super) high: High,
    /// What was mended, if it was not told before.
    pub(super) warnings: Vec<Warning>,
    /// The files that contribute nothing, and why.
    pub(super) faults: Vec<Fault>,
}

/// Reads and renders files. Texts are cached until size or time of the file change.
#[derive(Debug, Default)]
pub(super) struct Files {
    texts: HashMap<PathBuf, Cached>,
    told: HashSet<(String, usize, String)>,
}

#[derive(Debug)]
struct Cached {
    size: u64,
    changed: Option<SystemTime>,
    text: Arc<str>,
}

impl Files {
    /// Renders all files of a path for an event.
    pub(super) fn render(&mut self, loaded: &Loaded, path: &str, tag: &Tag, data: &Map) -> Rendered {
        let mut rendered = Rendered::default();
        let files = resolve(&loaded.file_roots, path);
        if files.is_empty() {
            let error = format!("Can not render SLS {path} for tag {tag}. File missing or not found.");
            rendered.faults.push(Fault { sls: Some(path.to_owned()), error, ..Fault::default() });
        }
        for file in files {
            let name = file.display().to_string();
            match self.render_file(loaded, &file, &name, tag, data) {
                Ok((high, warnings)) => {
                    rendered.high.extend(high);
                    rendered.warnings.extend(warnings);
                }
                Err((line, error)) => {
                    let error = format!("Failed to render \"{name}\": {error}");
                    rendered.faults.push(Fault { sls: Some(name), line, error, ..Fault::default() });
                }
            }
        }
        rendered
    }

    fn render_file(
        &mut self,
        loaded: &Loaded,
        file: &Path,
        name: &str,
        tag: &Tag,
        data: &Map,
    ) -> Result<(High, Vec<Warning>), (Option<usize>, String)> {
        let text = self.text(file).map_err(|error| (None, error.to_string()))?;
        let context = context(loaded, tag, data);
        let (text, spaces) = match spaces::mend(&text, name) {
            Some((mended, warning)) => (mended.into(), Some(warning)),
            None => (text, None),
        };
        let (value, mut warnings) = render_sls(&text, name, &context, Repairs::On).map_err(|error| {
            let line = error.place().1;
            ((line > 0).then_some(line), error.to_string())
        })?;
        let high = high::pad(value, name).map_err(|error| (None, error))?;
        warnings.extend(spaces);
        warnings.retain(|warning| self.is_new(warning));
        Ok((high, warnings))
    }

    /// Tells whether this was not told yet.
    pub(super) fn is_new(&mut self, warning: &Warning) -> bool {
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        self.told.insert((warning.file.clone(), warning.line, warning.message.clone()))
    }

    fn text(&mut self, file: &Path) -> std::io::Result<Arc<str>> {
        let facts = fs::metadata(file)?;
        let (size, changed) = (facts.len(), facts.modified().ok());
        if let Some(cached) = self.texts.get(file)
            && (cached.size, cached.changed) == (size, changed)
        {
            return Ok(Arc::clone(&cached.text));
        }
        if self.texts.len() >= MAX_CACHED {
            self.texts.clear();
        }
        let text: Arc<str> = read(file)?.into();
        // A file that was edited may be wrong in the same place again.
        let name = file.display().to_string();
        self.told.retain(|(told, ..)| *told != name);
        self.texts.insert(file.to_owned(), Cached { size, changed, text: Arc::clone(&text) });
        Ok(text)
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        let error = format!("it is larger than {MAX_FILE} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
    }
    Ok(text)
}

/// What a file sees: as Salt, `tag`, `data`, `opts`, an empty `pillar`, `saltenv`, and a few functions.
fn context(loaded: &Loaded, tag: &Tag, data: &Map) -> Context {
    let roots = Arc::clone(&loaded.file_roots);
    let loader = move |path: &str| match in_roots(&roots, path).into_iter().next() {
        Some(file) => read(&file).map(Some).map_err(|error| error.to_string()),
        None => Ok(None),
    };
    Context {
        tag: Some(tag.as_str().to_owned()),
        data: Some(Value::Map(data.clone())),
        opts: Some(Value::Map(loaded.opts.clone())),
        grains: Some(Value::Map(loaded.grains.clone())),
        pillar: Some(Value::Map(Map::new())),
        saltenv: Some("base".to_owned()),
        now: Some(SystemTime::now()),
        functions: Some(Arc::new(MasterFunctions)),
        loader: Some(Arc::new(loader)),
        ..Context::default()
    }
}

/// Finds the files that a path names, sorted.
pub(super) fn resolve(roots: &Roots, path: &str) -> Vec<PathBuf> {
    if path.starts_with("salt://") { in_roots(roots, path) } else { expand(Path::new("/"), Path::new(path)) }
}

/// Finds files under the roots; the first root that has any wins. Nothing outside of a root is ever found: neither by
/// `..` nor by a link.
fn in_roots(roots: &Roots, path: &str) -> Vec<PathBuf> {
    let inner = path.strip_prefix("salt://").unwrap_or(path);
    let (inner, env) = inner.split_once("?saltenv=").unwrap_or((inner, "base"));
    let Some(inner) = RelPath::parse(inner.trim_start_matches('/')) else { return Vec::new() };
    let allowed = roots.real(env);
    let under = |root: &PathBuf| {
        let mut files = expand(&root.canonicalize().ok()?, inner.as_path());
        files.retain(|file| Roots::holds(&allowed, file));
        (!files.is_empty()).then_some(files)
    };
    roots.of(env).unwrap_or_default().iter().find_map(under).unwrap_or_default()
}

/// Expands a shell-style pattern, folder by folder; `*` does not cross them, and leaves hidden files alone.
fn expand(base: &Path, pattern: &Path) -> Vec<PathBuf> {
    let mut found =
        vec![if pattern.is_relative() && base == Path::new("/") { PathBuf::new() } else { base.to_owned() }];
    for part in pattern.components() {
        let Component::Normal(name) = part else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        match name.to_str().filter(|name| name.contains(['*', '?', '['])) {
            None => found.iter_mut().for_each(|path| path.push(name)),
            Some(glob) => found = found.iter().flat_map(|folder| matching(folder, glob)).take(MAX_MATCHES).collect(),
        }
    }
    found.retain(|path| path.is_file());
    found
}

fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(here) else { return Vec::new() };
    let glob = Glob::new(pattern);
    let wanted = |name: &String| glob.matches(name) && (!name.starts_with('.') || pattern.starts_with('.'));
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(wanted).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests;
