//! The command line of `halite-master`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::config;

/// The master of a Halite fleet: keys, the event bus, jobs, the reactor.
#[derive(Debug, Parser)]
#[command(
    name = "halite-master",
    version,
    after_help = "Example:\n  halite-master -c /etc/halite --log-level info\n
It says `ready` when it listens. SIGHUP reads the configuration again, SIGTERM and SIGINT end it."
)]
pub struct Arguments {
    /// The directory of the configuration: the file `master` and `master.d/*.conf`.
    #[arg(short, long, value_name = "DIR", default_value = config::DEFAULT_CONFDIR, env = "HALITE_CONFIG_DIR", hide_env_values = true)]
    pub config_dir: PathBuf,
    /// How much to log: quiet, error, warning, info, debug or trace. Default: `log_level` of the configuration, info.
    #[arg(short, long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How to log.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// End when standard input closes, and so with the process that holds its other end.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// How log lines are written to standard error.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}
