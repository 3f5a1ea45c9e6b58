//! The log as files, for those who handle them while its master is away, or read them beside it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::damage;
use super::keeper::{self, Keeper, Stop};
use super::log::{self, Log, OpenError};
use super::retention::Retention;
use super::segments::{self, Phase, Segments};
use super::shared::Shared;

/// The lock of a log: as long as this lives, no master can start on it.
#[derive(Debug)]
#[must_use = "the lock ends with it"]
pub struct Held(#[expect(dead_code, reason = "the lock is the file being open")] File);

/// What compacting the log has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// How many segments were deleted.
    pub deleted: usize,
    /// How many were sealed.
    pub sealed: usize,
    /// The oldest offset that may still be there.
    pub oldest: u64,
}

/// Returns the segments of a log, oldest first, each with its first offset. A folder that is not there has none.
pub fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let firsts = match segments::firsts(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    Ok(firsts.into_iter().map(|first| (first, segments::path(folder, first))).collect())
}

/// Tells whether a database is one complete file that nobody writes any more.
pub fn is_plain(path: &Path) -> bool {
    segments::is_sealed(path) && !segments::beside(path, "-wal").exists()
}

/// Gives the copy of a complete segment its index by tag, if it has none.
pub fn index(path: &Path) -> rusqlite::Result<()> {
    keeper::seal(path, &Stop::default()).map(drop)
}

/// Tells whether reading a database again would only fail again, because it is damaged or gone.
pub fn is_damage(error: &rusqlite::Error, path: &Path) -> bool {
    damage::is_damage(error, path)
}

/// Takes the log, so that no master uses it.
pub fn hold(folder: &Path) -> Result<Held, OpenError> {
    let held = log::lock(folder).map(Held)?;
    segments::settle(folder)?;
    Ok(held)
}

/// Returns the file that stands beside a log while a backup is being put in its place: it holds where the backup lies.
pub fn restoring(folder: &Path) -> PathBuf {
    folder.with_file_name("restore.unfinished")
}

/// Refuses a log whose restore was cut off: a new one begun there would give offsets out twice.
pub fn refuse_unfinished(folder: &Path) -> Result<(), OpenError> {
    match std::fs::read_to_string(restoring(folder)) {
        Ok(from) => Err(OpenError::Restoring { path: folder.to_owned(), from }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(OpenError::File { path: restoring(folder), source }),
    }
}

/// Applies retention and seals what is not sealed yet. No master may be running.
pub fn compact(folder: &Path, retention: Retention) -> Result<Compaction, OpenError> {
    let _held = hold(folder)?;
    refuse_unfinished(folder)?;
    let segments = Segments::open(folder)?;
    let path = segments.path(segments.active());
    let (log, tail) = Log::open_active(&segments, 0)?;
    log.close().map_err(|source| OpenError::Unusable { path, source })?;
    let shared = Arc::new(Shared::new(segments, 0, tail.head));
    Ok(Keeper { shared, retention, queue: Weak::new() }.compact())
}

impl Keeper {
    /// Does at once what is otherwise done in its time.
    pub(super) fn compact(&self) -> Compaction {
        let count = |phase: Option<Phase>| {
            self.shared.segments.all().iter().filter(|segment| phase.is_none_or(|phase| segment.phase == phase)).count()
        };
        let before = count(None);
        self.retain();
        let (kept, closed) = (count(None), count(Some(Phase::Closed)));
        self.seal(&Stop::default());
        Compaction {
            deleted: before.saturating_sub(kept),
            sealed: closed.saturating_sub(count(Some(Phase::Closed))),
            oldest: self.shared.segments.all().first().map_or(1, |segment| segment.first),
        }
    }
}
