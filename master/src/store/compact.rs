//! Applies retention and makes what is missing, while the master is away. A running master does the same when asked.

use super::{Files, Progress, StoreError};
use crate::bus;
use crate::jobs;

/// What has become smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that were deleted.
    pub deleted: usize,
    /// Segments that were sealed.
    pub sealed: usize,
    /// Jobs that were forgotten: their events are no longer in the log.
    pub jobs: usize,
}

/// Compacts the store of a stopped master.
pub fn compact(files: &Files, progress: Progress<'_>) -> Result<Compacted, StoreError> {
    progress("taking the event log");
    let log = bus::compact(&files.events, files.retention)?;
    progress("shrinking the job cache");
    let jobs = match files.databases.iter().find(|path| path.ends_with("jobs.db")).filter(|path| path.exists()) {
        Some(path) => jobs::compact(path, log.oldest).map_err(|error| StoreError::File {
            what: "shrink",
            path: path.clone(),
            source: std::io::Error::other(error),
        })?,
        None => 0,
    };
    Ok(Compacted { deleted: log.deleted, sealed: log.sealed, jobs })
}
