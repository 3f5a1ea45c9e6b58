//! The events: for each kind of tag that was recorded, ours have the same fields of the same types.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value as Json;

use super::data;

/// What differs: kind of tag, field (`*` is all of it), and the reason in `docs/differences.md`.
pub(super) const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("_salt_error", "*", NOTHING_TO_REFRESH),
    ("key", "*", NOTHING_TO_REFRESH),
    ("minion/refresh/<id>", "*", NOTHING_TO_REFRESH),
    ("myco/env", "pretag", PRETAG),
    ("myco/event/success", "*", PYTHON),
    ("myco/firemaster", "pretag", PRETAG),
    ("myco/kw", "pretag", PRETAG),
    ("myco/my_custom_module/finished", "*", PYTHON),
    ("myco/mytag/success", "pretag", PRETAG),
    ("resource/refresh/<id>", "*", NOTHING_TO_REFRESH),
    ("salt/batch/<jid>/complete", "*", BATCH),
    ("salt/batch/<jid>/halted", "*", BATCH),
    ("salt/batch/<jid>/new", "*", BATCH),
    ("salt/batch/<jid>/progress", "*", BATCH),
    ("salt/beacon/<id>/inotify//opt/salt-lab/watched/f.txt", "*", INOTIFY),
    ("salt/beacon/<id>/sh/<pid>", "cwd", SH),
    ("salt/beacon/<id>/sh/<pid>", "loginuid", SH),
    ("salt/beacon/<id>/sh/<pid>", "lossy", SH),
    ("salt/beacon/<id>/sh/<pid>", "pid", SH),
    ("salt/beacon/<id>/sh/<pid>", "ppid", SH),
    ("salt/beacon/<id>/sh/<pid>", "source", SH),
    ("salt/beacon/<id>/sh/<pid>", "tty", SH),
    ("salt/beacon/<id>/sh/<pid>", "uid", SH),
    ("salt/job/<jid>/new", "metadata", METADATA),
    ("salt/job/<jid>/ret/<id>", "arg", CALL),
    ("salt/job/<jid>/ret/<id>", "tgt", CALL),
    ("salt/job/<jid>/ret/<id>", "tgt_type", CALL),
    ("salt/reactors/manage/add-complete", "*", RULES),
    ("salt/reactors/manage/delete-complete", "*", RULES),
    ("salt/reactors/manage/leader/value", "*", RULES),
    ("salt/reactors/manage/list-results", "*", RULES),
    ("salt/run/<jid>/salt/reactors/manage/add", "*", RULES),
    ("salt/run/<jid>/salt/reactors/manage/delete", "*", RULES),
    ("salt/run/<jid>/salt/reactors/manage/is_leader", "*", RULES),
    ("salt/run/<jid>/salt/reactors/manage/list", "*", RULES),
];

const BATCH: &str = "Salt turns `--static` into a batch";
const CALL: &str = "The return of `salt-call` has the fields of every return";
const INOTIFY: &str = "Salt's other kinds of beacons";
const METADATA: &str = "The event `salt/job/<jid>/new` has `metadata`";
const NOTHING_TO_REFRESH: &str = "There is no event of Salt's own bookkeeping";
const PRETAG: &str = "What `salt-call` fires has `pretag` too";
const PYTHON: &str = "Modules in Python are neither synced nor run";
const RULES: &str = "The functions of the runner `reactor` print their answer and fire no events";
const SH: &str = "through eBPF, and adds";

/// Fields whose values are the user's, or a function's.
const FREE: &[&str] = &["arg", "fun_args", "return", "tgt", "retcode", "success", "fun"];

/// Fields by name, with the types that were seen.
type Fields = BTreeMap<String, BTreeSet<String>>;

