//! The jids that this minion has seen: on disk before the job starts, kept until nobody can send the job again.
//!
//! A publication may come twice (at least once on the wire), its job runs once: [`Jids::begin`] has the jid on the disk
//! before it says [`Begun::Fresh`]. The return is kept beside its jid until the master has acknowledged it, so a restart
//! sends it again; a job that has no return yet was cut by the restart and returns `interrupted`.
//!
//! One thread owns the database and commits what waits together at once.

use std::io;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proto::ids::Jid;
use proto::map;
use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::database::{self, Schema, clamp, unix_ms};

/// How many requests may wait for the thread. A sender waits when it is full: jobs come no faster than the disk is.
const REQUESTS: usize = 256;
/// How many jids are remembered. Reached only if that many jobs come within one `job_ttl`; further ones are refused.
pub const MAX_JIDS: u64 = 20_000;
/// How often expired jids are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// The thread's stack; SQLite needs a small part of it.
const STACK_BYTES: usize = 512 << 10;
/// What a job that was cut by a restart returns.
const INTERRUPTED: &str = "interrupted";

const SCHEMA: Schema = Schema {
    version: 1,
    tables: &[("jids", "jid expires_ms state load")],
    sql: "CREATE TABLE IF NOT EXISTS jids (
        jid TEXT PRIMARY KEY, expires_ms INTEGER NOT NULL, state INTEGER NOT NULL, load BLOB) WITHOUT ROWID;",
    lost: "which jobs have run, so that one which comes again runs again, and the returns that the master has not",
};

const STARTED: i64 = 0;
const RETURNED: i64 = 1;
const ACKNOWLEDGED: i64 = 2;

/// Why the memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be opened.
    #[error("open the memory of jobs")]
    Open(#[from] database::OpenError),
    /// The database cannot be read.
    #[error("read the memory of jobs")]
    Read(#[source] rusqlite::Error),
    /// The thread cannot be started.
    #[error("start the thread of the jid memory")]
    Thread(#[source] io::Error),
}

/// Why a jid could not be written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// More than [`MAX_JIDS`] are alive.
    #[error("remember the jid: {MAX_JIDS} others have not expired")]
    Full,
    /// The memory has stopped.
    #[error("remember the jid: the minion is stopping")]
    Stopped,
    /// The disk is full or failing.
    #[error("remember the jid on disk: {0}")]
    Write(String),
}

/// What [`Jids::begin`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The job is new; it is on the disk now and may start.
    Fresh,
    /// The job was started before.
    Known,
}

/// Loads of returns that the master has not acknowledged, by their jobs.
pub type Owed = Vec<(Jid, Map)>;

/// The handle; cheap to clone. The thread ends when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Jids {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Acknowledged(Jid),
    Begin { jid: Jid, expires_ms: u64, publication: Vec<u8>, answer: oneshot::Sender<Result<Begun, JidError>> },
    Knows { jid: Jid, answer: oneshot::Sender<bool> },
    Returned { jid: Jid, load: Vec<u8>, answer: oneshot::Sender<Result<(), JidError>> },
}

impl Jids {
    /// Opens the memory in `folder`. Also gives the loads of returns that are still owed to the master: those that were not
    /// acknowledged, and `interrupted` for jobs that a restart has cut.
    pub fn open(folder: &Path) -> Result<(Jids, Owed, JoinHandle<()>), OpenError> {
        let (memory, owed) = Memory::open(folder, unix_ms())?;
        let (sender, requests) = mpsc::channel(REQUESTS);
        let body = move || memory.run(requests);
        let thread = std::thread::Builder::new().name("jids".into()).stack_size(STACK_BYTES).spawn(body);
        Ok((Jids { requests: sender }, owed, thread.map_err(OpenError::Thread)?))
    }

    /// Writes the jid down, on the disk when this returns, unless it is known.
    pub async fn begin(&self, jid: &Jid, expires_ms: u64, publication: &Map) -> Result<Begun, JidError> {
        let (answer, answered) = oneshot::channel();
        let publication = msgpack::encode_map(publication);
        let request = Request::Begin { jid: jid.clone(), expires_ms, publication, answer };
        self.requests.send(request).await.map_err(|_| JidError::Stopped)?;
        answered.await.map_err(|_| JidError::Stopped)?
    }

