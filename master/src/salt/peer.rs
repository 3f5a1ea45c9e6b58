//! One connection of the request port: one payload after the other, each answered before the next is looked at.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use proto::message::hello::HelloRequest;
use proto::salt::Verified;
use proto::salt::clear::ClearCommand;
use proto::salt::envelope::{BadRequest, BareReply, Envelope, SealedRequest};
use proto::salt::request::{MinionRequest, Ttl};
use tokio_util::sync::CancellationToken;
use transport::{Established, Incoming, SocketType};

use super::minions::Minion;
use super::peers::{LARGE, Unproven};
use super::pool::compute;
use super::{Salt, clear, unix_s};

/// The longest payload that may be a `hello`.
const MAX_HELLO: usize = 1_024;

/// Whose payload was answered, as far as is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// A minion's, whose key is accepted.
    Minion,
    /// Anybody's.
    Nobody,
}

/// What a payload is answered; without anything the connection is closed, and the peer asks again later.
type Answer = Option<(Bytes, Proof)>;

/// A request that its minion has proven.
pub(super) struct Asked {
    /// The request.
    pub(super) request: Verified<MinionRequest>,
    /// Its minion's key.
    pub(super) minion: Arc<Minion>,
    /// The session key that opened it, which closes the reply.
    pub(super) session: Arc<proto::salt::crypticle::SessionKey>,
}

impl Salt {
    /// Serves one connection of the request port until it closes.
    pub async fn serve_requests(self, mut peer: Established, stop: CancellationToken) {
        if !matches!(peer.info.socket_type, SocketType::Dealer | SocketType::Req) {
            tracing::debug!(peer = %peer.info.addr, "only DEALER and REQ have business on the request port");
            return;
        }
        let mut unproven = Some(self.inner.peers.enter(peer.info.conn, peer.link.sender()));
        let serve = self.converse(&mut peer, &mut unproven);
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve => {}
        }
    }

    async fn converse(&self, peer: &mut Established, unproven: &mut Option<Unproven>) {
        let address = peer.info.addr.ip().to_canonical();
        while let Ok(incoming) = peer.link.recv().await {
            let Incoming::Message(frames) = incoming else { continue };
            let Some((envelope, payload)) = open_frames(&frames) else { continue };
            let Some(_room) = self.inner.peers.room(payload.len()) else { return };
            // What was begun is finished, also when its peer goes away: a return must be logged or taken back.
            let mut answer = pin!(self.answer(payload.clone(), address));
            drop(frames);
            let answer = tokio::select! {
                answer = &mut answer => answer,
                _ = peer.link.recv_paused() => return drop(answer.await),
            };
            let Some((reply, proof)) = answer else { return };
            if proof == Proof::Minion {
                unproven.take();
            }
            let reply = if envelope { vec![Bytes::new(), reply] } else { vec![reply] };
            if peer.link.sender().try_send(reply).is_err() {
                return;
            }
        }
    }

    /// Answers one payload.
    async fn answer(&self, payload: Bytes, address: IpAddr) -> Answer {
        if payload.len() <= MAX_HELLO && HelloRequest::decode(&payload).is_ok() {
            return Some((self.inner.parts.hello.encode().into(), Proof::Nobody));
        }
        let opened = if payload.len() > LARGE {
            let _turn = self.inner.peers.large().await?;
            let salt = self.clone();
            compute(move || salt.understand(&payload)).await?
        } else {
            self.understand(&payload)
        };
        match opened {
            Ok(Opened::Clear(command)) => {
                clear::answer(self, *command, address).await.map(|reply| (reply, Proof::Nobody))
            }
            Ok(Opened::Asked(asked)) => self.reply(*asked).await.map(|reply| (reply, Proof::Minion)),
            Err(bad) => {
                tracing::debug!(%address, error = &bad as &dyn std::error::Error, "a bad request of a Salt peer");
                Some((bad.answer().encode().into(), Proof::Nobody))
            }
        }
    }

    fn understand(&self, payload: &[u8]) -> Result<Opened, BadRequest> {
        match Envelope::decode(payload)? {
            Envelope::Aes(sealed) => self.open_sealed(&sealed).map(|asked| Opened::Asked(Box::new(asked))),
            Envelope::Clear(load) => Ok(Opened::Clear(Box::new(ClearCommand::decode(load)))),
        }
    }

    /// Believes a request if its minion is accepted, its session key opens it, and its RSA key has made its token.
    fn open_sealed(&self, sealed: &SealedRequest) -> Result<Asked, BadRequest> {
        let inner = &self.inner;
        let minion = inner.minions.accepted(&sealed.id, &inner.parts.keys).ok_or(BadRequest::Token)?;
        let session = inner.secrets.session(&sealed.id).ok_or(BadRequest::Sealed)?;
        let (request, proven) = sealed.open_proven(&session, &minion.public, minion.token.get(), self.ttl())?;
        if let Some(token) = proven {
            // Another request has proven the same token meanwhile.
            let _ = minion.token.set(token);
        }
        Ok(Asked { request, minion, session })
    }

    fn ttl(&self) -> Ttl {
        match self.inner.config.request_ttl.as_secs() {
            0 => Ttl::Off,
            ttl_s => Ttl::Seconds { ttl_s, now_s: unix_s() },
        }
    }
}

/// A payload that is understood.
enum Opened {
    Asked(Box<Asked>),
    Clear(Box<ClearCommand>),
}

/// Splits a message into its envelope and its payload: REQ puts an empty frame first and wants it back.
fn open_frames(frames: &[Bytes]) -> Option<(bool, &Bytes)> {
    match frames {
        [payload] => Some((false, payload)),
        [empty, payload] if empty.is_empty() => Some((true, payload)),
        _ => None,
    }
}

/// The bare reply to what failed without a fault of the peer's.
pub(super) fn exception() -> Bytes {
    BareReply::Exception.encode().into()
}
