//! `publish`: has other minions do something, as far as the master's option `peer` lets this one, or the master itself
//! (`peer_run`).

use std::time::{Duration, Instant};

use proto::map;
use proto::value::{Map, Value};
use render::yaml;

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

/// How long the master may take for one answer.
const WAIT: Duration = Duration::from_secs(60);
/// How often the master is asked for returns.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The longest time that returns are waited for.
const MAX_TIMEOUT: Duration = Duration::from_secs(3_600);

const PUBLISH: &[Param] = &[
    Param::required("tgt"),
    Param::required("fun"),
    Param::optional("arg", Fallback::None),
    Param::optional("tgt_type", Fallback::Text("glob")),
    Param::optional("returner", Fallback::Text("")),
    Param::optional("timeout", Fallback::Int(5)),
];

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "publish.full_data",
        doc: "Have other minions run a function; return what came back, with all that was said about it.

tgt, fun, arg, tgt_type, returner, timeout
    As for publish.publish.

CLI Example:

.. code-block:: bash

    salt system.example.com publish.full_data '*' cmd.run 'ls -la /tmp'",
        params: PUBLISH,
        run: |cx, args| publish(cx, &args, "full").map(plain),
    },
    Function {
        name: "publish.publish",
        doc: "Have other minions run a function; return what each returned. The master's option peer must let this minion.

tgt
    Who is to run it.
fun
    The function; several with commas between.
arg
    Its argument; several as a list.
tgt_type
    How to read the target: glob, grain, list, compound, pillar and so on.
returner
    Where the minions send their returns too.
timeout
    Seconds in which returns are waited for.

CLI Example:

.. code-block:: bash

    salt system.example.com publish.publish '*' user.add 'foo,1020,1020'
    salt system.example.com publish.publish 'os:Fedora' network.interfaces '' grain",
        params: PUBLISH,
        run: |cx, args| {
            let returns = publish(cx, &args, "clean")?;
            let ret = |(id, told): (Value, Value)| (id, told.get("ret").cloned().unwrap_or_default());
            Ok(plain(returns.into_iter().map(ret).collect()))
        },
    },
    Function {
        name: "publish.runner",
        doc: "Have the master run a function of its own. The master's option peer_run must let this minion.

fun
    The runner's function.
arg
    Its argument; several as a list, keywords as name=value.
timeout
    Seconds that the master may take.

CLI Example:

.. code-block:: bash

    salt publish.runner manage.down",
        params: &[
            Param::required("fun"),
            Param::optional("arg", Fallback::None),
            Param::optional("timeout", Fallback::Int(5)),
        ],
        run: |cx, args| {
            let fields = map! { "fun" => args.text("fun"), "arg" => arguments(args.value("arg")),
            "tmo" => args.value("timeout").clone() };
            let limit = timeout(&args)?.max(WAIT);
            let ret = cx.master.ask("minion_runner", fields, limit);
            // What the runner found is no verdict on this job.
            Ok(Outcome { ret: ret.map_err(failed)?, retcode: 0, out: None })
        },
    },
];

/// Publishes, and waits for the returns: each minion's is `{ret: …}`.
fn publish(cx: &ModuleContext, args: &Args, form: &str) -> Result<Map, CallError> {
    let until = Instant::now() + timeout(args)?;
    let fields = map! {
        "tgt" => args.value("tgt").clone(), "fun" => args.text("fun"), "arg" => arguments(args.value("arg")),
        "tgt_type" => args.text("tgt_type"), "ret" => args.text("returner"), "tmo" => args.value("timeout").clone(),
        "form" => form,
    };
    let job = cx.master.ask("minion_pub", fields, WAIT).map_err(failed)?;
    // Not allowed, or nobody is meant: as in Salt, both are told by nothing.
    let Some(jid) = job.get("jid").and_then(Value::as_str) else { return Ok(Map::new()) };
    let expected = job.get("minions").and_then(Value::as_list).map_or(0, <[Value]>::len);
    loop {
        let returns = cx.master.ask("pub_ret", map! { "jid" => jid }, WAIT).map_err(failed)?;
        let returns = returns.as_map().cloned().unwrap_or_default();
        if returns.len() >= expected || Instant::now() >= until {
            return Ok(returns);
        }
        cx.pause(ASK_EVERY)?;
    }
}

fn timeout(args: &Args) -> Result<Duration, CallError> {
    let seconds = u64::try_from(args.integer("timeout")?).unwrap_or(0);
    Ok(Duration::from_secs(seconds).min(MAX_TIMEOUT))
}

