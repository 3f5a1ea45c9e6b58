//! The master: the daemon `halite-master` and the operator's command `halite`.
//!
//! Reading order: [`arguments`] (the command line), [`config`] (the file), [`daemon`] (what starts, in which order), [`command`] (all the master can be
//! asked, at one door), then the parts: [`bus`] (the durable event log and its readers), [`keys`] (who is trusted),
//! [`sessions`] (the native wire, connection by connection), [`salt`] (Salt's wire), [`presence`] (who is there), [`jobs`] (from publish to
//! return), [`reactor`] (events answered by jobs), [`runners`] and [`wheel`] (functions that run on the master), and what
//! talks to operators: [`api`] and [`cli`].

pub mod acl;
pub mod api;
pub mod arguments;
pub mod bus;
pub mod cli;
pub mod command;
pub mod config;
pub mod cursors;
pub mod daemon;
pub mod fileserver;
pub mod fleet;
pub mod jobs;
pub mod keys;
pub mod pillar;
pub mod presence;
pub mod reactor;
pub mod requests;
pub mod runners;
pub mod salt;
pub mod sessions;
pub mod store;
pub mod unix;
pub mod wheel;

/// Name and version, as peers and people see it.
pub const SOFTWARE: &str = concat!("halite ", env!("CARGO_PKG_VERSION"));
