//! What the bus told, counted; and what the log has of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::api::events::EventView;

/// The tag of the events that are sent to see whether the log keeps what was acknowledged.
pub(super) const PROBE: &str = "demo/probe";

/// Counts of one demonstration.
#[derive(Debug, Default)]
pub(super) struct Tally {
    beacons: BTreeMap<String, u64>,
    started: HashSet<String>,
    reactions: u64,
    jobs: u64,
    returns: u64,
    /// Durable events that were seen live, by offset.
    seen: HashMap<u64, String>,
    probes: usize,
}

impl Tally {
    /// Counts a live event.
    pub(super) fn count(&mut self, event: &EventView) {
        let parts: Vec<&str> = event.tag.split('/').collect();
        match parts.as_slice() {
            ["salt", "beacon", _, name, ..] => *self.beacons.entry((*name).to_owned()).or_default() += 1,
            ["salt", "minion", id, "start"] => drop(self.started.insert((*id).to_owned())),
            ["salt", "job", _, "new"] => {
                self.jobs += 1;
                // The demonstration's only reaction asks for this; a reaction publishes as the master's own user.
                self.reactions += u64::from(event.data["arg"][0] == super::activity::REACTION_RUNS);
            }
            ["salt", "job", _, "ret", ..] => self.returns += 1,
            _ => {}
        }
        if event.durable {
            self.seen.insert(event.offset, event.tag.clone());
        }
    }

    /// Notes an event that is in the log.
    pub(super) fn in_log(&mut self, event: &EventView) {
        self.probes += usize::from(event.tag == PROBE);
        if self.seen.get(&event.offset) == Some(&event.tag) {
            self.seen.remove(&event.offset);
        }
    }

    /// Returns how many events were acknowledged, or shown as durable, and are not in the log. An acknowledged event
    /// that is there twice counts as wrong too.
    pub(super) fn lost(&self, acknowledged: usize) -> usize {
        self.seen.len() + acknowledged.abs_diff(self.probes)
    }

    /// Returns how many minions have started.
    pub(super) fn started(&self) -> usize {
        self.started.len()
    }

    /// Returns how many events a beacon fired.
    pub(super) fn beacon(&self, name: &str) -> u64 {
        self.beacons.get(name).copied().unwrap_or(0)
    }

    /// Returns how many jobs the reactor published.
    pub(super) fn reactions(&self) -> u64 {
        self.reactions
    }

    /// Returns how many jobs there were.
    pub(super) fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Returns how many returns came.
    pub(super) fn returns(&self) -> u64 {
        self.returns
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(offset: u64, tag: &str, data: serde_json::Value) -> EventView {
        EventView { tag: tag.into(), offset, durable: true, data }
    }

    #[test]
    fn what_was_seen_and_is_not_in_the_log_is_lost() {
        let mut tally = Tally::default();
        let job =
            event(1, "salt/job/20261120235232821625/new", json!({"arg": [super::super::activity::REACTION_RUNS]}));
        let ret = event(2, "salt/job/20261120235232821625/ret/edge1", json!({}));
        let beacon = event(3, "salt/beacon/edge1/load/", json!({}));
        let probe = event(4, PROBE, json!({}));
        for event in [&job, &ret, &beacon, &probe] {
            tally.count(event);
        }
        assert_eq!((tally.reactions(), tally.jobs(), tally.returns(), tally.beacon("load")), (1, 1, 1, 1));
        assert_eq!(tally.lost(1), 5, "nothing is in the log yet");
        for event in [&job, &ret, &beacon, &probe] {
            tally.in_log(event);
        }
        assert_eq!(tally.lost(1), 0);
        assert_eq!(tally.lost(2), 1, "an acknowledged probe is missing");
        tally.in_log(&probe);
        assert_eq!(tally.lost(1), 1, "a probe is there twice");
    }
}
