//! Fires at each look while at least a share of the memory is used.
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
use crate::host::percent::Percent;

pub(super) const KIND: Kind = Kind::new::<Memusage>("memusage");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// From which share of the memory on it fires: `63%`, `63` or `"63"`. No default.
    percent: Percent,
}

pub(super) struct Memusage {
    config: Config,
}

impl Build for Memusage {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Memusage, BuildError> {
        Ok(Memusage { config })
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
        (used >= self.config.percent.0).then(|| BeaconEvent::plain(map! { "memusage" => used }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, used: f64, fires: bool) {
        let beacon = Memusage { config: serde_json::from_str(json).unwrap() };
        let expected = fires.then(|| BeaconEvent::plain(map! { "memusage" => used }));
        assert_eq!(beacon.judge(used), expected, "{json}");
    }

    #[test]
    fn it_fires_from_the_share_on_however_it_is_written() {
        check(r#"{"percent": 7.3}"#, 7.2, false);
        check(r#"{"percent": "7.3%"}"#, 7.3, true);
        check(r#"{"percent": " 7 %"}"#, 7.3, true);
        check(r#"{"percent": "63"}"#, 62.9, false);
    }

    #[test]
    fn a_share_is_required() {
        for bad in ["{}", r#"{"percent": "much"}"#, r#"{"percent": true}"#, r#"{"percent": 1, "share": 2}"#] {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
