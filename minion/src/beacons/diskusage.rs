//! Fires at each look for each mounted file system that is fuller than its share.
//!
//! ```yaml
//! beacons:
//!   diskusage:
//!     - /: 63%
//!     - /mnt/nfs: 50%
//!     - '^\/(?!home).*$': 90%
//! ```
//!
//! A mount point is a regular expression for the whole of it, as in Salt; a plain path is one too. One that several match is
//! judged by each.

use std::collections::BTreeSet;

use fancy_regex::Regex;
use proto::map;
use proto::value::{Map, MapExt, Value as Seen};
use serde::Deserialize;
use serde_json::{Map as Json, Value};
use tracing::debug;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::filesystem;
use crate::host::percent::{self, Percent};

pub(super) const KIND: Kind = Kind::new::<Diskusage>("diskusage");

/// Mount points and the share of each, in percent, from which it fires: `63%`, `63` or `"63"`. Default: none, so nothing
/// fires. The share is what `df` shows: what users without rights can still fill counts as free.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Json<String, Value>")]
pub(super) struct Config(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    mount: Regex,
    percent: Percent,
}

impl TryFrom<Json<String, Value>> for Config {
    type Error = String;

    fn try_from(options: Json<String, Value>) -> Result<Config, String> {
        let watched = options.into_iter().map(|(mount, share)| {
            let percent = serde_json::from_value(share).map_err(|error| format!("{mount}: {error}"))?;
            let whole = if mount.ends_with('$') { mount.clone() } else { format!("{mount}$") };
            let regex = Regex::new(&whole);
            regex
                .map(|mount| Watched { mount, percent })
                .map_err(|error| format!("{mount}: expected a mount point, which is a regular expression: {error}"))
        });
        watched.collect::<Result<_, _>>().map(Config)
    }
}

pub(super) struct Diskusage {
    config: Config,
}

impl Build for Diskusage {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Diskusage, BuildError> {
        Ok(Diskusage { config })
    }
}

impl Beacon for Diskusage {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        // What is mounted over is listed too, and cannot be seen.
        let points: BTreeSet<String> = filesystem::mounts().into_iter().map(|mount| mount.point).collect();
        Ok(self.judge(&points, used))
    }

    fn reading(&self) -> Result<Seen, LookError> {
        let Diskusage { config: Config(watched) } = self;
        let mut seen = Map::new();
        for mount in filesystem::mounts() {
            if watched.iter().any(|watched| matches_from_start(&watched.mount, &mount.point)) {
                seen.set(&mount.point, used(&mount.point));
            }
        }
        Ok(seen.into())
    }
}

/// Returns how much of a file system is used, in percent: `psutil.disk_usage(point).percent`.
fn used(point: &str) -> Option<f64> {
    match filesystem::usage(point) {
        Ok(usage) => Some(percent::of(usage.used(), usage.used().saturating_add(usage.available))),
        Err(error) => {
            // Some mounts are for one user only, as FUSE's.
            debug!(point, %error, "a mount point is not looked at");
            None
        }
    }
}

impl Diskusage {
    /// Asks only about the mount points that are watched: others may be slow to answer.
    fn judge(&self, points: &BTreeSet<String>, used: impl Fn(&str) -> Option<f64>) -> Vec<BeaconEvent> {
        let Diskusage { config: Config(watched) } = self;
        let pairs = watched.iter().flat_map(|watched| {
            let matching = points.iter().filter(|point| matches_from_start(&watched.mount, point));
            matching.map(|point| (point.as_str(), watched.percent.0))
        });
        let full = pairs.filter_map(|(point, share)| Some((point, used(point).filter(|used| *used >= share)?)));
        full.map(|(point, used)| BeaconEvent::plain(map! { "diskusage" => used, "mount" => point })).collect()
    }
}

/// Python's `re.match`. An expression that gives up does not match.
fn matches_from_start(regex: &Regex, text: &str) -> bool {
    regex.find(text).is_ok_and(|found| found.is_some_and(|found| found.start() == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(point: &str) -> Option<f64> {
        let all = [("/", 16.8), ("/home", 95.0), ("/mnt/a.b", 50.0), ("/mnt/axb", 50.0), ("/proc", 0.0)];
        all.iter().find(|(known, _)| *known == point).map(|(_, used)| *used)
    }

    fn check(json: &str, expected: &[&str]) {
        let beacon = Diskusage { config: serde_json::from_str(json).unwrap() };
        let points = ["/", "/home", "/mnt/a.b", "/mnt/axb", "/proc", "/secret"].map(str::to_owned).into();
        let fired: Vec<String> = beacon
            .judge(&points, usage)
            .iter()
            .map(|event| proto::value::Value::Map(event.data.clone()).to_json()["mount"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(fired, expected, "{json}");
    }

    #[test]
    fn full_mount_points_fire_in_the_options_order() {
        check(r#"{"/": "1%"}"#, &["/"]);
        check(r#"{"/": "16.9%", "/home": 95}"#, &["/home"]);
        check(r#"{"/home": 95, "/": "1%"}"#, &["/home", "/"]);
        check(r#"{"/secret": 0, "/gone": 0}"#, &[]);
        check("{}", &[]);
    }

    #[test]
    fn a_mount_point_is_an_expression_for_the_whole_of_it() {
        check(r#"{"/mnt/a.b": 0}"#, &["/mnt/a.b", "/mnt/axb"]);
        check(r#"{"mnt": 0, "/mnt": 0}"#, &[]);
        check(r#"{"^\\/(?!home).*$": "10%"}"#, &["/", "/mnt/a.b", "/mnt/axb"]);
        check(r#"{"/": 1, "/.*": 90}"#, &["/", "/home"]);
    }

    #[test]
    fn the_event_is_salts() {
        let beacon = Diskusage { config: serde_json::from_str(r#"{"/": "1%"}"#).unwrap() };
        let event = BeaconEvent::plain(map! { "diskusage" => 16.8, "mount" => "/" });
        assert_eq!(beacon.judge(&["/".to_owned()].into(), usage), [event]);
    }

    #[test]
    fn the_root_of_this_host_is_used() {
        let root = used("/").unwrap();
        assert!((0.0..=100.0).contains(&root), "{root}");
        assert_eq!(used("/no/such/place"), None);
    }

    #[test]
    fn what_is_no_share_or_no_expression_is_refused() {
        let check = |json: &str, expected: &str| {
            let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(r#"{"/": "much"}"#, "/: expected a share such as 63%, found \"much\"");
        check(r#"{"/(": 1}"#, "/(: expected a mount point, which is a regular expression");
    }
}
