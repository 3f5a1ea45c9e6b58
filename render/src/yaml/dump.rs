//! Writing YAML as PyYAML's `safe_dump(default_flow_style=False, allow_unicode=True)` does, which is Salt's way.

use proto::value::{Map, Value};

use super::analyze::{self, Style};
use super::emit::Emitter;

/// The longest key, in letters, that is written as `key: value`.
const MAX_SIMPLE_KEY: usize = 128;

/// In which order the keys of maps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// As they are in the value: Salt's ordered maps.
    Kept,
    /// By their text: PyYAML's default.
    Sorted,
}

/// Writes one YAML document, with a newline at its end. Maps keep their order.
pub fn dump(value: &Value) -> String {
    dump_in(value, KeyOrder::Kept)
}

/// Writes one YAML document, with a newline at its end, its keys in this order.
pub fn dump_in(value: &Value, order: KeyOrder) -> String {
    let mut dumper = Dumper { out: Emitter::default(), order };
    match value {
        Value::List(items) if !items.is_empty() => dumper.list(items, 0),
        Value::Map(map) if !map.is_empty() => dumper.map(map, 0),
        // A plain scalar alone needs a document end.
        other => {
            dumper.scalar(other, 2, false);
            dumper.out.finish_line();
            let open = !matches!(other, Value::List(_) | Value::Map(_) | Value::Bytes(_))
                && !matches!(other, Value::Str(text) if analyze::style(text, false) != Style::Plain);
            if open {
                dumper.out.write("...\n");
            }
        }
    }
    dumper.out.finish_line();
    dumper.out.into_text()
}

/// Writes a value in one line, as `default_flow_style=True` does but never folded.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{}: {}", flow(key), flow(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Str(text) => match analyze::flow_style(text) {
            Style::Plain => text.clone(),
            Style::Single => single_quoted(text),
            Style::Double => double_quoted(text),
        },
        scalar => {
            let mut dumper = Dumper { out: Emitter::default(), order: KeyOrder::Kept };
            dumper.scalar(scalar, 0, true);
            dumper.out.into_text()
        }
    }
}

/// Writes a text in double quotes, on one line and in ASCII.
pub(crate) fn double_quoted(text: &str) -> String {
    let mut out = Emitter::default();
    out.ascii_quoted(text);
    out.into_text()
}

/// Writes a text in single quotes.
pub(crate) fn single_quoted(text: &str) -> String {
    let mut out = Emitter::default();
    out.single_quoted(text, 0, false);
    out.into_text()
}

struct Dumper {
    out: Emitter,
    order: KeyOrder,
}

impl Dumper {
    fn list(&mut self, items: &[Value], indent: usize) {
        for item in items {
            self.out.start_line(indent);
            self.out.write("-");
            match item {
                Value::List(inner) if !inner.is_empty() => {
                    self.out.compact(indent + 2);
                    self.list(inner, indent + 2);
                }
                Value::Map(inner) if !inner.is_empty() => {
                    self.out.compact(indent + 2);
                    self.map(inner, indent + 2);
                }
                scalar => self.scalar(scalar, indent + 2, false),
            }
        }
    }

    fn map(&mut self, map: &Map, indent: usize) {
        let mut pairs: Vec<(&Value, &Value)> = map.iter().collect();
        if self.order == KeyOrder::Sorted {
            pairs.sort_by(|(a, _), (b, _)| sort_key(a).partial_cmp(&sort_key(b)).unwrap_or(std::cmp::Ordering::Equal));
        }
        for (key, value) in pairs {
            self.out.start_line(indent);
            if is_simple_key(key) {
                self.scalar(key, indent, true);
            } else {
                self.out.write("?");
                self.scalar(key, indent + 2, false);
                self.out.start_line(indent);
            }
            self.out.write(":");
            match value {
                Value::List(items) if !items.is_empty() => self.list(items, indent),
                Value::Map(inner) if !inner.is_empty() => self.map(inner, indent + 2),
                scalar => self.scalar(scalar, indent + 2, false),
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, simple_key: bool) {
        match value {
            Value::Null => self.out.word("null"),
            Value::Bool(flag) => self.out.word(if *flag { "true" } else { "false" }),
            Value::Int(number) => self.out.word(&number.to_string()),
            Value::Float(number) => self.out.word(&float(*number)),
            Value::Str(text) => match analyze::style(text, simple_key) {
                Style::Plain => self.out.plain(text, indent, !simple_key),
                Style::Single => self.out.single_quoted(text, indent, !simple_key),
                Style::Double => self.out.double_quoted(text, indent, !simple_key),
            },
            Value::Bytes(bytes) => self.out.binary(bytes, indent),
            // Only empty ones come here, and keys, which PyYAML would not have.
            Value::List(items) if items.is_empty() => self.out.word("[]"),
            Value::Map(map) if map.is_empty() => self.out.word("{}"),
            nested => self.out.word(&nested.to_json().to_string()),
        }
    }
}

fn is_simple_key(key: &Value) -> bool {
    match key {
        Value::Str(text) => !text.is_empty() && text.chars().count() < MAX_SIMPLE_KEY && !analyze::is_multiline(text),
        Value::Bytes(_) => false,
        _ => true,
    }
}

/// Python sorts texts by code point and numbers by size; mixed keys it refuses, here numbers come first.
fn sort_key(key: &Value) -> (u8, f64, String) {
    match key {
        Value::Null => (0, 0.0, String::new()),
        Value::Bool(flag) => (1, f64::from(u8::from(*flag)), String::new()),
        Value::Int(_) | Value::Float(_) => (1, key.as_f64().unwrap_or_default(), String::new()),
        other => (2, 0.0, other.to_key()),
    }
}

/// Writes a float as Python's `repr`, with the dot that YAML 1.1 asks for.
fn float(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let text = crate::python::float_repr(number);
    if text.contains('.') { text } else { text.replacen('e', ".0e", 1) }
}
