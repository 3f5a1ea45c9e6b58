//! The grains that minions told, encoded, and their copy on the disk.
//!
//! Targets are matched against them, also for a minion that is away. So that a restart of the master forgets none, they are
//! copied to `grains.db` in `cachedir`, some seconds late and many at a time. The copy is disposable: deleted, it is filled
//! again as minions connect. It holds accepted ids alone, each with at most [`MAX_GRAINS`](super::requests::MAX_GRAINS).

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::ids::MinionId;
use rusqlite::{Connection, params};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How long changes are gathered before they are written: a fleet that comes back is one transaction.
const GATHER: Duration = Duration::from_secs(2);

/// What it means that there is no copy.
const NOT_SAVED: &str = "grains are not saved: after a restart, minions that are away do not match by them";

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS grains (id TEXT PRIMARY KEY, load BLOB NOT NULL) WITHOUT ROWID;";

/// The grains by minion: cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Grains {
    told: Arc<Mutex<Told>>,
    changed: Arc<Notify>,
    /// How often anything has changed, for others who keep a copy.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Told {
    of: HashMap<MinionId, Bytes>,
    /// Whose copy on the disk is not this.
    unsaved: HashSet<MinionId>,
}

impl Grains {
    /// Returns the grains a minion told.
    pub(super) fn get(&self, id: &MinionId) -> Option<Bytes> {
        self.lock().of.get(id).cloned()
    }

    pub(super) fn set(&self, id: &MinionId, grains: &Bytes) {
        let mut told = self.lock();
        if told.of.get(id) == Some(grains) {
            return;
        }
        // A copy of its own: the load it came in may be much larger.
        told.of.insert(id.clone(), Bytes::copy_from_slice(grains));
        told.unsaved.insert(id.clone());
        self.tell();
    }

    /// Returns what changes whenever a minion's grains do.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn tell(&self) {
        self.changed.notify_one();
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn forget(&self, id: &MinionId) {
        let mut told = self.lock();
        if told.of.remove(id).is_some() {
            told.unsaved.insert(id.clone());
            self.tell();
        }
    }

    /// Takes in what was on the disk; what has changed since counts more.
    fn fill(&self, saved: Vec<(MinionId, Bytes)>) {
        let mut told = self.lock();
        for (id, grains) in saved {
            if !told.unsaved.contains(&id) {
                told.of.insert(id, grains);
            }
        }
    }

    /// Takes what is to be written: the grains, or nothing where they are to be deleted.
    fn take_unsaved(&self) -> Vec<(MinionId, Option<Bytes>)> {
        let mut told = self.lock();
        let ids = std::mem::take(&mut told.unsaved);
        ids.into_iter().map(|id| (id.clone(), told.of.get(&id).cloned())).collect()
    }

    /// Notes that these could not be written; the next change takes them along.
    fn give_back(&self, ids: impl Iterator<Item = MinionId>) {
        self.lock().unsaved.extend(ids);
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // Each change is one insert or remove; a panic leaves the maps whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the copy on the disk.
pub struct GrainsCopy {
    path: PathBuf,
    grains: Grains,
    /// None where there can be no copy.
    db: Option<Connection>,
}

impl GrainsCopy {
    /// Opens the copy and takes in the grains of those ids that `known` names; the others are deleted from it. A copy that
    /// cannot be read begins anew; if there can be none, the master does without.
    pub(super) fn open(path: &Path, grains: Grains, known: impl Fn(&MinionId) -> bool) -> GrainsCopy {
        let mut copy = GrainsCopy { path: path.to_owned(), grains, db: None };
        if let Err(error) = copy.read(&known).or_else(|error| {
            tracing::warn!(path = %path.display(), error = &error as &dyn Error, "the copy of the grains begins anew");
            remove(path);
            copy.read(&known)
        }) {
            tracing::error!(path = %path.display(), error = &error as &dyn Error, "{NOT_SAVED}");
        }
        copy
    }

    fn read(&mut self, known: impl Fn(&MinionId) -> bool) -> rusqlite::Result<()> {
        let (db, rows) = read(&self.path)?;
        let (kept, gone): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(id, _)| known(id));
        self.db = Some(db);
        self.grains.fill(kept);
        self.write(&gone.into_iter().map(|(id, _)| (id, None)).collect::<Vec<_>>())
    }

    /// Writes what changes until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.grains.changed.notified() => {
                    // Stopping ends the gathering.
                    let _ = tokio::time::timeout(GATHER, stop.cancelled()).await;
                }
            }
            self.save().await;
        }
    }

    async fn save(&mut self) {
        let unsaved = self.grains.take_unsaved();
        if unsaved.is_empty() {
            return;
        }
        let Some(db) = self.db.take() else { return };
        let mut copy = GrainsCopy { path: self.path.clone(), grains: self.grains.clone(), db: Some(db) };
        let done = tokio::task::spawn_blocking(move || {
            let written = copy.write(&unsaved);
            (copy.db, unsaved, written)
        });
        // An error means that the runtime is shutting down.
        let Ok((db, unsaved, written)) = done.await else { return };
        self.db = db;
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), error = &error as &dyn Error, "{NOT_SAVED}");
            self.grains.give_back(unsaved.into_iter().map(|(id, _)| id));
        }
    }

    fn write(&mut self, changes: &[(MinionId, Option<Bytes>)]) -> rusqlite::Result<()> {
        let Some(db) = self.db.as_mut().filter(|_| !changes.is_empty()) else { return Ok(()) };
        let tx = db.transaction()?;
        for (id, grains) in changes {
            match grains {
                Some(grains) => tx
                    .prepare_cached("INSERT OR REPLACE INTO grains (id, load) VALUES (?1, ?2)")?
                    .execute(params![id.as_str(), &**grains])?,
                None => tx.prepare_cached("DELETE FROM grains WHERE id = ?1")?.execute(params![id.as_str()])?,
            };
        }
        tx.commit()
    }
}

