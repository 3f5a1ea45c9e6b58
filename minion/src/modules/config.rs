//! `config`: values from the minion's configuration, and the grains behind it.

use proto::value::Value;

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param, descend};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "config.get",
        doc: "Return a value from the minion's configuration, else its grains, else its pillar; the default if none has it.

key
    What to look for. A colon goes down into nested values.
default
    What to return if there is nothing.
delimiter
    What stands between the names of a nested key, instead of the colon.
omit_opts, omit_grains, omit_pillar
    True leaves the configuration, the grains or the pillar out.
omit_master
    Accepted and without effect.

CLI Example:

.. code-block:: bash

    salt '*' config.get beacons
    salt '*' config.get slack:api_url default=none",
        params: &[
            Param::required("key"),
            Param::optional("default", Fallback::Text("")),
            Param::optional("delimiter", Fallback::Text(":")),
            Param::optional("merge", Fallback::None),
            Param::optional("omit_opts", Fallback::Bool(false)),
            Param::optional("omit_pillar", Fallback::Bool(false)),
            Param::optional("omit_master", Fallback::Bool(false)),
            Param::optional("omit_grains", Fallback::Bool(false)),
        ],
        run: get,
    },
    Function {
        name: "config.option",
        doc: "Return a value of the minion's configuration by its whole name; the default if it is not set.

CLI Example:

.. code-block:: bash

    salt '*' config.option id",
        params: &[
            Param::required("value"),
            Param::optional("default", Fallback::Text("")),
            Param::optional("omit_opts", Fallback::Bool(false)),
            Param::optional("omit_grains", Fallback::Bool(false)),
        ],
        run: option,
    },
];

/// Returns a value whatever it is: not `Outcome::from`, since what is configured is no verdict on this job.
fn plain(value: &Value) -> Outcome {
    Outcome { ret: value.clone(), retcode: 0, out: None }
}

fn get(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    if args.flag("merge") {
        return Err(CallError::Invocation("the option 'merge' is not supported by this minion".to_owned()));
    }
    let key = args.text("key").unwrap_or_default();
    let delimiter = args.text("delimiter").filter(|text| !text.is_empty()).unwrap_or_else(|| ":".to_owned());
    let pillar = cx.pillar.get();
    let found = [("omit_opts", &cx.config), ("omit_grains", &cx.grains), ("omit_pillar", &pillar)]
        .into_iter()
        .filter(|(omit, _)| !args.flag(omit))
        .find_map(|(_, map)| descend(map, &key, &delimiter));
    Ok(plain(found.unwrap_or(args.value("default"))))
}

fn option(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let key = Value::from(args.text("value").unwrap_or_default());
    let found = [("omit_opts", &cx.config), ("omit_grains", &cx.grains)]
        .into_iter()
        .filter(|(omit, _)| !args.flag(omit))
        .find_map(|(_, map)| map.get(&key));
    Ok(plain(found.unwrap_or(args.value("default"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use proto::map;
    use proto::value::Map;
    use std::sync::Arc;

    fn call(fun: &str, key: &str, options: Map) -> Result<Outcome, CallError> {
        let config = map! { "id" => "m1", "slack" => map! { "api_url" => "http://x", "success" => false }, "a:b" => 1 };
        let grains = map! { "id" => "grain", "os" => "Debian" };
        let cx = ModuleContext::offline("m1", Arc::new(config), Arc::new(grains));
        find(fun).expect("a function").call(&cx, vec![key.into()], options)
    }

    fn value(fun: &str, key: &str, options: Map) -> Value {
        call(fun, key, options).expect("an outcome").ret
    }

    #[test]
    fn the_configuration_comes_before_the_grains() {
        assert_eq!(value("config.get", "id", Map::new()), "m1".into());
        assert_eq!(value("config.get", "id", map! { "omit_opts" => true }), "grain".into());
        assert_eq!(value("config.get", "os", Map::new()), "Debian".into());
        assert_eq!(value("config.get", "os", map! { "omit_grains" => true, "default" => 7 }), 7.into());
        assert_eq!(value("config.get", "slack:api_url", Map::new()), "http://x".into());
        assert_eq!(value("config.get", "slack|api_url", map! { "delimiter" => "|" }), "http://x".into());
        assert_eq!(value("config.get", "none", Map::new()), "".into());
        assert_eq!(value("config.option", "a:b", Map::new()), 1.into());
        assert_eq!(value("config.option", "slack:api_url", Map::new()), "".into());
    }

    #[test]
    fn a_configured_failure_is_no_failure() {
        assert_eq!(call("config.get", "slack", Map::new()).expect("an outcome").retcode, 0);
        assert!(call("config.get", "slack", map! { "merge" => "recurse" }).is_err());
    }
}
