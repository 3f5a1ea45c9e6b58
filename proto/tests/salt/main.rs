//! The Salt wire against the recorded bytes of Salt's own classes, masters and minions (`tests/data/salt`), byte for byte;
//! then against damage: every cut, every flipped bit, and any bytes at all.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic that names the line")]

mod auth;
mod clear;
mod crypticle;
mod disk;
mod ipc;
mod live;
mod msgpack;
mod pillar;
mod publish;
mod requests;
mod rsa;
mod totality;
mod vectors;
