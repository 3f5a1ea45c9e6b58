//! Salt's filters: YAML and JSON, regular expressions, sets, truth.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::builtin::{Filter, defined};
use super::convert::{Args, from_jinja, items, to_jinja};
use super::json::{self, Look};
use super::object::List;
use super::print;
use super::session::{self, MAX_TEXT, failure};
use super::text;
use crate::yaml::{self, Source};

/// How far a regular expression may go back before it fails.
const BACKTRACK_LIMIT: usize = 100_000;

/// Salt's filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("avg", average),
    ("base64_decode", base64_decode),
    ("base64_encode", |value, _| text::bounded(crate::python::base64(print::str(defined(value)?).as_bytes()))),
    ("compare_dicts", |value, args| Ok(Value::from(value == args.need(0, "new")?))),
    ("difference", |value, args| combine(value, args, |inside, other| inside && !other, false)),
    ("flatten", flatten),
    ("intersect", |value, args| combine(value, args, |inside, other| inside && other, false)),
    ("is_iter", |value, _| {
        Ok(Value::from(matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)))
    }),
    ("is_list", |value, _| Ok(Value::from(value.kind() == ValueKind::Seq))),
    ("is_sorted", is_sorted),
    ("json", to_json),
    ("load_json", |value, _| load("json", &print::str(defined(value)?))),
    ("load_yaml", |value, _| load("yaml", &print::str(defined(value)?))),
    ("method_call", |value, args| {
        text::method(value, &args.text(0, "f_name")?, args.places().get(1..).unwrap_or_default())
    }),
    ("path_join", path_join),
    ("python", |value, _| text::bounded(print::repr(defined(value)?))),
    ("quote", |value, _| text::bounded(shell_quote(&print::str(defined(value)?)))),
    ("regex_escape", |value, _| text::bounded(regex::escape(&print::str(defined(value)?)))),
    ("regex_match", |value, args| regex_groups(value, args, true)),
    ("regex_replace", regex_replace),
    ("regex_search", |value, args| regex_groups(value, args, false)),
    ("sequence", sequence),
    ("sorted_ignorecase", sorted_ignorecase),
    ("strip", |value, _| Ok(Value::from(print::str(defined(value)?).trim()))),
    ("substring_in_list", substring_in_list),
    ("symmetric_difference", |value, args| combine(value, args, |inside, other| inside != other, true)),
    ("to_bool", |value, _| Ok(Value::from(to_bool(value)))),
    ("to_num", to_number),
    ("traverse", traverse),
    ("union", |value, args| combine(value, args, |_, _| true, true)),
    ("yaml", to_yaml),
    ("yaml_dquote", |value, _| text::bounded(yaml::double_quoted(&print::str(defined(value)?)))),
    ("yaml_encode", yaml_encode),
    ("yaml_squote", |value, _| text::bounded(yaml::single_quoted(&print::str(defined(value)?)))),
];

/// Reads a text as YAML, JSON or text: what `load_yaml` and its kin do.
pub(super) fn load(kind: &str, content: &str) -> Result<Value, Error> {
    session::spend(content.len())?;
    match kind {
        "json" => {
            let json =
                serde_json::from_str(content).map_err(|error| failure(format!("unable to load json: {error}")))?;
            to_jinja(&proto::value::Value::from_json(&json))
        }
        "yaml" => {
            let value = yaml::load(content, &Source { name: "<load_yaml>" });
            to_jinja(&value.map_err(|error| failure(format!("unable to load yaml: {error}")))?)
        }
        _ => Ok(Value::from(content)),
    }
}

fn average(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let numbers: Vec<f64> = items(value)?.into_iter().map(f64::try_from).collect::<Result<_, _>>()?;
    if numbers.is_empty() {
        return Ok(Value::from(0));
    }
    #[expect(clippy::cast_precision_loss, reason = "lists are short")]
    let count = numbers.len() as f64;
    Ok(Value::from(numbers.iter().sum::<f64>() / count))
}

fn base64_decode(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let bytes = yaml::decode_base64(&print::str(defined(value)?)).map_err(failure)?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Sets keep the order of their lists here; Python's have none.
fn combine(value: &Value, args: &Args<'_>, keep: fn(bool, bool) -> bool, both: bool) -> Result<Value, Error> {
    let (first, second) = (items(value)?, items(args.need(0, "lst2")?)?);
    session::spend(first.len().saturating_mul(second.len()))?;
    let mut kept: Vec<Value> = Vec::new();
    let others = if both { second.as_slice() } else { &[] };
    let candidates = first.iter().map(|item| (item, keep(true, second.contains(item))));
    for (item, wanted) in candidates.chain(others.iter().map(|item| (item, keep(first.contains(item), true)))) {
        if wanted && !kept.contains(item) {
            kept.push(item.clone());
        }
    }
    List::value(kept)
}

fn flatten(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    fn walk(value: &Value, levels: i64, out: &mut Vec<Value>) -> Result<(), Error> {
        for item in items(value)? {
            let nested = matches!(item.kind(), ValueKind::Seq | ValueKind::Iterable);
            match () {
                () if nested && levels != 0 => walk(&item, levels - 1, out)?,
                () if item.is_none() => {}
                () => out.push(item),
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(value, args.int(0, "levels", -1)?, &mut out)?;
    List::value(out)
}

fn is_sorted(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    Ok(Value::from(items(value)?.is_sorted()))
}

fn to_json(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let look = Look { sorted: args.flag(0, "sort_keys", true), indent: json::indent(args, 1)?, ..Look::default() };
    text::bounded(json::dumps(defined(value)?, &look)?)
}

fn path_join(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let mut path = print::str(defined(value)?);
    for part in args.places().iter().map(print::str) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push_str(part.trim_start_matches('/'));
    }
    text::bounded(path)
}

fn shell_quote(text: &str) -> String {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    if !text.is_empty() && text.chars().all(safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\"'\"'"))
    }
}

fn regex(args: &Args<'_>, flags_at: usize, anchored: bool) -> Result<fancy_regex::Regex, Error> {
    let pattern = args.text(0, "rgx")?;
    let mut flags = String::new();
    flags.push_str(if args.flag(flags_at, "ignorecase", false) { "i" } else { "" });
    flags.push_str(if args.flag(flags_at + 1, "multiline", false) { "m" } else { "" });
    let flags = if flags.is_empty() { flags } else { format!("(?{flags})") };
    // Python's named groups are `(?P<name>…)`, which the engine knows too; `match` is anchored at the start only.
    let pattern = if anchored { format!("{flags}\\A(?:{pattern})") } else { format!("{flags}{pattern}") };
    let built = fancy_regex::RegexBuilder::new(&pattern).backtrack_limit(BACKTRACK_LIMIT).build();
    built.map_err(|error| failure(format!("not a regular expression: {error}")))
}

fn regex_groups(value: &Value, args: &Args<'_>, anchored: bool) -> Result<Value, Error> {
    let subject = print::str(defined(value)?);
    let found = regex(args, 1, anchored)?.captures(&subject).map_err(|error| failure(error.to_string()))?;
    let Some(found) = found else { return Ok(Value::from(())) };
    let group = |group: Option<fancy_regex::Match<'_>>| {
        group.map_or_else(|| Value::from(()), |group| Value::from(group.as_str()))
    };
    List::tuple(found.iter().skip(1).map(group).collect())
}

