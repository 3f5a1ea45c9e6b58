//! `strftime`: a time as text. Times without a zone are taken as they are and numbers are seconds in UTC; of Salt's fuzzy
//! dates, those that are written in figures, and a few words.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};
use time::{Date, Duration, Month, PrimitiveDateTime, Time, UtcDateTime};

use super::super::builtin::{Filter, defined};
use super::super::convert::Args;
use super::super::print;
use super::super::session::{self, MAX_TEXT, failure};
use super::super::text;

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[("date_format", strftime), ("strftime", strftime)];

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// The widest that a number is filled up to.
const MAX_WIDTH: usize = 100;

fn strftime(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let moment = moment(defined(value)?)?;
    let pattern = args.maybe_text(0, "format").unwrap_or_else(|| "%Y-%m-%d".to_owned());
    text::bounded(write(moment, &pattern)?)
}

fn unknown(value: &Value) -> Error {
    failure(format!("Unable to parse {}", print::str(value)))
}

fn now() -> Result<PrimitiveDateTime, Error> {
    let now = session::now().ok_or_else(|| failure("there is no current time here"))?;
    Ok(plain(UtcDateTime::from(now)))
}

fn plain(moment: UtcDateTime) -> PrimitiveDateTime {
    PrimitiveDateTime::new(moment.date(), moment.time())
}

fn moment(value: &Value) -> Result<PrimitiveDateTime, Error> {
    if value.is_none() {
        return now();
    }
    if let Some(text) = value.as_str() {
        return dated(text.trim())?.ok_or_else(|| unknown(value));
    }
    let number = matches!(value.kind(), ValueKind::Bool | ValueKind::Number).then(|| f64::try_from(value.clone()));
    number.and_then(Result::ok).and_then(seconds).ok_or_else(|| unknown(value))
}

/// Python keeps microseconds, rounded.
fn seconds(seconds: f64) -> Option<PrimitiveDateTime> {
    if !(-1e12..1e12).contains(&seconds) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked")]
    let micros = (seconds * 1e6).round_ties_even() as i128;
    UtcDateTime::from_unix_timestamp_nanos(micros * 1_000).ok().map(plain)
}

fn dated(text: &str) -> Result<Option<PrimitiveDateTime>, Error> {
    let day =
        |days: i64| Ok(now()?.checked_add(Duration::days(days)).map(|moment| moment.replace_time(Time::MIDNIGHT)));
    match text.to_lowercase().as_str() {
        "" => return Ok(None),
        "now" => return now().map(Some),
        "today" | "midnight" => return day(0),
        "tomorrow" => return day(1),
        "yesterday" => return day(-1),
        _ => {}
    }
    Ok(figures(text))
}

/// Reads a date, perhaps with a time behind it, or seconds.
fn figures(text: &str) -> Option<PrimitiveDateTime> {
    if let Some(stamp) = text.strip_prefix('@') {
        return seconds(stamp.parse().ok()?);
    }
    let (date, time) = text.split_once(['T', ' ']).map_or((text, None), |(date, time)| (date, Some(time)));
    match (date_of(date), time) {
        (Some(date), None) => Some(PrimitiveDateTime::new(date, Time::MIDNIGHT)),
        (Some(date), Some(time)) => Some(PrimitiveDateTime::new(date, time_of(time.trim())?)),
        // A bare year is a time of today to Salt: refused, rather than guessed.
        (None, None) if text.len() != 4 || text.contains('.') => seconds(text.parse().ok()?),
        (None, _) => None,
    }
}

/// `2002-12-25`, `2002/12/25`, `20021225`, `25.12.2002`, `12/25/2002`.
fn date_of(text: &str) -> Option<Date> {
    let parts = |mark: char| -> Option<[&str; 3]> { text.split(mark).collect::<Vec<_>>().try_into().ok() };
    let is_year = |part: &str| part.len() == 4;
    let [year, month, day] = match (parts('-'), parts('/'), parts('.')) {
        (Some([year, month, day]), ..) if is_year(year) => [year, month, day],
        (_, Some([year, month, day]), _) if is_year(year) => [year, month, day],
        (_, Some([month, day, year]), _) if is_year(year) => [year, month, day],
        (.., Some([day, month, year])) if is_year(year) => [year, month, day],
        _ if text.len() == 8 && text.is_ascii() => [&text[..4], &text[4..6], &text[6..]],
        _ => return None,
    };
    let number = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit()).then(|| part.parse::<u16>().ok())?;
    let month = Month::try_from(u8::try_from(number(month)?).ok()?).ok()?;
    Date::from_calendar_date(i32::from(number(year)?), month, u8::try_from(number(day)?).ok()?).ok()
}

/// `13:14`, `13:14:15`, `13:14:15.5`, `131415`; a zone behind it is left out, as Salt does, and so are fractions.
fn time_of(text: &str) -> Option<Time> {
    let end = text.find(['Z', 'z', '+', '-', ' ']).unwrap_or(text.len());
    let (bare, _) = text[..end].split_once('.').unwrap_or((&text[..end], ""));
    let compact = [bare.get(..2)?, bare.get(2..4)?, bare.get(4..).unwrap_or_default()];
    let parts: Vec<&str> = if bare.contains(':') { bare.split(':').collect() } else { compact.to_vec() };
    let number = |at: usize| match parts.get(at).copied().unwrap_or("0") {
        "" if at == 2 => Some(0),
        part => part.parse::<u8>().ok(),
    };
    (parts.len() <= 3).then(|| Time::from_hms(number(0)?, number(1)?, number(2)?).ok())?
}

