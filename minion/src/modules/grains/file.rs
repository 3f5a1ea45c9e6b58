//! The functions that change grains: they write the file `grains` beside the configuration and have it read again.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use proto::value::{Map, MapExt, Value};
use render::yaml::{self, KeyOrder, Source};
use tracing::warn;

use crate::host::replace;
use crate::modules::args::plain_text;
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, NotDone, Outcome, Param, descend};

/// The name of the file.
const FILE: &str = "grains";
/// What stands between the names of a nested grain.
const DELIMITER: &str = ":";
/// The largest file of grains.
const MAX_FILE: u64 = 4 << 20;

/// Two jobs must not read the same file and each write its own change.
static WRITING: Mutex<()> = Mutex::new(());

pub(super) const APPEND: Function = Function {
    name: "grains.append",
    doc: "Add a value to a grain that is a list. A list of values adds each of them.

convert
    True makes a list of a grain that is none. Default: False.

CLI Example:

.. code-block:: bash

    salt '*' grains.append key val",
    params: &[
        Param::required("key"),
        Param::required("val"),
        Param::optional("convert", Fallback::Bool(false)),
        Param::optional("delimiter", Fallback::Text(DELIMITER)),
    ],
    run: append,
};

pub(super) const DELKEY: Function = Function {
    name: "grains.delkey",
    doc: "Remove a grain from the file of grains.

force
    True also removes a map or a list. Default: False.

CLI Example:

.. code-block:: bash

    salt '*' grains.delkey key",
    params: &[Param::required("key"), Param::optional("force", Fallback::Bool(false))],
    run: |cx, args| set(cx, &args.with("val", Value::Null).with("destructive", true)),
};

pub(super) const DELVAL: Function = Function {
    name: "grains.delval",
    doc: "Set a grain to None.

destructive
    True removes it, as grains.delkey does. Default: False.
force
    True also takes a map or a list. Default: False.

CLI Example:

.. code-block:: bash

    salt '*' grains.delval key",
    params: &[
        Param::required("key"),
        Param::optional("destructive", Fallback::Bool(false)),
        Param::optional("force", Fallback::Bool(false)),
    ],
    run: |cx, args| set(cx, &args.with("val", Value::Null)),
};

pub(super) const REMOVE: Function = Function {
    name: "grains.remove",
    doc: "Take a value out of a grain that is a list.

CLI Example:

.. code-block:: bash

    salt '*' grains.remove key val",
    params: &[Param::required("key"), Param::required("val"), Param::optional("delimiter", Fallback::Text(DELIMITER))],
    run: remove,
};

pub(super) const SET: Function = Function {
    name: "grains.set",
    doc: "Set a grain, at any depth. Says what was changed.

force
    True overwrites a map or a list. Default: False.
destructive
    True removes the grain if the value is None. Default: False.

CLI Example:

.. code-block:: bash

    salt '*' grains.set 'apps:myApp:port' 2209",
    params: &[
        Param::required("key"),
        Param::optional("val", Fallback::Text("")),
        Param::optional("force", Fallback::Bool(false)),
        Param::optional("destructive", Fallback::Bool(false)),
        Param::optional("delimiter", Fallback::Text(DELIMITER)),
    ],
    run: |cx, args| set(cx, &args),
};

pub(super) const SETVAL: Function = Function {
    name: "grains.setval",
    doc: "Set a grain in the file of grains, which wins over what the minion finds by itself.

destructive
    True removes the grain if the value is None. Default: False.

CLI Example:

.. code-block:: bash

    salt '*' grains.setval key val
    salt '*' grains.setval key \"{'sub-key': 'val', 'sub-key2': 'val2'}\"",
    params: &[
        Param::required("key"),
        Param::required("val"),
        Param::optional("destructive", Fallback::Bool(false)),
        Param::optional("refresh_pillar", Fallback::Bool(true)),
    ],
    run: |cx, args| {
        let new = pair(&args.text("key").unwrap_or_default(), args.value("val").clone());
        Ok(plain(write(cx, new, args.flag("destructive"))?.into()))
    },
};

pub(super) const SETVALS: Function = Function {
    name: "grains.setvals",
    doc: "Set several grains in the file of grains.

destructive
    True removes the grains whose value is None. Default: False.

CLI Example:

.. code-block:: bash

    salt '*' grains.setvals \"{'key1': 'val1', 'key2': 'val2'}\"",
    params: &[
        Param::required("grains"),
        Param::optional("destructive", Fallback::Bool(false)),
        Param::optional("refresh_pillar", Fallback::Bool(true)),
    ],
    run: |cx, args| {
        let Some(new) = args.value("grains").as_map() else {
            return Err(CallError::Failed("setvals grains must be a dictionary.".to_owned()));
        };
        Ok(plain(write(cx, new.clone(), args.flag("destructive"))?.into()))
    },
};

/// Returns a value whatever it is: what a grain says is no verdict on this job.
fn plain(ret: Value) -> Outcome {
    Outcome { ret, retcode: 0, out: None }
}

fn pair(key: &str, value: Value) -> Map {
    let mut map = Map::new();
    map.set(key, value);
    map
}

