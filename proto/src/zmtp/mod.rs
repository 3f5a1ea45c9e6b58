//! ZMTP 3.0, the wire of ZeroMQ (RFC 23, RFC 26 for CURVE), as a state machine without I/O.
//!
//! Reading order: [`greeting`] (the first 64 bytes of each side), [`frame`] (length-prefixed frames and their limits),
//! [`command`] (named frames: READY, PING, SUBSCRIBE) and [`metadata`] (the properties in them), [`mechanism`] (NULL and
//! CURVE, both halves side by side), [`message`] (a multipart message, encoded once), [`session`] (all of it in order).
//!
//! Nothing in here opens a socket, reads a clock or draws a random number: bytes and seeds come in, events and bytes
//! come out. `transport` drives it over TCP.

pub mod command;
pub mod frame;
pub mod greeting;
pub mod mechanism;
pub mod message;
pub mod metadata;
mod outbox;
pub mod session;
mod socket_type;

pub use frame::Limits;
pub use mechanism::curve::CurveKeyPair;
pub use mechanism::{ConnectMechanism, Mechanism, NullPolicy};
pub use message::Multipart;
pub use session::{ClientConfig, CloseReason, Event, PeerReady, SEED_LEN, ServerConfig, Session};
pub use socket_type::SocketType;
