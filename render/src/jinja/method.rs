//! The methods of Python's `list` and `dict`, on our own containers. Those of texts are in `text`.

use std::sync::Arc;

use minijinja::{Error, ErrorKind, Value};

use super::convert::{Args, items};
use super::object::{Dict, List, View, check_key, python_index, undefined};
use super::print;
use super::session::{self, failure};

fn unknown(kind: &str, name: &str) -> Error {
    session::note_missing(format!("'{kind} object' has no attribute '{name}'"));
    undefined()
}

fn none() -> Value {
    Value::from(())
}

/// Calls a method of a list.
pub(super) fn list(list: &Arc<List>, name: &str, args: &[Value]) -> Result<Value, Error> {
    session::spend(list.items().len() / 8 + 1)?;
    let args = Args::new(args);
    match name {
        "count" => {
            let wanted = args.need(0, "value")?;
            let items = list.items().clone();
            Ok(Value::from(items.iter().filter(|item| *item == wanted).count()))
        }
        "index" => {
            let wanted = args.need(0, "value")?;
            let items = list.items().clone();
            let found = items.iter().position(|item| item == wanted);
            found.map(Value::from).ok_or_else(|| failure(format!("{} is not in list", print::repr(wanted))))
        }
        _ if list.tuple => Err(unknown("tuple", name)),
        "append" => {
            let item = list.adopt(args.need(0, "object")?)?;
            list.items().push(item);
            Ok(none())
        }
        "extend" => {
            for item in items(args.need(0, "iterable")?)? {
                let item = list.adopt(&item)?;
                list.items().push(item);
            }
            Ok(none())
        }
        "insert" => insert(list, &args),
        "pop" => {
            let place = args.get(0, "index").cloned().unwrap_or_else(|| Value::from(-1));
            let len = list.items().len();
            let index = python_index(&place, len).ok_or_else(|| failure("pop index out of range"))?;
            Ok(list.items().remove(index))
        }
        "remove" => {
            let wanted = args.need(0, "value")?;
            let items = list.items().clone();
            let found = items.iter().position(|item| item == wanted);
            list.items().remove(found.ok_or_else(|| failure("list.remove(x): x not in list"))?);
            Ok(none())
        }
        "reverse" => {
            list.items().reverse();
            Ok(none())
        }
        "sort" => {
            let mut sorted = list.items().clone();
            sorted.sort();
            if args.flag(1, "reverse", false) {
                sorted.reverse();
            }
            *list.items() = sorted;
            Ok(none())
        }
        "copy" => List::value(list.items().clone()),
        "clear" => {
            list.items().clear();
            Ok(none())
        }
        _ => Err(unknown("list", name)),
    }
}

fn insert(list: &Arc<List>, args: &Args<'_>) -> Result<Value, Error> {
    let at = args.int(0, "index", 0)?;
    let item = list.adopt(args.need(1, "object")?)?;
    let mut items = list.items();
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let index = (if at < 0 { at.saturating_add(len) } else { at }).clamp(0, len);
    items.insert(usize::try_from(index).unwrap_or_default(), item);
    Ok(none())
}

/// Calls a method of a dict. What is no method may be a callable value under that name.
pub(super) fn dict(dict: &Arc<Dict>, name: &str, args: &[Value]) -> Result<Value, Error> {
    session::spend(1)?;
    let args = Args::new(args);
    match name {
        "get" => {
            let found = dict.entries().get(&check_key(args.need(0, "key")?)?).cloned();
            Ok(found.or_else(|| args.get(1, "default").cloned()).unwrap_or_else(none))
        }
        "keys" | "iterkeys" => view("keys", dict.entries().keys().cloned().collect()),
        "values" | "itervalues" => view("values", dict.entries().values().cloned().collect()),
        "items" | "iteritems" => {
            let pairs = dict.entries().clone();
            let pairs = pairs.into_iter().map(|(key, value)| List::tuple(vec![key, value]));
            view("items", pairs.collect::<Result<_, _>>()?)
        }
        "update" => {
            for (key, value) in pairs(&args)? {
                dict.insert(&key, &value)?;
            }
            Ok(none())
        }
        "pop" => {
            let key = &check_key(args.need(0, "key")?)?;
            let found = dict.entries().shift_remove(key);
            let found = found.or_else(|| args.get(1, "default").cloned());
            found.ok_or_else(|| failure(format!("KeyError: {}", print::repr(key))))
        }
        "popitem" => {
            let last = dict.entries().pop();
            let (key, value) = last.ok_or_else(|| failure("popitem(): dictionary is empty"))?;
            List::tuple(vec![key, value])
        }
        "setdefault" => {
            let key = &check_key(args.need(0, "key")?)?;
            let found = dict.entries().get(key).cloned();
            if let Some(found) = found {
                return Ok(found);
            }
            let value = args.get(1, "default").cloned().unwrap_or_else(none);
            dict.insert(key, &value)?;
            Ok(dict.entries().get(key).cloned().unwrap_or(value))
        }
        "has_key" => Ok(Value::from(dict.entries().contains_key(&check_key(args.need(0, "key")?)?))),
        "copy" => Dict::value(dict.entries().clone()),
        "clear" => {
            dict.entries().clear();
            Ok(none())
        }
        _ if dict.entries().contains_key(&Value::from(name)) => Err(Error::from(ErrorKind::UnknownMethod)),
        _ => Err(unknown("dict", name)),
    }
}

fn view(method: &'static str, items: Vec<Value>) -> Result<Value, Error> {
    session::spend(items.len() * 16)?;
    Ok(Value::from_object(View { method, items }))
}

/// Reads what `dict()` and `update()` take: a map or pairs, and names.
pub(super) fn pairs(args: &Args<'_>) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    if let Some(source) = args.places().first() {
        let map = source.kind() == minijinja::value::ValueKind::Map;
        for item in items(source)? {
            if map {
                pairs.push((item.clone(), source.get_item(&item)?));
            } else {
                match items(&item)?.as_slice() {
                    [key, value] => pairs.push((key.clone(), value.clone())),
                    _ => return Err(failure("a dictionary needs pairs of key and value")),
                }
            }
        }
    }
    pairs.extend(args.names().iter().map(|(name, value)| (Value::from(name.as_str()), value.clone())));
    Ok(pairs)
}
