//! The command line: a client of the API, one file per verb. It knows `api`'s client and views, nothing behind them;
//! `store` works on the master's files.
//!
//! `halite TARGET FUN [ARGS]…` publishes a job; a first word that is a verb does what the verb says. Started under the
//! names `salt`, `salt-key`, `salt-run` and `salt-call` it takes their options and prints their texts (`salt`).
//!
//! Reading order: `globals` (options that every verb has), `parse` (which verb is meant), `job` (publish), `returns`
//! (wait and print), `wait` (when to give up: pure), then the other verbs. `out` writes, `exit` has the exit codes.

mod args;
mod completions;
mod demo;
mod doctor;
mod events;
mod exit;
mod globals;
mod job;
mod jobs;
mod key;
mod lacking;
mod man;
mod minions;
mod out;
mod parse;
mod progress;
mod reactor;
mod reload;
mod returns;
mod run;
mod salt;
mod span;
mod store;
#[cfg(test)]
mod tests;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) use globals::Globals;

use parse::{Parsed, Task};

/// Runs the command that this process was started as.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os().collect()))
}

/// Returns every command that this binary is, by the name it is started under, as help and manual show it.
pub fn commands() -> [clap::Command; 4] {
    let [salt, salt_key, salt_run] = salt::commands();
    [parse::documented(), salt, salt_key, salt_run]
}

/// Parses the words, does the task, and returns the exit code.
fn run(words: Vec<OsString>) -> u8 {
    let Parsed { globals, task } = match parse::parse(words) {
        Ok(parsed) => parsed,
        Err(error) => return exit::usage(&error),
    };
    globals.start_logging();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&globals, &anyhow::Error::new(error).context("start the async runtime")),
    };
    let done = runtime.block_on(perform(&globals, task));
    // A prompt may still be waiting for its line on a thread of its own.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| exit::report(&globals, &error))
}

async fn perform(globals: &Globals, task: Task) -> anyhow::Result<u8> {
    match task {
        Task::Call(words) => salt::call(&words),
        Task::Completions(args) => completions::run(globals, &args),
        Task::Demo(args) => demo::run(globals, args).await,
        Task::Doctor(args) => doctor::run(globals, args).await,
        Task::Events(args) => events::run(globals, &args).await,
        Task::Job(args) => job::run(globals, &args).await,
        Task::Jobs(args) => jobs::run(globals, args).await,
        Task::Key(args) => key::run(globals, &args).await,
        Task::Man(args) => man::run(globals, &args),
        Task::Minions(_) => minions::run(globals).await,
        Task::Reactor(args) => reactor::run(globals, args).await,
        Task::Reload(_) => reload::run(globals).await,
        Task::Run(args) => run::run(globals, &args).await,
        Task::Store(args) => store::run(globals, args).await,
    }
}
