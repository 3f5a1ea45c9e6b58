//! The network of this host: interfaces, gateways, names. Never asks a server: a slow resolver must not stop a minion.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses, in the kernel's order.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its addresses, in the kernel's order.
    pub ipv6: Vec<Ipv6Addr>,
    /// Its hardware address, as `00:00:5e:00:53:01`.
    pub hardware: Option<String>,
}

/// Names of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// What the kernel calls it.
    pub node: String,
    /// The whole name, as `/etc/hosts` or the kernel's name has it.
    pub fqdn: String,
}

/// The servers and domains of `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The name servers.
    pub nameservers: Vec<IpAddr>,
    /// The local domain.
    pub domain: String,
    /// The domains to look in.
    pub search: Vec<String>,
}

/// Reads the interfaces, by name.
pub fn interfaces() -> BTreeMap<String, Interface> {
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    for entry in getifaddrs().into_iter().flatten() {
        let interface = interfaces.entry(entry.interface_name).or_default();
        if let Some(address) = entry.address {
            interface.add(&address);
        }
    }
    interfaces
}

impl Interface {
    fn add(&mut self, address: &SockaddrStorage) {
        if let Some(address) = address.as_sockaddr_in() {
            self.ipv4.push(address.ip());
        } else if let Some(address) = address.as_sockaddr_in6() {
            self.ipv6.push(address.ip());
        } else if let Some(link) = address.as_link_addr()
            && address.len() > 0
        {
            let bytes = link.addr().map(|bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"));
            self.hardware = bytes.or(self.hardware.take());
        }
    }
}

/// Reads the IPv4 default gateway.
pub fn gateway4() -> Option<Ipv4Addr> {
    parse_route4(&fs::read_to_string("/proc/net/route").ok()?)
}

/// Reads the IPv6 default gateway.
pub fn gateway6() -> Option<Ipv6Addr> {
    parse_route6(&fs::read_to_string("/proc/net/ipv6_route").ok()?)
}

fn parse_route4(text: &str) -> Option<Ipv4Addr> {
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut gateways = rows.filter(|row| row.get(1) == Some(&"00000000") && row.get(2) != Some(&"00000000"));
    // The kernel prints its own bytes as one number of the host's order.
    let raw = u32::from_str_radix(gateways.next()?.get(2)?, 16).ok()?;
    Some(Ipv4Addr::from(raw.to_ne_bytes()))
}

fn parse_route6(text: &str) -> Option<Ipv6Addr> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let zero = "0".repeat(32);
    let is_default = |row: &Vec<&str>| row.len() > 4 && row[0] == zero && row[1] == "00" && row[4] != zero;
    let raw = u128::from_str_radix(rows.filter(is_default).map(|row| row[4].to_owned()).next()?.as_str(), 16).ok()?;
    Some(Ipv6Addr::from(raw))
}

/// Reads this host's names.
pub fn names() -> Names {
    let node = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let fqdn = full_name(&node, &hosts);
    Names { node, fqdn }
}

/// Returns the name with a domain that `/etc/hosts` has for this node; else the node's own name.
fn full_name(node: &str, hosts: &str) -> String {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let names = lines.map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
    let own = names.filter(|names| names.contains(&node)).flatten();
    let whole = own.filter(|name| name.split_once('.').is_some_and(|(host, _)| host == node)).map(str::to_owned).next();
    whole.unwrap_or_else(|| node.to_owned())
}

/// Reads `/etc/resolv.conf`.
pub fn resolver() -> Resolver {
    parse_resolver(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse_resolver(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                resolver.nameservers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
            }
            Some("domain") => resolver.domain = words.next().unwrap_or_default().to_owned(),
            Some("search") => resolver.search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    resolver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_loopback_interface() {
        let lo = &interfaces()["lo"];
        assert!(lo.ipv4.contains(&Ipv4Addr::LOCALHOST));
        assert_eq!(lo.hardware.as_deref(), Some("00:00:00:00:00:00"));
    }

    #[test]
    fn the_default_gateways_are_found() {
        let text = "Iface Destination Gateway Flags\ndocker0 000011AC 00000000 0001\neth0 00000000 010200C0 0003\n";
        // The kernel of a little-endian host prints 192.0.2.1 so.
        assert_eq!(parse_route4(text), cfg!(target_endian = "little").then_some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(parse_route4("Iface\n"), None);
        let zero = "0".repeat(32);
        let text = format!("{zero} 00 {zero} 00 {zero} x\n{zero} 00 {zero} 00 fd{:0>30} x\n", 1);
        assert_eq!(parse_route6(&text), Some("fd00::1".parse().expect("an address")));
    }

    #[test]
    fn the_whole_name_comes_from_the_hosts_file() {
        let check = |hosts: &str, expected: &str| assert_eq!(full_name("web1", hosts), expected);
        check("127.0.1.1 web1.example.org web1 # here\n", "web1.example.org");
        check("10.0.0.2 web2.example.org web2\n127.0.0.1 web1\n", "web1");
    }

    #[test]
    fn the_resolver_is_read() {
        let resolver = parse_resolver("nameserver 1.1.1.1\nnameserver bad\nsearch a b\n");
        assert_eq!((resolver.nameservers.len(), resolver.search.len()), (1, 2));
    }
}
