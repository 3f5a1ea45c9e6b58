//! Numbers, truth, names and paths.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::super::builtin::{Filter, defined};
use super::super::convert::{Args, int, items};
use super::super::ops::kind;
use super::super::print;
use super::super::session::failure;
use super::super::text;

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("contains_whitespace", |value, _| Ok(Value::from(print::str(defined(value)?).contains(char::is_whitespace)))),
    ("human_to_bytes", human_to_bytes),
    ("is_hex", |value, _| Ok(Value::from(value.as_str().is_some_and(is_hex)))),
    ("mac_str_to_bytes", mac_str_to_bytes),
    ("path_join", path_join),
    ("quote", quote),
    ("skip", |_, _| Ok(Value::from(""))),
    ("str_to_num", to_number),
    ("strip", |value, _| Ok(Value::from(print::str(defined(value)?).trim()))),
    ("to_bool", |value, _| Ok(Value::from(to_bool(value)))),
    ("to_camelcase", to_camelcase),
    ("to_num", to_number),
    ("to_snake_case", to_snake_case),
    ("urlencode", urlencode),
];

/// Units, each 1,024 (or 1,000) times the one before.
const UNITS: &str = "bkmgtpezy";

/// Reads `64KiB` and `1.5G`; what is not understood is 0.
fn human_to_bytes(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let whole = print::str(defined(value)?);
    let whole = whole.trim();
    let end = whole.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(whole.len());
    let (number, unit) = (&whole[..end], whole[end..].trim_start().to_lowercase());
    let default = args.maybe_text(0, "default_unit").unwrap_or_else(|| "B".to_owned()).to_lowercase();
    let unit = if unit.is_empty() { default } else { unit };
    let (first, rest) = unit.split_at(unit.chars().next().map_or(0, char::len_utf8));
    let decimal = rest == "b" && first != "b" && args.flag(1, "handle_metric", false);
    let known = matches!(rest, "" | "b" | "ib") && (first != "b" || rest.is_empty());
    let Some(power) = UNITS.find(first).filter(|_| known && !first.is_empty()) else { return Ok(Value::from(0)) };
    #[expect(clippy::cast_possible_truncation, reason = "there are nine units")]
    let factor = if decimal { 10i128.pow(3 * power as u32) } else { 1 << (10 * power) };
    let too_large = || failure("an integer is too large");
    if let Ok(count) = number.parse::<i128>() {
        return count.checked_mul(factor).map(int).ok_or_else(too_large);
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as Python's float and int")]
    Ok(int(number.parse::<f64>().map_or(0, |count| (count * factor as f64) as i128)))
}

/// Python's `int` and `float` allow underscores between digits.
fn without_underscores(text: &str) -> Option<String> {
    let letters: Vec<char> = text.chars().collect();
    let digit = |at: Option<usize>| at.and_then(|at| letters.get(at)).is_some_and(char::is_ascii_digit);
    let misplaced = |(at, letter): (usize, &char)| *letter == '_' && !(digit(at.checked_sub(1)) && digit(Some(at + 1)));
    (!letters.iter().enumerate().any(misplaced)).then(|| text.replace('_', ""))
}

fn to_number(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let Some(text) = defined(value)?.as_str() else {
        return match value.kind() {
            ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
            ValueKind::Number if value.is_integer() => Ok(value.clone()),
            #[expect(clippy::cast_possible_truncation, reason = "as Python's int, within 128 bits")]
            ValueKind::Number => Ok(int(f64::try_from(value.clone())?.trunc() as i128)),
            _ => Err(failure(format!(
                "int() argument must be a string, a bytes-like object or a real number, not '{}'",
                kind(value)
            ))),
        };
    };
    let Some(digits) = without_underscores(text.trim()) else { return Ok(value.clone()) };
    let whole = digits.parse::<i128>().map(int);
    Ok(whole.or_else(|_| digits.parse::<f64>().map(Value::from)).unwrap_or_else(|_| value.clone()))
}

fn is_hex(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let bare = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let bare = bare.map_or(text, |bare| bare.strip_prefix('_').unwrap_or(bare));
    bare.split('_').all(|part| !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_hexdigit()))
}

