//! What the link says in the log: what a state means and what an operator can do about it.

use proto::message::{Reply, SessionState};
use tracing::warn;

use super::connect::Target;

/// Logs that the master refused a request.
pub(super) fn log_refusal(reply: &Reply) {
    if let Err((code, reason)) = &reply.result {
        warn!(code = code.name(), reason, "the master refused a request");
    }
}

/// Says what an operator can do about a state.
pub(super) fn explain(state: SessionState, target: &Target) -> String {
    let Target { id, key, .. } = target;
    let fingerprint = &key.fingerprint;
    match state {
        SessionState::Accepted => "it is accepted".to_owned(),
        SessionState::BadId => format!("{id:?} cannot be a minion's id; set `id` in the configuration"),
        SessionState::Denied => {
            format!("another key holds the id {id}, or this key another id; this key's fingerprint is {fingerprint}")
        }
        SessionState::Duplicate => {
            format!("another minion with the id {id} is connected; a cloned image needs its own id and keys")
        }
        SessionState::Full => "it takes no more minions or pending keys for now".to_owned(),
        SessionState::Pending => format!(
            "its key waits for acceptance; compare the fingerprint {fingerprint} and run `halite key accept {id}` on the master"
        ),
        SessionState::Rejected => {
            format!("its key was rejected; `halite key accept --include-rejected {id}` on the master undoes that")
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    texts.collect::<Vec<_>>().join(": ")
}
