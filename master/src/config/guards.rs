//! The options of the reactor's guard rails.

use super::{ConfigError, Options};
use crate::reactor::GuardsConfig;

/// Reads them. A limit of none at all would be no guard rail; a very high one is as good.
pub(super) fn read(options: &Options<'_>) -> Result<GuardsConfig, ConfigError> {
    let default = GuardsConfig::default();
    let above = |key, otherwise| match options.number::<u32>(key)? {
        Some(0) => Err(options.wrong(key, "a number above 0")),
        number => Ok(number.unwrap_or(otherwise)),
    };
    Ok(GuardsConfig {
        rate_per_s: above("reactor_rate_limit", default.rate_per_s)?,
        burst: above("reactor_rate_burst", default.burst)?,
        dedup_window: options.span("reactor_dedup_window", default.dedup_window.as_secs())?,
        breaker_failures: options.number("reactor_breaker_failures")?.unwrap_or(default.breaker_failures),
        breaker_open: options.seconds("reactor_breaker_open", default.breaker_open.as_secs())?,
    })
}
