//! What lets a new key in, or keeps it out, without a person: `autoreject_file`, `autosign_file`, the stubs in
//! `pki_dir/minions_autosign`, and `autosign_grains_dir`.
//!
//! ```yaml
//! autosign_file: /etc/halite/autosign.conf            # an id, a glob or a regular expression a line
//! autoreject_file: /etc/halite/autoreject.conf        # the same; it wins
//! autosign_grains_dir: /etc/halite/autosign_grains    # a file per grain, a value a line
//! ```
//! The files are looked at whenever a key is judged, so an edit counts at once; what they say is kept until they change.
//! What cannot be used is named once, with what to do. A bad `autosign_file` accepts nobody; while `autoreject_file` is
//! bad nobody is accepted by itself, since nobody knows who should have been rejected.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use proto::ids::MinionId;
use proto::value::{Map, Value};
use ring::digest::{SHA256, digest};

use super::AutosignConfig;
use super::patterns::Patterns;
use super::state::Advice;

/// The largest list that is read: some 40,000 host names. A larger one does not count, and that is said.
const MAX_FILE: u64 = 1024 * 1024;
/// How many grains of one minion are looked at; the others vouch for nothing.
const MAX_GRAINS: usize = 64;
/// How many lists of grain values are kept; beyond, all are read anew.
const MAX_KEPT: usize = 1_000;
/// The folder of the stubs, under `pki_dir`.
const STUBS: &str = "minions_autosign";

/// Why a list does not count.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read; check that the master's user may")]
    Io(#[from] io::Error),
    #[error("it is not a plain file")]
    NotPlain,
    #[error("it is larger than {MAX_FILE} bytes; use patterns, or grains")]
    TooLarge,
    #[error("everybody may write to it; run: chmod go-w {0}")]
    WorldWritable(String),
    #[error("its group may write to it; run: chmod g-w {0}, or set permissive_pki_access: True")]
    GroupWritable(String),
}

/// What tells that a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Changes with the text and with the rights.
    changed: (i64, i64),
}

impl Stamp {
    fn of(facts: &Metadata) -> Stamp {
        Stamp { inode: facts.ino(), size: facts.size(), changed: (facts.ctime(), facts.ctime_nsec()) }
    }
}

/// A list as it was last read.
#[derive(Debug)]
struct Kept<T> {
    /// Nothing while there is no such file.
    stamp: Option<Stamp>,
    /// Nothing if it cannot be used.
    list: Option<T>,
}

/// Lists by file.
#[derive(Debug)]
struct Lists<T>(HashMap<PathBuf, Kept<T>>);

impl<T: Default> Lists<T> {
    /// Returns what a file says now; nothing if it cannot be used. A file that is not there says nothing.
    fn look(&mut self, path: &Path, permissive: bool, read: impl FnOnce(&Path, &[u8]) -> T) -> Option<&T> {
        let stamp = fs::metadata(path).ok().map(|facts| Stamp::of(&facts));
        let fresh = self.0.get(path).is_some_and(|kept| kept.stamp == stamp);
        if !fresh {
            if self.0.len() >= MAX_KEPT {
                self.0.clear();
            }
            let list = match load(path, permissive) {
                Ok(text) => Some(read(path, &text)),
                Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), "there is no such file; it lists nobody");
                    Some(T::default())
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(path = %path.display(), error, "not using a list that decides on keys");
                    None
                }
            };
            self.0.insert(path.to_owned(), Kept { stamp, list });
        }
        self.0.get(path)?.list.as_ref()
    }
}

/// The lists, and what they said last.
#[derive(Debug)]
pub(super) struct Autosign {
    config: AutosignConfig,
    stubs: PathBuf,
    signing: Lists<Patterns>,
    grains: Lists<HashSet<[u8; 32]>>,
}

impl Autosign {
    pub(super) fn new(config: AutosignConfig, pki_dir: &Path) -> Autosign {
        let stubs = pki_dir.join(STUBS);
        Autosign { config, stubs, signing: Lists(HashMap::new()), grains: Lists(HashMap::new()) }
    }

