//! Reads the option `beacons`: which beacons there are, when they look, and what options each kind gets.

use std::time::Duration;

use proto::value::{Map, MapExt, Value};

use super::{Kind, find};

/// Beside the beacons it switches all of them.
const ALL_OR_NONE: &str = "enabled";
/// The longest interval: a year.
const MAX_INTERVAL_S: f64 = 31_536_000.0;

/// One configured beacon.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The name in the configuration, which is also the one in tags.
    pub name: String,
    /// What it is.
    pub kind: &'static Kind,
    /// `interval`: how often it looks, in seconds. Default: `loop_interval`.
    pub interval: Option<Duration>,
    /// `disable_during_state_run`: whether it rests while a state runs. Default: False.
    pub rests_during_states: bool,
    /// The options of its kind.
    pub options: Map,
    /// Where it is configured.
    pub place: String,
}

impl PartialEq for Setup {
    /// Where a beacon stands in its file makes no difference to it.
    fn eq(&self, other: &Setup) -> bool {
        self.name == other.name
            && self.kind.name == other.kind.name
            && self.interval == other.interval
            && self.rests_during_states == other.rests_during_states
            && self.options == other.options
    }
}

/// Why one beacon is disabled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: beacon {name} is disabled: {why}")]
pub struct SetupError {
    /// Where it is configured.
    pub place: String,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// Reads all beacons. One that is wrong is disabled alone; `enabled: False` disables one, or all at the top.
pub(super) fn read(beacons: &Map, place: impl Fn(&str) -> String) -> (Vec<Setup>, Vec<SetupError>) {
    let (mut setups, mut errors) = (Vec::new(), Vec::new());
    if beacons.at(ALL_OR_NONE).and_then(Value::as_bool) == Some(false) {
        return (setups, errors);
    }
    for (key, value) in beacons {
        let name = key.to_key();
        if name == ALL_OR_NONE {
            continue;
        }
        match one(&name, value, place(&name)) {
            Ok(Some(setup)) => setups.push(setup),
            Ok(None) => {}
            Err(why) => errors.push(SetupError { place: place(&name), name, why }),
        }
    }
    (setups, errors)
}

/// Reads one beacon; nothing if it is switched off.
pub(super) fn one(name: &str, value: &Value, place: String) -> Result<Option<Setup>, String> {
    let mut options = flatten(value)?;
    let enabled = flag(&mut options, "enabled", true)?;
    let kind_name = match options.take("beacon_module") {
        None | Some(Value::Null) => name.to_owned(),
        Some(Value::Str(module)) => module,
        Some(other) => return Err(format!("beacon_module: expected a beacon's name, found {other:?}")),
    };
    let interval = match options.take("interval") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(value) => Some(interval(&value)?),
    };
    let rests_during_states = flag(&mut options, "disable_during_state_run", false)?;
    options.take("_beacon_name");
    if name == ALL_OR_NONE {
        return Err(format!("`{ALL_OR_NONE}` switches all beacons, and is no beacon's name"));
    }
    if name.contains('/') || name.is_empty() {
        return Err("its name would break the event's tag".to_owned());
    }
    if !enabled {
        return Ok(None);
    }
    let kind = find(&kind_name).ok_or_else(|| {
        let known: Vec<&str> = super::all().iter().map(|kind| kind.name).collect();
        format!("there is no beacon {kind_name} in this version; known: {}", known.join(", "))
    })?;
    kind.check(&options).map_err(|error| error.to_string())?;
    Ok(Some(Setup { name: name.to_owned(), kind, interval, rests_during_states, options, place }))
}

/// Makes one map of a list of one-key maps, as Salt does; a map is taken as it is.
fn flatten(value: &Value) -> Result<Map, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Map(map) => Ok(map.clone()),
        Value::List(items) => {
            let mut options = Map::new();
            for item in items {
                let map = item.as_map().ok_or_else(|| format!("expected a list of maps, found {item:?} in it"))?;
                options.extend(map.clone());
            }
            Ok(options)
        }
        other => Err(format!("expected a list of maps, found {other:?}")),
    }
}

