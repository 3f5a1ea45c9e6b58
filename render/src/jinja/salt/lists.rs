//! Lists as sets, their extremes, and what is in them.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::super::builtin::{Filter, defined};
use super::super::convert::{Args, items};
use super::super::object::{Dict, List};
use super::super::ops::kind;
use super::super::print;
use super::super::session::{self, MAX_DEPTH, failure};
use super::regular;
use crate::fnmatch::Glob;

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("avg", average),
    ("check_whitelist_blacklist", check_whitelist_blacklist),
    ("compare_lists", compare_lists),
    ("difference", |value, args| combine(value, args, |inside, other| inside && !other, false)),
    ("exactly_n_true", |value, args| exactly(value, args.int(0, "amount", 1)?)),
    ("exactly_one_true", |value, _| exactly(value, 1)),
    ("flatten", flatten),
    ("intersect", |value, args| combine(value, args, |inside, other| inside && other, false)),
    ("is_iter", |value, _| {
        Ok(Value::from(matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)))
    }),
    ("is_list", |value, _| Ok(Value::from(is_list(value)))),
    ("is_sorted", |value, _| Ok(Value::from(items(value)?.is_sorted()))),
    ("max", |value, _| extreme(value, Ordering::Greater)),
    ("min", |value, _| extreme(value, Ordering::Less)),
    ("sequence", sequence),
    ("sorted_ignorecase", sorted_ignorecase),
    ("substring_in_list", substring_in_list),
    ("symmetric_difference", |value, args| combine(value, args, |inside, other| inside != other, true)),
    ("union", |value, args| combine(value, args, |_, _| true, true)),
    ("unique", |value, _| distinct(elements(value)?)),
];

/// Tells whether a value is a Python list, and no tuple.
pub(in super::super) fn is_list(value: &Value) -> bool {
    value.downcast_object_ref::<List>().is_some_and(|list| !list.tuple)
}

/// What Python's iteration gives: of a text its letters, of a map its keys.
fn elements(value: &Value) -> Result<Vec<Value>, Error> {
    match value.as_str() {
        Some(text) => {
            session::spend(text.len())?;
            Ok(text.chars().map(|letter| Value::from(letter.to_string())).collect())
        }
        None => items(value),
    }
}

fn average(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let number = text.trim().parse::<f64>();
        return number.map(Value::from).map_err(|_| failure(format!("could not convert string to float: '{text}'")));
    }
    if matches!(value.kind(), ValueKind::Bool | ValueKind::Number) {
        return Ok(Value::from(f64::try_from(value.clone())?));
    }
    let mut sum = 0.0;
    let all = items(value)?;
    for item in &all {
        if !matches!(item.kind(), ValueKind::Bool | ValueKind::Number) {
            return Err(failure(format!("unsupported operand type(s) for +: 'int' and '{}'", kind(item))));
        }
        sum += f64::try_from(item.clone())?;
    }
    if all.is_empty() {
        return Err(failure("division by zero"));
    }
    #[expect(clippy::cast_precision_loss, reason = "lists are short")]
    let count = all.len() as f64;
    Ok(Value::from(sum / count))
}

/// Salt's order: the blacklist wins over the whitelist. A pattern is a glob or a regular expression over the whole text.
fn check_whitelist_blacklist(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let subject = defined(value)?.as_str();
    let patterns = |place, name| match args.get(place, name).filter(|list| list.is_true()) {
        Some(one) if one.as_str().is_some() => Ok(vec![one.clone()]),
        Some(many) => items(many),
        None => Ok(Vec::new()),
    };
    let listed = |patterns: &[Value]| {
        for (pattern, subject) in patterns.iter().filter_map(|pattern| Some((pattern.as_str()?, subject?))) {
            session::spend(pattern.len() + subject.len() + regular::BUILD_WORK)?;
            if Glob::new(pattern).matches(subject) || regular::is_whole(pattern, subject)? {
                return Ok::<_, Error>(true);
            }
        }
        Ok(false)
    };
    let (white, black) = (patterns(0, "whitelist")?, patterns(1, "blacklist")?);
    Ok(Value::from((white.is_empty() || listed(&white)?) && !listed(&black)?))
}

