//! The swap space of this host, as Python's `psutil` counts it.

use std::fs;
use std::io;

use thiserror::Error;

use super::percent;

/// Swap space in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swap {
    /// All of it; 0 on a host without.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
}

/// Why the swap space is unknown.
#[derive(Debug, Error)]
#[error("read /proc/meminfo")]
pub struct SwapError(#[source] io::Error);

impl Swap {
    /// Returns what is used, in percent to one decimal: `psutil.swap_memory().percent`.
    pub fn percent_used(&self) -> f64 {
        percent::of(self.total.saturating_sub(self.free), self.total)
    }
}

/// Reads the swap space of this host.
pub fn read() -> Result<Swap, SwapError> {
    fs::read_to_string("/proc/meminfo").map(|text| parse(&text)).map_err(SwapError)
}

/// A container may have no swap lines at all: then it has no swap.
fn parse(text: &str) -> Swap {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kilobytes.unwrap_or(0).saturating_mul(1_024)
    };
    Swap { total: field("SwapTotal"), free: field("SwapFree") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_psutils() {
        let check = |text: &str, expected: f64| assert_eq!(parse(text).percent_used(), expected, "{text}");
        check("SwapTotal:  3000 kB\nSwapFree:  1000 kB\n", 66.7);
        check("SwapTotal:  0 kB\nSwapFree:  0 kB\n", 0.0);
        check("MemTotal: 1 kB\n", 0.0);
        assert!((0.0..=100.0).contains(&read().expect("Linux").percent_used()));
    }
}
