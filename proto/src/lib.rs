//! Bytes in, values out: everything Halite puts on a wire or on a disk, without sockets, clock, files or randomness.
//!
//! Reading order: [`value`] (the dynamic value) and [`msgpack`] (its bytes), [`ids`] (names that were checked once),
//! [`tag`] (event tags, and who may fire which), [`target`] (who a job is for), [`keys`] (key files and fingerprints),
//! [`message`] (the native wire, message by message), [`zmtp`] (the ZeroMQ transport protocol), `salt` (the wire of Salt's
//! own masters and minions, feature `salt-wire`).

pub mod ids;
pub mod keys;
pub mod message;
pub mod msgpack;
#[cfg(feature = "salt-wire")]
pub mod salt;
pub mod tag;
pub mod target;
pub mod value;
pub mod zmtp;

/// The version of the native wire that this crate speaks (`native-wire.md`).
pub const WIRE_VERSION: u64 = 1;
