//! Named places in the event log that outlive their readers: `halite events --cursor NAME` goes on where it stopped.
//!
//! A cursor belongs to the user who made it. It only moves forward, and only over what its reader says it has dealt with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use proto::map;
use proto::value::Value;
use rusqlite::{Connection, OptionalExtension, params};

use crate::bus::Bus;
use crate::command::CommandError;

/// How many cursors there may be. Each is a promise to look after; a script that makes new names all the time is told so.
const MAX_CURSORS: i64 = 256;

/// The longest name.
const MAX_NAME: usize = 64;

/// The master's own readers of the log: their cursors are listed, and are nobody else's.
const OWN: &[&str] = &["jobs", "reactor", "salt_files"];

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, next INTEGER NOT NULL, uid INTEGER NOT NULL) WITHOUT ROWID;
";

/// Why the cursors cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("use the cursors in {path}; check its rights and the disk, or move it away: readers then begin anew")]
pub struct CursorsError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub struct Cursors {
    /// Used off the async threads, for moments.
    db: Arc<Mutex<Connection>>,
    bus: Bus,
}

/// Who uses a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Root, the master's own user, or the master itself: may use all of them.
    Anyone,
    /// Somebody else: only their own.
    User(u32),
}

impl Cursors {
    /// Opens the file, or makes it.
    pub fn open(path: &Path, bus: Bus) -> Result<Cursors, CursorsError> {
        let open = || {
            let db = Connection::open(path)?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            // A power cut may set a cursor back by some events; its reader then gets them again.
            db.pragma_update(None, "synchronous", "NORMAL")?;
            db.execute_batch(SCHEMA)?;
            let mut select = db.prepare("SELECT name, next FROM cursors")?;
            let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            for row in rows {
                let (name, next) = row?;
                bus.note_cursor(&name, Some(next.cast_unsigned()));
            }
            drop(select);
            Ok(db)
        };
        let db = open().map_err(|source| CursorsError { path: path.to_owned(), source })?;
        Ok(Cursors { db: Arc::new(Mutex::new(db)), bus })
    }

    /// Returns the offset from which this cursor's reader goes on. One that is new is made there and then, at `start` or
    /// else behind the newest event.
    pub async fn take_up(&self, name: String, owner: Owner, start: Option<u64>) -> Result<u64, CommandError> {
        check(&name)?;
        let (oldest, end) = (self.bus.oldest(), self.bus.head() + 1);
        let start = start.unwrap_or(end);
        let made = name.clone();
        let next = self
            .off(move |db| {
                let next = take_up(db, &made, owner, start, end)?;
                if next <= end {
                    return Ok(next);
                }
                tracing::warn!(
                    cursor = made,
                    next,
                    head = end - 1,
                    "a cursor is ahead of the event log, which was replaced: its reader begins with the oldest event"
                );
                set(db, &made, oldest)
            })
            .await?;
        self.bus.note_cursor(&name, Some(next));
        Ok(next)
    }

    /// Moves a cursor behind this event; never back, never beyond the log.
    pub async fn advance(&self, name: String, owner: Owner, offset: u64) -> Result<(), CommandError> {
        check(&name)?;
        let next = offset.min(self.bus.head()).saturating_add(1);
        let bus = self.bus.clone();
        // Noted where it is stored, so that of two moves the later one is noted last.
        self.off(move |db| {
            let next = advance(db, &name, owner, next)?;
            bus.note_cursor(&name, Some(next));
            Ok(())
        })
        .await
    }

    /// Forgets a cursor.
    pub async fn delete(&self, name: String, owner: Owner) -> Result<(), CommandError> {
        check(&name)?;
        let gone = name.clone();
        self.off(move |db| {
            stored(db, &gone, owner)?.ok_or_else(|| unknown(&gone))?;
            db.execute("DELETE FROM cursors WHERE name = ?1", [&gone]).map_err(broken)
        })
        .await?;
        self.bus.note_cursor(&name, None);
        Ok(())
    }

    /// Lists all cursors, the master's own too: how far each is, how many events it has still before it, and how many of
    /// these are deleted by now.
    pub fn list(&self) -> Value {
        let (head, oldest) = (self.bus.head(), self.bus.oldest());
        let view = |(name, next): (String, u64)| {
            let (own, lag) = (OWN.contains(&name.as_str()), (head + 1).saturating_sub(next));
            let deleted = oldest.min(head + 1).saturating_sub(next.max(1));
            Value::from(map! { "name" => name, "next" => next, "lag" => lag, "deleted" => deleted, "own" => own })
        };
        Value::List(self.bus.cursors().into_iter().map(view).collect())
    }

    async fn off<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CommandError> + Send + 'static,
    ) -> Result<T, CommandError> {
        let db = Arc::clone(&self.db);
        let done = tokio::task::spawn_blocking(move || work(&mut db.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.map_err(|_| CommandError::Busy("the master is stopping".into()))?
    }
}

fn check(name: &str) -> Result<(), CommandError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) || name.starts_with(['.', '-']) {
        let text = format!("a cursor's name has 1 to {MAX_NAME} letters, digits, '.', '_' and '-'; not {name:?}");
        return Err(CommandError::Invalid(text));
    }
    if OWN.contains(&name) {
        return Err(CommandError::Invalid(format!("the cursor {name} is the master's own; choose another name")));
    }
    Ok(())
}

