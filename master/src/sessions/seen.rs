//! When each minion was last heard of, kept over restarts of the master in `presence.db` in `cachedir`.
//!
//! Written once a minute as a whole, and when the master stops: after a `kill -9` a minion was "last seen" up to a minute
//! before it really was. The copy is disposable: without it, minions that are away were never seen until they come.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ids::MinionId;
use rusqlite::{Connection, params};
use tokio_util::sync::CancellationToken;

use super::registry::Registry;

/// How often it is written: 10,000 rows are some milliseconds of work.
const EVERY: Duration = Duration::from_secs(60);

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;";

/// Keeps the copy on the disk.
pub struct SeenCopy {
    path: PathBuf,
    registry: Registry,
    /// None where there can be no copy.
    db: Option<Connection>,
}

impl SeenCopy {
    /// Opens the copy and takes in what it says of those ids that `known` names. One that cannot be read begins anew.
    pub(super) fn open(path: &Path, registry: Registry, known: impl Fn(&MinionId) -> bool) -> SeenCopy {
        let opened = read(path).or_else(|error| {
            tracing::warn!(path = %path.display(), error = &error as &dyn Error, "the memory of who was seen begins anew");
            ["", "-shm", "-wal"].iter().for_each(|end| {
                // What cannot be removed shows when it is opened again.
                let _ = std::fs::remove_file(format!("{}{end}", path.display()));
            });
            read(path)
        });
        let db = match opened {
            Ok((db, mut seen)) => {
                seen.retain(|(id, _)| known(id));
                registry.remember_left(seen);
                Some(db)
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = &error as &dyn Error, "who was seen when is not saved");
                None
            }
        };
        SeenCopy { path: path.to_owned(), registry, db }
    }

    /// Writes it again and again until the token is cancelled, and then once more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut stopping = false;
        while !stopping {
            stopping = tokio::time::timeout(EVERY, stop.cancelled()).await.is_ok();
            self.save().await;
        }
    }

    async fn save(&mut self) {
        let Some(mut db) = self.db.take() else { return };
        let seen = self.registry.last_seen();
        let done = tokio::task::spawn_blocking(move || {
            let written = write(&mut db, &seen);
            (db, written)
        });
        // An error means that the runtime is shutting down.
        let Ok((db, written)) = done.await else { return };
        self.db = Some(db);
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), error = &error as &dyn Error, "who was seen when is not saved");
        }
    }
}

fn read(path: &Path) -> rusqlite::Result<(Connection, Vec<(MinionId, SystemTime)>)> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // A minute's memory may go with the power.
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(SCHEMA)?;
    let mut select = db.prepare("SELECT id, at_ms FROM seen")?;
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let at = |ms: i64| UNIX_EPOCH.checked_add(Duration::from_millis(ms.unsigned_abs()));
    let seen = rows.into_iter().filter_map(|(id, ms)| Some((MinionId::parse(&id).ok()?, at(ms)?))).collect();
    drop(select);
    Ok((db, seen))
}

fn write(db: &mut Connection, seen: &[(MinionId, SystemTime)]) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    tx.execute("DELETE FROM seen", [])?;
    for (id, at) in seen {
        let ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let args = params![id.as_str(), i64::try_from(ms).unwrap_or(i64::MAX)];
        tx.prepare_cached("INSERT INTO seen (id, at_ms) VALUES (?1, ?2)")?.execute(args)?;
    }
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MinionId {
        MinionId::parse(text).unwrap()
    }

    #[tokio::test]
    async fn who_left_is_remembered_over_a_restart_as_long_as_its_key_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("presence.db");
        let before = Registry::default();
        let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
        before.remember_left(vec![(id("a"), hour_ago), (id("gone"), hour_ago)]);
        let stop = CancellationToken::new();
        stop.cancel();
        SeenCopy::open(&path, before, |_| true).run(stop).await;
        let after = Registry::default();
        let _copy = SeenCopy::open(&path, after.clone(), |known| *known == id("a"));
        let left_s = |name: &str| after.view(&id(name)).left_s;
        assert!(left_s("a").is_some_and(|left| (3_600..3_700).contains(&left)), "{:?}", left_s("a"));
        assert_eq!((left_s("gone"), left_s("never")), (None, None));
    }

    #[test]
    fn a_broken_copy_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("presence.db");
        std::fs::write(&path, "this is no database at all, whatever it is").unwrap();
        assert!(SeenCopy::open(&path, Registry::default(), |_| true).db.is_some());
        assert!(SeenCopy::open(&dir.path().join("no/such/folder"), Registry::default(), |_| true).db.is_none());
    }
}
