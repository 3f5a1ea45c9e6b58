//! The Halite minion: connects to its master, runs jobs, watches this host.
//!
//! Reading order: [`cli`] (the command line) and [`config`] (the file as one struct), [`daemon`] (starts every part in order
//! and stops them in reverse); [`link`] (the session with the master), [`spool`] (what is on its way) and [`jids`] (which jobs
//! were seen); [`executor`] (one job, from publication to return) and [`modules`] (what jobs can run); [`pillar`] (what the master says to this
//! minion alone); [`beacons`] (what
//! watches), [`grains`] (what is known), [`host`] (reads the machine for all of them); [`local_bus`], [`local`] (the
//! socket through which commands on this host reach the daemon) and [`health`] (how the daemon stands, told outside).

pub mod beacons;
pub mod cli;
pub mod config;
pub mod daemon;
mod database;
pub mod executor;
pub mod grains;
pub mod health;
pub mod host;
pub mod jids;
pub mod link;
pub mod local;
pub mod local_bus;
pub mod modules;
pub mod pillar;
pub mod schedule;
pub mod spool;
