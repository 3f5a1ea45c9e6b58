//! What the reactor tells: log lines in Salt's words, and events under `halite/reactor/`.

use proto::map;
use proto::tag::Tag;
use proto::value::{Map, MapExt};
use render::yaml::Warning;

use super::state::{BURST, Limited, MAX_DEPTH, RATE_PER_S, Skipped};
use crate::bus::Bus;

/// Why a reaction, or a file of it, does not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The file, if one is at fault.
    pub(super) sls: Option<String>,
    /// The line in it, from 1.
    pub(super) line: Option<usize>,
    /// The id of the reaction, if one is at fault.
    pub(super) id: Option<String>,
    /// What is wrong, in Salt's words where it has some.
    pub(super) error: String,
}

impl Fault {
    /// Returns the fields of the event, and of the answer of `reactor test`.
    pub(super) fn to_map(&self, tag: &str) -> Map {
        let mut shown = map! { "tag" => tag };
        if let Some(sls) = &self.sls {
            shown.set("sls", sls.as_str());
        }
        if let Some(line) = self.line {
            shown.set("line", line);
        }
        if let Some(id) = &self.id {
            shown.set("id", id.as_str());
        }
        shown.set("error", self.error.as_str());
        shown
    }
}

/// Tells that something of an event's reaction does not happen.
pub(super) fn fault(bus: &Bus, tag: &str, fault: &Fault) {
    tracing::error!(tag, "{}", fault.error);
    bus.try_fire(Tag::reactor("error"), &fault.to_map(tag));
}

/// Tells that a file was mended while it was read.
pub(super) fn warning(bus: &Bus, tag: &str, warning: &Warning) {
    tracing::warn!(tag, "{warning}");
    bus.try_fire(Tag::reactor("warning"), &warning_map(warning));
}

/// Returns the fields of a warning.
pub(super) fn warning_map(warning: &Warning) -> Map {
    map! { "sls" => warning.file.as_str(), "line" => warning.line, "warning" => warning.message.as_str(),
    "corrected" => warning.corrected.as_str() }
}

/// Tells that a chain of reactions was cut.
pub(super) fn chain_cut(bus: &Bus, tag: &str, cause: &str) {
    tracing::error!(tag, cause, "reaction loop: more than {MAX_DEPTH} reactions follow from one another; stopped");
    bus.try_fire(Tag::reactor("loop"), &map! { "tag" => tag, "cause" => cause, "limit" => MAX_DEPTH });
}

/// Tells that a rule is over its limit.
pub(super) fn limited(bus: &Bus, tag: &str, limited: &Limited) {
    tracing::warn!(tag, rule = limited.rule, dropped = limited.dropped, "rule is over {RATE_PER_S} events a second");
    let data = map! { "rule" => limited.rule.as_str(), "tag" => tag, "dropped" => limited.dropped,
    "per_s" => RATE_PER_S, "burst" => BURST };
    bus.try_fire(Tag::reactor("limited"), &data);
}

/// Tells what was too old after an outage.
pub(super) fn skipped(bus: &Bus, skipped: &Skipped, max_age_s: u64) {
    tracing::warn!(count = skipped.count, "events older than reactor_max_age ({max_age_s} s) set nothing off");
    let data = map! { "count" => skipped.count, "tags" => skipped.tags.clone(), "first_offset" => skipped.first,
    "last_offset" => skipped.last, "max_age_s" => max_age_s };
    bus.try_fire(Tag::reactor("skipped"), &data);
}
