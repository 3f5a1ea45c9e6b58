//! Fires for services that run, or do not: at each look, or when that changes.
//!
//! ```yaml
//! beacons:
//!   service:
//!     - services:
//!         cron: {}
//!         nginx:
//!           onchangeonly: True
//!           delay: 30
//!           uncleanshutdown: /run/nginx.pid
//! ```
//!
//! systemd, OpenRC or the scripts in `/etc/init.d` are asked, whichever starts the services of this host. The tag's suffix is
//! the service's name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::map;
use proto::value::{Map, MapExt, Value as Told};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::{Map as Json, Value};
use tracing::warn;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::service::{self, Init};

pub(super) const KIND: Kind = Kind::new::<Service>("service");

/// How long one service may take to be asked about.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a whole look may ask. It stays within a look's deadline.
const LOOK_PATIENCE: Duration = Duration::from_secs(20);
/// The longest delay: a day.
const MAX_DELAY_S: f64 = 86_400.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The services that are watched, by name. No default.
    services: Services,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Json<String, Value>")]
struct Services(Vec<(String, Options)>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// With `onchangeonly`: how long after a change it fires, in seconds. What has changed back by then fires as it is then.
    /// Default: 0.
    #[serde(default, deserialize_with = "seconds")]
    delay: Duration,
    /// With `onchangeonly`: whether the first look fires. Default: True.
    #[serde(default = "yes")]
    emitatstartup: bool,
    /// Fires only while the service runs, or only while it does not. Default: both.
    is_running_state: Option<bool>,
    /// Whether to fire only when the service has started or stopped. Default: False.
    #[serde(default)]
    onchangeonly: bool,
    /// Salt knows the word and does nothing with it. Default: False.
    #[serde(default, rename = "oncleanshutdown")]
    _oncleanshutdown: bool,
    /// The service's pid file. If it is still there when the service does not run, the event has `uncleanshutdown: True`,
    /// else False. Default: none.
    uncleanshutdown: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !(0.0..=MAX_DELAY_S).contains(&seconds) {
        return Err(D::Error::custom(format!("delay: expected seconds, at most a day, found {seconds}")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

impl TryFrom<Json<String, Value>> for Services {
    type Error = String;

    fn try_from(services: Json<String, Value>) -> Result<Services, String> {
        let services = services.into_iter().map(|(name, options)| {
            if !service::is_name(&name) {
                return Err(format!("{name:?} is no service's name; patterns are not expanded"));
            }
            // `cron:` without anything is what Salt's own examples mean by `cron: {}`.
            let options = if options.is_null() { Value::Object(Json::new()) } else { options };
            let options = serde_json::from_value(options).map_err(|error| format!("service {name}: {error}"))?;
            Ok((name, options))
        });
        services.collect::<Result<_, _>>().map(Services)
    }
}

/// What was seen of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    running: bool,
    /// Whether its pid file is there; asked only of one that does not run.
    unclean: Option<bool>,
}

/// What is remembered of one service.
#[derive(Debug, Clone, Copy)]
struct Last {
    running: bool,
    /// When a change is to be told.
    due: Option<Instant>,
}

pub(super) struct Service {
    config: Config,
    init: Init,
    last: BTreeMap<String, Last>,
}

impl Build for Service {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Service, BuildError> {
        let missing = "this host has no init system to ask: no systemd, no OpenRC, no /etc/init.d";
        let init = service::init().ok_or_else(|| BuildError::Host(missing.to_owned()))?;
        Ok(Service { config, init, last: BTreeMap::new() })
    }
}

impl Beacon for Service {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        let deadline = Instant::now() + LOOK_PATIENCE;
        let (mut seen, mut first_error) = (Vec::new(), None);
        let Services(services) = &self.config.services;
        for (name, options) in services {
            let patience = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
            match self.init.runs(name, patience) {
                Ok(running) => {
                    let unclean = || options.uncleanshutdown.as_ref().map(|file| file.exists());
                    let unclean = if running { None } else { unclean() };
                    seen.push((name.clone(), Seen { running, unclean }));
                }
                // One that does not answer does not silence the others.
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    warn!(service = name, cause, "beacon service failed to {error}");
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if seen.is_empty() => Err(LookError(error.into())),
            _ => Ok(self.judge(Instant::now(), &seen)),
        }
    }

    fn reading(&self) -> Result<Told, LookError> {
        let mut seen = Map::new();
        let Services(services) = &self.config.services;
        for (name, _) in services {
            let state = match self.init.runs(name, PATIENCE) {
                Ok(true) => "running".to_owned(),
                Ok(false) => "not running".to_owned(),
                Err(error) => format!("failed to {error}"),
            };
            seen.set(name, state);
        }
        Ok(seen.into())
    }
}

impl Service {
    fn judge(&mut self, now: Instant, seen: &[(String, Seen)]) -> Vec<BeaconEvent> {
        let Services(services) = &self.config.services;
        let mut events = Vec::new();
        for (name, options) in services {
            let Some((_, seen)) = seen.iter().find(|(known, _)| known == name) else { continue };
            let fires = !options.onchangeonly || changed(&mut self.last, name, options, now, *seen);
            let wanted = options.is_running_state.is_none_or(|wanted| wanted == seen.running);
            if fires && wanted {
                events.push(event(name, *seen));
            }
        }
        events
    }
}

/// Remembers what was seen; tells whether a change is to be told now.
fn changed(last: &mut BTreeMap<String, Last>, name: &str, options: &Options, now: Instant, seen: Seen) -> bool {
    let Seen { running, .. } = seen;
    let is_news = match last.get(name) {
        Some(last) => last.running != running,
        None => options.emitatstartup,
    };
    let last = last.entry(name.to_owned()).or_insert(Last { running, due: None });
    if is_news {
        *last = Last { running, due: Some(now + options.delay) };
    }
    let fires = last.due.is_some_and(|due| due <= now);
    if fires {
        last.due = None;
    }
    fires
}

fn event(name: &str, seen: Seen) -> BeaconEvent {
    let mut status = map! { "running" => seen.running };
    if let Some(unclean) = seen.unclean {
        status.insert("uncleanshutdown".into(), unclean.into());
    }
    BeaconEvent { suffix: name.to_owned(), data: map! { name => status, "service_name" => name } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon(options: &str) -> Service {
        let json = format!(r#"{{"services": {{"x": {options}}}}}"#);
        Service { config: serde_json::from_str(&json).unwrap(), init: Init::Sysv, last: BTreeMap::new() }
    }

    /// Gives one look per second: `+` for a service that runs, `-` for one that does not. Expects what each fires, `.` for
    /// nothing.
    fn check(options: &str, looks: &str, expected: &str) {
        let (mut beacon, start) = (beacon(options), Instant::now());
        let fired: String = looks
            .chars()
            .zip(0..)
            .map(|(look, second)| {
                let seen = Seen { running: look == '+', unclean: None };
                let events = beacon.judge(start + Duration::from_secs(second), &[("x".to_owned(), seen)]);
                match events.as_slice() {
                    [] => '.',
                    [one] if *one == event("x", seen) => look,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(fired, expected, "{options}");
    }

    #[test]
    fn it_fires_at_each_look_or_at_changes() {
        check("{}", "++-", "++-");
        check("null", "-", "-");
        check(r#"{"onchangeonly": true}"#, "++--+", "+.-.+");
        check(r#"{"onchangeonly": true, "emitatstartup": false}"#, "++--+", "..-.+");
        // Without `onchangeonly` the other words mean nothing.
        check(r#"{"emitatstartup": false, "delay": 9}"#, "+-", "+-");
    }

    #[test]
    fn a_delay_begins_anew_with_each_change() {
        check(r#"{"onchangeonly": true, "delay": 2}"#, "+++++--+++++", "..+......+..");
        check(r#"{"onchangeonly": true, "delay": 2, "emitatstartup": false}"#, "++++----", "......-.");
    }

    #[test]
    fn one_direction_can_be_left_out() {
        check(r#"{"is_running_state": true}"#, "+-+", "+.+");
        check(r#"{"is_running_state": false, "onchangeonly": true}"#, "+-+--", ".-.-.");
    }

    #[test]
    fn the_event_is_salts() {
        let seen = |running, unclean| Seen { running, unclean };
        let check = |seen: Seen, expected: &str| {
            let BeaconEvent { suffix, data } = event("cron", seen);
            assert_eq!(
                (suffix.as_str(), proto::value::Value::Map(data).to_json().to_string().as_str()),
                ("cron", expected)
            );
        };
        check(seen(false, None), r#"{"cron":{"running":false},"service_name":"cron"}"#);
        check(seen(false, Some(true)), r#"{"cron":{"running":false,"uncleanshutdown":true},"service_name":"cron"}"#);
        check(seen(true, None), r#"{"cron":{"running":true},"service_name":"cron"}"#);
    }

    #[test]
    fn a_service_that_gave_no_answer_is_left_as_it_was() {
        let mut beacon = beacon(r#"{"onchangeonly": true}"#);
        let (now, seen) = (Instant::now(), [("x".to_owned(), Seen { running: true, unclean: None })]);
        assert_eq!(beacon.judge(now, &seen).len(), 1);
        assert_eq!(beacon.judge(now, &[]), []);
        assert_eq!(beacon.judge(now, &seen), []);
    }

    #[test]
    fn wrong_options_are_refused() {
        let check = |json: &str, expected: &str| {
            let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{}", "missing field `services`");
        check(r#"{"services": {"salt*": {}}}"#, "\"salt*\" is no service's name");
        check(
            r#"{"services": {"x": {"onchange": true}}}"#,
            "service x: unknown field `onchange`, expected one of `delay`",
        );
        check(r#"{"services": {"x": {"delay": -1}}}"#, "delay: expected seconds");
        check(r#"{"services": ["x"]}"#, "expected a map");
    }
}
