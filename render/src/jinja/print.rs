//! How templates print values: as Python's `str` and `repr`.

use minijinja::Value;
use minijinja::value::ValueKind;

use super::object::{Dict, List, View};
use super::session::MAX_DEPTH;
use crate::python;

/// Writes a value as `{{ … }}` does.
pub(super) fn str(value: &Value) -> String {
    // The engine takes bytes for a text where they could be one, Python never does.
    match value.as_str().filter(|_| value.kind() != ValueKind::Bytes) {
        Some(text) => text.to_owned(),
        None => repr(value),
    }
}

/// Writes a value as Python's `repr`.
pub(super) fn repr(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out, 0);
    out
}

fn write(value: &Value, out: &mut String, depth: usize) {
    if depth > MAX_DEPTH + 2 {
        return out.push_str("...");
    }
    if let Some(list) = value.downcast_object_ref::<List>() {
        let items = list.items().clone();
        return match (list.tuple, items.len()) {
            (false, _) => write_items("[", &items, "]", out, depth),
            (true, 1) => write_items("(", &items, ",)", out, depth),
            (true, _) => write_items("(", &items, ")", out, depth),
        };
    }
    if let Some(view) = value.downcast_object_ref::<View>() {
        out.push_str("dict_");
        out.push_str(view.method);
        return write_items("([", &view.items, "])", out, depth);
    }
    if let Some(dict) = value.downcast_object_ref::<Dict>() {
        let entries = dict.entries().clone();
        return write_pairs(entries.iter(), out, depth);
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => out.push_str(&python::text_repr(value.as_str().unwrap_or_default())),
        ValueKind::Bytes => {
            let bytes = value.as_bytes().unwrap_or_default().to_vec();
            out.push_str(&python::repr(&proto::value::Value::Bytes(bytes)));
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().into_iter().flatten().collect();
            match (value.is_tuple(), items.len()) {
                (false, _) => write_items("[", &items, "]", out, depth),
                (true, 1) => write_items("(", &items, ",)", out, depth),
                (true, _) => write_items("(", &items, ")", out, depth),
            }
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn write_items(open: &str, items: &[Value], close: &str, out: &mut String, depth: usize) {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        write(item, out, depth + 1);
    }
    out.push_str(close);
}

fn write_pairs<'a>(pairs: impl Iterator<Item = (&'a Value, &'a Value)>, out: &mut String, depth: usize) {
    out.push('{');
    for (index, (key, value)) in pairs.enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        write(key, out, depth + 1);
        out.push_str(": ");
        write(value, out, depth + 1);
    }
    out.push('}');
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python::float_repr)
}
