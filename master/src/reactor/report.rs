//! What the reactor tells: log lines in Salt's words, and events under `halite/reactor/`.

use proto::map;
use proto::tag::Tag;
use proto::value::{Map, MapExt};
use render::yaml::Warning;

use super::high::Chunk;
use super::state::{BreakerNews, Guards, Held, Limited, MAX_DEPTH, Skipped, Standing};
use crate::bus::Bus;

/// Why a reaction, or a file of it, does not happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// The rule, if one is at fault.
    pub(super) rule: Option<String>,
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
    /// Builds that of one reaction.
    pub(super) fn of(chunk: Chunk, error: String) -> Fault {
        let rule = Some(chunk.rule).filter(|rule| !rule.is_empty());
        Fault { rule, sls: Some(chunk.sls), line: None, id: Some(chunk.id), error }
    }

    /// Returns the fields of the event, and of the answer of `reactor test`.
    pub(super) fn to_map(&self, tag: &str) -> Map {
        let mut shown = map! { "tag" => tag };
        if let Some(rule) = &self.rule {
            shown.set("rule", rule.as_str());
        }
        if let Some(sls) = &self.sls {
            shown.set("file", sls.as_str());
        }
        if let Some(line) = self.line {
            shown.set("line", line);
        }
        if let Some(id) = &self.id {
            shown.set("id", id.as_str());
        }
        shown.set("reason", self.error.as_str());
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
    map! { "file" => warning.file.as_str(), "line" => warning.line, "warning" => warning.message.as_str(),
    "corrected" => warning.corrected.as_str() }
}

/// Tells that a chain of reactions was cut.
pub(super) fn chain_cut(bus: &Bus, tag: &str, cause: &str) {
    tracing::error!(tag, cause, "reaction loop: more than {MAX_DEPTH} reactions follow from one another; stopped");
    bus.try_fire(Tag::reactor("loop"), &map! { "tag" => tag, "cause" => cause, "limit" => MAX_DEPTH });
}

/// Tells that a rule is held back.
pub(super) fn limited(bus: &Bus, tag: &str, limited: &Limited, guards: &Guards) {
    let Limited { rule, held, dropped } = limited;
    let mut data = map! { "rule" => rule.as_str(), "tag" => tag, "dropped" => *dropped };
    match held {
        Held::Rate => {
            tracing::warn!(
                tag,
                rule,
                dropped,
                "rule is over {} events a second (reactor_rate_limit)",
                guards.rate_per_s
            );
            data.set("per_s", guards.rate_per_s);
            data.set("burst", guards.burst);
            bus.try_fire(Tag::reactor("limited"), &data);
        }
        Held::Repeat => {
            tracing::info!(tag, rule, dropped, "rule has reacted to the same event within reactor_dedup_window");
            data.set("window_s", seconds(guards.repeats_us));
            bus.try_fire(Tag::reactor("deduplicated"), &data);
        }
    }
}

/// Tells that a rule was switched off for a while, or that it works again.
pub(super) fn breaker(bus: &Bus, tag: &str, rule: &str, news: &BreakerNews, guards: &Guards) {
    let mut data = map! { "rule" => rule, "tag" => tag };
    match news {
        BreakerNews::Opened { failures, until_us } => {
            let (off_s, until) = (seconds(guards.off_us), proto::ids::stamp(*until_us));
            tracing::error!(rule, failures, "rule has failed again and again; it reacts to nothing for {off_s} s");
            data.set("state", "open");
            data.set("failures", *failures);
            data.set("open_s", off_s);
            data.set("until", until);
        }
        BreakerNews::Closed { skipped } => {
            tracing::info!(rule, skipped, "rule works again");
            data.set("state", "closed");
            data.set("skipped", *skipped);
        }
    }
    bus.try_fire(Tag::reactor("breaker"), &data);
}

#[expect(clippy::cast_precision_loss, reason = "a span of years, in seconds, is exact to the millisecond")]
fn seconds(us: i64) -> f64 {
    us as f64 / 1_000_000.0
}

/// Returns the fields that `reactor list` shows of a rule.
pub(super) fn standing(standing: &Standing) -> Map {
    let Standing { counts, open_until_us } = standing;
    map! { "fired" => counts.fired, "failed" => counts.failed, "limited" => counts.limited,
    "deduplicated" => counts.deduplicated, "skipped" => counts.skipped,
    "breaker" => if open_until_us.is_some() { "open" } else { "closed" },
    "open_until" => open_until_us.map(proto::ids::stamp) }
}

/// Tells what was too old after an outage.
pub(super) fn skipped(bus: &Bus, skipped: &Skipped, max_age_s: u64) {
    tracing::warn!(count = skipped.count, "events older than reactor_max_age ({max_age_s} s) set nothing off");
    let data = map! { "count" => skipped.count, "tags" => skipped.tags.clone(), "first_offset" => skipped.first,
    "last_offset" => skipped.last, "max_age_s" => max_age_s };
    bus.try_fire(Tag::reactor("skipped"), &data);
}
