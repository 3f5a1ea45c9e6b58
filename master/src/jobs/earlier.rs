//! What is known of a job whose jid is used again.

use std::collections::HashSet;

use proto::ids::MinionId;
use proto::target::TgtType;
use proto::value::{Map, MapExt, Value};

use crate::command::PublishRequest;

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

/// Makes a publication, or a `new` event, one for all these: what its parts have said of their targets no longer holds.
pub(super) fn address(load: &mut Map, mut ids: Vec<Value>) {
    ids.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    load.set("tgt", ids);
    load.set("tgt_type", TgtType::List.name());
    load.take("delimiter");
}
