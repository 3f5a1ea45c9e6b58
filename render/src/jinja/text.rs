//! The methods of Python's `str`, as `{{ name.upper() }}` calls them.

use minijinja::{Error, Value};

use super::convert::{Args, items};
use super::format;
use super::object::{List, undefined};
use super::print;
use super::session::{self, MAX_TEXT, failure};

/// Calls a method of a value that is not one of our containers.
pub(super) fn method(value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        if value.is_undefined() {
            return Err(undefined());
        }
        return Err(minijinja::ErrorKind::UnknownMethod.into());
    };
    session::spend(text.len() / 4 + 1)?;
    let args = Args::new(args);
    if let Some(made) = cased(text, name) {
        return Ok(Value::from(made));
    }
    if let Some(answer) = is_kind(text, name) {
        return Ok(Value::from(answer));
    }
    match name {
        "center" | "ljust" | "rjust" | "zfill" => padded(text, name, &args),
        "count" => Ok(Value::from(text.matches(args.text(0, "sub")?.as_str()).count())),
        "encode" | "decode" => Ok(Value::from(text)),
        "startswith" | "endswith" => affix(text, name, args.need(0, "prefix")?),
        "find" | "index" | "rfind" | "rindex" => find(text, name, &args.text(0, "sub")?),
        "format" => bounded(format::braces(text, &args)?),
        "join" => {
            let parts: Vec<String> = items(args.need(0, "iterable")?)?.iter().map(print::str).collect();
            bounded(parts.join(text))
        }
        "lstrip" | "rstrip" | "strip" => Ok(Value::from(strip(text, name, args.maybe_text(0, "chars").as_deref()))),
        "partition" | "rpartition" => partition(text, name == "rpartition", &args.text(0, "sep")?),
        "removeprefix" => Ok(Value::from(text.strip_prefix(args.text(0, "prefix")?.as_str()).unwrap_or(text))),
        "removesuffix" => Ok(Value::from(text.strip_suffix(args.text(0, "suffix")?.as_str()).unwrap_or(text))),
        "replace" => replace(text, &args),
        "split" | "rsplit" => split(text, name == "rsplit", &args),
        "splitlines" => List::value(text.lines().map(Value::from).collect()),
        _ => {
            session::note_missing(format!("'str object' has no attribute '{name}'"));
            Err(undefined())
        }
    }
}

/// Bounds and books a text that an operation has made.
pub(super) fn bounded(text: String) -> Result<Value, Error> {
    session::spend(text.len())?;
    if text.len() > MAX_TEXT {
        Err(failure(format!("a text of more than {MAX_TEXT} bytes")))
    } else {
        Ok(Value::from(text))
    }
}

fn cased(text: &str, name: &str) -> Option<String> {
    match name {
        "capitalize" => {
            let mut letters = text.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            Some(first + &letters.as_str().to_lowercase())
        }
        "casefold" | "lower" => Some(text.to_lowercase()),
        "swapcase" => Some(
            text.chars()
                .map(|letter| {
                    if letter.is_uppercase() {
                        letter.to_lowercase().to_string()
                    } else {
                        letter.to_uppercase().to_string()
                    }
                })
                .collect(),
        ),
        "title" => Some(title(text)),
        "upper" => Some(text.to_uppercase()),
        _ => None,
    }
}

fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if inside {
            out.extend(letter.to_lowercase())
        } else {
            out.extend(letter.to_uppercase())
        }
        inside = letter.is_alphabetic();
    }
    out
}

fn is_kind(text: &str, name: &str) -> Option<bool> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Some(match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdecimal" | "isdigit" | "isnumeric" => all(char::is_numeric),
        "islower" => text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        "isspace" => all(char::is_whitespace),
        "isupper" => text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        _ => return None,
    })
}

