//! What the outputters print, held against recordings of Salt 3008.5 (`recorded/`) and against its own code.

use proto::map;
use proto::value::{Map, Value};

use super::*;

fn list<const N: usize>(items: [Value; N]) -> Value {
    Value::List(items.into())
}

fn check(format: Format, value: impl Into<Value>, expected: &str) {
    let value = value.into();
    assert_eq!(render(format, &value, &Style::PLAIN), expected, "{format:?} of {value:?}");
}

fn grains() -> Map {
    map! { "m1" => map! { "role" => "r1", "site" => map! { "dc" => vec!["x", "y1"] } } }
}

#[test]
fn names_are_sorted_and_unique() {
    let names: Vec<&str> = all().iter().map(|outputter| outputter.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    for outputter in all() {
        assert_eq!(Format::parse(outputter.name), Ok(outputter.format));
        assert_eq!(outputter.format.name(), outputter.name);
    }
    assert_eq!(Format::parse("text"), Ok(Format::Txt));
    assert_eq!(Format::parse(""), Ok(Format::Nested));
}

#[test]
fn an_unknown_name_is_refused_or_falls_back_as_in_salt() {
    // recorded/targeting-jobs/out-bogus.txt
    let error = Format::parse("nosuch").expect_err("there is no such outputter");
    assert_eq!(error.fallback_line(), "[ERROR   ] Invalid outputter nosuch specified, fall back to nested\n");
    let known = "json, jsonl, key, nested, no_return, pprint, quiet, raw, table, txt, yaml";
    assert_eq!(error.to_string(), format!("unknown outputter `nosuch`; known: {known}"));
}

#[test]
fn nested_shows_arguments_as_salt_does() {
    // recorded/events/args.txt
    let args = || {
        vec![
            Value::from(1),
            "two".into(),
            3.5.into(),
            true.into(),
            Value::Null,
            map! { "a" => 1 }.into(),
            list(["x".into(), "y".into()]),
        ]
    };
    let mut pub_args = args();
    pub_args.push(map! { "kw" => 5, "__kwarg__" => true }.into());
    let kwargs = map! {
        "kw" => 5,
        "__pub_fun" => "test.arg",
        "__pub_arg" => pub_args,
        "__pub_resource_targets" => list([]),
        "__pub_ret" => "",
        "__pub_tgt" => "m1",
    };
    let expected = "m1:
    ----------
    args:
        - 1
        - two
        - 3.5
        - True
        - None
        |_
          ----------
          a:
              1
        |_
          - x
          - y
    kwargs:
        ----------
        __pub_arg:
            - 1
            - two
            - 3.5
            - True
            - None
            |_
              ----------
              a:
                  1
            |_
              - x
              - y
            |_
              ----------
              __kwarg__:
                  True
              kw:
                  5
        __pub_fun:
            test.arg
        __pub_resource_targets:
        __pub_ret:
        __pub_tgt:
            m1
        kw:
            5
";
    check(Format::Nested, map! { "m1" => map! { "kwargs" => kwargs, "args" => args() } }, expected);
}

#[test]
fn nested_shows_each_kind_of_value() {
    check(Format::Nested, map! { "m1" => true }, "m1:\n    True\n");
    check(Format::Nested, map! { "m1" => "" }, "m1:\n");
    check(Format::Nested, true, "True\n");
    check(Format::Nested, Value::Null, "None\n");
    check(Format::Nested, "", "");
    check(Format::Nested, map! {}, "");
    check(Format::Nested, list([]), "");
    check(Format::Nested, 1e16, "1e+16\n");
    check(Format::Nested, map! { "m1" => map! {} }, "m1:\n    ----------\n");
    check(Format::Nested, list(["a\nb".into(), "".into(), "c".into()]), "- a\n  b\n- c\n");
    check(Format::Nested, list([list([]), map! {}.into()]), "|_\n|_\n  ----------\n");
    check(Format::Nested, list([list([list([1.into()])])]), "|_\n  |_\n    - 1\n");
    check(Format::Nested, map! { "b" => 1, 2 => 3, "a" => 4 }, "2:\n    3\na:\n    4\nb:\n    1\n");
    check(Format::Nested, map! { 10 => 1, 9 => 2 }, "9:\n    2\n10:\n    1\n");
    check(Format::Nested, map! { "m1" => Value::Bytes(b"text".to_vec()) }, "m1:\n    text\n");
    check(Format::Nested, map! { "m1" => Value::Bytes(vec![0xff, b'a']) }, "m1:\n    b'\\xffa'\n");
    // recorded/events/runner-manage-status.txt and runner-presence.txt
    check(Format::Nested, map! { "up" => vec!["m1"], "down" => list([]) }, "down:\nup:\n    - m1\n");
    check(Format::Nested, vec!["m1"], "- m1\n");
}

#[test]
fn nested_indents_every_line_of_a_text() {
    // recorded/events/failing-badargs.txt
    let text = "Passed invalid arguments to test.sleep: sleep() missing 1 required positional argument: 'length'\n\n    \
                Instruct the minion to initiate a process that will sleep for a given\n    period of time.\n\n    \
                CLI Example:\n";
    let expected = "m1:
    Passed invalid arguments to test.sleep: sleep() missing 1 required positional argument: 'length'
    \n        Instruct the minion to initiate a process that will sleep for a given
        period of time.
    \n        CLI Example:
";
    check(Format::Nested, map! { "m1" => text }, expected);
}

#[test]
fn nested_has_salts_colours() {
    let value = Value::from(map! { "m1" => map! { "a" => list(["x".into(), 1.into(), list([])]), "b" => true } });
    let coloured = |outcome| render(Format::Nested, &value, &Style { outcome, ..Style::TERMINAL });
    let expected = "\x1b[0;36mm1\x1b[0;0m:
    \x1b[0;36m----------\x1b[0;0m
    \x1b[0;36ma\x1b[0;0m:
        \x1b[0;32m- x\x1b[0;0m
        \x1b[0;1;33m- 1\x1b[0;0m
        \x1b[0;32m|_\x1b[0;0m
    \x1b[0;36mb\x1b[0;0m:
        \x1b[0;1;33mTrue\x1b[0;0m
";
    assert_eq!(coloured(Outcome::Good), expected);
    let bad = expected.replace("36m", "31m").replace("[0;32m|_", "[0;31m|_");
    assert_eq!(coloured(Outcome::Bad), bad);
}

#[test]
fn json_is_salts() {
    // recorded/targeting-jobs/out-json-indent.txt, out-json.txt, events/key-list-json.txt
    let value = Value::from(map! { "m2" => true });
    let indented = |indent| render(Format::Json, &value, &Style { indent: Some(indent), ..Style::PLAIN });
    assert_eq!(indented(-1), "{\"m2\": true}\n");
    assert_eq!(indented(0), "{\n\"m2\": true\n}\n");
    assert_eq!(indented(2), "{\n  \"m2\": true\n}\n");
    assert!(indented(i32::MAX).len() < 100);
    check(Format::Json, map! { "m2" => true, "m1" => true }, "{\n    \"m2\": true,\n    \"m1\": true\n}\n");
    check(
        Format::Json,
        map! { "m1" => map! { "args" => vec!["a"], "kwargs" => map! { "b" => 2, "e" => list([]), "o" => map! {} } } },
        "{
    \"m1\": {
        \"args\": [
            \"a\"
        ],
        \"kwargs\": {
            \"b\": 2,
            \"e\": [],
            \"o\": {}
        }
    }
}
",
    );
    check(Format::Json, "it's \"é\"", "\"it's \\\"é\\\"\"\n");
    check(Format::Json, list([f64::NAN.into(), Value::Bytes(vec![0xff])]), "[\n    NaN,\n    \"b'\\\\xff'\"\n]\n");
}

#[test]
fn jsonl_is_one_compact_line() {
    check(Format::Jsonl, grains(), "{\"m1\":{\"role\":\"r1\",\"site\":{\"dc\":[\"x\",\"y1\"]}}}\n");
    check(Format::Jsonl, list([f64::INFINITY.into(), "a\nb".into()]), "[null,\"a\\nb\"]\n");
}

#[test]
fn yaml_is_sorted_blocks() {
    // recorded/targeting-jobs/out-yaml.txt and jobs-list-filter.txt
    let job = map! { "Function" => "test.ping", "Arguments" => list([]), "Target" => vec!["m3", "m1"] };
    let expected = "'20261121003156379676':
  Arguments: []
  Function: test.ping
  Target:
  - m3
  - m1
";
    check(Format::Yaml, map! { "20261121003156379676" => job }, expected);
    check(Format::Yaml, grains(), "m1:\n  role: r1\n  site:\n    dc:\n    - x\n    - y1\n");
}

#[test]
fn txt_puts_the_id_before_each_line() {
    // recorded/targeting-jobs/out-txt.txt, batch-wait.txt, mixed-exit.txt
    check(Format::Txt, map! { "m2" => map! { "role" => "r2" } }, "m2: {'role': 'r2'}\n");
    check(Format::Txt, map! { "retcode" => 0, "jid" => "2026", "m2" => true }, "retcode: 0\njid: 2026\nm2: True\n");
    check(Format::Txt, map! { "m1" => "a\n\nb\n" }, "m1: a\nm1: \nm1: b\n");
    check(Format::Txt, map! { "m1" => "" }, "");
    check(Format::Txt, map! { "m1" => Value::Null, "m2" => vec!["it's"] }, "m1: None\nm2: [\"it's\"]\n");
    check(Format::Txt, map! { "m1" => Value::Bytes(b"a\nb\xff\n".to_vec()) }, "m1: b'a'\nm1: b'b\\xff'\n");
    check(Format::Txt, "plain\ntext", "plain\ntext\n");
    check(Format::Txt, vec![1, 2], "[1, 2]\n");
}

#[test]
fn raw_is_pythons_str() {
    // recorded/targeting-jobs/out-raw.txt
    check(Format::Raw, map! { "m2" => true }, "{'m2': True}\n");
    check(Format::Raw, "it's", "it's\n");
    check(Format::Raw, map! { "b" => 1, "a" => Value::Null }, "{'b': 1, 'a': None}\n");
}

#[test]
fn pprint_wraps_as_python_does() {
    // recorded/targeting-jobs/out-pprint.txt; the others from Python 3.11.
    check(Format::Pprint, grains(), "{'m1': {'role': 'r1', 'site': {'dc': ['x', 'y1']}}}\n");
    check(Format::Pprint, map! { "b" => 1, "a" => map! { "d" => 2, "c" => 3 } }, "{'a': {'c': 3, 'd': 2}, 'b': 1}\n");
    let items: Vec<String> = (0..4).map(|n| format!("item number {n} in line")).collect();
    let expected = "{'m1': {'list': ['item number 0 in line',
                 'item number 1 in line',
                 'item number 2 in line',
                 'item number 3 in line']}}
";
    check(Format::Pprint, map! { "m1" => map! { "list" => items } }, expected);
    let text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen";
    let expected = "('one two three four five six seven eight nine ten eleven twelve thirteen '
 'fourteen fifteen')
";
    check(Format::Pprint, text, expected);
    let expected = "{'m1': 'one two three four five six seven eight nine ten eleven twelve '
       'thirteen fourteen fifteen'}
";
    check(Format::Pprint, map! { "m1" => text }, expected);
}

#[test]
fn pprint_of_a_deep_and_large_value_does_not_take_for_ever() {
    let mut value = Value::from("x".repeat(1_000_000));
    for _ in 0..100 {
        value = list([value]);
    }
    let printed = render(Format::Pprint, &value, &Style::PLAIN);
    assert_eq!(printed.len(), 1_000_000 + 2 + 200 + 1);
}

#[test]
fn table_draws_boxes() {
    // recorded/targeting-jobs/out-table.txt
    let expected = "m1:
----------
    role:
    ----------
    site:
    ----------
        dc:
        ----------
            ------
            | x  |
            ------
            | y1 |
            ------
";
    check(Format::Table, grains(), expected);
    let rows = list([
        map! { "last_move" => 1.5, "active" => true }.into(),
        map! { "active" => false, "last_move" => 2 }.into(),
    ]);
    let expected = "    ----------------------
    | Active | Last Move |
    ----------------------
    |  True  |    1.5    |
    ----------------------
    | False  |     2     |
    ----------------------
";
    check(Format::Table, rows, expected);
    check(Format::Table, list(["a".into(), 1.into()]), "");
    // Salt falls back to nested where a row is not text.
    check(Format::Table, map! { "m1" => vec![1, 2] }, "m1:\n    - 1\n    - 2\n");
    let ragged = list([vec!["a", "b"].into(), vec!["c"].into()]);
    check(Format::Table, ragged, "    ---------\n    | a | b |\n    ---------\n    | c |   |\n    ---------\n");
}

#[test]
fn key_lists_states_in_order() {
    // recorded/events/key-list-pending.txt, key-list-after-reject.txt, key-finger.txt
    let keys = |accepted: &[&str], pending: &[&str], rejected: &[&str]| {
        map! {
            "minions_pre" => pending.to_vec(),
            "minions_rejected" => rejected.to_vec(),
            "minions" => accepted.to_vec(),
            "minions_denied" => list([]),
        }
    };
    let expected = "Accepted Keys:\nDenied Keys:\nUnaccepted Keys:\nm1\nm2\nRejected Keys:\n";
    check(Format::Key, keys(&[], &["m2", "m1"], &[]), expected);
    let expected = "Accepted Keys:\nm1\nDenied Keys:\nUnaccepted Keys:\nRejected Keys:\nm2\n";
    check(Format::Key, keys(&["m1"], &[], &["m2"]), expected);
    let prints = map! {
        "minions_pre" => map! { "m1" => "fb:22" },
        "local" => map! { "vm.pem" => "1b:c1", "vm.pub" => "a2:0d" },
    };
    check(Format::Key, prints, "Local Keys:\nvm.pem:  1b:c1\nvm.pub:  a2:0d\nUnaccepted Keys:\nm1:  fb:22\n");
    check(Format::Key, map! { "m1" => true }, "m1:\n    True\n");
    let coloured = render(Format::Key, &map! { "minions" => vec!["m1"] }.into(), &Style::TERMINAL);
    assert_eq!(coloured, "\x1b[0;1;32mAccepted Keys:\x1b[0;0m\n\x1b[0;32mm1\x1b[0;0m\n");
}

#[test]
fn quiet_prints_nothing() {
    check(Format::Quiet, grains(), "");
}

#[test]
fn no_return_is_red_under_cyan() {
    let value = Value::from(map! { "m3" => "Minion did not return. [Not connected]" });
    let expected = "\x1b[0;36mm3\x1b[0;0m:\n\x1b[0;31m    Minion did not return. [Not connected]\x1b[0;0m\n";
    assert_eq!(render(Format::NoReturn, &value, &Style::TERMINAL), expected);
}

/// A minion that tries everything: control characters in keys and values, as text and as bytes.
fn hostile() -> Value {
    let text: String = (0u32..0xa0).filter_map(char::from_u32).collect();
    let row = map! { text.as_str() => text.as_str() };
    Value::from(map! {
        text.as_str() => list([text.as_str().into(), Value::Bytes(text.clone().into_bytes()), row.clone().into()]),
        "bytes" => Value::Bytes((0..=255).collect()),
        "minions" => list([row.into()]),
        "rows" => list([text.as_str().into()]),
    })
}

#[test]
fn no_format_lets_control_characters_reach_a_terminal() {
    let keys = Value::from(map! { "minions" => list(["\x1b]0;x\x07\r\u{9b}2J".into()]) });
    let text = Value::from("\x1b[2J\r\u{9b}x");
    let codes = regex::Regex::new("\x1b\\[0(;[0-9]+)*m").expect("a valid pattern");
    let style = Style { colour: Colour::Never, ..Style::TERMINAL };
    for outputter in all() {
        for value in [&hostile(), &keys, &text] {
            let shown = render(outputter.format, value, &style);
            let found = shown.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
            assert_eq!(found, None, "{} lets {found:?} pass", outputter.name);
            let coloured = render(outputter.format, value, &Style { colour: Colour::Always, ..Style::PLAIN });
            let bare = codes.replace_all(&coloured, "").into_owned();
            assert_eq!(bare, shown, "{} differs in colour", outputter.name);
        }
    }
}

#[test]
fn salt_takes_the_escape_character_out_of_nested_text_and_keeps_the_rest() {
    check(Format::Nested, map! { "m1" => "\x1b[31mred\x07" }, "m1:\n    ?[31mred\x07\n");
    let shown = render(
        Format::Nested,
        &map! { "m1" => "\x1b[31mred\x07" }.into(),
        &Style { colour: Colour::Never, ..Style::TERMINAL },
    );
    assert_eq!(shown, "m1:\n    ?[31mred\\x07\n");
}
