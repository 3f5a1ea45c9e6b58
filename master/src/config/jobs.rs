//! The options of jobs: `jid_events`, `job_ttl`, `keep_jobs_seconds`, `keep_jobs`.

use std::time::Duration;

use proto::target::nodegroup::Nodegroups;

use super::{ConfigError, Options, Paths};
use crate::jobs::JobsConfig;
use crate::salt::SyndicsConfig;

/// How jobs are run and kept.
pub(super) fn read(
    options: &Options<'_>,
    paths: &Paths,
    nodegroups: Nodegroups,
    syndics: Option<SyndicsConfig>,
) -> Result<JobsConfig, ConfigError> {
    Ok(JobsConfig {
        path: paths.cachedir.join("jobs.db"),
        ttl: options.seconds("job_ttl", 60)?,
        keep: keep(options)?,
        jid_events: options.flag("jid_events", true)?,
        nodegroups,
        syndics,
    })
}

/// Reads how long jobs are kept. Older files have `keep_jobs`, in hours; who sets both means the newer one, as in Salt.
fn keep(options: &Options<'_>) -> Result<Option<Duration>, ConfigError> {
    const HOUR: u32 = 3_600;
    let hours = options.span("keep_jobs", 24)? * HOUR;
    let seconds = options.span("keep_jobs_seconds", 86_400)?;
    let keep = if options.has("keep_jobs") && !options.has("keep_jobs_seconds") { hours } else { seconds };
    Ok(Some(keep).filter(|keep| !keep.is_zero()))
}
