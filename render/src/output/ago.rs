//! How long ago something was, in words.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns how long ago something was, in its largest whole unit: `just now`, `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`.
pub fn ago(age: Duration) -> String {
    match age.as_secs() {
        0 => "just now".to_owned(),
        seconds @ 1..MINUTE => format!("{seconds} s ago"),
        seconds @ MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        seconds @ HOUR..DAY => format!("{} h ago", seconds / HOUR),
        seconds if seconds < 2 * DAY => "1 day ago".to_owned(),
        seconds => format!("{} days ago", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_whole_unit_is_named() {
        let check = |seconds: u64, expected: &str| assert_eq!(ago(Duration::from_secs(seconds)), expected);
        check(0, "just now");
        check(1, "1 s ago");
        check(59, "59 s ago");
        check(60, "1 min ago");
        check(200, "3 min ago");
        check(3_599, "59 min ago");
        check(3_600, "1 h ago");
        check(86_399, "23 h ago");
        check(86_400, "1 day ago");
        check(172_800, "2 days ago");
        check(u64::MAX, "213503982334601 days ago");
        assert_eq!(ago(Duration::from_millis(999)), "just now");
    }
}
