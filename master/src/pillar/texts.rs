//! The texts of pillar files, read again when they change, and the names of those there are. Texts alone are shared
//! between compilations: they say the same to everybody.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::salt::command::Listing;

use crate::fileserver::{FileServer, FileServerConfig, RelPath, Roots};

/// The largest file that is read.
const MAX_FILE: u64 = 1024 * 1024;
/// How many texts are kept; beyond, all are read anew.
const MAX_KEPT: usize = 1_000;
/// For how long the names of an environment's files are kept.
const NAMES_AGE: Duration = Duration::from_secs(1);

/// A text and the file it is of.
#[derive(Debug, Clone)]
struct Kept {
    version: (u64, u64, i64, i64),
    text: Arc<str>,
}

type Names = (Instant, Arc<BTreeSet<String>>);

/// The texts; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    texts: Arc<Mutex<HashMap<PathBuf, Kept>>>,
    names: Arc<Mutex<HashMap<String, Names>>>,
}

impl Texts {
    /// Reads a file of an environment: its place and its text, or nothing if there is none.
    pub(super) fn read(&self, roots: &Roots, env: &str, path: &str) -> Result<Option<(String, Arc<str>)>, String> {
        let Some(found) = RelPath::parse(path).and_then(|path| roots.open(env, &path)) else { return Ok(None) };
        let (full, facts) = (found.full.to_string_lossy().into_owned(), &found.facts);
        let version = (facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec());
        let known =
            |texts: &HashMap<PathBuf, Kept>| texts.get(&found.real).filter(|kept| kept.version == version).cloned();
        if let Some(kept) = known(&lock(&self.texts)) {
            return Ok(Some((full, kept.text)));
        }
        let Some(text) = FileServer::read_text(roots, env, path, MAX_FILE)? else { return Ok(None) };
        let text: Arc<str> = text.into();
        let mut texts = lock(&self.texts);
        if texts.len() >= MAX_KEPT {
            texts.clear();
        }
        texts.insert(found.real, Kept { version, text: Arc::clone(&text) });
        Ok(Some((full, text)))
    }

    /// Returns the names of an environment's SLS files: `a.b` for `a/b.sls`, `a` for `a/init.sls`.
    pub(super) fn sls_files(&self, roots: &Arc<Roots>, env: &str) -> Arc<BTreeSet<String>> {
        let mut names = lock(&self.names);
        if let Some((when, found)) = names.get(env)
            && when.elapsed() < NAMES_AGE
        {
            return Arc::clone(found);
        }
        let config = FileServerConfig { roots: Arc::clone(roots), ..FileServerConfig::default() };
        let files = FileServer::new(config).list(Listing::Files, env, "");
        let paths = files.as_list().unwrap_or_default().iter().filter_map(|path| path.as_str());
        let found: Arc<BTreeSet<String>> = Arc::new(paths.filter_map(sls).collect());
        if names.len() >= MAX_KEPT {
            names.clear();
        }
        names.insert(env.to_owned(), (Instant::now(), Arc::clone(&found)));
        found
    }
}

fn sls(path: &str) -> Option<String> {
    let name = path.strip_suffix(".sls")?;
    Some(name.strip_suffix("/init").unwrap_or(name).replace('/', "."))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change is one insert; a panic leaves the map whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
