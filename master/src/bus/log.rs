//! A segment of the log on disk: one SQLite file, written by one connection, in transactions that end with an fsync.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::AccessFlags;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::event::Batch;
use super::marks;
use super::segments::{self, Next, RollStep, Segments};
use super::state::{BusState, Plan, Tail};

/// The version of the tables below, in `PRAGMA user_version`. An older Halite refuses a newer file.
const SCHEMA: i64 = 1;

/// Offsets are the rows' own keys: no second index is kept in step. `head` keeps the last one given out, so that none
/// comes back even if its row was deleted.
const TABLES: &str = "
    CREATE TABLE events (offset INTEGER PRIMARY KEY, stamp_us INTEGER NOT NULL, tag TEXT NOT NULL, data BLOB NOT NULL);
    CREATE TABLE marks (id TEXT NOT NULL, spool BLOB NOT NULL, n INTEGER NOT NULL, used INTEGER NOT NULL,
        kind TEXT NOT NULL, PRIMARY KEY (id, spool)) WITHOUT ROWID;
    CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), offset INTEGER NOT NULL, stamp_us INTEGER NOT NULL);
    INSERT INTO head VALUES (1, 0, 0);
    PRAGMA user_version = 1;
";

/// How long a write waits for the checkpointer, which may hold the file while it starts the WAL anew.
const BUSY: Duration = Duration::from_secs(10);

/// The page cache of the writer, in KiB (negative, as SQLite wants it). Appending needs the right edge of a tree.
const CACHE: i64 = -2048;

/// A day, in microseconds: a segment holds events of one day.
const DAY_US: i64 = 86_400_000_000;

/// How much room a disk has to have before the log is taken for in order again: that of a large commit; on a small disk
/// that part of it.
const ROOM: u64 = 8 << 20;
const ROOM_SHARE: u64 = 16;

/// How many bytes before its size a segment has the next one made ready, or a quarter of that size if that is less: as much
/// as is written while the marks of ten thousand minions are carried over.
const NEAR: u64 = 2 << 20;

/// A segment that could not be rolled grows by this part of its size before that is tried again.
const PUT_OFF: u64 = 16;

/// Why the log cannot be opened. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder cannot be made.
    #[error("make the folder {path}; create it by hand, or set cachedir to a place that can be written")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made, or its rights cannot be set.
    #[error("open the event log {path}; check its owner and rights, it must belong to the master's user")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A restore was cut off: some of what is there belongs together, and some does not.
    #[error(
        "open the event log {path}: a restore of {from} was cut off. Finish it with `halite store restore {from} --force`; what \
         was here before lies beside the files, under names that end in .before-<number>"
    )]
    Restoring {
        /// The log.
        path: PathBuf,
        /// The backup.
        from: String,
    },
    /// Another process has it.
    #[error("open the event log {path}: another master is using it; stop that one first")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not an event log, or damaged.
    #[error(
        "read the event log {path}: it is damaged or not an event log; put a backup back (`halite store restore`), or move its \
         whole folder away to start a new log, never this file alone: offsets would be given out twice (what is in it stays \
         readable with `sqlite3 {path} .recover`)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A newer Halite has written it.
    #[error("open the event log {path}: it has schema {found}, this Halite knows {SCHEMA}; run the newer Halite")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema in it.
        found: i64,
    },
    /// SQLite cannot open, read or write it.
    #[error("use the event log {path}; check the disk, its free space, and the rights of the file")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl OpenError {
    fn sqlite(path: &Path, source: rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        let damaged = matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown)
        );
        if damaged { OpenError::Damaged { path, source } } else { OpenError::Unusable { path, source } }
    }
}

fn not_a_log(why: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), Some(why.to_owned()))
}

