//! `key`: lists, shows and changes keys. Answers are Salt's: by directory, `{minions: [m1]}`.

use proto::ids::MinionId;
use proto::map;
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};

use super::{Args, Function, RunnerContext, Wheel};
use crate::command::{Command, CommandError, KeyLists, KeySelection, Reply};

pub(super) const WHEEL: Wheel = Wheel {
    name: "key",
    functions: &[
        Function { name: "accept", run: |context, args| Box::pin(change(context, args, Command::KeyAccept, ACCEPT)) },
        Function { name: "delete", run: |context, args| Box::pin(change(context, args, Command::KeyDelete, DELETE)) },
        Function { name: "finger", run: |context, args| Box::pin(finger(context, args)) },
        Function { name: "key_str", run: |context, args| Box::pin(key_str(context, args)) },
        Function { name: "list", run: |context, args| Box::pin(list(context, args)) },
        Function { name: "list_all", run: |context, args| Box::pin(list_all(context, args)) },
        Function { name: "name_match", run: |context, args| Box::pin(name_match(context, args)) },
        Function { name: "reject", run: |context, args| Box::pin(change(context, args, Command::KeyReject, REJECT)) },
    ],
};

const ACCEPT: &str = "key.accept MATCH [include_rejected=False] [include_denied=False]";
const DELETE: &str = "key.delete MATCH";
const FINGER: &str = "key.finger MATCH";
const KEY_STR: &str = "key.key_str MATCH";
const LIST: &str = "key.list accepted|pre|rejected|denied|all";
const LIST_ALL: &str = "key.list_all";
const NAME_MATCH: &str = "key.name_match MATCH";
const REJECT: &str = "key.reject MATCH [include_accepted=False] [include_denied=False]";

/// The master's own files, as `list_all` names them.
const LOCAL: [&str; 2] = ["halite_master.pem", "halite_master.pub"];

/// Changes keys and returns where those that match are now, as Salt does.
async fn change(
    context: RunnerContext<'_>,
    mut args: Args,
    command: fn(KeySelection) -> Command,
    usage: &'static str,
) -> Result<Value, CommandError> {
    let mut selection = select(&mut args, usage)?;
    let mut flag = |name: &str| args.kwarg.take(name).is_some_and(|value| value.is_truthy());
    selection.include_accepted = flag("include_accepted");
    selection.include_denied = flag("include_denied");
    selection.include_rejected = flag("include_rejected");
    args.finish(1, usage)?;
    let globs = selection.globs.clone();
    match ask(context, command(selection)).await? {
        Reply::Keys(_) | Reply::Done => Ok(matching(&lists(context).await?, &globs).into()),
        _ => Err(unexpected()),
    }
}

async fn finger(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let selection = select(&mut args, FINGER)?;
    // Salt's, and always sha256.
    args.kwarg.take("hash_type");
    args.finish(1, FINGER)?;
    match ask(context, Command::KeyFinger(selection)).await? {
        Reply::KeyFingers(fingers) => {
            let local: Map =
                fingers.local.iter().map(|(name, print)| (name.as_str().into(), print.as_str().into())).collect();
            let mut shown = if local.is_empty() {
                Map::new()
            } else {
                map! { "local" => local }
            };
            shown.extend(by_folder(fingers.keys));
            Ok(shown.into())
        }
        _ => Err(unexpected()),
    }
}

async fn key_str(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let selection = select(&mut args, KEY_STR)?;
    args.finish(1, KEY_STR)?;
    match ask(context, Command::KeyPrint(selection)).await? {
        Reply::KeyPems(pems) => Ok(by_folder(pems.keys).into()),
        _ => Err(unexpected()),
    }
}

