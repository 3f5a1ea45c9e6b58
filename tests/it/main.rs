//! The end-to-end scenes: real daemons, real sockets, real files. A module per thing that a user sees.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod beacons;
mod cli;
mod crash;
mod demo;
mod docs;
mod events;
mod faults;
mod files;
mod hostile;
mod hosts;
mod jobs;
mod keys;
mod minion;
mod peers;
mod power;
mod presence;
mod reactor;
mod recorded;
mod salt;
mod salt_master;
mod salt_tools;
mod sim;
mod spool;
mod store;
mod swarm;
mod systemd;
mod targets;
mod tidy;
mod tour;
mod upgrade;
