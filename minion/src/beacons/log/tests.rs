//! The beacon `log`: what fires, and a file that is written, cut and rotated.

use std::io::Write;

use super::*;

fn tags(json: &str) -> Tags {
    serde_json::from_str(json).unwrap()
}

/// Gives one line; expects the tags that fire.
fn check(json: &str, line: &str, expected: &[&str]) {
    let events = judge(&tags(json), &[line.to_owned()]);
    assert_eq!(events.iter().map(|event| event.suffix.as_str()).collect::<Vec<_>>(), expected, "{line}");
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Reads until there is nothing more.
fn rest(tail: &mut Tail) -> Vec<String> {
    let mut lines = tail.read(LOOK_BYTES).unwrap();
    while tail.has_more {
        lines.extend(tail.read(LOOK_BYTES).unwrap());
    }
    lines
}

#[test]
fn an_expression_matches_from_the_beginning_of_a_line() {
    check(r#"{"a/b": {"regex": ".*good-bye.*"}}"#, "they said good-bye 2", &["a/b"]);
    check(r#"{"a": {"regex": "good-bye"}}"#, "they said good-bye", &[]);
    check(r#"{"a": {"regex": "they"}, "b": {"regex": "(?i)THEY (?!went)"}}"#, "they said", &["a", "b"]);
    check(r#"{"a": {"regex": ""}, "b": {}}"#, "they said", &[]);
}

#[test]
fn the_event_is_salts() {
    let tags = tags(r#"{"goodbye/world": {"regex": ".*good-bye.*"}}"#);
    let events = judge(&tags, &["x".to_owned(), "good-bye 2".to_owned()]);
    let data = map! { "match" => "yes", "raw" => "good-bye 2", "error" => "" };
    assert_eq!(events, [BeaconEvent { suffix: "goodbye/world".into(), data }]);
}

#[test]
fn an_expression_that_takes_too_long_is_told() {
    let tags = tags(r#"{"slow": {"regex": "(a|b|ab)*(?>c)"}}"#);
    let events = judge(&tags, &[format!("{}xc", "ab".repeat(50))]);
    assert_eq!(events, [event("slow", "no", "", "bad match")]);
}

#[test]
fn only_new_and_whole_lines_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    append(&path, "old\nhalf");
    let mut tail = Tail::begin(path.clone());
    assert_eq!(rest(&mut tail), [""; 0]);
    append(&path, " a line\none\r\ntw");
    assert_eq!(rest(&mut tail), [" a line", "one"]);
    append(&path, "o\n");
    assert_eq!(rest(&mut tail), ["two"]);
    assert_eq!(rest(&mut tail), [""; 0]);
}

#[test]
fn a_file_that_was_empty_or_missing_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    for before in [None, Some("")] {
        let path = folder.path().join(if before.is_some() { "empty" } else { "missing" });
        before.inspect(|text| append(&path, text));
        let mut tail = Tail::begin(path.clone());
        assert_eq!(rest(&mut tail), [""; 0]);
        append(&path, "one\n");
        assert_eq!(rest(&mut tail), ["one"], "{before:?}");
    }
}

#[test]
fn a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
    append(&path, "old\n");
    let mut tail = Tail::begin(path.clone());
    append(&path, "one\n");
    fs::rename(&path, &old).unwrap();
    append(&old, "two\nthr");
    assert_eq!(rest(&mut tail), ["one", "two"]);
    append(&old, "ee");
    append(&path, "four\nfiv");
    // The old one is left when it has been quiet for a look.
    assert_eq!(rest(&mut tail), [""; 0]);
    assert_eq!(rest(&mut tail), ["three", "four"]);
    // Cut in its place.
    fs::write(&path, "6\n").unwrap();
    assert_eq!(rest(&mut tail), ["fiv", "6"]);
}

#[test]
fn a_look_and_a_line_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut tail = Tail::begin(path.clone());
    append(&path, "a\nb\nc\n");
    assert_eq!((tail.read(4).unwrap(), tail.has_more), (vec!["a".to_owned(), "b".to_owned()], true));
    assert_eq!((tail.read(4).unwrap(), tail.has_more), (vec!["c".to_owned()], false));
    append(&path, &"x".repeat(LINE_BYTES + 3));
    let lines = rest(&mut tail);
    assert_eq!((lines.len(), lines[0].len(), tail.partial.len()), (1, LINE_BYTES, 3));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut tail = Tail::begin(folder.path().to_owned());
    assert_eq!(rest(&mut tail), [""; 0]);
    assert!(tail.told);
}

#[test]
fn wrong_options_are_refused() {
    let check = |json: &str, expected: &str| {
        let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("{}", "missing field `file`");
    check(r#"{"file": "/x", "tags": {"a": {"regex": "("}}}"#, "tag a: bad regex");
    check(r#"{"file": "/x", "tags": {"a": {"pattern": "x"}}}"#, "tag a: unknown field `pattern`, expected `regex`");
    check(r#"{"file": "/x", "tags": ["a"]}"#, "expected a map");
}
