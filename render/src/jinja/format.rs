//! Python's two ways to format text: `'%s' % x` and `'{}'.format(x)`.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::convert::{Args, items};
use super::object::{List, undefined};
use super::print;
use super::session::{MAX_TEXT, failure};

/// The widest field.
const MAX_WIDTH: usize = 10_000;
/// The most digits behind the point.
const MAX_PRECISION: usize = 100;

/// How one field is formatted.
#[derive(Debug, Clone, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Formats `pattern % argument`.
pub(super) fn percent(pattern: &str, argument: &Value) -> Result<String, Error> {
    let tuple = argument.is_tuple() || argument.downcast_object_ref::<List>().is_some_and(|list| list.tuple);
    let mut places = if tuple { items(argument)? } else { vec![argument.clone()] }.into_iter();
    let mut used_name = argument.kind() == ValueKind::Map;
    let mut out = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if out.len() > MAX_TEXT {
            return Err(failure("a formatted text is too long"));
        }
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut name = None;
        if letters.next_if_eq(&'(').is_some() {
            name = Some(letters.by_ref().take_while(|&letter| letter != ')').collect::<String>());
        }
        let spec = percent_spec(&mut letters)?;
        if spec.kind == Some('%') {
            out.push('%');
            continue;
        }
        let value = match name {
            Some(name) => {
                used_name = true;
                let value = argument.get_item(&Value::from(name.as_str()))?;
                if value.is_undefined() { return Err(failure(format!("KeyError: '{name}'"))) } else { value }
            }
            None => places.next().ok_or_else(|| failure("not enough arguments for format string"))?,
        };
        out.push_str(&percent_field(&value, &spec)?);
    }
    if !used_name && places.next().is_some() {
        return Err(failure("not all arguments converted during string formatting"));
    }
    Ok(out)
}

fn percent_spec(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Spec, Error> {
    let mut spec = Spec::default();
    while let Some(flag) = letters.next_if(|letter| "-+ #0".contains(*letter)) {
        match flag {
            '-' => spec.align = Some('<'),
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            sign => spec.sign = Some(sign),
        }
    }
    spec.width = digits(letters).unwrap_or_default();
    if letters.next_if_eq(&'.').is_some() {
        spec.precision = Some(digits(letters).unwrap_or_default());
    }
    spec.kind = letters.next();
    if spec.align.is_none() {
        spec.align = Some('>');
    } else {
        spec.zero = false;
    }
    if spec.kind.is_none() { Err(failure("incomplete format")) } else { check(spec) }
}

fn digits(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut number: Option<usize> = None;
    while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
        letters.next();
        number = Some(number.unwrap_or_default().saturating_mul(10).saturating_add(digit as usize));
    }
    number
}

fn check(spec: Spec) -> Result<Spec, Error> {
    if spec.width > MAX_WIDTH || spec.precision.unwrap_or_default() > MAX_PRECISION {
        return Err(failure("a format field is too wide"));
    }
    Ok(spec)
}

fn percent_field(value: &Value, spec: &Spec) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(undefined());
    }
    let mut spec = spec.clone();
    let value = match spec.kind {
        Some('s' | 'a') => Value::from(print::str(value)),
        Some('r') => Value::from(print::repr(value)),
        Some('d' | 'i' | 'u') => {
            spec.kind = Some('d');
            match f64::try_from(value.clone()) {
                Ok(number) if !value.is_integer() && value.kind() == ValueKind::Number => truncated(number),
                Ok(_) if value.kind() != ValueKind::String => value.clone(),
                _ => return Err(failure("%d format: a real number is required")),
            }
        }
        Some('c') if value.as_str().is_some() => value.clone(),
        Some('x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'c') => value.clone(),
        Some(other) => return Err(failure(format!("unsupported format character '{other}'"))),
        None => return Err(failure("incomplete format")),
    };
    if value.as_str().is_some() {
        spec.kind = Some('s');
    }
    field(&value, &spec)
}

#[expect(clippy::cast_possible_truncation, reason = "a float beyond the integers is clamped")]
fn truncated(number: f64) -> Value {
    super::convert::int(number.trunc() as i128)
}

