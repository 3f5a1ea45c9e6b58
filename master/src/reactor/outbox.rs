//! The outbox: what reactions are about to do, stored before they do it, together with the cursor.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use proto::ids::Jid;
use proto::map;
use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use rusqlite::{Connection, TransactionBehavior, params};

use super::high::Chunk;
use super::state::{MAX_CAUSES, Seen};

/// The version of the tables below, in `PRAGMA user_version`. An older Halite refuses a newer file.
const SCHEMA: i64 = 1;

/// What is done stays for a while: its jid or key is the cause of later events.
const TABLES: &str = "
    CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), offset INTEGER NOT NULL);
    CREATE TABLE reactions (n INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, tag TEXT NOT NULL,
        depth INTEGER NOT NULL, jid TEXT, low BLOB, done INTEGER NOT NULL);
    CREATE INDEX unfinished ON reactions (n) WHERE done = 0;
    PRAGMA user_version = 1;
";

/// After how many reactions the oldest finished ones are forgotten.
const FORGET_EVERY: u64 = 1_000;

/// Why the outbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite cannot use the file.
    #[error(
        "use the reactor's outbox {path}; check its rights and the disk, or move it away: the reactor then starts with \
         new events"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A newer Halite has written it.
    #[error(
        "open the reactor's outbox {path}: it has schema {found}, this Halite knows {SCHEMA}; run the newer Halite"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema in it.
        found: i64,
    },
}

/// Why the outbox cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("use the reactor's outbox {path}; check the disk and its free space")]
pub struct OutboxError {
    path: PathBuf,
    source: rusqlite::Error,
}

impl From<OutboxError> for OpenError {
    fn from(error: OutboxError) -> OpenError {
        OpenError::Unusable { path: error.path, source: error.source }
    }
}

/// One reaction in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Its number.
    pub(super) n: i64,
    /// Offset of the event and place among its reactions: the same after a crash.
    pub(super) key: String,
    /// The tag of the event.
    pub(super) tag: String,
    /// How many reactions it has behind it, itself included.
    pub(super) depth: u32,
    /// The jid, of a job.
    pub(super) jid: Option<Jid>,
    /// What to do.
    pub(super) chunk: Chunk,
}

impl Entry {
    /// Makes the entry of the reaction that stands at `index` among those of an event.
    pub(super) fn new(event: Seen<'_>, index: usize, depth: u32, jid: Option<Jid>, chunk: Chunk) -> Entry {
        Entry { n: 0, key: format!("{}.{index}", event.offset), tag: event.tag.to_owned(), depth, jid, chunk }
    }

