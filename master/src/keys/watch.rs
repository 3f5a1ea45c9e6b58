//! Watches the four folders: `salt-key` and people move files by hand.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use proto::ids::MinionId;
use tokio::sync::mpsc;

use super::store::id_of_file;
use super::task::Request;

/// How many changed names are remembered one by one; beyond, everything is read again.
const MOST_NAMES: usize = 1_024;

/// How often the folders are looked through where the kernel cannot tell.
const POLL: Duration = Duration::from_millis(900);

/// What was touched since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Touched {
    inner: Mutex<Names>,
}

/// Which ids have to be read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Names {
    All,
    These(BTreeSet<MinionId>),
}

impl Default for Names {
    fn default() -> Names {
        Names::These(BTreeSet::new())
    }
}

impl Touched {
    pub(super) fn take(&self) -> Names {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, event: notify::Result<notify::Event>) -> bool {
        let mut names = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(event) = event else {
            *names = Names::All;
            return true;
        };
        // Reading a key is an event too, but not one to read it again for.
        let write = AccessKind::Close(AccessMode::Write);
        if matches!(event.kind, EventKind::Access(kind) if kind != write) {
            return false;
        }
        let ids = event.paths.iter().filter_map(|path| id_of_file(path.parent()?, path.file_name()?));
        match &mut *names {
            Names::All => {}
            Names::These(these) => {
                these.extend(ids);
                if these.is_empty() && !event.need_rescan() {
                    return false;
                }
                if these.len() > MOST_NAMES || event.need_rescan() {
                    *names = Names::All;
                }
            }
        }
        true
    }
}

/// A running watcher; dropping it ends it.
#[derive(Debug)]
#[expect(dead_code, reason = "kept for its drop")]
pub(super) enum Watching {
    Kernel(RecommendedWatcher),
    Poll(PollWatcher),
    Nothing,
}

/// Watches these folders and wakes the task.
pub(super) fn watch(folders: &[PathBuf], touched: &Arc<Touched>, wake: &mpsc::Sender<Request>) -> Watching {
    let handler = || {
        let (touched, wake) = (Arc::clone(touched), wake.downgrade());
        move |event| {
            if touched.add(event)
                && let Some(wake) = wake.upgrade()
            {
                // A full queue is fine: the task looks after every request.
                let _ = wake.try_send(Request::Touched);
            }
        }
    };
    let kernel = notify::recommended_watcher(handler()).and_then(|watcher| on(watcher, folders));
    let error = match kernel {
        Ok(watcher) => return Watching::Kernel(watcher),
        Err(error) => error,
    };
    tracing::warn!(%error, "the kernel cannot watch the key folders, looking through them instead");
    let config = Config::default().with_poll_interval(POLL);
    match PollWatcher::new(handler(), config).and_then(|watcher| on(watcher, folders)) {
        Ok(watcher) => Watching::Poll(watcher),
        Err(error) => {
            tracing::error!(%error, "key files moved by hand will not be noticed before a reload");
            Watching::Nothing
        }
    }
}

fn on<W: Watcher>(mut watcher: W, folders: &[PathBuf]) -> notify::Result<W> {
    for folder in folders {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
