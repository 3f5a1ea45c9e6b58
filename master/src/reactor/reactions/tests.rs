//! What `reactor/reactions` promises, tested.

use proto::value::Value;

use super::*;
use crate::reactor::high::{compile, pad};
use crate::runners::fake::json;

fn chunk(text: &str) -> Chunk {
    compile(&pad(json(text), "/x.sls").unwrap()).unwrap().remove(0)
}

fn reaction(call: &str, arguments: &str) -> Result<Reaction, ReactionError> {
    build(&chunk(&format!(r#"{{"a": {{"{call}": {arguments}}}}}"#)), "7.0")
}

/// Checks the arguments of a job.
fn check_local(arguments: &str, expected: &str) {
    let reaction = reaction("local.test.arg", arguments).unwrap();
    let Command::Publish(job) = reaction.command else { panic!("a job") };
    assert_eq!(Value::List(job.arg).to_json().to_string(), json(expected).to_json().to_string(), "{arguments}");
    assert_eq!((job.fun, job.jid), ("test.arg".into(), None));
}

fn check_run(call: &str, arguments: &str, arg: &str, kwarg: &str) {
    let reaction = reaction(call, arguments).unwrap();
    let Command::Run { arg: given, kwarg: named, .. } = reaction.command else { panic!("a run") };
    let shown = (Value::List(given).to_json().to_string(), Value::Map(named).to_json().to_string());
    assert_eq!(shown, (json(arg).to_json().to_string(), json(kwarg).to_json().to_string()), "{arguments}");
}

fn check_error(call: &str, arguments: &str, expected: &str) {
    let error = reaction(call, arguments).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn types_are_listed_in_order() {
    assert!(all().is_sorted_by_key(|kind| kind.name));
    assert_eq!((kind_name("cmd"), kind_name("bogus")), ("local", "bogus"));
}

#[test]
fn a_job_takes_its_arguments_in_every_form() {
    check_local(r#"[{"tgt": "m1"}]"#, "[]");
    check_local(r#"[{"tgt": "m1"}, {"args": [{"a": 1}, {"b": "x"}]}]"#, r#"[{"__kwarg__": true, "a": 1, "b": "x"}]"#);
    check_local(r#"[{"tgt": "m1"}, {"args": {"a": 1}}]"#, r#"[{"__kwarg__": true, "a": 1}]"#);
    check_local(r#"[{"tgt": "m1"}, {"args": {}}]"#, "[]");
    check_local(r#"[{"tgt": "m1"}, {"args": ["a", {"b": 1}]}]"#, r#"[{"__kwarg__": true, "a": null, "b": 1}]"#);
    check_local(
        r#"[{"tgt": "m1"}, {"arg": [1, "x"]}, {"kwarg": {"k": "v"}}]"#,
        r#"[1, "x", {"__kwarg__": true, "k": "v"}]"#,
    );
    check_local(r#"[{"tgt": "m1"}, {"arg": "one"}]"#, r#"["one"]"#);
    check_local(r#"[{"tgt": "m1"}, {"kwarg": [{"k": "v"}]}]"#, r#"[{"__kwarg__": true, "k": "v"}]"#);
    // A jid without quotes is a number to YAML, and too large for JSON.
    let mut unquoted = chunk(r#"{"a": {"local.test.arg": [{"tgt": "m1"}]}}"#);
    unquoted.given.set("arg", vec![Value::Int(20_261_121_002_833_351_090)]);
    let Command::Publish(job) = build(&unquoted, "").unwrap().command else { panic!("a job") };
    assert_eq!(job.arg, ["20261121002833351090".into()]);
}

#[test]
fn a_job_goes_where_it_is_told() {
    let job = |arguments: &str| match reaction("cmd.test.arg", arguments).unwrap().command {
        Command::Publish(job) => job,
        other => panic!("{other:?}"),
    };
    let told = job(r#"[{"tgt": "os:Debian", "expr_form": "grain", "ret": ["a", "b"], "metadata": {"x": 1}}]"#);
    assert_eq!((told.target.tgt_type.as_str(), told.ret.as_str()), ("grain", "a,b"));
    assert_eq!(told.metadata, Some(json(r#"{"x": 1}"#)));
    assert_eq!(job(r#"[{"tgt": ["m1", "m2"]}]"#).target.tgt_type, "list");
    assert_eq!(job(r#"[{"tgt": "m1"}]"#).target.tgt_type, "glob");
    // An id that YAML takes for a number.
    assert_eq!(job(r#"[{"tgt": 12}]"#).target.tgt, "12".into());
}

#[test]
fn what_is_ignored_is_said() {
    let notes = |arguments: &str| reaction("local.test.arg", arguments).unwrap().notes;
    let both = notes(r#"[{"tgt": "m1"}, {"args": {"a": 1}}, {"kwarg": {"b": 2}}]"#);
    assert_eq!(
        both,
        ["Reactor 'a' is ignoring 'kwarg' param {'b': 2} due to presence of 'args' param. Check the Reactor System \
          documentation for the correct argument format."]
    );
    let stray = notes(r#"[{"tgt": "m1"}, {"name": "x"}, {"service": "nginx"}]"#);
    assert!(stray[0].starts_with("Reactor 'a' is ignoring 'service', "), "{stray:?}");
}

#[test]
fn a_runner_takes_its_arguments_in_every_form() {
    check_run("runner.test.arg", r#"[{"args": [{"foo": "bar"}, {"n": 1}]}]"#, "[]", r#"{"foo": "bar", "n": 1}"#);
    check_run("runner.test.arg", r#"[{"arg": ["a", 2]}, {"kwarg": {"k": "v"}}]"#, r#"["a", 2]"#, r#"{"k": "v"}"#);
    check_run("runner.test.arg", r#"[{"foo": "bar"}, {"zed": 2}, {"order": 1}]"#, "[]", r#"{"foo": "bar", "zed": 2}"#);
    check_run("runner.x.y", r#"[{"tgt": "r1"}, {"kwarg": {"k": 1}}]"#, "[]", r#"{"tgt": "r1", "k": 1}"#);
    check_run("runner.x.y", "[]", "[]", "{}");
}

#[test]
fn an_event_carries_the_key_of_its_reaction() {
    let send = "runner.event.send";
    check_run(send, r#"[{"args": {"tag": "t"}}]"#, "[]", r#"{"tag": "t", "data": {"_reaction": "7.0"}}"#);
    check_run(
        send,
        r#"[{"tag": "t"}, {"data": {"a": 1}}]"#,
        "[]",
        r#"{"tag": "t", "data": {"a": 1, "_reaction": "7.0"}}"#,
    );
    check_run(send, r#"[{"arg": ["t", {"a": 1}]}]"#, r#"["t", {"a": 1, "_reaction": "7.0"}]"#, "{}");
}

#[test]
fn the_wheel_takes_its_arguments_in_every_form() {
    let wheel = |arguments: &str| match reaction("wheel.key.accept", arguments).unwrap().command {
        Command::Wheel { fun, arg, kwarg, .. } => {
            assert_eq!(fun, "key.accept");
            (arg, kwarg)
        }
        other => panic!("{other:?}"),
    };
    let flagged = map! { "match" => "m1", "include_rejected" => true };
    assert_eq!(wheel(r#"[{"args": [{"match": "m1"}, {"include_rejected": true}]}]"#), (vec![], flagged.clone()));
    assert_eq!(wheel(r#"[{"match": "m1"}, {"include_rejected": true}]"#), (vec![], flagged));
    assert_eq!(wheel(r#"[{"match": ["m1", "m2"]}]"#), (vec![], map! { "match" => vec!["m1", "m2"] }));
    let both = (vec!["m1".into()], map! { "include_denied" => true });
    assert_eq!(wheel(r#"[{"arg": ["m1"]}, {"kwarg": {"include_denied": true}}]"#), both);
}

#[test]
fn what_cannot_be_done_is_said_in_salts_words() {
    check_error("local.test.ping", "[]", "Reactor 'a' failed to execute local 'test.ping': missing 1 required");
    check_error("local.test.ping", r#"[{"tgt": null}]"#, "Reactor 'a' failed to execute local 'test.ping': 'tgt' must");
    check_error(
        "runner.test.arg",
        r#"[{"args": [{"a": 1, "b": 2}]}]"#,
        "Reactor 'a' failed to execute runner 'test.arg': Incorrect argument format, check the Reactor System",
    );
    check_error("local.test.arg", r#"[{"tgt": "m1"}, {"args": []}]"#, "Reactor 'a' failed to execute local 'test.arg'");
    check_error("bogus.test.ping", "[]", "Reactor 'a': ReactWrap is missing a wrapper function for 'bogus'");
    check_error("caller.test.arg", "[]", "Reactor 'a' failed to execute caller 'test.arg': not supported");
}
