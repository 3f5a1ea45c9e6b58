//! Commands in the clear: `_auth` and `ping` of anybody; what local clients ask is answered here too.
//!
//! The seam for local clients (salt-wire.md §6): each variant of [`ClearCommand`] that is not answered here yet falls
//! into the last arm. Who asks is known by its address alone; its credentials are in the command.

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
        ClearCommand::GetToken(_)
        | ClearCommand::MakeToken(_)
        | ClearCommand::Publish(_)
        | ClearCommand::Runner { .. }
        | ClearCommand::Unknown
        | ClearCommand::Wheel { .. } => ClearReply::Empty,
    };
    Some(reply.encode().into())
}
