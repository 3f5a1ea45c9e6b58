//! Reports every command that a person's session runs, as the kernel saw it: no ptrace, no shell hooks, no polling.
//!
//! A person's session is a process with a controlling terminal or a login uid. There are two sources, tried in this
//! order:
//!
//! - `ebpf`: BPF programs on the execve tracepoints, emitted at run time from the kernel's own type information.
//!   Exact: path and arguments as they were asked for, successful or not, with session, terminal, login uid and
//!   directory taken in the kernel at that moment, so that a process that lives a microsecond is reported in full.
//! - `process-connector`: the kernel's process events plus `/proc`. Lossy, and says so in each event.
//!
//! # Long arguments
//!
//! The programs copy up to 512 arguments (an argument counts once per 4 KiB) and 24 KiB of path, directory and
//! arguments. Beyond that, or if a page of them was not in memory, the event waits for the end of the execve and
//! takes the arguments from the new process, up to the kernel's own limit. Only if that execve fails, or its records
//! are dropped, does the event carry what was copied, with `truncated`. An argument is reported whole or not at all.
//! One thing cannot be had back: the first argument of a script, if its page was not in memory, is taken to be the
//! script's path.
//!
//! # Limits
//!
//! - A command started by a 32-bit process on a 64-bit kernel is not seen: the kernel has no tracepoints for its
//!   calls.
//! - `/proc` plays no part in the exact source; in a container it sees that container's processes only, by the pids
//!   they have there.
//! - A directory more than 64 names and mounts deep is not given, rather than half of it.
//! - Big-endian machines get the fallback: `bpf.rs` writes little-endian instructions.
//! - What a shell does itself (`cd`, `echo`) runs no command.
//!
//! Reading in order: `program.rs` and `task.rs` (what runs in the kernel, written with `bpf.rs` and `btf.rs`),
//! `record.rs` (what it sends), `assemble.rs` (how that becomes a command), `ebpf.rs`; `proc_connector.rs` and
//! `session.rs`; `users.rs`.

mod assemble;
mod bpf;
mod btf;
mod ebpf;
mod proc_connector;
mod program;
mod record;
pub(super) mod refused;
mod session;
mod task;
#[cfg(test)]
mod tests;
mod users;

use std::{
    error::Error,
    fmt, io,
    os::fd::AsFd,
    time::{Duration, Instant, SystemTime},
};

use self::{assemble::Seen, ebpf::Ebpf, proc_connector::Connector, users::Users};
use crate::host::kernel;

/// How often a waiting command is looked at while nothing else comes in.
const EXPIRY_CHECK: Duration = Duration::from_millis(500);

/// Where the tracer learns of commands, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// BPF programs on the execve tracepoints: exact.
    Ebpf,
    /// The kernel's process connector and `/proc`: lossy.
    ProcConnector,
}

impl Source {
    /// Every source, in the order they are tried.
    pub const ALL: [Source; 2] = [Source::Ebpf, Source::ProcConnector];

    /// Returns the name that events and `halite doctor` show.
    pub fn name(self) -> &'static str {
        match self {
            Source::Ebpf => "ebpf",
            Source::ProcConnector => "process-connector",
        }
    }

    /// Returns what to do so that this source can be used.
    fn remedy(self) -> &'static str {
        match self {
            Source::Ebpf => {
                "needs CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON where tracefs is mounted, on Linux 5.8 or later with BTF"
            }
            Source::ProcConnector => {
                "needs Linux 6.6 or later, or root or CAP_NET_ADMIN, and not to run in a container"
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One command run by a person's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The process that runs it.
    pub pid: u32,
    /// Its parent, usually the shell; unknown if outside this container.
    pub ppid: Option<u32>,
    /// The real uid.
    pub uid: u32,
    /// The name of that uid, or the number if it has none.
    pub user: String,
    /// Who logged in, whatever `su` or `sudo` happened since.
    pub loginuid: Option<u32>,
    /// The session leader's pid, usually the login shell's.
    pub session_leader: u32,
    /// The controlling terminal under `/dev`, such as `pts/3`.
    pub tty: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The program as execve was asked for it; from a lossy source, as it was found.
    pub path: String,
    /// The arguments, the program's name first.
    pub argv: Vec<String>,
    /// Some of the arguments, or the path, are missing.
    pub truncated: bool,
    /// The source may have missed other commands and reports the path as found.
    pub lossy: bool,
    /// Where this comes from.
    pub source: Source,
    /// When execve was entered.
    pub at: SystemTime,
}

/// Why one source cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which source.
    pub source: Source,
    /// What it said, causes included.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.source, self.reason, self.remedy)
    }
}

/// No source can be used; says why for each one tried.
#[derive(Debug, thiserror::Error)]
#[error("trace commands: {}", refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; "))]
pub struct OpenError {
    /// One for each source tried, in order.
    pub refusals: Vec<Refusal>,
}

/// The tracer can no longer read its source; it must be opened anew.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The process connector's socket failed.
    #[error("read the process connector")]
    Connector(#[source] io::Error),
    /// The ring buffer cannot be mapped, or its content makes no sense; the log says which.
    #[error("read the BPF ring buffer")]
    Ring,
    /// Waiting failed.
    #[error("wait for commands")]
    Wait(#[source] io::Error),
}

/// What the tracer would use here, for `halite doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The source that `Tracer::open` would take.
    pub source: Option<Source>,
    /// The better ones, or all, and why not.
    pub refusals: Vec<Refusal>,
}

