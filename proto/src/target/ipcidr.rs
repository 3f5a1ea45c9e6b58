//! `ipcidr`: an address or a network, compared with the grains `ipv4` and `ipv6`.

use std::net::IpAddr;

use super::{BadTarget, Needs};
use crate::value::{Map, MapExt, Value};

/// An address, or a network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    /// The bits that count.
    mask: u128,
}

impl Cidr {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `fe80::/10`.
    pub fn parse(text: &str) -> Result<Cidr, BadTarget> {
        let bad = |what| BadTarget::Address { text: text.chars().take(super::SHOWN).collect(), what };
        let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
        let base: IpAddr = address.parse().map_err(|_| bad("write 10.0.0.1, 10.0.0.0/8 or fe80::/10"))?;
        let full = ones(base, width(base));
        let mask = match mask {
            None => full,
            Some(mask) => read_mask(base, mask).ok_or_else(|| bad("behind the / stands a number of bits or a mask"))?,
        };
        // Salt takes such a network for no target at all.
        if bits(base) & full & !mask != 0 {
            return Err(bad("host bits are set; a network ends in zeros"));
        }
        Ok(Cidr { base, mask })
    }

    pub(super) fn needs(self) -> Needs {
        Needs::Keys([self.grain().to_owned()].into())
    }

    fn grain(self) -> &'static str {
        if self.base.is_ipv4() { "ipv4" } else { "ipv6" }
    }

    /// Tells whether one of the minion's addresses is meant.
    pub(super) fn matches(self, grains: &Map) -> bool {
        match grains.at(self.grain()) {
            Some(Value::List(addresses)) => addresses.iter().filter_map(Value::as_str).any(|text| self.holds(text)),
            Some(Value::Str(address)) => self.holds(address),
            _ => false,
        }
    }

    fn holds(self, text: &str) -> bool {
        // A link-local address may name its interface: `fe80::1%eth0`.
        let text = text.split('%').next().unwrap_or_default();
        text.parse::<IpAddr>().is_ok_and(|address| self.contains(address))
    }

    /// Tells whether an address is this one, or one of this network.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && bits(address) & self.mask == bits(self.base) & self.mask
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns a mask of so many leading ones in the width of this address.
fn ones(address: IpAddr, count: u32) -> u128 {
    let width = width(address);
    let all = u128::MAX >> (128 - width);
    all & !all.checked_shr(count).unwrap_or(0)
}

fn read_mask(address: IpAddr, text: &str) -> Option<u128> {
    if let Ok(count) = text.parse::<u32>() {
        return (count <= width(address)).then(|| ones(address, count));
    }
    let mask: IpAddr = text.parse().ok().filter(|mask: &IpAddr| mask.is_ipv4() && address.is_ipv4())?;
    let is = |count: &u32| ones(address, *count) == bits(mask);
    (0..=width(address)).find(is).map(|count| ones(address, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map;

    fn check(target: &str, address: &str, expected: bool) {
        let key = if address.contains(':') { "ipv6" } else { "ipv4" };
        let grains = map! { key => vec!["192.0.2.7", address] };
        assert_eq!(Cidr::parse(target).map(|cidr| cidr.matches(&grains)), Ok(expected), "{target} {address}");
    }

    #[test]
    fn addresses_and_networks_are_found_among_the_grains() {
        // recorded: tgt-ipcidr.txt, tgt-ipcidr-net.txt
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.0/8", "127.3.4.5", true);
        check("127.0.0.0/255.0.0.0", "127.3.4.5", true);
        check("127.0.0.0/8", "128.0.0.1", false);
        check("127.0.0.1", "127.0.0.10", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("10.1.2.3/32", "10.1.2.3", true);
        check("fe80::/10", "fe80::1%eth0", true);
        check("fe80::1", "fe80:0:0::1", true);
        check("::/0", "10.0.0.1", false);
        assert!(!Cidr::parse("10.0.0.0/8").unwrap().matches(&Map::new()));
        assert!(Cidr::parse("10.0.0.0/8").unwrap().matches(&map! { "ipv4" => "10.9.9.9" }));
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_reason() {
        for bad in
            ["", "10", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/x", "10.0.0.0/255.0.255.0", "fe80::1/64", "a/b/c", "/"]
        {
            assert!(matches!(Cidr::parse(bad), Err(BadTarget::Address { .. })), "{bad:?}");
        }
        let error = Cidr::parse("10.0.0.1/8").unwrap_err().to_string();
        assert_eq!(error, r#""10.0.0.1/8" is no address and no network: host bits are set; a network ends in zeros"#);
    }
}
