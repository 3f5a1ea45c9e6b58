//! Lists and maps as templates see them: mutable and shared, as Python's are, never cyclic and never deeper than a limit.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, State, Value};

use super::method;
use super::print;
use super::session::{self, MAX_DEPTH, MAX_ITEMS, MAX_TEXT, failure};

/// A Python list, or a tuple, which prints otherwise and does not change.
#[derive(Debug)]
pub(super) struct List {
    items: Mutex<Vec<Value>>,
    level: AtomicUsize,
    pub(super) tuple: bool,
}

/// A Python dict.
#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: Mutex<IndexMap<Value, Value>>,
    level: AtomicUsize,
}

/// What `keys()`, `values()` and `items()` give.
#[derive(Debug)]
pub(super) struct View {
    pub(super) method: &'static str,
    pub(super) items: Vec<Value>,
}

impl List {
    /// Makes a list of values that are `owned` already.
    pub(super) fn value(items: Vec<Value>) -> Result<Value, Error> {
        List::of(items, false)
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value, Error> {
        List::of(items, true)
    }

    fn of(items: Vec<Value>, tuple: bool) -> Result<Value, Error> {
        check_len(items.len())?;
        session::spend(items.len() * 16)?;
        items.iter().try_for_each(|item| embed(item, 1))?;
        Ok(Value::from_object(List { items: Mutex::new(items), level: AtomicUsize::new(0), tuple }))
    }

    pub(super) fn items(&self) -> MutexGuard<'_, Vec<Value>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes values into the list: what goes in is made our own, and may not contain the list itself.
    pub(super) fn adopt(&self, item: &Value) -> Result<Value, Error> {
        let len = self.items().len();
        adopt(item, &self.level, len)
    }
}

impl Dict {
    pub(super) fn value(entries: IndexMap<Value, Value>) -> Result<Value, Error> {
        check_len(entries.len())?;
        session::spend(entries.len() * 32)?;
        entries.values().try_for_each(|item| embed(item, 1))?;
        Ok(Value::from_object(Dict { entries: Mutex::new(entries), level: AtomicUsize::new(0) }))
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, IndexMap<Value, Value>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, key: &Value, value: &Value) -> Result<(), Error> {
        let key = check_key(key)?;
        let len = self.entries().len();
        let value = adopt(value, &self.level, len)?;
        self.entries().insert(key, value);
        Ok(())
    }
}

fn adopt(item: &Value, level: &AtomicUsize, len: usize) -> Result<Value, Error> {
    check_len(len + 1)?;
    session::spend(16)?;
    let item = own_inner(item)?;
    let before = level.load(Ordering::Relaxed);
    embed(&item, before + 1)?;
    // Whatever contains the container is above it, so booking its depth would have sunk the container as well.
    if level.load(Ordering::Relaxed) == before { Ok(item) } else { Err(failure("a list or map cannot contain itself")) }
}

/// The keys of a dict are scalars here. A container would be looked into while the dict is held, which may be in it.
pub(super) fn check_key(key: &Value) -> Result<Value, Error> {
    match key.kind() {
        ValueKind::Undefined => Err(undefined()),
        ValueKind::Map => Err(failure("unhashable type: 'dict'")),
        ValueKind::Seq | ValueKind::Iterable => Err(failure("unhashable type: 'list'")),
        _ => Ok(key.clone()),
    }
}

fn check_len(len: usize) -> Result<(), Error> {
    if len > MAX_ITEMS { Err(failure(format!("a list or map of more than {MAX_ITEMS} items"))) } else { Ok(()) }
}

/// Books how deep a container and all in it now are: always deeper than what contains them.
fn embed(value: &Value, level: usize) -> Result<(), Error> {
    let (own, children) = if let Some(list) = value.downcast_object_ref::<List>() {
        (&list.level, list.items().clone())
    } else if let Some(dict) = value.downcast_object_ref::<Dict>() {
        (&dict.level, dict.entries().values().cloned().collect())
    } else {
        return Ok(());
    };
    if level > MAX_DEPTH {
        return Err(failure(format!("lists and maps nested deeper than {MAX_DEPTH} levels")));
    }
    if own.fetch_max(level, Ordering::Relaxed) >= level {
        return Ok(());
    }
    session::spend(children.len())?;
    children.iter().try_for_each(|child| embed(child, level + 1))
}

/// Makes a value one that templates may keep: lists and maps become ours, texts are bounded.
pub(super) fn own(value: &Value) -> Result<Value, Error> {
    if is_namespace(value) { Ok(value.clone()) } else { own_inner(value) }
}

/// The same for a value inside another, where a namespace could tie a knot.
pub(super) fn own_inner(value: &Value) -> Result<Value, Error> {
    own_at(value, 0)
}

fn own_at(value: &Value, depth: usize) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(failure(format!("lists and maps nested deeper than {MAX_DEPTH} levels")));
    }
    if let Some(text) = value.as_str() {
        session::spend(1)?;
        return if text.len() > MAX_TEXT {
            Err(failure(format!("a text of more than {MAX_TEXT} bytes")))
        } else {
            Ok(value.clone())
        };
    }
    if is_ours(value) {
        return Ok(value.clone());
    }
    if is_namespace(value) {
        return Err(failure("a namespace cannot be kept inside another value"));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()?.checked() {
                check_len(items.len() + 1)?;
                items.push(own_at(&item?, depth + 1)?);
            }
            List::of(items, value.is_tuple())
        }
        ValueKind::Map if is_native_map(value) => {
            let mut entries = IndexMap::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                check_len(entries.len() + 1)?;
                let item = own_at(&value.get_item(&key)?, depth + 1)?;
                entries.insert(key, item);
            }
            Dict::value(entries)
        }
        _ => Ok(value.clone()),
    }
}

