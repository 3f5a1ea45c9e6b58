//! Moves committed pages from the WAL into the log's main file, on its own thread and connection.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How often the WAL is looked at without being told to.
const EVERY: Duration = Duration::from_secs(5);

/// How many WAL pages (4 KiB) are too many: then the writer is held up for a moment, so that the WAL can start anew.
const TOO_MANY: i64 = 16 * 1024;

/// How long starting anew waits for writer and readers; they are gone within a page.
const BUSY: Duration = Duration::from_secs(2);

/// Works until the sender is dropped.
pub(super) fn run(path: PathBuf, nudges: Receiver<()>) {
    let mut db = None;
    while !matches!(nudges.recv_timeout(EVERY), Err(RecvTimeoutError::Disconnected)) {
        if let Err(error) = checkpoint(&path, &mut db) {
            // The writer meets the same trouble and says so; here it only costs disk space.
            tracing::debug!(error = &error as &dyn std::error::Error, "cannot shorten the event log's WAL");
            db = None;
        }
    }
}

fn checkpoint(path: &Path, db: &mut Option<Connection>) -> rusqlite::Result<()> {
    let db = match db {
        Some(db) => db,
        None => db.insert(open(path)?),
    };
    let pages: i64 = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if pages > TOO_MANY {
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}
