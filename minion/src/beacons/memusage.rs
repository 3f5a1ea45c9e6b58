//! Fires at each look while more than a share of the memory is used.
//!
//! ```yaml
//! beacons:
//!   memusage:
//!     - percent: 63%
//! ```

use proto::map;
use proto::value::Value;
use serde::Deserialize;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::memory;

pub(super) const KIND: Kind = Kind::new::<Memusage>("memusage");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The share of memory from which it fires, in percent: `63%`, `63` or `"63"`. No default.
    percent: serde_json::Value,
}

pub(super) struct Memusage {
    percent: f64,
}

impl Build for Memusage {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Memusage, BuildError> {
        let bad = || BuildError::Options(format!("percent: expected a share such as 63%, found {}", config.percent));
        percent(&config.percent).map(|percent| Memusage { percent }).ok_or_else(bad)
    }
}

impl Beacon for Memusage {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        let memory = memory::read().map_err(|error| LookError(error.into()))?;
        Ok(self.judge(memory.percent_used).into_iter().collect())
    }

    fn reading(&self) -> Result<Value, LookError> {
        let memory = memory::read().map_err(|error| LookError(error.into()))?;
        Ok(map! { "memusage" => memory.percent_used }.into())
    }
}

impl Memusage {
    fn judge(&self, used: f64) -> Option<BeaconEvent> {
        (used >= self.percent).then(|| BeaconEvent::plain(map! { "memusage" => used }))
    }
}

fn percent(value: &serde_json::Value) -> Option<f64> {
    let number = match value {
        serde_json::Value::String(text) => text.replace('%', "").trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_several_ways() {
        let check =
            |json: &str, expected| assert_eq!(percent(&serde_json::from_str(json).unwrap()), expected, "{json}");
        check("\"63%\"", Some(63.0));
        check("63", Some(63.0));
        check("63.5", Some(63.5));
        check("\" 7 %\"", Some(7.0));
        check("\"much\"", None);
        check("true", None);
    }

    #[test]
    fn it_fires_from_the_share_on() {
        let beacon = Memusage { percent: 7.3 };
        assert_eq!(beacon.judge(7.2), None);
        assert_eq!(beacon.judge(7.3), Some(BeaconEvent::plain(map! { "memusage" => 7.3 })));
    }
}
