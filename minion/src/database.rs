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

/// What one of the databases holds.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Its form, kept as `user_version`. 0 is that of a file from before it was kept: with the tables of version 1.
    pub(crate) version: u32,
    /// Its tables, each with its columns as they stand there.
    pub(crate) tables: &'static [(&'static str, &'static str)],
    /// Makes what is missing.
    pub(crate) sql: &'static str,
    /// What is lost without the file, for whoever has to decide on that.
    pub(crate) lost: &'static str,
}

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
    /// Another program's, or of a minion that is not known here.
    #[error(
        "use {}: its tables are not those of this minion; start the minion that made it, or move the file away, which \
         loses {lost}",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is in it, if it is a minion's.
        lost: &'static str,
    },
    /// A newer minion has written it.
    #[error(
        "use {}: it is of a newer minion (form {found}; this one knows {known}); start the newer one, or move the file \
         away, which loses {lost}",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
        /// The newest known form.
        known: u32,
        /// What is in it.
        lost: &'static str,
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

/// Opens a database and its folder. Every commit is on the disk when it returns, unless the caller relaxes that. A file of
/// another form is left as it is.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    }
    match connect(path, schema) {
        Err(source) if is_damage(&source) && set_aside(path) => connect(path, schema),
        opened => opened,
    }
    .map_err(|source| OpenError::Database { path: path.to_owned(), source })?
}

/// Makes a folder with all above it, whose names are on the disk before anything in them counts.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.is_dir()).collect();
    std::fs::create_dir_all(folder)?;
    let parents = missing.iter().filter_map(|made| made.parent()).filter(|parent| !parent.as_os_str().is_empty());
    parents.into_iter().try_for_each(|parent| File::open(parent)?.sync_all())
}

/// SQLite's errors are outside, for they may mean damage; that the file is none of ours is within.
fn connect(path: &Path, schema: &Schema) -> rusqlite::Result<Result<Connection, OpenError>> {
    let database = Connection::open(path)?;
    let found: u32 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let (lost, known) = (schema.lost, schema.version);
    if found > known {
        return Ok(Err(OpenError::Newer { path: path.to_owned(), found, known, lost }));
    }
    if !is_ours(&database, schema)? {
        return Ok(Err(OpenError::Foreign { path: path.to_owned(), lost }));
    }
    database.execute_batch(PRAGMAS)?;
    database.execute_batch(schema.sql)?;
    if found < known {
        database.pragma_update(None, "user_version", known)?;
    }
    Ok(Ok(database))
}

/// Tells whether all tables of a file are known ones. Some may be missing: whoever made the file was cut off.
fn is_ours(database: &Connection, schema: &Schema) -> rusqlite::Result<bool> {
    let sql = "SELECT name, (SELECT group_concat(name, ' ') FROM pragma_table_info(tables.name)) FROM sqlite_schema AS tables \
               WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut query = database.prepare(sql)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (table, columns) = (row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default());
        if !schema.tables.contains(&(table.as_str(), columns.as_str())) {
            return Ok(false);
        }
    }
    Ok(true)
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
