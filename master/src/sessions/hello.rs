//! `hello`: one question over NULL, one answer, then the connection is closed (native-wire.md §2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::message::MAX_LIMBO_LOAD;
use proto::message::hello::{HelloReply, HelloRequest};
use tokio::task::AbortHandle;
use transport::{Established, Incoming};

/// How long a peer may take from its handshake to the end of the conversation.
const CONVERSATION: Duration = Duration::from_secs(10);

/// How many peers without a key are talked to at a time.
const MAX_HELLOS: usize = 1_000;

/// The latest peers without a key. When there are too many, the one that came first is closed: an honest one is gone
/// within milliseconds, so idle ones cannot keep it out.
#[derive(Default)]
pub(super) struct Hellos(VecDeque<AbortHandle>);

impl Hellos {
    /// Takes in a conversation. Those that have ended stay listed until it is their turn.
    pub(super) fn enter(&mut self, conversation: AbortHandle) {
        if self.0.len() >= MAX_HELLOS
            && let Some(first) = self.0.pop_front()
        {
            first.abort();
        }
        self.0.push_back(conversation);
    }
}

/// Answers one `hello`. Anything else is closed without a word.
pub(super) async fn run(mut peer: Established, reply: Arc<HelloReply>) {
    let addr = peer.info.addr;
    let talk = async {
        let Ok(Incoming::Message(frames)) = peer.link.recv().await else { return };
        let Some((envelope, load)) = super::dealer::open_envelope(&frames) else { return };
        if load.len() > MAX_LIMBO_LOAD || HelloRequest::decode(load).is_err() {
            tracing::debug!(peer = %addr, "not a hello; closed");
            return;
        }
        let body = Bytes::from(reply.encode());
        let answer = if envelope { vec![Bytes::new(), body] } else { vec![body] };
        if peer.link.sender().try_send(answer).is_ok() {
            // A peer that does not take its answer has only itself to blame.
            let _ = peer.link.finish(CONVERSATION).await;
        }
    };
    let _ = tokio::time::timeout(CONVERSATION, talk).await;
}