fn flag(options: &mut Map, name: &str, default: bool) -> Result<bool, String> {
    match options.take(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(other) => Err(format!("{name}: expected True or False, found {other:?}")),
    }
}

fn interval(value: &Value) -> Result<Duration, String> {
    let seconds = match value {
        Value::Str(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    let seconds = seconds.filter(|seconds| *seconds > 0.0 && *seconds <= MAX_INTERVAL_S);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("interval: expected seconds, found {value:?}"))
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn setup(options: impl Into<Value>) -> Result<Setup, String> {
        let (mut setups, mut errors) =
            read(&map! { "load" => options.into() }, |name| format!("/etc/halite/minion:{name}"));
        assert_eq!(setups.len() + errors.len(), 1);
        setups.pop().ok_or_else(|| errors.remove(0).to_string())
    }

    #[test]
    fn a_list_of_maps_and_a_map_are_the_same() {
        let averages = map! { "1m" => vec![0.0, 2.0] };
        let list = setup(vec![map! { "averages" => averages.clone() }, map! { "interval" => 5 }]).unwrap();
        let map = setup(map! { "averages" => averages, "interval" => 5 }).unwrap();
        assert_eq!(list, map);
        assert_eq!((list.interval, list.options.len()), (Some(Duration::from_secs(5)), 1));
    }

    #[test]
    fn the_scheduling_options_do_not_reach_the_beacon() {
        let every =
            map! { "interval" => "2.5", "enabled" => true, "disable_during_state_run" => true, "onchangeonly" => true };
        let setup = setup(every).unwrap();
        assert_eq!(setup.interval, Some(Duration::from_millis(2500)));
        assert!(setup.rests_during_states);
        assert_eq!(setup.options, map! { "onchangeonly" => true });
    }

    #[test]
    fn one_bad_beacon_is_disabled_alone_and_named_with_its_file() {
        let beacons =
            map! { "load" => "x", "memusage" => vec![map! { "percent" => 1 }], "wtmp" => Value::List(vec![]) };
        let (setups, errors) = read(&beacons, |_| "/etc/halite/minion:2:3".into());
        assert_eq!(setups.iter().map(|setup| setup.name.as_str()).collect::<Vec<_>>(), ["memusage"]);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "/etc/halite/minion:2:3: beacon load is disabled: expected a list of maps, found \"x\"",
                "/etc/halite/minion:2:3: beacon wtmp is disabled: there is no beacon wtmp in this version; known: diskusage, load, log, memusage, network_info, ps, service, sh, status, swapusage",
            ]
        );
    }

    #[test]
    fn beacons_are_switched_off_one_or_all() {
        assert_eq!(read(&map! { "load" => map! { "enabled" => false } }, |_| String::new()), (vec![], vec![]));
        let all = map! { "enabled" => false, "load" => Value::List(vec![]) };
        assert_eq!(read(&all, |_| String::new()), (vec![], vec![]));
        assert_eq!(read(&map! { "enabled" => true }, |_| String::new()), (vec![], vec![]));
    }

    #[test]
    fn another_name_needs_its_module() {
        let beacons = map! { "named_load" => vec![map! { "beacon_module" => "load" }] };
        let (setups, _) = read(&beacons, |_| String::new());
        assert_eq!((setups[0].name.as_str(), setups[0].kind.name), ("named_load", "load"));
    }

    #[test]
    fn an_interval_is_a_number_of_seconds() {
        assert!(setup(map! { "interval" => "soon" }).unwrap_err().contains("interval: expected seconds"));
        assert!(setup(map! { "interval" => -1 }).is_err());
        assert_eq!(setup(map! { "interval" => false }).unwrap().interval, None);
    }
}
