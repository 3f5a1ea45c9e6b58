//! Writes values as JSON, the way Python's `json.dumps(ensure_ascii=False)` does: same white space, same key texts.

use std::fmt::Write as _;

use proto::value::{Map, Value};

use crate::python;

use super::order;
use super::style::{Paint, Style};

/// Where lines break and what stands between items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One line without spaces.
    Compact,
    /// One item per line, indented by so many spaces per level.
    Indent(usize),
    /// One line, a space after each comma and colon.
    Line,
}

/// Which keys come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they are in the map.
    Kept,
    /// As Python sorts them.
    Sorted,
}

/// What stands for values that JSON cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    /// What Salt's event stream writes: bytes as text if they are UTF-8, else base64; `NaN` and `Infinity`.
    Event,
    /// What Salt's outputter writes: bytes as Python's `b'…'`; `NaN` and `Infinity`, which not every parser reads.
    Python,
    /// What every parser reads: bytes as for events, null for floats that are not finite.
    Strict,
}

/// How one document is written.
pub(super) struct JsonWriter<'a> {
    pub(super) style: &'a Style,
    pub(super) layout: Layout,
    pub(super) order: Order,
    pub(super) beyond: Beyond,
    /// The colour of keys, if they have one.
    pub(super) key_paint: Option<Paint>,
}

impl JsonWriter<'_> {
    /// Returns the document, without a line end.
    pub(super) fn document(&self, value: &Value) -> String {
        let mut out = String::new();
        self.value(&mut out, value, 0);
        out
    }

    fn value(&self, out: &mut String, value: &Value, level: usize) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Int(number) => {
                let _ = write!(out, "{number}");
            }
            Value::Float(number) => out.push_str(&self.float(*number)),
            Value::Str(text) => self.text(out, text),
            Value::Bytes(bytes) => self.text(out, &self.bytes(bytes)),
            Value::List(items) => self.list(out, items, level),
            Value::Map(map) => self.map(out, map, level),
        }
    }

    fn list(&self, out: &mut String, items: &[Value], level: usize) {
        out.push('[');
        for (at, item) in items.iter().enumerate() {
            self.separate(out, at, level + 1);
            self.value(out, item, level + 1);
        }
        self.close(out, items.len(), level, ']');
    }

    fn map(&self, out: &mut String, map: &Map, level: usize) {
        let entries = match self.order {
            Order::Kept => map.iter().collect(),
            Order::Sorted => order::sorted(map),
        };
        out.push('{');
        for (at, (key, item)) in entries.into_iter().enumerate() {
            self.separate(out, at, level + 1);
            self.key(out, key);
            out.push_str(if self.layout == Layout::Compact { ":" } else { ": " });
            self.value(out, item, level + 1);
        }
        self.close(out, map.len(), level, '}');
    }

    fn key(&self, out: &mut String, key: &Value) {
        let text = match key {
            Value::Str(text) => text.clone(),
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Float(number) => python_float(*number),
            Value::Bytes(bytes) => self.bytes(bytes),
            other => python::repr(other),
        };
        out.push_str(self.key_paint.map_or("", |paint| self.style.start(paint)));
        self.text(out, &text);
        out.push_str(self.key_paint.map_or("", |_| self.style.end()));
    }

    /// Writes what comes before the item at that place.
    fn separate(&self, out: &mut String, at: usize, level: usize) {
        match self.layout {
            Layout::Compact => out.push_str(if at == 0 { "" } else { "," }),
            Layout::Line => out.push_str(if at == 0 { "" } else { ", " }),
            Layout::Indent(step) => {
                out.push_str(if at == 0 { "" } else { "," });
                new_line(out, step * level);
            }
        }
    }

    fn close(&self, out: &mut String, length: usize, level: usize, bracket: char) {
        if let (Layout::Indent(step), true) = (self.layout, length > 0) {
            new_line(out, step * level);
        }
        out.push(bracket);
    }

    fn float(&self, number: f64) -> String {
        if self.beyond == Beyond::Strict && !number.is_finite() { "null".to_owned() } else { python_float(number) }
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        match (self.beyond, std::str::from_utf8(bytes)) {
            (Beyond::Python, _) => python::repr(&Value::Bytes(bytes.to_vec())),
            (_, Ok(text)) => text.to_owned(),
            (_, Err(_)) => python::base64(bytes),
        }
    }

    /// Writes a text in quotes. JSON already escapes C0; on a terminal, delete and C1 are escaped too, still valid JSON.
    fn text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                _ if c < ' ' || (c.is_control() && self.style.escapes()) => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                _ => out.push(c),
            }
        }
        out.push('"');
    }
}

fn new_line(out: &mut String, spaces: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', spaces));
}

fn python_float(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => python::float_repr(number),
    }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn write(value: &Value, layout: Layout, order: Order, beyond: Beyond) -> String {
        JsonWriter { style: &Style::PLAIN, layout, order, beyond, key_paint: None }.document(value)
    }

    #[test]
    fn layouts_are_those_of_python() {
        let value = Value::from(map! { "b" => vec![1, 2], "a" => Value::from(map! {}), "c" => Value::List(vec![]) });
        let check = |layout, order, expected: &str| assert_eq!(write(&value, layout, order, Beyond::Python), expected);
        check(Layout::Line, Order::Kept, r#"{"b": [1, 2], "a": {}, "c": []}"#);
        check(Layout::Compact, Order::Sorted, r#"{"a":{},"b":[1,2],"c":[]}"#);
        check(Layout::Indent(2), Order::Sorted, "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": []\n}");
        check(Layout::Indent(0), Order::Kept, "{\n\"b\": [\n1,\n2\n],\n\"a\": {},\n\"c\": []\n}");
    }

    #[test]
    fn what_json_cannot_say_is_said_somehow() {
        let value = Value::List(vec![
            f64::NAN.into(),
            f64::NEG_INFINITY.into(),
            Value::Bytes(b"ab".to_vec()),
            Value::Bytes(vec![0xff, 0xfe]),
        ]);
        let check = |beyond, expected: &str| assert_eq!(write(&value, Layout::Line, Order::Kept, beyond), expected);
        check(Beyond::Python, r#"[NaN, -Infinity, "b'ab'", "b'\\xff\\xfe'"]"#);
        check(Beyond::Event, r#"[NaN, -Infinity, "ab", "//4="]"#);
        check(Beyond::Strict, r#"[null, null, "ab", "//4="]"#);
    }

    #[test]
    fn keys_become_text_as_python_makes_them() {
        let value = Value::from(map! { Value::Null => 1, true => 2, 7 => 3, 1.0 => 4, "k\"" => 5 });
        let expected = r#"{"null": 1, "true": 2, "7": 3, "1.0": 4, "k\"": 5}"#;
        assert_eq!(write(&value, Layout::Line, Order::Kept, Beyond::Python), expected);
    }

    #[test]
    fn control_characters_are_escaped_and_the_rest_is_not() {
        let value = Value::from("é\x1b\x08\x0c\n\u{7f}\u{9b}\u{2028}");
        let written = write(&value, Layout::Line, Order::Kept, Beyond::Python);
        assert_eq!(written, "\"é\\u001b\\b\\f\\n\u{7f}\u{9b}\u{2028}\"");
        let style = Style::TERMINAL;
        let writer = JsonWriter {
            style: &style,
            layout: Layout::Line,
            order: Order::Kept,
            beyond: Beyond::Python,
            key_paint: None,
        };
        assert_eq!(writer.document(&value), "\"é\\u001b\\b\\f\\n\\u007f\\u009b\u{2028}\"");
    }
}
