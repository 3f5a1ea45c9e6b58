//! How this minion opens its small databases: one writer each, little memory, and a damaged file moved out of the way.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode};
use tracing::error;

/// One page is enough at a time; the whole cache is bounded to 128 KiB. The write-ahead log is folded in every 64 pages, and
/// gives back what it took beyond 256 KiB.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -128;
     PRAGMA wal_autocheckpoint = 64; PRAGMA journal_size_limit = 262144; PRAGMA temp_store = MEMORY;";

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("create the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error("open the database {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Opens a database and its folder. Every commit is on the disk when it returns, unless the caller relaxes that.
pub(crate) fn open(path: &Path, schema: &str) -> Result<Connection, OpenError> {
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    }
    match connect(path, schema) {
        Err(source) if is_damage(&source) && set_aside(path) => connect(path, schema),
        opened => opened,
    }
    .map_err(|source| OpenError::Database { path: path.to_owned(), source })
}

/// Makes a folder with all above it, whose names are on the disk before anything in them counts.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.is_dir()).collect();
    std::fs::create_dir_all(folder)?;
    let parents = missing.iter().filter_map(|made| made.parent()).filter(|parent| !parent.as_os_str().is_empty());
    parents.into_iter().try_for_each(|parent| File::open(parent)?.sync_all())
}

fn connect(path: &Path, schema: &str) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.execute_batch(PRAGMAS)?;
    database.execute_batch(schema)?;
    Ok(database)
}

/// Tells whether the file is no sound database, as opposed to a full or failing disk.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return false };
    matches!(failure.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
}

/// Moves a damaged database out of the way, so that a new one can begin; tells whether that worked.
pub(crate) fn set_aside(path: &Path) -> bool {
    let aside = path.with_extension("db.damaged");
    if std::fs::rename(path, &aside).is_err() {
        return false;
    }
    for rest in ["db-wal", "db-shm"] {
        // What belongs to the damaged file must not be read into the new one; it may not exist.
        let _ = std::fs::remove_file(path.with_extension(rest));
    }
    error!(path = %path.display(), kept = %aside.display(), "the database is damaged; a new one is begun");
    true
}

/// Returns this host's clock, in Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// SQLite's integers are signed.
pub(crate) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Has a database be full beyond so many pages: how a disk without room is simulated.
pub(crate) fn limit_pages(database: &Connection, pages: u32) -> rusqlite::Result<()> {
    database.pragma_update(None, "max_page_count", pages)
}