/// Has SQLite undo a transaction that was cut off: it does when a connection that may write reads for the first time.
pub(super) fn roll_back(path: &Path) -> Result<(), OpenError> {
    let broken = |source| OpenError::sqlite(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(broken)?;
    db.busy_timeout(BUSY).map_err(broken)?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(broken)
}

/// The connection that writes.
#[derive(Debug)]
pub(super) struct Log {
    db: Connection,
    /// The day of its first event, counted from 1970; none while it has no event.
    day: Option<i64>,
    /// How large it may become before it is rolled; more after that failed.
    limit: u64,
}

/// What has become of the writer's connection after a segment was rolled.
#[derive(Debug)]
pub(super) enum Rolled {
    /// It writes the next segment.
    New(Log),
    /// That could not be made; it writes the old one.
    Kept(Log),
    /// The next segment is there but does not open.
    Broken(OpenError),
}

impl Log {
    /// Opens the file, makes it if there is none, and reads where it ends. `max_pages` bounds its size, 0 does not.
    pub(super) fn open(path: &Path, max_pages: u32) -> Result<(Log, Tail), OpenError> {
        let log = Log::connect(path, max_pages)?;
        let tail = log.tail().map_err(|source| OpenError::sqlite(path, source))?;
        Ok((log, tail))
    }

    /// Opens the segment that is written. Only the first one of all may have to be made: every other one got its name with
    /// tables and the head of the one before it, and without them offsets would be given out twice.
    pub(super) fn open_active(segments: &Segments, max_pages: u32) -> Result<(Log, Tail), OpenError> {
        let (first, path) = (segments.active(), segments.path(segments.active()));
        let size = |end| fs::metadata(segments::beside(&path, end)).map_or(0, |meta| meta.len());
        let emptied = || OpenError::Damaged { path: path.clone(), source: not_a_log("it has lost its content") };
        // SQLite would throw the WAL of an empty file away.
        if size("") == 0 && (first > 1 || size("-wal") > 0) {
            return Err(emptied());
        }
        let (log, tail) = Log::open(&path, max_pages)?;
        if tail.head + 1 < first { Err(emptied()) } else { Ok((log, tail)) }
    }

    fn connect(path: &Path, max_pages: u32) -> Result<Log, OpenError> {
        prepare_file(path)?;
        let broken = |source| OpenError::sqlite(path, source);
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(broken)?;
        db.busy_timeout(BUSY).map_err(broken)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(broken)?;
        if found > SCHEMA {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        let mut log = Log { db, day: None, limit: u64::MAX };
        log.configure(max_pages).map_err(broken)?;
        if found == 0 {
            log.create().map_err(broken)?;
        }
        log.day = log.first_day().map_err(broken)?;
        Ok(log)
    }

    /// Has the segment rolled when it is this large.
    pub(super) fn with_limit(self, limit: u64) -> Log {
        Log { limit, ..self }
    }

    fn first_day(&self) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT stamp_us FROM events ORDER BY offset LIMIT 1";
        Ok(self.db.query_row(sql, [], |row| row.get(0)).optional()?.map(day))
    }

    /// Returns the first offset that has an event.
    pub(super) fn first_offset(&self) -> rusqlite::Result<Option<u64>> {
        let sql = "SELECT offset FROM events ORDER BY offset LIMIT 1";
        Ok(self.db.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?.map(i64::cast_unsigned))
    }

    /// Moves all that is in the WAL into the file, and closes both.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.db.close().map_err(|(_, error)| error)
    }

    /// Moves what is left in the WAL into the file, so that the next commit begins the WAL anew. The checkpointer asks
    /// for this when little is left: done here it waits for nobody.
    pub(super) fn finish_checkpoint(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Tells whether an event of this moment belongs into the next segment: this one has its size, or is of another day.
    /// An earlier day does not count: a clock that jumps to and fro would make a heap of small segments.
    pub(super) fn is_full(&self, at_us: i64) -> bool {
        let Some(first) = self.day else { return false };
        day(at_us) > first || self.bytes().is_ok_and(|bytes| bytes >= self.limit)
    }

    /// Tells whether the segment will have its size soon: the next one is to be made ready.
    pub(super) fn is_nearly_full(&self) -> bool {
        let near = NEAR.min(self.limit / 4);
        self.bytes().is_ok_and(|bytes| bytes.saturating_add(near) >= self.limit)
    }

    /// Tells whether the segment has outgrown its size so far that the next one must not wait any more.
    pub(super) fn is_overfull(&self) -> bool {
        self.bytes().is_ok_and(|bytes| bytes >= self.limit.saturating_add(self.limit / PUT_OFF))
    }

    fn bytes(&self) -> rusqlite::Result<u64> {
        let pages = |sql| self.db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
        Ok(pages("PRAGMA page_count")?.cast_unsigned() * pages("PRAGMA page_size")?.cast_unsigned())
    }

    /// Makes `next` the segment behind the head of `state`, in this epoch of the log. `reached` hears of every step that a
    /// crash may come after.
    pub(super) fn roll(
        mut self,
        (segments, next): (&Segments, Next<'_>),
        state: &BusState,
        epoch: u64,
        max_pages: u32,
        reached: impl FnMut(RollStep) -> io::Result<()>,
    ) -> Rolled {
        let fill = |path: &Path, since| marks::fill(path, state, since);
        let path = match next.take(state.head() + 1, epoch, fill, reached) {
            Ok(path) => path,
            // Under its final name it counts, whatever went wrong then.
            Err(error) if segments.path(state.head() + 1).exists() => return Rolled::Broken(error),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot begin the next segment of the event log; the old one grows on"
                );
                self.limit = self.bytes().unwrap_or(self.limit).saturating_add(self.limit / PUT_OFF);
                // Today is as good as any other day now.
                self.day = self.day.max(Some(day(state.stamp_us())));
                return Rolled::Kept(self);
            }
        };
        // Its marks need not be read: the state has them.
        match Log::connect(&path, max_pages) {
            Ok(log) => {
                // Closing it must not cost a checkpoint here: whoever seals it does that.
                let _ = self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                Rolled::New(log)
            }
            Err(error) => Rolled::Broken(error),
        }
    }

    fn configure(&self, max_pages: u32) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        self.db.pragma_update(None, "synchronous", "FULL")?;
        // The checkpointer has its own thread: a commit never pays for moving pages.
        self.db.pragma_update(None, "wal_autocheckpoint", 0)?;
        self.db.pragma_update(None, "cache_size", CACHE)?;
        if max_pages > 0 {
            self.db.pragma_update(None, "max_page_count", max_pages)?;
        }
        Ok(())
    }

    fn create(&mut self) -> rusqlite::Result<()> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.commit()
    }

    fn tail(&self) -> rusqlite::Result<Tail> {
        let (head, stamp_us): (i64, i64) =
            self.db.query_row("SELECT offset, stamp_us FROM head", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        // Reads the newest row whole: a torn page shows here, before anything is acknowledged on top of it.
        let sql = "SELECT offset, length(data) FROM events ORDER BY offset DESC LIMIT 1";
        let newest = self.db.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0);
        let marks = marks::read(&self.db)?;
        Ok(Tail { head: head.max(newest).cast_unsigned(), stamp_us, marks })
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.db.pragma_update(None, "max_page_count", pages).unwrap();
    }

    /// Writes something and syncs it, to see whether that works.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // There and back: what would change nothing, SQLite does not write at all.
        transaction.execute("UPDATE head SET stamp_us = stamp_us + 1", [])?;
        transaction.execute("UPDATE head SET stamp_us = stamp_us - 1", [])?;
        transaction.commit()
    }

    /// Writes what the plan says of these batches in one transaction; on success it is on the disk.
    pub(super) fn append<'a>(&mut self, plan: &Plan, batches: impl Iterator<Item = &'a Batch>) -> rusqlite::Result<()> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events (offset, stamp_us, tag, data) VALUES (?1, ?2, ?3, ?4)")?;
            for (batch, verdict) in batches.zip(&plan.verdicts) {
                let offsets = verdict.committed.offset.cast_signed()..;
                for (offset, event) in offsets.zip(batch.events.iter().take(verdict.committed.count)) {
                    insert.execute(params![offset, verdict.stamp_us, event.tag.as_str(), &event.data[..]])?;
                }
            }
            let mut forget = transaction.prepare_cached("DELETE FROM marks WHERE id = ?1 AND spool = ?2")?;
            for (id, spool) in &plan.forgotten {
                forget.execute(params![id.as_str(), spool])?;
            }
            marks::write(&transaction, plan.marks.iter().map(|(id, mark)| (id, mark)))?;
            marks::write_head(&transaction, plan.head, plan.stamp_us)?;
        }
        transaction.commit()?;
        self.day.get_or_insert(day(plan.stamp_us));
        Ok(())
    }
}

