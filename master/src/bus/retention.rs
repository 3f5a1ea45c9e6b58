//! How long events are kept: the rule, without files and clock.

use std::time::Duration;

/// How long events are kept. Whole segments are deleted, oldest first, never the one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A segment whose newest event is older goes (`event_retention_age`); none keeps them for ever.
    pub age: Option<Duration>,
    /// While all segments together take more, the oldest one goes (`event_retention_bytes`); none sets no limit.
    pub bytes: Option<u64>,
}

impl Default for Retention {
    /// 30 days, so that last month's question "who did that?" has an answer, and 8 GiB, some 20 million beacon events:
    /// what a small disk can spare.
    fn default() -> Retention {
        Retention { age: Some(Duration::from_secs(30 * 86_400)), bytes: Some(8 << 30) }
    }
}

/// Why a segment is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Age,
    Bytes,
}

impl Expiry {
    pub(super) fn name(self) -> &'static str {
        match self {
            Expiry::Age => "age",
            Expiry::Bytes => "bytes",
        }
    }
}

impl Retention {
    /// Judges the oldest segment: all segments take `total` bytes, and its newest event has this stamp (none if it has no
    /// event or cannot be read: then only its size counts).
    pub(super) fn judge(&self, total: u64, newest_us: Option<i64>, now_us: i64) -> Option<Expiry> {
        if self.bytes.is_some_and(|limit| total > limit) {
            return Some(Expiry::Bytes);
        }
        let age = self.age?;
        let oldest_us = now_us.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        newest_us.is_some_and(|newest| newest < oldest_us).then_some(Expiry::Age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_age_decide_and_no_limit_is_none() {
        let limits = Retention { age: Some(Duration::from_secs(1)), bytes: Some(100) };
        assert_eq!(limits.judge(101, None, 0), Some(Expiry::Bytes));
        assert_eq!(limits.judge(100, None, 5_000_000), None);
        assert_eq!(limits.judge(100, Some(3_999_999), 5_000_000), Some(Expiry::Age));
        assert_eq!(limits.judge(100, Some(4_000_000), 5_000_000), None);
        assert_eq!(Retention { age: None, bytes: None }.judge(u64::MAX, Some(0), i64::MAX), None);
    }
}
