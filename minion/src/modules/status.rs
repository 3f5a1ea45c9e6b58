//! `status`: what this host is doing: load, memory, disks, processes, users.

use std::fs;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};
use time::OffsetDateTime;

use super::args::plain_text;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::{clock, filesystem, load, processes, stats};

/// The most that is read of one file of the kernel's: the processors of a large host.
const MAX_FILE: u64 = 4 << 20;
/// How long `w` and `who` may take.
const USERS_LIMIT: Duration = Duration::from_secs(10);

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "status.all_status",
        doc: "Return all of it: cpuinfo, cpustats, diskstats, diskusage, loadavg, meminfo, netdev,
netstats, uptime, vmstats and w.

CLI Example:

.. code-block:: bash

    salt '*' status.all_status",
        params: &[],
        run: all_status,
    },
    Function {
        name: "status.cpuinfo",
        doc: "Return what the kernel tells of the processors, of the last one where they differ.

CLI Example:

.. code-block:: bash

    salt '*' status.cpuinfo",
        params: &[],
        run: |_, _| Ok(Value::from(cpuinfo(&kernel_file("/proc/cpuinfo")?)).into()),
    },
    Function {
        name: "status.cpustats",
        doc: "Return the kernel's counters of the processors.

CLI Example:

.. code-block:: bash

    salt '*' status.cpustats",
        params: &[],
        run: |_, _| figures(stats::cpustats()),
    },
    Function {
        name: "status.diskstats",
        doc: "Return the kernel's counters of the disks.

CLI Example:

.. code-block:: bash

    salt '*' status.diskstats",
        params: &[],
        run: |_, _| figures(stats::diskstats()),
    },
    Function {
        name: "status.diskusage",
        doc: "Return the size and the free space of file systems, in bytes.

args
    Paths, and types of file systems as globs. Default: everything that is mounted.

CLI Example:

.. code-block:: bash

    salt '*' status.diskusage
    salt '*' status.diskusage / /tmp
    salt '*' status.diskusage 'ext?'",
        params: &[Param::rest()],
        run: diskusage,
    },
    Function {
        name: "status.loadavg",
        doc: "Return the load averages over one, five and fifteen minutes.

CLI Example:

.. code-block:: bash

    salt '*' status.loadavg",
        params: &[],
        run: loadavg,
    },
    Function {
        name: "status.meminfo",
        doc: "Return what the kernel tells of the memory.

CLI Example:

.. code-block:: bash

    salt '*' status.meminfo",
        params: &[],
        run: |_, _| Ok(Value::from(meminfo(&kernel_file("/proc/meminfo")?)).into()),
    },
    Function {
        name: "status.netdev",
        doc: "Return the kernel's counters of the network interfaces.

CLI Example:

.. code-block:: bash

    salt '*' status.netdev",
        params: &[],
        run: |_, _| Ok(Value::from(netdev(&kernel_file("/proc/net/dev")?)).into()),
    },
    Function {
        name: "status.netstats",
        doc: "Return the kernel's counters of the network protocols.

CLI Example:

.. code-block:: bash

    salt '*' status.netstats",
        params: &[],
        run: |_, _| Ok(Value::from(netstats(&kernel_file("/proc/net/netstat")?)).into()),
    },
    Function {
        name: "status.nproc",
        doc: "Return how many processors the minion may use.

CLI Example:

.. code-block:: bash

    salt '*' status.nproc",
        params: &[],
        run: |_, _| Ok(Value::from(std::thread::available_parallelism().map_or(0, usize::from)).into()),
    },
    Function {
        name: "status.pid",
        doc: "Return the pids of the processes whose command line matches, one a line; an empty text if there are none.

sig
    A regular expression.

CLI Example:

.. code-block:: bash

    salt '*' status.pid <sig>",
        params: &[Param::required("sig")],
        run: pid,
    },
    Function {
        name: "status.procs",
        doc: "Return the processes: command line, processor time and user by pid.

CLI Example:

.. code-block:: bash

    salt '*' status.procs",
        params: &[],
        run: |_, _| Ok(Value::from(procs()).into()),
    },
    Function {
        name: "status.time",
        doc: "Return the date and the time of day of this host.

format
    Directives of strftime. Default: the weekday, the date and the time.

CLI Example:

.. code-block:: bash

    salt '*' status.time",
        params: &[Param::optional("format", Fallback::Text("%A, %d. %B %Y %I:%M%p"))],
        run: time_of_day,
    },
    Function {
        name: "status.uptime",
        doc: "Return how long this host has been running.

CLI Example:

.. code-block:: bash

    salt '*' status.uptime",
        params: &[],
        run: uptime,
    },
    Function {
        name: "status.version",
        doc: "Return the version of the kernel, as it tells it.

CLI Example:

.. code-block:: bash

    salt '*' status.version",
        params: &[],
        run: |_, _| Ok(Value::from(kernel_file("/proc/version")?.trim()).into()),
    },
    Function {
        name: "status.vmstats",
        doc: "Return the kernel's counters of virtual memory.

CLI Example:

.. code-block:: bash

    salt '*' status.vmstats",
        params: &[],
        run: |_, _| Ok(Value::from(vmstats(&kernel_file("/proc/vmstat")?)).into()),
    },
    Function {
        name: "status.w",
        doc: "Return the users that are logged in, as w(1) shows them.

CLI Example:

.. code-block:: bash

    salt '*' status.w",
        params: &[],
        run: w,
    },
];

