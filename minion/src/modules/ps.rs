//! `ps`: the processes of this host, its processors and memory, as Python's `psutil` tells of them.

use std::time::Duration;

use proto::value::{Map, MapExt, Value};
use regex::Regex;

use super::args::plain_text;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::processes::{self, Process};
use crate::host::{cpu, filesystem, memory};

mod signal;

/// The longest that a function may watch the host.
const MAX_INTERVAL: f64 = 300.0;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "ps.boot_time",
        doc: "Return when this host started, in seconds since 1970.

CLI Example:

.. code-block:: bash

    salt '*' ps.boot_time",
        params: &[],
        run: |_, _| Ok(Value::from(processes::boot_time()).into()),
    },
    Function {
        name: "ps.cpu_percent",
        doc: "Return how busy the processors are, in percent.

interval
    The seconds to watch them.
per_cpu
    True returns a list with each processor's share.

CLI Example:

.. code-block:: bash

    salt '*' ps.cpu_percent interval=1",
        params: &[
            Param::optional("interval", Fallback::Text("0.1")),
            Param::optional("per_cpu", Fallback::Bool(false)),
        ],
        run: cpu_percent,
    },
    Function {
        name: "ps.disk_usage",
        doc: "Return the size and use of the file system that holds a path.

CLI Example:

.. code-block:: bash

    salt '*' ps.disk_usage /home",
        params: &[Param::required("path")],
        run: disk_usage,
    },
    Function {
        name: "ps.get_pid_list",
        doc: "Return the numbers of all processes.

CLI Example:

.. code-block:: bash

    salt '*' ps.get_pid_list",
        params: &[],
        run: |_, _| Ok(Value::from(processes::pids()).into()),
    },
    signal::KILL_PID,
    Function {
        name: "ps.num_cpus",
        doc: "Return the number of processors.

CLI Example:

.. code-block:: bash

    salt '*' ps.num_cpus",
        params: &[],
        run: |_, _| Ok(Value::from(cpu::read().count).into()),
    },
    Function {
        name: "ps.pgrep",
        doc: "Return the numbers of the processes that match a pattern; nothing if there is none such.

pattern
    A part of the process's name.
user
    Only this user's processes.
full
    True looks in the whole command line.
pattern_is_regex
    True takes the pattern for a regular expression.

CLI Example:

.. code-block:: bash

    salt '*' ps.pgrep httpd
    salt '*' ps.pgrep bash user=tom",
        params: MATCHING,
        run: pgrep,
    },
    signal::PKILL,
    Function {
        name: "ps.proc_info",
        doc: "Return what is known about a process.

attrs
    The attributes to return. Default: all of cmdline, cpu_times, create_time, cwd, exe, gids, memory_info, name, nice,
    num_threads, pid, ppid, status, uids, username.

CLI Example:

.. code-block:: bash

    salt '*' ps.proc_info 2322
    salt '*' ps.proc_info 2322 attrs='[\"pid\", \"name\"]'",
        params: &[Param::required("pid"), Param::optional("attrs", Fallback::None)],
        run: proc_info,
    },
    Function {
        name: "ps.top",
        doc: "Return the processes that computed most while they were watched.

num_processes
    How many to return; 0 means all.
interval
    The seconds to watch them.

CLI Example:

.. code-block:: bash

    salt '*' ps.top
    salt '*' ps.top 5 10",
        params: &[Param::optional("num_processes", Fallback::Int(5)), Param::optional("interval", Fallback::Int(3))],
        run: top,
    },
    Function {
        name: "ps.total_physical_memory",
        doc: "Return the size of the memory in bytes.

CLI Example:

.. code-block:: bash

    salt '*' ps.total_physical_memory",
        params: &[],
        run: |_, _| Ok(Value::from(memory()?.total).into()),
    },
    Function {
        name: "ps.virtual_memory",
        doc: "Return the size of the memory, what is available of it in bytes, and the percentage in use.

CLI Example:

.. code-block:: bash

    salt '*' ps.virtual_memory",
        params: &[],
        run: virtual_memory,
    },
];

const MATCHING: &[Param] = &[
    Param::required("pattern"),
    Param::optional("user", Fallback::None),
    Param::optional("full", Fallback::Bool(false)),
    Param::optional("pattern_is_regex", Fallback::Bool(false)),
];

/// The attributes of a process, in the order of the alphabet.
const ATTRIBUTES: [&str; 15] = [
    "cmdline",
    "cpu_times",
    "create_time",
    "cwd",
    "exe",
    "gids",
    "memory_info",
    "name",
    "nice",
    "num_threads",
    "pid",
    "ppid",
    "status",
    "uids",
    "username",
];

fn memory() -> Result<memory::Memory, CallError> {
    memory::read().map_err(|error| CallError::Failed(format!("failed to {error}")))
}

fn virtual_memory(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let memory = memory()?;
    Ok(Value::from(proto::map! {
        "total" => memory.total, "available" => memory.available, "percent" => memory.percent_used,
    })
    .into())
}