/// Removes the copy. What is not there, or cannot be removed, shows when it is opened again.
fn remove(path: &Path) {
    for suffix in ["", "-shm", "-wal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

fn read(path: &Path) -> rusqlite::Result<(Connection, Vec<(MinionId, Bytes)>)> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // Nothing is lost with it that the minions do not tell again.
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(SCHEMA)?;
    let mut select = db.prepare("SELECT id, load FROM grains")?;
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let checked = rows.into_iter().filter_map(|(id, load)| Some((MinionId::parse(&id).ok()?, load.into()))).collect();
    drop(select);
    Ok((db, checked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MinionId {
        MinionId::parse(text).unwrap()
    }

    async fn saved(path: &Path, grains: &Grains) {
        let mut copy = GrainsCopy::open(path, grains.clone(), |_| true);
        let stop = CancellationToken::new();
        stop.cancel();
        copy.save().await;
        copy.run(stop).await;
    }

    #[tokio::test]
    async fn grains_outlive_the_master_and_go_with_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grains.db");
        let grains = Grains::default();
        ["a", "b", "c"].iter().for_each(|name| grains.set(&id(name), &Bytes::from_static(b"old")));
        saved(&path, &grains).await;
        grains.forget(&id("b"));
        grains.set(&id("a"), &Bytes::from_static(b"new"));
        saved(&path, &grains).await;
        let later = Grains::default();
        later.set(&id("c"), &Bytes::from_static(b"told since"));
        GrainsCopy::open(&path, later.clone(), |_| true);
        assert_eq!(later.get(&id("a")).as_deref(), Some(&b"new"[..]));
        assert_eq!(later.get(&id("b")), None);
        assert_eq!(later.get(&id("c")).as_deref(), Some(&b"told since"[..]));
        let accepted = Grains::default();
        GrainsCopy::open(&path, accepted.clone(), |known| *known == id("c"));
        let all = Grains::default();
        GrainsCopy::open(&path, all.clone(), |_| true);
        assert_eq!(
            (accepted.get(&id("a")), all.get(&id("a"))),
            (None, None),
            "a key that is gone takes its grains along"
        );
    }

    #[test]
    fn grains_that_did_not_change_are_not_written() {
        let grains = Grains::default();
        grains.set(&id("a"), &Bytes::from_static(b"same"));
        assert_eq!(grains.take_unsaved().len(), 1);
        grains.set(&id("a"), &Bytes::from_static(b"same"));
        grains.forget(&id("unknown"));
        assert_eq!(grains.take_unsaved(), []);
    }

    #[test]
    fn a_broken_copy_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grains.db");
        std::fs::write(&path, "this is no database at all, whatever it is").unwrap();
        assert!(GrainsCopy::open(&path, Grains::default(), |_| true).db.is_some());
        assert!(GrainsCopy::open(&dir.path().join("no/such/folder"), Grains::default(), |_| true).db.is_none());
    }
}