fn kernel_file(path: &str) -> Result<String, CallError> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| CallError::Failed(format!("Unable to read {path}: {error}")))
}

fn figures(read: Result<Map, stats::StatsError>) -> Result<Outcome, CallError> {
    let failed = |error: stats::StatsError| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        CallError::Failed(format!("failed to {error}: {cause}"))
    };
    read.map(|figures| Value::from(figures).into()).map_err(failed)
}

fn all_status(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let mut all = Map::new();
    let parts = [
        "cpuinfo",
        "cpustats",
        "diskstats",
        "diskusage",
        "loadavg",
        "meminfo",
        "netdev",
        "netstats",
        "uptime",
        "vmstats",
        "w",
    ];
    for part in parts {
        let function = FUNCTIONS.iter().find(|function| function.name.strip_prefix("status.") == Some(part));
        // One that this host cannot tell (w(1) may be missing) does not silence the others.
        let told = function.map(|function| function.call(cx, Vec::new(), Map::new()));
        all.set(
            part,
            match told {
                Some(Ok(outcome)) => outcome.ret,
                Some(Err(CallError::Stopped(stop))) => return Err(CallError::Stopped(stop)),
                Some(Err(error)) => error.to_string().into(),
                None => Value::Null,
            },
        );
    }
    Ok(Outcome { ret: all.into(), retcode: 0, out: None })
}

/// Reads the table of interfaces, in whose columns stands first what came in, then what went out.
fn netdev(text: &str) -> Map {
    const COLUMNS: [&str; 16] = [
        "rx_bytes",
        "rx_packets",
        "rx_errs",
        "rx_drop",
        "rx_fifo",
        "rx_frame",
        "rx_compressed",
        "rx_multicast",
        "tx_bytes",
        "tx_packets",
        "tx_errs",
        "tx_drop",
        "tx_fifo",
        "tx_colls",
        "tx_carrier",
        "tx_compressed",
    ];
    let mut interfaces = Map::new();
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        let numbers =
            counters.split_whitespace().map(|word| word.parse::<u64>().map_or_else(|_| word.into(), Value::from));
        let mut row = proto::map! { "iface" => name.trim() };
        row.extend(COLUMNS.iter().map(|column| Value::from(*column)).zip(numbers));
        interfaces.set(name.trim(), row);
    }
    interfaces
}

/// Reads pairs of lines: the names of a group's counters, then their values.
fn netstats(text: &str) -> Map {
    let lines: Vec<&str> = text.lines().collect();
    let mut groups = Map::new();
    for pair in lines.chunks_exact(2) {
        let (mut names, mut values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let (Some(group), Some(_)) = (names.next(), values.next()) else { continue };
        let number = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
        let counters: Map = names.zip(values).map(|(name, value)| (Value::from(name), number(value))).collect();
        groups.set(group.trim_end_matches(':'), counters);
    }
    groups
}

fn pid(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let text = args.text("sig").unwrap_or_default();
    let wanted = regex::Regex::new(&text);
    let wanted =
        wanted.map_err(|_| CallError::Invocation(format!("'{}' is no regular expression", text.escape_debug())))?;
    let own = i32::try_from(std::process::id()).ok();
    let found = processes::all().into_iter().filter(|process| Some(process.pid) != own);
    let found = found.filter(|process| wanted.is_match(&process.cmdline.join(" ")) || wanted.is_match(&process.name));
    Ok(Value::from(found.map(|process| process.pid.to_string()).collect::<Vec<_>>().join("\n")).into())
}

fn time_of_day(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let format = args.text("format").unwrap_or_default();
    let items = time::format_description::parse_strftime_owned(&format);
    let text = items.ok().and_then(|items| clock::now().format(&items).ok());
    let text =
        text.ok_or_else(|| CallError::Invocation(format!("'{}' is no format of a time", format.escape_debug())))?;
    Ok(Value::from(text).into())
}

fn cpuinfo(text: &str) -> Map {
    let mut map = Map::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        match name.trim() {
            "flags" => map.set("flags", value.split_whitespace().collect::<Vec<_>>()),
            name => map.set(name, value.trim()),
        }
    }
    map
}

