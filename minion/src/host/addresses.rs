//! The network interfaces of this host with masks, broadcast addresses and state.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Whether it is up.
    pub up: bool,
    /// Its hardware address.
    pub hardware: Option<String>,
    /// Its IPv4 addresses, in the kernel's order.
    pub ipv4: Vec<Inet>,
    /// Its IPv6 addresses, in the kernel's order.
    pub ipv6: Vec<Inet6>,
}

/// An IPv4 address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inet {
    /// The address.
    pub address: Ipv4Addr,
    /// Which part of it is the network's.
    pub netmask: Ipv4Addr,
    /// The address of all hosts of the network.
    pub broadcast: Option<Ipv4Addr>,
    /// The interface's name for it.
    pub label: String,
}

/// An IPv6 address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inet6 {
    /// The address.
    pub address: Ipv6Addr,
    /// How many bits of it are the network's.
    pub prefix: u32,
}

impl Inet6 {
    /// Returns how far the address is valid: `host`, `link` or `global`.
    pub fn scope(&self) -> &'static str {
        match self.address {
            address if address.is_loopback() => "host",
            address if address.is_unicast_link_local() => "link",
            _ => "global",
        }
    }
}

/// Reads the interfaces, by name.
pub fn read() -> BTreeMap<String, Interface> {
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    for entry in getifaddrs().into_iter().flatten() {
        // An address with a label of its own, such as `eth0:1`, belongs to the interface before the colon.
        let name = entry.interface_name.split(':').next().unwrap_or_default().to_owned();
        interfaces.entry(name).or_default().add(&entry);
    }
    interfaces
}

impl Interface {
    fn add(&mut self, entry: &InterfaceAddress) {
        self.up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = &entry.address else {
            return;
        };
        match ip(address) {
            Some(IpAddr::V4(address)) => {
                let four = |storage: &Option<SockaddrStorage>| match storage.as_ref().and_then(ip) {
                    Some(IpAddr::V4(address)) => Some(address),
                    _ => None,
                };
                let netmask = four(&entry.netmask).unwrap_or(Ipv4Addr::BROADCAST);
                // The kernel gives the address itself where there is no broadcast, as on the loopback interface.
                let broadcast = four(&entry.broadcast).filter(|_| entry.flags.contains(InterfaceFlags::IFF_BROADCAST));
                self.ipv4.push(Inet { address, netmask, broadcast, label: entry.interface_name.clone() });
            }
            Some(IpAddr::V6(address)) => {
                let prefix = match entry.netmask.as_ref().and_then(ip) {
                    Some(IpAddr::V6(mask)) => u128::from(mask).count_ones(),
                    _ => 128,
                };
                self.ipv6.push(Inet6 { address, prefix });
            }
            None => self.add_hardware(address),
        }
    }

    fn add_hardware(&mut self, address: &SockaddrStorage) {
        if let Some(link) = address.as_link_addr().filter(|_| address.len() > 0) {
            let bytes = link.addr().map(|bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"));
            self.hardware = bytes.or(self.hardware.take());
        }
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_whole() {
        let lo = &read()["lo"];
        assert!(lo.up);
        let expected = Inet {
            address: Ipv4Addr::LOCALHOST,
            netmask: Ipv4Addr::new(255, 0, 0, 0),
            broadcast: None,
            label: "lo".to_owned(),
        };
        assert!(lo.ipv4.contains(&expected), "{lo:?}");
        assert_eq!(lo.hardware.as_deref(), Some("00:00:00:00:00:00"));
    }

    #[test]
    fn scopes_are_told_by_the_address() {
        let scope = |text: &str| Inet6 { address: text.parse().expect("an address"), prefix: 64 }.scope();
        assert_eq!((scope("::1"), scope("fe80::1"), scope("2001:db8::1")), ("host", "link", "global"));
    }
}
