//! `halite-minion call FUN [ARG…]`: runs one function here, as `salt-call` does.
//!
//! Beside the daemon it opens a session of its own, sends what the function sends, and its return. What is about the daemon
//! (`beacons`, `saltutil`, `event.fire`) the daemon runs, reached through its socket. With `--local` it needs neither. Exit codes:
//! 0 success, 1 the function failed, 3 no session within the timeout or no daemon, 64 a wrong command line.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use proto::ids::Jid;
use proto::map;
use proto::message::SessionState;
use proto::value::{Map, MapExt, Value};
use render::output::{self, Colour, Controls, Format, Style};
use render::yaml;
use tokio::time::timeout;

use crate::beacons;
use crate::config::{Config, Wire};
use crate::daemon::{self, wire};
use crate::executor::{self, Done};
use crate::link::{Link, LinkStatus};
use crate::local::{self, LocalError};
use crate::modules::{JobInfo, ModuleContext, NoDaemon, ServedBy, served_by};
use crate::pillar;

/// There is no session with the master, or it did not acknowledge; or no daemon where one is needed.
const NO_MASTER: u8 = 3;
/// The key under which the return is printed.
const LOCAL: &str = "local";

/// The command line of `call`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  halite-minion call --local grains.get os
  halite-minion call event.send myco/deploy '{version: 7}'
  halite-minion call --local -d cmd.run")]
pub(super) struct CallArgs {
    /// The function and its arguments. An argument is read as YAML where that is plainly meant; NAME=VALUE is a keyword
    /// argument.
    #[arg(value_name = "FUN [ARG]...", allow_negative_numbers = true, required_unless_present_any = ["doc", "grains"])]
    words: Vec<String>,
    /// Do without a master, and without the daemon of this host.
    #[arg(long)]
    local: bool,
    /// Print the documentation of a function, or of all.
    #[arg(short = 'd', long, visible_alias = "documentation")]
    doc: bool,
    /// Print the grains.
    #[arg(short = 'g', long)]
    grains: bool,
    /// How to print the return: nested, json, yaml, txt, raw, quiet…
    #[arg(long = "out", visible_alias = "output", value_name = "OUTPUTTER")]
    out: Option<String>,
    /// Spaces per level for json and pprint; below zero: one line.
    #[arg(long = "out-indent", visible_alias = "output-indent", value_name = "N", allow_negative_numbers = true)]
    out_indent: Option<i32>,
    /// Print without colours.
    #[arg(long = "no-color", visible_alias = "no-colour")]
    no_colour: bool,
    /// Print with colours even into a pipe.
    #[arg(long = "force-color", visible_alias = "force-colour", conflicts_with = "no_colour")]
    force_colour: bool,
    /// Exit with the function's return code.
    #[arg(long)]
    retcode_passthrough: bool,
    /// Do not send the return to the master.
    #[arg(long)]
    no_return_event: bool,
    /// How long to wait for the master, in seconds. Default: the option event_send_timeout, 60.
    #[arg(short = 't', long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// What is to be called.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    fun: String,
    /// As a publication has them: keyword arguments in one map at the end.
    arg: Vec<Value>,
    /// As they were typed.
    typed: Vec<String>,
}

impl CallArgs {
    #[cfg(test)]
    pub(super) fn words(&self) -> &[String] {
        &self.words
    }

    fn call(&self) -> Call {
        let mut words: VecDeque<String> = self.words.iter().cloned().collect();
        let fun = match (self.grains, self.doc) {
            (true, _) => "grains.items".to_owned(),
            (_, true) => "sys.doc".to_owned(),
            _ => words.pop_front().unwrap_or_default(),
        };
        let typed: Vec<String> = words.into();
        let (mut arg, mut keyword) = (Vec::new(), Map::new());
        for word in &typed {
            match yaml::parse_kwarg(word) {
                Some((name, value)) => keyword.set(&name, value),
                None => arg.push(yaml::cli_arg(word)),
            }
        }
        if !keyword.is_empty() {
            keyword.set("__kwarg__", true);
            arg.push(keyword.into());
        }
        Call { fun, arg, typed }
    }

    fn style(&self, terminal: bool) -> Style {
        let coloured = self.force_colour || (terminal && !self.no_colour);
        Style {
            colour: if coloured { Colour::Always } else { Colour::Never },
            controls: if terminal { Controls::Escape } else { Controls::Keep },
            indent: self.out_indent,
            ..Style::PLAIN
        }
    }
}

