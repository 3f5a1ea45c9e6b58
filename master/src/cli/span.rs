//! Spans and moments as operators write them: `90`, `90s`, `15m`, `2h`, `1d`; an offset, `start`, an RFC 3339 stamp.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a span; a bare number is seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    spelt(text).ok_or_else(|| format!("{text:?} is not a span of time; write 90, 90s, 15m, 2h or 1d"))
}

/// Reads a span with its unit.
fn spelt(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// Reads `--since` into what the API takes: an offset, a span before now, a stamp, `start` or `now`.
pub(crate) fn since(text: &str, now: OffsetDateTime) -> Result<String, String> {
    if matches!(text, "start" | "now") || text.parse::<u64>().is_ok() {
        return Ok(text.to_owned());
    }
    let wrong = || format!("{text:?} is no moment; write an offset, 30s, 15m, 2h, 1d, start, or 2026-11-21T00:30:00Z");
    let moment = match spelt(text) {
        Some(span) => now.checked_sub(span.try_into().map_err(|_| wrong())?).ok_or_else(wrong)?,
        None => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?,
    };
    moment.format(&Rfc3339).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        let check =
            |text: &str, seconds: Option<u64>| assert_eq!(span(text).ok().map(|s| s.as_secs()), seconds, "{text}");
        check("5", Some(5));
        check("90s", Some(90));
        check("15m", Some(900));
        check("2h", Some(7_200));
        check("1d", Some(86_400));
        for bad in ["", "h", "1w", "-1", "1.5h", "99999999999999999999d"] {
            check(bad, None);
        }
    }

    #[test]
    fn moments_are_offsets_spans_and_stamps() {
        let now = OffsetDateTime::from_unix_timestamp(1_795_218_702).unwrap();
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(since(text, now).ok().as_deref(), expected, "{text}");
        check("start", Some("start"));
        check("4711", Some("4711"));
        check("2h", Some("2026-11-20T21:51:42Z"));
        check("2026-11-20T21:51:42Z", Some("2026-11-20T21:51:42Z"));
        check("yesterday", None);
    }
}
