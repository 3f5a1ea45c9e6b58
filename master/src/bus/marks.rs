//! The marks of spools in a segment's file: written with each commit, and carried over into the next segment.

use std::collections::HashMap;
use std::path::Path;

use proto::ids::MinionId;
use proto::message::Kind;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::state::{BusState, SpoolMark};

/// Reads all marks.
pub(super) fn read(db: &Connection) -> rusqlite::Result<HashMap<MinionId, Vec<SpoolMark>>> {
    let mut marks: HashMap<MinionId, Vec<SpoolMark>> = HashMap::new();
    let mut statement = db.prepare("SELECT id, spool, n, used, kind FROM marks ORDER BY used")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some((id, mark)) = read_one(row)? {
            marks.entry(id).or_default().push(mark);
        }
    }
    Ok(marks)
}

fn read_one(row: &Row<'_>) -> rusqlite::Result<Option<(MinionId, SpoolMark)>> {
    let Ok(id) = MinionId::parse(row.get_ref(0)?.as_str()?) else { return Ok(None) };
    let mark = SpoolMark {
        spool: row.get(1)?,
        n: row.get::<_, i64>(2)?.cast_unsigned(),
        used: row.get::<_, i64>(3)?.cast_unsigned(),
        kind: if row.get_ref(4)?.as_str()? == Kind::Call.name() { Kind::Call } else { Kind::Daemon },
    };
    Ok(Some((id, mark)))
}

/// Writes marks, over older ones of the same spools.
pub(super) fn write<'a>(
    transaction: &Transaction<'_>,
    marks: impl Iterator<Item = (&'a MinionId, &'a SpoolMark)>,
) -> rusqlite::Result<()> {
    let mut keep = transaction
        .prepare_cached("INSERT OR REPLACE INTO marks (id, spool, n, used, kind) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (id, mark) in marks {
        let (n, used) = (mark.n.cast_signed(), mark.used.cast_signed());
        keep.execute(params![id.as_str(), mark.spool, n, used, mark.kind.name()])?;
    }
    Ok(())
}

/// Writes the head.
pub(super) fn write_head(transaction: &Transaction<'_>, head: u64, stamp_us: i64) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached("UPDATE head SET offset = ?1, stamp_us = ?2")?;
    update.execute(params![head.cast_signed(), stamp_us]).map(drop)
}

/// Writes into the file of the next segment what has to go on in it. `since` is a head of the log: the file has the marks as
/// of then, and only those that moved since are written. The file has another name as long as this is not on the disk, so
/// nothing is synced in between.
pub(super) fn fill(path: &Path, state: &BusState, since: Option<u64>) -> rusqlite::Result<()> {
    change(path, |transaction| {
        match since {
            None => {
                // What an attempt that failed has left.
                transaction.execute("DELETE FROM marks", [])?;
                write(transaction, state.marks())?;
            }
            Some(since) => replace(transaction, &state.moved(since))?,
        }
        write_head(transaction, state.head(), state.stamp_us())
    })
}

/// Copies the marks of one segment's file into the next one's, or of `since` on only those of minions with a mark that has
/// moved; returns the head of the log that they belong to.
pub(super) fn carry(from: &Path, to: &Path, since: Option<u64>) -> rusqlite::Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut source = Connection::open_with_flags(from, flags)?;
    // Head and marks as of one commit.
    let snapshot = source.transaction()?;
    let head = snapshot.query_row("SELECT offset FROM head", [], |row| row.get::<_, i64>(0)).optional()?;
    let head = head.unwrap_or(0).cast_unsigned();
    if since == Some(head) {
        return Ok(head);
    }
    let mut moved: Vec<(MinionId, Vec<SpoolMark>)> = Vec::new();
    {
        let sql =
            "SELECT id, spool, n, used, kind FROM marks WHERE ?1 = 0 OR id IN (SELECT id FROM marks WHERE used >= ?1)
            ORDER BY id";
        let mut select = snapshot.prepare(sql)?;
        let mut rows = select.query([since.unwrap_or(0).cast_signed()])?;
        while let Some(row) = rows.next()? {
            let Some((id, mark)) = read_one(row)? else { continue };
            match moved.last_mut().filter(|(last, _)| *last == id) {
                Some((_, marks)) => marks.push(mark),
                None => moved.push((id, vec![mark])),
            }
        }
    }
    drop(snapshot);
    change(to, |transaction| {
        if since.is_none() {
            transaction.execute("DELETE FROM marks", [])?;
        }
        let moved: Vec<_> = moved.iter().map(|(id, marks)| (id, &marks[..])).collect();
        replace(transaction, &moved)
    })?;
    Ok(head)
}

/// Writes all marks of these minions, and takes those away that they have no more.
fn replace(transaction: &Transaction<'_>, moved: &[(&MinionId, &[SpoolMark])]) -> rusqlite::Result<()> {
    let mut forget = transaction.prepare_cached("DELETE FROM marks WHERE id = ?1")?;
    for (id, _) in moved {
        forget.execute([id.as_str()])?;
    }
    write(transaction, moved.iter().flat_map(|(id, marks)| marks.iter().map(move |mark| (*id, mark))))
}

/// Changes a file that nobody reads yet, in one transaction that is not synced.
fn change(path: &Path, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let mut db =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.pragma_update(None, "synchronous", "OFF")?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    work(&transaction)?;
    transaction.commit()?;
    // The file is moved without its WAL: closing it would not tell if that could not be emptied.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    db.close().map_err(|(_, error)| error)
}