/// Formats `pattern.format(…)`.
pub(super) fn braces(pattern: &str, args: &Args<'_>) -> Result<String, Error> {
    let mut out = String::new();
    let mut next_place = Some(0);
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        if out.len() > MAX_TEXT {
            return Err(failure("a formatted text is too long"));
        }
        out.push_str(&rest[..at]);
        let mark = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(mark) {
            out.push_str(mark);
            rest = after;
            continue;
        }
        if mark == "}" {
            return Err(failure("single '}' encountered in format string"));
        }
        let end = rest.find('}').ok_or_else(|| failure("expected '}' before end of string"))?;
        out.push_str(&brace_field(&rest[..end], args, &mut next_place)?);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn brace_field(field_text: &str, args: &Args<'_>, next_place: &mut Option<usize>) -> Result<String, Error> {
    let (target, spec) = field_text.split_once(':').unwrap_or((field_text, ""));
    let (target, conversion) = target.split_once('!').unwrap_or((target, ""));
    let name_end = target.find(['.', '[']).unwrap_or(target.len());
    let (name, path) = target.split_at(name_end);
    let mut value = if name.is_empty() {
        let at = next_place
            .ok_or_else(|| failure("cannot switch from manual field specification to automatic field numbering"))?;
        *next_place = Some(at + 1);
        place(args, at)?
    } else if let Ok(index) = name.parse() {
        if next_place.take().is_some_and(|at| at > 0) {
            return Err(failure("cannot switch from automatic field numbering to manual field specification"));
        }
        place(args, index)?
    } else {
        let named = args.names().iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        named.ok_or_else(|| failure(format!("KeyError: '{name}'")))?
    };
    for step in path.split(['.', '[']).skip(1) {
        let step = step.trim_end_matches(']');
        let key = step.parse::<i64>().map_or_else(|_| Value::from(step), Value::from);
        value = value.get_item(&key)?;
    }
    if value.is_undefined() {
        return Err(undefined());
    }
    match conversion {
        "r" | "a" => value = Value::from(print::repr(&value)),
        "s" => value = Value::from(print::str(&value)),
        _ => {}
    }
    if !matches!(value.kind(), ValueKind::Number | ValueKind::String)
        && (spec.is_empty() || value.kind() != ValueKind::Bool)
    {
        value = Value::from(print::str(&value));
    }
    field(&value, &brace_spec(spec)?)
}

fn place(args: &Args<'_>, index: usize) -> Result<Value, Error> {
    let value = args.places().get(index).cloned();
    value.ok_or_else(|| failure(format!("replacement index {index} out of range for positional args tuple")))
}

fn brace_spec(text: &str) -> Result<Spec, Error> {
    let mut spec = Spec::default();
    let letters: Vec<char> = text.chars().collect();
    let mut skip = 0;
    if letters.get(1).is_some_and(|letter| "<>^=".contains(*letter)) {
        (spec.fill, spec.align, skip) = (Some(letters[0]), Some(letters[1]), 2);
    } else if letters.first().is_some_and(|letter| "<>^=".contains(*letter)) {
        (spec.align, skip) = (Some(letters[0]), 1);
    }
    let rest: String = letters[skip..].iter().collect();
    let mut letters = rest.chars().peekable();
    spec.sign = letters.next_if(|letter| "+- ".contains(*letter));
    spec.alternate = letters.next_if_eq(&'#').is_some();
    spec.zero = letters.next_if_eq(&'0').is_some();
    spec.width = digits(&mut letters).unwrap_or_default();
    spec.grouping = letters.next_if(|letter| ",_".contains(*letter));
    if letters.next_if_eq(&'.').is_some() {
        spec.precision = Some(digits(&mut letters).ok_or_else(|| failure("format specifier missing precision"))?);
    }
    spec.kind = letters.next();
    if letters.next().is_some() { Err(failure("invalid format specifier")) } else { check(spec) }
}

/// Formats a number or a text by its spec.
fn field(value: &Value, spec: &Spec) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        if !matches!(spec.kind, None | Some('s' | 'c')) {
            let kind = spec.kind.unwrap_or_default();
            return Err(failure(format!("unknown format code '{kind}' for object of type 'str'")));
        }
        let text: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
        return Ok(pad(&text, "", spec, '<'));
    }
    let whole = i128::try_from(value.clone()).ok().filter(|_| value.is_integer() || value.kind() == ValueKind::Bool);
    let float_kind = matches!(spec.kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'));
    let (negative, digits, prefix) = match whole {
        Some(number) if !float_kind => {
            let (digits, prefix) = whole_digits(number.unsigned_abs(), spec)?;
            (number < 0, digits, prefix)
        }
        _ => {
            let number = f64::try_from(value.clone()).map_err(|_| failure("a number is required to format"))?;
            (number.is_sign_negative(), float_digits(number.abs(), spec)?, "")
        }
    };
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    Ok(pad(&group(&digits, spec.grouping), &format!("{sign}{prefix}"), spec, '>'))
}

