//! `beacons`: what watches this host, listed and changed while the minion runs.
//!
//! Changes act at once and last until the minion stops; `beacons.save` keeps them. The answers are Salt's.

use std::path::{Path, PathBuf};

use proto::value::{Map, MapExt, Value};
use render::yaml::{self, KeyOrder};

use super::args::plain_text;
use super::diff::unified;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::replace;

/// The file of `beacons.save`, beside the other included ones.
const SAVED: &str = "beacons.conf";

const NAMED: &[Param] = &[Param::required("name"), Param::keywords()];
const WITH_DATA: &[Param] = &[Param::required("name"), Param::required("beacon_data"), Param::keywords()];

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "beacons.add",
        doc: "Add a beacon. It watches at once; beacons.save keeps it over a restart.

name
    The beacon's name, which is its kind unless beacon_module says another.
beacon_data
    Its options: a list of maps, as in the configuration.
test
    True says what would be done, and does nothing.

CLI Example:

.. code-block:: bash

    salt '*' beacons.add memusage \"[{percent: 80%}, {interval: 60}]\"",
        params: WITH_DATA,
        run: add,
    },
    Function {
        name: "beacons.delete",
        doc: "Delete a beacon. It stops at once; beacons.save keeps it from coming back with a restart.

CLI Example:

.. code-block:: bash

    salt '*' beacons.delete memusage",
        params: NAMED,
        run: delete,
    },
    Function {
        name: "beacons.disable",
        doc: "Switch all beacons off.

CLI Example:

.. code-block:: bash

    salt '*' beacons.disable",
        params: &[Param::keywords()],
        run: |cx, args| switch_all(cx, &args, Switch::OFF),
    },
    Function {
        name: "beacons.disable_beacon",
        doc: "Switch one beacon off.

CLI Example:

.. code-block:: bash

    salt '*' beacons.disable_beacon memusage",
        params: NAMED,
        run: |cx, args| switch_one(cx, &args, Switch::OFF),
    },
    Function {
        name: "beacons.enable",
        doc: "Switch all beacons on, but those that are switched off by themselves.

CLI Example:

.. code-block:: bash

    salt '*' beacons.enable",
        params: &[Param::keywords()],
        run: |cx, args| switch_all(cx, &args, Switch::ON),
    },
    Function {
        name: "beacons.enable_beacon",
        doc: "Switch one beacon on.

CLI Example:

.. code-block:: bash

    salt '*' beacons.enable_beacon memusage",
        params: NAMED,
        run: |cx, args| switch_one(cx, &args, Switch::ON),
    },
    Function {
        name: "beacons.list",
        doc: "Return the beacons that are configured now, as YAML or as data.

return_yaml
    False returns data. Default: True.
include_opts
    False leaves out what is in the configuration, and so everything: this minion keeps no pillar.
include_pillar
    Accepted and without effect.

CLI Example:

.. code-block:: bash

    salt '*' beacons.list
    salt '*' beacons.list return_yaml=False",
        params: &[
            Param::optional("return_yaml", Fallback::Bool(true)),
            Param::optional("include_pillar", Fallback::Bool(true)),
            Param::optional("include_opts", Fallback::Bool(true)),
            Param::keywords(),
        ],
        run: list,
    },
    Function {
        name: "beacons.list_available",
        doc: "Return the kinds of beacons that there are.

CLI Example:

.. code-block:: bash

    salt '*' beacons.list_available",
        params: &[Param::optional("return_yaml", Fallback::Bool(true)), Param::keywords()],
        run: |cx, args| Ok(shown(&args, cx.beacons.available().into())),
    },
    Function {
        name: "beacons.modify",
        doc: "Give a beacon other options. Returns how they differ.

name
    The beacon's name.
beacon_data
    All its options: a list of maps, as in the configuration.
test
    True says what would be done, and does nothing.

CLI Example:

.. code-block:: bash

    salt '*' beacons.modify memusage \"[{percent: 90%}, {interval: 60}]\"",
        params: WITH_DATA,
        run: modify,
    },
    Function {
        name: "beacons.reset",
        doc: "Delete all beacons. They are back after a restart, unless this is followed by beacons.save.

CLI Example:

.. code-block:: bash

    salt '*' beacons.reset",
        params: &[Param::keywords()],
        run: reset,
    },
    Function {
        name: "beacons.save",
        doc: "Write all beacons into the file beacons.conf beside the configuration, so that they last.

CLI Example:

.. code-block:: bash

    salt '*' beacons.save",
        params: &[Param::keywords()],
        run: save,
    },
    Function {
        name: "beacons.test",
        doc: "Let a beacon look once, and return what it sees and what it would fire. Fires nothing.

name
    A configured beacon, or any name together with beacon_data.
beacon_data
    Options to try instead of the configured ones. Default: None.

CLI Example:

.. code-block:: bash

    salt '*' beacons.test load
    salt-call beacons.test memusage '[{percent: 10%}]'",
        params: &[Param::required("name"), Param::optional("beacon_data", Fallback::None)],
        run: try_out,
    },
];

