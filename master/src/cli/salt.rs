//! The faces of Salt: started as `salt`, `salt-key`, `salt-run` or `salt-call`, the command takes their options.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::{ArgGroup, CommandFactory as _, Parser};

use super::globals::{Face, Globals, OutputArgs};
use super::key::{KeyArgs, KeyState, KeyVerb, Selection};
use super::lacking;
use super::parse::{JobCli, Parsed, Task};
use super::run::RunArgs;

/// Returns the commands `salt`, `salt-key` and `salt-run`.
pub(super) fn commands() -> [clap::Command; 3] {
    [salt(), KeyCli::command(), RunCli::command()]
}

fn salt() -> clap::Command {
    JobCli::command().name("salt").bin_name("salt").after_help("Example:\n  salt 'web*' test.ping --summary")
}

/// Reads the words of `salt`.
pub(super) fn job(words: &[OsString]) -> Result<Parsed, clap::Error> {
    let matches = salt().try_get_matches_from(words).map_err(|error| lacking::instead(error, lacking::JOB, salt))?;
    let JobCli { globals, job } = <JobCli as clap::FromArgMatches>::from_arg_matches(&matches)?;
    Ok(Parsed { globals: Globals { face: Face::Salt("salt"), ..globals }, task: Task::Job(Box::new(job)) })
}

/// Run a function on the master
#[derive(Debug, Parser)]
#[command(name = "salt-run", version, after_help = "Example:\n  salt-run state.event pretty=True")]
struct RunCli {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    run: RunArgs,
    /// Accepted and not needed: an answer comes when it comes
    #[arg(short, long, value_name = "SECONDS", hide = true)]
    timeout: Option<u64>,
}

/// Reads the words of `salt-run`.
pub(super) fn run(words: &[OsString]) -> Result<Parsed, clap::Error> {
    let RunCli { globals, run, timeout: _ } =
        RunCli::try_parse_from(words).map_err(|error| lacking::instead(error, lacking::RUN, RunCli::command))?;
    Ok(Parsed { globals: Globals { face: Face::Salt("salt-run"), ..globals }, task: Task::Run(run) })
}

/// Manage minion keys
#[derive(Debug, Parser)]
#[command(name = "salt-key", version, after_help = "Example:\n  salt-key -y -a 'web*'")]
#[command(group = ArgGroup::new("action").multiple(false))]
struct KeyCli {
    /// Directory of the configuration file `master` [env: HALITE_CONFIG_DIR] [default: /etc/halite]
    #[arg(short = 'c', long, value_name = "DIR")]
    config_dir: Option<std::path::PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Answer yes to all questions
    #[arg(short, long)]
    yes: bool,
    /// Print no results
    #[arg(short, long)]
    quiet: bool,
    /// List keys: pre, un, unaccepted, acc, accepted, rej, rejected, den, denied or all
    #[arg(short, long, value_name = "STATE", group = "action")]
    list: Option<String>,
    /// List all keys
    #[arg(short = 'L', long, group = "action")]
    list_all: bool,
    /// Accept the keys that match
    #[arg(short, long, value_name = "GLOB", group = "action")]
    accept: Option<String>,
    /// Accept all pending keys
    #[arg(short = 'A', long, group = "action")]
    accept_all: bool,
    /// Reject the keys that match
    #[arg(short, long, value_name = "GLOB", group = "action")]
    reject: Option<String>,
    /// Reject all pending keys
    #[arg(short = 'R', long, group = "action")]
    reject_all: bool,
    /// Rejected and accepted keys count too
    #[arg(long)]
    include_all: bool,
    /// Accepted keys count too (reject)
    #[arg(long)]
    include_accepted: bool,
    /// Rejected keys count too (accept)
    #[arg(long)]
    include_rejected: bool,
    /// Denied keys count too
    #[arg(long)]
    include_denied: bool,
    /// Delete the keys that match
    #[arg(short, long, value_name = "GLOB", group = "action")]
    delete: Option<String>,
    /// Delete all keys
    #[arg(short = 'D', long, group = "action")]
    delete_all: bool,
    /// Show the fingerprints of the keys that match
    #[arg(short, long, value_name = "GLOB", group = "action")]
    finger: Option<String>,
    /// Show all fingerprints
    #[arg(short = 'F', long, group = "action")]
    finger_all: bool,
    /// Print the keys that match
    #[arg(short, long, value_name = "GLOB", group = "action")]
    print: Option<String>,
    /// Print all keys
    #[arg(short = 'P', long, group = "action")]
    print_all: bool,
    #[command(flatten)]
    ignored: KeyIgnored,
}