fn compare_lists(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let (old, new) = (elements(value)?, elements(args.need(0, "new")?)?);
    session::spend(old.len().saturating_mul(new.len()))?;
    let found = Dict::default();
    for (name, here, there) in [("new", &new, &old), ("old", &old, &new)] {
        let missing: Vec<Value> = here.iter().filter(|item| !there.contains(item)).cloned().collect();
        if !missing.is_empty() {
            found.insert(&Value::from(name), &List::value(missing)?)?;
        }
    }
    Ok(Value::from_object(found))
}

/// Sets keep the order of their lists here; Python's have none.
fn combine(value: &Value, args: &Args<'_>, keep: fn(bool, bool) -> bool, both: bool) -> Result<Value, Error> {
    let other = args.need(0, "lst2")?;
    if both && is_list(value) != is_list(other) {
        return Err(failure(format!("can only concatenate {0} (not \"{1}\") to {0}", kind(value), kind(other))));
    }
    let (first, second) = (elements(value)?, elements(other)?);
    session::spend(first.len().saturating_mul(second.len()))?;
    let here = first.iter().filter(|item| keep(true, second.contains(item)));
    let there = second.iter().filter(|item| both && keep(first.contains(item), true));
    distinct(here.chain(there).cloned().collect())
}

fn distinct(all: Vec<Value>) -> Result<Value, Error> {
    let mut kept: Vec<Value> = Vec::new();
    for item in all {
        session::spend(kept.len())?;
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    List::value(kept)
}

fn exactly(value: &Value, amount: i64) -> Result<Value, Error> {
    let count = elements(value)?.iter().filter(|item| item.is_true()).count();
    Ok(Value::from(usize::try_from(amount).unwrap_or_default() == count))
}

fn flatten(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    fn is_null(item: &Value) -> bool {
        item.is_none() || matches!(item.as_str(), Some("None" | "null"))
    }
    fn walk(value: &Value, levels: i64, nulls: bool, depth: usize, out: &mut Vec<Value>) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(failure("lists nested too deeply"));
        }
        for item in elements(value)? {
            let nested = matches!(item.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map);
            match () {
                () if !nulls && is_null(&item) => {}
                () if nested && levels >= 1 => walk(&item, levels - 1, nulls, depth + 1, out)?,
                () => out.push(item),
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(value, args.int(0, "levels", i64::MAX)?, args.flag(1, "preserve_nulls", false), 0, &mut out)?;
    List::value(out)
}

/// `min` and `max` as Python's: the first of several, and only of what can be compared.
fn extreme(value: &Value, better: Ordering) -> Result<Value, Error> {
    let name = if better == Ordering::Less { "min" } else { "max" };
    let mut best: Option<Value> = None;
    for item in elements(value)? {
        let Some(known) = &best else {
            best = Some(item);
            continue;
        };
        if !comparable(&item, known) {
            let sign = if better == Ordering::Less { '<' } else { '>' };
            let (one, other) = (kind(&item), kind(known));
            return Err(failure(format!("'{sign}' not supported between instances of '{one}' and '{other}'")));
        }
        if item.cmp(known) == better {
            best = Some(item);
        }
    }
    best.ok_or_else(|| failure(format!("{name}() arg is an empty sequence")))
}

fn comparable(one: &Value, other: &Value) -> bool {
    let class = |value: &Value| match value.kind() {
        ValueKind::Bool | ValueKind::Number => Some(0),
        ValueKind::String => Some(1),
        ValueKind::Seq | ValueKind::Iterable => Some(2),
        ValueKind::Bytes => Some(3),
        _ => None,
    };
    class(one).is_some() && class(one) == class(other)
}

fn sequence(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => Ok(value.clone()),
        _ => List::value(vec![defined(value)?.clone()]),
    }
}

fn sorted_ignorecase(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let mut sorted = elements(value)?;
    sorted.sort_by_cached_key(|item| print::str(item).to_lowercase());
    List::value(sorted)
}

fn substring_in_list(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let wanted = print::str(defined(value)?);
    let list = elements(args.need(0, "list_to_search")?)?;
    Ok(Value::from(list.iter().any(|item| item.as_str().is_some_and(|text| text.contains(&wanted)))))
}
