//! The command line of `halite-minion`: the daemon, one function with `call`, or `doctor`. As `salt-call` it is `call`.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing::error;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Config, DEFAULT_FOLDER, Overrides};
use crate::daemon;

mod call;
mod doctor;
mod events;
mod tools;

/// The command line was wrong (`EX_USAGE`).
const USAGE: u8 = 64;
/// The configuration was wrong (`EX_CONFIG`).
const CONFIG: u8 = 78;
/// Threads for what may block: every job, the beacons, and what little the daemon does itself.
const BLOCKING_THREADS: usize = 128;
/// How long an idle thread is kept: an idle minion shall be small.
const THREAD_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(2);
/// How long threads that are still busy may hold up the end.
const THREAD_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// The Halite minion: connects to its master, runs jobs, watches this host.
#[derive(Debug, Parser)]
#[command(
    name = "halite-minion",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:\n  halite-minion -c /etc/halite\n  halite-minion call --local test.ping\n
It says `ready` when it has started. SIGHUP reads the configuration again, SIGTERM and SIGINT end it."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one function here and print what it returns.
    Call(call::CallArgs),
    /// Tell whether the daemon runs here and has a session with its master, and what to do if not.
    Doctor(doctor::DoctorArgs),
    /// Follow the local event bus of the minion that runs here: one JSON object a line.
    Events(events::EventsArgs),
    /// Print which source the sh beacon would have here.
    #[command(hide = true)]
    ExecSource,
    /// Run a program in a session of its own on the terminal that is standard input.
    #[command(hide = true)]
    PtyExec {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
}

/// Options of the daemon and of `call`.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// The folder of the configuration: the file `minion` and the folder `minion.d`.
    #[arg(short = 'c', long = "config-dir", value_name = "DIR", default_value = DEFAULT_FOLDER, global = true)]
    config_dir: PathBuf,
    /// The minion's id.
    #[arg(long, global = true)]
    id: Option<String>,
    /// How much to log: trace, debug, info, warning, error or quiet.
    #[arg(short = 'l', long, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    /// How to log.
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<LogFormat>,
    /// End when standard input closes, and so with the process that holds its other end.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
    /// The master's host name or address.
    #[arg(long, value_name = "HOST", global = true)]
    master: Option<String>,
}

/// How log lines are written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Returns the command line as help and manual show it.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs what the command line asks for.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(as_halite(args.into_iter().collect())) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nothing is left to do if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match &cli.command {
        Some(Command::ExecSource) => return tools::exec_source(),
        Some(Command::PtyExec { argv }) => return tools::pty_exec(argv),
        _ => {}
    }
    let common = cli.common;
    let overrides = Overrides { id: common.id, log_level: common.log_level, master: common.master };
    let config = match Config::load(&common.config_dir, &overrides) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("halite-minion: {:#}", anyhow::Error::new(error));
            return ExitCode::from(CONFIG);
        }
    };
    match cli.command {
        None | Some(Command::ExecSource | Command::PtyExec { .. }) => {
            if common.until_stdin_closes {
                tools::end_with_stdin();
            }
            start_log(&config.log_level, common.log_format, config.log_format.as_deref());
            finish(run(daemon::run(config, overrides)))
        }
        Some(Command::Doctor(args)) => doctor::run(&config, &args),
        Some(command @ (Command::Call(_) | Command::Events(_))) => {
            // As with Salt, a command says less than a daemon unless it is asked.
            let level = overrides.log_level.as_deref().unwrap_or("warning");
            start_log(level, common.log_format, config.log_format.as_deref());
            let ended = match command {
                Command::Events(args) => run(events::run(config, args)),
                Command::Call(args) => run(call::run(config, args)),
                Command::Doctor(_) | Command::ExecSource | Command::PtyExec { .. } => return ExitCode::from(USAGE),
            };
            match ended {
                Ok(code) => code,
                Err(error) => finish(Err(error)),
            }
        }
    }
}

/// Turns a call of `salt-call` into ours.
fn as_halite(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|program| Path::new(program).file_name().map(OsStr::to_owned));
    if name.is_some_and(|name| name == "salt-call" || name == "halite-call") {
        args.insert(1, "call".into());
    }
    args
}

/// Runs on this thread; the daemon has little to do, and every thread costs memory.
fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(THREAD_GRACE);
    outcome
}

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Sends log lines to standard error, with colours on a terminal only.
fn start_log(level: &str, format: Option<LogFormat>, configured: Option<&str>) {
    let json = format.map_or(configured == Some("json"), |format| format == LogFormat::Json);
    let builder = tracing_subscriber::fmt()
        .with_max_level(level_filter(level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if json { builder.json().init() } else { builder.with_target(false).init() }
}

/// Reads Salt's names of levels; an unknown one was refused with the configuration.
fn level_filter(level: &str) -> LevelFilter {
    match level.to_ascii_lowercase().as_str() {
        "all" | "garbage" | "trace" => LevelFilter::TRACE,
        "debug" | "profile" => LevelFilter::DEBUG,
        "critical" | "error" => LevelFilter::ERROR,
        "quiet" => LevelFilter::OFF,
        "warn" | "warning" => LevelFilter::WARN,
        _ => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = line.split_whitespace().map(OsString::from).collect();
        Cli::try_parse_from(as_halite(words))
    }

    #[test]
    fn the_daemon_is_what_runs_without_a_command() {
        let cli = parse("halite-minion -c /tmp/c --log-format json -l debug").unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.common.config_dir, Path::new("/tmp/c"));
        assert_eq!(cli.common.log_format, Some(LogFormat::Json));
        assert!(parse("halite-minion --no-such-option").is_err());
    }

    #[test]
    fn options_may_stand_behind_the_function_as_with_salt() {
        for line in [
            "halite-minion call event.send myco/kw a=1 -3 --out json -c /x --local",
            "/usr/bin/salt-call -c /x --local event.send myco/kw a=1 -3 --out json",
        ] {
            let cli = parse(line).unwrap();
            let Some(Command::Call(args)) = cli.command else { panic!("{line}") };
            assert_eq!(args.words(), ["event.send", "myco/kw", "a=1", "-3"], "{line}");
            assert_eq!(cli.common.config_dir, Path::new("/x"));
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