/// Options of `salt-key` that mean nothing here: accepted, so that scripts go on to work.
#[derive(Debug, clap::Args)]
struct KeyIgnored {
    #[arg(short, long, hide = true)]
    user: Option<String>,
    #[arg(long, hide = true)]
    hard_crash: bool,
    /// Nothing has to be rotated: a revoked key loses its connections at once
    #[arg(long, hide = true)]
    rotate_aes_key: Option<String>,
    #[arg(long, hide = true)]
    preserve_minions: Option<String>,
    #[arg(long, hide = true)]
    log_level: Option<String>,
    #[arg(long, hide = true)]
    log_file: Option<String>,
    #[arg(long, hide = true)]
    log_file_level: Option<String>,
}

impl KeyCli {
    fn selection(&self, glob: Option<&String>) -> Selection {
        Selection {
            globs: glob.into_iter().cloned().collect(),
            all: glob.is_none(),
            yes: self.yes,
            include_accepted: self.include_accepted || self.include_all,
            include_denied: self.include_denied,
            include_rejected: self.include_rejected || self.include_all,
            dry_run: false,
        }
    }

    fn verb(&self) -> Result<KeyVerb, clap::Error> {
        let wrong = |text: String| KeyCli::command().error(clap::error::ErrorKind::InvalidValue, text);
        Ok(match self {
            KeyCli { list: Some(state), .. } if state != "all" => {
                let state = KeyState::parse(state).map_err(|known| wrong(format!("unknown state {state}: {known}")))?;
                KeyVerb::List { state: Some(state) }
            }
            KeyCli { accept: glob @ Some(_), .. } => KeyVerb::Accept(self.selection(glob.as_ref())),
            KeyCli { accept_all: true, .. } => KeyVerb::Accept(self.selection(None)),
            KeyCli { reject: glob @ Some(_), .. } => KeyVerb::Reject(self.selection(glob.as_ref())),
            KeyCli { reject_all: true, .. } => KeyVerb::Reject(self.selection(None)),
            KeyCli { delete: glob @ Some(_), .. } => KeyVerb::Delete(self.selection(glob.as_ref())),
            KeyCli { delete_all: true, .. } => KeyVerb::Delete(self.selection(None)),
            KeyCli { finger: Some(glob), .. } => KeyVerb::Finger { globs: vec![glob.clone()] },
            KeyCli { print: Some(glob), .. } => KeyVerb::Print { globs: vec![glob.clone()] },
            KeyCli { print_all: true, .. } => KeyVerb::Print { globs: Vec::new() },
            KeyCli { finger_all: true, .. } => KeyVerb::Finger { globs: Vec::new() },
            _ => KeyVerb::List { state: None },
        })
    }
}

/// Reads the words of `salt-key`.
pub(super) fn key(words: &[OsString]) -> Result<Parsed, clap::Error> {
    let cli = KeyCli::try_parse_from(words).map_err(|error| lacking::instead(error, lacking::KEY, KeyCli::command))?;
    let verb = cli.verb()?;
    let mut output = cli.output;
    if cli.quiet {
        output.out = Some("quiet".to_owned());
    }
    let globals = Globals { config_dir: cli.config_dir, output, face: Face::Salt("salt-key"), ..Globals::default() };
    Ok(Parsed { globals, task: Task::Key(KeyArgs { verb }) })
}

/// Becomes `halite-minion call`, which lies beside this binary.
pub(super) fn call(words: &[OsString]) -> anyhow::Result<u8> {
    let here = std::env::current_exe().context("find this binary")?;
    let minion = here.with_file_name("halite-minion");
    let error = Command::new(&minion).arg("call").args(words.iter().skip(1)).exec();
    Err(anyhow::Error::new(error).context(format!("start {}", minion.display())))
}
