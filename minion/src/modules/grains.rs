//! `grains`: what is known about this host.

use proto::value::{Map, MapExt, Value};

use super::args::plain_text;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param, descend};

mod file;

/// The outputter that Salt names for most of these.
const NESTED: &str = "nested";

pub(super) const FUNCTIONS: &[Function] = &[
    file::APPEND,
    file::DELKEY,
    file::DELVAL,
    Function {
        name: "grains.get",
        doc: "Return one grain, or the default if there is none such. A colon goes down into nested grains.

CLI Example:

.. code-block:: bash

    salt '*' grains.get os
    salt '*' grains.get pkg:apache",
        params: &[
            Param::required("key"),
            Param::optional("default", Fallback::Text("")),
            Param::optional("delimiter", Fallback::Text(":")),
            Param::optional("ordered", Fallback::Bool(true)),
        ],
        run: get,
    },
    Function {
        name: "grains.has_value",
        doc: "Tell whether a grain is there and not empty.

CLI Example:

.. code-block:: bash

    salt '*' grains.has_value pkg:apache",
        params: &[Param::required("key")],
        run: has_value,
    },
    Function {
        name: "grains.item",
        doc: "Return the grains of these names.

CLI Example:

.. code-block:: bash

    salt '*' grains.item os osrelease oscodename",
        params: &[Param::rest(), Param::optional("default", Fallback::Text(""))],
        run: item,
    },
    Function {
        name: "grains.items",
        doc: "Return all grains of this minion.

CLI Example:

.. code-block:: bash

    salt '*' grains.items",
        params: &[Param::optional("sanitize", Fallback::Bool(false))],
        run: items,
    },
    Function {
        name: "grains.ls",
        doc: "Return the names of all grains.

CLI Example:

.. code-block:: bash

    salt '*' grains.ls",
        params: &[],
        run: ls,
    },
    file::REMOVE,
    file::SET,
    file::SETVAL,
    file::SETVALS,
];

/// The grains that `sanitize=True` hides, and what stands in for them.
const SANITIZED: [(&str, &str); 5] = [
    ("serialnumber", "MINION_SERIAL"),
    ("domain", "DOMAINNAME"),
    ("fqdn", "MINION.DOMAINNAME"),
    ("id", "MINION"),
    ("host", "MINION"),
];

fn get(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let key = args.text("key").unwrap_or_default();
    let delimiter = args.text("delimiter").filter(|text| !text.is_empty()).unwrap_or_else(|| ":".to_owned());
    let value = descend(&cx.grains, &key, &delimiter).unwrap_or(args.value("default"));
    // Not `Outcome::from`: what a grain says is no verdict on this job.
    Ok(Outcome { ret: value.clone(), retcode: 0, out: None })
}

fn has_value(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let key = args.text("key").unwrap_or_default();
    Ok(Value::Bool(descend(&cx.grains, &key, ":").is_some_and(Value::is_truthy)).into())
}

fn item(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let mut found = Map::new();
    for key in args.rest().iter().map(plain_text) {
        let value = descend(&cx.grains, &key, ":").unwrap_or(args.value("default"));
        found.set(&key, value.clone());
    }
    Ok(shown(found))
}

fn items(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let mut grains = Map::clone(&cx.grains);
    if args.flag("sanitize") {
        for (name, stand_in) in SANITIZED.iter().filter(|(name, _)| cx.grains.at(name).is_some()) {
            grains.set(name, *stand_in);
        }
    }
    Ok(shown(grains))
}

fn ls(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let mut names: Vec<String> = cx.grains.keys().map(Value::to_key).collect();
    names.sort_unstable();
    Ok(Value::from(names).into())
}

fn shown(grains: Map) -> Outcome {
    Outcome { ret: grains.into(), retcode: 0, out: Some(NESTED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use std::sync::Arc;

    fn call(fun: &str, positional: Vec<Value>, keyword: Map) -> Outcome {
        let grains = proto::map! { "role" => "r1", "site" => proto::map! { "dc" => vec!["x", "y1"] }, "id" => "m1" };
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(grains));
        find(fun).expect("a function").call(&cx, positional, keyword).expect("runs")
    }

    #[test]
    fn grains_are_found_at_any_depth() {
        let get = |key: &str| call("grains.get", vec![key.into()], Map::new()).ret;
        assert_eq!((get("role"), get("site:dc:1"), get("none")), ("r1".into(), "y1".into(), "".into()));
        assert_eq!(call("grains.get", vec!["none".into(), 7.into()], Map::new()).ret, 7.into());
        let keyword = proto::map! { "delimiter" => "/" };
        assert_eq!(call("grains.get", vec!["site/dc/0".into()], keyword).ret, "x".into());
        assert_eq!(call("grains.has_value", vec!["site:no".into()], Map::new()).ret, false.into());
    }

    #[test]
    fn several_grains_are_shown_nested() {
        let outcome = call("grains.item", vec!["role".into(), "no".into()], Map::new());
        assert_eq!(outcome, shown(proto::map! { "role" => "r1", "no" => "" }));
        assert_eq!(call("grains.ls", vec![], Map::new()).ret, vec!["id", "role", "site"].into());
    }

    #[test]
    fn names_can_be_hidden() {
        let outcome = call("grains.items", vec![], proto::map! { "sanitize" => true });
        assert_eq!(outcome.ret.get("id"), Some(&"MINION".into()));
        assert_eq!(outcome.ret.get("role"), Some(&"r1".into()));
    }
}
