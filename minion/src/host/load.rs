//! The load averages of this host, unrounded.

use nix::errno::Errno;
use nix::sys::sysinfo::sysinfo;
use thiserror::Error;

/// The load averages over one, five and fifteen minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averages {
    /// Over the last minute.
    pub one: f64,
    /// Over the last five minutes.
    pub five: f64,
    /// Over the last fifteen minutes.
    pub fifteen: f64,
}

/// Why the load is unknown.
#[derive(Debug, Error)]
#[error("read the load averages")]
pub struct LoadError(#[source] Errno);

/// Reads the load averages.
///
/// The kernel keeps them in steps of 1/2048 and the system call `sysinfo` gives them so, as Salt's beacon shows them;
/// `/proc/loadavg` has two decimals.
pub fn read() -> Result<Averages, LoadError> {
    let (one, five, fifteen) = sysinfo().map_err(LoadError)?.load_average();
    Ok(Averages { one, five, fifteen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_agrees_with_proc() {
        let load = read().expect("every host has a load");
        let text = std::fs::read_to_string("/proc/loadavg").expect("Linux");
        let fifteen: f64 = text.split(' ').nth(2).expect("three values").parse().expect("a number");
        assert!((load.fifteen - fifteen).abs() < 0.2, "{load:?} against {text}");
    }
}
