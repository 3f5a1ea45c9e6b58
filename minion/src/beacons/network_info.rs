//! Fires at each look for each interface of which a counter is equal to, or greater than, its threshold.
//!
//! ```yaml
//! beacons:
//!   network_info:
//!     - interfaces:
//!         eth0:
//!           type: greater
//!           bytes_sent: 100000
//!           errin: 100
//! ```

use std::collections::BTreeMap;

use proto::map;
use proto::value::{Map, Value as Seen};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::traffic::{self, Traffic};

pub(super) const KIND: Kind = Kind::new::<NetworkInfo>("network_info");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The interfaces that are watched, by name, each with at least one threshold. One that the host has not got fires
    /// nothing. Default: none.
    #[serde(default, deserialize_with = "interfaces")]
    interfaces: BTreeMap<String, Thresholds>,
}

/// Thresholds of the counters, which begin at 0 when the interface comes up. Each: a whole number; default: not watched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// How a counter is compared: `equal` or `greater`. Default: `equal`.
    #[serde(default)]
    r#type: Comparison,
    /// Bytes out.
    #[serde(default, deserialize_with = "count")]
    bytes_sent: Option<u64>,
    /// Bytes in.
    #[serde(default, deserialize_with = "count")]
    bytes_recv: Option<u64>,
    /// Packets out.
    #[serde(default, deserialize_with = "count")]
    packets_sent: Option<u64>,
    /// Packets in.
    #[serde(default, deserialize_with = "count")]
    packets_recv: Option<u64>,
    /// Errors while receiving.
    #[serde(default, deserialize_with = "count")]
    errin: Option<u64>,
    /// Errors while sending.
    #[serde(default, deserialize_with = "count")]
    errout: Option<u64>,
    /// Incoming packets that were dropped.
    #[serde(default, deserialize_with = "count")]
    dropin: Option<u64>,
    /// Outgoing packets that were dropped.
    #[serde(default, deserialize_with = "count")]
    dropout: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Comparison {
    #[default]
    Equal,
    Greater,
}

/// Reads a count: a number, or a number as text.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    };
    number.map(Some).ok_or_else(|| D::Error::custom(format!("expected a whole number, found {value}")))
}

/// Refuses an interface that could never fire, as Salt does.
fn interfaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Thresholds>, D::Error> {
    let interfaces: BTreeMap<String, Thresholds> = BTreeMap::deserialize(deserializer)?;
    let idle =
        |thresholds: &Thresholds| thresholds.pairs(&Traffic::default()).iter().all(|(wanted, _)| wanted.is_none());
    match interfaces.iter().find(|(_, thresholds)| idle(thresholds)) {
        Some((name, _)) => Err(D::Error::custom(format!("interface {name} has no threshold, such as `errin: 100`"))),
        None => Ok(interfaces),
    }
}

impl Thresholds {
    /// Returns each threshold with the counter that it is for.
    fn pairs(&self, now: &Traffic) -> [(Option<u64>, u64); 8] {
        [
            (self.bytes_sent, now.bytes_sent),
            (self.bytes_recv, now.bytes_recv),
            (self.packets_sent, now.packets_sent),
            (self.packets_recv, now.packets_recv),
            (self.errin, now.errin),
            (self.errout, now.errout),
            (self.dropin, now.dropin),
            (self.dropout, now.dropout),
        ]
    }

    fn met(&self, now: &Traffic) -> bool {
        let met = |wanted: u64, count: u64| match self.r#type {
            Comparison::Equal => count == wanted,
            Comparison::Greater => count > wanted,
        };
        self.pairs(now).into_iter().any(|(wanted, count)| wanted.is_some_and(|wanted| met(wanted, count)))
    }
}

pub(super) struct NetworkInfo {
    config: Config,
}

impl Build for NetworkInfo {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<NetworkInfo, BuildError> {
        Ok(NetworkInfo { config })
    }
}