/// Reads how long to watch.
fn interval(args: &Args) -> Result<Duration, CallError> {
    let seconds = args.number("interval")?.unwrap_or_default();
    if !(0.0..=MAX_INTERVAL).contains(&seconds) {
        return Err(CallError::Invocation(format!("interval must be 0 to {MAX_INTERVAL} seconds")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn cpu_percent(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let before = processes::processor_times();
    cx.pause(interval(&args)?)?;
    let after = processes::processor_times();
    let mut shares = before.iter().zip(&after).map(|(before, after)| busy_share(*before, *after));
    // The first row is all processors together.
    let all = shares.next().unwrap_or_default();
    Ok(if args.flag("per_cpu") { Value::from(shares.collect::<Vec<_>>()) } else { Value::from(all) }.into())
}

#[expect(clippy::cast_precision_loss, reason = "a percentage to one decimal")]
fn busy_share(before: (u64, u64), after: (u64, u64)) -> f64 {
    let (busy, total) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    percent(busy as f64, total as f64)
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole * 1000.0).round() / 10.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage to one decimal")]
fn disk_usage(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let path = args.text("path").unwrap_or_default();
    let usage = filesystem::usage(&path);
    let usage = usage.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        CallError::Failed(format!("failed to {error}: {cause}"))
    })?;
    let (used, available) = (usage.used(), usage.available);
    let share = percent(used as f64, (used + available) as f64);
    Ok(Value::from(proto::map! { "total" => usage.total, "used" => used, "free" => available, "percent" => share })
        .into())
}

/// Returns the processes that the arguments choose.
fn matching(args: &Args) -> Result<Vec<Process>, CallError> {
    let pattern = args.text("pattern").unwrap_or_default();
    let regex = args.flag("pattern_is_regex").then(|| Regex::new(&pattern)).transpose();
    let regex = regex.map_err(|error| CallError::Invocation(format!("bad pattern: {error}")))?;
    let (user, full) = (args.text("user"), args.flag("full"));
    let matches = |process: &Process| {
        let text = if full { process.cmdline.join(" ") } else { process.name.clone() };
        let named = regex.as_ref().map_or_else(|| text.contains(&pattern), |regex| regex.is_match(&text));
        named && user.as_ref().is_none_or(|user| *user == process.user())
    };
    Ok(processes::all().into_iter().filter(matches).collect())
}

fn pgrep(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let pids: Vec<i32> = matching(&args)?.iter().map(|process| process.pid).collect();
    Ok(Value::from(Some(pids).filter(|pids| !pids.is_empty())).into())
}

/// Reads the pid; there is no process with a number that is too large.
fn pid(args: &Args) -> Result<Option<i32>, CallError> {
    let pid = args.integer("pid")?;
    if pid < 0 {
        let message = format!("pid must be a positive integer (got {pid})");
        return Err(CallError::Exception { kind: "ValueError", message });
    }
    Ok(i32::try_from(pid).ok().filter(|pid| *pid > 0))
}

fn proc_info(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let missing = || CallError::Failed(format!("process no longer exists (pid={})", plain_text(args.value("pid"))));
    let process = pid(&args)?.and_then(processes::read).ok_or_else(missing)?;
    let attributes: Vec<String> = match args.value("attrs") {
        Value::Null => ATTRIBUTES.map(str::to_owned).to_vec(),
        Value::List(names) => names.iter().map(plain_text).collect(),
        one => vec![plain_text(one)],
    };
    let mut map = Map::new();
    for name in attributes {
        let known = ATTRIBUTES.contains(&name.as_str());
        let value = known.then(|| attribute(&process, &name));
        let value = value.ok_or_else(|| CallError::Failed(format!("invalid attr name '{name}'")))?;
        map.set(&name, value);
    }
    // Not `Outcome::from`: what a process is called is no verdict on this job.
    Ok(Outcome { ret: map.into(), retcode: 0, out: None })
}

fn attribute(process: &Process, name: &str) -> Value {
    let link = |name| process.link(name).map(|path| path.to_string_lossy().into_owned());
    match name {
        "cmdline" => process.cmdline.clone().into(),
        "cpu_times" => process.times.to_vec().into(),
        "create_time" => process.started.into(),
        "cwd" => link("cwd").into(),
        "exe" => link("exe").into(),
        "gids" => process.gids.to_vec().into(),
        "memory_info" => process.memory.to_vec().into(),
        "name" => process.name.as_str().into(),
        "nice" => process.nice.into(),
        "num_threads" => process.threads.into(),
        "pid" => process.pid.into(),
        "ppid" => process.ppid.into(),
        "status" => process.status.into(),
        "uids" => process.uids.to_vec().into(),
        "username" => process.user().into(),
        _ => Value::Null,
    }
}

fn top(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let limit = usize::try_from(args.integer("num_processes")?)
        .map_err(|_| CallError::Invocation("num_processes must not be negative".to_owned()))?;
    let interval = interval(&args)?;
    let before = processes::all();
    cx.pause(interval)?;
    let mut used: Vec<(f64, Process)> = Vec::new();
    for earlier in &before {
        // Another process may have the number by now; the start tells them apart.
        let now = processes::read(earlier.pid).filter(|now| now.started.total_cmp(&earlier.started).is_eq());
        used.extend(now.map(|now| (now.busy() - earlier.busy(), now)));
    }
    used.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    if limit > 0 {
        used.truncate(limit);
    }
    Ok(Value::from(used.iter().map(|(_, process)| top_row(process)).collect::<Vec<_>>()).into())
}

fn top_row(process: &Process) -> Map {
    let cmd = if process.cmdline.is_empty() { vec![process.name.clone()] } else { process.cmdline.clone() };
    let [user, system, children_user, children_system, iowait] = process.times;
    let [rss, vms, shared, text, lib, data, dirty] = process.memory;
    let cpu = proto::map! {
        "user" => user, "system" => system, "children_user" => children_user, "children_system" => children_system,
        "iowait" => iowait,
    };
    let mem = proto::map! {
        "rss" => rss, "vms" => vms, "shared" => shared, "text" => text, "lib" => lib, "data" => data, "dirty" => dirty,
    };
    proto::map! {
        "cmd" => cmd, "user" => process.user(), "status" => process.status, "pid" => process.pid,
        "create_time" => process.started, "cpu" => cpu, "mem" => mem,
    }
}

#[cfg(test)]
mod tests;
