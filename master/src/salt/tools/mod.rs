//! What Salt's own tools find on the master's host: `salt`, `salt-run`, `salt-key`, `LocalClient`, scripts.
//!
//! [`events`] are the sockets of the local event bus, [`files`] what the tools read on the disk, [`commands`] what they ask
//! in the clear, [`local_key`] how they prove that they may.

pub mod commands;
pub mod events;
pub mod files;
pub mod local_key;
