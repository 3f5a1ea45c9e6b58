//! What runs here by time: `mine.update`, when the minion has come up and then every `mine_interval` minutes.

use std::sync::Arc;
use std::time::Duration;

use proto::value::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::executor;
use crate::link::LinkStatus;
use crate::modules::ModuleContext;

/// What is called.
const MINE: &str = "mine.update";

/// Makes the context of one call.
pub type Contexts = Arc<dyn Fn() -> ModuleContext + Send + Sync>;

/// Calls `mine.update` by time, until the link has ended. One call at a time; a master that is away is not asked.
pub fn tell_mine(every: Duration, mut status: watch::Receiver<LinkStatus>, contexts: Contexts) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let settled = |status: &LinkStatus| matches!(status, LinkStatus::Up { .. } | LinkStatus::Stopped);
            let is_up = status.wait_for(settled).await.is_ok_and(|status| *status != LinkStatus::Stopped);
            if !is_up {
                return;
            }
            let next = Instant::now() + every;
            call(Arc::clone(&contexts)).await;
            tokio::select! {
                () = sleep_until(next) => {}
                () = stopped(&mut status) => return,
            }
        }
    })
}

async fn stopped(status: &mut watch::Receiver<LinkStatus>) {
    // An error means that the link is gone.
    drop(status.wait_for(|status| *status == LinkStatus::Stopped).await);
}

async fn call(contexts: Contexts) {
    let called = tokio::task::spawn_blocking(move || executor::call(&contexts(), MINE, &[]));
    match called.await {
        Ok(done) if done.retcode == Value::Int(0) => debug!("the master knows the mine of this minion"),
        Ok(done) => warn!(said = ?done.ret, "failed to tell the master the mine of this minion"),
        // The runtime is shutting down.
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proto::value::Map;

    use super::*;

    #[tokio::test]
    async fn the_mine_is_told_when_the_minion_is_up_and_then_by_time() {
        let (link, status) = watch::channel(LinkStatus::Down { why: None });
        let (told, mut calls) = tokio::sync::mpsc::channel(8);
        let contexts: Contexts = Arc::new(move || {
            // Nobody counts the later ones.
            let _ = told.try_send(());
            ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()))
        });
        let task = tell_mine(Duration::from_millis(20), status, contexts);
        tokio::task::yield_now().await;
        assert!(calls.try_recv().is_err(), "there is nobody to tell");
        link.send_replace(LinkStatus::Up { session: 1 });
        for _ in 0..2 {
            calls.recv().await.unwrap();
        }
        link.send_replace(LinkStatus::Stopped);
        task.await.unwrap();
    }
}
