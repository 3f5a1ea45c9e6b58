//! The engine as its users see it: over real sockets on loopback, with peers of three kinds.
//!
//! `loopback` (our own sockets), `libzmq` (pyzmq, where `HALITE_PEERS` names a virtualenv) and `zeromq` (the crate of that
//! name) are what works; `hostile`, `patience` and `holes` are
//! what must not.
#![expect(clippy::unwrap_used, reason = "a test helper that fails shall end its test")]

mod alone;
mod common;
mod holes;
mod hostile;
mod libzmq;
mod loopback;
mod patience;
mod zeromq;
