//! `Value`: the dynamic value of loads, YAML documents and templates. Maps keep their order, keys may be any value.

use std::fmt;
use std::hash::{Hash, Hasher};

use indexmap::{Equivalent, IndexMap};

/// A map that keeps the order of its keys, as Salt's do.
pub type Map = IndexMap<Value, Value>;

/// A dynamic value: what msgpack, YAML and JSON can say.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing: msgpack nil, YAML `null`, Python's `None`.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer. Wide enough for every msgpack integer, signed or not.
    Int(i128),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// A sequence.
    List(Vec<Value>),
    /// An ordered map.
    Map(Map),
}

impl Value {
    /// Returns the text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// Returns the integer, if this is one.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the number as a float, if this is an integer or a float.
    #[expect(clippy::cast_precision_loss, reason = "the nearest float is what the caller asks for")]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the integer as a `u64`, if it is one and fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_int().and_then(|number| u64::try_from(number).ok())
    }

    /// Returns the items, if this is a sequence.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the map, if this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the map for changing it, if this is one.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the bytes of text or bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Str(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the value under a text key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map().and_then(|map| map.get(&Key(key)))
    }

    /// Tells whether this is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Tells what Python's `bool()` says of this value.
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.is_empty(),
        }
    }

    /// Returns the word users know for this kind of value (`str`, `int`, `map`…), for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }

    /// Returns the value as JSON. Bytes become text where they are UTF-8, else lossy text; keys become text as Python's
    /// `json` writes them; a float that JSON cannot say becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(signed), _) => signed.into(),
                (_, Ok(unsigned)) => unsigned.into(),
                _ => Json::String(number.to_string()),
            },
            Value::Float(number) => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Str(text) => Json::String(text.clone()),
            Value::Bytes(bytes) => Json::String(String::from_utf8_lossy(bytes).into_owned()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Value::Map(map) => Json::Object(map.iter().map(|(key, value)| (key.to_key(), value.to_json())).collect()),
        }
    }

    /// Returns the value that this JSON says.
    pub fn from_json(json: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(signed), _) => Value::Int(signed.into()),
                (_, Some(unsigned)) => Value::Int(unsigned.into()),
                _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Str(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            Json::Object(map) => Value::Map(
                map.iter().map(|(key, value)| (Value::from(key.as_str()), Value::from_json(value))).collect(),
            ),
        }
    }

    /// Returns the text that this value is as a JSON key.
    pub fn to_key(&self) -> String {
        match self {
            Value::Str(text) => text.clone(),
            Value::Null => "null".to_owned(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => other.to_json().to_string(),
        }
    }
}

/// Reads and changes maps by text keys without building a key value.
pub trait MapExt {
    /// Returns the value under a text key.
    fn at(&self, key: &str) -> Option<&Value>;
    /// Returns the text under a text key.
    fn text(&self, key: &str) -> Option<&str>;
    /// Sets a text key, keeping its place if it was there.
    fn set(&mut self, key: &str, value: impl Into<Value>);
    /// Takes a text key out, keeping the order of the others.
    fn take(&mut self, key: &str) -> Option<Value>;
}

impl MapExt for Map {
    fn at(&self, key: &str) -> Option<&Value> {
        self.get(&Key(key))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.at(key).and_then(Value::as_str)
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.insert(Value::from(key), value.into());
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.shift_remove(&Key(key))
    }
}

/// A borrowed text key: hashes as the text value it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a>(pub &'a str);

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        STR_MARK.hash(state);
        self.0.hash(state);
    }
}

impl Equivalent<Value> for Key<'_> {
    fn equivalent(&self, key: &Value) -> bool {
        key.as_str() == Some(self.0)
    }
}

/// What a text value hashes before its text, so that `Key` can do the same.
const STR_MARK: u8 = 4;

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::Null => 0u8.hash(state),
            Value::Bool(flag) => (1u8, flag).hash(state),
            Value::Int(number) => (2u8, number).hash(state),
            Value::Float(number) => (3u8, number.to_bits()).hash(state),
            Value::Str(text) => {
                STR_MARK.hash(state);
                text.hash(state);
            }
            Value::Bytes(bytes) => (5u8, bytes).hash(state),
            Value::List(items) => (6u8, items).hash(state),
            Value::Map(map) => (7u8, map.len()).hash(state),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(flag) => flag.fmt(f),
            Value::Int(number) => number.fmt(f),
            Value::Float(number) => number.fmt(f),
            Value::Str(text) => text.fmt(f),
            Value::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Value::List(items) => items.fmt(f),
            Value::Map(map) => map.fmt(f),
        }
    }
}

macro_rules! value_from_int {
    ($($int:ty),*) => {$(
        impl From<$int> for Value {
            fn from(number: $int) -> Value {
                Value::Int(i128::from(number))
            }
        }
    )*};
}
value_from_int!(i8, i16, i32, i64, u8, u16, u32, u64, i128);

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Int(number as i128)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Float(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Str(text)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Value {
        Value::Map(map)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(maybe: Option<T>) -> Value {
        maybe.map_or(Value::Null, Into::into)
    }
}

/// Builds an ordered map from text keys: `map! { "id" => id, "n" => 3 }`.
#[macro_export]
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut map = $crate::value::Map::new();
        $(map.insert($crate::value::Value::from($key), $crate::value::Value::from($value));)*
        map
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_key_finds_its_value() {
        let map = map! { "id" => "web1", 3u8 => true };
        assert_eq!(map.at("id"), Some(&Value::from("web1")));
        assert_eq!(map.at("3"), None);
        assert_eq!(map.get(&Value::from(3u8)), Some(&Value::Bool(true)));
    }

    #[test]
    fn json_keeps_order_and_large_integers() {
        let map = map! { "z" => u64::MAX, "a" => -1i64, 1u8 => Value::Null };
        assert_eq!(Value::Map(map).to_json().to_string(), r#"{"z":18446744073709551615,"a":-1,"1":null}"#);
    }
}
