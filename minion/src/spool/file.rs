//! The spool's file: loads by their places, and the id and the last number under which new ones go.

use std::path::Path;

use bytes::Bytes;
use proto::ids::Jid;
use proto::message::Spooled;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, Transaction, params};

use super::{OVERHEAD, Place, Read, Row};
use crate::database::{self, OpenError, Schema, clamp};

/// How many pages an empty file may keep; with more, it gives its room back. 256 KiB.
const KEPT_PAGES: i64 = 64;

pub(super) const SCHEMA: Schema = Schema {
    version: 1,
    tables: &[("loads", "seq spool n kind jid stored_ms load"), ("spool", "one id last_n boot")],
    sql: "
    CREATE TABLE IF NOT EXISTS loads (seq INTEGER PRIMARY KEY, spool BLOB NOT NULL, n INTEGER NOT NULL,
        kind INTEGER NOT NULL, jid TEXT, stored_ms INTEGER NOT NULL, load BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS spool (one INTEGER PRIMARY KEY CHECK (one = 1), id BLOB NOT NULL,
        last_n INTEGER NOT NULL, boot TEXT NOT NULL);
    INSERT OR IGNORE INTO spool VALUES (1, randomblob(16), 0, '');",
    lost: "the events and returns that the master has not",
};

/// What a load carries: events may be dropped, returns may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Events = 0,
    Return = 1,
}

/// A load as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) row: Row,
    pub(super) kind: Kind,
    pub(super) stored_ms: u64,
}

impl Stored {
    pub(super) fn size(&self) -> u64 {
        (self.row.bytes.len() + OVERHEAD) as u64
    }
}

/// How much is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) event_bytes: u64,
    pub(super) return_bytes: u64,
    pub(super) loads: u64,
}

impl Totals {
    pub(super) fn add(&mut self, kind: Kind, bytes: u64, loads: u64) {
        match kind {
            Kind::Events => self.event_bytes += bytes,
            Kind::Return => self.return_bytes += bytes,
        }
        self.loads += loads;
    }

    fn without(self, gone: Totals) -> Totals {
        Totals {
            event_bytes: self.event_bytes.saturating_sub(gone.event_bytes),
            return_bytes: self.return_bytes.saturating_sub(gone.return_bytes),
            loads: self.loads.saturating_sub(gone.loads),
        }
    }
}

/// Everything that one commit does.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    /// Loads up to here are acknowledged and go.
    pub(super) acked: u64,
    pub(super) new: &'a [Stored],
    /// The last number that was used under the file's id.
    pub(super) last_n: u64,
    /// Loads behind this place may be dropped.
    pub(super) held: u64,
    pub(super) max_bytes: u64,
    /// Events from before this moment go.
    pub(super) expired_ms: u64,
}

/// A load that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) seq: u64,
    /// Whether no later load shows it by a gap in the numbers of its id.
    pub(super) unseen: bool,
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    db: Connection,
    pub(super) id: [u8; 16],
    pub(super) last_n: u64,
    pub(super) totals: Totals,
}

impl File {
    /// Opens the file. Loads of an earlier life are moved behind `next_seq`, if this process has used places already.
    pub(super) fn open(place: &Place, next_seq: u64) -> Result<File, OpenError> {
        let db = database::open(&place.path, &SCHEMA)?;
        Self::begin(db, &place.boot, next_seq)
            .map_err(|source| OpenError::Database { path: place.path.clone(), source })
    }

    fn begin(db: Connection, boot: &str, next_seq: u64) -> rusqlite::Result<File> {
        // A second daemon must not number under the same id. An event costs no fsync of its own; see `sync`.
        db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = NORMAL; UPDATE spool SET one = 1;")?;
        // After a boot, or if nobody knows, the last numbers may be lost: a new id, so that none is used twice. Likewise if
        // what is here is sent behind what is new: under one id it would be taken for something that the master has.
        let renew = "UPDATE spool SET id = randomblob(16), last_n = 0, boot = ?1 WHERE boot <> ?1 OR ?1 = '' OR ?2 > 1";
        db.execute(renew, params![boot, clamp(next_seq)])?;
        if next_seq > 1 {
            // Shifted by more than the highest, so that no place is taken meanwhile.
            let shift = "UPDATE loads SET seq = seq + ?1 + (SELECT MAX(seq) FROM loads)";
            db.execute(shift, params![clamp(next_seq)])?;
        }
        let found = db.query_row("SELECT id, last_n FROM spool", [], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
        let totals = totals(&db, i64::MAX)?;
        Ok(File { db, id: found.0, last_n: found.1, totals })
    }

    /// Returns the highest place that is taken.
    pub(super) fn last_seq(&self) -> rusqlite::Result<u64> {
        self.db.query_row("SELECT COALESCE(MAX(seq), 0) FROM loads", [], |row| unsigned(row, 0))
    }

    /// Returns the jobs whose returns are here.
    pub(super) fn jids(&self) -> rusqlite::Result<Vec<Jid>> {
        let mut query = self.db.prepare("SELECT jid FROM loads WHERE jid IS NOT NULL")?;
        let texts = query.query_map([], |row| row.get::<_, String>(0))?;
        texts.filter_map(|text| text.map(|text| Jid::parse(&text).ok()).transpose()).collect()
    }

    /// Does everything or nothing. Survives the end of this process, not yet that of the host.
    pub(super) fn commit(&mut self, commit: &Commit<'_>) -> rusqlite::Result<Vec<Dropped>> {
        let transaction = self.db.transaction()?;
        let mut kept = self.totals.without(totals(&transaction, clamp(commit.acked))?);
        transaction.prepare_cached("DELETE FROM loads WHERE seq <= ?1")?.execute(params![clamp(commit.acked)])?;
        for stored in commit.new {
            insert(&transaction, stored)?;
            kept.add(stored.kind, stored.size(), 1);
        }
        transaction.execute("UPDATE spool SET last_n = ?1", params![clamp(commit.last_n)])?;
        let dropped = drop_events(&transaction, commit, &mut kept)?;
        transaction.commit()?;
        self.last_n = commit.last_n;
        self.totals = kept;
        Ok(dropped)
    }

    /// Returns loads in order, and whether there are more.
    pub(super) fn read(&self, read: Read, acked: u64) -> rusqlite::Result<(Vec<Row>, bool)> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut query =
            self.db.prepare_cached("SELECT seq, spool, n, jid, load FROM loads WHERE seq > ?1 ORDER BY seq")?;
        let mut found = query.query(params![clamp(read.after)])?;
        while let Some(next) = found.next()? {
            let row = decode(next)?;
            bytes += row.bytes.len();
            let alone = rows.is_empty() && read.after == acked;
            if rows.len() >= read.loads || (bytes > read.bytes && !alone) {
                return Ok((rows, true));
            }
            rows.push(row);
        }
        Ok((rows, false))
    }

