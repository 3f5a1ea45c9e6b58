//! `network`: the interfaces, addresses and sockets of this host.

use std::net::IpAddr;
use std::time::Duration;

use proto::value::{Map, MapExt, Value};

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::addresses::{self, Interface};
use crate::host::{net, processes, sockets};

/// How many echoes `ping` sends, as Salt does.
const ECHOES: &str = "4";
/// How long `ping` may take if no timeout is given.
const PING_LIMIT: Duration = Duration::from_secs(30);
/// The longest timeout of `ping`, in seconds.
const MAX_PING: i64 = 300;

const IPV4: &[Param] = &[
    Param::optional("interface", Fallback::None),
    Param::optional("include_loopback", Fallback::Bool(false)),
    Param::optional("cidr", Fallback::None),
    Param::optional("type", Fallback::None),
];
const IPV6: &[Param] = &[
    Param::optional("interface", Fallback::None),
    Param::optional("include_loopback", Fallback::Bool(false)),
    Param::optional("cidr", Fallback::None),
];

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "network.active_tcp",
        doc: "Return the established TCP connections.

CLI Example:

.. code-block:: bash

    salt '*' network.active_tcp",
        params: &[],
        run: active_tcp,
    },
    Function {
        name: "network.get_fqdn",
        doc: "Return the whole name of this host.

CLI Example:

.. code-block:: bash

    salt '*' network.get_fqdn",
        params: &[],
        run: |_, _| Ok(Value::from(net::names().fqdn).into()),
    },
    Function {
        name: "network.get_hostname",
        doc: "Return the name of this host.

CLI Example:

.. code-block:: bash

    salt '*' network.get_hostname",
        params: &[],
        run: |_, _| Ok(Value::from(net::names().node).into()),
    },
    Function {
        name: "network.hw_addr",
        doc: "Return the hardware address of an interface; an empty text if it has none.

CLI Example:

.. code-block:: bash

    salt '*' network.hw_addr eth0",
        params: &[Param::required("iface")],
        run: hw_addr,
    },
    Function {
        name: "network.hwaddr",
        doc: "Return the hardware address of an interface, as network.hw_addr does.

CLI Example:

.. code-block:: bash

    salt '*' network.hwaddr eth0",
        params: &[Param::required("iface")],
        run: hw_addr,
    },
    Function {
        name: "network.interface",
        doc: "Return the IPv4 addresses of one interface.

CLI Example:

.. code-block:: bash

    salt '*' network.interface eth0",
        params: &[Param::required("iface")],
        run: interface,
    },
    Function {
        name: "network.interface_ip",
        doc: "Return the first IPv4 address of an interface; an empty text if it has none.

CLI Example:

.. code-block:: bash

    salt '*' network.interface_ip eth0",
        params: &[Param::required("iface")],
        run: interface_ip,
    },
    Function {
        name: "network.interfaces",
        doc: "Return the interfaces with their addresses.

CLI Example:

.. code-block:: bash

    salt '*' network.interfaces",
        params: &[],
        run: interfaces,
    },
    Function {
        name: "network.ip_addrs",
        doc: "Return the IPv4 addresses of this host, those of the loopback interface left out.

interface
    Only this interface's.
include_loopback
    True adds those of the loopback interface.
cidr
    Only those in this network, such as 10.0.0.0/8.
type
    Only public, or only private, addresses.

CLI Example:

.. code-block:: bash

    salt '*' network.ip_addrs
    salt '*' network.ip_addrs cidr=10.0.0.0/8",
        params: IPV4,
        run: |_, args| ip_addrs(&args, |one| one.ipv4.iter().map(|inet| inet.address.into()).collect()),
    },
    Function {
        name: "network.ip_addrs6",
        doc: "Return the IPv6 addresses of this host, those of the loopback interface left out.

interface, include_loopback, cidr
    As in network.ip_addrs.

CLI Example:

.. code-block:: bash

    salt '*' network.ip_addrs6",
        params: IPV6,
        run: |_, args| ip_addrs(&args, |one| one.ipv6.iter().map(|inet| inet.address.into()).collect()),
    },
    Function {
        name: "network.ipaddrs",
        doc: "Return the IPv4 addresses of this host, as network.ip_addrs does.

CLI Example:

.. code-block:: bash

    salt '*' network.ipaddrs",
        params: IPV4,
        run: |_, args| ip_addrs(&args, |one| one.ipv4.iter().map(|inet| inet.address.into()).collect()),
    },
    Function {
        name: "network.ipaddrs6",
        doc: "Return the IPv6 addresses of this host, as network.ip_addrs6 does.

CLI Example:

.. code-block:: bash

    salt '*' network.ipaddrs6",
        params: IPV6,
        run: |_, args| ip_addrs(&args, |one| one.ipv6.iter().map(|inet| inet.address.into()).collect()),
    },
    Function {
        name: "network.is_loopback",
        doc: "Tell whether an address is one of the loopback interface.

CLI Example:

.. code-block:: bash

    salt '*' network.is_loopback 127.0.0.1",
        params: &[Param::required("ip_addr")],
        run: |_, args| about(&args, |address| address.is_loopback()),
    },
    Function {
        name: "network.is_private",
        doc: "Tell whether an address is a private one.

CLI Example:

.. code-block:: bash

    salt '*' network.is_private 10.0.0.3",
        params: &[Param::required("ip_addr")],
        run: |_, args| about(&args, is_private),
    },
    Function {
        name: "network.netstat",
        doc: "Return the open sockets of TCP and UDP. Whose process they are is known to root only.

CLI Example:

.. code-block:: bash

    salt '*' network.netstat",
        params: &[],
        run: netstat,
    },
    Function {
        name: "network.ping",
        doc: "Send four echo requests to a host with ping(8), and return what it prints.

timeout
    The seconds after which to give up.
return_boolean
    True returns whether the host answered.

CLI Example:

.. code-block:: bash

    salt '*' network.ping archlinux.org
    salt '*' network.ping archlinux.org return_boolean=True timeout=3",
        params: &[
            Param::required("host"),
            Param::optional("timeout", Fallback::Bool(false)),
            Param::optional("return_boolean", Fallback::Bool(false)),
        ],
        run: ping,
    },
];

