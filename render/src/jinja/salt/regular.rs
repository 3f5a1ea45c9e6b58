//! Regular expressions, in Python's dialect as far as the engine knows it.

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::super::builtin::{Filter, defined};
use super::super::convert::Args;
use super::super::object::List;
use super::super::ops::kind;
use super::super::session::{self, MAX_TEXT, failure};
use super::super::text;

/// How far a regular expression may go back before it fails.
const BACKTRACK_LIMIT: usize = 100_000;

/// What reading a regular expression takes of a template's budget, beside its length.
pub(super) const BUILD_WORK: usize = 2_000;

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("regex_escape", |value, _| text::bounded(escape(subject(value)?))),
    ("regex_match", |value, args| groups(value, args, true)),
    ("regex_replace", replace),
    ("regex_search", |value, args| groups(value, args, false)),
];

/// Gives the environment the test `match`.
pub(super) fn install(env: &mut Environment<'_>) {
    env.add_test("match", |_: &State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<bool, Error> {
        let args = args.into_values();
        let (value, rest) = args.split_first().ok_or_else(|| failure("a test needs a value"))?;
        let subject = subject(value)?;
        session::spend(subject.len() + 1)?;
        matches(&regex(&Args::new(rest), 1, Anchor::Start, subject)?, subject)
    });
}

/// Where a match has to begin and end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Both,
    None,
    Start,
}

/// Tells whether a text is wholly matched; what is no regular expression matches nothing.
pub(super) fn is_whole(pattern: &str, subject: &str) -> Result<bool, Error> {
    match build(pattern, "", Anchor::Both, subject) {
        Ok(regex) => matches(&regex, subject),
        Err(_) => Ok(false),
    }
}

fn matches(regex: &fancy_regex::Regex, subject: &str) -> Result<bool, Error> {
    regex.is_match(subject).map_err(|error| failure(error.to_string()))
}

fn subject(value: &Value) -> Result<&str, Error> {
    let text = defined(value)?.as_str();
    text.ok_or_else(|| failure(format!("expected string or bytes-like object, got '{}'", kind(value))))
}

fn regex(args: &Args<'_>, flags_at: usize, anchor: Anchor, subject: &str) -> Result<fancy_regex::Regex, Error> {
    let pattern = args.text(0, "rgx")?;
    let mut flags = String::new();
    flags.push_str(if args.flag(flags_at, "ignorecase", false) { "i" } else { "" });
    flags.push_str(if args.flag(flags_at + 1, "multiline", false) { "m" } else { "" });
    build(&pattern, &flags, anchor, subject)
}

fn build(pattern: &str, flags: &str, anchor: Anchor, subject: &str) -> Result<fancy_regex::Regex, Error> {
    session::spend(BUILD_WORK + pattern.len())?;
    let pattern = translate(pattern, subject);
    let flags = if flags.is_empty() { String::new() } else { format!("(?{flags})") };
    // Python's named groups are `(?P<name>…)`, which the engine knows too.
    let pattern = match anchor {
        Anchor::Both => format!("{flags}\\A(?:{pattern})\\z"),
        Anchor::None => format!("{flags}{pattern}"),
        Anchor::Start => format!("{flags}\\A(?:{pattern})"),
    };
    let built = fancy_regex::RegexBuilder::new(&pattern).backtrack_limit(BACKTRACK_LIMIT).build();
    built.map_err(|error| failure(format!("not a regular expression: {error}")))
}

/// Python's `$` also stands before a last line break, and its `\Z` only at the end.
fn translate(pattern: &str, subject: &str) -> String {
    let end = if subject.ends_with('\n') { "(?:$|(?=\\n\\z))" } else { "$" };
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('Z') if !in_class => out.push_str("\\z"),
                next => out.extend(std::iter::once('\\').chain(next)),
            },
            '$' if !in_class => out.push_str(end),
            _ => {
                in_class = (in_class || letter == '[') && letter != ']';
                out.push(letter);
            }
        }
    }
    out
}

fn groups(value: &Value, args: &Args<'_>, anchored: bool) -> Result<Value, Error> {
    let subject = subject(value)?;
    let anchor = if anchored { Anchor::Start } else { Anchor::None };
    let found = regex(args, 1, anchor, subject)?.captures(subject).map_err(|error| failure(error.to_string()))?;
    let Some(found) = found else { return Ok(Value::from(())) };
    let group = |group: Option<fancy_regex::Match<'_>>| {
        group.map_or_else(|| Value::from(()), |group| Value::from(group.as_str()))
    };
    // An expression without groups is one.
    let first = usize::from(found.len() > 1);
    List::tuple(found.iter().skip(first).map(group).collect())
}

fn replace(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let subject = subject(value)?;
    let pattern = regex(args, 2, Anchor::None, subject)?;
    let parts = parts(&args.text(1, "val")?, &pattern)?;
    let mut out = String::new();
    let mut end = 0;
    for found in pattern.captures_iter(subject) {
        let found = found.map_err(|error| failure(error.to_string()))?;
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&subject[end..whole.start()]);
        for part in &parts {
            match part {
                Part::Group(group) => out.push_str(found.get(*group).map_or("", |group| group.as_str())),
                Part::Text(text) => out.push_str(text),
            }
            if out.len() > MAX_TEXT {
                return Err(failure("a text grows too long by replacing"));
            }
        }
        end = whole.end();
    }
    out.push_str(&subject[end..]);
    text::bounded(out)
}

/// A piece of a replacement.
enum Part {
    Group(usize),
    Text(String),
}

/// Reads a replacement with Python's references: `\1`, `\g<1>`, `\g<name>`.
fn parts(replacement: &str, pattern: &fancy_regex::Regex) -> Result<Vec<Part>, Error> {
    let groups = pattern.captures_len();
    let group = |index: usize| {
        if index < groups { Ok(Part::Group(index)) } else { Err(failure(format!("invalid group reference {index}"))) }
    };
    let mut parts = Vec::new();
    let mut letters = replacement.chars().peekable();
    while let Some(letter) = letters.next() {
        let part = match (letter, if letter == '\\' { letters.next() } else { None }) {
            ('\\', Some('g')) => {
                let name: String =
                    letters.by_ref().skip_while(|&letter| letter == '<').take_while(|&letter| letter != '>').collect();
                let named = || pattern.capture_names().position(|known| known == Some(name.as_str()));
                match name.parse().ok().or_else(named) {
                    Some(index) => group(index)?,
                    None => return Err(failure(format!("unknown group name '{name}'"))),
                }
            }
            ('\\', Some('0')) => Part::Text("\0".to_owned()),
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                let second = letters.next_if(char::is_ascii_digit);
                group(
                    std::iter::once(digit)
                        .chain(second)
                        .filter_map(|digit| digit.to_digit(10))
                        .fold(0, |all, digit| all * 10 + digit as usize),
                )?
            }
            ('\\', Some(escaped)) => Part::Text(unescape(escaped)?),
            _ => Part::Text(letter.to_string()),
        };
        match (parts.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
            (_, part) => parts.push(part),
        }
    }
    Ok(parts)
}

fn unescape(escaped: char) -> Result<String, Error> {
    let letter = match escaped {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        letter if letter.is_ascii_alphabetic() => return Err(failure(format!("bad escape \\{letter}"))),
        other => return Ok(format!("\\{other}")),
    };
    Ok(letter.to_string())
}

/// Escapes what has a meaning in Python's regular expressions, and white space.
fn escape(text: &str) -> String {
    let special = |letter: char| "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(letter);
    text.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect()
}
