//! Jobs that minions publish (`minion_pub`, `pub_ret`) and runners that they run (`minion_runner`), as far as the options
//! `peer` and `peer_run` let them. Neither is set by default: then nothing may be published.

use std::sync::{Mutex, PoisonError};

use indexmap::IndexMap;
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::value::{Map, MapExt, Value};
use render::yaml::{cli_arg, parse_kwarg};

use super::mine::Rights;
use crate::command::{Command, PublishRequest, TargetText};

/// How many jobs are remembered as somebody's, so that their returns can be asked for; beyond, the oldest is forgotten.
const MAX_JOBS: usize = 10_000;

/// Which jobs are whose.
#[derive(Debug, Default)]
pub(super) struct Published(Mutex<IndexMap<Jid, MinionId>>);

impl Published {
    pub(super) fn note(&self, jid: Jid, id: MinionId) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= MAX_JOBS {
            jobs.shift_remove_index(0);
        }
        jobs.insert(jid, id);
    }

    /// Returns whose job this is.
    pub(super) fn owner(&self, jid: &Jid) -> Option<MinionId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(jid).cloned()
    }
}

/// Reads a job of a minion, if it may publish it.
pub(super) fn publication(rights: &Rights, id: &MinionId, load: &Map) -> Option<PublishRequest> {
    let funs: Vec<&str> = load.text("fun")?.split(',').map(str::trim).collect();
    // A job that publishes in turn would get round these rights.
    let may = |fun: &&str| !fun.is_empty() && !fun.starts_with("publish.") && rights.allow(id, fun);
    if !funs.iter().all(may) {
        return None;
    }
    let given = match load.at("arg") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(args)) => args.clone(),
        Some(one) => vec![one.clone()],
    };
    let (fun, arg): (Value, Vec<Value>) = match funs.as_slice() {
        [one] => (Value::from(*one), parsed(&given)),
        several => {
            let of = |at: usize| match given.get(at) {
                Some(Value::Str(text)) => parsed(&text.split_whitespace().map(Value::from).collect::<Vec<_>>()),
                Some(Value::List(args)) => parsed(args),
                _ => Vec::new(),
            };
            (several.to_vec().into(), (0..several.len()).map(|at| Value::List(of(at))).collect())
        }
    };
    let tgt_type = load.text("tgt_type").unwrap_or("glob");
    Some(PublishRequest {
        target: TargetText::new(load.at("tgt")?.clone(), Some(tgt_type)),
        fun,
        arg,
        ret: load.text("ret").unwrap_or_default().to_owned(),
        jid: None,
        ttl: None,
        metadata: None,
        // Who publishes is told to those who run it (salt-wire.md §4.2).
        options: map! { "id" => id },
    })
}

/// Returns what Salt's master says to a wait that is no number: no to a text, and nothing to what it stumbles over.
pub(super) fn bad_wait(load: &Map) -> Option<Value> {
    let given = ["tmo", "timeout"].into_iter().filter_map(|name| load.at(name));
    given.into_iter().find_map(|wait| match wait {
        Value::Bool(_) | Value::Float(_) | Value::Int(_) => None,
        Value::Str(text) if text.trim().parse::<i64>().is_ok() => None,
        Value::Str(_) => Some(Map::new().into()),
        _ => Some("".into()),
    })
}

/// Reads the run of a runner, if a minion may ask for it.
pub(super) fn run(rights: &Rights, id: &MinionId, load: &Map) -> Option<Command> {
    let fun = load.text("fun").filter(|fun| rights.allow(id, fun))?;
    // What manages the master is never a minion's.
    if fun.starts_with("wheel.") || fun.starts_with("salt.") {
        return None;
    }
    let given = load.at("arg").and_then(Value::as_list).unwrap_or_default();
    let mut arg = parsed(given);
    let kwarg = match arg.last().and_then(Value::as_map).filter(|last| last.at("__kwarg__").is_some()).cloned() {
        Some(mut kwarg) => {
            arg.pop();
            kwarg.take("__kwarg__");
            kwarg
        }
        None => Map::new(),
    };
    Some(Command::Run { fun: fun.to_owned(), arg, kwarg, jid: None })
}

