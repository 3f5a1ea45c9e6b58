//! The memory of this host, as Python's `psutil` counts it.

use std::fs;
use std::io;

use thiserror::Error;

use super::percent;

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// All memory that the kernel manages.
    pub total: u64,
    /// What programs can get without swapping.
    pub available: u64,
    /// `(total - available) / total` in percent, to one decimal: `psutil.virtual_memory().percent`.
    pub percent_used: f64,
    /// All swap space.
    pub swap_total: u64,
}

/// Why the memory is unknown.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A line is missing, or is no number.
    #[error("find {0} in /proc/meminfo")]
    Field(&'static str),
    /// The file could not be read.
    #[error("read /proc/meminfo")]
    Read(#[source] io::Error),
}

/// Reads the memory of this host.
pub fn read() -> Result<Memory, MemoryError> {
    parse(&fs::read_to_string("/proc/meminfo").map_err(MemoryError::Read)?)
}

fn parse(text: &str) -> Result<Memory, MemoryError> {
    let field = |name: &'static str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1_024).ok_or(MemoryError::Field(name))
    };
    let total = field("MemTotal")?;
    // In a container the host's figure may be larger than the container's memory; psutil takes the free memory then.
    let available = field("MemAvailable").ok().filter(|available| *available <= total);
    let available = available.map_or_else(|| field("MemFree"), Ok)?;
    // A container may have no swap line at all.
    let swap_total = field("SwapTotal").unwrap_or(0);
    Ok(Memory { total, available, percent_used: percent::of(total - available.min(total), total), swap_total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_psutils() {
        let text = "MemTotal:       16000 kB\nMemFree:  100 kB\nMemAvailable:    9000 kB\nSwapTotal:       512 kB\n";
        let memory = parse(text).expect("complete");
        assert_eq!((memory.total, memory.available), (16_384_000, 9_216_000));
        assert_eq!((memory.percent_used, memory.swap_total), (43.8, 524_288));
    }

    #[test]
    fn an_impossible_figure_is_not_taken() {
        let memory = parse("MemTotal: 100 kB\nMemFree: 40 kB\nMemAvailable: 900 kB\n").expect("complete");
        assert_eq!((memory.available, memory.percent_used), (40_960, 60.0));
        assert!(matches!(parse("MemFree: 40 kB\n"), Err(MemoryError::Field("MemTotal"))));
    }

    #[test]
    fn this_host_has_memory() {
        let memory = read().expect("Linux");
        assert!(memory.total > 0 && memory.percent_used > 0.0 && memory.percent_used <= 100.0);
    }
}