/// Lists the keys in one state, by any of Salt's names of it, or all.
async fn list(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let state = args.need_text(0, "match", LIST)?;
    args.finish(1, LIST)?;
    let folder = match state.as_str() {
        "all" => return Ok(all_lists(&lists(context).await?).into()),
        name if name.starts_with("acc") => "minions",
        name if name.starts_with("pre") || name.starts_with("un") || name == "pending" => "minions_pre",
        name if name.starts_with("rej") => "minions_rejected",
        name if name.starts_with("den") => "minions_denied",
        // Salt answers an empty map, which reads as "there are none".
        other => return Err(CommandError::Invalid(format!("unknown state of keys '{other}'; usage: {LIST}"))),
    };
    let mut shown = all_lists(&lists(context).await?);
    Ok(map! { folder => shown.take(folder) }.into())
}

async fn list_all(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, LIST_ALL)?;
    Ok(all_lists(&lists(context).await?).into())
}

async fn name_match(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let selection = select(&mut args, NAME_MATCH)?;
    args.finish(1, NAME_MATCH)?;
    Ok(matching(&lists(context).await?, &selection.globs).into())
}

/// Reads `match`: a glob, a list of them, or several with commas between.
fn select(args: &mut Args, usage: &str) -> Result<KeySelection, CommandError> {
    let globs: Vec<String> = match args.need(0, "match", usage)? {
        Value::List(items) => items.iter().map(Value::to_key).collect(),
        // An id that looks like a number to YAML.
        Value::Int(number) => vec![number.to_string()],
        Value::Str(text) => text.split(',').map(|glob| glob.trim().to_owned()).collect(),
        other => {
            return Err(CommandError::Invalid(format!("'match' must be text, not {}; usage: {usage}", other.kind())));
        }
    };
    let (include_rejected, include_denied, include_accepted, dry_run) = (false, false, false, false);
    Ok(KeySelection { globs, include_rejected, include_denied, include_accepted, dry_run })
}

async fn ask(context: RunnerContext<'_>, command: Command) -> Result<Reply, CommandError> {
    context.door.ask(context.caller.clone(), command).await
}

async fn lists(context: RunnerContext<'_>) -> Result<KeyLists, CommandError> {
    match ask(context, Command::KeyList).await? {
        Reply::Keys(lists) => Ok(lists),
        _ => Err(unexpected()),
    }
}

/// Returns all states, in Salt's order, and the master's own files.
fn all_lists(lists: &KeyLists) -> Map {
    let mut shown: Map = states(lists).map(|(folder, ids)| (folder.into(), names(ids.iter()))).collect();
    shown.set("local", LOCAL.map(Value::from).to_vec());
    shown
}

/// Returns the states in which ids match.
fn matching(lists: &KeyLists, globs: &[String]) -> Map {
    let globs: Vec<Glob> = globs.iter().map(|glob| Glob::new(glob)).collect();
    let mut shown = Map::new();
    for (folder, ids) in states(lists) {
        let mut ids = ids.iter().filter(|id| globs.iter().any(|glob| glob.matches(id.as_str()))).peekable();
        if ids.peek().is_some() {
            shown.set(folder, names(ids));
        }
    }
    shown
}

fn states(lists: &KeyLists) -> impl Iterator<Item = (&'static str, &Vec<MinionId>)> {
    let KeyLists { accepted, denied, pending, rejected, .. } = lists;
    [("minions_pre", pending), ("minions_rejected", rejected), ("minions", accepted), ("minions_denied", denied)]
        .into_iter()
}

fn names<'a>(ids: impl Iterator<Item = &'a MinionId>) -> Value {
    Value::List(ids.map(Value::from).collect())
}

fn by_folder(keys: Vec<(&'static str, MinionId, String)>) -> Map {
    let mut shown = Map::new();
    for (folder, id, text) in keys {
        let mut inner = match shown.take(folder) {
            Some(Value::Map(inner)) => inner,
            _ => Map::new(),
        };
        inner.set(id.as_str(), text);
        shown.set(folder, inner);
    }
    shown
}

fn unexpected() -> CommandError {
    CommandError::Internal("the master answered something else than was asked".into())
}