/// Reads arguments as the command line would: `1` is a number, `a=b` a keyword.
fn parsed(given: &[Value]) -> Vec<Value> {
    let (mut arg, mut kwarg) = (Vec::new(), Map::new());
    for value in given {
        match value {
            Value::Str(text) => match parse_kwarg(text) {
                Some((name, value)) => kwarg.set(&name, value),
                None => arg.push(cli_arg(text)),
            },
            Value::Map(map) if map.at("__kwarg__").is_some() => kwarg.extend(map.clone()),
            other => arg.push(other.clone()),
        }
    }
    if !kwarg.is_empty() {
        kwarg.set("__kwarg__", true);
        arg.push(kwarg.into());
    }
    arg
}

/// Returns a job's returns as `pub_ret` tells them, from how the job is shown.
pub(super) fn returns(job: &Map) -> Map {
    let result = job.at("Result").and_then(Value::as_map);
    let one = |(id, ret): (&Value, &Value)| {
        let ret = ret.get("return").cloned().unwrap_or_default();
        (id.clone(), Value::Map(map! { "ret" => ret }))
    };
    result.map(|result| result.iter().map(one).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> Rights {
        let rights =
            map! { "foo.*" => vec!["test\\..*", "network.ip_addrs", "jobs\\..*", "wheel\\..*", "publish\\..*"] };
        Rights::read(&rights.into()).unwrap()
    }

    fn publish(who: &str, fun: &str, arg: Vec<Value>) -> Option<PublishRequest> {
        let load = map! { "fun" => fun, "arg" => arg, "tgt" => "*", "ret" => "" };
        publication(&rights(), &MinionId::parse(who).unwrap(), &load)
    }

    #[test]
    fn a_minion_publishes_what_it_may_and_nothing_else() {
        let job = publish("foo1", "test.ping", vec![]).unwrap();
        assert_eq!((job.fun, job.arg, job.target.tgt_type.as_str()), ("test.ping".into(), vec![], "glob"));
        assert_eq!(job.options.text("id"), Some("foo1"));
        assert_eq!(publish("bar", "test.ping", vec![]), None);
        assert_eq!(publish("foo1", "cmd.run", vec!["id".into()]), None);
        assert_eq!(publish("foo1", "test.ping,cmd.run", vec![]), None);
        assert_eq!(publish("foo1", "", vec![]), None);
    }

    #[test]
    fn a_job_never_publishes_in_turn() {
        for fun in ["publish.publish", "test.ping,publish.publish", "test.ping, publish.publish"] {
            assert_eq!(publish("foo1", fun, vec![]), None, "{fun}");
        }
    }

    #[test]
    fn arguments_are_read_as_on_a_command_line() {
        let job = publish("foo1", "test.arg", vec!["1".into(), "a=x".into(), true.into()]).unwrap();
        let kwarg = map! { "a" => "x", "__kwarg__" => true };
        assert_eq!(job.arg, vec![1.into(), true.into(), Value::Map(kwarg)]);
        let job = publish("foo1", "test.arg,test.ping", vec!["1 2".into(), "".into()]).unwrap();
        assert_eq!(job.arg, vec![vec![1, 2].into(), Value::List(vec![])]);
    }

    #[test]
    fn runners_are_run_as_far_as_they_may_be_and_the_wheel_never() {
        let ask = |fun: &str| {
            let load = map! { "fun" => fun, "arg" => vec!["x", "a=1"] };
            run(&rights(), &MinionId::parse("foo1").unwrap(), &load)
        };
        let Some(Command::Run { fun, arg, kwarg, .. }) = ask("jobs.list_jobs") else { panic!() };
        assert_eq!((fun.as_str(), arg, kwarg), ("jobs.list_jobs", vec!["x".into()], map! { "a" => 1 }));
        assert_eq!(ask("wheel.key.accept"), None);
        assert_eq!(ask("manage.up"), None);
    }

    #[test]
    fn jobs_are_remembered_as_somebodys_up_to_a_limit() {
        let published = Published::default();
        let jid = |at: i64| Jid::at(1_795_218_752_000_000 + at);
        let id = MinionId::parse("m1").unwrap();
        (0..=MAX_JOBS as i64).for_each(|at| published.note(jid(at), id.clone()));
        assert_eq!(published.owner(&jid(0)), None);
        assert_eq!(published.owner(&jid(1)), Some(id));
    }
}
