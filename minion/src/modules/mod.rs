//! Execution modules: what a job, `halite-minion call` or a reaction can run on this host.
//!
//! One file per module, each with a table of functions; [`all`] lists the tables. A function is sync and runs off the
//! async threads, so it may block; a long one asks [`ModuleContext::stopped`] or sleeps with [`ModuleContext::pause`].
//! How a job gets here and what becomes of its return: `executor/`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::value::{Map, MapExt, Value};
use thiserror::Error;

pub use crate::executor::control::{Control, SIGKILL, SIGTERM, Stop};
// What the executor lends to modules that run programs.
use crate::executor::{process, runas};
use crate::pillar::{Pillar, Request as PillarRequest};

mod args;
mod beacons;
mod cmd;
mod config;
mod cp;
mod diff;
mod disk;
mod event;
mod file;
mod grains;
mod http;
mod mine;
mod network;
mod parts;
mod pillar;
mod ps;
mod publish;
mod saltutil;
mod service;
mod slack;
mod status;
mod sys;
mod test;

pub use args::{Args, Fallback, Param, Takes};
pub use parts::{
    AskError, BeaconRoom, EventSink, Jobs, MasterRequests, NoBeacons, NoDaemon, NoEvents, NoJobs, NoMaster, NoReload,
    NotDone, Reload, SendError, ServedBy, served_by,
};

/// Every module's table of functions, by module name.
pub fn all() -> &'static [&'static [Function]] {
    &[
        beacons::FUNCTIONS,
        cmd::FUNCTIONS,
        config::FUNCTIONS,
        cp::FUNCTIONS,
        disk::FUNCTIONS,
        event::FUNCTIONS,
        file::FUNCTIONS,
        grains::FUNCTIONS,
        http::FUNCTIONS,
        mine::FUNCTIONS,
        network::FUNCTIONS,
        pillar::FUNCTIONS,
        ps::FUNCTIONS,
        publish::FUNCTIONS,
        saltutil::FUNCTIONS,
        service::FUNCTIONS,
        slack::FUNCTIONS,
        status::FUNCTIONS,
        sys::FUNCTIONS,
        test::FUNCTIONS,
    ]
}

/// Returns the function of this name, such as `test.ping`.
pub fn find(name: &str) -> Option<&'static Function> {
    all().iter().copied().flatten().find(|function| function.name == name)
}

/// One function that jobs can name in `fun`.
#[derive(Debug)]
pub struct Function {
    /// The whole name: `<module>.<function>`.
    pub name: &'static str,
    /// What it does, what its parameters mean, and an example, as `sys.doc` shows it. Not indented.
    pub doc: &'static str,
    /// The parameters, in positional order.
    pub params: &'static [Param],
    /// What runs.
    pub run: fn(&ModuleContext, Args) -> Result<Outcome, CallError>,
}

impl Function {
    /// Returns the part of the name before the dot.
    pub fn module(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(module, _)| module)
    }

    /// Returns the documentation as Salt's doc strings are laid out: a line feed first, every line indented by four.
    pub fn doc_text(&self) -> String {
        let lines: Vec<String> =
            self.doc.lines().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") }).collect();
        format!("\n{}\n    ", lines.join("\n"))
    }

    /// Binds the arguments to the parameters and runs the function.
    pub fn call(&self, cx: &ModuleContext, positional: Vec<Value>, keyword: Map) -> Result<Outcome, CallError> {
        (self.run)(cx, Args::bind(self, cx, positional, keyword)?)
    }
}

/// What a function gives back.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The return value.
    pub ret: Value,
    /// The return code; 0 is success.
    pub retcode: i64,
    /// The outputter that suits the value, if one is special.
    pub out: Option<&'static str>,
}

impl Outcome {
    /// Returns an outcome with this return code.
    pub fn with_retcode(ret: impl Into<Value>, retcode: i64) -> Outcome {
        Outcome { ret: ret.into(), retcode, out: None }
    }

    /// Returns an outcome that names its outputter.
    pub fn shown_by(ret: impl Into<Value>, out: &'static str) -> Outcome {
        Outcome { out: Some(out), ..Outcome::from(ret.into()) }
    }
}

