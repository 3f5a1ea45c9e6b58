//! The native wire, connection by connection (native-wire.md): who says hello, who is in limbo, who has a session.
//!
//! ```text
//!  4506  NULL  ── hello ──────────────────────────────────────────────► closed
//!        CURVE ── judged ──► limbo ──(key accepted)──► accepted ──(session)──► daemon or call
//!                              └─(60 s)──► closed         └─(key rejected or deleted)──► closed at once
//!  4505  CURVE ── m/<own id> ──► waits for its session (60 s) ──► attached: gets publications
//! ```
//!
//! Each connection has one task, which owns the socket, decodes, seals and opens. The [`Registry`] is what they share:
//! who is there, and where to send a job. Identity comes from the key that CURVE proved, never from a load.

mod control;
mod dealer;
mod grains;
mod heard;
mod hello;
mod inflight;
mod registry;
mod requests;
mod seen;
mod spooled;
mod step;
mod subscriber;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use proto::map;
use proto::message::hello::HelloReply;
use proto::tag::Tag;
use proto::value::MapExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use transport::{Established, Listener, Mechanism, SocketType};

use crate::bus::Bus;
use crate::jobs::Jobs;
use crate::keys::{KeyChange, KeyState, Keys};
use crate::requests::Requests;
use crate::salt::Salt;

pub use grains::GrainsCopy;
pub use registry::{MinionView, Registry};
pub use step::{Over, Stepped};

pub(crate) use requests::MAX_GRAINS;

use hello::Hellos;

/// How long a session without rights, or a SUB without a session, is kept (design §3).
const LIMBO: Duration = Duration::from_secs(60);
/// How often a pending key is judged again while its peer waits: so soon an edit of `autosign_file` counts.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How many sessions without rights there may be, and as many SUBs without an accepted key. Beyond that, newcomers are
/// told `full` by a silent close. A peer with an accepted key needs no such place.
const MAX_LIMBO: usize = 1_000;
/// The largest message that a session without rights may make us buffer: a load above the limit can still be refused by
/// name, one far above it closes the connection.
const LIMBO_MESSAGE: usize = 2 * proto::message::MAX_LIMBO_LOAD;
/// How long a daemon may take to prove that it is alive when another one claims its id.
const DUPLICATE_PROBE: Duration = Duration::from_secs(5);
/// How long a stopping master waits for its sessions to hand over what they hold.
const DRAIN: Duration = Duration::from_secs(5);

/// What every session task needs.
#[derive(Clone)]
pub struct SessionParts {
    /// Where events go.
    pub bus: Bus,
    /// Where returns are judged.
    pub jobs: Jobs,
    /// Where keys are judged.
    pub keys: Keys,
    /// Who is there.
    pub registry: Registry,
    /// Who answers what minions ask of files, pillar and each other; none answers that it is not supported.
    pub asked: Option<Requests>,
    /// What a `hello` is answered.
    pub hello: Arc<HelloReply>,
    /// The Salt side, where its listener is on.
    pub salt: Option<Salt>,
    /// How often the master sends PING.
    pub ping: Duration,
}

/// Serves both ports until the token is cancelled; then closes every session.
pub async fn serve(mut requests: Listener, mut publications: Listener, parts: SessionParts, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut hellos = Hellos::default();
    let mut changes = parts.keys.watch_changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            peer = requests.accept() => spawn_request_peer(&mut tasks, &mut hellos, peer, &parts, &stop),
            peer = publications.accept() => spawn_subscriber(&mut tasks, peer, &parts, &stop),
            change = changes.recv() => match change {
                Ok(change) => {
                    tell_change(&parts.bus, &change);
                    if change.from == Some(KeyState::Accepted) && change.to != Some(KeyState::Accepted) {
                        parts.registry.forget(&change.id);
                        if let Some(asked) = parts.asked.clone() {
                            let id = change.id.clone();
                            tasks.spawn(async move { asked.forget(&id).await });
                        }
                    }
                    // A key that is turned away changes nobody's state. Two strangers with one id would else make each
                    // other be judged for ever, since only the last denied key of an id is kept.
                    if (change.from, change.to) != (None, Some(KeyState::Denied)) {
                        parts.registry.rejudge(&change.id);
                    }
                }
                // So many keys changed at once that some were missed: look at all of them.
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => parts.registry.rejudge_all(),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(sessions = tasks.len(), "sessions did not close in time; they are cut");
    }
}

/// Fires `salt/key` with the acts of Salt 3008. A key that only just arrived is told by `salt/auth`.
fn tell_change(bus: &Bus, change: &KeyChange) {
    let act = match (change.from, change.to) {
        (None, _) => return,
        (Some(_), None) => "delete",
        (Some(KeyState::Accepted), Some(KeyState::Accepted)) => "upgraded",
        (Some(_), Some(KeyState::Accepted)) => "accepted",
        (Some(_), Some(KeyState::Denied)) => "denied",
        (Some(_), Some(KeyState::Pending)) => "pending",
        (Some(_), Some(KeyState::Rejected)) => "rejected",
    };
    let mut data = map! { "result" => true, "act" => act, "id" => &change.id };
    if change.to.is_some() {
        data.set("pub", change.key.to_pem());
    }
    bus.try_fire(Tag::key(), &data);
}

fn spawn_request_peer(
    tasks: &mut JoinSet<()>,
    hellos: &mut Hellos,
    peer: Established,
    parts: &SessionParts,
    stop: &CancellationToken,
) {
    let (parts, stop) = (parts.clone(), stop.clone());
    match peer.info.mechanism {
        Mechanism::Null if parts.salt.is_some() => {
            let salt = parts.salt.expect("the guard has seen it");
            tasks.spawn(salt.serve_requests(peer, stop));
        }
        Mechanism::Null => {
            hellos.enter(tasks.spawn(hello::run(peer, parts.hello)));
        }
        Mechanism::Curve { key } if matches!(peer.info.socket_type, SocketType::Dealer | SocketType::Req) => {
            tasks.spawn(dealer::run(peer, key, parts, stop));
        }
        Mechanism::Curve { .. } => {
            tracing::debug!(peer = %peer.info.addr, "only DEALER and REQ have business on the request port");
        }
    }
}

fn spawn_subscriber(tasks: &mut JoinSet<()>, peer: Established, parts: &SessionParts, stop: &CancellationToken) {
    let (parts, stop) = (parts.clone(), stop.clone());
    match (peer.info.mechanism, parts.salt.clone()) {
        (Mechanism::Null, Some(salt)) => tasks.spawn(salt.serve_subscriber(peer, stop)),
        _ => tasks.spawn(subscriber::run(peer, parts, stop)),
    };
}

#[cfg(test)]
mod tests;