fn padded(text: &str, name: &str, args: &Args<'_>) -> Result<Value, Error> {
    let width = usize::try_from(args.int(0, "width", 0)?).unwrap_or_default();
    if width > MAX_TEXT {
        return Err(failure("a text is padded too far"));
    }
    let fill = args.maybe_text(1, "fillchar").unwrap_or_else(|| " ".to_owned());
    let missing = width.saturating_sub(text.chars().count());
    bounded(match name {
        "center" => {
            // Python puts the odd space left if the width is odd.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
        }
        "ljust" => format!("{text}{}", fill.repeat(missing)),
        "rjust" => format!("{}{text}", fill.repeat(missing)),
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
    })
}

fn affix(text: &str, name: &str, wanted: &Value) -> Result<Value, Error> {
    let fits = |affix: &str| if name == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) };
    if let Some(affix) = wanted.as_str() {
        return Ok(Value::from(fits(affix)));
    }
    Ok(Value::from(items(wanted)?.iter().any(|affix| affix.as_str().is_some_and(fits))))
}

fn find(text: &str, name: &str, wanted: &str) -> Result<Value, Error> {
    let at = if name.starts_with('r') { text.rfind(wanted) } else { text.find(wanted) };
    match at {
        Some(at) => Ok(Value::from(text[..at].chars().count())),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(failure("substring not found")),
    }
}

fn strip<'a>(text: &'a str, name: &str, letters: Option<&str>) -> &'a str {
    let strips = |letter: char| letters.map_or(letter.is_whitespace(), |letters| letters.contains(letter));
    match name {
        "lstrip" => text.trim_start_matches(strips),
        "rstrip" => text.trim_end_matches(strips),
        _ => text.trim_matches(strips),
    }
}

fn partition(text: &str, last: bool, mark: &str) -> Result<Value, Error> {
    if mark.is_empty() {
        return Err(failure("empty separator"));
    }
    let found = if last { text.rsplit_once(mark) } else { text.split_once(mark) };
    let parts = match found {
        Some((before, after)) => [before, mark, after],
        None if last => ["", "", text],
        None => [text, "", ""],
    };
    List::tuple(parts.into_iter().map(Value::from).collect())
}

fn replace(text: &str, args: &Args<'_>) -> Result<Value, Error> {
    let (old, new) = (args.text(0, "old")?, args.text(1, "new")?);
    let most = usize::try_from(args.int(2, "count", -1)?).unwrap_or(usize::MAX);
    let times = if old.is_empty() { text.len() + 1 } else { text.matches(old.as_str()).count() }.min(most);
    if times.saturating_mul(new.len()).saturating_add(text.len()) > MAX_TEXT * 2 {
        return Err(failure("a text grows too long by replacing"));
    }
    bounded(text.replacen(old.as_str(), &new, most))
}

fn split(text: &str, from_end: bool, args: &Args<'_>) -> Result<Value, Error> {
    let most = usize::try_from(args.int(1, "maxsplit", -1)?).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match args.maybe_text(0, "sep") {
        Some(mark) if mark.is_empty() => return Err(failure("empty separator")),
        Some(mark) if from_end => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), mark.as_str()).collect();
            parts.reverse();
            return List::value(parts.into_iter().map(Value::from).collect());
        }
        Some(mark) => {
            return List::value(text.splitn(most.saturating_add(1), mark.as_str()).map(Value::from).collect());
        }
        None if from_end => blank_rsplit(text, most),
        None => blank_split(text, most),
    };
    List::value(parts.into_iter().map(Value::from).collect())
}

fn blank_split(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && parts.len() < most {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        parts.push(rest.trim_end());
    }
    parts
}

fn blank_rsplit(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() && parts.len() < most {
        let start = rest.char_indices().rfind(|(_, letter)| letter.is_whitespace());
        let start = start.map_or(0, |(at, letter)| at + letter.len_utf8());
        parts.push(&rest[start..]);
        rest = rest[..start].trim_end();
    }
    if !rest.is_empty() {
        parts.push(rest.trim_start());
    }
    parts.reverse();
    parts
}
