//! Names that were checked once and are valid ever after: minion ids, job ids, key fingerprints.

use std::fmt;
use std::sync::Arc;

/// The longest minion id, in bytes (design §2).
pub const MAX_MINION_ID: usize = 253;

/// The id of a minion, safe to use as a file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MinionId(Arc<str>);

/// Why a text is not a minion id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMinionId {
    /// It is empty or too long.
    #[error("a minion id has 1 to {MAX_MINION_ID} bytes, this one has {0}")]
    Length(usize),
    /// It starts with a dot.
    #[error("a minion id must not start with a dot")]
    LeadingDot,
    /// It holds a character that has a meaning in paths, or a control character.
    #[error("a minion id must not contain {0:?}")]
    Character(char),
    /// It is not UTF-8.
    #[error("a minion id must be UTF-8 text")]
    NotUtf8,
}

impl MinionId {
    /// Checks a text: 1 to 253 bytes, no `/`, `\`, NUL or control characters, not starting with a dot.
    pub fn parse(text: &str) -> Result<MinionId, BadMinionId> {
        if text.is_empty() || text.len() > MAX_MINION_ID {
            return Err(BadMinionId::Length(text.len()));
        }
        if text.starts_with('.') {
            return Err(BadMinionId::LeadingDot);
        }
        if let Some(bad) = text.chars().find(|c| matches!(c, '/' | '\\') || c.is_control()) {
            return Err(BadMinionId::Character(bad));
        }
        Ok(MinionId(text.into()))
    }

    /// Checks bytes, as they come in ZMTP metadata.
    pub fn parse_bytes(bytes: &[u8]) -> Result<MinionId, BadMinionId> {
        MinionId::parse(std::str::from_utf8(bytes).map_err(|_| BadMinionId::NotUtf8)?)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MinionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MinionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for MinionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&MinionId> for crate::value::Value {
    fn from(id: &MinionId) -> Self {
        id.as_str().into()
    }
}

/// A job id: 20 digits of UTC time to the microsecond (salt-wire.md §12), or those with `_<suffix>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jid(Arc<str>);

/// A text that is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a jid is 20 digits (YYYYMMDDhhmmssffffff), or those and _<number>")]
pub struct BadJid;

/// The longest jid: 20 digits, an underscore and a process id.
const MAX_JID: usize = 40;

impl Jid {
    /// Checks a text.
    pub fn parse(text: &str) -> Result<Jid, BadJid> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let good = match text.split_once('_') {
            None => text.len() == JID_DIGITS && digits(text),
            Some((time, pid)) => time.len() == JID_DIGITS && digits(time) && digits(pid) && text.len() <= MAX_JID,
        };
        if good { Ok(Jid(text.into())) } else { Err(BadJid) }
    }

    /// Makes the jid of a moment, given in microseconds since 1970.
    pub fn at(unix_us: i64) -> Jid {
        let (date, time) = civil(unix_us.div_euclid(1_000_000));
        let us = unix_us.rem_euclid(1_000_000);
        let [year, month, day] = date;
        let [hour, minute, second] = time;
        Jid(format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{us:06}").into())
    }

    /// Returns the jid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the time that the digits say, as Salt prints it: `2026, Nov 21 00:32:32.784705`.
    pub fn start_time(&self) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let part = |from: usize, to: usize| self.0.get(from..to).unwrap_or("");
        let month = part(4, 6).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
        format!(
            "{}, {} {} {}:{}:{}.{}",
            part(0, 4),
            month.unwrap_or(&"???"),
            part(6, 8),
            part(8, 10),
            part(10, 12),
            part(12, 14),
            part(14, 20)
        )
    }
}

/// How many digits of time a jid has.
const JID_DIGITS: usize = 20;

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Jid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&Jid> for crate::value::Value {
    fn from(jid: &Jid) -> Self {
        jid.as_str().into()
    }
}

/// Formats a moment (microseconds since 1970, UTC) as events stamp it: `2026-11-20T23:51:42.651957+00:00`.
pub fn stamp(unix_us: i64) -> String {
    let ([year, month, day], [hour, minute, second]) = civil(unix_us.div_euclid(1_000_000));
    let us = unix_us.rem_euclid(1_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}+00:00")
}

/// Splits seconds since 1970 into year, month, day and hour, minute, second (proleptic Gregorian, UTC).
pub fn civil(unix_s: i64) -> ([i64; 3], [i64; 3]) {
    let days = unix_s.div_euclid(86_400);
    let second = unix_s.rem_euclid(86_400);
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let since = days + 719_468;
    let era = since.div_euclid(146_097);
    let day_of_era = since.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    ([year, month, day], [second / 3_600, second / 60 % 60, second % 60])
}

/// The fingerprint of a public key, as Salt prints it: hex pairs joined by colons.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Takes the digest of a key.
    pub fn new(digest: &[u8]) -> Fingerprint {
        Fingerprint(digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
    }

    /// Returns the fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", &"x".repeat(254)] {
            assert!(MinionId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["web1", "web1.example.com", "ü", "a b", &"x".repeat(253)] {
            assert!(MinionId::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_jid_is_the_moment_it_was_made() {
        let jid = Jid::at(1_795_218_752_821_625);
        assert_eq!(jid.as_str(), "20261120235232821625");
        assert_eq!(jid.start_time(), "2026, Nov 20 23:52:32.821625");
        assert!(Jid::parse("20261120235232821625_77").is_ok());
        for bad in ["", "req", "2026112023523282162", "20261120235232821625_", "2026112023523282162x"] {
            assert!(Jid::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn stamps_are_utc_to_the_microsecond() {
        assert_eq!(stamp(1_795_218_702_651_957), "2026-11-20T23:51:42.651957+00:00");
        assert_eq!(stamp(951_782_400_000_000), "2000-02-29T00:00:00.000000+00:00");
        assert_eq!(stamp(-1), "1969-12-31T23:59:59.999999+00:00");
    }
}
