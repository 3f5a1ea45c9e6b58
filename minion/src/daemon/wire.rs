//! Which wire the master speaks, and the link over it: the one place that knows both.

use std::time::Duration;

use anyhow::Context;
use proto::message::{Kind, Publish};
use proto::value::{Map, MapExt};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::{Config, SaltOptions, Wire};
use crate::jids::Jids;
use crate::link::salt::{self, ProcFolder};
use crate::link::{self, Link, Target, keys};
use crate::spool::Keeper;

/// Starts the daemon's link.
pub(super) fn daemon(
    config: &Config,
    grains: &Map,
    jids: Jids,
    keeper: Keeper,
) -> anyhow::Result<(Link, mpsc::Receiver<Publish>, JoinHandle<()>)> {
    let vouching = config.autosign_grains.iter();
    let autosign: Map = vouching.filter_map(|name| Some((name.as_str().into(), grains.at(name)?.clone()))).collect();
    let parts = link::Parts {
        kind: Kind::Daemon,
        grains: Some(grains.clone()),
        autosign_grains: (!autosign.is_empty()).then_some(autosign),
        pace: config.pace,
        first_delay: random_share(config.random_startup_delay),
        jids: Some(jids),
        keeper,
    };
    spawn(config, parts)
}

/// Returns where running jobs are shown to Salt's tools, on Salt's wire. The minion does its work without it too.
pub(super) fn proc_folder(config: &Config) -> Option<ProcFolder> {
    let Wire::Salt(_) = config.wire else { return None };
    let opened = ProcFolder::open(&config.cachedir);
    opened.inspect_err(|error| warn!(%error, "failed to make the folder of running jobs; they have no files")).ok()
}

/// Starts the link of one call.
pub fn call(config: &Config) -> anyhow::Result<(Link, JoinHandle<()>)> {
    let parts = link::Parts {
        kind: Kind::Call,
        grains: None,
        autosign_grains: None,
        pace: config.pace,
        first_delay: Duration::ZERO,
        jids: None,
        // The exit code tells whether the master has it: nothing is left for a later process.
        keeper: Keeper::in_memory(link::random().context("failed to start")?),
    };
    // No jobs come to a call: they go to the daemon.
    let (link, _jobs, task) = spawn(config, parts)?;
    Ok((link, task))
}

fn spawn(config: &Config, parts: link::Parts) -> anyhow::Result<(Link, mpsc::Receiver<Publish>, JoinHandle<()>)> {
    match &config.wire {
        Wire::Native => {
            let target = native(config)?;
            if parts.kind == Kind::Daemon {
                info!(fingerprint = %target.key.fingerprint, "key pair");
            }
            Link::spawn(target, parts).context("failed to start")
        }
        Wire::Salt(options) => Link::spawn_salt(salt_target(config, options), parts).context("failed to start"),
    }
}

/// Returns where the master is and who we are; makes the key pair at the first start.
fn native(config: &Config) -> anyhow::Result<Target> {
    Ok(Target {
        id: config.id.clone(),
        host: config.master.clone(),
        request_port: config.request_port,
        publish_port: config.publish_port,
        pki_dir: config.pki_dir.clone(),
        key: keys::own(&config.pki_dir).context("failed to get the minion's key pair")?,
        demands: config.master_demands.clone(),
        heartbeat: config.heartbeat,
    })
}

fn salt_target(config: &Config, options: &SaltOptions) -> salt::Target {
    salt::Target {
        id: config.id.clone(),
        host: config.master.clone(),
        request_port: config.request_port,
        publish_port: options.publish_port,
        pki_dir: config.pki_dir.clone(),
        key_bits: options.key_bits,
        enc_algo: options.enc_algo,
        sig_algo: options.sig_algo,
        finger: options.finger.clone(),
        sign_key: options.sign_key.clone(),
        signed_publications: options.signed_publications,
        filtering: options.filtering,
        patience: options.patience,
        ping: options.ping,
        heartbeat: config.heartbeat,
    }
}

/// Returns a random share of a delay.
fn random_share(delay: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes the whole delay is taken.
    let share = SystemRandom::new().fill(&mut byte).map_or(255, |()| byte[0]);
    delay.mul_f64(f64::from(share) / 255.0)
}
