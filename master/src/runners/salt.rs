//! `salt`: publishes a job from the master's side, or runs a function on the master's own host.

use proto::map;
use proto::value::{Map, MapExt, Value};

use super::args::{self, Args};
use super::{Function, Runner, RunnerContext, call};
use crate::command::{Command, CommandError, PublishRequest, Reply, TargetText};

pub(super) const RUNNER: Runner = Runner {
    name: "salt",
    functions: &[
        Function { name: "cmd", usage: CMD, run: |context, args| Box::pin(cmd(context, args)) },
        Function { name: "execute", usage: EXECUTE, run: |context, args| Box::pin(execute(context, args)) },
    ],
};

const CMD: &str = "salt.cmd FUN [ARG…] [key=value…]";
const EXECUTE: &str = "salt.execute TGT FUN [arg=[…]] [kwarg={…}] [tgt_type=glob] [ret=…]";

/// Runs an execution function on the master's host and returns what it returns.
async fn cmd(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let fun = args.need_text(0, "fun", CMD)?;
    // It may have been given by its name.
    args.arg.drain(..args.arg.len().min(1));
    args.kwarg.take("with_pillar");
    args.kwarg.retain(|name, _| !args::is_internal(name));
    let confdir = match context.value(Command::Status).await?.get("confdir") {
        Some(Value::Str(confdir)) => confdir.clone(),
        _ => String::new(),
    };
    call::run(&confdir, &fun, &args).await
}

/// Publishes a job and returns its jid and minions at once; `jobs.lookup_jid` has the returns.
async fn execute(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let tgt = args.need(0, "tgt", EXECUTE)?;
    let fun = args.need(1, "fun", EXECUTE)?;
    let mut positional = match args.take(2, "arg") {
        None => Vec::new(),
        Some(Value::List(items)) => items,
        Some(other) => vec![other],
    };
    let ret = args.kwarg.take("ret");
    let named = match args.kwarg.take("kwarg") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Map(map)) => map,
        Some(other) => return Err(args::invalid(&format!("kwarg must be a map, not {}", other.kind()), EXECUTE)),
    };
    let target = args.target(tgt);
    args.finish(3, EXECUTE)?;
    positional.extend(as_keywords(named));
    publish(context, target, fun, positional, ret).await
}

/// Returns keyword arguments as they go out at the end of a job's arguments.
pub(super) fn as_keywords(named: Map) -> Option<Value> {
    if named.is_empty() {
        return None;
    }
    let mut keywords = map! { "__kwarg__" => true };
    keywords.extend(named);
    Some(keywords.into())
}

/// Publishes and tells the jid and who it is for.
pub(super) async fn publish(
    context: RunnerContext<'_>,
    target: TargetText,
    fun: Value,
    arg: Vec<Value>,
    ret: Option<Value>,
) -> Result<Value, CommandError> {
    let ret = match ret {
        Some(Value::Str(text)) => text,
        _ => String::new(),
    };
    let request = PublishRequest { target, fun, arg, ret, jid: None, ttl: None, metadata: None, options: Map::new() };
    match context.door.ask(context.caller.clone(), Command::Publish(request)).await? {
        Reply::Published(published) => {
            let ids: Vec<Value> = published.minions.iter().map(Value::from).collect();
            Ok(map! { "jid" => &published.jid, "minions" => ids }.into())
        }
        _ => Err(CommandError::Internal("the master answered something else than was asked".into())),
    }
}
