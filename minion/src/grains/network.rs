//! The network: names, addresses and gateways of this host, and its resolver.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::value::{Map, MapExt, Value};

use super::GrainsContext;
use crate::host::net::{self, Interface, Names};

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let mut grains = names(&net::names());
    grains.extend(addresses(&net::interfaces()));
    let (ip4, ip6) = (net::gateway4().map(|ip| ip.to_string()), net::gateway6().map(|ip| ip.to_string()));
    grains.set("ip_gw", ip4.is_some() || ip6.is_some());
    // Salt says False where there is none.
    grains.set("ip4_gw", ip4.map_or(Value::Bool(false), Value::from));
    grains.set("ip6_gw", ip6.map_or(Value::Bool(false), Value::from));
    grains.set("dns", dns());
    grains
}

fn names(names: &Names) -> Map {
    let (host, domain) = names.fqdn.split_once('.').unwrap_or((&names.fqdn, ""));
    proto::map! {
        "domain" => domain,
        "fqdn" => names.fqdn.as_str(),
        "host" => host,
        "localhost" => names.node.as_str(),
        "nodename" => names.node.as_str(),
    }
}

fn addresses(interfaces: &BTreeMap<String, Interface>) -> Map {
    let (mut all4, mut all6) = (Vec::new(), Vec::new());
    let (mut by_name, mut by_name4, mut by_name6, mut hardware) = (Map::new(), Map::new(), Map::new(), Map::new());
    for (name, interface) in interfaces {
        let texts4: Vec<String> = interface.ipv4.iter().map(ToString::to_string).collect();
        let texts6: Vec<String> = interface.ipv6.iter().map(ToString::to_string).collect();
        by_name.set(name, texts4.iter().chain(&texts6).cloned().collect::<Vec<_>>());
        by_name4.set(name, texts4);
        by_name6.set(name, texts6);
        if let Some(address) = &interface.hardware {
            hardware.set(name, address.as_str());
        }
        all4.extend(interface.ipv4.iter().copied());
        all6.extend(interface.ipv6.iter().copied());
    }
    proto::map! {
        "hwaddr_interfaces" => hardware,
        "ip4_interfaces" => by_name4,
        "ip6_interfaces" => by_name6,
        "ip_interfaces" => by_name,
        "ipv4" => sorted(all4),
        "ipv6" => sorted(all6),
    }
}

fn sorted<A: Ord + ToString>(mut addresses: Vec<A>) -> Vec<String> {
    addresses.sort();
    addresses.dedup();
    addresses.iter().map(ToString::to_string).collect()
}

fn dns() -> Map {
    let resolver = net::resolver();
    let of_kind = |v4: bool| {
        let servers = resolver.nameservers.iter().filter(|server| server.is_ipv4() == v4);
        servers.map(IpAddr::to_string).collect::<Vec<_>>()
    };
    proto::map! {
        "domain" => resolver.domain.as_str(),
        "ip4_nameservers" => of_kind(true),
        "ip6_nameservers" => of_kind(false),
        "nameservers" => resolver.nameservers.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
        "options" => Value::List(Vec::new()),
        "search" => resolver.search.clone(),
        "sortlist" => Value::List(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_listed_by_interface_and_together() {
        let eth = Interface {
            ipv4: vec!["10.0.0.9".parse().expect("an address"), "10.0.0.10".parse().expect("an address")],
            ipv6: vec!["fe80::1".parse().expect("an address")],
            hardware: Some("00:00:5e:00:53:01".to_owned()),
        };
        let grains = addresses(&BTreeMap::from([("eth0".to_owned(), eth)]));
        let expected = vec!["10.0.0.9", "10.0.0.10", "fe80::1"];
        assert_eq!(grains.at("ip_interfaces"), Some(&proto::map! { "eth0" => expected }.into()));
        assert_eq!(grains.at("ipv4"), Some(&vec!["10.0.0.9", "10.0.0.10"].into()));
        assert_eq!(grains.at("hwaddr_interfaces"), Some(&proto::map! { "eth0" => "00:00:5e:00:53:01" }.into()));
    }

    #[test]
    fn a_whole_name_is_parted() {
        let names = names(&Names { node: "web1".to_owned(), fqdn: "web1.example.org".to_owned() });
        assert_eq!((names.text("host"), names.text("domain")), (Some("web1"), Some("example.org")));
    }
}