/// On or off, in Salt's words.
struct Switch {
    verb: &'static str,
    done: &'static str,
    on: bool,
}

impl Switch {
    const OFF: Switch = Switch { verb: "disable", done: "Disabled", on: false };
    const ON: Switch = Switch { verb: "enable", done: "Enabled", on: true };
}

fn answer(result: bool, comment: impl Into<String>) -> Outcome {
    Value::from(proto::map! { "comment" => comment.into(), "result" => result }).into()
}

fn name(args: &Args) -> String {
    args.text("name").unwrap_or_default()
}

/// Tells whether the caller only asks what would be done.
fn only_asked(args: &Args) -> bool {
    args.extra().at("test").is_some_and(Value::is_truthy)
}

/// Returns a configured beacon's options. `enabled` stands among the beacons and is none.
fn configured(cx: &ModuleContext, name: &str) -> Option<Value> {
    cx.beacons.configured().take(name).filter(|_| name != "enabled")
}

fn change(cx: &ModuleContext, edit: &mut dyn FnMut(&mut Map)) -> Result<(), CallError> {
    cx.beacons.change(edit).map_err(|error| CallError::Failed(error.to_string()))
}

/// Returns the kind that options name, or the beacon's own name.
fn kind_of(name: &str, options: &Value) -> String {
    let named = match options {
        Value::List(items) => items.iter().find_map(|item| item.get("beacon_module")),
        map => map.get("beacon_module"),
    };
    named.map_or_else(|| name.to_owned(), plain_text)
}

fn add(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (name, options) = (name(&args), args.value("beacon_data"));
    if configured(cx, &name).is_some() {
        return Ok(answer(true, format!("Beacon {name} is already configured.")));
    }
    let kind = kind_of(&name, options);
    if !cx.beacons.available().contains(&kind.as_str()) {
        return Ok(answer(false, format!("Beacon \"{kind}\" is not available.")));
    }
    if let Err(why) = cx.beacons.check(&name, options) {
        return Ok(answer(false, format!("Beacon {name} configuration invalid, not adding.\n{why}")));
    }
    if only_asked(&args) {
        return Ok(answer(true, format!("Beacon: {name} would be added.")));
    }
    change(cx, &mut |beacons| beacons.set(&name, options.clone()))?;
    Ok(answer(true, format!("Added beacon: {name}.")))
}

fn modify(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (name, new) = (name(&args), args.value("beacon_data"));
    let Some(old) = configured(cx, &name) else {
        return Ok(answer(true, format!("Beacon {name} is not configured.")));
    };
    if let Err(why) = cx.beacons.check(&name, new) {
        return Ok(answer(false, format!("Beacon {name} configuration invalid, not modifying.\n{why}")));
    }
    if only_asked(&args) {
        return Ok(answer(true, format!("Beacon: {name} would be modified.")));
    }
    if old == *new {
        return Ok(answer(true, format!("Job {name} in correct state")));
    }
    let diff = unified(&lines(&old), &lines(new));
    change(cx, &mut |beacons| beacons.set(&name, new.clone()))?;
    let changes = proto::map! { "diff" => diff };
    let comment = format!("Modified beacon: {name}.");
    Ok(Value::from(proto::map! { "comment" => comment, "result" => true, "changes" => changes }).into())
}

/// Returns the options as Salt compares them: one line each.
fn lines(options: &Value) -> String {
    let maps: Vec<&Map> = match options {
        Value::Map(map) => vec![map],
        Value::List(items) => items.iter().filter_map(Value::as_map).collect(),
        _ => Vec::new(),
    };
    let pairs = maps.into_iter().flatten();
    pairs.map(|(key, value)| format!("{}:{}\n", key.to_key(), plain_text(value))).collect()
}

fn delete(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let name = name(&args);
    if configured(cx, &name).is_none() {
        return Ok(answer(true, format!("Beacon {name} is not configured.")));
    }
    if only_asked(&args) {
        return Ok(answer(true, format!("Beacon: {name} would be deleted.")));
    }
    change(cx, &mut |beacons| drop(beacons.take(&name)))?;
    Ok(answer(true, format!("Deleted beacon: {name}.")))
}

