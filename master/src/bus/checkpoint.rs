//! Moves committed pages from the WAL into the active segment's main file, on a thread and a connection of its own.
//!
//! Moving pages holds nobody up, but the WAL begins anew only when all of it was moved, and a writer that is busy is always
//! a little ahead. To wait for it with its lock in hand costs commits hundreds of milliseconds. So the last few pages are
//! left to the writer, which moves them between two commits (`Log::finish_checkpoint`).

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::Shared;

/// When the WAL is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How many bytes are written between two nudges. Little at a time: the disk that syncs what was moved is the one that
    /// commits wait for.
    pub(super) bytes: usize,
    /// How long without a nudge.
    pub(super) every: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { bytes: 1024 * 1024, every: Duration::from_secs(5) }
    }
}

/// How many WAL pages (4 KiB) are enough for it to begin anew: 16 MiB.
const ENOUGH: i64 = 4 * 1024;

/// How many pages the writer may be left to move: 2 MiB, about as much as it commits at a time.
const FEW: i64 = 512;

/// How often the rest is made smaller before it is given up until the next nudge.
const PASSES: usize = 3;

/// How long a checkpoint waits for another one.
const BUSY: Duration = Duration::from_secs(2);

/// Works until the sender is dropped.
pub(super) fn run(shared: &Shared, nudges: &Receiver<()>, every: Duration) {
    let mut place = None;
    loop {
        if let Err(error) = checkpoint(shared, &mut place) {
            // The writer meets the same trouble and says so; here it only costs disk space.
            tracing::debug!(error = &error as &dyn std::error::Error, "cannot shorten the event log's WAL");
            place = None;
        }
        if matches!(nudges.recv_timeout(every), Err(RecvTimeoutError::Disconnected)) {
            return;
        }
    }
}

fn checkpoint(shared: &Shared, place: &mut Option<(u64, Connection)>) -> rusqlite::Result<()> {
    let active = shared.segments.active();
    let db = match place.take() {
        Some((first, db)) if first == active => db,
        _ => open(&shared.segments.path(active))?,
    };
    let (_, db) = place.insert((active, db));
    for _ in 0..PASSES {
        let (pages, moved): (i64, i64) =
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        if pages < ENOUGH || pages == moved {
            break;
        }
        if pages - moved <= FEW {
            shared.ask_to_finish_checkpoint();
            break;
        }
    }
    Ok(())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}
