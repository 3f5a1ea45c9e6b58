//! The folder of the log: one SQLite file per segment, named after its first offset. The newest one is written.
//!
//! ```text
//! cachedir/events/00000000000000000001.db    sealed: a plain file with an index by tag
//!                 00000000000000712345.db    active, with its -wal and -shm
//!                 next.new                   what the next one is made of
//! ```
//! A segment is *active*, then *closed* (nothing is added any more), then *sealed*. What is on the disk decides: the
//! newest file is the active one, and a file that SQLite's header calls rollback-journaled was sealed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::log::{self, Log, OpenError};
use super::marks;

/// How long the number in a name is: that of the largest offset.
const DIGITS: usize = 20;

/// Where SQLite's header says how a file is journaled (its "read version"), and the value for a rollback journal.
const JOURNAL_AT: usize = 19;
const ROLLBACK: u8 = 1;

/// The side file of a change that was cut off: sealing writes with a rollback journal at its end.
const JOURNAL: &str = "-journal";

/// What becomes the next segment, while it is made and when it is ready.
const UNREADY: &str = "next.tmp";
const READY: &str = "next.new";

/// How far a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Written.
    Active,
    /// Complete, and not yet indexed.
    Closed,
    /// A plain file with an index by tag.
    Sealed,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first offset it may hold.
    pub(super) first: u64,
    /// The last one; none while it is active.
    pub(super) last: Option<u64>,
    pub(super) phase: Phase,
}

/// The segments there are, oldest first. Shared by the writer, its helpers and every reader; the lock is held for moments.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    list: Mutex<Vec<Segment>>,
    /// Held while the next file is made, filled ahead or taken.
    next: Mutex<Option<Ahead>>,
}

/// What the next file holds already: the marks as they stood in the log at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    /// The segment that they were read from.
    of: u64,
    /// The log's epoch before that: what a failed log said of itself is not to be trusted later.
    epoch: u64,
    /// The head of the log at that moment.
    head: u64,
}

/// The next file, for whoever makes it a segment.
pub(super) struct Next<'a> {
    segments: &'a Segments,
    ahead: MutexGuard<'a, Option<Ahead>>,
}

impl Segments {
    /// Reads what is there. The folder is made if it is missing, and so is the first segment's name: its file is made
    /// when it is opened.
    pub(super) fn open(folder: &Path) -> Result<Segments, OpenError> {
        log::make_folder(folder)?;
        adopt(folder)?;
        settle(folder)?;
        let segments = Segments { folder: folder.to_owned(), list: Mutex::default(), next: Mutex::default() };
        segments.forget_next();
        segments.refresh().map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
        if segments.list().is_empty() {
            segments.push(1);
        }
        Ok(segments)
    }

    fn list(&self) -> MutexGuard<'_, Vec<Segment>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the folder anew.
    pub(super) fn refresh(&self) -> io::Result<()> {
        let firsts = firsts(&self.folder)?;
        let ends = firsts.iter().skip(1).map(|next| Some(next - 1)).chain([None]);
        let found = firsts.iter().zip(ends).map(|(first, last)| {
            let phase = match last {
                None => Phase::Active,
                Some(_) if is_sealed(&self.path(*first)) => Phase::Sealed,
                Some(_) => Phase::Closed,
            };
            Segment { first: *first, last, phase }
        });
        *self.list() = found.collect();
        Ok(())
    }

    /// Returns where the segments are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file of a segment.
    pub(super) fn path(&self, first: u64) -> PathBuf {
        path(&self.folder, first)
    }

    /// Returns all segments, oldest first.
    pub(super) fn all(&self) -> Vec<Segment> {
        self.list().clone()
    }

    /// Returns the first offset of the segment that is written.
    pub(super) fn active(&self) -> u64 {
        self.list().last().map_or(1, |segment| segment.first)
    }

    /// Returns the first offset of the oldest segment.
    pub(super) fn oldest(&self) -> u64 {
        self.list().first().map_or(1, |segment| segment.first)
    }

    /// Returns the segment that holds this offset, or else the first one behind it.
    pub(super) fn find(&self, offset: u64) -> Option<Segment> {
        let list = self.list();
        let at = list.partition_point(|segment| segment.last.is_some_and(|last| last < offset));
        list.get(at).copied()
    }

