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

/// When the WAL is moved, and when it is to begin anew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How many bytes are written between two nudges. Little at a time: the disk that syncs what was moved is the one that
    /// commits wait for.
    pub(super) bytes: usize,
    /// How long without a nudge.
    pub(super) every: Duration,
    /// How many pages (4 KiB) are enough for the WAL to begin anew.
    pub(super) enough: i64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { bytes: 1024 * 1024, every: Duration::from_secs(5), enough: 4 * 1024 }
    }
}

/// How many pages a pass may move for the writer to be asked: 2 MiB. While it moved them, fewer were written.
const FEW: i64 = 512;

/// How often what is left is made smaller before it is given up until the next nudge.
const PASSES: usize = 3;

/// How long a checkpoint waits for another one.
const BUSY: Duration = Duration::from_secs(2);

/// What to do after a pass.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Wait for a nudge: the WAL is short, or a reader needs what is in it.
    Wait,
    /// Move what was written during this pass, which was a long one.
    Again,
    /// Have the writer move the rest.
    Finish,
}

/// How far the passes of one segment have come.
#[derive(Debug, Default)]
struct Passes {
    /// How many pages of the WAL are in the file.
    moved: i64,
}

impl Passes {
    /// Takes in what a pass has come to: the pages of the WAL when it began, and how many of them are in the file now.
    fn judge(&mut self, pages: i64, moved: i64, enough: i64) -> Next {
        // A WAL that is shorter than it was has begun anew.
        let before = if moved < self.moved { 0 } else { self.moved };
        self.moved = moved;
        if pages < enough || moved < pages {
            Next::Wait
        } else if moved - before > FEW {
            Next::Again
        } else {
            Next::Finish
        }
    }
}

/// The segment that is written, as the checkpointer has it open.
struct Place {
    first: u64,
    db: Connection,
    passes: Passes,
}

/// Works until the sender is dropped.
pub(super) fn run(shared: &Shared, nudges: &Receiver<()>, pace: Pace) {
    let mut place = None;
    loop {
        if let Err(error) = checkpoint(shared, &mut place, pace.enough) {
            // The writer meets the same trouble and says so; here it only costs disk space.
            tracing::debug!(error = &error as &dyn std::error::Error, "cannot shorten the event log's WAL");
            place = None;
        }
        if matches!(nudges.recv_timeout(pace.every), Err(RecvTimeoutError::Disconnected)) {
            return;
        }
    }
}

fn checkpoint(shared: &Shared, place: &mut Option<Place>, enough: i64) -> rusqlite::Result<()> {
    let first = shared.segments.active();
    let known = place.take().filter(|place| place.first == first);
    let place = place.insert(match known {
        Some(place) => place,
        None => Place { first, db: open(&shared.segments.path(first))?, passes: Passes::default() },
    });
    for _ in 0..PASSES {
        let (pages, moved) =
            place.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        match place.passes.judge(pages, moved, enough) {
            Next::Wait => break,
            Next::Again => {}
            Next::Finish => {
                shared.ask_to_finish_checkpoint();
                break;
            }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::tag::Tag;
    use tokio::sync::watch;

    use super::*;
    use crate::bus::{Batch, Bus, BusConfig, NewEvent};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_wal_begins_anew_while_commits_never_pause() {
        let folder = tempfile::tempdir().unwrap();
        let (bus, mut task) = Bus::open(BusConfig::new(folder.path().join("events"))).unwrap();
        task.writer.pace = Pace { bytes: 64 * 1024, every: Duration::MAX, enough: 64 };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(task.run(stopped));
        let batch = || {
            let event = NewEvent { tag: Tag::parse("my/tag").unwrap(), data: Bytes::from(vec![0; 10_000]) };
            Batch { events: vec![event], mark: None }
        };
        let mut tickets = std::collections::VecDeque::new();
        for _ in 0..4_000 {
            tickets.push_back(bus.submit(batch()).await.unwrap());
            // Something is always queued, so that no pass ends before the next commit.
            if tickets.len() > 20 {
                tickets.pop_front().unwrap().await.unwrap();
            }
        }
        let segment = bus.shared.segments.path(bus.shared.segments.active());
        let wal = std::fs::metadata(crate::bus::segments::beside(&segment, "-wal")).unwrap().len();
        assert!(wal < 10_000_000, "{wal} bytes of 40 million");
        stop.send(true).unwrap();
        running.await.unwrap().unwrap();
    }

    #[test]
    fn the_writer_is_asked_when_little_is_left_and_no_reader_is_in_the_way() {
        let mut passes = Passes::default();
        let mut judge = |pages, moved| passes.judge(pages, moved, 1_000);
        assert_eq!(judge(900, 900), Next::Wait, "short");
        assert_eq!(judge(1_500, 1_500), Next::Again, "600 pages take their time");
        assert_eq!(judge(1_700, 1_700), Next::Finish);
        assert_eq!(judge(1_900, 1_800), Next::Wait, "a reader needs what is in the WAL");
        assert_eq!(judge(1_950, 1_950), Next::Finish);
        assert_eq!(judge(100, 100), Next::Wait, "begun anew");
        assert_eq!(judge(1_100, 1_100), Next::Again);
        assert_eq!(judge(1_090, 1_090), Next::Again, "begun anew, and long already");
    }
}
