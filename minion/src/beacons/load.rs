//! Fires when a one-, five- or fifteen-minute load average leaves its range.
//!
//! ```yaml
//! beacons:
//!   load:
//!     - averages:
//!         1m: [0.0, 2.0]
//!         5m: [0.0, 1.5]
//!         15m: [0.1, 1.0]
//!     - onchangeonly: True
//!     - emitatstartup: False
//! ```
//!
//! Without `onchangeonly` it fires at each look outside a range; with it, when a value crosses a bound outward.

use proto::map;
use proto::value::{Map, Value};
use serde::Deserialize;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::load::{self, Averages};

pub(super) const KIND: Kind = Kind::new::<Load>("load");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The ranges, `[low, high]`, of processes that run or wait. Default: none, so nothing fires.
    #[serde(default)]
    averages: Ranges,
    /// Whether to fire only when a value crosses a bound. Default: False.
    #[serde(default)]
    onchangeonly: bool,
    /// With `onchangeonly`: whether the first look is judged. As in Salt, it has nothing to compare with and fires nothing
    /// either way. Default: True.
    #[serde(default = "yes")]
    emitatstartup: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranges {
    #[serde(rename = "1m")]
    one: Option<[f64; 2]>,
    #[serde(rename = "5m")]
    five: Option<[f64; 2]>,
    #[serde(rename = "15m")]
    fifteen: Option<[f64; 2]>,
}

fn yes() -> bool {
    true
}

pub(super) struct Load {
    config: Config,
    last: Option<Averages>,
}

impl Build for Load {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Load, BuildError> {
        Ok(Load { config, last: None })
    }
}

impl Beacon for Load {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        let now = load::read().map_err(|error| LookError(error.into()))?;
        Ok(self.judge(now).into_iter().collect())
    }

    fn reading(&self) -> Result<Value, LookError> {
        load::read().map(|now| data(now).into()).map_err(|error| LookError(error.into()))
    }
}

impl Load {
    fn judge(&mut self, now: Averages) -> Option<BeaconEvent> {
        let last = self.last.replace(now);
        let Config { averages, onchangeonly, emitatstartup } = &self.config;
        if *onchangeonly && last.is_none() && !emitatstartup {
            return None;
        }
        let before = last.unwrap_or(now);
        let pairs = [
            (averages.one, now.one, before.one),
            (averages.five, now.five, before.five),
            (averages.fifteen, now.fifteen, before.fifteen),
        ];
        let fires = |range: Option<[f64; 2]>, now: f64, before: f64| {
            let Some([low, high]) = range else { return false };
            let outside = now < low || now > high;
            let crossed = (now > high && before < high) || (now < low && before > low);
            if *onchangeonly { crossed } else { outside }
        };
        pairs.into_iter().any(|(range, now, before)| fires(range, now, before)).then(|| BeaconEvent::plain(data(now)))
    }
}

fn data(now: Averages) -> Map {
    map! { "1m" => now.one, "5m" => now.five, "15m" => now.fifteen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon(json: &str) -> Load {
        Load { config: serde_json::from_str(json).unwrap(), last: None }
    }

    /// Gives one-minute averages one after the other; tells which looks fire.
    fn check(json: &str, looks: &[f64], expected: &[bool]) {
        let mut load = beacon(json);
        let fired: Vec<bool> =
            looks.iter().map(|one| load.judge(Averages { one: *one, five: 1.0, fifteen: 1.0 }).is_some()).collect();
        assert_eq!(fired, expected, "{json}");
    }

    #[test]
    fn it_fires_at_each_look_outside_the_range() {
        let json = r#"{"averages": {"1m": [0.5, 2.0]}}"#;
        check(json, &[1.0, 2.5, 2.5, 2.0, 0.5, 0.4], &[false, true, true, false, false, true]);
    }

    #[test]
    fn with_onchangeonly_it_fires_when_a_bound_is_crossed_outward() {
        for startup in ["", r#", "emitatstartup": false"#] {
            let json = format!(r#"{{"averages": {{"1m": [0.5, 2.0]}}, "onchangeonly": true{startup}}}"#);
            check(&json, &[2.5, 2.5, 1.0, 2.5, 2.6, 0.4, 0.3], &[false, false, false, true, false, true, false]);
        }
    }

    #[test]
    fn any_average_can_fire_and_none_fires_without_a_range() {
        check("{}", &[100.0], &[false]);
        check(r#"{"averages": {"15m": [0.0, 0.5]}}"#, &[0.0], &[true]);
    }

    #[test]
    fn the_event_is_salts() {
        let mut load = beacon(r#"{"averages": {"1m": [0.0, 0.0]}}"#);
        let event = load.judge(Averages { one: 1.26806640625, five: 0.9423828125, fifteen: 1.01611328125 }).unwrap();
        assert_eq!(event.suffix, "");
        assert_eq!(event.data, map! { "1m" => 1.26806640625, "5m" => 0.9423828125, "15m" => 1.01611328125 });
    }

    #[test]
    fn options_of_others_are_refused() {
        for bad in [r#"{"averages": {"2m": [0, 1]}}"#, r#"{"averages": {"1m": [0]}}"#, r#"{"percent": 1}"#] {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