impl From<Value> for Outcome {
    /// Makes an outcome of a plain value. As in Salt, a map that says `result: False` or `success: False` has failed.
    fn from(ret: Value) -> Outcome {
        let failed = ["result", "success"].iter().any(|key| ret.get(key).and_then(Value::as_bool) == Some(false));
        Outcome { ret, retcode: i64::from(failed), out: None }
    }
}

/// Why a function gave no outcome. The texts are what Salt returns in each case.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CallError {
    /// The arguments do not fit the parameters (Python's `TypeError`).
    #[error("{0}")]
    BadArguments(String),
    /// The function refused or failed with a reason fit for users (Salt's `CommandExecutionError`).
    #[error("{0}")]
    Failed(String),
    /// The function raised (any other Python exception).
    #[error("{kind}: {message}")]
    Exception {
        /// The exception's class, such as `ValueError`.
        kind: &'static str,
        /// What it says.
        message: String,
    },
    /// The arguments fit but cannot be used (Salt's `SaltInvocationError`).
    #[error("{0}")]
    Invocation(String),
    /// The job was killed, passed its deadline, or was cut by a stopping minion.
    #[error("{0}")]
    Stopped(Stop),
}

impl CallError {
    /// Returns the text that the job returns.
    pub fn text(&self, function: &Function) -> String {
        match self {
            CallError::BadArguments(message) => {
                format!("Passed invalid arguments to {}: {message}\n{}", function.name, function.doc_text())
            }
            CallError::Exception { .. } => format!("The minion function caused an exception: {self}"),
            CallError::Failed(message) => format!("ERROR: {message}"),
            CallError::Invocation(message) => format!("ERROR executing '{}': {message}", function.name),
            CallError::Stopped(stop) => stop.to_string(),
        }
    }

    /// Returns the return code of the job.
    pub fn retcode(&self) -> i64 {
        match self {
            CallError::Stopped(stop) => stop.retcode(),
            _ => 1,
        }
    }
}

/// What every function may use.
#[derive(Clone)]
pub struct ModuleContext {
    /// This minion's id.
    pub id: String,
    /// The minion's configuration.
    pub config: Arc<Map>,
    /// This host's grains.
    pub grains: Arc<Map>,
    /// The jobs that run here.
    pub jobs: Arc<dyn Jobs>,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// The beacons that watch here.
    pub beacons: Arc<dyn BeaconRoom>,
    /// Has the minion read its configuration and grains anew.
    pub reload: Arc<dyn Reload>,
    /// The master, for what a function has to ask it.
    pub master: Arc<dyn MasterRequests>,
    /// What the master says to this minion alone, as it was told last.
    pub pillar: Pillar,
    /// The job that runs this function.
    pub job: JobInfo,
    /// How the job is stopped, and the process it has started.
    pub control: Arc<Control>,
    /// When the job must be over.
    pub deadline: Option<Instant>,
    /// The `halite-minion` binary, which `runas` starts to drop rights.
    pub program: PathBuf,
}