/// How a number is filled up, and whether letters change: glibc's `-`, `_`, `0`, `^`, `#`.
#[derive(Default)]
struct Flags {
    fill: Option<Option<char>>,
    upper: bool,
    width: usize,
}

/// Writes a time as glibc's `strftime` in the C locale.
fn write(moment: PrimitiveDateTime, pattern: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        if out.len() > MAX_TEXT {
            break;
        }
        let spec = behind.trim_start_matches(|letter: char| "-_0^#".contains(letter));
        let named = spec.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let (marks, width) = (&behind[..behind.len() - spec.len()], &spec[..spec.len() - named.len()]);
        let flags = flags(marks, width)?;
        match named.chars().next().and_then(|letter| Some((letter, field(moment, letter, &flags)?))) {
            Some((letter, text)) => {
                out.push_str(&text);
                rest = &named[letter.len_utf8()..];
            }
            // What is not known stands for itself.
            None => {
                out.push('%');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn flags(marks: &str, width: &str) -> Result<Flags, Error> {
    let mut flags = Flags::default();
    for mark in marks.chars() {
        match mark {
            '-' => flags.fill = Some(None),
            '_' => flags.fill = Some(Some(' ')),
            '0' => flags.fill = Some(Some('0')),
            _ => flags.upper = true,
        }
    }
    if !width.is_empty() {
        let known = width.parse().ok().filter(|&width| width <= MAX_WIDTH);
        flags.width = known.ok_or_else(|| failure("a time is filled up too far"))?;
    }
    Ok(flags)
}

fn field(moment: PrimitiveDateTime, letter: char, flags: &Flags) -> Option<String> {
    let (year, month, day) = (moment.year(), u8::from(moment.month()), moment.day());
    let (hour, weekday) = (moment.hour(), moment.weekday().number_days_from_sunday());
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (day_name, month_name) = (DAYS[usize::from(weekday)], MONTHS[usize::from(month) - 1]);
    let two = |number: i64| Some(filled(number, 2, '0', flags));
    let whole = |pattern: &str| write(moment, pattern).ok();
    match letter {
        'A' => word(day_name, flags),
        'B' => word(month_name, flags),
        'C' => two(i64::from(year / 100)),
        'D' | 'x' => whole("%m/%d/%y"),
        'F' => whole("%Y-%m-%d"),
        'G' => Some(filled(i64::from(moment.to_iso_week_date().0), 1, '0', flags)),
        'H' => two(hour.into()),
        'I' => two(half.into()),
        'M' => two(moment.minute().into()),
        'P' => Some(if hour < 12 { "am" } else { "pm" }.to_owned()),
        'R' => whole("%H:%M"),
        'S' => two(moment.second().into()),
        'T' | 'X' => whole("%H:%M:%S"),
        'U' => two(moment.sunday_based_week().into()),
        'V' => two(moment.iso_week().into()),
        'W' => two(moment.monday_based_week().into()),
        'Y' => Some(filled(year.into(), 1, '0', flags)),
        // A time without a zone has none to name.
        'Z' | 'z' => Some(String::new()),
        'a' => word(&day_name[..3], flags),
        'b' | 'h' => word(&month_name[..3], flags),
        'c' => whole("%a %b %e %H:%M:%S %Y"),
        'd' => two(day.into()),
        'e' => Some(filled(day.into(), 2, ' ', flags)),
        'f' => Some(format!("{:06}", moment.microsecond())),
        'g' => two(i64::from(moment.to_iso_week_date().0.rem_euclid(100))),
        'j' => Some(filled(moment.ordinal().into(), 3, '0', flags)),
        'k' => Some(filled(hour.into(), 2, ' ', flags)),
        'l' => Some(filled(half.into(), 2, ' ', flags)),
        'm' => two(month.into()),
        'n' => Some("\n".to_owned()),
        'p' => Some(if hour < 12 { "AM" } else { "PM" }.to_owned()),
        'r' => whole("%I:%M:%S %p"),
        's' => Some(moment.assume_utc().unix_timestamp().to_string()),
        't' => Some("\t".to_owned()),
        'u' => Some(moment.weekday().number_from_monday().to_string()),
        'w' => Some(weekday.to_string()),
        'y' => two(i64::from(year.rem_euclid(100))),
        '%' => Some("%".to_owned()),
        _ => None,
    }
}

fn word(word: &str, flags: &Flags) -> Option<String> {
    Some(if flags.upper { word.to_uppercase() } else { word.to_owned() })
}

fn filled(number: i64, width: usize, fill: char, flags: &Flags) -> String {
    let width = flags.width.max(width);
    match flags.fill.unwrap_or(Some(fill)) {
        None => number.to_string(),
        Some('0') => format!("{number:0width$}"),
        Some(_) => format!("{number:width$}"),
    }
}
