//! What is known of a job whose jid is used again.

use std::collections::HashSet;
use std::sync::Arc;

use proto::ids::{Jid, MinionId};
use proto::target::TgtType;
use proto::value::{Map, MapExt, Value};

use super::Jobs;
use super::recipients::Recipients;
use crate::command::{CommandError, PublishRequest, Published, TargetText};
use crate::salt::SyndicsConfig;

/// A job that was published before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Earlier {
    pub(super) fun: Value,
    pub(super) arg: Value,
    /// Who has it.
    pub(super) minions: HashSet<MinionId>,
}

impl Earlier {
    /// Reads it from its publication, or from what its `new` event says.
    pub(super) fn of(load: &Map, minions: HashSet<MinionId>) -> Earlier {
        let field = |name: &str| load.at(name).cloned().unwrap_or_default();
        Earlier { fun: field("fun"), arg: field("arg"), minions }
    }

    /// Tells whether a request under the same jid can be a further part of it: the same work, for minions by their names.
    pub(super) fn may_widen(&self, request: &PublishRequest) -> bool {
        let names_minions = TgtType::parse(&request.target.tgt_type) == Ok(TgtType::List);
        names_minions && self.fun == request.fun && self.arg.as_list() == Some(&request.arg)
    }
}

impl Jobs {
    /// Publishes under a jid that is taken, by this process or an earlier one. The same again changes nothing: exactly once.
    /// The same for others is the next part of a batch, which Salt 3008 runs as one job: they get it too.
    pub(super) async fn publish_again(
        &self,
        user: &str,
        jid: Jid,
        request: &PublishRequest,
        earlier: &Earlier,
    ) -> Result<Published, CommandError> {
        if !earlier.may_widen(request) {
            return Ok(Published::before(jid));
        }
        let (mut recipients, syndics) = self.addressed(&request.target).await?;
        recipients.minions.retain(|id| !earlier.minions.contains(id));
        let known = |id: &String| earlier.minions.iter().any(|known| known.as_str() == id);
        let syndics = syndics.filter(|_| !recipients.missing.iter().all(known));
        if recipients.minions.is_empty() && syndics.is_none() {
            return Ok(Published::before(jid));
        }
        self.announce(user, jid, request, (recipients, syndics)).await
    }

    /// Returns whom a target means, here and below syndics, which are none of its minions then.
    pub(super) async fn addressed(
        &self,
        target: &TargetText,
    ) -> Result<(Recipients, Option<Arc<SyndicsConfig>>), CommandError> {
        let mut recipients = self.recipients(target).await?;
        let syndics = self.syndics_for(target, &recipients.missing);
        if syndics.is_some() {
            let relays = self.relays();
            recipients.minions.retain(|id| !relays.contains(id));
        }
        Ok((recipients, syndics))
    }
}

/// Makes a publication, or a `new` event, one for all these: what its parts have said of their targets no longer holds.
pub(super) fn address(load: &mut Map, mut ids: Vec<Value>) {
    ids.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    load.set("tgt", ids);
    load.set("tgt_type", TgtType::List.name());
    load.take("delimiter");
}
