//! Maps: looked into by a path, changed at one, compared, and turned into entries.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};
use proto::value::Value as OurValue;

use super::super::builtin::{Filter, defined};
use super::super::convert::{Args, from_jinja, items, to_jinja};
use super::super::method;
use super::super::object::{Dict, List};
use super::super::ops::kind;
use super::super::print;
use super::super::session::{self, MAX_DEPTH, failure};
use super::lists::is_list;
use crate::yaml::{self, Source};

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("append_dict_key_value", |value, args| change(value, args, append)),
    ("compare_dicts", compare_dicts),
    ("extend_dict_key_value", |value, args| change(value, args, extend)),
    ("from_entries", from_entries),
    ("json_decode_dict", encode),
    ("json_decode_list", encode),
    ("json_encode_dict", encode),
    ("json_encode_list", encode),
    ("set_dict_key_value", |value, args| change(value, args, |dict, key, value| dict.insert(key, value))),
    ("to_entries", to_entries),
    ("traverse", traverse),
    ("update_dict_key_value", |value, args| change(value, args, update)),
];

fn dict_of(value: &Value) -> Result<&Dict, Error> {
    let dict = defined(value)?.downcast_object_ref::<Dict>();
    dict.ok_or_else(|| failure(format!("a dict is needed, not a '{}'", kind(value))))
}

fn delimiter(args: &Args<'_>, place: usize) -> Result<String, Error> {
    let mark = args.maybe_text(place, "delimiter").unwrap_or_else(|| ":".to_owned());
    if mark.is_empty() { Err(failure("empty separator")) } else { Ok(mark) }
}

/// Changes what is at the end of a path, making the dicts on the way, and returns the whole.
fn change(value: &Value, args: &Args<'_>, act: fn(&Dict, &Value, &Value) -> Result<(), Error>) -> Result<Value, Error> {
    let path = args.text(0, "keys")?;
    let mark = delimiter(args, 2)?;
    let (way, last) = path.rsplit_once(mark.as_str()).map_or((None, path.as_str()), |(way, last)| (Some(way), last));
    let mut at = value.clone();
    for step in way.into_iter().flat_map(|way| way.split(mark.as_str())).map(Value::from) {
        let known = dict_of(&at)?.entries().get(&step).cloned();
        at = match known.filter(|next| next.downcast_object_ref::<Dict>().is_some()) {
            Some(next) => next,
            None => {
                let next = Value::from_object(Dict::default());
                dict_of(&at)?.insert(&step, &next)?;
                next
            }
        };
    }
    act(dict_of(&at)?, &Value::from(last), args.need(1, "value")?)?;
    Ok(value.clone())
}

/// Returns what is under a key; where there is nothing, what is made for it.
fn or_insert(dict: &Dict, key: &Value, empty: impl FnOnce() -> Result<Value, Error>) -> Result<Value, Error> {
    let known = dict.entries().get(key).filter(|known| !known.is_none()).cloned();
    match known {
        Some(known) => Ok(known),
        None => {
            let made = empty()?;
            dict.insert(key, &made)?;
            Ok(made)
        }
    }
}

fn cannot(known: &Value, what: &str) -> Error {
    failure(format!("The last key contains a <class '{}'>, which cannot {what}.", kind(known)))
}

fn grow(dict: &Dict, key: &Value, more: &[Value], what: &str) -> Result<(), Error> {
    let known = or_insert(dict, key, || List::value(Vec::new()))?;
    if !is_list(&known) {
        return Err(cannot(&known, what));
    }
    let list = known.downcast_object_ref::<List>().ok_or_else(|| cannot(&known, what))?;
    for item in more {
        let item = list.adopt(item)?;
        list.items().push(item);
    }
    Ok(())
}

fn append(dict: &Dict, key: &Value, value: &Value) -> Result<(), Error> {
    grow(dict, key, std::slice::from_ref(value), "append")
}

fn extend(dict: &Dict, key: &Value, value: &Value) -> Result<(), Error> {
    let more = match (value.as_str(), value.kind()) {
        (Some(text), _) => text.chars().map(|letter| Value::from(letter.to_string())).collect(),
        (None, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) => items(value)?,
        _ => return Err(failure(format!("Cannot extend <class 'list'> with a <class '{}'>.", kind(value)))),
    };
    grow(dict, key, &more, "extend")
}

fn update(dict: &Dict, key: &Value, value: &Value) -> Result<(), Error> {
    let known = or_insert(dict, key, || Ok(Value::from_object(Dict::default())))?;
    let inner = known.downcast_object_ref::<Dict>().ok_or_else(|| cannot(&known, "update"))?;
    let pairs = method::pairs(&Args::new(std::slice::from_ref(value)));
    let pairs =
        pairs.map_err(|_| failure(format!("Cannot update <class 'dict'> with a <class '{}'>.", kind(value))))?;
    pairs.iter().try_for_each(|(key, value)| inner.insert(key, value))
}