    /// Tells whether a job was begun before. A memory that cannot be read knows none.
    pub async fn knows(&self, jid: &Jid) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send(Request::Knows { jid: jid.clone(), answer }).await;
        asked.is_ok() && answered.await.unwrap_or_default()
    }

    /// Keeps a return until it is acknowledged. Blocks; not for async threads.
    pub fn returned(&self, jid: &Jid, load: &Map) -> Result<(), JidError> {
        let load = msgpack::encode_map(load);
        let (answer, answered) = oneshot::channel();
        let request = Request::Returned { jid: jid.clone(), load, answer };
        self.requests.blocking_send(request).map_err(|_| JidError::Stopped)?;
        answered.blocking_recv().map_err(|_| JidError::Stopped)?
    }

    /// Notes that the master has the return. Best effort: a return that is sent twice is dropped by the master.
    pub fn acknowledged(&self, jid: Jid) {
        // If the memory is busy or has stopped, the return is sent once more after the next start.
        let _ = self.requests.try_send(Request::Acknowledged(jid));
    }
}

/// The memory itself, for its thread, and for who asks it by hand: the simulation. Blocks.
#[derive(Debug)]
pub struct Memory {
    database: Connection,
}

/// An answer that waits for the commit.
enum Answer {
    Begin(oneshot::Sender<Result<Begun, JidError>>, Result<Begun, JidError>),
    None,
    Returned(oneshot::Sender<Result<(), JidError>>),
}

impl Memory {
    /// Opens the memory in `folder`; see [`Jids::open`].
    pub fn open(folder: &Path, now_ms: u64) -> Result<(Memory, Owed), OpenError> {
        let mut memory = Memory { database: database::open(&folder.join("jids.db"), &SCHEMA)? };
        let owed = memory.owed(now_ms).map_err(OpenError::Read)?;
        Ok((memory, owed))
    }

    /// Does what [`Jids::begin`] does.
    pub fn begin(&mut self, jid: &Jid, expires_ms: u64, publication: &Map) -> Result<Begun, JidError> {
        let (answer, answered) = oneshot::channel();
        let publication = msgpack::encode_map(publication);
        self.commit(vec![Request::Begin { jid: jid.clone(), expires_ms, publication, answer }]);
        answered.blocking_recv().map_err(|_| JidError::Stopped)?
    }

    /// Does what [`Jids::returned`] does.
    pub fn returned(&mut self, jid: &Jid, load: &Map) -> Result<(), JidError> {
        let (answer, answered) = oneshot::channel();
        self.commit(vec![Request::Returned { jid: jid.clone(), load: msgpack::encode_map(load), answer }]);
        answered.blocking_recv().map_err(|_| JidError::Stopped)?
    }

    /// Does what [`Jids::acknowledged`] does.
    pub fn acknowledged(&mut self, jid: Jid) {
        self.commit(vec![Request::Acknowledged(jid)]);
    }

    /// Forgets what is acknowledged and can come no more.
    pub fn forget(&self, now_ms: u64) {
        if let Err(error) = self.delete(now_ms) {
            warn!(%error, "cannot forget expired jids");
        }
    }

    /// Has the disk be full beyond so many pages of the database.
    pub fn limit_pages(&self, pages: u32) -> rusqlite::Result<()> {
        database::limit_pages(&self.database, pages)
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut forgotten = Instant::now();
        while let Some(first) = requests.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < REQUESTS {
                let Ok(next) = requests.try_recv() else { break };
                batch.push(next);
            }
            if forgotten.elapsed() >= FORGET_EVERY {
                forgotten = Instant::now();
                self.forget(unix_ms());
            }
            self.commit(batch);
        }
    }

    /// Commits a batch in one transaction and only then answers.
    fn commit(&mut self, batch: Vec<Request>) {
        let mut answers = Vec::new();
        let outcome = self.database.transaction().and_then(|transaction| {
            for request in batch {
                answers.push(apply(&transaction, request));
            }
            transaction.commit()
        });
        let failure = outcome.err().map(|error| {
            error!(%error, "cannot write jids to the disk; jobs are refused until this works: is the disk full?");
            JidError::Write(error.to_string())
        });
        for answer in answers {
            // Whoever asked may be gone; what is written stays.
            match (answer, failure.clone()) {
                (Answer::Begin(to, _), Some(error)) => drop(to.send(Err(error))),
                (Answer::Begin(to, begun), None) => drop(to.send(begun)),
                (Answer::Returned(to), error) => drop(to.send(error.map_or(Ok(()), Err))),
                (Answer::None, _) => {}
            }
        }
    }

    fn delete(&self, now_ms: u64) -> rusqlite::Result<usize> {
        self.database
            .execute("DELETE FROM jids WHERE state = ?1 AND expires_ms < ?2", params![ACKNOWLEDGED, clamp(now_ms)])
    }

    /// Returns what the master has not acknowledged; jobs that were cut get their return now.
    fn owed(&mut self, now_ms: u64) -> rusqlite::Result<Owed> {
        self.delete(now_ms)?;
        let mut found = Vec::new();
        {
            let mut query =
                self.database.prepare("SELECT jid, state, load FROM jids WHERE state <> ?1 ORDER BY jid")?;
            let mut rows = query.query(params![ACKNOWLEDGED])?;
            while let Some(row) = rows.next()? {
                found.push((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<Vec<u8>>>(2)?));
            }
        }
        let mut owed = Vec::new();
        for (text, state, load) in found {
            let (Ok(jid), Some(load)) = (Jid::parse(&text), load.and_then(|load| msgpack::decode_map(&load).ok()))
            else {
                continue;
            };
            let load = if state == STARTED { interrupted(&jid, &load) } else { load };
            info!(%jid, interrupted = state == STARTED, "a return from before the restart is still owed to the master");
            owed.push((jid, load));
        }
        Ok(owed)
    }
}