    /// Puts everything that was committed on the disk for good.
    pub(super) fn sync(&self) -> rusqlite::Result<()> {
        // SQLite syncs only what it writes, and an UPDATE that changes nothing writes nothing; a header field is written
        // anyway, and has the value that it has.
        let version = SCHEMA.version;
        let sql = format!("PRAGMA synchronous = FULL; PRAGMA user_version = {version}; PRAGMA synchronous = NORMAL;");
        self.db.execute_batch(&sql)
    }

    /// Has the disk be full beyond so many pages.
    pub(super) fn limit_pages(&self, pages: u32) -> rusqlite::Result<()> {
        database::limit_pages(&self.db, pages)
    }

    /// Gives room back, if nothing is stored.
    pub(super) fn shrink(&self) -> rusqlite::Result<()> {
        let pages: i64 = self.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if self.totals.loads == 0 && pages > KEPT_PAGES { self.db.execute_batch("VACUUM") } else { Ok(()) }
    }

    /// Moves a file that cannot be read out of the way.
    pub(super) fn set_aside(self, path: &Path) {
        drop(self);
        database::set_aside(path);
    }
}

fn insert(transaction: &Transaction<'_>, stored: &Stored) -> rusqlite::Result<()> {
    let Row { seq, at, jid, bytes } = &stored.row;
    let sql = "INSERT INTO loads (seq, spool, n, kind, jid, stored_ms, load) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let jid = jid.as_ref().map(Jid::as_str);
    transaction.prepare_cached(sql)?.execute(params![
        clamp(*seq),
        at.spool,
        clamp(at.n),
        stored.kind as i64,
        jid,
        clamp(stored.stored_ms),
        &bytes[..]
    ])?;
    Ok(())
}

/// Adds up what is stored up to a place.
fn totals(db: &Connection, last: i64) -> rusqlite::Result<Totals> {
    let mut totals = Totals::default();
    let sql = "SELECT kind, SUM(LENGTH(load) + ?1), COUNT(*) FROM loads WHERE seq <= ?2 GROUP BY kind";
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query(params![OVERHEAD as i64, last])?;
    while let Some(row) = rows.next()? {
        let kind = if row.get::<_, i64>(0)? == Kind::Events as i64 { Kind::Events } else { Kind::Return };
        totals.add(kind, unsigned(row, 1)?, unsigned(row, 2)?);
    }
    Ok(totals)
}

/// Drops events, the oldest first, until the others are few and young enough.
fn drop_events(
    transaction: &Transaction<'_>,
    commit: &Commit<'_>,
    totals: &mut Totals,
) -> rusqlite::Result<Vec<Dropped>> {
    let mut going = Vec::new();
    {
        let sql =
            "SELECT seq, spool, LENGTH(load) + ?3, stored_ms FROM loads WHERE kind = ?1 AND seq > ?2 ORDER BY seq";
        let mut query = transaction.prepare_cached(sql)?;
        let mut rows = query.query(params![Kind::Events as i64, clamp(commit.held), OVERHEAD as i64])?;
        while let Some(row) = rows.next()? {
            if totals.event_bytes <= commit.max_bytes && unsigned(row, 3)? >= commit.expired_ms {
                break;
            }
            totals.event_bytes = totals.event_bytes.saturating_sub(unsigned(row, 2)?);
            totals.loads = totals.loads.saturating_sub(1);
            going.push((unsigned(row, 0)?, row.get::<_, [u8; 16]>(1)?));
        }
    }
    for (seq, _) in &going {
        transaction.prepare_cached("DELETE FROM loads WHERE seq = ?1")?.execute(params![clamp(*seq)])?;
    }
    let mut dropped = Vec::new();
    for (seq, spool) in going {
        let later = "SELECT 1 FROM loads WHERE spool = ?1 AND seq > ?2 LIMIT 1";
        let later = transaction.prepare_cached(later)?.query_row(params![spool, clamp(seq)], |_| Ok(())).optional()?;
        let current = transaction.query_row("SELECT id FROM spool", [], |row| row.get::<_, [u8; 16]>(0))?;
        dropped.push(Dropped { seq, unseen: later.is_none() && spool != current });
    }
    Ok(dropped)
}

fn decode(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let jid = row.get::<_, Option<String>>(3)?.and_then(|text| Jid::parse(&text).ok());
    let at = Spooled { spool: row.get(1)?, n: unsigned(row, 2)? };
    Ok(Row { seq: unsigned(row, 0)?, at, jid, bytes: Bytes::from(row.get::<_, Vec<u8>>(4)?) })
}

fn unsigned(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}
