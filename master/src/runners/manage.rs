//! `manage`: who is there. The presence of native minions is known; Salt minions are asked, with `test.ping`, as Salt's own
//! runner does it.

use std::collections::HashSet;
use std::time::Duration;

use proto::map;
use proto::value::{Map, MapExt, Value};

use super::args::invalid;
use super::{Args, Function, Runner, RunnerContext};
use crate::command::{Command, CommandError, PublishRequest, TargetText};

/// How long Salt minions may take to answer, unless the call says otherwise: Salt's `timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time that a call may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

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

const DOWN: &str = "manage.down [tgt=TARGET] [tgt_type=glob] [timeout=SECONDS]";
const PRESENT: &str = "manage.present";
const STATUS: &str = "manage.status [tgt=TARGET] [tgt_type=glob] [timeout=SECONDS]";
const UP: &str = "manage.up [tgt=TARGET] [tgt_type=glob] [timeout=SECONDS]";
const VERSIONS: &str = "manage.versions";

/// Returns the accepted minions that are not there: native ones that are not connected, Salt minions that do not answer.
async fn down(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    Ok(asked(context, args, DOWN).await?.1.into())
}

/// Returns the minions that are connected. A Salt minion's presence is not known, and it is not asked.
async fn present(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, PRESENT)?;
    Ok(known(context).await?.up.into())
}

/// Returns the accepted minions in two lists, `up` and `down`; Salt minions are asked.
async fn status(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    let (up, down) = asked(context, args, STATUS).await?;
    Ok(map! { "up" => up, "down" => down }.into())
}

/// Returns the minions that are there: native ones that are connected, Salt minions that answer.
async fn up(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    Ok(asked(context, args, UP).await?.0.into())
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

/// Accepted minions by their presence.
#[derive(Default)]
struct Known {
    up: Vec<Value>,
    down: Vec<Value>,
    /// Salt minions: nobody knows before they are asked.
    unknown: Vec<Value>,
}

async fn known(context: RunnerContext<'_>) -> Result<Known, CommandError> {
    let listed = context.value(Command::Minions).await?;
    let mut known = Known::default();
    for minion in listed.as_list().unwrap_or_default() {
        let Some(id) = minion.get("id") else { continue };
        let group = match minion.get("up") {
            Some(Value::Null) => &mut known.unknown,
            Some(up) if up.is_truthy() => &mut known.up,
            _ => &mut known.down,
        };
        group.push(id.clone());
    }
    Ok(known)
}

/// Returns the accepted minions that are there and those that are not, in the order of their ids.
async fn asked(
    context: RunnerContext<'_>,
    mut args: Args,
    usage: &str,
) -> Result<(Vec<Value>, Vec<Value>), CommandError> {
    let timeout = match args.kwarg.take("timeout") {
        None | Some(Value::Null) => TIMEOUT,
        Some(Value::Int(seconds)) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX_TIMEOUT),
        Some(other) => {
            return Err(invalid(&format!("timeout must be a number of seconds, not {}", other.kind()), usage));
        }
    };
    // How long Salt's master waits before it asks again who still runs a job; nothing runs on here.
    args.kwarg.take("gather_job_timeout");
    let meant = match args.kwarg.take("tgt") {
        None | Some(Value::Null) => None,
        Some(tgt) => Some(meant(context, args.target(tgt)).await?),
    };
    args.finish(0, usage)?;
    let Known { mut up, mut down, mut unknown } = known(context).await?;
    if let Some(meant) = meant {
        [&mut up, &mut down, &mut unknown].into_iter().for_each(|ids| ids.retain(|id| meant.contains(id)));
    }
    if !unknown.is_empty() {
        let answering = answering(context, unknown.clone(), timeout).await?;
        let (there, silent): (Vec<Value>, Vec<Value>) = unknown.into_iter().partition(|id| answering.contains(id));
        up.extend(there);
        down.extend(silent);
        [&mut up, &mut down].into_iter().for_each(|ids| ids.sort_by(|one, other| one.as_str().cmp(&other.as_str())));
    }
    Ok((up, down))
}

async fn meant(context: RunnerContext<'_>, target: TargetText) -> Result<HashSet<Value>, CommandError> {
    let ids = context.value(Command::Matching(target)).await?;
    Ok(ids.as_list().unwrap_or_default().iter().cloned().collect())
}

/// Asks minions whether they are there; returns those that answer in time.
async fn answering(
    context: RunnerContext<'_>,
    ids: Vec<Value>,
    timeout: Duration,
) -> Result<HashSet<Value>, CommandError> {
    let request = PublishRequest {
        target: TargetText::new(ids.into(), None),
        fun: "test.ping".into(),
        arg: Vec::new(),
        ret: String::new(),
        jid: None,
        ttl: None,
        metadata: None,
        options: Map::new(),
    };
    context.returning(request, timeout).await
}
