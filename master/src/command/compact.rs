//! Compacts the store while the master runs.

use proto::map;

use super::{CommandError, Door, Reply};

impl Door {
    /// Applies retention, seals, and shrinks the job cache.
    pub(super) async fn compact(&self) -> Result<Reply, CommandError> {
        let stopping = || CommandError::Busy("the master is stopping; ask again in a moment".into());
        let bus = self.rooms.bus.clone();
        let log = tokio::task::spawn_blocking(move || bus.compact()).await.map_err(|_| stopping())?;
        let jobs = self.rooms.jobs.compact(log.oldest).await?;
        Ok(Reply::Value(map! { "deleted" => log.deleted, "sealed" => log.sealed, "jobs" => jobs }.into()))
    }
}