fn meminfo(text: &str) -> Map {
    let mut map = Map::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut words = value.split_whitespace();
        let mut entry = proto::map! { "value" => words.next().unwrap_or_default() };
        if let Some(unit) = words.next() {
            entry.set("unit", unit);
        }
        map.set(name, entry);
    }
    map
}

fn vmstats(text: &str) -> Map {
    let mut map = Map::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        map.set(name, value.trim().parse::<i64>().unwrap_or_default());
    }
    map
}

fn loadavg(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let load = load::read().map_err(|error| CallError::Failed(format!("failed to {error}")))?;
    Ok(Value::from(proto::map! { "1-min" => load.one, "5-min" => load.five, "15-min" => load.fifteen }).into())
}

fn diskusage(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let asked: Vec<String> = args.rest().iter().map(plain_text).collect();
    let (mut paths, kinds): (Vec<String>, Vec<String>) = asked.into_iter().partition(|arg| arg.starts_with('/'));
    let globs: Vec<Glob> = kinds.iter().map(|kind| Glob::new(kind)).collect();
    let everything = args.rest().is_empty();
    // A mounted place may be closed to this user; one that was asked for by name must answer.
    let named = paths.len();
    let chosen = |kind: &str| everything || globs.iter().any(|glob| glob.matches(kind));
    paths.extend(filesystem::mounts().into_iter().filter(|mount| chosen(&mount.kind)).map(|mount| mount.point));
    let mut map = Map::new();
    for (index, path) in paths.iter().enumerate() {
        match filesystem::usage(path) {
            Ok(usage) => map.set(path, proto::map! { "available" => usage.available, "total" => usage.total }),
            Err(error) if index < named => return Err(CallError::Failed(format!("failed to {error}"))),
            Err(_) => {}
        }
    }
    Ok(Value::from(map).into())
}

fn procs() -> Map {
    let mut map = Map::new();
    for process in processes::all() {
        let cmd = match process.cmdline.as_slice() {
            [] => format!("[{}]", process.name),
            words => words.join(" "),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds")]
        let seconds = process.busy() as u64;
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        map.set(&process.pid.to_string(), proto::map! { "cmd" => cmd, "time" => clock, "user" => process.user() });
    }
    map
}

fn uptime(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let text = kernel_file("/proc/uptime")?;
    let exact = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let exact = exact.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let exact = exact.ok_or_else(|| CallError::Failed("Unable to read /proc/uptime: no number".to_owned()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = OffsetDateTime::from(UNIX_EPOCH + now.saturating_sub(exact));
    let mut map = uptime_map(exact.as_secs(), since);
    if let Ok(who) = cx.run_program(&["who", "-s"], USERS_LIMIT) {
        map.set("users", who.stdout.text().lines().count());
    }
    Ok(Value::from(map).into())
}

fn uptime_map(seconds: u64, since: OffsetDateTime) -> Map {
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60);
    let (date, clock) = (since.date(), since.time());
    let (h, m, s) = clock.as_hms();
    let iso = format!("{date}T{h:02}:{m:02}:{s:02}.{:06}", clock.microsecond());
    proto::map! {
        "seconds" => seconds, "since_iso" => iso, "since_t" => since.unix_timestamp(), "days" => days,
        "time" => format!("{hours}:{minutes}"),
    }
}

fn w(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    // Options: no header, no column FROM.
    let users = cx.run_program(&["w", "-fh"], USERS_LIMIT)?.stdout.text();
    Ok(Value::from(users.lines().filter_map(user_row).collect::<Vec<_>>()).into())
}

fn user_row(line: &str) -> Option<Map> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [user, tty, login, idle, jcpu, pcpu, what @ ..] = words.as_slice() else {
        return None;
    };
    Some(proto::map! {
        "idle" => *idle, "jcpu" => *jcpu, "login" => *login, "pcpu" => *pcpu, "tty" => *tty, "user" => *user,
        "what" => what.join(" "),
    })
}

#[cfg(test)]
mod tests;
