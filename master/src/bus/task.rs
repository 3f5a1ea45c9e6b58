//! Runs the writer's thread and ends it.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::Queue;
use super::writer::Writer;

/// The running half of the bus. Without it nothing is committed.
#[must_use = "nothing is committed before the task runs"]
pub struct BusTask {
    pub(super) writer: Writer,
    pub(super) queue: Arc<Queue>,
}

/// Why the bus has ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The thread could not be started.
    #[error("start the writer of the event log")]
    Thread(#[source] std::io::Error),
    /// The thread has panicked; its last words are in the log.
    #[error("keep the writer of the event log running: it has panicked")]
    Panicked,
}

impl BusTask {
    /// Runs until `shutdown` says true, or until its sender is gone; then commits what is queued and closes the log.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> Result<(), RunError> {
        let BusTask { writer, queue } = self;
        let (done, mut ended) = oneshot::channel();
        let work = move || {
            writer.run();
            let _ = done.send(());
        };
        std::thread::Builder::new().name("bus-writer".into()).spawn(work).map_err(RunError::Thread)?;
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            _ = &mut ended => return Err(RunError::Panicked),
        }
        queue.close();
        ended.await.map_err(|_| RunError::Panicked)
    }
}
