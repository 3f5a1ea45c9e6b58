//! What fails in a state run, as events of its own (salt-wire.md §9): `salt/job/<jid>/sub/<id>/error/<fun>` and, as before
//! Salt had that, `<state>.<function>`. Only of `state.sls` and `state.highstate`: Salt's master fires none for `state.apply`.

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::tag::Tag;
use proto::value::{Map, MapExt, Value};

use crate::bus::NewEvent;

/// The functions that run states, as far as Salt's master looks into what they return.
const STATE_RUNS: [&str; 2] = ["state.highstate", "state.sls"];
/// What separates the parts of a state's key: module, id, name, function.
const BETWEEN: &str = "_|-";
/// How many failed states of one return are told; the return has them all.
const MAX_TOLD: usize = 1_000;

/// Returns the events for a return: two for each failed state.
pub(super) fn of(load: &Map, jid: &Jid, id: &MinionId) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for (fun, retcode, states) in state_runs(load) {
        let failed = states.iter().filter_map(|(key, state)| Some((key.as_str()?, state.as_map()?)));
        let failed = failed.filter(|(_, state)| state.at("result") == Some(&false.into()));
        for (key, state) in failed.take(MAX_TOLD) {
            let (module, function) = (key.split(BETWEEN).next(), key.rsplit(BETWEEN).next());
            let name = format!("{}.{}", module.unwrap_or_default(), function.unwrap_or_default());
            let mut state = state.clone();
            state.set("retcode", retcode.clone());
            // States have no such field; one that is there all the same names nobody else.
            if state.at("id").is_some() {
                state.set("id", id);
            }
            // The name comes from the minion: it may not be another's tag.
            if let Some(tag) = Tag::parse(&name).ok().filter(|tag| tag.allowed_from(id)) {
                events.push(event(tag, &state));
            }
            state.extend(map! { "jid" => jid, "id" => id, "success" => false, "return" => format!("Error: {name}"), "fun" => fun });
            state.extend(load.at("user").map(|user| (Value::from("user"), user.clone())));
            events.extend(Tag::job_error(jid, id, fun).ok().map(|tag| event(tag, &state)));
        }
    }
    events
}

/// Returns the state runs of a return that failed: function, return code, states by their keys. A job of several functions
/// has lists, or maps by function.
fn state_runs(load: &Map) -> Vec<(&str, &Value, &Map)> {
    let (Some(fun), Some(retcode), Some(ret)) = (load.at("fun"), load.at("retcode"), load.at("return")) else {
        return Vec::new();
    };
    let of = |from: &'static str, at: usize, name: &str| match load.at(from) {
        Some(Value::List(listed)) => listed.get(at),
        Some(Value::Map(named)) => named.at(name),
        _ => None,
    };
    let runs: Vec<(&str, Option<&Value>, Option<&Value>)> = match fun {
        Value::List(funs) => {
            let named = funs.iter().enumerate().filter_map(|(at, fun)| Some((at, fun.as_str()?)));
            named.map(|(at, name)| (name, of("retcode", at, name), of("return", at, name))).collect()
        }
        fun => vec![(fun.as_str().unwrap_or_default(), Some(retcode), Some(ret))],
    };
    let runs = runs.into_iter().filter(|(fun, ..)| STATE_RUNS.contains(fun));
    runs.filter_map(|(fun, retcode, ret)| Some((fun, retcode.filter(|code| code.is_truthy())?, ret?.as_map()?)))
        .collect()
}

fn event(tag: Tag, data: &Map) -> NewEvent {
    NewEvent { tag, data: proto::msgpack::encode_map(data).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(load: &Map) -> Vec<(String, Map)> {
        let jid = Jid::parse("20261126054647772772").unwrap();
        let events = of(load, &jid, &MinionId::parse("m8").unwrap());
        events.iter().map(|event| (event.tag.to_string(), proto::msgpack::decode_map(&event.data).unwrap())).collect()
    }

    fn states() -> Map {
        map! {
            "test_|-bad_|-its name_|-fail_without_changes" => map! { "result" => false, "comment" => "Failure!" },
            "test_|-ok_|-ok_|-nop" => map! { "result" => true },
            "test_|-dry_|-dry_|-nop" => map! { "result" => Value::Null },
        }
    }

    /// What a master of 3008.5 fired for this return.
    #[test]
    fn each_failed_state_is_told_under_both_tags() {
        let load = map! { "fun" => "state.sls", "retcode" => 2, "return" => states(), "user" => "root" };
        let old = map! { "result" => false, "comment" => "Failure!", "retcode" => 2 };
        let mut new = old.clone();
        new.extend(map! {
            "jid" => "20261126054647772772", "id" => "m8", "success" => false,
            "return" => "Error: test.fail_without_changes", "fun" => "state.sls", "user" => "root",
        });
        let expected = [
            ("test.fail_without_changes".to_owned(), old),
            ("salt/job/20261126054647772772/sub/m8/error/state.sls".to_owned(), new),
        ];
        assert_eq!(told(&load), expected);
    }

    #[test]
    fn what_is_no_failed_state_run_tells_nothing() {
        for (fun, retcode, ret) in [
            ("state.apply", 2, Value::from(states())),
            ("state.sls", 0, states().into()),
            ("state.sls", 1, vec!["No matching sls found"].into()),
            ("state.sls", 1, map! { "x" => "no state" }.into()),
        ] {
            assert_eq!(told(&map! { "fun" => fun, "retcode" => retcode, "return" => ret }), [], "{fun} {retcode}");
        }
        assert_eq!(told(&map! { "fun" => "state.sls" }), []);
    }

    #[test]
    fn several_functions_are_looked_through_in_both_forms() {
        let funs = || vec!["test.ping", "state.highstate"];
        let listed = map! { "fun" => funs(), "retcode" => vec![0, 2],
        "return" => vec![Value::from(true), states().into()] };
        let named = map! { "fun" => funs(), "retcode" => map! { "test.ping" => 0, "state.highstate" => 2 },
        "return" => map! { "test.ping" => true, "state.highstate" => states() } };
        for load in [listed, named] {
            let tags: Vec<String> = told(&load).into_iter().map(|(tag, _)| tag).collect();
            let error = "salt/job/20261126054647772772/sub/m8/error/state.highstate";
            assert_eq!(tags, ["test.fail_without_changes", error], "{load:?}");
        }
    }

    #[test]
    fn a_state_cannot_name_a_tag_that_is_not_its_minions() {
        let forged = map! { "salt/key_|-x_|-x_|-y" => map! { "result" => false },
        "test_|-x_|-x_|-nop" => map! { "result" => false, "id" => "db1" } };
        let tags = told(&map! { "fun" => "state.sls", "retcode" => 2, "return" => forged });
        let error = "salt/job/20261126054647772772/sub/m8/error/state.sls";
        assert_eq!(tags.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>(), [error, "test.nop", error]);
        assert!(tags.iter().all(|(_, data)| data.text("id") == Some("m8")), "{tags:?}");
    }
}
