//! The order Python's `sorted` gives the keys of a map.

use std::cmp::Ordering;

use proto::value::{Map, Value};

/// Returns the entries of a map in the order of their keys: numbers by value, text by code point. Keys that Python
/// refuses to compare go by the name of their type, as `pprint` orders them.
pub(super) fn sorted(map: &Map) -> Vec<(&Value, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by(|a, b| compare(a.0, b.0));
    entries
}

/// Tells whether Python can compare all these keys with each other.
pub(super) fn comparable(map: &Map) -> bool {
    let mut kinds = map.keys().map(kind);
    let Some(first) = kinds.next() else { return true };
    let unordered = first == "NoneType" || first == "dict";
    (map.len() == 1 || !unordered) && kinds.all(|other| other == first)
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::List(a), Value::List(b)) => {
            let difference = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            difference.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => match (number(a), number(b)) {
            (Some(Number::Int(a)), Some(Number::Int(b))) => a.cmp(&b),
            (Some(a), Some(b)) => a.float().total_cmp(&b.float()),
            _ => kind(a).cmp(kind(b)),
        },
    }
}

enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "only the order of keys is at stake")]
    fn float(&self) -> f64 {
        match self {
            Number::Int(number) => *number as f64,
            Number::Float(number) => *number,
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Bool(flag) => Some(Number::Int(i128::from(*flag))),
        Value::Int(number) => Some(Number::Int(*number)),
        Value::Float(number) => Some(Number::Float(*number)),
        _ => None,
    }
}

/// Returns the Python type, with all numbers as one: they compare with each other.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bytes(_) => "bytes",
        Value::Map(_) => "dict",
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => "int",
        Value::Str(_) => "str",
        Value::List(_) => "tuple",
    }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn keys_come_in_pythons_order() {
        let check = |map: Map, expected: &[Value]| {
            let keys: Vec<Value> = sorted(&map).into_iter().map(|(key, _)| key.clone()).collect();
            assert_eq!(keys, expected);
        };
        check(map! { "kw" => 1, "__pub" => 2, "Z" => 3 }, &["Z".into(), "__pub".into(), "kw".into()]);
        check(map! { 10 => 1, 9 => 2, 9.5 => 3 }, &[9.into(), 9.5.into(), 10.into()]);
        check(map! { "a" => 1, 1 => 2, Value::Null => 3 }, &[Value::Null, 1.into(), "a".into()]);
    }

    #[test]
    fn text_and_numbers_do_not_compare() {
        assert!(comparable(&map! { "a" => 1, "b" => 2 }));
        assert!(comparable(&map! { 1 => 1, 2.5 => 2, true => 3 }));
        assert!(comparable(&map! { Value::Null => 1 }));
        assert!(!comparable(&map! { "a" => 1, 1 => 2 }));
    }
}
