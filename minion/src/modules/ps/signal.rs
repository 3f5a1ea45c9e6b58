//! Signals to processes, by number and by name.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::value::Value;

use super::{matching, pid};
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

pub(super) const KILL_PID: Function = Function {
    name: "ps.kill_pid",
    doc: "Send a signal to a process. Returns False if there is no such process.

signal
    The signal's number. Default: 15 (SIGTERM).

CLI Example:

.. code-block:: bash

    salt '*' ps.kill_pid 2000 signal=9",
    params: &[Param::required("pid"), Param::optional("signal", Fallback::Int(15))],
    run: kill_pid,
};

pub(super) const PKILL: Function = Function {
    name: "ps.pkill",
    doc: "Send a signal to all processes that match a pattern; returns their numbers, or nothing if there is none such.

pattern, user, full
    As in ps.pgrep. An empty pattern is refused.
signal
    The signal's number. Default: 15 (SIGTERM).

CLI Example:

.. code-block:: bash

    salt '*' ps.pkill httpd signal=1
    salt '*' ps.pkill bash signal=9 user=tom",
    params: &[
        Param::required("pattern"),
        Param::optional("user", Fallback::None),
        Param::optional("signal", Fallback::Int(15)),
        Param::optional("full", Fallback::Bool(false)),
    ],
    run: pkill,
};

fn signal(args: &Args) -> Result<Signal, CallError> {
    let number = args.integer("signal")?;
    let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    signal.ok_or_else(|| CallError::Invocation(format!("there is no signal {number}")))
}

/// Sends the signal; tells whether there was such a process.
fn send(pid: i32, signal: Signal) -> Result<bool, CallError> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(CallError::Failed(format!("Unable to signal process {pid}: {error}"))),
    }
}

fn kill_pid(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (pid, signal) = (pid(&args)?, signal(&args)?);
    let found = pid.map(|pid| send(pid, signal)).transpose()?.unwrap_or(false);
    Ok(Value::Bool(found).into())
}

fn pkill(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    if args.text("pattern").is_none_or(|pattern| pattern.is_empty()) {
        return Err(CallError::Invocation("an empty pattern would match every process".to_owned()));
    }
    let signal = signal(&args)?;
    let mut killed = Vec::new();
    for process in matching(&args)? {
        if send(process.pid, signal)? {
            killed.push(process.pid);
        }
    }
    Ok(Value::from((!killed.is_empty()).then(|| proto::map! { "killed" => killed }).map(Value::from)).into())
}
