//! Arguments of the command line: YAML where that is plainly meant, the text as typed otherwise.

use proto::value::Value;

use super::{Source, load};

/// Reads one argument as Salt does: `1` is a number, `{a: 1}` a map, `a: 1` text, `None` null, `x # y` text.
pub fn cli_arg(text: &str) -> Value {
    let as_typed = || Value::from(text);
    let trimmed = text.trim();
    // Digits and underscores alone would be read as one number, document marks as nothing.
    let digits = text.contains('_') && trimmed.chars().all(|letter| letter.is_ascii_digit() || letter == '_');
    if matches!(trimmed, "" | "---" | "...") || digits || text.contains(['\t', '\r', '\n']) {
        return as_typed();
    }
    if text == "None" {
        return Value::Null;
    }
    let Ok(value) = load(text, &Source { name: "<arg>" }) else { return as_typed() };
    match value {
        // A comment would be lost.
        Value::Str(_) | Value::Null if text.contains('#') => as_typed(),
        Value::Map(_) if !text.starts_with('{') => as_typed(),
        Value::List(_) if !text.starts_with('[') => as_typed(),
        Value::Bytes(_) => as_typed(),
        Value::Str(inner) if inner.is_empty() && matches!(text, "|" | "!") => as_typed(),
        Value::Null if text == "!" => as_typed(),
        value => value,
    }
}

/// Splits `name=value` and reads the value; none if the argument is not of that form (`a==b`, `1=x`, `a b=c`).
pub fn parse_kwarg(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=')?;
    let mut letters = name.chars();
    let first = letters.next()?;
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let named = word(first) && !first.is_numeric() && letters.all(|letter| word(letter) || matches!(letter, '.' | '-'));
    // Python's `.` stops at a newline, and `$` allows one at the very end.
    let one_line = !value.strip_suffix('\n').unwrap_or(value).contains('\n');
    (named && !value.starts_with('=') && one_line)
        .then(|| (name.to_owned(), cli_arg(value.strip_suffix('\n').unwrap_or(value))))
}
