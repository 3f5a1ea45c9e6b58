//! What is known of each minion, in both forms (salt-wire.md §8.3): `minions/<id>/data.p` for Salt up to 3007,
//! `grains/<id>.p` and `pillar/<id>.p` for 3008.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::ids::MinionId;
use proto::map;
use proto::salt::msgpack;
use proto::value::{Map, Value};

use super::disk::{self, WriteError};

fn grains_path(cachedir: &Path, id: &MinionId) -> PathBuf {
    cachedir.join("grains").join(format!("{id}.p"))
}

fn pillar_path(cachedir: &Path, id: &MinionId) -> PathBuf {
    cachedir.join("pillar").join(format!("{id}.p"))
}

fn data_path(cachedir: &Path, id: &MinionId) -> PathBuf {
    cachedir.join("minions").join(id.as_str()).join("data.p")
}

/// What the master knows of a minion, encoded.
pub(super) struct Facts {
    pub(super) grains: Bytes,
    /// The pillar that it was told last. None since the master started: what lies there is better than nothing.
    pub(super) pillar: Option<Bytes>,
}

fn save(cachedir: &Path, id: &MinionId, facts: &Facts) -> Result<(), WriteError> {
    let grains = proto::msgpack::decode_map(&facts.grains).unwrap_or_default();
    put(&grains_path(cachedir, id), &grains.clone().into())?;
    let path = pillar_path(cachedir, id);
    let told = facts.pillar.as_ref().map(|told| proto::msgpack::decode_map(told).unwrap_or_default());
    let is_new = told.is_some() || !path.exists();
    let pillar = told.unwrap_or_else(|| read(&path));
    if is_new {
        put(&path, &pillar.clone().into())?;
    }
    put(&data_path(cachedir, id), &map! { "grains" => grains, "pillar" => pillar }.into())
}

fn put(path: &Path, value: &Value) -> Result<(), WriteError> {
    if let Some(folder) = path.parent() {
        disk::make_dir(folder)?;
    }
    disk::write_whole(path, &msgpack::encode_modern(value))
}

/// Reads a map that lies there; what cannot be read is as good as none.
fn read(path: &Path) -> Map {
    fs::read(path).ok().and_then(|bytes| msgpack::decode_modern_map(&bytes).ok()).unwrap_or_default()
}

/// What was written, so that only what has changed is written again.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// By minion, a digest of its facts.
    of: HashMap<MinionId, u64>,
    looked: bool,
}

impl Written {
    /// Writes what has changed of the minions there are, and deletes what belongs to none. Returns the first failure, after
    /// trying all.
    pub(super) fn update(
        &mut self,
        cachedir: &Path,
        accepted: &[MinionId],
        facts: impl Fn(&MinionId) -> Option<Facts>,
    ) -> Result<(), WriteError> {
        let mut failed = None;
        let mut note = |done: Result<(), WriteError>| {
            let good = done.is_ok();
            failed = failed.take().or(done.err());
            good
        };
        let mut now = HashMap::with_capacity(accepted.len());
        for id in accepted {
            let Some(facts) = facts(id) else { continue };
            let digest = digest(&facts);
            if self.of.get(id) != Some(&digest) && !note(save(cachedir, id, &facts)) {
                continue;
            }
            now.insert(id.clone(), digest);
        }
        if !self.looked {
            // What an earlier process has written.
            self.of.extend(lying(cachedir).into_iter().map(|id| (id, 0)));
            self.looked = true;
        }
        for id in self.of.keys().filter(|id| !now.contains_key(*id) && accepted.binary_search(id).is_err()) {
            note(forget(cachedir, id));
        }
        self.of = now;
        failed.map_or(Ok(()), Err)
    }
}

fn digest(facts: &Facts) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&facts.grains, &facts.pillar).hash(&mut hasher);
    hasher.finish()
}

/// Returns whose grains lie there.
fn lying(cachedir: &Path) -> Vec<MinionId> {
    let entries = fs::read_dir(cachedir.join("grains")).into_iter().flatten();
    let id = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        MinionId::parse(name.strip_suffix(".p")?).ok()
    };
    entries.filter_map(id).collect()
}

fn forget(cachedir: &Path, id: &MinionId) -> Result<(), WriteError> {
    for path in [grains_path(cachedir, id), pillar_path(cachedir, id), data_path(cachedir, id)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(WriteError::at(&path)(error)),
            _ => {}
        }
    }
    // It stays if Salt's tools keep anything else there.
    let _ = fs::remove_dir(cachedir.join("minions").join(id.as_str()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MinionId {
        MinionId::parse(text).unwrap()
    }

    fn known(os: &str, pillar: Option<&Map>) -> Option<Facts> {
        let encoded = |map: &Map| Bytes::from(proto::msgpack::encode_map(map));
        Some(Facts { grains: encoded(&map! { "os" => os }), pillar: pillar.map(encoded) })
    }

    #[test]
    fn both_forms_are_written_and_follow_the_keys() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mut written = Written::default();
        written.update(dir.path(), &[id("a"), id("b")], |_| known("Debian", None)).unwrap();
        assert_eq!(read(&grains_path(dir.path(), &id("a"))), map! { "os" => "Debian" });
        let data = || read(&data_path(dir.path(), &id("a")));
        assert_eq!(data(), map! { "grains" => map! { "os" => "Debian" }, "pillar" => Map::new() });
        let pillar = map! { "role" => "web" };
        written.update(dir.path(), &[id("a")], |_| known("Debian", Some(&pillar))).unwrap();
        assert_eq!(read(&pillar_path(dir.path(), &id("a"))), pillar);
        assert_eq!(data(), map! { "grains" => map! { "os" => "Debian" }, "pillar" => pillar.clone() });
        for path in [pillar_path(dir.path(), &id("a")), data_path(dir.path(), &id("a"))] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        written.update(dir.path(), &[id("a")], |_| known("Ubuntu", None)).unwrap();
        assert_eq!(data(), map! { "grains" => map! { "os" => "Ubuntu" }, "pillar" => pillar }, "it stays");
        assert!(!grains_path(dir.path(), &id("b")).exists() && !dir.path().join("minions/b").exists());
    }

    #[test]
    fn what_an_earlier_process_wrote_goes_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let facts = |_: &MinionId| known("Debian", None);
        Written::default().update(dir.path(), &[id("a"), id("b")], facts).unwrap();
        // After a restart the grains of `a` are not known before it connects: what lies there is better than nothing.
        Written::default().update(dir.path(), &[id("a")], |_| None).unwrap();
        assert!(grains_path(dir.path(), &id("a")).exists() && !grains_path(dir.path(), &id("b")).exists());
    }

    #[test]
    fn what_has_not_changed_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut written = Written::default();
        let facts = |_: &MinionId| known("Debian", None);
        written.update(dir.path(), &[id("a")], facts).unwrap();
        fs::remove_file(grains_path(dir.path(), &id("a"))).unwrap();
        written.update(dir.path(), &[id("a")], facts).unwrap();
        assert!(!grains_path(dir.path(), &id("a")).exists());
    }
}
