//! Looks after the segments that are complete: gives them their index and deletes the oldest ones, on a thread of its own.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use proto::map;
use proto::tag::Tag;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, OptionalExtension};

use super::retention::{Expiry, Retention};
use super::segments::{Phase, Segment, beside};
use super::writer::Source;
use super::{Queue, Shared, now_us, single};

/// How often there is a look without a new segment.
const EVERY: Duration = Duration::from_secs(5);

/// How long sealing waits for readers; they are gone within a page.
const BUSY: Duration = Duration::from_secs(2);

/// The memory of sorting tags, in KiB (negative, as SQLite wants it); what does not fit goes into temporary files.
const CACHE: i64 = -8 * 1024;

/// Stops the keeper, also in the middle of an index.
#[derive(Default)]
pub(super) struct Stop {
    asked: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
}

impl Stop {
    /// Has the keeper end as soon as it can.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.interrupt();
        }
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    fn watch(&self, db: &Connection) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(db.get_interrupt_handle());
    }
}

/// The keeper.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) retention: Retention,
    /// The way to the bus, on which it says what it has deleted.
    pub(super) queue: Weak<Queue>,
}

impl Keeper {
    /// Works until the sender is dropped.
    pub(super) fn run(&self, wakes: &Receiver<()>, stop: &Stop) {
        loop {
            self.retain();
            self.seal(stop);
            if stop.is_asked() || matches!(wakes.recv_timeout(EVERY), Err(RecvTimeoutError::Disconnected)) {
                return;
            }
        }
    }

    /// Seals what is closed, oldest first.
    pub(super) fn seal(&self, stop: &Stop) {
        let _alone = self.shared.keep();
        let segments = &self.shared.segments;
        for segment in segments.all().iter().filter(|segment| segment.phase == Phase::Closed) {
            // An idle connection would keep the file from becoming a plain one.
            self.shared.readers.forget(segment.first);
            match seal(&segments.path(segment.first), stop) {
                Ok(true) => segments.note_sealed(segment.first),
                Ok(false) => {}
                Err(error) => {
                    let file = segments.path(segment.first);
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, file = %file.display(), "cannot seal a segment of the event log yet");
                }
            }
            if stop.is_asked() {
                return;
            }
        }
    }

    /// Deletes what the limits want deleted, oldest first.
    pub(super) fn retain(&self) {
        let _alone = self.shared.keep();
        while let Some((oldest, bytes, why)) = self.expired() {
            let segments = &self.shared.segments;
            let deleted = segments.delete(oldest.first);
            self.shared.readers.forget(oldest.first);
            match deleted {
                Ok(()) => self.tell(oldest, bytes, why),
                Err(error) => {
                    let file = segments.path(oldest.first);
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, file = %file.display(), "cannot delete an old segment of the event log; delete it by hand");
                }
            }
        }
    }

    /// Returns the oldest segment if its time has come.
    fn expired(&self) -> Option<(Segment, u64, Expiry)> {
        let segments = &self.shared.segments;
        let all = segments.all();
        let oldest = *all.first().filter(|segment| segment.last.is_some())?;
        let total = all.iter().map(|segment| bytes(&segments.path(segment.first))).sum();
        let newest_us = self.retention.age.and_then(|_| newest_stamp(&segments.path(oldest.first)).ok().flatten());
        let why = self.retention.judge(total, newest_us, now_us())?;
        Some((oldest, bytes(&segments.path(oldest.first)), why))
    }

    fn tell(&self, segment: Segment, bytes: u64, why: Expiry) {
        let last = segment.last.unwrap_or(segment.first);
        let behind = self.shared.cursors_before(last + 1);
        let (first, reason) = (segment.first, why.name());
        if behind.is_empty() {
            tracing::info!(first, last, bytes, reason, "deleted the oldest segment of the event log");
        } else {
            let names = behind.join(", ");
            tracing::warn!(
                first,
                last,
                bytes,
                reason,
                behind = names,
                "deleted the oldest segment of the event log; somebody had not read all of it"
            );
        }
        let data = map! { "first" => first, "last" => last, "bytes" => bytes, "reason" => reason, "behind" => behind };
        if let Some(queue) = self.queue.upgrade() {
            // With a full queue there are more pressing things to tell, and the line above stands.
            let _ = queue.try_submit(single(Tag::bus("retention"), &data), Source::Fire);
        }
    }
}

/// Returns how many bytes a segment takes on the disk.
pub(super) fn bytes(path: &Path) -> u64 {
    let size = |end| std::fs::metadata(beside(path, end)).map_or(0, |meta| meta.len());
    size("") + size("-wal")
}

fn newest_stamp(path: &Path) -> rusqlite::Result<Option<i64>> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.query_row("SELECT stamp_us FROM events ORDER BY offset DESC LIMIT 1", [], |row| row.get(0)).optional()
}

/// Makes a segment a plain file with an index by tag. False if somebody has it open; it is tried again then.
pub(super) fn seal(path: &Path, stop: &Stop) -> rusqlite::Result<bool> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    stop.watch(&db);
    if stop.is_asked() {
        return Ok(false);
    }
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", CACHE)?;
    let checkpoint = || db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    checkpoint()?;
    // An index holds the rows' keys, which are the offsets.
    db.execute_batch("CREATE INDEX IF NOT EXISTS events_by_tag ON events (tag)")?;
    checkpoint()?;
    match db.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)) {
        Ok(mode) => Ok(mode == "delete"),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
        Err(error) => Err(error),
    }
}
