//! The loop of the Salt side: sends jobs out in their order, watches keys, replaces the shared key when it is due.

use std::time::Instant;

use proto::keys::PublicKey;
use proto::map;
use proto::tag::Tag;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::pool::compute;
use super::publisher::SaltJob;
use super::state::SaltState;
use super::{Salt, dropfile};
use crate::keys::{KeyChange, KeyState};

/// The running half.
#[must_use = "no job goes out before the task runs"]
pub struct SaltTask {
    salt: Salt,
    state: SaltState,
    publications: mpsc::Receiver<SaltJob>,
    changes: broadcast::Receiver<KeyChange>,
}

/// What the loop woke up for.
enum SaltInput {
    Change(Result<KeyChange, RecvError>),
    Look,
    Publish(SaltJob),
    Stop,
}

impl SaltTask {
    pub(super) fn new(salt: Salt, publications: mpsc::Receiver<SaltJob>) -> SaltTask {
        let state = SaltState::new(salt.inner.config.key_life, salt.inner.secrets.age(), Instant::now());
        let changes = salt.inner.parts.keys.watch_changes();
        SaltTask { salt, state, publications, changes }
    }

    /// Runs until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(self.salt.inner.config.look_every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.state.look_at().map(tokio::time::Instant::from_std);
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => SaltInput::Stop,
                change = self.changes.recv() => SaltInput::Change(change),
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    SaltInput::Look
                }
                _ = look.tick() => SaltInput::Look,
                Some(job) = self.publications.recv() => SaltInput::Publish(job),
            };
            match input {
                SaltInput::Change(Ok(change)) => self.changed(&change).await,
                // So many keys changed that some were missed; whoever lost its rights is found by its next request.
                SaltInput::Change(Err(RecvError::Lagged(_))) => self.state.revoked(),
                SaltInput::Look => self.look().await,
                SaltInput::Publish(job) => self.salt.publish(job).await,
                SaltInput::Stop | SaltInput::Change(Err(RecvError::Closed)) => return,
            }
            self.rotate_if_due().await;
        }
    }

    /// Takes everything from a minion that has lost its rights.
    async fn changed(&mut self, change: &KeyChange) {
        let was_accepted = change.from == Some(KeyState::Accepted);
        let is_rsa = matches!(change.key, PublicKey::Rsa(_));
        let lost = was_accepted && change.to != Some(KeyState::Accepted) && is_rsa;
        // A native key took the place of an RSA key: the same host, which is no Salt minion any more.
        let upgraded = was_accepted && change.to == Some(KeyState::Accepted) && !is_rsa;
        if !lost && !upgraded {
            return;
        }
        self.salt.inner.minions.forget(&change.id);
        let (salt, id) = (self.salt.clone(), change.id.clone());
        compute(move || salt.inner.secrets.close_session(&id)).await;
        if lost && self.salt.inner.config.rotate {
            self.state.revoked();
        }
    }

    /// Looks for the drop file by which Salt's tools ask for a new shared key.
    async fn look(&mut self) {
        let config = self.salt.inner.config.clone();
        if compute(move || dropfile::take(&config.cachedir, &config.id)).await == Some(true) {
            self.state.revoked();
        }
    }

    async fn rotate_if_due(&mut self) {
        if !self.state.is_due(Instant::now()) {
            return;
        }
        let salt = self.salt.clone();
        match compute(move || salt.inner.secrets.rotate()).await {
            Some(Ok(())) => {
                tracing::info!("the key that Salt minions share was replaced");
                self.salt.inner.parts.bus.try_fire(Tag::rotated(), &map! { "rotate_aes_key" => true });
            }
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the key that Salt minions share cannot be replaced");
                self.state.revoked();
            }
            None => {}
        }
    }
}
