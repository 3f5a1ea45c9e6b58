//! Rules of reading and writing YAML, one line each.

use proptest::prelude::*;
use proto::map;

use super::*;

fn read(text: &str) -> Value {
    load(text, &Source { name: "t" }).unwrap()
}

fn check(text: &str, expected: impl Into<Value>) {
    assert_eq!(read(text), expected.into(), "{text:?}");
}

fn refused(text: &str, expected: &str) {
    assert_eq!(load(text, &Source { name: "t" }).unwrap_err().to_string(), expected, "{text:?}");
}

#[test]
fn scalars_resolve_as_in_yaml_1_1() {
    check("yes", true);
    check("Off", false);
    check("yEs", "yEs");
    check("y", "y");
    check("0644", 644);
    check("00", 0);
    check("0_7", 7);
    check("-0644", -420);
    check("0o644", "0o644");
    check("08", "08");
    check("0x1F", 31);
    check("0b101", 5);
    check("1_000", 1000);
    check("1:30", 90);
    check("-1:30", -90);
    check("1.5e+3", 1500.0);
    check("1.5e3", "1.5e3");
    check("1e3", "1e3");
    check("1:30.5", 90.5);
    check("-.inf", f64::NEG_INFINITY);
    check("~", Value::Null);
    check("", Value::Null);
    check("None", "None");
    check("2024-01-02", "2024-01-02");
    check("20261121003156379676", 20_261_121_003_156_379_676i128);
    check("'20261121003156379676'", "20261121003156379676");
}

#[test]
fn tags_and_merges_follow_pyyaml() {
    check("!!str 12", "12");
    check("!!int '3'", 3);
    check("!!binary aGk=", Value::Bytes(b"hi".to_vec()));
    check("{<<: {a: 1, b: 1}, b: 2}", map! { "a" => 1, "b" => 2 });
    check("{<<: [{a: 1}, {a: 2, b: 2}]}", map! { "a" => 1, "b" => 2 });
    refused(
        "a: !!python/object:os.system x",
        "t:1:4: tag '!!python/object:os.system' makes Python objects and is refused",
    );
    refused("!foo x", "t:1:1: could not determine a constructor for the tag '!foo'");
}

#[test]
fn mistakes_name_their_place() {
    refused("a: 1\nb: 2\na: 3\n", "t:3:1: found conflicting ID 'a': first on line 1, again on line 3");
    refused("a: 1\n---\nb: 2\n", "t:2:1: expected a single document, but found another");
    refused("a:\n\t- b\n", "t:2:2: tabs disallowed within this context (block indentation)");
    refused("a: b: c\n", "t:1:5: mapping values are not allowed in this context");
    refused("a: \u{1}", "t:1:4: character \\u{1} is not allowed");
    refused("? [a]\n: b\n", "t:1:3: found unacceptable key: not a scalar");
    refused("&a [*a]", "t:1:5: found an alias inside the value it stands for");
}

#[test]
fn expansion_is_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(", "));
    }
    assert!(load(&bomb, &Source { name: "t" }).unwrap_err().message.contains("too large"));
    let deep = "[".repeat(5_000);
    assert!(load(&deep, &Source { name: "t" }).is_err());
    let deep = "- ".repeat(5_000);
    assert!(load(&deep, &Source { name: "t" }).is_err());
}

#[test]
fn command_line_arguments_are_yaml_where_that_is_meant() {
    let check = |text: &str, expected: Value| assert_eq!(cli_arg(text), expected, "{text:?}");
    let list = |items: &[&str]| Value::from(items.to_vec());
    check("1", 1.into());
    check("\"1\"", "1".into());
    check("3.5", 3.5.into());
    check("True", true.into());
    check("yes", true.into());
    check("None", Value::Null);
    check("null", Value::Null);
    check("0x10", 16.into());
    check("2024-01-02", "2024-01-02".into());
    check("{a: 1}", map! { "a" => 1 }.into());
    check("[x,y]", list(&["x", "y"]));
    check("a: 1", "a: 1".into());
    check("- a", "- a".into());
    check("a:", "a:".into());
    check("", "".into());
    check("  ", "  ".into());
    check("---", "---".into());
    check("#", "#".into());
    check("x # y", "x # y".into());
    check("[a, '#b']", list(&["a", "#b"]));
    check("1_000", "1_000".into());
    check("a\nb", "a\nb".into());
    check("|", "|".into());
    check("!", "!".into());
    check("[unclosed", "[unclosed".into());
    check("*", "*".into());
    check("20261121003156379676", 20_261_121_003_156_379_676i128.into());
}

#[test]
fn keyword_arguments_have_a_name_and_one_equals_sign() {
    assert_eq!(parse_kwarg("kw=5"), Some(("kw".to_owned(), 5.into())));
    assert_eq!(parse_kwarg("lst=[1,2]"), Some(("lst".to_owned(), vec![1, 2].into())));
    assert_eq!(parse_kwarg("a.b-c="), Some(("a.b-c".to_owned(), "".into())));
    for text in ["a==b", "1=x", "a b=c", "=x", "x", "-a=b", "a=b\nc"] {
        assert_eq!(parse_kwarg(text), None, "{text:?}");
    }
}

