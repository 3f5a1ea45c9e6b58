//! The engine's own filters and tests, booked and bounded, and Jinja2's that it lacks or does otherwise.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::convert::{Args, items};
use super::format;
use super::object::{Dict, List, own, undefined};
use super::print;
use super::salt;
use super::session::{self, MAX_ITEMS, MAX_TEXT, failure};
use super::text;

/// A filter of ours: the value and the arguments in, a value out.
pub(super) type Filter = fn(&Value, &Args<'_>) -> Result<Value, Error>;

/// Jinja2's filters that are done here.
const OWN: &[(&str, Filter)] = &[
    ("capitalize", |value, _| text_method(value, "capitalize", &[])),
    ("center", |value, args| text_method(value, "center", &[Value::from(args.int(0, "width", 80)?)])),
    ("d", default),
    ("default", default),
    ("format", format_filter),
    ("indent", indent),
    ("join", join),
    ("list", |value, _| List::value(items(value)?)),
    ("lower", |value, _| text_method(value, "lower", &[])),
    ("pprint", |value, _| text::bounded(print::repr(defined(value)?))),
    ("replace", replace),
    ("string", |value, _| text::bounded(print::str(defined(value)?))),
    ("striptags", |value, _| text::bounded(strip_tags(&print::str(defined(value)?)))),
    ("title", |value, _| text_method(value, "title", &[])),
    ("trim", trim),
    ("truncate", truncate),
    ("upper", |value, _| text_method(value, "upper", &[])),
    ("wordcount", |value, _| Ok(Value::from(print::str(defined(value)?).split_whitespace().count()))),
    ("wordwrap", wordwrap),
];

/// Gives the environment Jinja2's filters and tests.
pub(super) fn install(env: &mut Environment<'_>) {
    let native = [
        ("abs", Value::from_function(filters::abs)),
        ("attr", Value::from_function(filters::attr)),
        ("batch", Value::from_function(filters::batch)),
        ("bool", Value::from_function(filters::bool)),
        ("chain", Value::from_function(filters::chain)),
        ("count", Value::from_function(filters::length)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("first", Value::from_function(filters::first)),
        ("float", Value::from_function(filters::float)),
        ("groupby", Value::from_function(filters::groupby)),
        ("int", Value::from_function(filters::int)),
        ("items", Value::from_function(filters::items)),
        ("last", Value::from_function(filters::last)),
        ("length", Value::from_function(filters::length)),
        ("lines", Value::from_function(filters::lines)),
        ("map", Value::from_function(filters::map)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("reverse", Value::from_function(filters::reverse)),
        ("round", Value::from_function(filters::round)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("slice", Value::from_function(filters::slice)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("sum", Value::from_function(filters::sum)),
        ("zip", Value::from_function(filters::zip)),
    ];
    for (name, filter) in native {
        install_native(env, name, filter);
    }
    install_own(env, OWN);
    env.add_test("list", salt::is_list);
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    env.add_test("sequence", |value: &Value| !value.is_undefined() && value.len().is_some());
}

/// Installs filters of ours, booking what goes in and bounding what comes out.
pub(super) fn install_own(env: &mut Environment<'_>, table: &'static [(&'static str, Filter)]) {
    for &(name, filter) in table {
        env.add_filter(name, move |_: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let args = args.into_values();
            book(&args)?;
            let (value, rest) = args.split_first().ok_or_else(|| failure("a filter needs a value"))?;
            filter(value, &Args::new(rest))
        });
    }
}

fn install_native(env: &mut Environment<'_>, name: &'static str, filter: Value) {
    env.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let args = args.into_values();
        book(&args)?;
        let counted = matches!(name, "batch" | "slice");
        let limit = i64::try_from(MAX_ITEMS).unwrap_or(i64::MAX);
        if counted && args.iter().skip(1).any(|count| count.as_i64().is_some_and(|count| count > limit)) {
            return Err(failure("a list is filled up too far"));
        }
        let made = filter.call(state, &args)?;
        // A group keeps its names `grouper` and `list`.
        if name == "groupby" { Ok(made) } else { own(&made) }
    });
}

fn book(args: &[Value]) -> Result<(), Error> {
    let size: usize = args.iter().map(|value| value.as_str().map_or_else(|| value.len().unwrap_or(1), str::len)).sum();
    session::spend(size + 1)
}

/// Returns the value, unless it is undefined.
pub(super) fn defined(value: &Value) -> Result<&Value, Error> {
    if value.is_undefined() { Err(undefined()) } else { Ok(value) }
}

fn text_method(value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    text::method(&Value::from(print::str(defined(value)?)), name, args)
}

fn default(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let lax = args.flag(1, "boolean", false);
    let missing = value.is_undefined() || (lax && !value.is_true());
    let other = || args.get(0, "default_value").cloned().unwrap_or_else(|| Value::from(""));
    Ok(if missing { other() } else { value.clone() })
}

fn format_filter(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let pattern = print::str(defined(value)?);
    let argument = if args.names().is_empty() {
        List::tuple(args.places().to_vec())?
    } else {
        let dict = Dict::default();
        for (name, value) in args.names() {
            dict.insert(&Value::from(name.as_str()), value)?;
        }
        Value::from_object(dict)
    };
    text::bounded(format::percent(&pattern, &argument)?)
}

fn indent(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let pad = match args.get(0, "width") {
        Some(width) if width.as_str().is_some() => print::str(width),
        _ => {
            let width = usize::try_from(args.int(0, "width", 4)?).unwrap_or_default();
            if width > MAX_TEXT {
                return Err(failure("a text is indented too far"));
            }
            " ".repeat(width)
        }
    };
    let (first, blank) = (args.flag(1, "first", false), args.flag(2, "blank", false));
    let whole = print::str(defined(value)?);
    if whole.matches('\n').count().saturating_mul(pad.len()) > MAX_TEXT {
        return Err(failure("a text is indented too far"));
    }
    // Jinja2 indents the lines behind each break; blank ones only if asked.
    let mut out = String::new();
    for (index, line) in whole.split('\n').enumerate() {
        out.push_str(if index > 0 { "\n" } else { "" });
        let indents = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if indents { &pad } else { "" });
        out.push_str(line);
    }
    text::bounded(out)
}

fn join(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let mark = args.maybe_text(0, "d").unwrap_or_default();
    let attribute = args.get(1, "attribute").filter(|name| !name.is_none());
    let mut parts = Vec::new();
    for item in items(value)? {
        let part = match attribute {
            Some(name) => item.get_item(name)?,
            None => item,
        };
        parts.push(print::str(defined(&part)?));
    }
    if mark.len().saturating_mul(parts.len()) > MAX_TEXT {
        return Err(failure("a joined text is too long"));
    }
    text::bounded(parts.join(&mark))
}

fn replace(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let mut arguments = vec![Value::from(args.text(0, "old")?), Value::from(args.text(1, "new")?)];
    arguments.extend(args.get(2, "count").filter(|count| !count.is_none()).cloned());
    text_method(value, "replace", &arguments)
}

fn trim(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let letters: Vec<Value> = args.maybe_text(0, "chars").map(Value::from).into_iter().collect();
    text_method(value, "strip", &letters)
}

fn truncate(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let whole = print::str(defined(value)?);
    let length = usize::try_from(args.int(0, "length", 255)?).unwrap_or_default();
    let end = args.maybe_text(2, "end").unwrap_or_else(|| "...".to_owned());
    let leeway = usize::try_from(args.int(3, "leeway", 5)?).unwrap_or_default();
    if whole.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(whole));
    }
    let cut: String = whole.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if args.flag(1, "killwords", false) {
        &cut
    } else {
        cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept)
    };
    Ok(Value::from(format!("{kept}{end}")))
}

fn wordwrap(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let width = usize::try_from(args.int(0, "width", 79)?).unwrap_or(1).max(1);
    let mark = args.maybe_text(2, "wrapstring").unwrap_or_else(|| "\n".to_owned());
    let mut lines = Vec::new();
    for paragraph in print::str(defined(value)?).lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
        lines.push(line);
    }
    text::bounded(lines.join(&mark))
}

fn strip_tags(text: &str) -> String {
    let mut inside = false;
    let plain: String = text
        .chars()
        .filter(|&letter| {
            inside = (inside || letter == '<') && letter != '>';
            !inside && letter != '>'
        })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}
