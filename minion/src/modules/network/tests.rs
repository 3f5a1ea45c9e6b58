//! What this host says of itself, and what is read from given texts.

use super::*;
use crate::modules::find;
use proto::map;
use std::net::TcpListener;
use std::sync::Arc;

fn call(fun: &str, args: &[&str], options: Map) -> Result<Value, CallError> {
    let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
    let args = args.iter().map(|arg| Value::from(*arg)).collect();
    find(fun).expect("a function").call(&cx, args, options).map(|outcome| outcome.ret)
}

#[test]
fn the_loopback_interface_has_salts_shape() {
    let all = call("network.interfaces", &[], Map::new()).expect("an outcome");
    let lo = all.get("lo").and_then(Value::as_map).expect("a loopback interface");
    assert_eq!((lo.at("up"), lo.text("hwaddr")), (Some(&true.into()), Some("00:00:00:00:00:00")));
    let expected = map! {
        "address" => "127.0.0.1", "netmask" => "255.0.0.0", "broadcast" => Value::Null, "label" => "lo",
    };
    assert_eq!(lo.at("inet").and_then(Value::as_list).and_then(<[Value]>::first), Some(&expected.into()));
    assert_eq!(call("network.hw_addr", &["lo"], Map::new()), Ok("00:00:00:00:00:00".into()));
    assert!(call("network.hw_addr", &["none0"], Map::new()).is_err());
    assert_eq!(call("network.interface_ip", &["lo"], Map::new()), Ok("127.0.0.1".into()));
    let lo = call("network.interface", &["lo"], Map::new()).expect("an outcome");
    assert_eq!(lo.as_list().and_then(|all| all[0].get("netmask")), Some(&"255.0.0.0".into()));
    assert_eq!(call("network.is_private", &["10.0.0.3"], Map::new()), Ok(true.into()));
    assert_eq!(call("network.is_loopback", &["10.0.0.3"], Map::new()), Ok(false.into()));
    assert!(call("network.is_private", &["ten"], Map::new()).is_err());
}

#[test]
fn addresses_are_chosen() {
    let options = || map! { "include_loopback" => true, "cidr" => "127.0.0.0/30" };
    assert_eq!(call("network.ip_addrs", &["lo"], options()), Ok(vec!["127.0.0.1"].into()));
    assert_eq!(call("network.ip_addrs", &["lo"], Map::new()), Ok(Value::List(vec![])));
    let public = map! { "include_loopback" => true, "type" => "public" };
    assert_eq!(call("network.ip_addrs", &["lo"], public), Ok(Value::List(vec![])));
    assert!(call("network.ip_addrs", &[], map! { "cidr" => "10.0.0.0/33" }).is_err());
    assert!(call("network.ip_addrs", &[], map! { "type" => "odd" }).is_err());
    assert!(call("network.ip_addrs6", &[], Map::new()).is_ok());
    let holds = |network: &str, address: &str| {
        Network::parse(network).expect("a network").holds(address.parse().expect("an address"))
    };
    assert!(holds("10.0.0.0/8", "10.9.8.7") && !holds("10.0.0.0/8", "11.0.0.0"));
    assert!(holds("0.0.0.0/0", "8.8.8.8") && holds("::/0", "fd00::1") && !holds("::/0", "8.8.8.8"));
}

#[test]
fn an_open_port_is_listed_with_its_program() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let local = listener.local_addr().expect("an address").to_string();
    let rows = call("network.netstat", &[], Map::new()).expect("an outcome");
    let is_ours = |row: &&Value| row.get("local-address").and_then(Value::as_str) == Some(&local);
    let row = rows.as_list().expect("a list").iter().find(is_ours).expect("listed");
    assert_eq!(row.get("state"), Some(&"LISTEN".into()));
    assert_eq!(row.get("remote-address"), Some(&"0.0.0.0:*".into()));
    let pid = format!("{}/", std::process::id());
    assert!(row.get("program").and_then(Value::as_str).is_some_and(|program| program.starts_with(&pid)));
}

#[test]
fn a_host_is_no_option() {
    for host in ["", "-f", "a b", "$(id)", "a;b"] {
        assert!(matches!(call("network.ping", &[host], Map::new()), Err(CallError::Invocation(_))), "{host}");
    }
    assert!(call("network.ping", &["localhost"], map! { "timeout" => 9999 }).is_err());
}

#[test]
fn this_host_has_names() {
    assert!(call("network.get_hostname", &[], Map::new()).expect("an outcome").is_truthy());
    assert!(call("network.get_fqdn", &[], Map::new()).expect("an outcome").is_truthy());
}