#[test]
fn keys_indented_too_little_join_their_siblings() {
    let text = "s:\n  f:\n    - tgt: m\n    - kwarg:\n         a: 1\n         b:\n           c: 2\n        d: 3\n        e:\n          - 4\n";
    let (value, warnings) = load_with_repairs(text, "sh.sls").unwrap();
    let fixed = "s:\n  f:\n    - tgt: m\n    - kwarg:\n         a: 1\n         b:\n           c: 2\n         d: 3\n         e:\n          - 4\n";
    assert_eq!(value, read(fixed));
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "sh.sls:8: this key is indented less than its siblings; write it as:          d: 3",
            "sh.sls:9: this key is indented less than its siblings; write it as:          e:",
        ]
    );
    // A list item is no key, and a key left of its parent's column no sibling: the first error stands.
    for text in ["e:\n  f:\n   - tgt: m1\n  - bad\n", "a:\n    b: 1\n  - c\n", "a:\n  b: 1\n c\n"] {
        let error = load(text, &Source { name: "x" }).unwrap_err();
        assert_eq!(load_with_repairs(text, "x").unwrap_err(), error, "{text:?}");
    }
}

#[test]
fn flat_reactor_lists_pair_up() {
    let text = "reactor:\n  - 'salt/beacon/*/sh/*'\n  - '/srv/reactor/sh.sls'\n  - 'x/y': salt://a.sls\n  - {a: [b], c: [d]}\n";
    let (value, marks) = load_marked(text, &Source { name: "reactor.conf" }).unwrap();
    let (entries, warnings) = pair_reactor(value.get("reactor").unwrap(), "reactor.conf", &marks).unwrap();
    let entry = |tag: &str, path: &str, line| ReactorEntry {
        tag: tag.to_owned(),
        paths: vec![path.to_owned()],
        position: Some(Position { line, column: 5 }),
    };
    assert_eq!(entries, [entry("salt/beacon/*/sh/*", "/srv/reactor/sh.sls", 2), entry("x/y", "salt://a.sls", 4)]);
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "reactor.conf:2: a tag and its files must be a mapping; write it as: - 'salt/beacon/*/sh/*': ['/srv/reactor/sh.sls']",
            "reactor.conf:5: this entry has 2 tags and is ignored; write it as: one `- 'tag': [path]` entry for each tag",
        ]
    );
}

#[test]
fn reactor_lists_that_cannot_pair_are_refused() {
    let refused = |text: &str, expected: &str| {
        let (value, marks) = load_marked(text, &Source { name: "r" }).unwrap();
        let error = pair_reactor(value.get("reactor").unwrap(), "r", &marks).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text:?}");
    };
    refused("reactor: [a/b]", "r:1:11: the tag 'a/b' has no file after it");
    refused("reactor: [/x.sls]", "r:1:11: the file '/x.sls' has no tag before it");
    refused("reactor: 5", "r:1:1: a reactor list was expected, not int");
    refused("reactor:\n- a: {b: c}", "r:2:3: a path or a list of paths was expected, not map");
}

#[test]
fn values_are_written_as_pyyaml_writes_them() {
    let value = map! { "role" => "r2", "site" => map! { "dc" => vec!["x", "y2"] }, "jid" => "20261121003156379676" };
    assert_eq!(dump(&value.into()), "role: r2\nsite:\n  dc:\n  - x\n  - y2\njid: '20261121003156379676'\n");
    assert_eq!(dump_in(&map! { "b" => 1, "a" => 2 }.into(), KeyOrder::Sorted), "a: 2\nb: 1\n");
    assert_eq!(dump(&Value::from("x")), "x\n...\n");
    assert_eq!(dump(&Value::Map(proto::value::Map::new())), "{}\n");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e18..1e18f64).prop_map(Value::from),
        "[ -~\n\té日]{0,40}".prop_map(Value::from),
        "[a-z0-9_.:~-]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::vec(("[ -~]{0,12}", inner), 0..5).prop_map(|pairs| Value::Map(
                pairs.into_iter().map(|(key, value)| (Value::from(key), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in any_value()) {
        let written = dump(&value);
        prop_assert_eq!(load(&written, &Source { name: "t" }).map_err(|error| error.to_string()), Ok(value), "{}", written);
    }

    #[test]
    fn any_text_gives_an_answer(text in r"[\[\]{}:,&*!|>'%@`\-? a-z0-9<\n\t#\u{e9}\x22]{0,80}") {
        let _ = load(&text, &Source { name: "t" });
        let _ = load_with_repairs(&text, "t");
        let _ = load_marked(&text, &Source { name: "t" });
        let _ = cli_arg(&text);
        let _ = parse_kwarg(&text);
    }
}
