//! `manage`: who is connected. Presence is known, so no minion has to be asked.

use proto::map;
use proto::value::{Map, MapExt, Value};

use super::{Args, Function, Runner, RunnerContext};
use crate::command::{Command, CommandError};

pub(super) const RUNNER: Runner = Runner {
    name: "manage",
    functions: &[
        Function { name: "down", usage: DOWN, run: |context, args| Box::pin(down(context, args)) },
        Function { name: "present", usage: PRESENT, run: |context, args| Box::pin(present(context, args)) },
        Function { name: "status", usage: STATUS, run: |context, args| Box::pin(status(context, args)) },
        Function { name: "up", usage: UP, run: |context, args| Box::pin(up(context, args)) },
        Function { name: "versions", usage: VERSIONS, run: |context, args| Box::pin(versions(context, args)) },
    ],
};

const DOWN: &str = "manage.down";
const PRESENT: &str = "manage.present";
const STATUS: &str = "manage.status";
const UP: &str = "manage.up";
const VERSIONS: &str = "manage.versions";

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
    // A Salt minion is neither before somebody has asked it.
    Ok(map! { "up" => up, "down" => down }.into())
}

/// Returns the minions that are connected.
async fn up(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, UP)?;
    Ok(minions(context).await?.0.into())
}

/// Groups those that are up by how their version stands to the master's, under Salt's headings.
async fn versions(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, VERSIONS)?;
    let status = context.value(Command::Status).await?;
    let own = version(&status);
    let listed = context.value(Command::Minions).await?;
    let mut groups = Map::new();
    for minion in listed.as_list().unwrap_or_default().iter().filter(|minion| minion.get("up") == Some(&true.into())) {
        let heading = match (numbers(version(minion)), numbers(own)) {
            _ if version(minion) == own => "Up to date",
            (Some(theirs), Some(ours)) if theirs > ours => "Minion newer than master",
            (Some(_), Some(_)) => "Minion requires update",
            _ => "Other software",
        };
        let group = groups.entry(heading.into()).or_insert_with(|| Map::new().into());
        if let (Some(group), Some(id)) = (group.as_map_mut(), minion.get("id")) {
            group.insert(id.clone(), version(minion).into());
        }
    }
    groups.set("Master", own);
    Ok(groups.into())
}

/// Returns the version that a thing says of its software: `0.1.0` of `halite 0.1.0`.
fn version(of: &Value) -> &str {
    let software = of.get("software").and_then(Value::as_str).unwrap_or_default();
    software.strip_prefix("halite ").unwrap_or(software)
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}

/// Returns the accepted minions that are up, and those that are not.
async fn minions(context: RunnerContext<'_>) -> Result<(Vec<Value>, Vec<Value>), CommandError> {
    let listed = context.value(Command::Minions).await?;
    let known = listed.as_list().unwrap_or_default().iter().filter(|minion| minion.get("up") != Some(&Value::Null));
    let (up, down): (Vec<&Value>, Vec<&Value>) =
        known.partition(|minion| minion.get("up").is_some_and(Value::is_truthy));
    let ids = |minions: Vec<&Value>| minions.into_iter().filter_map(|minion| minion.get("id").cloned()).collect();
    Ok((ids(up), ids(down)))
}