    /// Adds a segment, which is the active one from now on.
    pub(super) fn push(&self, first: u64) {
        let mut list = self.list();
        if let Some(active) = list.last_mut() {
            (active.last, active.phase) = (Some(first - 1), Phase::Closed);
        }
        list.push(Segment { first, last: None, phase: Phase::Active });
    }

    /// Takes note that a segment is sealed.
    pub(super) fn note_sealed(&self, first: u64) {
        if let Some(segment) = self.list().iter_mut().find(|segment| segment.first == first) {
            segment.phase = Phase::Sealed;
        }
    }

    /// Takes a segment out of the list and deletes its file. Readers that have it open finish their page.
    pub(super) fn delete(&self, first: u64) -> io::Result<()> {
        self.list().retain(|segment| segment.first != first || segment.last.is_none());
        remove_database(&self.path(first))?;
        sync_folder(&self.folder)
    }

    fn next(&self) -> MutexGuard<'_, Option<Ahead>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file of the next segment, unless it is there: tables made and on the disk, but under a name that no
    /// reader takes for a segment.
    pub(super) fn prepare_next(&self) -> Result<(), OpenError> {
        self.make_next(&mut self.next())
    }

    /// Brings the next file's marks up to those of the log as it is now, so that whoever begins the segment has only
    /// those to write that move after this. `epoch` is the log's.
    pub(super) fn fill_ahead(&self, epoch: u64) -> Result<(), OpenError> {
        let mut ahead = self.next();
        self.make_next(&mut ahead)?;
        let (of, ready) = (self.active(), self.folder.join(READY));
        let since = ahead.take().filter(|known| known.of == of && known.epoch == epoch).map(|known| known.head);
        let head = marks::carry(&self.path(of), &ready, since)
            .map_err(|source| OpenError::Unusable { path: ready.clone(), source })?;
        if since.is_none() {
            // Most of it is on the disk then, before a commit has to wait for that.
            let failed = |source| OpenError::File { path: ready.clone(), source };
            File::open(&ready).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        *ahead = Some(Ahead { of, epoch, head });
        Ok(())
    }

    fn make_next(&self, ahead: &mut Option<Ahead>) -> Result<(), OpenError> {
        let (unready, ready) = (self.folder.join(UNREADY), self.folder.join(READY));
        if ready.exists() {
            return Ok(());
        }
        *ahead = None;
        let failed = |source| OpenError::File { path: unready.clone(), source };
        remove_database(&unready).map_err(failed)?;
        // Closed by being dropped: its WAL goes into the file.
        drop(Log::open(&unready, 0)?);
        File::open(&unready).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&unready, &ready).map_err(failed)
    }

    /// Returns the next file; nothing while somebody fills it.
    pub(super) fn next_if_free(&self) -> Option<Next<'_>> {
        match self.next.try_lock() {
            Ok(ahead) => Some(Next { segments: self, ahead }),
            Err(TryLockError::Poisoned(poisoned)) => Some(Next { segments: self, ahead: poisoned.into_inner() }),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Returns the next file, once nobody fills it.
    pub(super) fn next_when_free(&self) -> Next<'_> {
        Next { segments: self, ahead: self.next() }
    }

    /// Throws away what an earlier process has left: it may be filled by half.
    fn forget_next(&self) {
        for name in [UNREADY, READY] {
            // What cannot be removed cannot be made anew either, and that is an error then.
            let _ = remove_database(&self.folder.join(name));
        }
    }
}

