//! What one rendering keeps track of: its budget, the last name that was missing, the repairs it needed. Objects inside
//! `minijinja` cannot reach the render state, so it hangs on the thread while a template renders.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::SystemTime;

use minijinja::{Error, ErrorKind};

use super::Repairs;

/// The work one rendering may do, in bytes and items that its operations touch or make.
pub(super) const MAX_WORK: usize = 64 << 20;
/// The longest text a variable may hold, in bytes.
pub(super) const MAX_TEXT: usize = 1 << 20;
/// The most items one list or map may hold.
pub(super) const MAX_ITEMS: usize = 100_000;
/// The deepest nesting of lists and maps.
pub(super) const MAX_DEPTH: usize = 64;
/// How many templates may stand inside each other through `import_yaml` and its kin.
pub(super) const MAX_IMPORT_DEPTH: usize = 8;
/// How many `namespace` and `cycler` objects one rendering may make.
const MAX_NAMESPACES: usize = 1_000;

/// The books of one rendering.
pub(super) struct Session {
    work: usize,
    namespaces: usize,
    imports: usize,
    repairs: Repairs,
    now: Option<SystemTime>,
    missing: Option<String>,
    indexed: BTreeSet<&'static str>,
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Keeps a session on this thread until it is dropped; an outer one comes back then.
pub(super) struct Guard {
    outer: Option<Session>,
}

impl Guard {
    pub(super) fn start(repairs: Repairs, now: Option<SystemTime>) -> Guard {
        let indexed = BTreeSet::new();
        let session = Session { work: 0, namespaces: 0, imports: 0, repairs, now, missing: None, indexed };
        Guard { outer: SESSION.with(|slot| slot.replace(Some(session))) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let outer = self.outer.take();
        SESSION.with(|slot| slot.replace(outer));
    }
}

fn with<T: Default>(act: impl FnOnce(&mut Session) -> T) -> T {
    SESSION.with(|slot| slot.borrow_mut().as_mut().map(act).unwrap_or_default())
}

/// Books work; fails once the budget is spent.
pub(super) fn spend(amount: usize) -> Result<(), Error> {
    let spent = with(|session| {
        session.work = session.work.saturating_add(amount);
        session.work > MAX_WORK
    });
    if spent { Err(failure("the template does too much work")) } else { Ok(()) }
}

/// Books one more namespace.
pub(super) fn count_namespace() -> Result<(), Error> {
    let spent = with(|session| {
        session.namespaces += 1;
        session.namespaces > MAX_NAMESPACES
    });
    if spent { Err(failure("the template makes too many namespaces")) } else { Ok(()) }
}

/// Books an import for as long as `act` takes.
pub(super) fn import<T>(act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let depth = with(|session| {
        session.imports += 1;
        session.imports
    });
    let result = if depth > MAX_IMPORT_DEPTH { Err(failure("imports are nested too deeply")) } else { act() };
    with(|session| session.imports -= 1);
    result
}

/// Returns the current time, if the rendering was given one.
pub(super) fn now() -> Option<SystemTime> {
    with(|session| session.now)
}

/// Notes what was looked up and is not there, in Jinja's words: it is what an undefined value stands for.
pub(super) fn note_missing(what: String) {
    with(|session| session.missing = Some(what));
}

/// Returns what was missing last.
pub(super) fn missing() -> Option<String> {
    with(|session| session.missing.clone())
}

/// Tells whether `keys()`, `values()` and `items()` may be indexed; notes that one was.
pub(super) fn index_view(method: &'static str) -> bool {
    with(|session| {
        let repaired = session.repairs == Repairs::On;
        if repaired {
            session.indexed.insert(method);
        }
        repaired
    })
}

/// Returns which of `keys`, `values`, `items` were indexed.
pub(super) fn indexed_views() -> BTreeSet<&'static str> {
    with(|session| session.indexed.clone())
}

/// A failure that is the template's fault.
pub(super) fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
