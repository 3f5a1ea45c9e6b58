//! `mine`: what this minion tells for others to ask, and what others told.
//!
//! ```yaml
//! # Minion configuration or pillar:
//! mine_functions:
//!   network.ip_addrs: []
//!   test.arg: [a, {b: 1}]
//!   eth0_addrs:                          # another name
//!     - mine_function: network.ip_addrs
//!     - eth0
//! ```

use std::time::Duration;

use proto::map;
use proto::value::{Map, MapExt, Value};

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param, find};

/// How long the master may take.
const WAIT: Duration = Duration::from_secs(60);
/// How many functions are told.
const MAX_FUNCTIONS: usize = 200;
/// What marks a value that says who may see it.
const ACL: &str = "__saltmine_acl__";
const ACL_DATA: &str = "__data__";
const ALLOWED: [&str; 2] = ["allow_tgt", "allow_tgt_type"];

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "mine.delete",
        doc: "Have the master forget one of this minion's functions.

CLI Example:

.. code-block:: bash

    salt '*' mine.delete 'network.interfaces'",
        params: &[Param::required("fun")],
        run: |cx, args| ask(cx, "_mine_delete", map! { "fun" => args.text("fun") }),
    },
    Function {
        name: "mine.flush",
        doc: "Have the master forget all that this minion told.

CLI Example:

.. code-block:: bash

    salt '*' mine.flush",
        params: &[],
        run: |cx, _| ask(cx, "_mine_flush", Map::new()),
    },
    Function {
        name: "mine.get",
        doc: "Return what the minions of a target told, by minion; of several functions by function.

tgt
    Whose.
fun
    The function; several with commas between, or a list.
tgt_type
    How to read the target: glob, grain, list, compound, pillar and so on.

CLI Example:

.. code-block:: bash

    salt '*' mine.get '*' network.interfaces
    salt '*' mine.get 'os:Fedora' network.interfaces grain",
        params: &[
            Param::required("tgt"),
            Param::required("fun"),
            Param::optional("tgt_type", Fallback::Text("glob")),
            Param::optional("exclude_minion", Fallback::Bool(false)),
        ],
        run: get,
    },
    Function {
        name: "mine.send",
        doc: "Run a function and tell the master what it returned.

name
    The function, or the name under which it is told.
mine_function
    The function, if the name is another one.
allow_tgt, allow_tgt_type
    Who may ask for it.

CLI Example:

.. code-block:: bash

    salt '*' mine.send network.ip_addrs interface=eth0
    salt '*' mine.send eth0_ip_addrs mine_function=network.ip_addrs interface=eth0",
        params: &[Param::required("name"), Param::rest(), Param::keywords()],
        run: send,
    },
    Function {
        name: "mine.update",
        doc: "Run the functions of mine_functions and tell the master what they returned.

clear
    True has the master forget first what was told before.

CLI Example:

.. code-block:: bash

    salt '*' mine.update",
        params: &[Param::optional("clear", Fallback::Bool(false)), Param::optional("mine_functions", Fallback::None)],
        run: update,
    },
    Function {
        name: "mine.valid",
        doc: "Return the functions of mine_functions that this minion has.

CLI Example:

.. code-block:: bash

    salt '*' mine.valid",
        params: &[],
        run: valid,
    },
];

/// A function that is told.
struct Told {
    name: String,
    fun: String,
    args: Vec<Value>,
    kwargs: Map,
    /// Who may ask for it.
    allowed: Map,
}

impl Told {
    /// Reads one entry: a list of arguments, a map of them, or nothing.
    fn read(name: &str, definition: &Value) -> Told {
        let (mut args, mut kwargs) = (Vec::new(), Map::new());
        match definition {
            Value::Map(map) => kwargs = map.clone(),
            Value::List(list) => {
                for one in list {
                    match one {
                        Value::Map(map) => kwargs.extend(map.clone()),
                        other => args.push(other.clone()),
                    }
                }
            }
            _ => {}
        }
        Told::new(name, args, kwargs)
    }

    fn new(name: &str, args: Vec<Value>, mut kwargs: Map) -> Told {
        let fun = kwargs.take("mine_function").and_then(|fun| fun.as_str().map(str::to_owned));
        let mut allowed = Map::new();
        for key in ALLOWED {
            kwargs.take(key).into_iter().for_each(|value| allowed.set(key, value));
        }
        Told { name: name.to_owned(), fun: fun.unwrap_or_else(|| name.to_owned()), args, kwargs, allowed }
    }

    /// Runs the function, and returns what is told of it.
    fn value(self, cx: &ModuleContext) -> Result<(Value, Value), CallError> {
        let function = find(&self.fun)
            .filter(|function| function.module() != "mine")
            .ok_or_else(|| CallError::Failed(format!("the mine cannot tell '{}': it is not available", self.fun)))?;
        let ret = function.call(cx, self.args, self.kwargs)?.ret;
        if self.allowed.is_empty() {
            return Ok((self.name.into(), ret));
        }
        let mut guarded = map! { ACL => 1, ACL_DATA => ret };
        guarded.extend(self.allowed);
        Ok((self.name.into(), guarded.into()))
    }
}

fn ask(cx: &ModuleContext, cmd: &str, fields: Map) -> Result<Outcome, CallError> {
    let answer = cx.master.ask(cmd, fields, WAIT).map_err(|error| CallError::Failed(error.to_string()))?;
    // Not `Outcome::from`: what a minion told is no verdict on this job.
    Ok(Outcome { ret: answer, retcode: 0, out: None })
}

