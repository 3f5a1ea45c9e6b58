//! What a plain scalar means: PyYAML's implicit resolvers (YAML 1.1), and the constructors of their tags.

use std::sync::LazyLock;

use proto::value::Value;
use regex::Regex;

/// The kinds of scalar that PyYAML tells apart by their look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Float,
    Int,
    Merge,
    Null,
    /// `=`, which no constructor takes.
    Default,
    Text,
}

/// PyYAML's `implicit_resolver` patterns. A timestamp is text to Salt, so it has none here.
static FLOAT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^(?: [-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?
        | \.[0-9][0-9_]*(?:[eE][-+][0-9]+)?
        | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
        | [-+]?\.(?:inf|Inf|INF)
        | \.(?:nan|NaN|NAN) )$",
    )
    .expect("a constant pattern")
});
static INT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^(?: [-+]?0b[0-1_]+
        | [-+]?0[0-7_]+
        | [-+]?(?:0|[1-9][0-9_]*)
        | [-+]?0x[0-9a-fA-F_]+
        | [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+ )$",
    )
    .expect("a constant pattern")
});

/// Tells what kind of scalar a plain text is.
pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "<<" => return Scalar::Merge,
        "=" => return Scalar::Default,
        _ => {}
    }
    if bool_word(text).is_some() && cased_like_a_keyword(text) {
        return Scalar::Bool;
    }
    match text.as_bytes()[0] {
        b'-' | b'+' | b'.' | b'0'..=b'9' if FLOAT.is_match(text) => Scalar::Float,
        b'-' | b'+' | b'0'..=b'9' if INT.is_match(text) => Scalar::Int,
        _ => Scalar::Text,
    }
}

/// Tells whether PyYAML would date a plain text: such texts are quoted when written.
pub(super) fn is_timestamp(text: &str) -> bool {
    static TIMESTAMP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)^(?: [0-9]{4}-[0-9]{2}-[0-9]{2}
            | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2} (?:[Tt]|[\ \t]+) [0-9]{1,2}:[0-9]{2}:[0-9]{2} (?:\.[0-9]*)?
              (?:[\ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))? )$",
        )
        .expect("a constant pattern")
    });
    TIMESTAMP.is_match(text)
}

/// Returns the truth value that a word says, in any case.
pub(super) fn bool_word(text: &str) -> Option<bool> {
    const WORDS: [(&str, bool); 6] =
        [("yes", true), ("no", false), ("true", true), ("false", false), ("on", true), ("off", false)];
    WORDS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|&(_, flag)| flag)
}

/// `yes`, `Yes` and `YES` are keywords, `yEs` is text.
fn cased_like_a_keyword(text: &str) -> bool {
    let rest = &text[1..];
    let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    lower(rest) || upper(text)
}

/// Builds an integer as Salt's loader does: PyYAML's `0b`, `0x`, sexagesimal and underscores, but leading zeros mean
/// nothing: a file mode of `0644` is the number 644, whose digits are what `chmod` would be given.
pub(super) fn int(text: &str) -> Result<Value, String> {
    let prefixed = text.starts_with("0b") || text.starts_with("0x");
    let text = match text.trim_start_matches('0') {
        rest if prefixed || !text.starts_with('0') || rest.len() == text.len() => text,
        "" => "0",
        rest => rest,
    };
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let magnitude = if digits == "0" {
        Some(0)
    } else if let Some(bits) = digits.strip_prefix("0b") {
        parse_radix(bits, 2)
    } else if let Some(hex) = digits.strip_prefix("0x") {
        parse_radix(hex, 16)
    } else if digits.starts_with('0') {
        parse_radix(digits, 8)
    } else if digits.contains(':') {
        sexagesimal(digits)
    } else {
        parse_radix(digits, 10)
    };
    let magnitude = magnitude.ok_or_else(|| format!("'{text}' is not an integer that can be read"))?;
    Ok(Value::Int(if negative { -magnitude } else { magnitude }))
}

fn parse_radix(digits: &str, radix: u32) -> Option<i128> {
    // Rust's parser takes a sign here, Python's constructor has already taken it.
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| i128::from_str_radix(digits, radix).ok())?
}

fn sexagesimal(digits: &str) -> Option<i128> {
    digits.split(':').try_fold(0i128, |total, part| total.checked_mul(60)?.checked_add(parse_radix(part, 10)?))
}

/// Builds a float as PyYAML's constructor does.
pub(super) fn float(text: &str) -> Result<Value, String> {
    let plain = text.replace('_', "").to_ascii_lowercase();
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let number = match digits {
        ".inf" => Some(f64::INFINITY),
        ".nan" => Some(f64::NAN),
        _ if digits.contains(':') => digits.split(':').try_fold(0.0, |total, part| Some(total * 60.0 + decimal(part)?)),
        _ => decimal(digits),
    };
    number.map(|number| Value::Float(sign * number)).ok_or_else(|| format!("'{text}' is not a number"))
}

fn decimal(digits: &str) -> Option<f64> {
    let numeric = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-'));
    numeric.then(|| digits.parse().ok())?
}