/// Runs the call and prints what it returns.
pub(super) async fn run(config: Config, args: CallArgs) -> anyhow::Result<ExitCode> {
    let call = args.call();
    let wait = args.timeout.map_or(config.call_timeout, Duration::from_secs);
    let served = match (args.local, served_by(&call.fun)) {
        // A call that leaves the daemon out can say nothing about it: that no job runs would be a lie.
        (true, ServedBy::Daemon) => return finish(&args, &Done::failed(format!("ERROR: {NoDaemon}"), 1)),
        (true, _) => ServedBy::Caller,
        (false, served) => served,
    };
    match ask_daemon(&config, &call, served).await {
        Some(Ok(done)) => return finish(&args, &done),
        Some(Err(why)) => {
            eprintln!("halite-minion call: {:#}", anyhow::Error::new(why));
            return Ok(ExitCode::from(NO_MASTER));
        }
        None => {}
    }
    // What is about this host's daemon has nothing to tell the master.
    let connected = if args.local || served != ServedBy::Caller { None } else { Some(wire::call(&config)?) };
    if let Some((link, _)) = &connected
        && let Err(why) = session(link, &config, wait).await
    {
        eprintln!("halite-minion call: {why}");
        return Ok(ExitCode::from(NO_MASTER));
    }
    let link = connected.as_ref().map(|(link, _)| link.clone());
    let done = execute(&config, &call, link.clone()).await?;
    let printed = print(&args, &done)?;
    let mut code = exit_code(&done, args.retcode_passthrough);
    if let Some((link, task)) = connected {
        if !args.no_return_event && !send_return(&link, &call, &done, wait).await {
            code = NO_MASTER;
        }
        link.stop().await;
        // It ends within its own grace; a late one changes nothing for the caller.
        let _ = timeout(Duration::from_secs(5), task).await;
    }
    std::io::stdout().write_all(printed.as_bytes()).context("failed to print the return")?;
    Ok(ExitCode::from(code))
}

/// Has the daemon on this host run what is about it; nothing if the call is this process's own.
async fn ask_daemon(config: &Config, call: &Call, served: ServedBy) -> Option<Result<Done, LocalError>> {
    if served == ServedBy::Caller {
        return None;
    }
    match local::call(config, &call.fun, &call.arg).await {
        Err(LocalError::NoDaemon { .. }) if served == ServedBy::DaemonIfAny => None,
        done => Some(done),
    }
}

fn finish(args: &CallArgs, done: &Done) -> anyhow::Result<ExitCode> {
    let printed = print(args, done)?;
    std::io::stdout().write_all(printed.as_bytes()).context("failed to print the return")?;
    Ok(ExitCode::from(exit_code(done, args.retcode_passthrough)))
}

/// Waits for the session; says what to do if there is none.
async fn session(link: &Link, config: &Config, wait: Duration) -> Result<(), String> {
    let mut status = link.status();
    // A state that only an operator can change is not waited for.
    let settled = |status: &LinkStatus| match status {
        LinkStatus::Up { .. } | LinkStatus::Stopped => true,
        LinkStatus::Limbo { state, .. } => !matches!(state, SessionState::Full | SessionState::Pending),
        LinkStatus::Down { .. } => false,
    };
    let last = match timeout(wait, status.wait_for(settled)).await {
        Ok(Ok(status)) => status.clone(),
        _ => link.status().borrow().clone(),
    };
    let master = format!("{}:{}", config.master, config.request_port);
    let seconds = wait.as_secs();
    match last {
        LinkStatus::Up { .. } => Ok(()),
        LinkStatus::Down { why } => {
            let why = why.map(|why| format!("failed to {why}")).unwrap_or_else(|| "no connection".to_owned());
            Err(format!("no session with the master {master} within {seconds} s: {why}. --local does without a master"))
        }
        LinkStatus::Limbo { state, reason } => {
            let id = &config.id;
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let accept = match config.wire {
                Wire::Native => format!("halite key accept {id}"),
                Wire::Salt(_) => format!("salt-key -a {id}"),
            };
            Err(format!(
                "the master {master} does not accept this minion's key: {}{reason}. On the master, `{accept}` accepts \
                 it. --local does without a master",
                state.name()
            ))
        }
        LinkStatus::Stopped => Err("the link to the master ended".to_owned()),
    }
}

async fn execute(config: &Config, call: &Call, link: Option<Link>) -> anyhow::Result<Done> {
    let (config, call) = (config.clone(), call.clone());
    let work = move || {
        let grains = daemon::collect_grains(&config);
        let mut cx = ModuleContext::offline(config.id.as_str(), Arc::new(config.options.clone()), Arc::new(grains));
        if let Some(link) = link {
            cx.events = link.events(config.id.clone(), None);
            cx.master = link.master();
            look_up_pillar(&cx, &call.fun);
        }
        cx.beacons = Arc::new(beacons::Offline { id: config.id.clone(), beacons: config.beacons.clone() });
        cx.job = job(&call, SystemTime::now());
        executor::call(&cx, &call.fun, &call.arg)
    };
    tokio::task::spawn_blocking(work).await.context("the function's thread failed")
}

