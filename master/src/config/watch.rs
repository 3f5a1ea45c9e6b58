//! Sees changes of the configuration files, so that nobody has to say `reload`.
//!
//! A file counts when it has been closed, moved or removed, and when nothing more happens for a moment: an editor's save
//! begins with an empty file, and that is not a configuration anybody wrote.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::command::ReloadRequest;

/// How long the files must be left alone before they are read.
const QUIET: Duration = Duration::from_millis(200);
/// One message says all: something has changed.
const CHANGES: usize = 1;

/// The watched directories.
pub struct ConfigWatch {
    watcher: Option<RecommendedWatcher>,
    confdir: PathBuf,
    changes: mpsc::Receiver<()>,
}

impl ConfigWatch {
    /// Watches a configuration directory. Where the system cannot, a warning says that changes need `halite reload`.
    pub fn new(confdir: &Path) -> ConfigWatch {
        let (tell, changes) = mpsc::channel(CHANGES);
        let seen = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| counts(&event)) {
                // A full channel says the same.
                let _ = tell.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(seen);
        if let Err(error) = &watcher {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "changes of the configuration are not seen; use `halite reload`"
            );
        }
        let mut watch = ConfigWatch { watcher: watcher.ok(), confdir: confdir.to_owned(), changes };
        watch.look();
        watch
    }

    /// Watches what is there now: `master.d` may have been made since.
    fn look(&mut self) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        for dir in [self.confdir.clone(), self.confdir.join("master.d")] {
            if dir.is_dir()
                && let Err(error) = watcher.watch(&dir, RecursiveMode::NonRecursive)
            {
                tracing::warn!(dir = %dir.display(), error = &error as &dyn std::error::Error, "changes are not seen; use `halite reload`");
            }
        }
    }

    /// Calls for a reload after each change, once the files have been left alone.
    pub async fn run(mut self, reload: mpsc::Sender<ReloadRequest>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                change = self.changes.recv() => if change.is_none() { return stop.cancelled().await },
            }
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
            self.look();
            // A master that stops reads nothing any more, and answers nobody.
            tokio::select! {
                () = stop.cancelled() => return,
                () = call(&reload) => {}
            }
        }
    }
}

/// Calls for a reload and waits for its end. What came of it is told on the bus and in the log.
async fn call(reload: &mpsc::Sender<ReloadRequest>) {
    let (answer, answered) = oneshot::channel();
    if reload.send(answer).await.is_ok() {
        let _ = answered.await;
    }
}

/// Tells whether an event means that a configuration file is not what it was.
fn counts(event: &notify::Event) -> bool {
    let done = matches!(
        event.kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_)
            | EventKind::Create(CreateKind::Folder)
    );
    let ours = |path: &PathBuf| {
        let named = path.file_name().is_some_and(|name| name == "master" || name == "master.d");
        named || path.extension().is_some_and(|end| end == "conf")
    };
    done && event.paths.iter().any(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a change may take to be seen.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_saved_file_counts_and_so_does_a_folder_made_later() {
        let dir = tempfile::tempdir().unwrap();
        let watch = ConfigWatch::new(dir.path());
        let (reload, mut heard) = mpsc::channel::<ReloadRequest>(8);
        let stop = CancellationToken::new();
        tokio::spawn(watch.run(reload, stop.clone()));
        let mut reloaded = async || {
            let request = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
            request.send(Ok(Vec::new())).unwrap();
        };
        std::fs::write(dir.path().join("master"), "id: x\n").unwrap();
        reloaded().await;
        std::fs::create_dir(dir.path().join("master.d")).unwrap();
        reloaded().await;
        std::fs::write(dir.path().join("master.d/a.conf"), "id: y\n").unwrap();
        reloaded().await;
        stop.cancel();
    }

    #[tokio::test]
    async fn a_reload_that_nobody_answers_does_not_keep_a_master_from_stopping() {
        let dir = tempfile::tempdir().unwrap();
        let watch = ConfigWatch::new(dir.path());
        let (reload, mut heard) = mpsc::channel::<ReloadRequest>(8);
        let stop = CancellationToken::new();
        let running = tokio::spawn(watch.run(reload, stop.clone()));
        std::fs::write(dir.path().join("master"), "id: x\n").unwrap();
        let _unanswered = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
        stop.cancel();
        tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    }

    #[test]
    fn an_empty_file_on_its_way_to_a_full_one_does_not_count() {
        let event = |kind, path: &str| notify::Event::new(kind).add_path(path.into());
        let truncated = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Content));
        assert!(!counts(&event(truncated, "/c/master")));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(counts(&event(closed, "/c/master.d/reactor.conf")));
        assert!(!counts(&event(closed, "/c/master.d/reactor.conf~")));
    }
}
