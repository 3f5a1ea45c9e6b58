//! `--out txt`: each line of a minion's text behind its id, as `id: line`; all else on one line as Python writes it.

use proto::value::Value;

use crate::python;

use super::style::Style;
use super::{Format, Outputter, pprint, text};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "txt",
    format: Format::Txt,
    help: "`id: line` for each line of text",
    print: |value, style| Some(print(value, style)),
};

fn print(value: &Value, style: &Style) -> String {
    match value {
        Value::Map(map) => {
            let lines: Vec<String> = map.iter().flat_map(|(key, value)| entry(&python::str(key), value)).collect();
            style.clean(&lines.join("\n")).into_owned()
        }
        Value::Str(text) => style.clean(text).into_owned(),
        other => pprint::print(other, &Style { indent: None, ..*style }),
    }
}

fn entry(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Str(text) => text::lines(text).map(|line| format!("{key}: {line}")).collect(),
        Value::Bytes(bytes) => {
            let lines = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
            let last_is_empty = lines.last().is_some_and(|line| line.is_empty());
            let count = lines.len() - usize::from(last_is_empty);
            let text = |line: &&[u8]| python::repr(&Value::Bytes(line.strip_suffix(b"\r").unwrap_or(line).to_vec()));
            lines[..count].iter().map(|line| format!("{key}: {}", text(line))).collect()
        }
        other => vec![format!("{key}: {}", python::repr(other))],
    }
}
