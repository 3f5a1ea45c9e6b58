//! What minions are told of a job.

use proto::ids::Jid;
use proto::map;
use proto::value::{Map, MapExt};

use crate::command::PublishRequest;
use crate::salt::SyndicsConfig;

/// What tells a syndic how many seconds it may take.
const TO: &str = "to";

/// Returns the fields of a publication in Salt's order (salt-wire.md §4.2).
pub(super) fn fields(user: &str, jid: &Jid, request: &PublishRequest, syndics: Option<&SyndicsConfig>) -> Map {
    let mut load = map! {
        "fun" => request.fun.clone(),
        "arg" => request.arg.clone(),
        "tgt" => request.target.tgt.clone(),
        "jid" => jid,
        "ret" => request.ret.as_str(),
        "tgt_type" => if request.target.tgt_type.is_empty() { "glob" } else { request.target.tgt_type.as_str() },
        "user" => user,
    };
    if let Some(delimiter) = &request.target.delimiter {
        load.set("delimiter", delimiter.as_str());
    }
    if let Some(metadata) = &request.metadata {
        load.set("metadata", metadata.clone());
    }
    load.extend(request.options.clone());
    match syndics {
        Some(syndics) if load.at(TO).is_none() => load.set(TO, syndics.timeout.as_secs()),
        Some(_) => {}
        None => drop(load.take(TO)),
    }
    load
}