impl Beacon for NetworkInfo {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        traffic::read().map(|now| self.judge(&now)).map_err(|error| LookError(error.into()))
    }

    fn reading(&self) -> Result<Seen, LookError> {
        let now = traffic::read().map_err(|error| LookError(error.into()))?;
        let seen = |name: &String| now.get(name).map_or(Seen::Null, |traffic| data(traffic).into());
        let names = self.config.interfaces.keys();
        Ok(names.map(|name| (Seen::from(name.as_str()), seen(name))).collect::<Map>().into())
    }
}

impl NetworkInfo {
    fn judge(&self, now: &BTreeMap<String, Traffic>) -> Vec<BeaconEvent> {
        let known = self.config.interfaces.iter().filter_map(|(name, wanted)| Some((name, wanted, now.get(name)?)));
        let met = known.filter(|(_, wanted, now)| wanted.met(now));
        met.map(|(name, _, now)| BeaconEvent::plain(map! { "interface" => name.as_str(), "network_info" => data(now) }))
            .collect()
    }
}

fn data(now: &Traffic) -> Map {
    map! {
        "bytes_sent" => now.bytes_sent,
        "bytes_recv" => now.bytes_recv,
        "packets_sent" => now.packets_sent,
        "packets_recv" => now.packets_recv,
        "errin" => now.errin,
        "errout" => now.errout,
        "dropin" => now.dropin,
        "dropout" => now.dropout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Traffic = Traffic {
        bytes_sent: 1_858_170_348,
        bytes_recv: 1_858_170_348,
        packets_sent: 623_489,
        packets_recv: 623_489,
        errin: 0,
        errout: 0,
        dropin: 3_607,
        dropout: 0,
    };

    fn judge(json: &str) -> Vec<BeaconEvent> {
        let beacon = NetworkInfo { config: serde_json::from_str(json).unwrap() };
        beacon.judge(&BTreeMap::from([("lo".to_owned(), NOW)]))
    }

    /// Tells whether these thresholds of `lo` fire.
    fn check(thresholds: &str, fires: bool) {
        assert_eq!(
            judge(&format!(r#"{{"interfaces": {{"lo": {thresholds}}}}}"#)).len(),
            usize::from(fires),
            "{thresholds}"
        );
    }

    #[test]
    fn any_counter_can_fire() {
        check(r#"{"type": "greater", "dropin": 3606, "errin": 5}"#, true);
        check(r#"{"type": "greater", "dropin": 3607}"#, false);
        check(r#"{"type": "equal", "dropin": 3607}"#, true);
        check(r#"{"dropin": "3607"}"#, true);
        check(r#"{"dropin": 3606}"#, false);
        check(r#"{"errin": 0}"#, true);
    }

    #[test]
    fn the_event_is_salts() {
        let data = map! {
            "bytes_sent" => 1_858_170_348u64, "bytes_recv" => 1_858_170_348u64, "packets_sent" => 623_489,
            "packets_recv" => 623_489, "errin" => 0, "errout" => 0, "dropin" => 3_607, "dropout" => 0,
        };
        let json =
            r#"{"interfaces": {"eth9": {"errin": 0}, "lo": {"type": "greater", "bytes_sent": 1, "dropout": 0}}}"#;
        assert_eq!(judge(json), [BeaconEvent::plain(map! { "interface" => "lo", "network_info" => data })]);
    }

    #[test]
    fn what_cannot_fire_is_refused() {
        let check = |thresholds: &str, expected: &str| {
            let json = format!(r#"{{"interfaces": {{"lo": {thresholds}}}}}"#);
            let error = serde_json::from_str::<Config>(&json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{}", "interface lo has no threshold");
        check(r#"{"type": "greater"}"#, "interface lo has no threshold");
        check(r#"{"type": "less", "errin": 1}"#, "unknown variant `less`, expected `equal` or `greater`");
        check(r#"{"errors": 1}"#, "unknown field `errors`, expected one of `type`, `bytes_sent`");
        check(r#"{"errin": -1}"#, "expected a whole number, found -1");
        check("[]", "");
    }
}