    /// Returns by what events are known that come of this reaction.
    pub(super) fn cause(&self) -> String {
        self.jid.as_ref().map_or_else(|| self.key.clone(), |jid| jid.as_str().to_owned())
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Outbox {
    path: PathBuf,
    db: Connection,
    since_forgotten: u64,
}

impl Outbox {
    /// Opens the file, or makes it with the cursor at `head`.
    pub(super) fn open(path: &Path, head: u64) -> Result<Outbox, OpenError> {
        let unusable = |source| OpenError::Unusable { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // If this fails, SQLite will say why it cannot open the file.
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        }
        let mut db = Connection::open(path).map_err(unusable)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(unusable)?;
        if found > SCHEMA {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        configure(&db).map_err(unusable)?;
        if found == 0 {
            create(&mut db, head).map_err(unusable)?;
        }
        Ok(Outbox { path: path.to_owned(), db, since_forgotten: 0 })
    }

    /// Returns the last event that is done with.
    pub(super) fn cursor(&self) -> Result<u64, OutboxError> {
        let read = self.db.query_row("SELECT offset FROM cursor", [], |row| row.get::<_, i64>(0));
        read.map(i64::cast_unsigned).map_err(|source| self.fail(source))
    }

    /// Returns where the reactor goes on in a log that ends at `head`: one that was replaced is taken up at its end.
    pub(super) fn resume(&mut self, head: u64) -> Result<u64, OutboxError> {
        let cursor = self.cursor()?;
        if cursor > head {
            tracing::warn!(cursor, head, "the event log was replaced; the reactor starts at its end");
            self.store_cursor(head)?;
        }
        Ok(cursor.min(head))
    }

    /// Stores the cursor.
    pub(super) fn store_cursor(&mut self, cursor: u64) -> Result<(), OutboxError> {
        let stored = self.db.execute("UPDATE cursor SET offset = ?1", params![cursor.cast_signed()]);
        stored.map(drop).map_err(|source| self.fail(source))
    }

    /// Stores what an event sets off, and that the event is done with; fills in the numbers. It is on the disk then.
    pub(super) fn plan(&mut self, cursor: u64, entries: &mut [Entry]) -> Result<(), OutboxError> {
        let planned = plan(&mut self.db, cursor, entries);
        planned.map_err(|source| self.fail(source))?;
        self.since_forgotten += entries.len() as u64;
        if self.since_forgotten >= FORGET_EVERY {
            self.since_forgotten = 0;
            self.forget()?;
        }
        Ok(())
    }

    /// Returns what was planned and is not known to be done, in order.
    pub(super) fn unfinished(&self) -> Result<Vec<Entry>, OutboxError> {
        unfinished(&self.db).map_err(|source| self.fail(source))
    }

    /// Notes that a reaction has happened, or never will. A power cut may undo this; then it happens again.
    pub(super) fn done(&mut self, n: i64) -> Result<(), OutboxError> {
        let mark = || {
            self.db.pragma_update(None, "synchronous", "NORMAL")?;
            self.db.prepare_cached("UPDATE reactions SET done = 1, low = NULL WHERE n = ?1")?.execute(params![n])?;
            self.db.pragma_update(None, "synchronous", "FULL")
        };
        mark().map_err(|source| self.fail(source))
    }

    /// Returns jids and keys of the reactions that are remembered, with their depth, oldest first.
    pub(super) fn causes(&self) -> Result<Vec<(String, u32)>, OutboxError> {
        let read = || -> rusqlite::Result<Vec<(String, u32)>> {
            let mut select = self.db.prepare("SELECT coalesce(jid, key), depth FROM reactions ORDER BY n")?;
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(|source| self.fail(source))
    }

    fn forget(&self) -> Result<(), OutboxError> {
        let sql = "DELETE FROM reactions WHERE done = 1 AND n <= (SELECT max(n) FROM reactions) - ?1";
        let forgotten = self.db.execute(sql, params![MAX_CAUSES as i64]);
        forgotten.map(drop).map_err(|source| self.fail(source))
    }

    fn fail(&self, source: rusqlite::Error) -> OutboxError {
        OutboxError { path: self.path.clone(), source }
    }
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")
}

fn create(db: &mut Connection, head: u64) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO cursor VALUES (1, ?1)", params![head.cast_signed()])?;
    transaction.commit()
}

fn plan(db: &mut Connection, cursor: u64, entries: &mut [Entry]) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for entry in entries {
        let low = msgpack::encode_map(&low(&entry.chunk));
        let jid = entry.jid.as_ref().map(Jid::as_str);
        transaction
            .prepare_cached("INSERT INTO reactions (key, tag, depth, jid, low, done) VALUES (?1, ?2, ?3, ?4, ?5, 0)")?
            .execute(params![entry.key, entry.tag, entry.depth, jid, low])?;
        entry.n = transaction.last_insert_rowid();
    }
    transaction.execute("UPDATE cursor SET offset = ?1", params![cursor.cast_signed()])?;
    transaction.commit()
}

fn unfinished(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut select = db.prepare("SELECT n, key, tag, depth, jid, low FROM reactions WHERE done = 0 ORDER BY n")?;
    let mut rows = select.query([])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (jid, low): (Option<String>, Vec<u8>) = (row.get(4)?, row.get(5)?);
        let jid = jid.and_then(|jid| Jid::parse(&jid).ok());
        // What was written by this code can be read by it.
        let Some(chunk) = msgpack::decode_map(&low).ok().and_then(chunk) else { continue };
        entries.push(Entry { n: row.get(0)?, key: row.get(1)?, tag: row.get(2)?, depth: row.get(3)?, jid, chunk });
    }
    Ok(entries)
}

/// Returns a chunk as it is stored.
fn low(chunk: &Chunk) -> Map {
    map! { "id" => chunk.id.as_str(), "sls" => chunk.sls.as_str(), "rule" => chunk.rule.as_str(), "state" => chunk.state.as_str(),
    "fun" => chunk.fun.as_str(), "given" => chunk.given.clone() }
}

fn chunk(mut low: Map) -> Option<Chunk> {
    let given = match low.take("given") {
        Some(Value::Map(given)) => given,
        _ => return None,
    };
    let text = |name: &str| low.text(name).map(str::to_owned);
    // An older Halite did not store the rule.
    let rule = text("rule").unwrap_or_default();
    Some(Chunk { id: text("id")?, sls: text("sls")?, rule, state: text("state")?, fun: text("fun")?, given })
}

#[cfg(test)]
mod tests;
