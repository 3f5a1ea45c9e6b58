//! Options that every verb has, and what follows from them: the master's socket, the style of what is printed.

use std::path::PathBuf;

use anyhow::Context as _;
use nix::unistd::Uid;
use render::output::Format;
use tracing::level_filters::LevelFilter;

use super::exit::Usage;
use super::out::tell;
use crate::api::SOCKET_NAME;
use crate::api::client::Client;
use crate::config::ClientConfig;

/// Where the configuration is, unless told otherwise.
const CONFIG_DIR: &str = "/etc/halite";

/// Names another configuration directory.
const CONFIG_DIR_VARIABLE: &str = "HALITE_CONFIG_DIR";

/// Options that every verb has.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Globals {
    /// Directory of the configuration file `master` [env: HALITE_CONFIG_DIR] [default: /etc/halite]
    #[arg(short = 'c', long, value_name = "DIR", global = true)]
    pub(crate) config_dir: Option<PathBuf>,
    /// How much to log on stderr: quiet, error, warning, info, debug, trace [default: warning]
    #[arg(short = 'l', long, value_name = "LEVEL", global = true, value_parser = log_level)]
    pub(crate) log_level: Option<LevelFilter>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Under which name the command was started.
    #[arg(skip)]
    pub(crate) face: Face,
}

/// How to print.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct OutputArgs {
    /// Outputter: nested, json, jsonl, yaml, txt, table, raw, pprint, key, quiet; of events: pretty, plain, json, jsonl
    #[arg(long, alias = "output", value_name = "OUTPUTTER", global = true)]
    pub(crate) out: Option<String>,
    /// Indent by so many spaces; below zero prints on one line
    #[arg(long, alias = "output-indent", value_name = "N", global = true, allow_negative_numbers = true)]
    pub(crate) out_indent: Option<i32>,
    /// Write to this file instead of stdout
    #[arg(long, alias = "output-file", value_name = "FILE", global = true)]
    pub(crate) out_file: Option<PathBuf>,
    /// Append to the file of --out-file
    #[arg(long, alias = "output-file-append", global = true)]
    pub(crate) out_file_append: bool,
    /// No colours, even on a terminal
    #[arg(long, alias = "no-colour", global = true)]
    pub(crate) no_color: bool,
    /// Colours, even if this is no terminal
    #[arg(long, alias = "force-colour", global = true, conflicts_with = "no_color")]
    pub(crate) force_color: bool,
}

/// Under which name the command was started: texts and habits differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Face {
    /// Our own.
    #[default]
    Halite,
    /// One of Salt's, which this is.
    Salt(&'static str),
}

impl Face {
    /// Returns the name that errors begin with.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Face::Halite => "halite",
            Face::Salt(name) => name,
        }
    }

    /// Returns the command that shows a job later.
    pub(crate) fn lookup(self, jid: &str) -> String {
        match self {
            Face::Halite => format!("halite jobs show {jid}"),
            Face::Salt(_) => format!("salt-run jobs.lookup_jid {jid}"),
        }
    }
}

impl Globals {
    /// Returns the configuration directory.
    pub(crate) fn config_dir(&self) -> PathBuf {
        let named = || std::env::var_os(CONFIG_DIR_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        self.config_dir.clone().or_else(named).unwrap_or_else(|| PathBuf::from(CONFIG_DIR))
    }

    /// Returns a client of the master that the configuration names.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(self.config()?.sock_dir.join(SOCKET_NAME)).acting_for(acting_user()))
    }

    /// Reads what a command needs of the master's configuration.
    pub(crate) fn config(&self) -> anyhow::Result<ClientConfig> {
        crate::config::client(&self.config_dir()).context("failed to read the master's configuration")
    }

    /// Returns the outputter that was asked for.
    pub(crate) fn format(&self) -> anyhow::Result<Option<Format>> {
        let Some(name) = &self.output.out else { return Ok(None) };
        match (Format::parse(name), self.face) {
            (Ok(format), _) => Ok(Some(format)),
            (Err(error), Face::Salt(_)) => {
                tell(&error.fallback_line());
                Ok(None)
            }
            (Err(error), Face::Halite) => Err(Usage(error.to_string()).into()),
        }
    }

    /// Sends log lines to stderr.
    pub(crate) fn start_logging(&self) {
        let level = self.log_level.unwrap_or(LevelFilter::WARN);
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).finish();
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// Returns `sudo_<name>` if root acts for somebody, as Salt names them.
fn acting_user() -> Option<String> {
    let name = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty() && name != "root")?;
    Uid::effective().is_root().then(|| format!("sudo_{name}"))
}

/// Reads a log level by Salt's names or ours.
fn log_level(name: &str) -> Result<LevelFilter, String> {
    match name.to_ascii_lowercase().as_str() {
        "all" | "garbage" | "trace" => Ok(LevelFilter::TRACE),
        "debug" | "profile" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warning" | "warn" => Ok(LevelFilter::WARN),
        "error" | "critical" => Ok(LevelFilter::ERROR),
        "quiet" | "none" | "off" => Ok(LevelFilter::OFF),
        _ => Err("known are quiet, error, warning, info, debug, trace".to_owned()),
    }
}