fn whole_digits(number: u128, spec: &Spec) -> Result<(String, &'static str), Error> {
    let prefix = |prefix| if spec.alternate { prefix } else { "" };
    Ok(match spec.kind {
        None | Some('d' | 'n') => (number.to_string(), ""),
        Some('x') => (format!("{number:x}"), prefix("0x")),
        Some('X') => (format!("{number:X}"), prefix("0X")),
        Some('o') => (format!("{number:o}"), prefix("0o")),
        Some('b') => (format!("{number:b}"), prefix("0b")),
        Some('c') => {
            let letter = u32::try_from(number).ok().and_then(char::from_u32);
            (letter.ok_or_else(|| failure("%c arg not in range"))?.to_string(), "")
        }
        Some(other) => return Err(failure(format!("unknown format code '{other}' for object of type 'int'"))),
    })
}

fn float_digits(number: f64, spec: &Spec) -> Result<String, Error> {
    let precision = spec.precision.unwrap_or(6);
    Ok(match spec.kind {
        None if spec.precision.is_none() => crate::python::float_repr(number),
        Some('f' | 'F') => format!("{number:.precision$}"),
        Some('%') => format!("{:.precision$}%", number * 100.0),
        Some('e') => exponent(number, precision),
        Some('E') => exponent(number, precision).to_uppercase(),
        None | Some('g' | 'n') => general(number, precision.max(1)),
        Some('G') => general(number, precision.max(1)).to_uppercase(),
        Some(other) => return Err(failure(format!("unknown format code '{other}' for object of type 'float'"))),
    })
}

fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// `%g`: the shorter of both notations, without zeros at the end.
fn general(number: f64, precision: usize) -> String {
    let scientific = exponent(number, precision - 1);
    let power: i32 = scientific.rsplit_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if power < -4 || usize::try_from(power).is_ok_and(|power| power >= precision) {
        let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
        return format!("{}e{power}", trim(digits));
    }
    let decimals =
        usize::try_from(i64::try_from(precision).unwrap_or_default() - 1 - i64::from(power)).unwrap_or_default();
    trim(&format!("{number:.decimals$}"))
}

fn group(digits: &str, grouping: Option<char>) -> String {
    let Some(mark) = grouping else { return digits.to_owned() };
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(mark);
        }
        grouped.push(digit);
    }
    grouped + rest
}

fn pad(body: &str, sign: &str, spec: &Spec, natural: char) -> String {
    let len = body.chars().count() + sign.chars().count();
    let missing = spec.width.saturating_sub(len);
    let numeric = natural == '>';
    let fill = spec.fill.unwrap_or(if spec.zero && numeric { '0' } else { ' ' });
    let fills = |count: usize| fill.to_string().repeat(count);
    let zero_align = if spec.zero && numeric { '=' } else { natural };
    match if fill == '0' && spec.zero && numeric && spec.fill.is_none() {
        '='
    } else {
        spec.align.unwrap_or(zero_align)
    } {
        '<' => format!("{sign}{body}{}", fills(missing)),
        '^' => format!("{}{sign}{body}{}", fills(missing / 2), fills(missing - missing / 2)),
        '=' => format!("{sign}{}{body}", fills(missing)),
        _ => format!("{}{sign}{body}", fills(missing)),
    }
}
