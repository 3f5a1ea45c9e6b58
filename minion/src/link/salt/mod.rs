//! The link to an unmodified Salt master (`wire: salt`): the same handle as the native one, over Salt's protocol, version 3.
//!
//! `state.rs` has the rules, `task.rs` the loop, `auth.rs` the RSA work (off the loop), `loads.rs` what is sent and heard,
//! `keys.rs` and `proc.rs` the files under Salt's names. Executor, beacons, spool and functions do not know which wire there is:
//!
//! | here | on the wire |
//! |---|---|
//! | a load of the spool | `_minion_event` with `events`, or `_return`; acknowledged by the master's answer |
//! | what a function asks | the same command, one at a time; `_pillar` opens its double envelope |
//! | a job | a publication on the SUB that names this minion; nobody hears of the others |
//!
//! Salt's master has no `jobs_since`: a job that was published while this minion was away is gone, as for Salt's minion.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::ids::{Fingerprint, MinionId};
use proto::message::Publish;
use proto::salt::rsa::{EncAlgo, SigAlgo};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use transport::Heartbeat;

use super::{JOBS, Link, LinkStatus, Parts, REQUESTS, StartError, pump, random};
use crate::spool;
use state::SaltState;
use task::SaltTask;

mod auth;
mod connect;
mod keys;
mod loads;
mod proc;
mod state;
mod talk;
mod task;

pub(super) use keys::{existing, pin_path, pinned};
pub use proc::ProcFolder;
pub use state::Patience;

/// Where a Salt master is, who we are, and what the configuration says about its wire.
#[derive(Debug, Clone)]
pub struct Target {
    /// The minion's id.
    pub id: MinionId,
    /// The master's host name or address.
    pub host: String,
    /// The port of requests.
    pub request_port: u16,
    /// The port of publications, if the configuration says one; else the master does.
    pub publish_port: Option<u16>,
    /// The folder of key files.
    pub pki_dir: PathBuf,
    /// How large a new pair is, in bits.
    pub key_bits: u32,
    /// How keys are sealed for us.
    pub enc_algo: EncAlgo,
    /// How the master signs what it tells us.
    pub sig_algo: SigAlgo,
    /// The fingerprint that the master's key must have.
    pub finger: Option<Fingerprint>,
    /// The name of the key that must vouch for the master's (`pki_dir/NAME.pub`).
    pub sign_key: Option<String>,
    /// Whether every publication must be signed by the master.
    pub signed_publications: bool,
    /// Whether the master sends publications by topic.
    pub filtering: bool,
    /// How long to wait for what.
    pub patience: Patience,
    /// How often to tell the master that we live, if it shall be told.
    pub ping: Option<Duration>,
    /// When a silent master is dead.
    pub heartbeat: Heartbeat,
}

impl Link {
    /// Starts a link to a Salt master; in everything else as [`Link::spawn`].
    pub fn spawn_salt(
        target: Target,
        parts: Parts,
    ) -> Result<(Link, mpsc::Receiver<Publish>, JoinHandle<()>), StartError> {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let (status_sender, status) = watch::channel(LinkStatus::Down { why: None });
        let (jobs_sender, jobs) = mpsc::channel(JOBS);
        let (wire_sender, wire) = mpsc::channel(pump::WIRE_BOUND);
        let seed = random()?;
        let seed = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at: usize| seed[at]));
        let start = Instant::now() + parts.first_delay;
        let state = SaltState::new(parts.kind, parts.pace, target.patience, seed, start);
        let spool = spool::spawn(parts.keeper).map_err(StartError::Thread)?;
        let parts = task::Parts {
            target,
            kind: parts.kind,
            autosign_grains: parts.autosign_grains,
            jids: parts.jids,
            state,
            spool: spool.to,
            status: status_sender,
            jobs: jobs_sender,
            wire: wire_sender,
        };
        let handle = tokio::spawn(SaltTask::new(parts).run(requests, wire, spool.from));
        Ok((Link { requests: sender, status }, jobs, handle))
    }
}

#[cfg(test)]
mod tests;
