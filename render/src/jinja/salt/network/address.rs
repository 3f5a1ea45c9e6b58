//! One address, with or without the length of its network's prefix. Python's rules and spelling, where they are not Rust's.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    version: Version,
    bits: u128,
    /// Behind `%`, with it.
    scope: String,
    /// The length of the prefix, if there is one.
    pub(super) prefix: Option<u32>,
}

/// `is_private` of Python's `ipaddress`.
const PRIVATE_4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 29),
    ([192, 0, 0, 170], 31),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([240, 0, 0, 0], 4),
];
const PRIVATE_6: &[([u16; 4], u32)] = &[
    ([0x100, 0, 0, 0], 64),
    ([0x2001, 0, 0, 0], 23),
    ([0x2001, 0xdb8, 0, 0], 32),
    ([0xfc00, 0, 0, 0], 7),
    ([0xfe80, 0, 0, 0], 10),
];
/// `is_reserved`: those that are not below another one.
const RESERVED_6: &[([u16; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([0x100, 0, 0, 0], 8),
    ([0x200, 0, 0, 0], 7),
    ([0x400, 0, 0, 0], 6),
    ([0x800, 0, 0, 0], 5),
    ([0x1000, 0, 0, 0], 4),
    ([0x4000, 0, 0, 0], 3),
    ([0x6000, 0, 0, 0], 3),
    ([0x8000, 0, 0, 0], 3),
    ([0xa000, 0, 0, 0], 3),
    ([0xc000, 0, 0, 0], 3),
    ([0xe000, 0, 0, 0], 4),
    ([0xf000, 0, 0, 0], 5),
    ([0xf800, 0, 0, 0], 6),
    ([0xfe00, 0, 0, 0], 9),
];

impl Version {
    fn width(self) -> u32 {
        match self {
            Version::V4 => 32,
            Version::V6 => 128,
        }
    }

    /// Writes an address as Python does: without dots, whatever an IPv6 address holds.
    #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address has 32 bits")]
    pub(super) fn name(self, bits: u128) -> String {
        match self {
            Version::V4 => Ipv4Addr::from(bits as u32).to_string(),
            Version::V6 if bits >> 32 == 0xffff => {
                format!("::ffff:{:x}:{:x}", bits as u32 >> 16, bits as u32 & 0xffff)
            }
            Version::V6 => Ipv6Addr::from(bits).to_string(),
        }
    }

    /// Keeps what is before the host bits.
    fn masked(self, bits: u128, prefix: u32) -> u128 {
        bits.checked_shr(self.width() - prefix).and_then(|high| high.checked_shl(self.width() - prefix)).unwrap_or(0)
    }
}

impl Entry {
    pub(super) fn parse(text: &str) -> Option<Entry> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, rest)| (address, Some(rest)));
        let (bare, scope) = address.find('%').map_or((address, ""), |at| address.split_at(at));
        let (version, bits) = match bare.parse::<Ipv4Addr>() {
            Ok(address) if scope.is_empty() => (Version::V4, u128::from(u32::from(address))),
            _ => (Version::V6, u128::from(bare.parse::<Ipv6Addr>().ok()?)),
        };
        if scope == "%" || scope.get(1..).is_some_and(|name| name.contains('%')) {
            return None;
        }
        let prefix = match prefix {
            Some(prefix) => Some(length(version, prefix)?),
            None => None,
        };
        Some(Entry { version, bits, scope: scope.to_owned(), prefix })
    }

    /// Small numbers are IPv4 addresses, larger ones IPv6.
    pub(super) fn from_int(number: i128) -> Option<Entry> {
        let bits = u128::try_from(number).ok()?;
        let version = if bits <= u128::from(u32::MAX) { Version::V4 } else { Version::V6 };
        Some(Entry { version, bits, scope: String::new(), prefix: None })
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn bits(&self) -> u128 {
        self.bits
    }

    /// How many bits are the hosts'.
    pub(super) fn host_bits(&self) -> u32 {
        self.version.width() - self.prefix.unwrap_or(self.version.width())
    }

    pub(super) fn network(&self) -> u128 {
        self.version.masked(self.bits, self.version.width() - self.host_bits())
    }

    /// Tells whether the network holds an address.
    pub(super) fn holds(&self, other: &Entry) -> bool {
        let prefix = self.version.width() - self.host_bits();
        self.version == other.version && self.version.masked(other.bits, prefix) == self.network()
    }

    /// Returns the first and the last host: a network of more than two addresses keeps the first for itself, and an IPv4
    /// one the last as well.
    pub(super) fn hosts(&self) -> (u128, u128) {
        let (start, host_bits) = (self.network(), self.host_bits());
        let end = start | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        match (host_bits, self.version) {
            (0 | 1, _) => (start, end),
            (_, Version::V4) => (start + 1, end - 1),
            (_, Version::V6) => (start + 1, end),
        }
    }

    pub(super) fn with_prefix(&self) -> String {
        let prefix = self.version.width() - self.host_bits();
        format!("{}{}/{prefix}", self.version.name(self.bits), self.scope)
    }

    /// Tells whether the address has all these properties (names between commas); what is unknown asks for nothing. Python
    /// asks a network of IPv6 as a whole whether it is loopback or unspecified, and never finds one of IPv4 unspecified.
    pub(super) fn is(&self, options: &str) -> bool {
        options.split(',').all(|option| match option.trim() {
            "global" | "public" => !self.is_private(),
            "link-local" | "linklocal" | "ll" | "link_local" => self.within(&[169, 254, 0, 0], 16, 0xfe80, 10),
            "loopback" | "lo" => self.is_loopback(),
            "multicast" => self.within(&[224, 0, 0, 0], 4, 0xff00, 8),
            "private" => self.is_private(),
            "reserved" => match self.version {
                Version::V4 => self.within(&[240, 0, 0, 0], 4, 0, 128),
                Version::V6 => RESERVED_6.iter().any(|(start, prefix)| self.below_6(*start, *prefix)),
            },
            "site-local" | "sl" | "site_local" => self.below_6([0xfec0, 0, 0, 0], 10),
            "unspecified" => match self.version {
                Version::V4 => self.bits == 0 && self.prefix.is_none(),
                Version::V6 => self.bits == 0 && self.host_bits() == 0,
            },
            _ => true,
        })
    }

    fn is_loopback(&self) -> bool {
        match self.version {
            Version::V4 => self.below_4([127, 0, 0, 0], 8),
            Version::V6 => self.bits == 1 && self.host_bits() == 0,
        }
    }

    fn is_private(&self) -> bool {
        match self.version {
            Version::V4 => PRIVATE_4.iter().any(|(start, prefix)| self.below_4(*start, *prefix)),
            // An IPv4 address inside an IPv6 one is as private as it is by itself.
            Version::V6 if self.bits >> 32 == 0xffff => {
                let inner = Entry { version: Version::V4, bits: self.bits & 0xffff_ffff, ..self.clone() };
                Entry { prefix: None, ..inner }.is_private()
            }
            Version::V6 => self.bits <= 1 || PRIVATE_6.iter().any(|(start, prefix)| self.below_6(*start, *prefix)),
        }
    }

    fn within(&self, start_4: &[u8; 4], prefix_4: u32, start_6: u16, prefix_6: u32) -> bool {
        match self.version {
            Version::V4 => self.below_4(*start_4, prefix_4),
            Version::V6 => self.below_6([start_6, 0, 0, 0], prefix_6),
        }
    }

    fn below_4(&self, start: [u8; 4], prefix: u32) -> bool {
        let start = u128::from(u32::from_be_bytes(start));
        self.version == Version::V4 && self.version.masked(self.bits, prefix) == start
    }

    fn below_6(&self, [a, b, c, d]: [u16; 4], prefix: u32) -> bool {
        let start = u128::from(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0));
        self.version == Version::V6 && self.version.masked(self.bits, prefix) == start
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(_) => f.write_str(&self.with_prefix()),
            None => write!(f, "{}{}", self.version.name(self.bits), self.scope),
        }
    }
}

/// Reads what stands behind the `/`: a length, or for IPv4 a mask of the network or of the hosts.
fn length(version: Version, text: &str) -> Option<u32> {
    if !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit()) {
        return text.parse().ok().filter(|&length| length <= version.width());
    }
    if version == Version::V6 {
        return None;
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    let contiguous = |mask: u32| mask.leading_ones() + mask.trailing_zeros() >= 32;
    match mask {
        mask if contiguous(mask) => Some(mask.leading_ones()),
        hosts if contiguous(!hosts) => Some((!hosts).leading_ones()),
        _ => None,
    }
}
