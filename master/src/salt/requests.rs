//! What a Salt minion may ask (salt-wire.md §5.2): the closed list, and who answers. Everything here is proven: the
//! sender is `asked.request.get().id`, whatever its load says.
//!
//! A new answer is an arm of [`Salt::command`] that returns the value of the reply; it is sealed here. A command that
//! is not listed is asked of [`Requests`](crate::requests::Requests), which both wires share.

use bytes::Bytes;
use proto::ids::MinionId;
use proto::map;
use proto::salt::command::Command;
use proto::salt::crypticle::{Crypticle, OneTimeKey};
use proto::salt::{pillar, request::MinionRequest};
use proto::tag::Tag;
use proto::value::{Map, MapExt, Value};

use super::peer::{Asked, exception};
use super::pool::{Lane, compute};
use super::{Salt, random};
use crate::bus::CommitError;
use crate::command::KeySelection;
use crate::sessions::MAX_GRAINS;

/// Why a request gets no reply: the connection is closed, and the minion asks again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// What it brought could not be logged.
    #[error("log what a Salt minion sent")]
    NotLogged(#[source] CommitError),
    /// An earlier copy of a return is on its way into the log, and may still fail.
    #[error("take a return whose first copy is on its way into the log")]
    Undecided,
    /// It is a syndic's, and the configuration does not name it; the log has said so.
    #[error("take the returns of a syndic that the configuration does not name")]
    Refused,
    /// The master is stopping.
    #[error("answer a Salt minion: the master is stopping")]
    Stopping,
}

/// What a command is answered.
pub(super) enum Reply {
    /// This value, under the session key.
    Value(Value),
    /// The pillar, in its own two boxes.
    Pillar(Value),
}

impl Salt {
    /// Answers a proven request.
    pub(super) async fn reply(&self, asked: Asked) -> Option<Bytes> {
        let id = asked.request.get().id.clone();
        self.inner.parts.registry.heard_salt(&id);
        let reply = match Command::decode(&asked.request) {
            Ok(command) => match self.command(&asked, command).await {
                Ok(reply) => reply,
                Err(Unanswered::Refused) => return None,
                Err(error) => {
                    tracing::warn!(minion_id = %id, error = &error as &dyn std::error::Error, "a request gets no reply");
                    return None;
                }
            },
            Err(bad) => {
                let cmd = asked.request.get().load.text("cmd").unwrap_or_default().to_owned();
                tracing::debug!(minion_id = %id, cmd, error = &bad as &dyn std::error::Error, "a bad command");
                Reply::Value(bad.answer())
            }
        };
        match reply {
            Reply::Value(value) => Some(asked.request.reply(&asked.session, *random(), &value).into()),
            Reply::Pillar(value) => self.seal_pillar(asked, value).await,
        }
    }

    /// Carries a command out.
    async fn command(&self, asked: &Asked, command: Command) -> Result<Reply, Unanswered> {
        let request = asked.request.get();
        Ok(Reply::Value(match command {
            Command::MinionEvents(load) => return self.once(asked, self.events(&request.id, &load)).await,
            Command::Pillar(load) => return self.pillar(request, &load).await.map(Reply::Pillar),
            Command::Return(load) => return self.once(asked, self.ret(&request.id, load)).await,
            Command::RevokeAuth { .. } => self.revoke_auth(request).await,
            Command::SyndicReturn(entries) => return self.once(asked, self.syndic_return(&request.id, entries)).await,
            // A job that comes twice is published once.
            Command::Publish(..) if request.nonce.is_some_and(|nonce| asked.minion.has_done(&nonce)) => empty(),
            published @ Command::Publish(..) => {
                request.nonce.iter().for_each(|nonce| asked.minion.did(nonce));
                self.asked(&request.id, published).await
            }
            other => self.asked(&request.id, other).await,
        }))
    }

    /// Carries out what changes something, once: the same request again is answered and does nothing.
    async fn once(
        &self,
        asked: &Asked,
        work: impl Future<Output = Result<(), Unanswered>>,
    ) -> Result<Reply, Unanswered> {
        let nonce = asked.request.get().nonce;
        if nonce.is_some_and(|nonce| asked.minion.has_done(&nonce)) {
            return Ok(Reply::Value(Value::Null));
        }
        work.await?;
        nonce.iter().for_each(|nonce| asked.minion.did(nonce));
        Ok(Reply::Value(Value::Null))
    }

    /// Takes a minion's grains, and returns its pillar.
    async fn pillar(&self, request: &MinionRequest, load: &Map) -> Result<Value, Unanswered> {
        let (parts, id) = (&self.inner.parts, &request.id);
        if let Some(grains) = load.at("grains").and_then(Value::as_map) {
            let grains = Bytes::from(proto::msgpack::encode_map(grains));
            if grains.len() <= MAX_GRAINS {
                parts.registry.set_grains(id, &grains);
            } else {
                tracing::warn!(minion_id = %id, bytes = grains.len(), "grains have at most {MAX_GRAINS} bytes; not taken");
            }
            parts.bus.try_fire(Tag::minion_refresh(id), &map! { "Minion data cache refresh" => id });
        }
        Ok(self.asked(id, Command::Pillar(load.clone())).await)
    }

    /// Closes a pillar under a key of its own, sealed for the minion's RSA key and signed by the master.
    async fn seal_pillar(&self, asked: Asked, value: Value) -> Option<Bytes> {
        let _turn = self.inner.pool.turn(Lane::Established).await?;
        let master = std::sync::Arc::clone(&self.inner.master);
        let sealed = compute(move || {
            let one_time = OneTimeKey(Crypticle::from_random(random()));
            pillar::reply(&asked.request, &master, &asked.minion.public, (&one_time, *random()), &value)
        });
        Some(sealed.await?.map_or_else(|_| exception(), Bytes::from))
    }

    /// Has the master answer what minions ask on both wires. A failure is an empty text, as in Salt.
    async fn asked(&self, id: &MinionId, command: Command) -> Value {
        let name = command.name();
        self.inner.parts.asked.answer(id, command).await.unwrap_or_else(|error| {
            tracing::warn!(minion_id = %id, cmd = name, %error, "a request is not answered");
            "".into()
        })
    }

    /// Deletes a minion's own key if the configuration lets it; else its load comes back, as from Salt.
    async fn revoke_auth(&self, request: &MinionRequest) -> Value {
        if !self.inner.config.revoke {
            tracing::info!(minion_id = %request.id, "revoke_auth is refused: allow_minion_key_revoke is off");
            return request.load.clone().into();
        }
        let selection = KeySelection {
            globs: vec![escaped(request.id.as_str())],
            include_rejected: false,
            include_denied: false,
            include_accepted: true,
            dry_run: false,
        };
        match self.inner.parts.keys.delete(selection).await {
            Ok(_) => true.into(),
            Err(error) => {
                tracing::error!(minion_id = %request.id, error = &error as &dyn std::error::Error, "revoke_auth failed");
                false.into()
            }
        }
    }
}

/// Returns the glob that matches this id alone.
fn escaped(id: &str) -> String {
    id.chars().map(|c| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() }).collect()
}

/// The answer to what is not known.
fn empty() -> Value {
    Map::new().into()
}
