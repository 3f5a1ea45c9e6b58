//! The master's file server: what minions read under `salt://`, from the directories of `file_roots`.
//!
//! `roots.rs` has the only way to a file, `list.rs` and `hash.rs` what is remembered, `ignore.rs` what is left out. A file is
//! never held in memory: it is hashed and served in pieces. Everything here blocks; callers run it off the async threads.

mod hash;
mod ignore;
mod list;
mod roots;

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use flate2::Compression;
use flate2::write::GzEncoder;
use proto::map;
use proto::salt::command::{FileQuery, FileRef, Listing};
use proto::value::{Map, MapExt, Value};

pub use hash::HashType;
pub use ignore::Ignored;
pub use roots::{Found, RelPath, Roots};

use hash::Hashes;
use list::{Lists, Rules};

/// The largest piece of a file that one reply carries, whatever `file_buffer_size` says.
pub const MAX_PIECE: usize = 8 * 1024 * 1024;

/// How the file server works.
#[derive(Debug, Clone)]
pub struct FileServerConfig {
    /// The directories by environment (`file_roots`, default `base: [/srv/salt]`).
    pub roots: Arc<Roots>,
    /// Paths that are left out (`file_ignore_glob`, `file_ignore_regex`).
    pub ignored: Ignored,
    /// The hash by which clients compare files (`hash_type`, default `sha256`).
    pub hash_type: HashType,
    /// How many bytes of a file one reply carries (`file_buffer_size`, default 262,144).
    pub piece: usize,
    /// Look into folders that a link names when listing (`fileserver_followsymlinks`, default true).
    pub follow_links: bool,
    /// Leave links out of the lists (`fileserver_ignoresymlinks`, default false).
    pub ignore_links: bool,
    /// For how long a list is kept (`fileserver_list_cache_time`, seconds, default 20).
    pub list_age: Duration,
}

impl Default for FileServerConfig {
    fn default() -> FileServerConfig {
        FileServerConfig {
            roots: Arc::new(Roots::base(vec!["/srv/salt".into()])),
            ignored: Ignored::default(),
            hash_type: HashType::default(),
            piece: 262_144,
            follow_links: true,
            ignore_links: false,
            list_age: Duration::from_secs(20),
        }
    }
}

/// The file server: cheap to clone.
#[derive(Debug, Clone)]
pub struct FileServer {
    config: Arc<ArcSwap<FileServerConfig>>,
    hashes: Arc<Hashes>,
    lists: Arc<ArcSwap<Lists>>,
}

impl FileServer {
    /// Makes a file server.
    pub fn new(config: FileServerConfig) -> FileServer {
        FileServer { config: Arc::new(ArcSwap::from_pointee(config)), hashes: Arc::default(), lists: Arc::default() }
    }

    /// Takes a new configuration; what was remembered under the old one is forgotten.
    pub fn reload(&self, config: FileServerConfig) {
        self.config.store(Arc::new(config));
        self.lists.store(Arc::default());
    }

    /// Returns the names of the environments, sorted (`_file_envs`).
    pub fn envs(&self) -> Vec<String> {
        let mut envs: Vec<String> = self.config.load().roots.envs().map(str::to_owned).collect();
        envs.sort();
        envs
    }

    /// Lists what an environment consists of (`_file_list` and its kin).
    pub fn list(&self, listing: Listing, env: &str, prefix: &str) -> Value {
        let config = self.config.load();
        let rules = Rules {
            ignored: config.ignored.clone(),
            follow_links: config.follow_links,
            ignore_links: config.ignore_links,
        };
        let listed = self.lists.load().of(&config.roots, env, &rules, config.list_age);
        let prefix = prefix.trim_matches('/');
        let wanted = |path: &&String| path.starts_with(prefix);
        let names = |set: &std::collections::BTreeSet<String>| -> Value {
            set.iter().filter(wanted).map(String::as_str).collect::<Vec<_>>().into()
        };
        match listing {
            Listing::Dirs => names(&listed.dirs),
            Listing::EmptyDirs => names(&listed.empty_dirs),
            Listing::Files => names(&listed.files),
            Listing::Symlinks => {
                let links = listed.links.iter().filter(|(path, _)| wanted(path));
                Value::Map(links.map(|(path, says)| (Value::from(path.as_str()), says.as_str().into())).collect())
            }
        }
    }

    /// Opens a file that the file server has.
    pub fn open(&self, file: &FileRef) -> Option<Found> {
        let config = self.config.load();
        let path = RelPath::parse(&file.path)?;
        let found = config.roots.open(&file.saltenv, &path)?;
        let out = config.ignored.matches(&path.text()) || config.ignored.matches(&found.full.to_string_lossy());
        (!out).then_some(found)
    }