fn regex_replace(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let subject = print::str(defined(value)?);
    let replacement = args.text(1, "val")?;
    let pattern = regex(args, 2, false)?;
    let mut out = String::new();
    let mut end = 0;
    for found in pattern.captures_iter(&subject) {
        let found = found.map_err(|error| failure(error.to_string()))?;
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&subject[end..whole.start()]);
        expand(&replacement, &found, &mut out);
        end = whole.end();
        if out.len() > MAX_TEXT {
            return Err(failure("a text grows too long by replacing"));
        }
    }
    out.push_str(&subject[end..]);
    text::bounded(out)
}

/// Writes a replacement with Python's references: `\1`, `\g<name>`.
fn expand(replacement: &str, found: &fancy_regex::Captures<'_, String>, out: &mut String) {
    let mut letters = replacement.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some(digit @ '0'..='9') => {
                let group = digit.to_digit(10).and_then(|group| found.get(group as usize));
                out.push_str(group.map_or("", |group| group.as_str()));
            }
            Some('g') => {
                let name: String =
                    letters.by_ref().skip_while(|&letter| letter == '<').take_while(|&letter| letter != '>').collect();
                let group = name.parse().map_or_else(|_| found.name(&name), |index| found.get(index));
                out.push_str(group.map_or("", |group| group.as_str()));
            }
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
}

fn sequence(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => Ok(value.clone()),
        _ => List::value(vec![defined(value)?.clone()]),
    }
}

fn sorted_ignorecase(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let mut sorted = items(value)?;
    sorted.sort_by_cached_key(|item| print::str(item).to_uppercase());
    List::value(sorted)
}

fn substring_in_list(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let wanted = print::str(defined(value)?);
    let found =
        items(args.need(0, "lst")?)?.iter().any(|item| item.as_str().is_some_and(|text| text.contains(&wanted)));
    Ok(Value::from(found))
}

fn to_bool(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Bool => value.is_true(),
        ValueKind::String => matches!(value.as_str().unwrap_or_default().to_lowercase().as_str(), "yes" | "1" | "true"),
        ValueKind::Number => f64::try_from(value.clone()).is_ok_and(|number| number > 0.0),
        ValueKind::Undefined | ValueKind::None => false,
        _ => value.len().is_some_and(|len| len > 0),
    }
}

fn to_number(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let Some(text) = defined(value)?.as_str() else { return Ok(value.clone()) };
    let whole = text.trim().parse::<i64>().map(Value::from);
    Ok(whole.or_else(|_| text.trim().parse::<f64>().map(Value::from)).unwrap_or_else(|_| value.clone()))
}

/// Follows a path such as `a:b:0`.
fn traverse(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let path = args.text(0, "key")?;
    let mark = args.maybe_text(2, "delimiter").filter(|mark| !mark.is_empty()).unwrap_or_else(|| ":".to_owned());
    let default = || args.get(1, "default").cloned().unwrap_or_else(|| Value::from(""));
    let mut at = defined(value)?.clone();
    for step in path.split(mark.as_str()) {
        let by_name = at.get_item(&Value::from(step))?;
        let next = match step.parse::<i64>() {
            Ok(index) if by_name.is_undefined() => at.get_item(&Value::from(index))?,
            _ => by_name,
        };
        if next.is_undefined() {
            return Ok(default());
        }
        at = next;
    }
    Ok(at)
}

fn to_yaml(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let value = from_jinja(value)?;
    if args.flag(0, "flow_style", true) {
        return text::bounded(yaml::flow(&value));
    }
    let written = yaml::dump(&value);
    let written = written.trim();
    text::bounded(written.strip_suffix("\n...").unwrap_or(written).to_owned())
}

fn yaml_encode(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    match from_jinja(value)? {
        proto::value::Value::List(_) | proto::value::Value::Map(_) => {
            Err(failure("yaml_encode() only works with YAML scalar data"))
        }
        proto::value::Value::Str(content) => text::bounded(yaml::double_quoted(&content)),
        scalar => text::bounded(yaml::flow(&scalar)),
    }
}
