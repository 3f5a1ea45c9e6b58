//! Commands in the clear: `_auth` and `ping` of anybody; what local clients ask is answered here too.
//!
//! Who asks is known by its address alone; its credentials are in the command (salt-wire.md §6), and judged in
//! `tools/commands.rs`.

use std::net::IpAddr;

use bytes::Bytes;
use proto::salt::clear::{ClearCommand, ClearReply};
use proto::salt::msgpack;

use super::Salt;

/// Answers a command in the clear. Without an answer the connection is closed.
pub(super) async fn answer(salt: &Salt, command: ClearCommand, address: IpAddr) -> Option<Bytes> {
    let reply = match command {
        ClearCommand::Auth(load) => return salt.authenticate(load, address).await,
        ClearCommand::Ping(load) => return Some(msgpack::encode_map(&load).into()),
        command => match &salt.inner.parts.clear {
            Some(clear) => clear.answer(address, command).await,
            None => ClearReply::Empty,
        },
    };
    Some(reply.encode().into())
}
