//! The job cache: `jobs.db`, a projection of the log. It can be deleted at any time and is then built anew.
//!
//! The cursor is stored in the same transaction as the rows, so that every event counts once however often the master
//! is killed.

use std::path::{Path, PathBuf};

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::ret::succeeded;
use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::earlier::{self, Earlier};
use super::expiry::{self, Left};
use crate::bus::Event;
use crate::command::JobsQuery;

/// How many jobs a listing shows when nobody says.
const DEFAULT_LIST: usize = 1_000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS jobs (
        jid TEXT PRIMARY KEY, fun TEXT NOT NULL, tgt TEXT NOT NULL, load BLOB NOT NULL, offset INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS recipients (jid TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (jid, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS returns (
        jid TEXT NOT NULL, id TEXT NOT NULL, load BLOB NOT NULL, PRIMARY KEY (jid, id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS returns_by_minion ON returns (id, jid);
    CREATE TABLE IF NOT EXISTS live (jid TEXT PRIMARY KEY, serial INTEGER NOT NULL, expires_ms INTEGER NOT NULL)
        WITHOUT ROWID;
";

/// Why the job cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("use the job cache {path}; it is a projection of the event log: stop the master, delete it, start again")]
pub struct CacheError {
    path: String,
    source: rusqlite::Error,
}

/// One connection to the job cache. Blocking: callers run it off the async threads.
#[derive(Debug)]
pub(super) struct JobCache {
    path: PathBuf,
    db: Connection,
}

/// What the cache knows of a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    /// The job exists and this minion owes a return.
    Owed,
    /// The minion has returned already.
    Returned,
    /// The job exists and is not for this minion.
    Foreign,
    /// No such job.
    NoJob,
}

impl JobCache {
    /// Opens or makes the cache.
    pub(super) fn open(path: &Path) -> Result<JobCache, CacheError> {
        let open = || {
            let db = Connection::open(path)?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            // The log is the commit point; after a power cut the projection goes on from its last cursor.
            db.pragma_update(None, "synchronous", "NORMAL")?;
            db.busy_timeout(std::time::Duration::from_secs(5))?;
            db.execute_batch(SCHEMA)?;
            Ok(db)
        };
        let db = open().map_err(|source| CacheError { path: path.display().to_string(), source })?;
        Ok(JobCache { path: path.to_owned(), db })
    }

    /// Opens a cache that is there. One that somebody has taken away is not replaced by an empty one.
    pub(super) fn open_to_read(path: &Path) -> Result<JobCache, CacheError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags);
        let db = db.map_err(|source| CacheError { path: path.display().to_string(), source })?;
        Ok(JobCache { path: path.to_owned(), db })
    }

    fn fail(&self, source: rusqlite::Error) -> CacheError {
        CacheError { path: self.path.display().to_string(), source }
    }

    /// Returns the first offset that has not been taken in.
    pub(super) fn next_offset(&self) -> Result<u64, CacheError> {
        let read = self.db.query_row("SELECT next FROM cursor", [], |row| row.get::<_, i64>(0)).optional();
        Ok(read.map_err(|error| self.fail(error))?.unwrap_or(0).unsigned_abs())
    }

    /// Returns where to go on in a log that ends at `head`: one that was replaced is taken in from its beginning, and its
    /// events count beside what is known of the old one.
    pub(super) fn resume(&self, head: u64) -> Result<u64, CacheError> {
        let next = self.next_offset()?;
        if next <= head.saturating_add(1) {
            return Ok(next);
        }
        tracing::warn!(next, head, "the event log was replaced; the job cache takes it in from its beginning");
        let began = self.db.execute("DELETE FROM cursor", []);
        began.map(|_| 0).map_err(|error| self.fail(error))
    }

    /// Takes in events in one transaction; those of jobs that are older than `oldest` do not come back.
    pub(super) fn take_in(&mut self, events: &[Event], oldest: Option<&Jid>) -> Result<(), CacheError> {
        let Some(last) = events.last() else { return Ok(()) };
        let path = self.path.display().to_string();
        let mut write = || {
            let tx = self.db.transaction()?;
            for event in events {
                take_in_one(&tx, event, oldest)?;
            }
            tx.execute("INSERT OR REPLACE INTO cursor (one, next) VALUES (1, ?1)", params![signed(last.offset + 1)])?;
            tx.commit()
        };
        write().map_err(|source| CacheError { path, source })
    }

    /// Forgets some of the jobs that are older than `oldest`; tells whether there are more.
    pub(super) fn expire(&mut self, oldest: &Jid, now_ms: u64) -> Result<Left, CacheError> {
        let path = self.path.display().to_string();
        let mut forget = || {
            let tx = self.db.transaction()?;
            let left = expiry::forget(&tx, oldest, signed(now_ms))?;
            tx.commit()?;
            Ok(left)
        };
        forget().map_err(|source| CacheError { path, source })
    }

    /// Forgets the jobs whose first event is older than this offset, and gives the room back; returns how many.
    pub(super) fn compact(&mut self, oldest: u64) -> Result<usize, CacheError> {
        let path = self.path.display().to_string();
        let mut forget = || {
            let tx = self.db.transaction()?;
            for table in ["returns", "recipients", "live"] {
                let sql = format!("DELETE FROM {table} WHERE jid IN (SELECT jid FROM jobs WHERE offset < ?1)");
                tx.execute(&sql, params![signed(oldest)])?;
            }
            let forgotten = tx.execute("DELETE FROM jobs WHERE offset < ?1", params![signed(oldest)])?;
            tx.commit()?;
            self.db.execute_batch("VACUUM")?;
            Ok(forgotten)
        };
        forget().map_err(|source| CacheError { path, source })
    }

    /// Remembers until when a job may be caught up.
    pub(super) fn remember(&self, jid: &Jid, serial: u64, expires_ms: u64) -> Result<(), CacheError> {
        let args = params![jid.as_str(), signed(serial), signed(expires_ms)];
        let done = self.db.execute("INSERT OR REPLACE INTO live (jid, serial, expires_ms) VALUES (?1, ?2, ?3)", args);
        done.map(|_| ()).map_err(|error| self.fail(error))
    }

    /// Returns the jobs that may still be caught up: jid, serial, expiry, load, recipients, who has returned.
    pub(super) fn live(&self, now_ms: u64) -> Result<Vec<LiveRow>, CacheError> {
        let read = || {
            self.db.execute("DELETE FROM live WHERE expires_ms <= ?1", params![signed(now_ms)])?;
            let mut rows = Vec::new();
            let mut query = self
                .db
                .prepare("SELECT live.jid, serial, expires_ms, load FROM live JOIN jobs USING (jid) ORDER BY serial")?;
            let mut found = query.query([])?;
            while let Some(row) = found.next()? {
                let jid: String = row.get(0)?;
                rows.push(LiveRow {
                    serial: row.get::<_, i64>(1)?.unsigned_abs(),
                    expires_ms: row.get::<_, i64>(2)?.unsigned_abs(),
                    load: row.get(3)?,
                    minions: ids(&self.db, "SELECT id FROM recipients WHERE jid = ?1", &jid)?,
                    returned: ids(&self.db, "SELECT id FROM returns WHERE jid = ?1", &jid)?,
                    jid,
                });
            }
            Ok(rows)
        };
        read().map_err(|error| self.fail(error))
    }

    /// Tells whether there is a job of this jid.
    pub(super) fn has_job(&self, jid: &Jid) -> Result<bool, CacheError> {
        let found = self.db.query_row("SELECT 1 FROM jobs WHERE jid = ?1", params![jid.as_str()], |_| Ok(()));
        Ok(found.optional().map_err(|error| self.fail(error))?.is_some())
    }

    /// Returns what is known of a job.
    pub(super) fn earlier(&self, jid: &Jid) -> Result<Option<Earlier>, CacheError> {
        let read = || {
            let Some(load) = load_of(&self.db, jid.as_str())? else { return Ok(None) };
            let minions = ids(&self.db, "SELECT id FROM recipients WHERE jid = ?1", jid.as_str())?;
            let minions = minions.iter().filter_map(|id| MinionId::parse(id).ok()).collect();
            Ok(Some(Earlier::of(&load, minions)))
        };
        read().map_err(|error| self.fail(error))
    }

    /// Tells what the cache knows of a return.
    pub(super) fn judge(&self, id: &MinionId, jid: &Jid) -> Result<Cached, CacheError> {
        let has = |sql: &str, args: &[&dyn rusqlite::ToSql]| {
            self.db.query_row(sql, args, |_| Ok(())).optional().map(|found| found.is_some())
        };
        let judge = || {
            let (jid, id) = (jid.as_str(), id.as_str());
            if has("SELECT 1 FROM returns WHERE jid = ?1 AND id = ?2", &[&jid, &id])? {
                return Ok(Cached::Returned);
            }
            if has("SELECT 1 FROM recipients WHERE jid = ?1 AND id = ?2", &[&jid, &id])? {
                return Ok(Cached::Owed);
            }
            Ok(if has("SELECT 1 FROM jobs WHERE jid = ?1", &[&jid])? { Cached::Foreign } else { Cached::NoJob })
        };
        judge().map_err(|error| self.fail(error))
    }

    /// Lists jobs by jid, oldest first, in the form of `jobs.list_jobs`.
    pub(super) fn list(&self, query: &JobsQuery) -> Result<Map, CacheError> {
        let glob = |pattern: &Option<String>| pattern.as_deref().map(proto::target::glob::Glob::new);
        let (fun, tgt) = (glob(&query.fun), glob(&query.tgt));
        let limit = query.limit.unwrap_or(DEFAULT_LIST);
        let read = || {
            let mut listed = Vec::new();
            let mut select = self.db.prepare("SELECT jid, fun, tgt, load FROM jobs ORDER BY jid DESC")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                if listed.len() == limit {
                    break;
                }
                let (jid, row_fun, row_tgt): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let wanted = |glob: &Option<proto::target::glob::Glob>, text: &str| {
                    glob.as_ref().is_none_or(|glob| glob.matches(text))
                };
                if wanted(&fun, &row_fun) && wanted(&tgt, &row_tgt) {
                    let load: Vec<u8> = row.get(3)?;
                    listed.push((Value::from(jid.as_str()), Value::Map(describe(&jid, &load))));
                }
            }
            listed.reverse();
            Ok(listed.into_iter().collect())
        };
        read().map_err(|error| self.fail(error))
    }

    /// Shows one job in the form of `jobs.list_job`, with its recipients and results; nothing if there is no such job.
    pub(super) fn show(&self, jid: &Jid) -> Result<Option<Map>, CacheError> {
        let read = || {
            let load: Option<Vec<u8>> = self
                .db
                .query_row("SELECT load FROM jobs WHERE jid = ?1", params![jid.as_str()], |row| row.get(0))
                .optional()?;
            let Some(load) = load else { return Ok(None) };
            let mut job = map! { "jid" => jid };
            job.extend(describe(jid.as_str(), &load));
            let minions = ids(&self.db, "SELECT id FROM recipients WHERE jid = ?1 ORDER BY id", jid.as_str())?;
            let start = job.take("StartTime").unwrap_or_default();
            job.set("Minions", minions);
            job.set("StartTime", start);
            job.set("Result", self.results(jid)?);
            Ok(Some(job))
        };
        read().map_err(|error| self.fail(error))
    }

    fn results(&self, jid: &Jid) -> rusqlite::Result<Map> {
        let mut results = Map::new();
        let mut select = self.db.prepare("SELECT id, load FROM returns WHERE jid = ?1 ORDER BY id")?;
        let mut rows = select.query(params![jid.as_str()])?;
        while let Some(row) = rows.next()? {
            let (id, load): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let load = msgpack::decode_map(&load).unwrap_or_default();
            let mut result = map! { "return" => load.at("return").cloned().unwrap_or_default() };
            result.set("retcode", load.at("retcode").cloned().unwrap_or_default());
            result.set("success", succeeded(&load));
            if let Some(out) = load.text("out") {
                result.set("out", out);
            }
            results.set(&id, result);
        }
        Ok(results)
    }
}

/// A job that may still be caught up, as it stands on disk.
#[derive(Debug)]
pub(super) struct LiveRow {
    pub(super) jid: String,
    pub(super) serial: u64,
    pub(super) expires_ms: u64,
    pub(super) load: Vec<u8>,
    pub(super) minions: Vec<String>,
    pub(super) returned: Vec<String>,
}

fn ids(db: &Connection, sql: &str, jid: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached(sql)?.query_map(params![jid], |row| row.get(0))?.collect()
}

fn take_in_one(tx: &rusqlite::Transaction<'_>, event: &Event, oldest: Option<&Jid>) -> rusqlite::Result<()> {
    let parts: Vec<&str> = event.tag.as_str().split('/').collect();
    if let ["salt" | "halite", "job", jid, ..] = parts.as_slice()
        && expiry::is_expired(tx, jid, oldest)?
    {
        return Ok(());
    }
    match parts.as_slice() {
        ["salt", "job", jid, "new"] => {
            // What is not a map cannot have been fired by the master, who alone fires these.
            let Ok(load) = msgpack::decode_map(&event.data) else { return Ok(()) };
            insert_job(tx, jid, &load, event)?;
        }
        ["salt", "job", jid, "publish"] => {
            let Ok(load) = msgpack::decode_map(&event.data) else { return Ok(()) };
            complete(tx, jid, load)?;
        }
        ["halite", "job", jid, "live"] => {
            // The task may have been quicker; what it has written counts.
            let expires = msgpack::decode_map(&event.data).ok().and_then(|data| data.at("expires")?.as_u64());
            let sql = "INSERT INTO live (jid, serial, expires_ms) VALUES (?1, ?2, ?3)
                ON CONFLICT (jid) DO UPDATE SET expires_ms = max(expires_ms, excluded.expires_ms)";
            let args = params![jid, signed(event.offset), signed(expires.unwrap_or(0))];
            tx.prepare_cached(sql)?.execute(args)?;
        }
        // More minions of a job; or a job that was published below a syndic, and not here.
        ["halite", "job", jid, "syndic", syndic] => {
            let Ok(load) = msgpack::decode_map(&event.data) else { return Ok(()) };
            insert_job(tx, jid, &load, event)?;
            let mut named = load.at("minions").and_then(Value::as_list).unwrap_or_default().iter();
            if !named.any(|id| id.as_str() == Some(*syndic)) {
                drop_recipient(tx, jid, syndic)?;
            }
        }
        ["halite", "job", jid, "nomatch", id] => drop_recipient(tx, jid, id)?,
        ["salt", "job", jid, "ret", id] => {
            let sql = "INSERT OR IGNORE INTO returns (jid, id, load) VALUES (?1, ?2, ?3)";
            tx.prepare_cached(sql)?.execute(params![jid, id, &*event.data])?;
        }
        _ => {}
    }
    Ok(())
}

/// Takes in a job, unless it is there, and whom it is for.
fn insert_job(tx: &rusqlite::Transaction<'_>, jid: &str, load: &Map, event: &Event) -> rusqlite::Result<()> {
    let (fun, tgt) = (shown(load.at("fun")), shown(load.at("tgt")));
    let args = params![jid, fun, tgt, &*event.data, signed(event.offset)];
    let sql = "INSERT OR IGNORE INTO jobs (jid, fun, tgt, load, offset) VALUES (?1, ?2, ?3, ?4, ?5)";
    let is_new = tx.prepare_cached(sql)?.execute(args)? > 0;
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO recipients (jid, id) VALUES (?1, ?2)")?;
    for id in load.at("minions").and_then(Value::as_list).unwrap_or_default() {
        insert.execute(params![jid, id.as_str()])?;
    }
    // A syndic's minions belong to a job without being a further part of it.
    if is_new || !event.tag.as_str().ends_with("/new") { Ok(()) } else { widen(tx, jid) }
}

fn drop_recipient(tx: &rusqlite::Transaction<'_>, jid: &str, id: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM recipients WHERE jid = ?1 AND id = ?2")?.execute(params![jid, id]).map(drop)
}

/// What a job's `new` event says of its publication.
const IN_NEW: &[&str] = &["arg", "delimiter", "fun", "jid", "metadata", "tgt", "tgt_type", "user"];

/// Adds to a job what its minions were told beyond what its `new` event says: returners, and Salt's options.
fn complete(tx: &rusqlite::Transaction<'_>, jid: &str, mut published: Map) -> rusqlite::Result<()> {
    published.retain(|name, value| match name.as_str() {
        Some("ret") => value.as_str() != Some(""),
        name => !name.is_some_and(|name| IN_NEW.contains(&name)),
    });
    if published.is_empty() {
        return Ok(());
    }
    let Some(mut job) = load_of(tx, jid)? else { return Ok(()) };
    job.extend(published);
    let sql = "UPDATE jobs SET load = ?2 WHERE jid = ?1";
    tx.prepare_cached(sql)?.execute(params![jid, msgpack::encode_map(&job)]).map(drop)
}

/// Has a job that was published in parts name all its recipients.
fn widen(tx: &rusqlite::Transaction<'_>, jid: &str) -> rusqlite::Result<()> {
    let Some(mut job) = load_of(tx, jid)? else { return Ok(()) };
    let ids = ids(tx, "SELECT id FROM recipients WHERE jid = ?1", jid)?;
    earlier::address(&mut job, ids.into_iter().map(Value::from).collect());
    let args = params![jid, shown(job.at("tgt")), msgpack::encode_map(&job)];
    tx.prepare_cached("UPDATE jobs SET tgt = ?2, load = ?3 WHERE jid = ?1")?.execute(args).map(drop)
}

fn load_of(db: &Connection, jid: &str) -> rusqlite::Result<Option<Map>> {
    let mut select = db.prepare_cached("SELECT load FROM jobs WHERE jid = ?1")?;
    let load = select.query_row([jid], |row| row.get(0)).optional()?;
    Ok(load.and_then(|load: Vec<u8>| msgpack::decode_map(&load).ok()))
}

/// Shows a text, or a list joined by commas.
fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::List(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        Some(Value::Str(text)) => text.clone(),
        _ => String::new(),
    }
}

fn describe(jid: &str, load: &[u8]) -> Map {
    let load = msgpack::decode_map(load).unwrap_or_default();
    let field = |name: &str| load.at(name).cloned().unwrap_or_default();
    let mut job = map! {
        "Function" => field("fun"),
        "Arguments" => field("arg"),
        "Target" => field("tgt"),
        "Target-type" => field("tgt_type"),
        "User" => field("user"),
        "StartTime" => Jid::parse(jid).map(|jid| jid.start_time()).unwrap_or_default(),
    };
    if let Some(syndic) = load.at("syndic") {
        job.set("Syndic", syndic.clone());
    }
    if let Some(metadata) = load.at("metadata") {
        job.set("Metadata", metadata.clone());
    }
    if let Some(returners) = load.at("ret") {
        job.set("Returners", returners.clone());
    }
    job
}

/// SQLite's integers are signed; offsets, serials and times stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
