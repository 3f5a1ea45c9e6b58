//! The operators that templates' expressions are rewritten to, with Python's meaning and a bound on what they make.

use minijinja::value::Rest;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::convert::items;
use super::format;
use super::object::{Dict, List, own, own_inner, undefined};
use super::print;
use super::session::{self, MAX_ITEMS, MAX_TEXT, failure};

/// Gives the environment the functions that `rewrite` writes into templates.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_function("__list", |items: Value| List::value(items_of(&items)?));
    env.add_function("__tuple", |items: Value| List::tuple(items_of(&items)?));
    env.add_function("__dict", dict);
    env.add_function("__own", |value: Value| own(&value));
    env.add_function("__own_inner", |value: Value| own_inner(&value));
    env.add_function("__add", |a: Value, b: Value| add(&a, &b));
    env.add_function("__mul", |a: Value, b: Value| mul(&a, &b));
    env.add_function("__mod", |a: Value, b: Value| modulo(&a, &b));
    env.add_function("__cat", cat);
    env.add_function("__slice", slice);
    env.add_function("__spend", |bytes: usize| session::spend(bytes).map(|()| Value::from("")));
}

fn items_of(items: &Value) -> Result<Vec<Value>, Error> {
    // The engine's list literal may hold undefined values; Jinja's may too, until they are used.
    items.try_iter()?.checked().map(|item| own_inner(&item?)).collect()
}

fn dict(flat: Value) -> Result<Value, Error> {
    let flat: Vec<Value> = flat.try_iter()?.checked().collect::<Result<_, _>>()?;
    let dict = Dict::default();
    for pair in flat.chunks(2) {
        if let [key, value] = pair {
            dict.insert(key, value)?;
        }
    }
    Ok(Value::from_object(dict))
}

fn defined(a: &Value, b: &Value) -> Result<(), Error> {
    if a.is_undefined() || b.is_undefined() { Err(undefined()) } else { Ok(()) }
}

fn unsupported(op: &str, a: &Value, b: &Value) -> Error {
    let (a, b) = (kind(a), kind(b));
    failure(format!("unsupported operand type(s) for {op}: '{a}' and '{b}'"))
}

/// Returns Python's name of a value's type.
pub(super) fn kind(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Map => "dict",
        ValueKind::Seq | ValueKind::Iterable if is_tuple(value) => "tuple",
        ValueKind::Seq | ValueKind::Iterable => "list",
        _ => "object",
    }
}

fn is_tuple(value: &Value) -> bool {
    value.is_tuple() || value.downcast_object_ref::<List>().is_some_and(|list| list.tuple)
}

fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn whole(value: &Value) -> Option<i128> {
    let number = value.kind() == ValueKind::Bool || value.is_integer();
    number.then(|| i128::try_from(value.clone()).ok())?
}

fn real(value: &Value) -> Option<f64> {
    matches!(value.kind(), ValueKind::Bool | ValueKind::Number).then(|| f64::try_from(value.clone()).ok())?
}

fn text(text: String) -> Result<Value, Error> {
    session::spend(text.len())?;
    if text.len() > MAX_TEXT {
        Err(failure(format!("a text of more than {MAX_TEXT} bytes")))
    } else {
        Ok(Value::from(text))
    }
}

fn numbers(
    op: &str,
    a: &Value,
    b: &Value,
    ints: fn(i128, i128) -> Option<i128>,
    floats: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return ints(a, b).map(super::convert::int).ok_or_else(|| failure("an integer is too large"));
    }
    match (real(a), real(b)) {
        (Some(a), Some(b)) => Ok(Value::from(floats(a, b))),
        _ => Err(unsupported(op, a, b)),
    }
}

fn add(a: &Value, b: &Value) -> Result<Value, Error> {
    defined(a, b)?;
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return text(format!("{a}{b}"));
    }
    if is_sequence(a) && is_sequence(b) && is_tuple(a) == is_tuple(b) {
        let joined = [items(a)?, items(b)?].concat();
        return if is_tuple(a) { List::tuple(joined) } else { List::value(joined) };
    }
    numbers("+", a, b, i128::checked_add, |a, b| a + b)
}

fn mul(a: &Value, b: &Value) -> Result<Value, Error> {
    defined(a, b)?;
    for (repeated, count) in [(a, b), (b, a)] {
        let Some(count) = whole(count) else { continue };
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if let Some(part) = repeated.as_str() {
            let fits = part.len().checked_mul(count).is_some_and(|len| len <= MAX_TEXT);
            return if fits { text(part.repeat(count)) } else { Err(failure("a repeated text is too long")) };
        }
        if is_sequence(repeated) {
            let part = items(repeated)?;
            let fits = part.len().checked_mul(count).is_some_and(|len| len <= MAX_ITEMS);
            let repeated = part.iter().cycle().take(part.len().saturating_mul(count)).cloned();
            return if fits { List::value(repeated.collect()) } else { Err(failure("a repeated list is too long")) };
        }
    }
    numbers("*", a, b, i128::checked_mul, |a, b| a * b)
}

fn modulo(a: &Value, b: &Value) -> Result<Value, Error> {
    defined(a, b)?;
    if let Some(pattern) = a.as_str() {
        return text(format::percent(pattern, b)?);
    }
    if whole(b) == Some(0) || real(b) == Some(0.0) {
        return Err(failure("integer division or modulo by zero"));
    }
    // Python's remainder has the sign of the divisor.
    let ints = |a: i128, b: i128| {
        a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
    };
    let floats = |a: f64, b: f64| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
    };
    numbers("%", a, b, ints, floats)
}

fn cat(_: &State<'_, '_>, parts: Rest<Value>) -> Result<Value, Error> {
    let mut joined = String::new();
    for part in parts.iter() {
        if part.is_undefined() {
            return Err(undefined());
        }
        joined.push_str(&print::str(part));
        if joined.len() > MAX_TEXT {
            break;
        }
    }
    text(joined)
}

fn slice(value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(undefined());
    }
    let bound = |value: &Value| {
        let given = (!value.is_none()).then(|| value.as_i64().ok_or_else(|| failure("slice indices must be integers")));
        given.transpose()
    };
    let (start, stop, step) = (bound(&start)?, bound(&stop)?, bound(&step)?.unwrap_or(1));
    if step == 0 {
        return Err(failure("slice step cannot be zero"));
    }
    if let Some(whole) = value.as_str() {
        let letters: Vec<char> = whole.chars().collect();
        session::spend(letters.len())?;
        let picked = picks(letters.len(), start, stop, step).into_iter().map(|index| letters[index]);
        return text(picked.collect());
    }
    if !is_sequence(&value) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("'{}' object is not subscriptable", kind(&value))));
    }
    let all = items(&value)?;
    let picked = picks(all.len(), start, stop, step).into_iter().map(|index| all[index].clone()).collect();
    if is_tuple(&value) { List::tuple(picked) } else { List::value(picked) }
}

/// The indices that Python's `start:stop:step` picks.
#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "lengths are below MAX_TEXT")]
fn picks(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<usize> {
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |bound: i64| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high);
    let mut at = start.map_or(if step > 0 { low } else { high }, clamp);
    let end = stop.map_or(if step > 0 { high } else { low }, clamp);
    let mut picked = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        picked.push(at as usize);
        at = at.saturating_add(step);
    }
    picked
}