/// Returns the interface that is asked for.
fn asked(args: &Args) -> Result<Interface, CallError> {
    let name = args.text("iface").unwrap_or_default();
    let mut all = addresses::read();
    let names: Vec<String> = all.keys().cloned().collect();
    all.remove(&name).ok_or_else(|| {
        CallError::Failed(format!("Interface \"{name}\" not in available interfaces: \"{}\"", names.join("\", \"")))
    })
}

fn hw_addr(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    Ok(Value::from(asked(&args)?.hardware.unwrap_or_default()).into())
}

fn interface(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let mut map = interface_map(&asked(&args)?);
    Ok(map.take("inet").unwrap_or_else(|| Value::List(Vec::new())).into())
}

fn interface_ip(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let first = asked(&args)?.ipv4.first().map(|inet| inet.address.to_string());
    Ok(Value::from(first.unwrap_or_default()).into())
}

/// Answers a question about one address.
fn about(args: &Args, question: fn(IpAddr) -> bool) -> Result<Outcome, CallError> {
    let text = args.text("ip_addr").unwrap_or_default();
    let address =
        text.parse().map_err(|_| CallError::Invocation(format!("'{}' is no address", text.escape_debug())))?;
    Ok(Value::Bool(question(address)).into())
}

/// Returns the established connections, numbered as Salt does.
fn active_tcp(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let open = sockets::read().into_iter().filter(|socket| socket.protocol == "tcp" && socket.state == "ESTABLISHED");
    let rows = open.enumerate().map(|(number, socket)| {
        let row = proto::map! {
            "local_addr" => socket.local.ip().to_string(), "local_port" => socket.local.port(),
            "remote_addr" => socket.remote.ip().to_string(), "remote_port" => socket.remote.port(),
        };
        (Value::from(number), row.into())
    });
    Ok(Value::from(rows.collect::<Map>()).into())
}

fn interfaces(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let mut map = Map::new();
    for (name, interface) in addresses::read() {
        map.set(&name, interface_map(&interface));
    }
    Ok(Value::from(map).into())
}

fn interface_map(interface: &Interface) -> Map {
    let mut map = proto::map! { "up" => interface.up };
    if let Some(hardware) = &interface.hardware {
        map.set("hwaddr", hardware.as_str());
    }
    let inet = |one: &addresses::Inet| {
        proto::map! {
            "address" => one.address.to_string(), "netmask" => one.netmask.to_string(),
            "broadcast" => one.broadcast.map(|address| address.to_string()), "label" => one.label.as_str(),
        }
    };
    let inet6 = |one: &addresses::Inet6| {
        proto::map! {
            "address" => one.address.to_string(), "prefixlen" => one.prefix.to_string(), "scope" => one.scope(),
        }
    };
    if !interface.ipv4.is_empty() {
        map.set("inet", interface.ipv4.iter().map(inet).collect::<Vec<_>>());
    }
    if !interface.ipv6.is_empty() {
        map.set("inet6", interface.ipv6.iter().map(inet6).collect::<Vec<_>>());
    }
    map
}