fn apply(database: &Connection, request: Request) -> Answer {
    match request {
        Request::Acknowledged(jid) => {
            let changed = database
                .execute("UPDATE jids SET state = ?2, load = NULL WHERE jid = ?1", params![jid.as_str(), ACKNOWLEDGED]);
            if let Err(error) = changed {
                warn!(%jid, %error, "cannot note that a return was acknowledged; it is sent again after the next start");
            }
            Answer::None
        }
        Request::Begin { jid, expires_ms, publication, answer } => {
            let begun = begin(database, &jid, expires_ms, &publication);
            Answer::Begin(answer, begun.unwrap_or_else(|error| Err(JidError::Write(error.to_string()))))
        }
        Request::Knows { jid, answer } => {
            // Who asked may have gone.
            let _ = answer.send(is_known(database, &jid).unwrap_or_default());
            Answer::None
        }
        Request::Returned { jid, load, answer } => {
            let sql = "UPDATE jids SET state = ?2, load = ?3 WHERE jid = ?1";
            match database.execute(sql, params![jid.as_str(), RETURNED, load]) {
                Ok(_) => Answer::Returned(answer),
                Err(error) => {
                    drop(answer.send(Err(JidError::Write(error.to_string()))));
                    Answer::None
                }
            }
        }
    }
}

fn is_known(database: &Connection, jid: &Jid) -> rusqlite::Result<bool> {
    let state = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let known = database.query_row("SELECT state FROM jids WHERE jid = ?1", params![jid.as_str()], state).optional()?;
    Ok(known.is_some())
}

fn begin(
    database: &Connection,
    jid: &Jid,
    expires_ms: u64,
    publication: &[u8],
) -> rusqlite::Result<Result<Begun, JidError>> {
    if is_known(database, jid)? {
        return Ok(Ok(Begun::Known));
    }
    let alive = database.query_row("SELECT COUNT(*) FROM jids", [], |row| row.get::<_, i64>(0))?;
    if alive.cast_unsigned() >= MAX_JIDS {
        return Ok(Err(JidError::Full));
    }
    let sql = "INSERT INTO jids (jid, expires_ms, state, load) VALUES (?1, ?2, ?3, ?4)";
    database.execute(sql, params![jid.as_str(), clamp(expires_ms), STARTED, publication])?;
    Ok(Ok(Begun::Fresh))
}