fn compare_dicts(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let (old, new) = (dict_of(value)?, dict_of(args.need(0, "new")?)?);
    // One after the other: they may be the same dict.
    let old = old.entries().clone();
    let new = new.entries().clone();
    let nothing = Value::from("");
    let changes = Dict::default();
    for key in new.keys().chain(old.keys().filter(|key| !new.contains_key(*key))) {
        let change = match (old.get(key), new.get(key)) {
            (None, Some(new)) => [("old", &nothing), ("new", new)],
            (Some(old), None) => [("new", &nothing), ("old", old)],
            (Some(old), Some(new)) if old != new => [("old", old), ("new", new)],
            _ => continue,
        };
        changes.insert(key, &dict(&change.map(|(name, value)| (name, value.clone())))?)?;
    }
    Ok(Value::from_object(changes))
}

fn dict(pairs: &[(&str, Value)]) -> Result<Value, Error> {
    let dict = Dict::default();
    pairs.iter().try_for_each(|(name, value)| dict.insert(&Value::from(*name), value))?;
    Ok(Value::from_object(dict))
}

fn to_entries(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let pairs: Vec<(Value, Value)> = if is_list(value) {
        items(value)?.into_iter().enumerate().map(|(index, item)| (Value::from(index), item)).collect()
    } else {
        let known = dict_of(value).map_err(|_| failure("Input data must be a dict or list"))?;
        known.entries().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let entries = pairs.into_iter().map(|(key, value)| dict(&[("key", key), ("value", value)]));
    List::value(entries.collect::<Result<_, _>>()?)
}

/// Names are compared without their case here.
fn from_entries(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let made = Dict::default();
    for entry in items(value)? {
        let entry = dict_of(&entry)?.entries().clone();
        session::spend(entry.len())?;
        let named = |name: &str| {
            let same = |key: &Value| key.as_str().is_some_and(|key| key.to_lowercase() == name);
            entry.iter().find(|(key, _)| same(key)).map(|(_, value)| value.clone())
        };
        if let Some(key) = ["key", "name"].into_iter().filter_map(named).find(Value::is_true) {
            made.insert(&key, &named("value").unwrap_or_else(|| Value::from(())))?;
        }
    }
    Ok(Value::from_object(made))
}

/// Makes all texts bytes; Salt's names for it say the opposite.
fn encode(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    fn bytes(value: OurValue) -> OurValue {
        match value {
            OurValue::Str(text) => OurValue::Bytes(text.into_bytes()),
            OurValue::List(items) => OurValue::List(items.into_iter().map(bytes).collect()),
            OurValue::Map(map) => {
                OurValue::Map(map.into_iter().map(|(key, value)| (bytes(key), bytes(value))).collect())
            }
            other => other,
        }
    }
    to_jinja(&bytes(from_jinja(defined(value)?)?))
}

/// Follows a path such as `a:b:0`.
fn traverse(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let key = args.need(0, "key")?;
    let steps: Vec<Value> = match key.as_str() {
        Some(path) => path.split(delimiter(args, 2)?.as_str()).map(Value::from).collect(),
        None if key.is_integer() => vec![key.clone()],
        None => items(key)?,
    };
    if steps.len() > MAX_DEPTH {
        return Err(failure("a path is too long"));
    }
    let mut at = defined(value)?.clone();
    for step in steps {
        match next(&at, &step)? {
            Some(found) => at = found,
            None => return Ok(args.get(1, "default").cloned().unwrap_or_else(|| Value::from(()))),
        }
    }
    Ok(at)
}

/// Takes one step. In a list, the dicts in it are asked first, as Salt does.
fn next(at: &Value, step: &Value) -> Result<Option<Value>, Error> {
    if !is_list(at) {
        let Some(dict) = at.downcast_object_ref::<Dict>() else { return Ok(None) };
        let found = dict.entries().get(step).cloned();
        return Ok(found.or_else(|| dict.entries().get(&loaded(step)?).cloned()));
    }
    let index = match step.as_i64() {
        Some(index) => Some(index),
        None => print::str(step).trim().parse::<i64>().ok(),
    };
    let wanted = index.map_or_else(|| step.clone(), Value::from);
    let all = items(at)?;
    let embedded = all.iter().filter_map(|item| item.downcast_object_ref::<Dict>()?.entries().get(&wanted).cloned());
    let counted = |index: i64| {
        let index = if index < 0 { index + i64::try_from(all.len()).ok()? } else { index };
        all.get(usize::try_from(index).ok()?).cloned()
    };
    Ok(embedded.into_iter().next().or_else(|| counted(index?)))
}

/// Reads a step as YAML: a number may be a key too.
fn loaded(step: &Value) -> Option<Value> {
    let value = yaml::load(step.as_str()?, &Source { name: "<key>" }).ok()?;
    let scalar = !matches!(value, OurValue::List(_) | OurValue::Map(_));
    scalar.then(|| to_jinja(&value).ok())?
}