fn delimiter(args: &Args) -> String {
    args.text("delimiter").filter(|text| !text.is_empty()).unwrap_or_else(|| DELIMITER.to_owned())
}

fn append(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (key, value, delimiter) = (args.text("key").unwrap_or_default(), args.value("val"), delimiter(&args));
    let mut list = match descend(&cx.grains, &key, &delimiter) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(items)) => items.clone(),
        Some(one) if args.flag("convert") => vec![one.clone()],
        Some(_) => return Ok(plain(format!("The key {key} is not a valid list").into())),
    };
    if list.contains(value) {
        return Ok(plain(format!("The val {} was already in the list {key}", plain_text(value)).into()));
    }
    match value {
        Value::List(values) => list.extend(values.iter().cloned()),
        one => list.push(one.clone()),
    }
    keep(cx, &key, &delimiter, Some(list.into()))
}

fn remove(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (key, value, delimiter) = (args.text("key").unwrap_or_default(), args.value("val"), delimiter(&args));
    let Some(Value::List(items)) = descend(&cx.grains, &key, &delimiter) else {
        return Ok(plain(format!("The key {key} is not a valid list").into()));
    };
    let Some(at) = items.iter().position(|item| item == value) else {
        return Ok(plain(format!("The val {} was not in the list {key}", plain_text(value)).into()));
    };
    let mut list = items.clone();
    list.remove(at);
    keep(cx, &key, &delimiter, Some(list.into()))
}

/// Sets one grain at any depth and returns the top-level grain that holds it.
fn keep(cx: &ModuleContext, key: &str, delimiter: &str, value: Option<Value>) -> Result<Outcome, CallError> {
    let (top, value) = nest(&cx.grains, key, delimiter, value).map_err(CallError::Failed)?;
    let destructive = value.is_none();
    Ok(plain(write(cx, pair(&top, value.unwrap_or_default()), destructive)?.into()))
}

fn set(cx: &ModuleContext, args: &Args) -> Result<Outcome, CallError> {
    let answer = |result: bool, comment: String, changes: Map| {
        Ok(Value::from(proto::map! { "comment" => comment, "changes" => changes, "result" => result }).into())
    };
    let (key, value, delimiter) = (args.text("key").unwrap_or_default(), args.value("val"), delimiter(args));
    let destructive = args.flag("destructive");
    let old = descend(&cx.grains, &key, &delimiter);
    if old == Some(value) && !(value.is_null() && destructive) {
        return answer(true, "Grain is already set".to_owned(), Map::new());
    }
    let is_complex = |value: &Value| matches!(value, Value::List(_) | Value::Map(_));
    if !args.flag("force") {
        if old.is_some_and(is_complex) {
            let why = format!("The key '{key}' exists but is a dict or a list. Use 'force=True' to overwrite.");
            return answer(false, why, Map::new());
        }
        if old.is_some_and(|old| !old.is_null()) && is_complex(value) {
            let why = format!(
                "The key '{key}' exists and the given value is a dict or a list. Use 'force=True' to overwrite."
            );
            return answer(false, why, Map::new());
        }
    }
    let new = (!(value.is_null() && destructive)).then(|| value.clone());
    match nest(&cx.grains, &key, &delimiter, new) {
        Ok((top, value)) => {
            let removes = value.is_none();
            answer(true, String::new(), write(cx, pair(&top, value.unwrap_or_default()), removes)?)
        }
        Err(why) => answer(false, why, Map::new()),
    }
}

/// Returns the top-level grain with this one set in it, or taken out of it.
fn nest(grains: &Map, key: &str, delimiter: &str, value: Option<Value>) -> Result<(String, Option<Value>), String> {
    let Some((parent, name)) = key.rsplit_once(delimiter) else {
        return Ok((key.to_owned(), value));
    };
    let mut map = match descend(grains, parent, delimiter) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Map(map)) => map.clone(),
        Some(other) => {
            let other = plain_text(other);
            return Err(format!("The key '{parent}' value is '{other}', which is no dict that could hold '{name}'."));
        }
    };
    match value {
        Some(value) => map.set(name, value),
        None => drop(map.take(name)),
    }
    nest(grains, parent, delimiter, Some(map.into()))
}

/// Writes grains into the file and has them read again; returns what was set.
fn write(cx: &ModuleContext, new: Map, destructive: bool) -> Result<Map, CallError> {
    let path = path(cx)?;
    {
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut grains = read(&path)?;
        for (key, value) in &new {
            if value.is_null() && destructive {
                grains.shift_remove(key);
            } else {
                grains.insert(key.clone(), value.clone());
            }
        }
        let text = yaml::dump_in(&grains.into(), KeyOrder::Sorted);
        let written = replace::write(&path, text.as_bytes());
        written.map_err(|error| {
            CallError::Failed(format!(
                "Unable to write to grains file at {}. Check permissions. {error}",
                path.display()
            ))
        })?;
    }
    match cx.reload.reload() {
        // Without a daemon there is nobody who knows old ones.
        Ok(()) | Err(NotDone::NoDaemon(_)) => {}
        // A daemon looks at the file by itself, if not at once.
        Err(NotDone::Refused(why)) => warn!(why, "the grains are written and not yet in force"),
    }
    Ok(new)
}

