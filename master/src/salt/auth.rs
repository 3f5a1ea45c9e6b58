//! `_auth`: a Salt minion asks for its keys (salt-wire.md §2). Judged by the key store, by the same rules as every key.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use proto::keys::PublicKey as StoredKey;
use proto::map;
use proto::message::SessionState;
use proto::salt::auth::{AuthRequest, Standing};
use proto::tag::Tag;
use proto::value::Map;

use super::Salt;
use super::peer::exception;
use super::pool::{Lane, compute};
use crate::keys::{Judgement, Vouching};

impl Salt {
    /// Answers an `_auth`. Without an answer too many ask at once, and the peer is to come back later.
    pub(super) async fn authenticate(&self, load: Map, address: IpAddr) -> Option<Bytes> {
        let _turn = self.inner.pool.turn(Lane::Login(address)).await?;
        let (master, decoded) = (Arc::clone(&self.inner.master), compute(move || AuthRequest::decode(&load)).await?);
        let request = match decoded {
            Ok(request) => request,
            Err(bad) => {
                tracing::debug!(%address, error = &bad as &dyn std::error::Error, "a bad _auth of a Salt peer");
                return compute(move || bad.answer(&master)).await.map(Bytes::from);
            }
        };
        let parts = &self.inner.parts;
        let key = StoredKey::Rsa(request.public.pem().to_owned());
        let vouching = request.autosign_grains.clone().map(Vouching);
        let judgement = parts.keys.judge(&request.id, &key, vouching.as_ref()).await;
        self.tell(&request, &judgement);
        let standing = match judgement.state {
            SessionState::Accepted => return self.accept(request).await,
            SessionState::Full => Standing::Full,
            SessionState::Pending => Standing::Pending,
            SessionState::BadId | SessionState::Denied | SessionState::Duplicate | SessionState::Rejected => {
                Standing::Rejected
            }
        };
        compute(move || request.stand(&master, standing)).await.map(Bytes::from)
    }

    async fn accept(&self, request: AuthRequest) -> Option<Bytes> {
        let salt = self.clone();
        let accepted = compute(move || {
            let inner = &salt.inner;
            let session = match inner.secrets.open_session(&request.id) {
                Ok(session) => session,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(minion_id = %request.id, error, "a session key cannot be stored");
                    return None;
                }
            };
            // The key may have lost its rights meanwhile; what it is told then is of no use to it.
            inner.secrets.current().acceptance.accept(&inner.master, &request, &session).ok()
        });
        Some(accepted.await?.map_or_else(exception, Bytes::from))
    }

    /// Fires `salt/auth`: on each change of state, else at most once a minute for each id.
    fn tell(&self, request: &AuthRequest, judgement: &Judgement) {
        let (result, act) = match judgement.state {
            SessionState::Accepted => (true, "accept"),
            SessionState::Pending => (true, "pend"),
            SessionState::Rejected => (false, "reject"),
            SessionState::Full => (false, "full"),
            SessionState::BadId | SessionState::Denied | SessionState::Duplicate => (false, "denied"),
        };
        let parts = &self.inner.parts;
        if self.inner.config.auth_events && parts.registry.tells_auth(&request.id, judgement.state) {
            let data = map! { "result" => result, "act" => act, "id" => &request.id, "pub" => request.public.pem() };
            parts.bus.try_fire(Tag::auth(), &data);
        }
    }
}
