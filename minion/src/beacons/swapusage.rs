//! Fires at each look while at least a share of the swap space is used.
//!
//! ```yaml
//! beacons:
//!   swapusage:
//!     - percent: 13%
//! ```
//!
//! A host without swap space uses 0 percent of it.

use proto::map;
use proto::value::Value;
use serde::Deserialize;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::percent::Percent;
use crate::host::swap;

pub(super) const KIND: Kind = Kind::new::<Swapusage>("swapusage");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The share of the swap space from which it fires, in percent: `13%`, `13` or `"13"`. No default.
    percent: Percent,
}

pub(super) struct Swapusage {
    config: Config,
}

impl Build for Swapusage {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Swapusage, BuildError> {
        Ok(Swapusage { config })
    }
}

impl Beacon for Swapusage {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        let swap = swap::read().map_err(|error| LookError(error.into()))?;
        Ok(self.judge(swap.percent_used()).into_iter().collect())
    }

    fn reading(&self) -> Result<Value, LookError> {
        let swap = swap::read().map_err(|error| LookError(error.into()))?;
        Ok(map! { "swapusage" => swap.percent_used() }.into())
    }
}

impl Swapusage {
    fn judge(&self, used: f64) -> Option<BeaconEvent> {
        (used >= self.config.percent.0).then(|| BeaconEvent::plain(map! { "swapusage" => used }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, used: f64, fires: bool) {
        let beacon = Swapusage { config: serde_json::from_str(json).unwrap() };
        let expected = fires.then(|| BeaconEvent::plain(map! { "swapusage" => used }));
        assert_eq!(beacon.judge(used), expected, "{json}");
    }

    #[test]
    fn it_fires_from_the_share_on() {
        check(r#"{"percent": "13%"}"#, 12.9, false);
        check(r#"{"percent": "13%"}"#, 13.0, true);
        check(r#"{"percent": 13}"#, 13.1, true);
        check(r#"{"percent": "0%"}"#, 0.0, true);
    }

    #[test]
    fn a_share_is_required() {
        for bad in ["{}", r#"{"percent": "much"}"#, r#"{"percent": 1, "share": 2}"#] {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
