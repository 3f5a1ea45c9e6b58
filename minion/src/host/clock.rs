//! The wall clock of this host, in its own zone.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use time::{OffsetDateTime, UtcOffset};

/// Returns the present in this host's zone; in UTC where the zone cannot be had.
///
/// The standard library knows no zones and the C library's way to ask is not safe beside threads, so `date` is asked. Not
/// on a host in UTC.
pub fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    if is_utc(env::var("TZ").ok().as_deref(), fs::read_link("/etc/localtime").ok().as_deref()) {
        return now;
    }
    let output = Command::new("date").arg("+%z").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let offset = output.ok().and_then(|output| offset(&String::from_utf8_lossy(&output.stdout)));
    now.to_offset(offset.unwrap_or(UtcOffset::UTC))
}

/// A host without `/etc/localtime` is in UTC; one where it is a copy may be anywhere.
fn is_utc(variable: Option<&str>, link: Option<&Path>) -> bool {
    match variable {
        Some(zone) => zone.is_empty() || zone.trim_start_matches("Etc/") == "UTC",
        None => match link {
            Some(zone) => zone.file_name().is_some_and(|name| name == "UTC" || name == "UCT" || name == "Zulu"),
            None => !Path::new("/etc/localtime").exists(),
        },
    }
}

/// Reads `+0130`.
fn offset(text: &str) -> Option<UtcOffset> {
    let text = text.trim();
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read() {
        let check = |text, expected: Option<i32>| {
            assert_eq!(offset(text).map(UtcOffset::whole_minutes).map(i32::from), expected, "{text:?}");
        };
        check("+0000\n", Some(0));
        check("+0530\n", Some(330));
        check("-0330", Some(-210));
        check("UTC", None);
        check("", None);
        check("+9", None);
    }

    #[test]
    fn a_host_in_utc_is_known() {
        assert!(is_utc(Some("UTC"), None) && is_utc(Some("Etc/UTC"), None));
        assert!(!is_utc(Some("Europe/Berlin"), Some(Path::new("/usr/share/zoneinfo/UTC"))));
        assert!(is_utc(None, Some(Path::new("/usr/share/zoneinfo/Etc/UTC"))));
        assert!(!is_utc(None, Some(Path::new("/usr/share/zoneinfo/Asia/Tokyo"))));
    }
}
