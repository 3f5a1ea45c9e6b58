//! Presence events: who is connected, and who came and went (option `presence_events`).
//!
//! Presence itself is a fact of the session registry; this part only tells it to the bus, as Salt does: `present` at
//! every interval, `change` only when there was one.

mod state;

use std::time::Duration;

use proto::map;
use proto::tag::Tag;
use proto::value::Value;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::sessions::Registry;
use state::PresenceState;

/// How presence is told.
#[derive(Debug, Clone)]
pub struct PresenceConfig {
    /// Fire the events at all (`presence_events`, default off).
    pub events: bool,
    /// How often (`loop_interval`, seconds, default 60).
    pub interval: Duration,
}

/// Tells presence until the token is cancelled.
pub async fn run(config: PresenceConfig, bus: Bus, registry: Registry, stop: CancellationToken) {
    if !config.events {
        return stop.cancelled().await;
    }
    let mut state = PresenceState::default();
    let mut tick = tokio::time::interval(config.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let present = registry.present();
        let ids = |ids: &[proto::ids::MinionId]| ids.iter().map(Value::from).collect::<Vec<_>>();
        if let Some((new, lost)) = state.change(&present) {
            bus.try_fire(Tag::presence_change(), &map! { "new" => ids(&new), "lost" => ids(&lost) });
        }
        bus.try_fire(Tag::presence_present(), &map! { "present" => ids(&present) });
    }
}
