//! The options of the event log: `event_retention_age`, `event_retention_bytes`, `event_segment_size`, `event_sync`.

use std::time::Duration;

use render::unit;

use super::{ConfigError, Options, Paths};
use crate::bus::{BusConfig, Retention};

/// The smallest segment of the event log: an empty one has 20 KiB, and a crowd of files helps nobody.
const MIN_SEGMENT: u64 = 64 * 1024;

/// When the log is synced.
const EVERY_COMMIT: &str = "every_commit";

/// How the event log is kept.
pub(super) fn read(options: &Options<'_>, paths: &Paths) -> Result<BusConfig, ConfigError> {
    let config = BusConfig::new(paths.cachedir.join("events"));
    let segment_bytes = options.bytes("event_segment_size")?.unwrap_or(config.segment_bytes);
    if segment_bytes < MIN_SEGMENT {
        return Err(options.wrong("event_segment_size", "at least 64KiB"));
    }
    // There is no other way: what is acknowledged is on the disk. The key is there for those who want it said.
    if options.text("event_sync")?.is_some_and(|sync| sync != EVERY_COMMIT) {
        return Err(options.wrong("event_sync", "every_commit, the only way there is"));
    }
    // 0 is no limit.
    let limit = |bytes: u64| Some(bytes).filter(|bytes| *bytes > 0);
    let retention = Retention {
        age: options.age("event_retention_age")?.unwrap_or(config.retention.age),
        bytes: options.bytes("event_retention_bytes")?.map_or(config.retention.bytes, limit),
    };
    Ok(BusConfig { segment_bytes, retention, ..config })
}

impl Options<'_> {
    /// Reads a number of bytes, bare or with a unit: `256MiB`.
    fn bytes(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        unit::bytes(&text)
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a number of bytes, or one with KiB, MiB, GiB or TiB"))
    }

    /// Reads a span of time, bare seconds or with a unit: `30d`. 0 is no limit.
    fn age(&self, key: &'static str) -> Result<Option<Option<Duration>>, ConfigError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let seconds =
            unit::seconds(&text).ok_or_else(|| self.wrong(key, "a number of seconds, or one with m, h or d"))?;
        Ok(Some(Some(Duration::from_secs(seconds)).filter(|age| !age.is_zero())))
    }
}
