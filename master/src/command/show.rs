//! What the master tells of itself: its minions, its state, its log.

use std::time::{Duration, SystemTime};

use proto::ids::MinionId;
use proto::value::{MapExt as _, Value};
use proto::{map, msgpack};

use super::{CommandError, Door, Reply};

impl Door {
    pub(super) async fn event_stats(&self) -> Result<Reply, CommandError> {
        let bus = &self.rooms.bus;
        let survey = bus.survey().await.ok_or_else(unreadable)?;
        let seconds = (survey.to_us - survey.from_us).max(1) as f64 / 1e6;
        let class = |(class, (events, bytes)): (String, (u64, u64))| {
            // One event has no rate.
            let rate = if survey.events > 1 { events as f64 / seconds } else { 0.0 };
            Value::from(map! { "class" => class, "events" => events, "bytes" => bytes, "per_s" => rate })
        };
        let segment = |segment: crate::bus::SegmentView| {
            Value::from(map! { "first" => segment.first, "last" => segment.last, "bytes" => segment.bytes,
            "sealed" => segment.sealed })
        };
        let looked = map! { "events" => survey.events, "from" => proto::ids::stamp(survey.from_us),
        "to" => proto::ids::stamp(survey.to_us) };
        let stats = map! {
            "head" => bus.head(),
            "newest" => looked,
            "classes" => Value::List(survey.classes.into_iter().map(class).collect()),
            "segments" => Value::List(bus.segments().into_iter().map(segment).collect()),
            "cursors" => self.rooms.cursors.list(),
        };
        Ok(Reply::Value(stats.into()))
    }

    pub(super) async fn offset_at(&self, stamp_us: i64) -> Result<Reply, CommandError> {
        let offset = self.rooms.bus.offset_at(stamp_us).await.ok_or_else(unreadable)?;
        Ok(Reply::Value(offset.into()))
    }

    pub(super) fn minions(&self) -> Value {
        let ids = self.rooms.keys.accepted_ids();
        let shown = ids.iter().map(|id| {
            let view = self.rooms.registry.view(id);
            let since = view.since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
            // A SUB of Salt's is anonymous, so nobody knows whether its minion is there.
            let is_salt = self.rooms.keys.is_salt(id);
            Value::from(map! {
                "id" => &view.id,
                "wire" => if is_salt { "salt" } else { "native" },
                "up" => if is_salt { Value::Null } else { view.up.into() },
                "since" => since.map(|since| proto::ids::stamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))),
                "left_s" => view.left_s,
                "seen_s" => if is_salt { view.heard_s } else { view.seen.map(|seen| seen.as_secs()) },
                "round_trip_ms" => view.round_trip.map(|trip| trip.as_secs_f64() * 1_000.0),
                "addr" => view.addr.map(|addr| addr.to_string()),
                "software" => if is_salt { self.salt_version(id) } else { view.software },
            })
        });
        Value::List(shown.collect())
    }

    /// Returns what a Salt minion's grains say of its version.
    fn salt_version(&self, id: &MinionId) -> Option<String> {
        let grains = self.rooms.registry.grains(id)?;
        let version = msgpack::decode_entries(&grains, |key| key == "saltversion").ok()?;
        version.text("saltversion").map(|version| format!("salt {version}"))
    }

    pub(super) fn status(&self) -> Value {
        let rooms = &self.rooms;
        let stats = rooms.bus.stats();
        let (connections, sessions) = rooms.registry.counts();
        map! {
            "id" => rooms.about.id.as_str(),
            "software" => crate::SOFTWARE,
            "pid" => std::process::id(),
            "confdir" => rooms.about.confdir.as_str(),
            "publish_addr" => rooms.about.publish_addr.as_str(),
            "ret_addr" => rooms.about.ret_addr.as_str(),
            "head" => rooms.bus.head(),
            "projected" => rooms.jobs.projected(),
            "connections" => connections,
            "sessions" => sessions,
            "accepted_keys" => rooms.keys.accepted_ids().len(),
            "refused_upgrades" => rooms.registry.refused_upgrades(),
            "bus" => map! {
                "events" => stats.events,
                "duplicates" => stats.duplicates,
                "skipped" => stats.skipped,
                "refused" => stats.refused,
                "not_durable" => stats.not_durable,
                "dropped" => stats.dropped,
                "fell_behind" => stats.fell_behind,
                "overtaken" => stats.overtaken,
                "commits" => stats.commits,
                "commit_p50_us" => micros(stats.commit_p50),
                "commit_p99_us" => micros(stats.commit_p99),
                "commit_max_us" => micros(stats.commit_max),
                "ring_events" => stats.ring_events,
                "ring_bytes" => stats.ring_bytes,
                "degraded" => stats.degraded.as_deref(),
            },
            "warnings" => rooms.about.warnings.load().to_vec(),
        }
        .into()
    }
}

fn unreadable() -> CommandError {
    CommandError::Busy("the event log cannot be read now; ask again in a moment".into())
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