/// Finds out which source would be used by opening it for a moment.
pub fn available() -> Availability {
    match open_first() {
        Ok((tracer, refusals)) => Availability { source: Some(tracer.source()), refusals },
        Err(error) => Availability { source: None, refusals: error.refusals },
    }
}

/// Reads commands from one source. Belongs on a thread of its own; dropping it ends the tracing.
#[derive(Debug)]
pub struct Tracer {
    mechanism: Mechanism,
    users: Users,
}

#[derive(Debug)]
enum Mechanism {
    Connector(Box<Connector>),
    Ebpf(Box<Ebpf>),
}

impl Tracer {
    /// Opens the best source that this machine allows.
    pub fn open() -> Result<Tracer, OpenError> {
        open_first().map(|(tracer, _)| tracer)
    }

    /// Opens one given source.
    pub fn open_with(source: Source) -> Result<Tracer, OpenError> {
        open_one(source).map_err(|refusal| OpenError { refusals: vec![refusal] })
    }

    /// Returns which source this is.
    pub fn source(&self) -> Source {
        match self.mechanism {
            Mechanism::Connector(_) => Source::ProcConnector,
            Mechanism::Ebpf(_) => Source::Ebpf,
        }
    }

    /// Returns the next commands in order, waiting for at most `timeout`; none if nothing was run.
    pub fn read(&mut self, timeout: Duration) -> Result<Vec<Exec>, ReadError> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = self.take()?;
            if !seen.is_empty() {
                return Ok(self.commands(seen));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let (fd, wait) = match &self.mechanism {
                Mechanism::Connector(connector) => (connector.as_fd(), left),
                Mechanism::Ebpf(ebpf) => (ebpf.as_fd(), if ebpf.is_waiting() { left.min(EXPIRY_CHECK) } else { left }),
            };
            kernel::wait_readable(fd, wait).map_err(ReadError::Wait)?;
        }
    }

    /// Returns how many records were lost since the tracer was opened; from a lossy source, at least how many.
    pub fn drops(&self) -> u64 {
        match &self.mechanism {
            Mechanism::Connector(connector) => connector.drops(),
            Mechanism::Ebpf(ebpf) => ebpf.drops(),
        }
    }

    fn take(&mut self) -> Result<Vec<Seen>, ReadError> {
        match &mut self.mechanism {
            Mechanism::Connector(connector) => connector.take().map_err(ReadError::Connector),
            Mechanism::Ebpf(ebpf) => ebpf.take().map_err(|error| {
                tracing::error!(%error, "the exec tracer cannot go on");
                ReadError::Ring
            }),
        }
    }

    fn commands(&mut self, seen: Vec<Seen>) -> Vec<Exec> {
        let source = self.source();
        let (now, now_ns) = (SystemTime::now(), kernel::monotonic_ns());
        let users = &mut self.users;
        let moment =
            |time_ns: u64| now.checked_sub(Duration::from_nanos(now_ns.saturating_sub(time_ns))).unwrap_or(now);
        seen.into_iter().map(|seen| command(source, users.name(seen.uid), moment(seen.time_ns), seen)).collect()
    }
}

fn open_first() -> Result<(Tracer, Vec<Refusal>), OpenError> {
    let mut refusals = Vec::new();
    for source in Source::ALL {
        match open_one(source) {
            Ok(tracer) => return Ok((tracer, refusals)),
            Err(refusal) => refusals.push(refusal),
        }
    }
    Err(OpenError { refusals })
}

fn open_one(source: Source) -> Result<Tracer, Refusal> {
    let mechanism = match source {
        Source::Ebpf => Ebpf::open().map(|ebpf| Mechanism::Ebpf(Box::new(ebpf))).map_err(|error| chain(&error)),
        Source::ProcConnector => {
            Connector::open().map(|connector| Mechanism::Connector(Box::new(connector))).map_err(|error| chain(&error))
        }
    };
    match mechanism {
        Ok(mechanism) => Ok(Tracer { mechanism, users: Users::default() }),
        Err(reason) => Err(Refusal { source, reason, remedy: source.remedy() }),
    }
}

/// An error and its causes in one line: several sources' refusals do not fit one chain of causes.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

fn command(source: Source, user: String, at: SystemTime, seen: Seen) -> Exec {
    let argv: Vec<String> = seen.args.iter().map(|arg| text(arg)).collect();
    let path = seen.path.as_deref().map(text).or_else(|| argv.first().cloned()).unwrap_or_default();
    Exec {
        pid: seen.pid,
        ppid: (seen.ppid != 0).then_some(seen.ppid),
        uid: seen.uid,
        user,
        loginuid: seen.loginuid,
        session_leader: seen.sid,
        tty: seen.tty.as_deref().map(terminal),
        cwd: seen.cwd.as_deref().map(text),
        path,
        argv,
        truncated: seen.truncated,
        lossy: source != Source::Ebpf,
        source,
        at,
    }
}

/// The kernel calls a pseudo-terminal `pts3`; under `/dev` it is `pts/3`. Other names are the same.
fn terminal(name: &[u8]) -> String {
    let name = text(name);
    match name.strip_prefix("pts") {
        Some(number) if !number.is_empty() && !number.starts_with('/') => format!("pts/{number}"),
        _ => name,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