    /// Answers what is asked of a file, as Salt's master does: one that is not there has an empty text for everything.
    pub fn query(&self, query: FileQuery, file: &FileRef) -> Value {
        let found = self.open(file);
        match query {
            FileQuery::Find => match found {
                Some(found) => find(file, &found).into(),
                None => map! { "path" => "", "rel" => "" }.into(),
            },
            FileQuery::Hash => found.and_then(|found| self.hash(found)).map_or_else(|| "".into(), |(hash, _)| hash),
            FileQuery::HashAndStat => match found.and_then(|found| self.hash(found)) {
                Some((hash, stat)) => vec![hash, stat].into(),
                None => vec![Value::from(""), Value::Null].into(),
            },
        }
    }

    fn hash(&self, mut found: Found) -> Option<(Value, Value)> {
        let hash_type = self.config.load().hash_type;
        let hash = self.hashes.of(&found.real, &mut found.file, hash_type);
        let hash = hash
            .inspect_err(|error| {
                tracing::warn!(path = %found.full.display(), %error, "a file of the file server cannot be hashed");
            })
            .ok()?;
        Some((map! { "hash_type" => hash_type.name(), "hsum" => hash }.into(), found.stat()))
    }

    /// Serves a piece of a file (`_serve_file`): an empty one is the end, an empty destination says that there is none.
    ///
    /// The end carries no `hsum`, as no Salt master's does: Salt's clients (3006.30, 3007.17, 3008.5) compare its bytes with
    /// their text, call every download bad and ask three times more. They ask for the hash by itself (`_file_hash`).
    pub fn serve(&self, file: &FileRef, loc: u64, gzip: Option<u64>) -> Value {
        let none = || map! { "data" => Value::Bytes(Vec::new()), "dest" => "" };
        let Some(found) = self.open(file) else { return none().into() };
        let size = self.config.load().piece.min(MAX_PIECE);
        let data = match piece(&found, loc, size) {
            Ok(data) => data,
            Err(error) => {
                tracing::warn!(path = %found.full.display(), %error, "a file of the file server cannot be read");
                return none().into();
            }
        };
        let dest = RelPath::parse(&file.path).map(|path| path.text()).unwrap_or_default();
        let mut reply: Map = map! { "dest" => dest };
        match gzip.filter(|level| *level > 0 && !data.is_empty()) {
            Some(level) => {
                reply.set("gzip", level);
                reply.set("data", Value::Bytes(compress(&data, level)));
            }
            None => reply.set("data", Value::Bytes(data)),
        }
        reply.into()
    }

    /// Reads a text of an environment that the master needs itself; nothing if there is none, or it is longer than this.
    pub fn read_text(roots: &Roots, env: &str, path: &str, longest: u64) -> Result<Option<String>, String> {
        let Some(found) = RelPath::parse(path).and_then(|path| roots.open(env, &path)) else { return Ok(None) };
        let mut text = String::new();
        let read = found.file.take(longest + 1).read_to_string(&mut text);
        read.map_err(|error| format!("failed to read {}: {error}", found.full.display()))?;
        if text.len() as u64 > longest {
            return Err(format!("{} is larger than {longest} bytes", found.full.display()));
        }
        Ok(Some(text))
    }
}

fn find(file: &FileRef, found: &Found) -> Map {
    let rel = RelPath::parse(&file.path).map(|path| path.text()).unwrap_or_default();
    map! {
        "path" => found.full.to_string_lossy().into_owned(),
        "rel" => rel,
        "stat" => found.stat(),
        "back" => "roots",
    }
}

fn piece(found: &Found, loc: u64, size: usize) -> std::io::Result<Vec<u8>> {
    let left = found.facts.len().saturating_sub(loc);
    let size = usize::try_from(left).unwrap_or(usize::MAX).min(size);
    let (mut data, mut have) = (vec![0; size], 0);
    while have < size {
        match found.file.read_at(&mut data[have..], loc + have as u64)? {
            // It has become shorter.
            0 => break,
            read => have += read,
        }
    }
    data.truncate(have);
    Ok(data)
}

fn compress(data: &[u8], level: u64) -> Vec<u8> {
    let level = Compression::new(u32::try_from(level.min(9)).unwrap_or(9));
    let mut encoder = GzEncoder::new(Vec::with_capacity(data.len() / 2), level);
    let written = encoder.write_all(data).and_then(|()| encoder.finish());
    written.expect("a vector takes every byte")
}

#[cfg(test)]
mod tests;