/// Compares the events of a scene with the recorded ones; returns what is wrong. What was recorded in this group has to be
/// here; what is here has to be recorded in some group.
pub(super) fn compare(group: &str, ours: &[Json], cannot_be: &dyn Fn(&str) -> bool) -> Vec<String> {
    let (recorded, ours, all) = (kinds(&read(group)), kinds(ours), kinds(&everything()));
    let mut findings = Vec::new();
    for (kind, fields) in &recorded {
        let excused = |field: &str| DIFFERENCES.iter().any(|(of, what, _)| of == kind && *what == field);
        let wrong = match ours.get(kind) {
            None if !excused("*") && cannot_be(kind) => continue,
            None => vec![("*".to_owned(), "there is none here".to_owned())],
            Some(own) => differences(fields, own, &all[kind]),
        };
        let unexcused = wrong.iter().filter(|(field, _)| !excused(field));
        findings.extend(unexcused.map(|(field, why)| format!("{group}: event {kind}: {field}: {why}")));
        let idle = DIFFERENCES.iter().filter(|(of, what, _)| {
            of == kind && (*what == "*" || fields.contains_key(*what)) && !wrong.iter().any(|(field, _)| field == what)
        });
        findings.extend(idle.map(|(_, what, _)| format!("{group}: event {kind}: {what} is no difference any more")));
    }
    findings
}

/// Returns the fields that differ, and how.
fn differences(recorded: &Fields, own: &Fields, all: &Fields) -> Vec<(String, String)> {
    let none = BTreeSet::new();
    let names: BTreeSet<&String> = recorded.keys().chain(own.keys()).collect();
    let wrong = names.into_iter().filter_map(|name| {
        let of = |fields: &'_ Fields| fields.get(name).unwrap_or(&none).clone();
        let (theirs, ours, known) = (of(recorded), of(own), of(all));
        let same = theirs.is_subset(&ours) && ours.is_subset(&known);
        (!same).then(|| (name.clone(), format!("{theirs:?} with Salt, {ours:?} here")))
    });
    wrong.collect()
}

fn read(group: &str) -> Vec<Json> {
    let mut found = Vec::new();
    for name in ["events.jsonl", "sh-events.jsonl"] {
        let text = fs::read_to_string(data().join(group).join(name)).unwrap_or_default();
        found.extend(text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()));
    }
    assert!(!found.is_empty(), "{group} has no recorded events");
    found
}

fn everything() -> Vec<Json> {
    ["beacons", "event-api", "events", "reactor", "targeting-jobs"].into_iter().flat_map(read).collect()
}

/// Sorts events by kind of tag, and takes their fields together.
fn kinds(events: &[Json]) -> BTreeMap<String, Fields> {
    let mut kinds: BTreeMap<String, Fields> = BTreeMap::new();
    for event in events {
        let kind = kind(event["tag"].as_str().unwrap());
        let deep = kind.starts_with("salt/beacon/");
        collect("", &event["data"], deep, kinds.entry(kind).or_default());
    }
    kinds
}

fn collect(prefix: &str, data: &Json, deep: bool, fields: &mut Fields) {
    for (name, value) in data.as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        let free = FREE.contains(&name.as_str());
        fields.entry(name.clone()).or_default().insert(if free { "any" } else { kind_of(value) }.to_owned());
        if deep {
            collect(&format!("{name}."), value, deep, fields);
        }
    }
}

fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float",
        Json::Number(_) => "int",
        Json::String(_) => "text",
        Json::Array(_) => "list",
        Json::Object(_) => "map",
    }
}

/// Returns a tag without what is different in every run.
fn kind(tag: &str) -> String {
    const PATTERNS: &[(&str, &str)] = &[
        (r"20\d{18}", "<jid>"),
        (r"/m\d(/|$)", "/<id>$1"),
        (r"/status/20.*", "/status/<time>"),
        (r"/sh/\d+$", "/sh/<pid>"),
    ];
    static COMPILED: OnceLock<Vec<(Regex, &'static str)>> = OnceLock::new();
    let compiled =
        COMPILED.get_or_init(|| PATTERNS.iter().map(|(regex, with)| (Regex::new(regex).unwrap(), *with)).collect());
    compiled.iter().fold(tag.to_owned(), |tag, (regex, with)| regex.replace_all(&tag, *with).into_owned())
}