impl ModuleContext {
    /// Returns a context for calls outside any job: no jobs, no events, an empty publication.
    pub fn offline(id: &str, config: Arc<Map>, grains: Arc<Map>) -> ModuleContext {
        ModuleContext {
            id: id.to_owned(),
            config,
            grains,
            jobs: Arc::new(NoJobs),
            events: Arc::new(NoEvents),
            beacons: Arc::new(NoBeacons),
            reload: Arc::new(NoReload),
            master: Arc::new(NoMaster),
            pillar: Pillar::default(),
            job: JobInfo::default(),
            control: Arc::new(Control::default()),
            deadline: None,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("halite-minion")),
        }
    }

    /// Tells why the function must end now, if it must.
    pub fn stopped(&self) -> Option<Stop> {
        self.control.stopped().or_else(|| self.deadline.filter(|end| *end <= Instant::now()).map(|_| Stop::Deadline))
    }

    /// Waits, or fails as soon as the job is stopped.
    pub fn pause(&self, duration: Duration) -> Result<(), CallError> {
        let now = Instant::now();
        let end =
            now.checked_add(duration).map_or(self.deadline, |end| Some(self.deadline.map_or(end, |d| d.min(end))));
        self.control.wait_until(end);
        self.stopped().map_or(Ok(()), |stop| Err(CallError::Stopped(stop)))
    }

    /// Runs a program of this host, its errors kept apart, in the language `C`; kills it when `limit` has passed.
    pub(crate) fn run_program(&self, argv: &[&str], limit: Duration) -> Result<process::Finished, CallError> {
        let (program, rest) = argv.split_first().map_or(("", argv), |(program, rest)| (*program, rest));
        let mut command = std::process::Command::new(program);
        command.args(rest).current_dir("/").env("LC_ALL", "C").env_remove("NOTIFY_SOCKET");
        let run = process::Run {
            command,
            stdin: None,
            stderr: process::Stderr::Separate,
            timeout: Instant::now().checked_add(limit),
            deadline: self.deadline,
            control: &self.control,
        };
        let finished = process::run(run).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            CallError::Failed(format!("Unable to run '{program}', reason: {cause}"))
        })?;
        match finished.ending {
            process::Ending::Exited(_) => Ok(finished),
            process::Ending::Stopped(stop) => Err(CallError::Stopped(stop)),
            process::Ending::TimedOut => {
                Err(CallError::Failed(format!("'{program}' was killed: not done in {} seconds", limit.as_secs())))
            }
        }
    }

    /// Returns the folder for what may be lost (`cachedir`), as the configuration has it.
    pub(crate) fn cachedir(&self) -> PathBuf {
        PathBuf::from(self.config.text("cachedir").unwrap_or("/var/cache/halite/minion"))
    }

    /// Returns a configured value: first under the key as written, then down its colons.
    pub fn configured(&self, key: &str) -> Option<&Value> {
        self.config.at(key).or_else(|| descend(&self.config, key, ":"))
    }
}

/// Finds a nested value: `a:b` is `b` within `a`; a number picks from a list, and a name is looked for in its maps.
pub(crate) fn descend<'a>(map: &'a Map, key: &str, delimiter: &str) -> Option<&'a Value> {
    let mut parts = key.split(delimiter);
    let mut value = map.at(parts.next()?)?;
    for part in parts {
        value = match value {
            Value::Map(map) => map.at(part)?,
            Value::List(items) => match part.parse::<usize>() {
                Ok(index) => items.get(index)?,
                Err(_) => items.iter().find_map(|item| item.get(part))?,
            },
            _ => return None,
        };
    }
    Some(value)
}

/// The job a function runs for.
#[derive(Debug, Clone, Default)]
pub struct JobInfo {
    /// The job's id; empty outside a job.
    pub jid: String,
    /// Who published it.
    pub user: String,
    /// The publication's fields, without the prefix: functions that take keywords get them as `__pub_<field>`.
    pub publication: Map,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_unique_and_belongs_to_its_table() {
        let mut names: Vec<&str> = Vec::new();
        for table in all() {
            let module = table[0].module();
            for function in *table {
                assert_eq!(function.module(), module);
                assert!(!names.contains(&function.name), "{} twice", function.name);
                assert!(function.doc.contains("CLI Example:"), "{} has no example", function.name);
                names.push(function.name);
            }
        }
        let mut modules: Vec<&str> = all().iter().map(|table| table[0].module()).collect();
        let listed = modules.clone();
        modules.sort_unstable();
        assert_eq!(modules, listed);
    }

    #[test]
    fn nested_keys_go_through_maps_and_lists() {
        let map =
            proto::map! { "site" => proto::map! { "dc" => vec!["x", "y"] }, "l" => vec![proto::map! { "k" => 1 }] };
        assert_eq!(descend(&map, "site:dc:1", ":"), Some(&Value::from("y")));
        assert_eq!(descend(&map, "l:k", ":"), Some(&Value::from(1)));
        assert_eq!(descend(&map, "site:none", ":"), None);
    }

    #[test]
    fn a_failed_result_has_a_return_code() {
        assert_eq!(Outcome::from(Value::from(proto::map! { "success" => false })).retcode, 1);
        assert_eq!(Outcome::from(Value::from(proto::map! { "success" => true })).retcode, 0);
    }
}
