//! `pillar`: what the master's files say to this minion alone.

use proto::value::{Map, MapExt, Value};

use super::{Args, AskError, CallError, Fallback, Function, ModuleContext, Outcome, Param, PillarRequest, descend};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "pillar.fetch",
        doc: "The same as pillar.get.

CLI Example:

.. code-block:: bash

    salt '*' pillar.fetch pkg:apache",
        params: GET,
        run: get,
    },
    Function {
        name: "pillar.get",
        doc: "Return a value of the pillar that this minion has in memory; the default if there is none.

key
    What to look for. A colon goes down into nested values.
default
    What to return if there is nothing.
merge
    True merges what is found into the default, if both are maps.
delimiter
    What stands between the names of a nested key, instead of the colon.
pillarenv, saltenv
    Have the master compile the pillar for these environments, instead of what is in memory.

CLI Example:

.. code-block:: bash

    salt '*' pillar.get pkg:apache
    salt '*' pillar.get abc::def|ghi delimiter='|'",
        params: GET,
        run: get,
    },
    Function {
        name: "pillar.item",
        doc: "Return the values of these keys of the pillar in memory; the default for those that there are not.

CLI Example:

.. code-block:: bash

    salt '*' pillar.item foo
    salt '*' pillar.item foo:bar
    salt '*' pillar.item foo bar baz",
        params: &[Param::rest(), Param::keywords()],
        run: item,
    },
    Function {
        name: "pillar.items",
        doc: "Have the master compile this minion's pillar and return it. What is in memory stays as it was.

pillar
    A map of values that go before what the files say.
pillarenv, saltenv
    The environments, instead of the configured ones.

CLI Example:

.. code-block:: bash

    salt '*' pillar.items
    salt '*' pillar.items pillarenv=dev",
        params: &[
            Param::rest(),
            Param::optional("pillar", Fallback::None),
            Param::optional("pillar_enc", Fallback::None),
            Param::optional("pillarenv", Fallback::None),
            Param::optional("saltenv", Fallback::None),
        ],
        run: items,
    },
    Function {
        name: "pillar.keys",
        doc: "Return the keys of the map under a key of the pillar in memory.

CLI Example:

.. code-block:: bash

    salt '*' pillar.keys web:sites",
        params: &[Param::required("key"), Param::optional("delimiter", Fallback::Text(":"))],
        run: keys,
    },
    Function {
        name: "pillar.ls",
        doc: "Have the master compile this minion's pillar and return the names of its top level.

CLI Example:

.. code-block:: bash

    salt '*' pillar.ls",
        params: &[Param::rest()],
        run: |cx, _| Ok(names(&compiled(cx, PillarRequest::default())?).into()),
    },
    Function {
        name: "pillar.raw",
        doc: "Return the pillar in memory, or the value of one of its keys.

CLI Example:

.. code-block:: bash

    salt '*' pillar.raw
    salt '*' pillar.raw key='roles'",
        params: &[Param::optional("key", Fallback::None)],
        run: raw,
    },
];

const GET: &[Param] = &[
    Param::required("key"),
    Param::optional("default", Fallback::Text("")),
    Param::optional("merge", Fallback::Bool(false)),
    Param::optional("merge_nested_lists", Fallback::None),
    Param::optional("delimiter", Fallback::Text(":")),
    Param::optional("pillarenv", Fallback::None),
    Param::optional("saltenv", Fallback::None),
];

/// Returns a value whatever it is: what a pillar says is no verdict on this job.
fn plain(value: impl Into<Value>) -> Outcome {
    Outcome { ret: value.into(), retcode: 0, out: None }
}

fn names(map: &Map) -> Value {
    map.keys().cloned().collect::<Vec<_>>().into()
}

/// Has the master compile the pillar.
fn compiled(cx: &ModuleContext, request: PillarRequest<'_>) -> Result<Map, CallError> {
    let request = PillarRequest { grains: (*cx.grains).clone(), config: Some(&cx.config), ..request };
    request.ask(&*cx.master).map_err(|error: AskError| CallError::Failed(format!("Pillar was not compiled: {error}")))
}

fn environments(args: &Args) -> PillarRequest<'static> {
    PillarRequest { pillarenv: args.text("pillarenv"), saltenv: args.text("saltenv"), ..PillarRequest::default() }
}

fn get(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let elsewhere = args.text("pillarenv").is_some() || args.text("saltenv").is_some();
    let pillar = if elsewhere { compiled(cx, environments(&args))?.into() } else { cx.pillar.get() };
    let key = args.text("key").unwrap_or_default();
    let found = descend(&pillar, &key, &delimiter(&args)).or_else(|| pillar.at(&key));
    let default = args.value("default");
    Ok(plain(match (found, default) {
        (None, default) => default.clone(),
        (Some(Value::Map(found)), Value::Map(default)) if args.flag("merge") => {
            let mut merged = default.clone();
            merge(&mut merged, found);
            merged.into()
        }
        (Some(found), _) => found.clone(),
    }))
}

fn delimiter(args: &Args) -> String {
    args.text("delimiter").filter(|text| !text.is_empty()).unwrap_or_else(|| ":".to_owned())
}