fn get(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let fields = map! {
        "tgt" => args.value("tgt").clone(),
        "fun" => args.value("fun").clone(),
        "tgt_type" => args.text("tgt_type"),
    };
    let mut found = ask(cx, "_mine_get", fields)?;
    if args.flag("exclude_minion")
        && let Value::Map(by_minion) = &mut found.ret
    {
        by_minion.take(&cx.id);
    }
    Ok(found)
}

fn send(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let mut kwargs = args.extra().clone();
    kwargs.retain(|key, _| !key.as_str().is_some_and(|key| key.starts_with("__pub_")));
    let told = Told::new(&args.text("name").unwrap_or_default(), args.rest().to_vec(), kwargs);
    let data: Map = [told.value(cx)?].into_iter().collect();
    ask(cx, "_mine", map! { "data" => data, "clear" => false })
}

/// Returns what is configured to be told: in the configuration, and over it in the pillar.
fn configured(cx: &ModuleContext, given: &Value) -> Vec<Told> {
    let pillar = cx.pillar.get();
    let sources = [cx.config.at("mine_functions"), pillar.at("mine_functions"), Some(given)];
    let mut all = Map::new();
    for source in sources.into_iter().flatten() {
        match source {
            Value::Map(map) => all.extend(map.clone()),
            Value::List(names) => names.iter().for_each(|name| match name {
                Value::Map(map) => all.extend(map.clone()),
                name => drop(all.insert(name.clone(), Value::Null)),
            }),
            _ => {}
        }
    }
    all.iter().take(MAX_FUNCTIONS).map(|(name, definition)| Told::read(&name.to_key(), definition)).collect()
}

fn update(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let mut data = Map::new();
    for told in configured(cx, args.value("mine_functions")) {
        let name = told.name.clone();
        match told.value(cx) {
            Ok((name, value)) => drop(data.insert(name, value)),
            Err(stopped @ CallError::Stopped(_)) => return Err(stopped),
            Err(error) => tracing::error!(function = name, %error, "the mine does not tell this function"),
        }
    }
    ask(cx, "_mine", map! { "data" => data, "clear" => args.flag("clear") })
}

fn valid(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let known = configured(cx, &Value::Null).into_iter().filter(|told| find(&told.fun).is_some());
    let one = |told: Told| (Value::from(told.name), Value::Map(map! { told.fun => told.args }));
    Ok(Value::Map(known.map(one).collect()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::{AskError, MasterRequests};
    use std::sync::{Arc, Mutex};

    #[derive(Default)]
    struct Master(Mutex<Vec<(String, Map)>>);

    impl MasterRequests for Master {
        fn ask(&self, cmd: &str, fields: Map, _: Duration) -> Result<Value, AskError> {
            self.0.lock().expect("not poisoned").push((cmd.to_owned(), fields));
            Ok(map! { "m1" => 1, "m2" => map! { "success" => false } }.into())
        }
    }

    fn call(fun: &str, args: Vec<Value>, kwargs: Map) -> (Result<Outcome, CallError>, Vec<(String, Map)>) {
        let functions = map! {
            "test.arg" => Value::List(vec!["x".into(), map! { "k" => 1 }.into()]),
            "mine.update" => Value::Null,
            "alias" => map! { "mine_function" => "test.echo", "text" => "hi", "allow_tgt" => "web*" },
        };
        let mut cx =
            ModuleContext::offline("m1", Arc::new(map! { "mine_functions" => functions }), Arc::new(Map::new()));
        let master = Arc::new(Master::default());
        cx.master = Arc::clone(&master) as Arc<dyn MasterRequests>;
        cx.pillar.set(map! { "mine_functions" => vec!["test.ping", "no.such"] });
        let outcome = find(fun).expect("a function").call(&cx, args, kwargs);
        let asked = master.0.lock().expect("not poisoned").clone();
        (outcome, asked)
    }

    #[test]
    fn configured_functions_are_run_and_told() {
        let (_, asked) = call("mine.update", vec![], Map::new());
        let [(cmd, fields)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((cmd.as_str(), fields.at("clear")), ("_mine", Some(&false.into())));
        let data = fields.at("data").and_then(Value::as_map).expect("a map");
        assert_eq!(data.at("test.ping"), Some(&true.into()));
        assert_eq!(data.at("test.arg").and_then(|told| told.get("args")), Some(&vec!["x"].into()));
        let guarded = map! { ACL => 1, ACL_DATA => "hi", "allow_tgt" => "web*" };
        assert_eq!(data.at("alias"), Some(&guarded.into()));
        assert_eq!(data.len(), 3, "neither what is not there nor the mine itself: {data:?}");
    }

    #[test]
    fn one_function_can_be_told_under_another_name() {
        let (_, asked) =
            call("mine.send", vec!["greeting".into()], map! { "mine_function" => "test.echo", "text" => "hi" });
        assert_eq!(asked[0].1.at("data"), Some(&map! { "greeting" => "hi" }.into()));
        assert!(matches!(call("mine.send", vec!["no.such".into()], Map::new()).0, Err(CallError::Failed(_))));
    }

    #[test]
    fn what_others_told_is_no_verdict_on_the_job() {
        let (outcome, asked) = call("mine.get", vec!["*".into(), "test.ping".into()], Map::new());
        assert_eq!(outcome.expect("an outcome").retcode, 0);
        assert_eq!(asked[0].1, map! { "tgt" => "*", "fun" => "test.ping", "tgt_type" => "glob" });
        let (outcome, _) = call("mine.get", vec!["*".into(), "f".into()], map! { "exclude_minion" => true });
        assert_eq!(outcome.expect("an outcome").ret.get("m1"), None);
    }
}
