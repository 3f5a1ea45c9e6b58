//! The two connections to a Salt master: a REQ and a SUB, both without a mechanism; what protects them is inside.

use proto::salt::publish::{BROADCAST, topic};
use transport::{ConnectConfig, ConnectMechanism, SocketType};

use super::super::connect::{DialError, Dialed, QUEUE, address};
use super::Target;

/// Connects the REQ.
pub(super) async fn requests(target: &Target) -> Result<Dialed, DialError> {
    Ok(transport::connect(&config(target, SocketType::Req, target.request_port)).await?.link.into())
}

/// Connects the SUB and subscribes: to everything, or, where the master sends by topic, to what can be ours.
pub(super) async fn publications(target: &Target, port: u16) -> Result<Dialed, DialError> {
    let link = transport::connect(&config(target, SocketType::Sub, port)).await?.link;
    if target.filtering {
        link.subscribe(BROADCAST.as_bytes())?;
        link.subscribe(topic(&target.id).as_bytes())?;
    } else {
        link.subscribe(b"")?;
    }
    Ok(link.into())
}

fn config(target: &Target, socket: SocketType, port: u16) -> ConnectConfig {
    let mut config = ConnectConfig::new(address(&target.host, port), socket, ConnectMechanism::Null);
    config.heartbeat = target.heartbeat;
    config.queue = QUEUE;
    config
}