fn is_ours(value: &Value) -> bool {
    value.downcast_object_ref::<List>().is_some()
        || value.downcast_object_ref::<Dict>().is_some()
        || value.downcast_object_ref::<View>().is_some()
}

fn type_name(value: &Value) -> &str {
    value.as_object().map_or("", |object| object.type_name())
}

/// Engine objects that hold other values and can be changed.
fn is_namespace(value: &Value) -> bool {
    type_name(value).contains("Namespace")
}

fn is_native_map(value: &Value) -> bool {
    let name = type_name(value);
    !["Namespace", "Loop", "Module", "Macro", "Salt"].iter().any(|opaque| name.contains(opaque))
}

/// The error of using a value that is not there.
pub(super) fn undefined() -> Error {
    Error::from(minijinja::ErrorKind::UndefinedError)
}

/// Reads an index as Python does: from the end if it is negative.
pub(super) fn python_index(key: &Value, len: usize) -> Option<usize> {
    let index = key.as_i64()?;
    let index = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(index).ok().filter(|&index| index < len)
}

/// Notes a failed lookup in Jinja's words.
fn note_missing(object: &str, key: &Value) {
    session::note_missing(match key.as_str() {
        Some(name) => format!("'{object}' has no attribute '{name}'"),
        None => format!("{object} has no element {}", print::repr(key)),
    });
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let items = self.items();
        let found = python_index(key, items.len()).map(|index| items[index].clone());
        if found.is_none() {
            note_missing(if self.tuple { "tuple object" } else { "list object" }, key);
        }
        found
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items().clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items().len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        let other = other.downcast_ref::<List>()?;
        let (ours, theirs) = (self.items().clone(), other.items().clone());
        Some(self.tuple.cmp(&other.tuple).then_with(|| ours.cmp(&theirs)))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        method::list(self, name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = check_key(key).ok().and_then(|key| self.entries().get(&key).cloned());
        if found.is_none() {
            note_missing("dict object", key);
        }
        found
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries().keys().cloned().collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries().len())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        method::dict(self, name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    /// Python's views have no elements; reactor files of its second version count on them.
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = python_index(key, self.items.len()).filter(|_| session::index_view(self.method));
        if found.is_none() {
            note_missing(&format!("dict_{} object", self.method), key);
        }
        found.map(|index| self.items[index].clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print::repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}