/// Returns the arguments: what is given is one of them, or a list.
fn arguments(given: &Value) -> Vec<Value> {
    match given {
        Value::Str(text) => match yaml::cli_arg(text) {
            Value::List(items) => items,
            Value::Null => Vec::new(),
            Value::Str(text) if text.is_empty() => Vec::new(),
            one => vec![one],
        },
        Value::List(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

fn plain(ret: Map) -> Outcome {
    // What others returned is no verdict on this job.
    Outcome { ret: ret.into(), retcode: 0, out: None }
}

fn failed(error: super::AskError) -> CallError {
    CallError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proto::value::MapExt as _;

    use super::*;
    use crate::modules::{AskError, MasterRequests, find};

    /// A master that lets `test.*` be published: `m1` returns at once, `m2` at the second question.
    #[derive(Default)]
    struct Master(Mutex<Vec<(String, Map)>>);

    impl MasterRequests for Master {
        fn ask(&self, cmd: &str, fields: Map, _: Duration) -> Result<Value, AskError> {
            let mut asked = self.0.lock().expect("not poisoned");
            asked.push((cmd.to_owned(), fields.clone()));
            let questions = asked.iter().filter(|(cmd, _)| cmd == "pub_ret").count();
            let ret = |value: bool| map! { "ret" => value };
            Ok(match cmd {
                "minion_pub" if fields.text("fun").is_some_and(|fun| fun.starts_with("test.")) => {
                    map! { "jid" => "20260101000000000000", "minions" => vec!["m1", "m2"] }.into()
                }
                "pub_ret" if questions < 2 => map! { "m1" => ret(true) }.into(),
                "pub_ret" => map! { "m1" => ret(true), "m2" => ret(false) }.into(),
                "minion_runner" => vec!["m1"].into(),
                _ => Map::new().into(),
            })
        }
    }

    fn call(fun: &str, args: Vec<Value>, kwargs: Map) -> (Value, Vec<(String, Map)>) {
        let mut cx = ModuleContext::offline("m1", Arc::default(), Arc::default());
        let master = Arc::new(Master::default());
        cx.master = Arc::clone(&master) as Arc<dyn MasterRequests>;
        let outcome = find(fun).expect("a function").call(&cx, args, kwargs).expect("an outcome");
        assert_eq!(outcome.retcode, 0);
        let asked = master.0.lock().expect("not poisoned").clone();
        (outcome.ret, asked)
    }

    #[test]
    fn returns_are_waited_for_until_all_are_there() {
        let (ret, asked) = call("publish.publish", vec!["*".into(), "test.echo".into(), "hi".into()], Map::new());
        assert_eq!(ret, map! { "m1" => true, "m2" => false }.into());
        let (cmd, fields) = &asked[0];
        assert_eq!(
            (cmd.as_str(), fields.at("arg"), fields.text("form")),
            ("minion_pub", Some(&vec!["hi"].into()), Some("clean"))
        );
        assert_eq!(asked[1].1, map! { "jid" => "20260101000000000000" });
        let (ret, _) = call("publish.full_data", vec!["*".into(), "test.ping".into()], Map::new());
        assert_eq!(ret.get("m2"), Some(&map! { "ret" => false }.into()));
    }

    #[test]
    fn after_the_timeout_there_is_what_there_is() {
        let (ret, asked) = call("publish.publish", vec!["*".into(), "test.ping".into()], map! { "timeout" => 0 });
        assert_eq!((ret, asked.len()), (map! { "m1" => true }.into(), 2));
    }

    #[test]
    fn what_may_not_be_published_is_told_by_nothing() {
        let (ret, asked) = call("publish.publish", vec!["*".into(), "cmd.run".into(), "id".into()], Map::new());
        assert_eq!((ret, asked.len()), (Map::new().into(), 1));
    }

    #[test]
    fn a_runner_has_its_arguments_as_a_list() {
        let (ret, asked) = call("publish.runner", vec!["manage.up".into(), "[1, 'a=b']".into()], Map::new());
        assert_eq!(ret, vec!["m1"].into());
        assert_eq!(asked[0].1.at("arg"), Some(&Value::List(vec![1.into(), "a=b".into()])));
        for (given, expected) in [(Value::Null, 0), ("".into(), 0), (7.into(), 1), (vec![1, 2].into(), 2)] {
            assert_eq!(arguments(&given).len(), expected, "{given:?}");
        }
    }
}
