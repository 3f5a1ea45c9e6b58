//! Publications: each is sealed and signed once, and goes to every Salt minion that listens; a SUB is anonymous.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::ids::MinionId;
use proto::message::Publish;
use proto::salt::publish;
use proto::value::MapExt;
use transport::{ConnId, LinkSender, Multipart};

use super::pool::{Lane, compute};
use super::{Salt, random};

/// How many SUBs there may be. Beyond that, newcomers are closed.
const MAX_SUBSCRIBERS: usize = 65_536;
/// How many subscriptions one may have, and how long each may be: a minion needs two of 40 bytes.
const MAX_TOPICS: usize = 16;
const MAX_TOPIC: usize = 256;

/// A job on its way to Salt minions.
#[derive(Debug)]
pub struct SaltJob {
    /// The job.
    pub publish: Arc<Publish>,
    /// The Salt minions that it is for.
    pub minions: Vec<MinionId>,
    /// Whether it may be for minions of syndics.
    pub syndics: publish::Syndics,
}

struct Subscriber {
    sender: LinkSender,
    topics: Vec<Bytes>,
}

/// Who listens.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<HashMap<ConnId, Subscriber>>);

impl Subscribers {
    /// Takes in a connection; tells whether there was room.
    pub(super) fn enter(&self, sender: LinkSender) -> bool {
        let mut table = self.lock();
        if table.len() >= MAX_SUBSCRIBERS {
            return false;
        }
        table.insert(sender.conn(), Subscriber { sender, topics: Vec::new() });
        true
    }

    /// Notes what a connection wants to hear.
    pub(super) fn subscribe(&self, conn: ConnId, topic: Bytes) {
        if let Some(subscriber) = self.lock().get_mut(&conn)
            && subscriber.topics.len() < MAX_TOPICS
            && topic.len() <= MAX_TOPIC
        {
            subscriber.topics.push(Bytes::copy_from_slice(&topic));
        }
    }

    /// Notes what it no longer wants to hear.
    pub(super) fn unsubscribe(&self, conn: ConnId, topic: &Bytes) {
        if let Some(subscriber) = self.lock().get_mut(&conn)
            && let Some(at) = subscriber.topics.iter().position(|known| known == topic)
        {
            subscriber.topics.swap_remove(at);
        }
    }

    /// Forgets a connection.
    pub(super) fn leave(&self, conn: ConnId) {
        self.lock().remove(&conn);
    }

    /// Returns how many subscriptions there are.
    #[cfg(test)]
    pub(super) fn topics(&self) -> usize {
        self.lock().values().map(|subscriber| subscriber.topics.len()).sum()
    }

    /// Sends a message to everybody who wants what its first frame begins with. One that does not read fast enough is
    /// closed: it comes back, and finds out at once that it was away.
    fn send(&self, frames: Vec<Bytes>) -> usize {
        let Some(first) = frames.first().cloned() else { return 0 };
        let wants = |topics: &[Bytes]| topics.iter().any(|topic| first.starts_with(topic));
        let senders: Vec<LinkSender> = {
            let table = self.lock();
            let wanting = table.values().filter(|subscriber| wants(&subscriber.topics));
            wanting.map(|subscriber| subscriber.sender.clone()).collect()
        };
        let published = transport::publish(&senders, Multipart::from(frames));
        if !published.full.is_empty() {
            tracing::warn!(subscribers = published.full.len(), "Salt minions do not read; closing their subscriptions");
            senders.iter().filter(|sender| published.full.contains(&sender.conn())).for_each(LinkSender::close);
        }
        published.queued
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnId, Subscriber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Salt {
    /// Seals a job and sends it out.
    pub(super) async fn publish(&self, job: SaltJob) {
        let _turn = self.inner.pool.turn(Lane::Established).await;
        let (salt, publish) = (self.clone(), Arc::clone(&job.publish));
        let sealed = compute(move || {
            let (inner, jid) = (&salt.inner, &publish.jid);
            let serial = inner.secrets.serial();
            let error = match serial {
                Ok(serial) => {
                    let signer = inner.config.signing.map(|algo| (&*inner.master, algo));
                    let load = publish.load.clone();
                    return Some(publish::seal(&inner.secrets.current().shared, *random(), load, serial, signer));
                }
                Err(error) => error,
            };
            tracing::error!(%jid, error = &error as &dyn std::error::Error, "the job does not go out to Salt minions");
            None
        });
        let Some(payload) = sealed.await.flatten().map(Bytes::from) else { return };
        let tgt_type = job.publish.load.text("tgt_type").unwrap_or("glob");
        let heard = if self.inner.config.filtering {
            let topics = publish::topics(tgt_type, &job.minions, job.syndics);
            topics.into_iter().map(|topic| self.inner.subscribers.send(vec![topic.into(), payload.clone()])).sum()
        } else {
            self.inner.subscribers.send(vec![payload])
        };
        tracing::debug!(jid = %job.publish.jid, subscribers = heard, "published on the Salt wire");
    }
}
