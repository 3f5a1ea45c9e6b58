//! `halite-master`: arguments, configuration, logging, run until a signal, exit code.

use std::process::ExitCode;

use clap::Parser;
use halite_master::arguments::{Arguments, LogFormat};
use halite_master::{config, daemon};
use tracing_subscriber::filter::LevelFilter;

/// Exit code for a configuration that cannot be used (`EX_CONFIG`).
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match config::load(&arguments.config_dir) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("halite-master: {:#}", anyhow::Error::from(error));
            return ExitCode::from(CONFIG);
        }
    };
    let level = arguments.log_level.as_deref().unwrap_or(&config.log_level);
    let Some(level) = log_level(level) else {
        eprintln!("halite-master: log level {level:?} is unknown; use quiet, error, warning, info, debug or trace");
        return ExitCode::from(64);
    };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_target(false);
    match arguments.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(daemon::run(config, arguments.until_stdin_closes)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One thread a core, and two at least: one connection's handshake never holds up another's events.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("halite-master: {error:#}");
    ExitCode::FAILURE
}

/// Reads a log level by Salt's names.
fn log_level(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "quiet" => LevelFilter::OFF,
        "critical" | "error" => LevelFilter::ERROR,
        "warning" | "warn" => LevelFilter::WARN,
        "info" | "profile" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" | "garbage" | "all" => LevelFilter::TRACE,
        _ => return None,
    })
}
