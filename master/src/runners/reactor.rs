//! `reactor`: shows and changes the reactor's rules.

use proto::value::Value;

use super::args::{self, Args};
use super::{Function, Runner, RunnerContext};
use crate::command::{Command, CommandError};

pub(super) const RUNNER: Runner = Runner {
    name: "reactor",
    functions: &[
        Function { name: "add", usage: ADD, run: |context, args| Box::pin(add(context, args)) },
        Function { name: "delete", usage: DELETE, run: |context, args| Box::pin(delete(context, args)) },
        Function { name: "is_leader", usage: IS_LEADER, run: |context, args| Box::pin(is_leader(context, args)) },
        Function { name: "list", usage: LIST, run: |context, args| Box::pin(list(context, args)) },
    ],
};

const ADD: &str = "reactor.add TAG reactors=FILE|[FILE…]";
const DELETE: &str = "reactor.delete TAG";
const IS_LEADER: &str = "reactor.is_leader";
const LIST: &str = "reactor.list";

/// Adds a rule until the master restarts.
async fn add(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let tag = args.need_text(0, "event", ADD)?;
    let paths = match args.need(1, "reactors", ADD)? {
        Value::Str(path) => vec![path],
        Value::List(paths) => paths.iter().map(Value::to_key).collect(),
        other => return Err(args::invalid(&format!("'reactors' must be text or a list, not {}", other.kind()), ADD)),
    };
    for accepted in ["saltenv", "test"] {
        args.kwarg.shift_remove(&Value::from(accepted));
    }
    args.finish(2, ADD)?;
    context.value(Command::ReactorAdd { tag, paths }).await
}

/// Takes a rule out; one that is configured is back after a reload.
async fn delete(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let tag = args.need_text(0, "event", DELETE)?;
    args.finish(1, DELETE)?;
    context.value(Command::ReactorDelete { tag }).await
}

/// Returns True: there is one reactor, and it reacts.
async fn is_leader(_: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, IS_LEADER)?;
    Ok(Value::Bool(true))
}

/// Returns the rules: a list of one-key maps, tag to files.
async fn list(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, LIST)?;
    context.value(Command::ReactorList).await
}