fn to_bool(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Bool => value.is_true(),
        ValueKind::String => matches!(value.as_str().unwrap_or_default().to_lowercase().as_str(), "yes" | "1" | "true"),
        ValueKind::Number => value.is_integer() && *value > Value::from(0),
        ValueKind::Map => value.len().is_some_and(|len| len > 0),
        // Whatever Python can hash is false beyond these: floats, and tuples with them.
        ValueKind::Seq | ValueKind::Iterable => kind(value) == "list" && value.len().is_some_and(|len| len > 0),
        _ => false,
    }
}

fn mac_str_to_bytes(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let whole = print::str(defined(value)?);
    let invalid = || failure("Invalid MAC address");
    let digits = match (whole.is_ascii(), whole.len()) {
        (true, 12) => whole.clone(),
        (true, 17) => whole.replace(&whole[2..3], ""),
        _ => return Err(invalid()),
    };
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2).ok_or_else(invalid)?, 16).map_err(|_| invalid());
    (0..12).step_by(2).map(byte).collect::<Result<Vec<u8>, Error>>().map(Value::from_bytes)
}

fn path_join(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let mut path = normal(&print::str(defined(value)?));
    for part in args.places().iter().map(print::str) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push_str(normal(&part).trim_start_matches('/'));
    }
    text::bounded(normal(&path))
}

/// Python's `posixpath.normpath`: two slashes at the start stay two.
fn normal(path: &str) -> String {
    let slashes = path.len() - path.trim_start_matches('/').len();
    let root = match slashes {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let goes_up = part == "..";
        match kept.last() {
            Some(&last) if goes_up && last != ".." => {
                kept.pop();
            }
            None if goes_up && !root.is_empty() => {}
            _ => kept.push(part),
        }
    }
    let joined = format!("{root}{}", kept.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

fn quote(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let found = defined(value)?.as_str();
    let plain = found.ok_or_else(|| failure(format!("expected string or bytes-like object, got '{}'", kind(value))))?;
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    if !plain.is_empty() && plain.chars().all(safe) {
        return text::bounded(plain.to_owned());
    }
    text::bounded(format!("'{}'", plain.replace('\'', "'\"'\"'")))
}

fn to_camelcase(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let snake = print::str(defined(value)?);
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        first + &letters.as_str().to_lowercase()
    };
    let upper = args.flag(0, "uppercamel", false);
    let words = snake.split('_').enumerate();
    text::bounded(words.map(|(at, word)| if at == 0 && !upper { word.to_owned() } else { capital(word) }).collect())
}

fn to_snake_case(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let letters: Vec<char> = print::str(defined(value)?).chars().collect();
    let first = letters.first().ok_or_else(|| failure("string index out of range"))?;
    let mut out: String = first.to_lowercase().collect();
    for (at, letter) in letters.iter().enumerate().skip(1) {
        let starts = letters[at - 1].is_lowercase() || letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && starts {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    text::bounded(out)
}

/// Jinja2's `urlencode`: a text as a path, pairs as a query.
fn urlencode(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let pairs: Vec<(Value, Value)> = match defined(value)?.kind() {
        ValueKind::Map => {
            let keys = items(value)?;
            keys.into_iter().map(|key| Ok((key.clone(), value.get_item(&key)?))).collect::<Result<_, Error>>()?
        }
        ValueKind::Seq | ValueKind::Iterable => super::super::method::pairs(&Args::new(std::slice::from_ref(value)))?,
        _ => return text::bounded(percent(&print::str(value), "/")),
    };
    let query = |part: &Value| percent(&print::str(part), "").replace("%20", "+");
    let parts: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", query(key), query(value))).collect();
    text::bounded(parts.join("&"))
}

fn percent(text: &str, safe: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || safe.as_bytes().contains(&byte);
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