fn broken(error: rusqlite::Error) -> CommandError {
    CommandError::Internal(format!("failed to store the cursor: {error}; check the disk of cachedir"))
}

fn unknown(name: &str) -> CommandError {
    CommandError::NotFound(format!("there is no cursor {name}; `halite events cursors` shows those there are"))
}

/// Returns where a cursor is, if there is one, and refuses one that belongs to somebody else.
fn stored(db: &Connection, name: &str, owner: Owner) -> Result<Option<u64>, CommandError> {
    let sql = "SELECT next, uid FROM cursors WHERE name = ?1";
    let row = db.query_row(sql, [name], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)));
    let Some((next, uid)) = row.optional().map_err(broken)? else { return Ok(None) };
    match owner {
        Owner::User(own) if own != uid => Err(CommandError::NotPermitted {
            user: format!("user {own}"),
            what: "use somebody else's cursor",
            remedy: "choose another name".into(),
        }),
        _ => Ok(Some(next.cast_unsigned())),
    }
}

fn take_up(db: &mut Connection, name: &str, owner: Owner, start: u64, end: u64) -> Result<u64, CommandError> {
    if let Some(next) = stored(db, name, owner)? {
        return Ok(next);
    }
    if start > end {
        let text = format!("a cursor cannot begin at {start}: the newest event is {}", end - 1);
        return Err(CommandError::Invalid(text));
    }
    let count: i64 = db.query_row("SELECT count(*) FROM cursors", [], |row| row.get(0)).map_err(broken)?;
    if count >= MAX_CURSORS {
        let remedy = "delete some with `halite events cursors --delete NAME`";
        return Err(CommandError::Invalid(format!("there are {MAX_CURSORS} cursors already; {remedy}")));
    }
    let uid = match owner {
        Owner::Anyone => 0,
        Owner::User(uid) => uid,
    };
    let sql = "INSERT INTO cursors (name, next, uid) VALUES (?1, ?2, ?3)";
    db.execute(sql, params![name, start.cast_signed(), uid]).map_err(broken)?;
    Ok(start)
}

fn advance(db: &mut Connection, name: &str, owner: Owner, next: u64) -> Result<u64, CommandError> {
    let before = stored(db, name, owner)?.ok_or_else(|| unknown(name))?;
    set(db, name, before.max(next))
}

fn set(db: &Connection, name: &str, next: u64) -> Result<u64, CommandError> {
    let sql = "UPDATE cursors SET next = ?2 WHERE name = ?1";
    db.execute(sql, params![name, next.cast_signed()]).map_err(broken)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::BusConfig;

    #[tokio::test]
    async fn a_cursor_moves_forward_and_belongs_to_somebody() {
        let folder = tempfile::tempdir().unwrap();
        let (bus, _task) = Bus::open(BusConfig::new(folder.path().join("events"))).unwrap();
        let path = folder.path().join("cursors.db");
        let cursors = Cursors::open(&path, bus.clone()).unwrap();
        let (alice, bob) = (Owner::User(1_000), Owner::User(1_001));
        assert_eq!(cursors.take_up("ship".into(), alice, Some(0)).await, Ok(0));
        assert_eq!(cursors.take_up("ship".into(), alice, Some(9)).await, Ok(0), "the cursor counts");
        assert!(matches!(cursors.take_up("ship".into(), bob, None).await, Err(CommandError::NotPermitted { .. })));
        assert!(matches!(cursors.advance("ship".into(), bob, 1).await, Err(CommandError::NotPermitted { .. })));
        // The log is empty: nothing beyond it can have been read.
        cursors.advance("ship".into(), alice, 99).await.unwrap();
        assert_eq!(cursors.take_up("ship".into(), Owner::Anyone, None).await, Ok(1));
        assert!(matches!(cursors.advance("other".into(), alice, 1).await, Err(CommandError::NotFound(_))));
        assert!(matches!(cursors.take_up("ahead".into(), alice, Some(2)).await, Err(CommandError::Invalid(_))));
        for bad in ["", ".x", "a/b", "reactor", "-x", &"a".repeat(65)] {
            assert!(matches!(cursors.take_up(bad.into(), alice, None).await, Err(CommandError::Invalid(_))), "{bad}");
        }
        // A log that was begun anew has less than the cursor knows of; nothing of it is passed over.
        set(&cursors.db.lock().unwrap(), "ship", 500).unwrap();
        assert_eq!(cursors.take_up("ship".into(), alice, None).await, Ok(1));
        drop(cursors);
        let cursors = Cursors::open(&path, bus.clone()).unwrap();
        assert_eq!(bus.cursors().get("ship"), Some(&1));
        for n in 1..MAX_CURSORS {
            cursors.take_up(format!("c{n}"), bob, None).await.unwrap();
        }
        assert!(matches!(cursors.take_up("more".into(), bob, None).await, Err(CommandError::Invalid(_))));
        cursors.delete("ship".into(), alice).await.unwrap();
        assert_eq!(bus.cursors().get("ship"), None);
        assert!(cursors.take_up("more".into(), bob, None).await.is_ok());
    }
}