/// Returns the day of a moment, counted from 1970.
fn day(stamp_us: i64) -> i64 {
    stamp_us.div_euclid(DAY_US)
}

/// Makes a file, in a folder that is there, so that nobody else can read it, whatever the umask is; SQLite gives its side files the
/// rights of the main one. One that is there is not opened: closing it would end the locks that every connection of this
/// process has on it, and whoever else closes the log then would take the WAL away under the writer.
fn prepare_file(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(_) => {
            let wanted = AccessFlags::R_OK | AccessFlags::W_OK;
            nix::unistd::eaccess(path, wanted).map_err(|errno| failed(errno.into()))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777 != 0o600 {
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(())
}

/// Makes a folder that nobody else can look into, unless it is there.
pub(super) fn make_folder(folder: &Path) -> Result<(), OpenError> {
    if folder.is_dir() {
        return Ok(());
    }
    let failed = |source| OpenError::Folder { path: folder.to_owned(), source };
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.is_dir()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
    // What is synced in a folder is lost with the folder's own name.
    let parents = missing.iter().filter_map(|made| made.parent()).filter(|parent| !parent.as_os_str().is_empty());
    parents.into_iter().try_for_each(segments::sync_folder).map_err(failed)
}

/// Takes the log for this process; the lock ends with the file that is returned.
pub(super) fn lock(path: &Path) -> Result<fs::File, OpenError> {
    let path_of_lock = path.with_extension("lock");
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    prepare_file(&path_of_lock)?;
    let failed = |source| OpenError::File { path: path_of_lock.clone(), source };
    let file = OpenOptions::new().write(true).open(&path_of_lock).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Says why a disk that was full has not enough room yet to go on: a small event would fit, the next commit would not, and
/// the log would be out of order and in order by turns.
pub(super) fn lacks_room(path: &Path) -> Option<String> {
    let place = path.parent().unwrap_or(path);
    // A file system that does not say how full it is shows it with the next commit.
    let state = nix::sys::statvfs::statvfs(place).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(state.fragment_size());
    let (free, wanted) = (bytes(state.blocks_available()), ROOM.min(bytes(state.blocks()) / ROOM_SHARE));
    let place = place.display();
    (free < wanted).then(|| format!("the disk is full (only {free} bytes are left); free some space under {place}"))
}

/// Says what is wrong with the log and what to do, in one line.
pub(super) fn reason(path: &Path, error: &rusqlite::Error) -> String {
    let place = path.parent().unwrap_or(path).display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("the disk is full ({error}); free some space under {place}"),
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk fails ({error}); check the kernel's log and the file system of {place}")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("the event log cannot be written ({error}); check mount and rights of {place}")
        }
        _ => format!("the event log cannot be written ({error}); check {}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether a process has a lock on a file.
    fn is_locked(path: &Path) -> bool {
        let end = format!(":{}", std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap()));
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.split_whitespace().nth(5).is_some_and(|inode| inode.ends_with(&end)))
    }

    #[test]
    fn opening_a_log_anew_keeps_the_locks_of_those_who_have_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let (reader, _) = Log::open(&path, 0).unwrap();
        assert!(is_locked(&path));
        let (writer, _) = Log::open(&path, 0).unwrap();
        assert!(is_locked(&path), "who closes the log elsewhere would remove the WAL");
        drop((reader, writer));
        assert!(!is_locked(&path));
    }

    #[test]
    fn a_probe_writes_something_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let (mut log, tail) = Log::open(&path, 0).unwrap();
        let wal = || fs::metadata(folder.path().join("log.db-wal")).map_or(0, |meta| meta.len());
        let before = wal();
        log.probe().unwrap();
        assert!(wal() > before, "{before} bytes, as before");
        assert_eq!(Log::open(&path, 0).unwrap().1, tail);
    }
}