fn merge(into: &mut Map, later: &Map) {
    for (key, value) in later {
        match (into.get_mut(key), value) {
            (Some(Value::Map(earlier)), Value::Map(later)) => merge(earlier, later),
            (Some(earlier), value) => *earlier = value.clone(),
            (None, value) => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn item(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let pillar = cx.pillar.get();
    let default = args.extra().at("default").cloned().unwrap_or_else(|| "".into());
    let delimiter = args.extra().text("delimiter").unwrap_or(":").to_owned();
    let one = |key: &Value| {
        let found = descend(&pillar, &key.to_key(), &delimiter).unwrap_or(&default);
        (key.clone(), found.clone())
    };
    Ok(plain(Value::Map(args.rest().iter().map(one).collect())))
}

fn items(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    if args.text("pillar_enc").is_some() {
        return Err(CallError::Invocation("pillar_enc is not supported by this minion".to_owned()));
    }
    let pillar = match args.value("pillar") {
        Value::Null => None,
        Value::Map(map) => Some(map.clone()),
        other => return Err(CallError::Invocation(format!("pillar must be a map, not {}", other.kind()))),
    };
    let pillar = compiled(cx, PillarRequest { pillar, ..environments(&args) })?;
    // As Salt: what is not whole still comes, and says so.
    let retcode = i64::from(pillar.at("_errors").is_some());
    Ok(Outcome { retcode, ..plain(pillar) })
}

fn keys(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let key = args.text("key").unwrap_or_default();
    let pillar = cx.pillar.get();
    match descend(&pillar, &key, &delimiter(&args)) {
        Some(Value::Map(map)) => Ok(plain(names(map))),
        Some(other) => Err(CallError::Exception {
            kind: "ValueError",
            message: format!("Pillar value in key {key} has type {}, not a map", other.kind()),
        }),
        None => Err(CallError::Exception { kind: "KeyError", message: format!("Pillar key not found: {key}") }),
    }
}

fn raw(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let pillar = cx.pillar.get();
    Ok(plain(match args.text("key") {
        Some(key) => pillar.at(&key).cloned().unwrap_or_else(|| Map::new().into()),
        None => Value::Map((*pillar).clone()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::{MasterRequests, find};
    use proto::map;
    use std::sync::Arc;
    use std::time::Duration;

    struct Master;

    impl MasterRequests for Master {
        fn ask(&self, _: &str, fields: Map, _: Duration) -> Result<Value, AskError> {
            let given = fields.at("pillar_override").cloned();
            Ok(map! { "env" => fields.at("pillarenv").cloned(), "given" => given, "success" => false }.into())
        }
    }

    fn call(fun: &str, args: Vec<Value>, kwargs: Map) -> Result<Outcome, CallError> {
        let mut cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        cx.master = Arc::new(Master);
        cx.pillar
            .set(map! { "web" => map! { "port" => 80, "tls" => map! { "on" => true } }, "roles" => vec!["a", "b"] });
        find(fun).expect("a function").call(&cx, args, kwargs)
    }

    fn value(fun: &str, args: Vec<Value>, kwargs: Map) -> Value {
        call(fun, args, kwargs).expect("an outcome").ret
    }

    #[test]
    fn what_is_in_memory_is_looked_up() {
        assert_eq!(value("pillar.get", vec!["web:port".into()], Map::new()), 80.into());
        assert_eq!(value("pillar.get", vec!["web|tls|on".into()], map! { "delimiter" => "|" }), true.into());
        assert_eq!(value("pillar.get", vec!["none".into()], Map::new()), "".into());
        assert_eq!(value("pillar.get", vec!["roles:1".into()], Map::new()), "b".into());
        let merged = value("pillar.get", vec!["web".into()], map! { "default" => map! { "x" => 1 }, "merge" => true });
        assert_eq!(merged.get("x"), Some(&1.into()));
        assert_eq!(merged.get("port"), Some(&80.into()));
        let both = value("pillar.item", vec!["web:port".into(), "no".into()], map! { "default" => 7 });
        assert_eq!(both, map! { "web:port" => 80, "no" => 7 }.into());
        assert_eq!(value("pillar.keys", vec!["web".into()], Map::new()), vec!["port", "tls"].into());
        assert_eq!(value("pillar.raw", vec!["roles".into()], Map::new()), vec!["a", "b"].into());
        assert!(matches!(call("pillar.keys", vec!["x".into()], Map::new()), Err(CallError::Exception { .. })));
    }

    #[test]
    fn items_are_compiled_by_the_master_and_no_verdict_on_the_job() {
        let outcome = call("pillar.items", vec![], map! { "pillarenv" => "dev", "pillar" => map! { "k" => 1 } });
        let outcome = outcome.expect("an outcome");
        assert_eq!(outcome.ret.get("env"), Some(&"dev".into()));
        assert_eq!(outcome.ret.get("given"), Some(&map! { "k" => 1 }.into()));
        assert_eq!(outcome.retcode, 0);
        assert_eq!(value("pillar.get", vec!["env".into()], map! { "saltenv" => "x" }), Value::Null);
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        let alone = find("pillar.items").expect("a function").call(&cx, vec![], Map::new());
        assert!(matches!(alone, Err(CallError::Failed(why)) if why.contains("no connection")));
    }
}
