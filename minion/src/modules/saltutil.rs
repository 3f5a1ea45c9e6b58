//! `saltutil`: the jobs that run on this minion and how to stop them, and what Salt refreshes and fetches.

use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param, PillarRequest, SIGKILL, SIGTERM};

mod sync;

/// Salt's parameters of the refreshing functions, which always wait here.
const REFRESH: &[Param] = &[Param::optional("async", Fallback::Bool(true)), Param::keywords()];
const REFRESH_PILLAR: &[Param] = &[
    Param::optional("wait", Fallback::Bool(false)),
    Param::optional("timeout", Fallback::Int(30)),
    Param::optional("clean_cache", Fallback::Bool(true)),
    Param::keywords(),
];
/// The highest signal number there is.
const MAX_SIGNAL: i64 = 64;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "saltutil.find_job",
        doc: "Return the data of a job that runs or waits on this minion; an empty map if there is none such.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.find_job <job id>",
        params: &[Param::required("jid")],
        run: find_job,
    },
    Function {
        name: "saltutil.is_running",
        doc: "Return the data of the running jobs whose function matches. Takes a glob.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.is_running state.highstate",
        params: &[Param::required("fun")],
        run: is_running,
    },
    Function {
        name: "saltutil.kill_all_jobs",
        doc: "Send SIGKILL to every running job.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.kill_all_jobs",
        params: &[],
        run: |cx, _| Ok(signal_all(cx, SIGKILL)),
    },
    Function {
        name: "saltutil.kill_job",
        doc: "Send SIGKILL to a job: its processes are killed, and it returns that it was.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.kill_job <job id>",
        params: &[Param::required("jid")],
        run: |cx, args| Ok(Value::from(signal(cx, &jid(&args), SIGKILL)).into()),
    },
    Function {
        name: "saltutil.refresh_beacons",
        doc: "Read the configuration of the beacons again. Done when this returns.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.refresh_beacons",
        params: REFRESH,
        run: refresh,
    },
    Function {
        name: "saltutil.refresh_grains",
        doc: "Find this host's grains again. Done when this returns.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.refresh_grains",
        params: REFRESH,
        run: refresh,
    },
    Function {
        name: "saltutil.refresh_modules",
        doc: "Return True: all functions of this minion are built in, and none can be out of date.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.refresh_modules",
        params: REFRESH,
        run: nothing_to_refresh,
    },
    Function {
        name: "saltutil.refresh_pillar",
        doc: "Have the master compile this minion's pillar again, and keep it. Done when this returns.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.refresh_pillar",
        params: REFRESH_PILLAR,
        run: refresh_pillar,
    },
    Function {
        name: "saltutil.revoke_auth",
        doc: "Refuse: a minion cannot take back its own key. The master can, with `halite key delete`.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.revoke_auth",
        params: &[Param::optional("preserve_minion_cache", Fallback::Bool(false))],
        run: revoke_auth,
    },
    Function {
        name: "saltutil.running",
        doc: "Return the data of all jobs that run or wait on this minion.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.running",
        params: &[],
        run: |cx, _| Ok(Value::from(running(cx)).into()),
    },
    Function {
        name: "saltutil.signal_job",
        doc: "Send a signal to a job.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.signal_job <job id> 15",
        params: &[Param::required("jid"), Param::required("sig")],
        run: signal_job,
    },
    sync::ALL,
    sync::BEACONS,
    sync::CLOUDS,
    sync::ENGINES,
    sync::EXECUTORS,
    sync::GRAINS,
    sync::LOG_HANDLERS,
    sync::MATCHERS,
    sync::MODULES,
    sync::OUTPUT,
    sync::PILLAR,
    sync::PROXYMODULES,
    sync::RENDERERS,
    sync::RETURNERS,
    sync::SDB,
    sync::SERIALIZERS,
    sync::STATES,
    sync::THORIUM,
    sync::TOPS,
    sync::UTILS,
    sync::WRAPPER,
    Function {
        name: "saltutil.term_all_jobs",
        doc: "Send SIGTERM to every running job.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.term_all_jobs",
        params: &[],
        run: |cx, _| Ok(signal_all(cx, SIGTERM)),
    },
    Function {
        name: "saltutil.term_job",
        doc: "Send SIGTERM to a job; what does not end within seconds is killed.

CLI Example:

.. code-block:: bash

    salt '*' saltutil.term_job <job id>",
        params: &[Param::required("jid")],
        run: |cx, args| Ok(Value::from(signal(cx, &jid(&args), SIGTERM)).into()),
    },
];

fn refresh(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    cx.reload.reload().map(|()| Value::Bool(true).into()).map_err(|error| CallError::Failed(error.to_string()))
}

fn refresh_pillar(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let request = PillarRequest { grains: (*cx.grains).clone(), config: Some(&cx.config), ..PillarRequest::default() };
    let pillar =
        request.ask(&*cx.master).map_err(|error| CallError::Failed(format!("Pillar was not compiled: {error}")))?;
    cx.pillar.set(pillar);
    Ok(Value::Bool(true).into())
}

fn nothing_to_refresh(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    Ok(Value::Bool(true).into())
}

fn revoke_auth(cx: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let id = &cx.id;
    Err(CallError::Failed(format!(
        "a minion cannot take back its own key; on the master, `halite key delete {id}` does"
    )))
}

/// Returns all jobs but the one that asks, as Salt does.
fn running(cx: &ModuleContext) -> Vec<Map> {
    cx.jobs.running().into_iter().filter(|job| job.text("jid") != Some(cx.job.jid.as_str())).collect()
}