fn ip_addrs(args: &Args, of: fn(&Interface) -> Vec<IpAddr>) -> Result<Outcome, CallError> {
    let (name, loopback) = (args.text("interface"), args.flag("include_loopback"));
    let network = args.text("cidr").map(|text| Network::parse(&text)).transpose()?;
    let private = match args.text("type").as_deref() {
        None => None,
        Some("private") => Some(true),
        Some("public") => Some(false),
        Some(other) => return Err(CallError::Invocation(format!("type must be public or private, not {other}"))),
    };
    let interfaces = addresses::read().into_iter().filter(|(own, _)| name.as_ref().is_none_or(|name| name == own));
    let mut found: Vec<IpAddr> = interfaces.flat_map(|(_, interface)| of(&interface)).collect();
    found.retain(|address| loopback || !address.is_loopback());
    found.retain(|address| network.as_ref().is_none_or(|network| network.holds(*address)));
    found.retain(|address| private.is_none_or(|private| private == is_private(*address)));
    found.sort_unstable();
    found.dedup();
    Ok(Value::from(found.iter().map(ToString::to_string).collect::<Vec<_>>()).into())
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local(),
    }
}

/// A network, as `10.0.0.0/8` names it.
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Network, CallError> {
        let bad = || CallError::Invocation(format!("'{text}' is no network"));
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if prefix.is_empty() { width } else { prefix.parse().map_err(|_| bad())? };
        if prefix > width { Err(bad()) } else { Ok(Network { address, prefix }) }
    }

    fn holds(&self, address: IpAddr) -> bool {
        let (one, other, width) = match (self.address, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(u32::from(one)), u128::from(u32::from(other)), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one), u128::from(other), 128),
            _ => return false,
        };
        (one ^ other).checked_shr(width - self.prefix).unwrap_or_default() == 0
    }
}

fn netstat(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
    let holders = sockets::holders();
    let rows = sockets::read().into_iter().map(|socket| {
        let holder = holders.get(&socket.inode).and_then(|pid| processes::read(*pid));
        let program = holder.map_or_else(|| "-".to_owned(), |process| format!("{}/{}", process.pid, process.name));
        let remote = match socket.remote.port() {
            0 => format!("{}:*", socket.remote.ip()),
            port => format!("{}:{port}", socket.remote.ip()),
        };
        let mut row = proto::map! {
            "proto" => socket.protocol, "recv-q" => socket.received.to_string(), "send-q" => socket.unsent.to_string(),
            "local-address" => format!("{}:{}", socket.local.ip(), socket.local.port()),
            "remote-address" => remote,
        };
        if !socket.state.is_empty() {
            row.set("state", socket.state);
        }
        row.set("user", socket.uid.to_string());
        row.set("inode", socket.inode.to_string());
        row.set("program", program);
        row
    });
    Ok(Value::from(rows.collect::<Vec<_>>()).into())
}

fn ping(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let host = host(&args)?;
    let timeout = match args.value("timeout") {
        Value::Bool(_) | Value::Null => None,
        _ => Some(args.integer("timeout")?).filter(|seconds| *seconds != 0),
    };
    if timeout.is_some_and(|seconds| !(1..=MAX_PING).contains(&seconds)) {
        return Err(CallError::Invocation(format!("timeout must be 1 to {MAX_PING} seconds")));
    }
    let seconds = timeout.map(|seconds| seconds.to_string());
    let mut argv = vec!["ping"];
    if let Some(seconds) = &seconds {
        argv.extend(["-W", seconds]);
    }
    argv.extend(["-c", ECHOES, "--", &host]);
    let limit = timeout.and_then(|seconds| u64::try_from(seconds).ok()).map_or(PING_LIMIT, |seconds| {
        // Every echo may take the whole timeout.
        PING_LIMIT + Duration::from_secs(seconds)
    });
    let finished = cx.run_program(&argv, limit)?;
    let answered = matches!(finished.ending, super::process::Ending::Exited(0));
    if args.flag("return_boolean") {
        return Ok(Value::Bool(answered).into());
    }
    let text = [finished.stdout.text(), finished.stderr.text()].concat();
    Ok(Outcome::with_retcode(text.trim_end(), i64::from(!answered)))
}

/// Reads the host: a name or an address, nothing that a program could take for an option.
fn host(args: &Args) -> Result<String, CallError> {
    let host = args.text("host").unwrap_or_default();
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || ".:-_%".contains(letter);
    match !host.is_empty() && !host.starts_with('-') && host.chars().all(is_good) {
        true => Ok(host),
        false => Err(CallError::Invocation(format!("'{}' is no host", host.escape_debug()))),
    }
}

#[cfg(test)]
mod tests;
