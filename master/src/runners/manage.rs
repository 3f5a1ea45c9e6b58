//! `manage`: who is connected. Presence is known, so no minion has to be asked.

use proto::map;
use proto::value::Value;

use super::{Args, Function, Runner, RunnerContext};
use crate::command::{Command, CommandError};

pub(super) const RUNNER: Runner = Runner {
    name: "manage",
    functions: &[
        Function { name: "down", usage: DOWN, run: |context, args| Box::pin(down(context, args)) },
        Function { name: "present", usage: PRESENT, run: |context, args| Box::pin(present(context, args)) },
        Function { name: "status", usage: STATUS, run: |context, args| Box::pin(status(context, args)) },
        Function { name: "up", usage: UP, run: |context, args| Box::pin(up(context, args)) },
    ],
};

const DOWN: &str = "manage.down";
const PRESENT: &str = "manage.present";
const STATUS: &str = "manage.status";
const UP: &str = "manage.up";

/// Returns the accepted minions that are not connected.
async fn down(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, DOWN)?;
    Ok(minions(context).await?.1.into())
}

/// Returns the minions that are connected.
async fn present(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, PRESENT)?;
    Ok(minions(context).await?.0.into())
}

/// Returns the accepted minions in two lists, `up` and `down`.
async fn status(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, STATUS)?;
    let (up, down) = minions(context).await?;
    Ok(map! { "up" => up, "down" => down }.into())
}

/// Returns the minions that are connected.
async fn up(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, UP)?;
    Ok(minions(context).await?.0.into())
}

/// Returns the accepted minions that are up, and those that are not.
async fn minions(context: RunnerContext<'_>) -> Result<(Vec<Value>, Vec<Value>), CommandError> {
    let listed = context.value(Command::Minions).await?;
    let (up, down): (Vec<&Value>, Vec<&Value>) =
        listed.as_list().unwrap_or_default().iter().partition(|minion| minion.get("up").is_some_and(Value::is_truthy));
    let ids = |minions: Vec<&Value>| minions.into_iter().filter_map(|minion| minion.get("id").cloned()).collect();
    Ok((ids(up), ids(down)))
}
