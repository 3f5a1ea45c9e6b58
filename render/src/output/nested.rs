//! `--out nested`, the default: keys above their values, four spaces deeper; lists with dashes.
//!
//! One departure from Salt: bytes that are not UTF-8 are shown as Python's `b'…'`, where Salt shows nothing at all.

use std::borrow::Cow;

use proto::value::{Map, Value};

use crate::python;

use super::style::{Outcome, Paint, Style};
use super::{Format, Outputter, order, text};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "nested",
    format: Format::Nested,
    help: "indented text, the default",
    print: |value, style| Some(print(value, style)),
};

/// Returns the lines, the last one not ended.
pub(super) fn print(value: &Value, style: &Style) -> String {
    let mut nested = Nested { style, lines: Vec::new() };
    nested.value(value, 0, "");
    nested.lines.join("\n")
}

struct Nested<'a> {
    style: &'a Style,
    lines: Vec<String>,
}

impl Nested<'_> {
    fn value(&mut self, value: &Value, indent: usize, prefix: &str) {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.line(indent, Paint::LightYellow, prefix, &python::repr(value), "");
            }
            Value::Str(text) => self.text(text, indent, prefix),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.text(text, indent, prefix),
                Err(_) => self.line(indent, Paint::Yellow, prefix, &python::repr(&Value::Bytes(bytes.to_vec())), ""),
            },
            Value::List(items) => self.list(items, indent),
            Value::Map(map) => self.map(map, indent),
        }
    }

    /// Shows each line of a text; those after the first stand below it, past the dash.
    fn text(&mut self, text: &str, indent: usize, prefix: &str) {
        let blank = " ".repeat(prefix.len());
        for (at, line) in text::lines(text).enumerate() {
            // Salt takes the escape character out whether or not this is a terminal.
            let line = line.replace('\x1b', "?");
            let line = self.style.clean(&line);
            self.line(indent, Paint::Green, if at == 0 { prefix } else { &blank }, &line, "");
        }
    }

    fn list(&mut self, items: &[Value], indent: usize) {
        let paint = self.paint(Paint::Green);
        for item in items {
            if matches!(item, Value::List(_) | Value::Map(_)) {
                self.line(indent, paint, "", "|_", "");
                self.value(item, indent + 2, "");
            } else {
                self.value(item, indent, "- ");
            }
        }
    }

    fn map(&mut self, map: &Map, indent: usize) {
        let paint = self.paint(Paint::Cyan);
        if indent > 0 {
            self.line(indent, paint, "", "----------", "");
        }
        for (key, value) in entries(map) {
            let key = self.style.clean(&key).into_owned();
            self.line(indent, paint, "", &key, ":");
            self.value(value, indent + 4, "");
        }
    }

    fn line(&mut self, indent: usize, paint: Paint, prefix: &str, text: &str, suffix: &str) {
        let (start, end) = (self.style.start(paint), self.style.end());
        self.lines.push(format!("{:indent$}{start}{prefix}{text}{end}{suffix}", ""));
    }

    /// Returns the colour for structure: red if the job failed.
    fn paint(&self, paint: Paint) -> Paint {
        if self.style.outcome == Outcome::Bad { Paint::Red } else { paint }
    }
}

/// Returns the entries in the order of their keys; keys that Python cannot compare are compared as text.
pub(super) fn entries(map: &Map) -> Vec<(Cow<'_, str>, &Value)> {
    let text = |key: &'_ Value| -> Cow<'static, str> { Cow::Owned(python::str(key)) };
    if order::comparable(map) {
        return order::sorted(map).into_iter().map(|(key, value)| (text(key), value)).collect();
    }
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (text(key), value)).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}
