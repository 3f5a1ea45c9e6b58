//! The open network sockets of this host, from `/proc/net`.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most that is read of one table: some hundred thousand sockets.
const MAX_TABLE: u64 = 32 << 20;

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    pub protocol: &'static str,
    /// This end.
    pub local: SocketAddr,
    /// The other end; all zero if there is none.
    pub remote: SocketAddr,
    /// What TCP calls its state; empty for UDP.
    pub state: &'static str,
    /// Bytes that the program has not read.
    pub received: u64,
    /// Bytes that the peer has not acknowledged.
    pub unsent: u64,
    /// Whose it is.
    pub uid: u32,
    /// The kernel's number of it.
    pub inode: u64,
}

/// Reads the sockets of TCP and UDP.
pub fn read() -> Vec<Socket> {
    let tables = ["tcp", "tcp6", "udp", "udp6"];
    tables.iter().flat_map(|protocol| parse(protocol, &table(protocol))).collect()
}

/// Reads which processes hold sockets, by the socket's inode; those of other users only as root.
pub fn holders() -> HashMap<u64, i32> {
    let mut holders = HashMap::new();
    for pid in super::processes::pids() {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let inode = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                holders.entry(inode).or_insert(pid);
            }
        }
    }
    holders
}

fn table(protocol: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open(format!("/proc/net/{protocol}")) {
        // What could be read is worth more than nothing.
        let _ = file.take(MAX_TABLE).read_to_string(&mut text);
    }
    text
}

fn parse(protocol: &'static str, text: &str) -> Vec<Socket> {
    text.lines().skip(1).filter_map(|line| row(protocol, line)).collect()
}

fn row(protocol: &'static str, line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (unsent, received) = words.get(4)?.split_once(':')?;
    let state = u8::from_str_radix(words.get(3)?, 16).ok()?;
    Some(Socket {
        protocol,
        local: address(words.get(1)?)?,
        remote: address(words.get(2)?)?,
        state: if protocol.starts_with("tcp") { tcp_state(state) } else { "" },
        received: u64::from_str_radix(received, 16).ok()?,
        unsent: u64::from_str_radix(unsent, 16).ok()?,
        uid: words.get(7)?.parse().ok()?,
        inode: words.get(9)?.parse().ok()?,
    })
}

/// Reads an address: words of the host's byte order in hexadecimal, a colon, the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..host.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let host = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

fn tcp_state(number: u8) -> &'static str {
    match number {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 | 12 => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        6 => "TIME_WAIT",
        7 => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_open_port_is_seen_with_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("an address");
        let sockets = read();
        let own = sockets.iter().find(|socket| socket.local == local).expect("listed");
        assert_eq!((own.protocol, own.state, own.remote.port()), ("tcp", "LISTEN", 0));
        assert_eq!(own.uid, crate::host::users::me().uid);
        assert_eq!(holders().get(&own.inode).copied(), i32::try_from(std::process::id()).ok());
    }

    #[test]
    fn broken_lines_are_left_out() {
        assert_eq!(parse("udp", "head\n 0: zz 00000000:0000 07\n\n"), []);
        assert!(address("0100007F:1F90").is_some());
        assert_eq!(address("0100:1F90"), None);
    }
}