fn jid(args: &Args) -> String {
    args.text("jid").unwrap_or_default()
}

fn find_job(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let jid = jid(&args);
    let found = running(cx).into_iter().find(|job| job.text("jid") == Some(jid.as_str()));
    Ok(Value::from(found.unwrap_or_default()).into())
}

fn is_running(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let glob = Glob::new(&args.text("fun").unwrap_or_default());
    let matches = |job: &Map| job.text("fun").is_some_and(|fun| glob.matches(fun));
    Ok(Value::from(running(cx).into_iter().filter(matches).collect::<Vec<_>>()).into())
}

fn signal_job(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let number = args.integer("sig")?;
    if !(1..=MAX_SIGNAL).contains(&number) {
        return Err(CallError::Invocation(format!("there is no signal {number}")));
    }
    let number = i32::try_from(number).map_err(|_| CallError::Invocation(format!("there is no signal {number}")))?;
    Ok(Value::from(signal(cx, &jid(&args), number)).into())
}

/// Signals a job; returns Salt's text, which is empty if there is no such job.
fn signal(cx: &ModuleContext, jid: &str, signal: i32) -> String {
    let sent = cx.jobs.signal(jid, signal);
    sent.map(|pid| format!("Signal {signal} sent to job {jid} at pid {pid}")).unwrap_or_default()
}

fn signal_all(cx: &ModuleContext, number: i32) -> Outcome {
    let jobs = running(cx);
    let texts: Vec<String> = jobs.iter().filter_map(|job| Some(signal(cx, job.text("jid")?, number))).collect();
    Value::from(texts).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::{Jobs, find};
    use std::sync::{Arc, Mutex};

    /// Two jobs, of which the second is the one that asks.
    #[derive(Default)]
    struct TwoJobs(Mutex<Vec<(String, i32)>>);

    impl Jobs for TwoJobs {
        fn running(&self) -> Vec<Map> {
            let job = |jid: &str, fun: &str| proto::map! { "pid" => 1804, "fun" => fun, "jid" => jid };
            vec![job("1", "test.sleep"), job("2", "saltutil.running")]
        }

        fn signal(&self, jid: &str, signal: i32) -> Option<u32> {
            self.0.lock().expect("not poisoned").push((jid.to_owned(), signal));
            (jid == "1").then_some(1804)
        }
    }

    fn call(fun: &str, positional: Vec<Value>) -> (Result<Value, CallError>, Vec<(String, i32)>) {
        let jobs = Arc::new(TwoJobs::default());
        let mut cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        (cx.jobs, cx.job.jid) = (Arc::clone(&jobs) as Arc<dyn Jobs>, "2".to_owned());
        let outcome = find(fun).expect("a function").call(&cx, positional, Map::new());
        let signals = jobs.0.lock().expect("not poisoned").clone();
        (outcome.map(|outcome| outcome.ret), signals)
    }

    #[test]
    fn the_asking_job_is_not_shown() {
        let first = Value::from(proto::map! { "pid" => 1804, "fun" => "test.sleep", "jid" => "1" });
        assert_eq!(call("saltutil.running", vec![]).0, Ok(vec![first.clone()].into()));
        assert_eq!(call("saltutil.find_job", vec!["1".into()]).0, Ok(first.clone()));
        assert_eq!(call("saltutil.find_job", vec!["2".into()]).0, Ok(Map::new().into()));
        assert_eq!(call("saltutil.is_running", vec!["test.*".into()]).0, Ok(vec![first].into()));
        assert_eq!(call("saltutil.is_running", vec!["state.*".into()]).0, Ok(Value::List(vec![])));
    }

    #[test]
    fn nothing_is_fetched_and_what_is_impossible_is_refused() {
        assert_eq!(call("saltutil.sync_modules", vec![]).0, Ok(Value::List(vec![])));
        let all = call("saltutil.sync_all", vec![]).0.expect("an outcome");
        assert!(
            all.as_map().is_some_and(|kinds| kinds.len() == 18 && !kinds.values().any(Value::is_truthy)),
            "{all:?}"
        );
        assert!(matches!(call("saltutil.refresh_pillar", vec![]).0, Err(CallError::Failed(_))));
        assert!(matches!(call("saltutil.refresh_grains", vec![]).0, Err(CallError::Failed(_))));
        assert!(
            matches!(call("saltutil.revoke_auth", vec![]).0, Err(CallError::Failed(why)) if why.contains("halite key"))
        );
    }

    #[test]
    fn signals_are_sent_and_told() {
        let (ret, signals) = call("saltutil.kill_job", vec!["1".into()]);
        assert_eq!(ret, Ok("Signal 9 sent to job 1 at pid 1804".into()));
        assert_eq!(signals, [("1".to_owned(), 9)]);
        assert_eq!(call("saltutil.term_job", vec!["7".into()]).0, Ok("".into()));
        // The command line gives a jid as a number.
        assert_eq!(call("saltutil.signal_job", vec![1.into(), 10.into()]).1, [("1".to_owned(), 10)]);
        assert!(call("saltutil.signal_job", vec!["1".into(), 99.into()]).0.is_err());
        let (ret, signals) = call("saltutil.kill_all_jobs", vec![]);
        assert_eq!(ret, Ok(vec!["Signal 9 sent to job 1 at pid 1804"].into()));
        assert_eq!(signals.len(), 1);
    }
}
