//! The options of the key store.

use std::time::Duration;

use super::{ConfigError, Options, Paths};
use crate::keys::{AutosignConfig, KeysConfig};

/// Reads them.
pub(super) fn read(options: &Options<'_>, paths: &Paths) -> Result<KeysConfig, ConfigError> {
    let path = |key| paths.optional(options, key);
    let minutes: u32 = options.number("autosign_timeout")?.unwrap_or(120);
    let autosign = AutosignConfig {
        autosign_file: path("autosign_file")?,
        autoreject_file: path("autoreject_file")?,
        autosign_grains_dir: path("autosign_grains_dir")?,
        autosign_timeout: Duration::from_secs(u64::from(minutes) * 60),
        permissive: options.flag("permissive_pki_access", false)?,
    };
    Ok(KeysConfig {
        pki_dir: paths.pki_dir.clone(),
        auto_accept: options.flag("auto_accept", false)?,
        max_pending: options.number("max_pending")?.unwrap_or(1_000),
        max_minions: options.number("max_minions")?.unwrap_or(0),
        autosign,
    })
}