/// Has the master compile the pillar for those functions that look at it.
fn look_up_pillar(cx: &ModuleContext, fun: &str) {
    if !["config.", "mine.", "pillar."].iter().any(|module| fun.starts_with(module)) {
        return;
    }
    let request = pillar::Request { grains: (*cx.grains).clone(), config: Some(&cx.config), ..Default::default() };
    match request.ask(&*cx.master) {
        Ok(pillar) => cx.pillar.set(pillar),
        Err(error) => tracing::warn!("failed to get the pillar: {error}"),
    }
}

/// What functions learn of their job, as under `salt-call`.
fn job(call: &Call, now: SystemTime) -> JobInfo {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let jid = Jid::at(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).to_string();
    let publication = map! {
        "fun" => call.fun.as_str(), "pid" => std::process::id(), "jid" => jid.as_str(), "tgt" => "salt-call",
    };
    JobInfo { jid, user: String::new(), publication }
}

/// Sends the return as a job of its own; tells whether the master has it.
async fn send_return(link: &Link, call: &Call, done: &Done, wait: Duration) -> bool {
    let mut load = map! {
        "cmd" => "_return",
        "jid" => "req",
        "return" => done.ret.clone(),
        "retcode" => done.retcode.clone(),
        "fun" => call.fun.as_str(),
        "fun_args" => call.typed.clone(),
    };
    if let Some(out) = &done.out {
        load.set("out", out.as_str());
    }
    match timeout(wait, link.send_return(load)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            eprintln!("halite-minion call: the return was not sent: {error}");
            false
        }
        Err(_) => {
            eprintln!("halite-minion call: the master did not acknowledge the return within {} s", wait.as_secs());
            false
        }
    }
}

fn print(args: &CallArgs, done: &Done) -> anyhow::Result<String> {
    let format = match args.out.as_deref().map(Format::parse) {
        Some(Ok(format)) => format,
        Some(Err(unknown)) => {
            std::io::stderr().write_all(unknown.fallback_line().as_bytes()).context("failed to print")?;
            Format::Nested
        }
        // A function may name an outputter that this version does not have.
        None => done.out.as_deref().and_then(|out| Format::parse(out).ok()).unwrap_or_default(),
    };
    let style = args.style(std::io::stdout().is_terminal());
    Ok(output::render(format, &map! { LOCAL => done.ret.clone() }.into(), &style))
}

fn exit_code(done: &Done, passthrough: bool) -> u8 {
    match done.retcode.as_int() {
        Some(0) => 0,
        // As a shell has it: only the low byte leaves a process; a failure never becomes success.
        Some(code) if passthrough => u8::try_from(code & 0xff).ok().filter(|code| *code != 0).unwrap_or(1),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> CallArgs {
        CallArgs {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            local: false,
            doc: false,
            grains: false,
            out: None,
            out_indent: None,
            no_colour: false,
            force_colour: false,
            retcode_passthrough: false,
            no_return_event: false,
            timeout: None,
        }
    }

    #[test]
    fn arguments_are_read_as_yaml() {
        let call = args(&["event.send", "myco/kw", "{success: True}", "a=1", "b=[x]", "plain text"]).call();
        assert_eq!(call.fun, "event.send");
        let keyword = map! { "a" => 1, "b" => vec!["x"], "__kwarg__" => true };
        let expected: Vec<Value> =
            vec!["myco/kw".into(), map! { "success" => true }.into(), "plain text".into(), keyword.into()];
        assert_eq!(call.arg, expected);
        assert_eq!(call.typed.len(), 5);
    }

    #[test]
    fn short_forms_are_functions() {
        assert_eq!(CallArgs { grains: true, ..args(&[]) }.call().fun, "grains.items");
        let doc = CallArgs { doc: true, ..args(&["test.ping"]) }.call();
        assert_eq!((doc.fun.as_str(), doc.arg), ("sys.doc", vec!["test.ping".into()]));
    }

    #[test]
    fn the_exit_code_says_failure_or_the_functions_own() {
        let done = |code: i64| Done::with_retcode(Value::Null, code, None);
        let check = |code, passthrough, expected| assert_eq!(exit_code(&done(code), passthrough), expected, "{code}");
        check(0, true, 0);
        check(7, false, 1);
        check(7, true, 7);
        check(256, true, 1);
    }

    #[test]
    fn the_return_is_printed_under_local() {
        let done = Done::with_retcode(true.into(), 0, None);
        assert_eq!(print(&args(&["test.ping"]), &done).unwrap(), "local:\n    True\n");
        let json = CallArgs { out: Some("json".into()), ..args(&["test.ping"]) };
        assert_eq!(print(&json, &done).unwrap(), "{\n    \"local\": true\n}\n");
    }
}
