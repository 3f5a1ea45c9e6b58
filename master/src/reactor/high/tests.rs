//! What `reactor/high` promises, tested.

use proto::map;

use super::*;
use crate::runners::fake::json;

fn high(text: &str) -> High {
    pad(json(text), "/srv/x.sls").unwrap()
}

fn check(text: &str, expected: &[&str]) {
    let chunks = compile(&high(text)).unwrap();
    let shown: Vec<String> = chunks.iter().map(|one| format!("{}:{}.{}", one.id, one.state, one.fun)).collect();
    assert_eq!(shown, expected, "{text}");
}

fn check_error(text: &str, expected: &str) {
    assert_eq!(compile(&high(text)).unwrap_err(), [expected], "{text}");
}

#[test]
fn functions_are_split_from_types() {
    check(r#"{"a": {"local.test.ping": []}}"#, &["a:local.test.ping"]);
    check(r#"{"a": {"local": ["test.ping", {"tgt": "m1"}]}}"#, &["a:local.test.ping"]);
    check(r#"{"a": "runner.test.arg"}"#, &["a:runner.test.arg"]);
    check(r#"{"a": {"local.test.ping": [], "runner.test.arg": []}}"#, &["a:local.test.ping", "a:runner.test.arg"]);
    check(r#"{"__extra__": {"local.test.ping": []}}"#, &[]);
    assert_eq!(pad(Value::Null, "x"), Ok(High::new()));
}

#[test]
fn arguments_are_flattened() {
    let chunks = compile(&high(r#"{"a": {"local.test.ping": [{"tgt": "m1", "ret": ""}, {"tgt": "m2"}]}}"#)).unwrap();
    assert_eq!(chunks[0].given, map! { "tgt" => "m2", "ret" => "" });
    assert_eq!(chunks[0].sls, "/srv/x.sls");
}

#[test]
fn each_name_is_a_chunk() {
    let text = r#"{"a": {"local.x.y": [{"tgt": "m"}, {"names": ["n1", {"n2": [{"tgt": "own"}]}]}]}}"#;
    let chunks = compile(&high(text)).unwrap();
    assert_eq!(chunks[0].given, map! { "tgt" => "m", "name" => "n1" });
    assert_eq!(chunks[1].given, map! { "tgt" => "own", "name" => "n2" });
}

#[test]
fn chunks_are_ordered_as_salt_orders_them() {
    check(r#"{"b": {"local.x.y": []}, "a": {"local.x.y": []}}"#, &["a:local.x.y", "b:local.x.y"]);
    check(r#"{"a": {"runner.x.y": []}, "b": {"local.x.y": []}}"#, &["b:local.x.y", "a:runner.x.y"]);
    let ordered = r#"{"a": {"local.x.y": [{"order": "last"}]}, "b": {"local.x.y": []}, "c": {"local.x.y": [{"order": 5}]},
        "d": {"local.x.y": [{"order": -2}]}, "e": {"local.x.y": [{"order": "first"}]}}"#;
    check(ordered, &["e:local.x.y", "c:local.x.y", "b:local.x.y", "d:local.x.y", "a:local.x.y"]);
}

#[test]
fn what_is_wrong_is_said_in_salts_words() {
    check_error(r#"{"a": {"local": [{"tgt": "m1"}]}}"#, "No function declared in state 'a' in SLS '/srv/x.sls'");
    check_error(
        r#"{"a": {"local": ["x.y", "z"]}}"#,
        "Too many functions declared in state 'a' in SLS '/srv/x.sls'. Please choose one of the following: x.y, z",
    );
    check_error(r#"{"a": {"local.x": {"tgt": "m1"}}}"#, "State 'a' in SLS '/srv/x.sls' is not formed as a list");
    check_error(
        r#"{"a": {"local.x": null}}"#,
        "ID 'a' in SLS '/srv/x.sls' contains a short declaration (local.x) with a trailing colon. When not passing any \
         arguments to a state, the colon must be omitted.",
    );
    let errors = compile(&high(r#"{"a": {"local.x.y": ["tgt m1"]}}"#)).unwrap_err();
    assert!(errors[0].starts_with("The function \"tgt m1\" in state \"a\" in SLS \"/srv/x.sls\" has whitespace"));
    assert!(pad(json("[1]"), "x").is_err());
    assert_eq!(pad(json(r#"{"a": "x"}"#), "x").unwrap_err(), "'a' must be a map, not text");
}
