//! Our values to the template engine's, and back.

use indexmap::IndexMap;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};
use proto::value::{Map, Value as OurValue};

use super::object::{Dict, List, own_inner, undefined};
use super::print;
use super::session::{self, MAX_DEPTH, failure};

/// Makes a value one that templates can read and change.
pub(super) fn to_jinja(value: &OurValue) -> Result<Value, Error> {
    match value {
        OurValue::Null => Ok(Value::from(())),
        OurValue::Bool(flag) => Ok(Value::from(*flag)),
        OurValue::Int(number) => Ok(int(*number)),
        OurValue::Float(number) => Ok(Value::from(*number)),
        OurValue::Str(text) => Ok(Value::from(text.as_str())),
        OurValue::Bytes(bytes) => Ok(Value::from_bytes(bytes.clone())),
        OurValue::List(items) => List::value(items.iter().map(to_jinja).collect::<Result<_, _>>()?),
        OurValue::Map(map) => {
            let pairs = map.iter().map(|(key, value)| Ok((key_to_jinja(key)?, to_jinja(value)?)));
            Dict::value(pairs.collect::<Result<IndexMap<_, _>, Error>>()?)
        }
    }
}

fn key_to_jinja(key: &OurValue) -> Result<Value, Error> {
    match key {
        OurValue::List(_) | OurValue::Map(_) => Ok(Value::from(key.to_key())),
        scalar => to_jinja(scalar),
    }
}

/// Makes an integer, small if it can be.
pub(super) fn int(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

/// Makes a template's value one of ours.
pub(super) fn from_jinja(value: &Value) -> Result<OurValue, Error> {
    from_jinja_at(value, 0)
}

fn from_jinja_at(value: &Value, depth: usize) -> Result<OurValue, Error> {
    session::spend(1)?;
    if depth > MAX_DEPTH {
        return Err(failure("lists and maps nested too deeply"));
    }
    match value.kind() {
        ValueKind::Undefined => Err(undefined()),
        ValueKind::None => Ok(OurValue::Null),
        ValueKind::Bool => Ok(OurValue::Bool(value.is_true())),
        ValueKind::Number if value.is_integer() => {
            let number = i128::try_from(value.clone()).map_err(|_| failure("an integer is too large"))?;
            Ok(OurValue::Int(number))
        }
        ValueKind::Number => Ok(OurValue::Float(f64::try_from(value.clone())?)),
        ValueKind::Bytes => Ok(OurValue::Bytes(value.as_bytes().unwrap_or_default().to_vec())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.checked();
            items.map(|item| from_jinja_at(&item?, depth + 1)).collect::<Result<Vec<_>, Error>>().map(OurValue::List)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                map.insert(from_jinja_at(&key, depth + 1)?, from_jinja_at(&value.get_item(&key)?, depth + 1)?);
            }
            Ok(OurValue::Map(map))
        }
        _ => Ok(OurValue::Str(print::str(value))),
    }
}

/// Collects the items of anything that can be iterated; maps give their keys.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if value.is_undefined() {
        return Err(undefined());
    }
    if value.is_none() {
        return Err(failure("'NoneType' object is not iterable"));
    }
    let items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
    session::spend(items.len())?;
    items.iter().map(own_inner).collect()
}

/// Splits a call's arguments into those by place and those by name.
pub(super) fn split_args(args: &[Value]) -> (&[Value], Vec<(String, Value)>) {
    match args.split_last() {
        Some((last, rest)) if last.is_kwargs() => {
            let pairs = last.try_iter().into_iter().flatten().filter_map(|key| {
                let value = last.get_item(&key).ok()?;
                Some((key.as_str()?.to_owned(), value))
            });
            (rest, pairs.collect())
        }
        _ => (args, Vec::new()),
    }
}

/// The arguments of a call, by place or name.
pub(super) struct Args<'a> {
    places: &'a [Value],
    names: Vec<(String, Value)>,
}

impl<'a> Args<'a> {
    pub(super) fn new(args: &'a [Value]) -> Args<'a> {
        let (places, names) = split_args(args);
        Args { places, names }
    }

    /// Returns the argument with this place and name.
    pub(super) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        let named = || self.names.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        self.places.get(place).or_else(named)
    }

    /// Returns an argument that must be there and be defined.
    pub(super) fn need(&self, place: usize, name: &str) -> Result<&Value, Error> {
        match self.get(place, name) {
            Some(value) if value.is_undefined() => Err(undefined()),
            Some(value) => Ok(value),
            None => Err(failure(format!("missing a required argument: '{name}'"))),
        }
    }

    /// Returns an argument as text; numbers and lists are printed.
    pub(super) fn text(&self, place: usize, name: &str) -> Result<String, Error> {
        self.need(place, name).map(print::str)
    }

    /// Returns an optional argument as text.
    pub(super) fn maybe_text(&self, place: usize, name: &str) -> Option<String> {
        self.get(place, name).filter(|value| !value.is_none()).map(print::str)
    }

    /// Returns an optional integer.
    pub(super) fn int(&self, place: usize, name: &str, default: i64) -> Result<i64, Error> {
        match self.get(place, name).filter(|value| !value.is_none()) {
            Some(value) => value.as_i64().ok_or_else(|| failure(format!("'{name}' must be an integer"))),
            None => Ok(default),
        }
    }

    /// Returns an optional truth value.
    pub(super) fn flag(&self, place: usize, name: &str, default: bool) -> bool {
        self.get(place, name).map_or(default, Value::is_true)
    }

    pub(super) fn places(&self) -> &'a [Value] {
        self.places
    }

    pub(super) fn names(&self) -> &[(String, Value)] {
        &self.names
    }
}