fn switch_all(cx: &ModuleContext, args: &Args, switch: Switch) -> Result<Outcome, CallError> {
    if only_asked(args) {
        return Ok(answer(true, format!("Beacons would be {}d.", switch.verb)));
    }
    change(cx, &mut |beacons| beacons.set("enabled", switch.on))?;
    Ok(answer(true, format!("{} beacons on minion.", switch.done)))
}

fn switch_one(cx: &ModuleContext, args: &Args, switch: Switch) -> Result<Outcome, CallError> {
    let name = name(args);
    if name.is_empty() {
        return Ok(answer(false, "Beacon name is required."));
    }
    let Some(options) = configured(cx, &name) else {
        return Ok(answer(false, format!("Beacon {name} is not currently configured.")));
    };
    let switched = switched(options, switch.on);
    // One that is broken can still be switched off.
    if switch.on
        && let Err(why) = cx.beacons.check(&name, &switched)
    {
        return Ok(answer(false, format!("Failed to {} beacon {name} on minion.\n{why}", switch.verb)));
    }
    if only_asked(args) {
        return Ok(answer(true, format!("Beacon {name} would be {}d.", switch.verb)));
    }
    change(cx, &mut |beacons| beacons.set(&name, switched.clone()))?;
    Ok(answer(true, format!("{} beacon {name} on minion.", switch.done)))
}

/// Returns the options with `enabled` where it was, or at the end.
fn switched(options: Value, on: bool) -> Value {
    match options {
        Value::Map(mut map) => {
            map.set("enabled", on);
            map.into()
        }
        Value::List(mut items) => {
            let at = items.iter().position(|item| item.get("enabled").is_some());
            match at.and_then(|at| items.get_mut(at)) {
                Some(Value::Map(map)) => map.set("enabled", on),
                _ => items.push(proto::map! { "enabled" => on }.into()),
            }
            Value::List(items)
        }
        // A beacon without options.
        _ => vec![proto::map! { "enabled" => on }].into(),
    }
}

fn list(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let beacons = if args.flag("include_opts") { cx.beacons.configured() } else { Map::new() };
    Ok(shown(&args, beacons.into()))
}

/// Shows beacons as Salt does: YAML under `beacons`, or the data. What is configured is no verdict on this job.
fn shown(args: &Args, beacons: Value) -> Outcome {
    let yaml = |beacons| yaml::dump_in(&proto::map! { "beacons" => beacons }.into(), KeyOrder::Sorted);
    let ret = if args.flag("return_yaml") { yaml(beacons).into() } else { beacons };
    Outcome { ret, retcode: 0, out: None }
}

fn reset(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    if only_asked(&args) {
        return Ok(answer(true, "Beacons would be reset."));
    }
    change(cx, &mut Map::clear)?;
    Ok(answer(true, "Beacon configuration reset."))
}

fn save(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let beacons = cx.beacons.configured();
    let path = file(&cx.config);
    let text = yaml::dump_in(&proto::map! { "beacons" => beacons.clone() }.into(), KeyOrder::Sorted);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = std::fs::create_dir_all(folder).and_then(|()| replace::write(&path, text.as_bytes()));
    if let Err(error) = written {
        let path = path.display();
        return Ok(answer(false, format!("Unable to write to beacons file at {path}. Check permissions.\n{error}")));
    }
    let saved = format!("Beacons saved to {}.", path.display());
    // Other files may have a say too; then the next start would not find what was saved.
    if cx.reload.reload().is_ok() && cx.beacons.configured() != beacons {
        let others = "another file of the configuration has beacons too, and they are merged: see beacons.list";
        return Ok(answer(false, format!("{saved}\nBut {others}")));
    }
    Ok(answer(true, saved))
}

/// Returns where Salt saves beacons: in the folder of the included files.
fn file(config: &Map) -> PathBuf {
    let main = Path::new(config.text("conf_file").unwrap_or_default());
    let pattern = config.text("default_include").unwrap_or_default();
    let included = Path::new(pattern).parent().unwrap_or(Path::new(""));
    main.parent().unwrap_or(Path::new("")).join(included).join(SAVED)
}

fn try_out(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let name = name(&args);
    let options = match args.value("beacon_data") {
        Value::Null => configured(cx, &name),
        given => Some(given.clone()),
    };
    let Some(options) = options else {
        return Ok(answer(false, format!("Beacon {name} is not configured.")));
    };
    match cx.beacons.try_out(&name, &options) {
        Ok(seen) => Ok(Outcome { ret: seen.into(), retcode: 0, out: None }),
        Err(why) => Ok(answer(false, format!("Beacon {name} does not work: {why}"))),
    }
}

#[cfg(test)]
mod tests;