fn path(cx: &ModuleContext) -> Result<PathBuf, CallError> {
    let folder = cx.config.text("conf_dir").filter(|folder| !folder.is_empty());
    let folder = folder.ok_or_else(|| CallError::Failed("this minion has no folder of configuration".to_owned()))?;
    Ok(PathBuf::from(folder).join(FILE))
}

/// Reads the file. One that is no map of grains is not overwritten.
fn read(path: &std::path::Path) -> Result<Map, CallError> {
    let failed = |why: String| CallError::Failed(format!("Unable to read existing grains file: {why}"));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed(error.to_string())),
        Ok(meta) if meta.len() > MAX_FILE => return Err(failed(format!("it is larger than {MAX_FILE} bytes"))),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match yaml::load(&text, &Source { name: &path.display().to_string() }) {
        Ok(Value::Map(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(failed(format!("{} is not a map", other.kind()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::map;

    use super::*;
    use crate::modules::find;

    struct Scene {
        cx: ModuleContext,
        folder: tempfile::TempDir,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("grains"), "kept: 1\n").unwrap();
        let config = map! { "conf_dir" => folder.path().display().to_string() };
        let grains = map! { "role" => "web", "roles" => vec!["a"], "apps" => map! { "one" => map! { "port" => 1 } } };
        Scene { cx: ModuleContext::offline("m1", Arc::new(config), Arc::new(grains)), folder }
    }

    impl Scene {
        #[track_caller]
        fn check(&self, fun: &str, args: &[&str], json: &str, file: &str) {
            let args = args.iter().map(|arg| yaml::cli_arg(arg)).collect();
            let outcome = find(fun).expect("a function").call(&self.cx, args, Map::new()).expect("an outcome");
            assert_eq!(outcome.ret.to_json().to_string(), json);
            assert_eq!(std::fs::read_to_string(self.folder.path().join("grains")).unwrap(), file);
        }
    }

    #[test]
    fn a_grain_is_set_beside_the_others() {
        let scene = scene();
        scene.check("grains.setval", &["rack", "7"], r#"{"rack":7}"#, "kept: 1\nrack: 7\n");
        scene.check("grains.setvals", &["{a: 1, rack: 8}"], r#"{"a":1,"rack":8}"#, "a: 1\nkept: 1\nrack: 8\n");
        let gone = r#"{"comment":"","changes":{"rack":null},"result":true}"#;
        scene.check("grains.delkey", &["rack"], gone, "a: 1\nkept: 1\n");
        let none = r#"{"comment":"","changes":{"a":null},"result":true}"#;
        scene.check("grains.delval", &["a"], none, "a: null\nkept: 1\n");
    }

    #[test]
    fn lists_grow_and_shrink() {
        let scene = scene();
        scene.check("grains.append", &["roles", "b"], r#"{"roles":["a","b"]}"#, "kept: 1\nroles:\n- a\n- b\n");
        let same = "kept: 1\nroles:\n- a\n- b\n";
        scene.check("grains.append", &["roles", "a"], r#""The val a was already in the list roles""#, same);
        scene.check("grains.append", &["role", "a"], r#""The key role is not a valid list""#, same);
        scene.check("grains.remove", &["roles", "x"], r#""The val x was not in the list roles""#, same);
        scene.check("grains.remove", &["roles", "a"], r#"{"roles":[]}"#, "kept: 1\nroles: []\n");
    }

    #[test]
    fn nested_grains_are_set_in_their_maps() {
        let scene = scene();
        let changed = r#"{"comment":"","changes":{"apps":{"one":{"port":2}}},"result":true}"#;
        scene.check("grains.set", &["apps:one:port", "2"], changed, "apps:\n  one:\n    port: 2\nkept: 1\n");
        let file = "apps:\n  one:\n    port: 2\nkept: 1\n";
        let complex = r#"{"comment":"The key 'apps' exists but is a dict or a list. Use 'force=True' to overwrite.","changes":{},"result":false}"#;
        scene.check("grains.set", &["apps", "2"], complex, file);
        let set = r#"{"comment":"Grain is already set","changes":{},"result":true}"#;
        scene.check("grains.set", &["role", "web"], set, file);
        let holder = r#"{"comment":"The key 'role' value is 'web', which is no dict that could hold 'x'.","changes":{},"result":false}"#;
        scene.check("grains.set", &["role:x", "2"], holder, file);
    }

    #[test]
    fn a_file_that_is_no_map_is_left_alone() {
        let scene = scene();
        std::fs::write(scene.folder.path().join("grains"), "- precious\n").unwrap();
        let refused =
            find("grains.setval").expect("a function").call(&scene.cx, vec!["a".into(), 1.into()], Map::new());
        assert!(matches!(refused, Err(CallError::Failed(why)) if why.contains("not a map")));
        assert_eq!(std::fs::read_to_string(scene.folder.path().join("grains")).unwrap(), "- precious\n");
    }
}