impl Next<'_> {
    /// Has the file filled by `fill`, and gives it the name of a segment. `fill` is told the head of the log of which the
    /// file has all marks already, if there is one that counts in this `epoch`. `reached` hears of every step that a crash
    /// may come after.
    pub(super) fn take(
        mut self,
        first: u64,
        epoch: u64,
        fill: impl FnOnce(&Path, Option<u64>) -> rusqlite::Result<()>,
        mut reached: impl FnMut(RollStep) -> io::Result<()>,
    ) -> Result<PathBuf, OpenError> {
        let segments = self.segments;
        segments.make_next(&mut self.ahead)?;
        // Whatever comes of this, what is in the file then is as of nothing that is known.
        let known = self.ahead.take().filter(|known| known.of == segments.active() && known.epoch == epoch);
        let (ready, path) = (segments.folder.join(READY), segments.path(first));
        let failed = |source| OpenError::File { path: path.clone(), source };
        reached(RollStep::Prepared).map_err(failed)?;
        fill(&ready, known.map(|known| known.head))
            .map_err(|source| OpenError::Unusable { path: ready.clone(), source })?;
        reached(RollStep::Filled).map_err(failed)?;
        File::open(&ready).and_then(|file| file.sync_all()).map_err(failed)?;
        reached(RollStep::Synced).map_err(failed)?;
        fs::rename(&ready, &path).map_err(failed)?;
        reached(RollStep::Renamed).map_err(failed)?;
        sync_folder(&segments.folder).map_err(failed)?;
        reached(RollStep::FolderSynced).map_err(failed)?;
        Ok(path)
    }
}

/// How far rolling has come: the process may end after each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RollStep {
    /// The next file is there, with empty tables.
    Prepared,
    /// Marks and head are in it.
    Filled,
    /// It is on the disk.
    Synced,
    /// It has the name of a segment.
    Renamed,
    /// The name is on the disk.
    FolderSynced,
}

/// Returns the file of the segment that begins with this offset.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:0DIGITS$}.db"))
}

/// Returns the first offsets of the segments in a folder, sorted.
pub(super) fn firsts(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".db")).filter(|number| number.len() == DIGITS);
        firsts.extend(number.and_then(|number| number.parse::<u64>().ok()).filter(|first| *first > 0));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Tells whether a file is one that needs no WAL: the last step of sealing.
pub(super) fn is_sealed(path: &Path) -> bool {
    let mut header = [0; JOURNAL_AT + 1];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok() && header[JOURNAL_AT] == ROLLBACK
}

/// Removes a database with its side files, if it is there.
fn remove_database(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm", JOURNAL] {
        match fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the path of a side file.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes sure that names in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Undoes what a killed master had done by half to its segments. Readers never write, so they cannot; and until it is undone,
/// a header says what is not so. Whoever calls this holds the lock of the log.
pub(super) fn settle(folder: &Path) -> Result<(), OpenError> {
    let firsts = match firsts(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?,
    };
    for path in firsts.into_iter().map(|first| path(folder, first)).filter(|path| beside(path, JOURNAL).exists()) {
        log::roll_back(&path)?;
        tracing::info!(file = %path.display(), "undid a change to a segment of the event log that was cut off");
    }
    Ok(())
}

/// Takes the one file of earlier versions, `events.db` beside the folder, as the first segment. It is complete in itself
/// before it gets its new name, so a crash leaves it under one name or the other.
fn adopt(folder: &Path) -> Result<(), OpenError> {
    let old = folder.with_extension("db");
    if !old.exists() {
        return Ok(());
    }
    let failed = |source| OpenError::File { path: old.clone(), source };
    if !firsts(folder).map_err(failed)?.is_empty() {
        tracing::warn!(file = %old.display(), "an old event log lies beside the segments and is not used; move it away");
        return Ok(());
    }
    let (log, tail) = Log::open(&old, 0)?;
    let first = log.first_offset().map_err(|source| OpenError::Unusable { path: old.clone(), source })?;
    let first = first.unwrap_or(tail.head + 1);
    log.close().map_err(|source| OpenError::Unusable { path: old.clone(), source })?;
    let wal = beside(&old, "-wal");
    if fs::metadata(&wal).is_ok_and(|meta| meta.len() > 0) {
        let text = "another process has it open: close that one (a `sqlite3`?) and start again";
        return Err(failed(io::Error::other(text)));
    }
    File::open(&old).and_then(|file| file.sync_all()).map_err(failed)?;
    let new = path(folder, first);
    fs::rename(&old, &new).map_err(failed)?;
    // Empty by now, if they are there at all.
    let _ = remove_database(&old);
    sync_folder(folder).map_err(failed)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_folder(parent).map_err(failed)?;
    }
    tracing::info!(from = %old.display(), to = %new.display(), "the event log is now kept in segments; it became the first one");
    Ok(())
}

#[cfg(test)]
mod tests;
