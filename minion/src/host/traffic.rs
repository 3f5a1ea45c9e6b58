//! What the network interfaces of this host have sent and received since they are up.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use thiserror::Error;

/// The counters of one interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes out.
    pub bytes_sent: u64,
    /// Bytes in.
    pub bytes_recv: u64,
    /// Packets out.
    pub packets_sent: u64,
    /// Packets in.
    pub packets_recv: u64,
    /// Errors while receiving.
    pub errin: u64,
    /// Errors while sending.
    pub errout: u64,
    /// Incoming packets that were dropped.
    pub dropin: u64,
    /// Outgoing packets that were dropped.
    pub dropout: u64,
}

/// Why the counters are unknown.
#[derive(Debug, Error)]
#[error("read /proc/net/dev")]
pub struct TrafficError(#[source] io::Error);

/// Reads the counters of all interfaces, by name.
pub fn read() -> Result<BTreeMap<String, Traffic>, TrafficError> {
    fs::read_to_string("/proc/net/dev").map(|text| parse(&text)).map_err(TrafficError)
}

fn parse(text: &str) -> BTreeMap<String, Traffic> {
    // Two lines are headings. A name may hold colons: that of an alias.
    let rows = text.lines().skip(2).filter_map(|line| line.rsplit_once(':'));
    let interfaces = rows.filter_map(|(name, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [bytes_recv, packets_recv, errin, dropin, _, _, _, _, bytes_sent, packets_sent, errout, dropout, ..] =
            numbers[..]
        else {
            return None;
        };
        let traffic = Traffic { bytes_sent, bytes_recv, packets_sent, packets_recv, errin, errout, dropin, dropout };
        Some((name.trim().to_owned(), traffic))
    });
    interfaces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_told_apart() {
        let text = "Inter-|   Receive\n face |bytes\n  eth0:1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n    lo: 1 2\n";
        let expected = Traffic {
            bytes_recv: 1,
            packets_recv: 2,
            errin: 3,
            dropin: 4,
            bytes_sent: 9,
            packets_sent: 10,
            errout: 11,
            dropout: 12,
        };
        assert_eq!(parse(text), BTreeMap::from([("eth0:1".to_owned(), expected)]));
    }

    #[test]
    fn the_loopback_interface_receives_what_it_sends() {
        let lo = read().expect("Linux")["lo"];
        assert_eq!(lo.bytes_sent, lo.bytes_recv);
    }
}