    /// Says what becomes of a new or pending key. What rejects comes first, then any one that accepts suffices.
    pub(super) fn advise(&mut self, id: &MinionId, grains: Option<&Map>) -> Advice {
        let permissive = self.config.permissive;
        if let Some(path) = &self.config.autoreject_file {
            match self.signing.look(path, permissive, patterns) {
                None => return Advice::Hold,
                Some(list) if list.match_id(id.as_str()) => return Advice::Reject,
                Some(_) => {}
            }
        }
        if let Some(path) = &self.config.autosign_file
            && self.signing.look(path, permissive, patterns).is_some_and(|list| list.match_id(id.as_str()))
        {
            return Advice::Accept;
        }
        if self.has_stub(id) || grains.is_some_and(|grains| self.vouch(grains)) {
            return Advice::Accept;
        }
        Advice::Ask
    }

    /// Uses up the stub of an id: it is good for one key.
    pub(super) fn use_stub(&self, id: &MinionId) {
        remove(&self.stubs.join(id.as_str()));
    }

    fn has_stub(&self, id: &MinionId) -> bool {
        let path = self.stubs.join(id.as_str());
        let Ok(facts) = fs::symlink_metadata(&path) else { return false };
        let age = facts.modified().ok().and_then(|made| SystemTime::now().duration_since(made).ok());
        let limit = self.config.autosign_timeout;
        if limit > Duration::ZERO && age.is_some_and(|age| age > limit) {
            tracing::warn!(minion_id = %id, path = %path.display(), "the stub is older than autosign_timeout; it is removed");
            remove(&path);
            return false;
        }
        true
    }

    /// Tells whether a grain has a value that its file lists.
    fn vouch(&mut self, grains: &Map) -> bool {
        let Some(folder) = self.config.autosign_grains_dir.clone() else { return false };
        grains.iter().take(MAX_GRAINS).any(|(name, value)| {
            let (Some(name), Some(text)) = (name.as_str().filter(|name| is_file_name(name)), scalar(value)) else {
                return false;
            };
            let path = folder.join(name);
            // Most grains have no list, and a stranger's grains are not worth remembering.
            if !path.exists() {
                return false;
            }
            // Compared by digest: a value can be a secret, and the time a comparison takes tells of it.
            let wanted = sum(text.as_bytes());
            let list = self.grains.look(&path, self.config.permissive, |_, text| values(text));
            list.is_some_and(|values| values.contains(&wanted))
        })
    }
}

/// Reads patterns, and names those lines that are none.
fn patterns(path: &Path, text: &[u8]) -> Patterns {
    let (patterns, bad) = Patterns::parse(text);
    for bad in bad {
        tracing::warn!("{}:{}: this line does not count: {}", path.display(), bad.line, bad.reason);
    }
    patterns
}

/// Reads the values of a grain, one a line.
fn values(text: &[u8]) -> HashSet<[u8; 32]> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(sum).collect()
}

fn sum(text: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, text).as_ref());
    sum
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty() && !text.starts_with('#')),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Tells whether a grain's name is the name of one file: it comes from a stranger.
fn is_file_name(name: &str) -> bool {
    let clean = !name.contains(['/', '\\']) && !name.chars().any(char::is_control);
    clean && !name.is_empty() && !name.starts_with('.') && name.len() <= 255
}

fn load(path: &Path, permissive: bool) -> Result<Vec<u8>, Unusable> {
    // A pipe must not hold up the store.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    check(path, &file.metadata()?, permissive)?;
    read(file)
}

/// Salt's rule: a list that others may write to decides on nothing.
fn check(path: &Path, facts: &Metadata, permissive: bool) -> Result<(), Unusable> {
    let path = || path.display().to_string();
    match facts.mode() {
        _ if !facts.is_file() => Err(Unusable::NotPlain),
        mode if mode & 0o002 != 0 => Err(Unusable::WorldWritable(path())),
        mode if mode & 0o020 != 0 && !permissive => Err(Unusable::GroupWritable(path())),
        _ => Ok(()),
    }
}

fn read(file: File) -> Result<Vec<u8>, Unusable> {
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(Unusable::TooLarge) } else { Ok(text) }
}

fn remove(stub: &Path) {
    if let Err(error) = fs::remove_file(stub)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %stub.display(), %error, "a stub is not removed; remove it by hand, it would let another key in");
    }
}

#[cfg(test)]
mod tests;