/// Builds the return of a job that a restart has cut.
fn interrupted(jid: &Jid, publication: &Map) -> Map {
    let field = |name: &str, fallback: Value| publication.at(name).cloned().unwrap_or(fallback);
    map! {
        "cmd" => "_return",
        "success" => false,
        "return" => INTERRUPTED,
        "retcode" => 1,
        "jid" => jid,
        "fun" => field("fun", "".into()),
        "fun_args" => field("arg", Value::List(Vec::new())),
        "user" => field("user", "".into()),
        "out" => "nested",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(last: u8) -> Jid {
        Jid::parse(&format!("2026112023523282162{last}")).unwrap()
    }

    fn job() -> Map {
        map! { "fun" => "test.sleep", "arg" => vec![60], "user" => "root" }
    }

    /// Opens, lets `act` use the memory off the async threads, closes, and gives what is owed at the next start.
    fn owed_after(folder: &Path, act: impl FnOnce(&Jids)) -> Owed {
        let (jids, _, thread) = Jids::open(folder).unwrap();
        act(&jids);
        drop(jids);
        thread.join().unwrap();
        let (jids, owed, thread) = Jids::open(folder).unwrap();
        drop(jids);
        thread.join().unwrap();
        owed
    }

    fn begin(jids: &Jids, jid: &Jid) -> Result<Begun, JidError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(jids.begin(jid, u64::MAX, &job()))
    }

    #[test]
    fn a_job_is_fresh_once_even_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        owed_after(folder.path(), |jids| {
            assert_eq!(begin(jids, &jid(1)), Ok(Begun::Fresh));
            assert_eq!(begin(jids, &jid(1)), Ok(Begun::Known));
        });
        owed_after(folder.path(), |jids| assert_eq!(begin(jids, &jid(1)), Ok(Begun::Known)));
    }

    #[test]
    fn a_job_cut_by_a_restart_returns_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let owed = owed_after(folder.path(), |jids| {
            begin(jids, &jid(1)).unwrap();
        });
        assert_eq!(owed.len(), 1);
        let load = &owed[0].1;
        assert_eq!(load.text("return"), Some("interrupted"));
        assert_eq!((load.at("retcode"), load.text("fun")), (Some(&Value::from(1)), Some("test.sleep")));
    }

    #[test]
    fn a_return_is_owed_until_it_is_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let load = map! { "jid" => "x", "fun" => "test.ping", "return" => true };
        let owed = owed_after(folder.path(), |jids| {
            begin(jids, &jid(1)).unwrap();
            jids.returned(&jid(1), &load).unwrap();
        });
        assert_eq!(owed, [(jid(1), load)]);
        let owed = owed_after(folder.path(), |jids| jids.acknowledged(jid(1)));
        assert_eq!(owed, []);
        owed_after(folder.path(), |jids| assert_eq!(begin(jids, &jid(1)), Ok(Begun::Known)));
    }

    #[test]
    fn only_what_is_expired_and_acknowledged_is_forgotten() {
        let database = database::open(Path::new(":memory:"), &SCHEMA).unwrap();
        let memory = Memory { database };
        super::begin(&memory.database, &jid(1), 100, b"\x80").unwrap().unwrap();
        assert_eq!(memory.delete(200), Ok(0));
        apply(&memory.database, Request::Acknowledged(jid(1)));
        assert_eq!((memory.delete(100), memory.delete(101)), (Ok(0), Ok(1)));
    }

    #[test]
    fn a_memory_of_another_form_is_left_as_it_is_and_named() {
        let refused = |sql: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("jids.db");
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            let before = std::fs::read(&path).unwrap();
            let error = Jids::open(folder.path()).map(drop).unwrap_err();
            assert_eq!(std::fs::read(&path).unwrap(), before);
            let told = std::error::Error::source(&error).unwrap().to_string();
            assert!(told.starts_with(&format!("use {}: ", path.display())) && told.contains("move the file"), "{told}");
            assert!(told.contains("loses which jobs have run"), "{told}");
            told
        };
        assert!(
            refused("CREATE TABLE jids (id INTEGER, what TEXT)").contains("its tables are not those of this minion")
        );
        assert!(refused("CREATE TABLE other (id INTEGER)").contains("its tables are not those of this minion"));
        let newer = refused(&format!("{} PRAGMA user_version = 7", SCHEMA.sql));
        assert!(newer.contains("of a newer minion (form 7; this one knows 1); start the newer one"), "{newer}");
    }

    #[test]
    fn a_memory_from_before_forms_were_counted_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join("jids.db")).unwrap();
        old.execute_batch(SCHEMA.sql).unwrap();
        super::begin(&old, &jid(1), u64::MAX, b"\x80").unwrap().unwrap();
        drop(old);
        owed_after(folder.path(), |jids| assert_eq!(begin(jids, &jid(1)), Ok(Begun::Known)));
        let now = Connection::open(folder.path().join("jids.db")).unwrap();
        assert_eq!(now.query_row("PRAGMA user_version", [], |row| row.get(0)), Ok(1));
    }

    #[test]
    fn a_damaged_memory_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jids.db"), "x".repeat(4096)).unwrap();
        let (jids, owed, _thread) = Jids::open(folder.path()).unwrap();
        assert_eq!((begin(&jids, &jid(1)), owed.len()), (Ok(Begun::Fresh), 0));
        assert!(folder.path().join("jids.db.damaged").exists());
    }
}
