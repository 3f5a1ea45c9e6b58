//! Fires at each look for each process that runs, or does not, as the options say.
//!
//! ```yaml
//! beacons:
//!   ps:
//!     - processes:
//!         salt-master: running
//!         mysql: stopped
//! ```

use std::collections::BTreeSet;

use proto::map;
use proto::value::{Map, Value as Seen};
use serde::Deserialize;
use serde_json::{Map as Json, Value};

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::process_names;

pub(super) const KIND: Kind = Kind::new::<Ps>("ps");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The names of processes, as `ps -o comm` shows them, each with what fires: `running` or `stopped`. No default.
    processes: Processes,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Json<String, Value>")]
struct Processes(Vec<(String, Wanted)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    /// Fires while a process of this name runs.
    Running,
    /// Fires while none does.
    Stopped,
}

impl TryFrom<Json<String, Value>> for Processes {
    type Error = String;

    fn try_from(processes: Json<String, Value>) -> Result<Processes, String> {
        let pairs = processes.into_iter().map(|(name, wanted)| {
            let wanted = Wanted::deserialize(&wanted)
                .map_err(|_| format!("process {name}: expected `running` or `stopped`, found {wanted}"))?;
            Ok((name, wanted))
        });
        pairs.collect::<Result<_, _>>().map(Processes)
    }
}

pub(super) struct Ps {
    config: Config,
}

impl Build for Ps {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Ps, BuildError> {
        Ok(Ps { config })
    }
}

impl Beacon for Ps {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        process_names::read().map(|now| self.judge(&now)).map_err(|error| LookError(error.into()))
    }

    fn reading(&self) -> Result<Seen, LookError> {
        let now = process_names::read().map_err(|error| LookError(error.into()))?;
        let Processes(processes) = &self.config.processes;
        let state = |name: &String| if now.contains(name) { "Running" } else { "Stopped" };
        Ok(processes.iter().map(|(name, _)| (Seen::from(name.as_str()), state(name).into())).collect::<Map>().into())
    }
}

impl Ps {
    fn judge(&self, now: &BTreeSet<String>) -> Vec<BeaconEvent> {
        let Processes(processes) = &self.config.processes;
        let events = processes.iter().filter_map(|(name, wanted)| {
            let text = match (wanted, now.contains(name)) {
                (Wanted::Running, true) => "Running",
                (Wanted::Stopped, false) => "Stopped",
                _ => return None,
            };
            Some(BeaconEvent::plain(map! { name.as_str() => text }))
        });
        events.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &[(&str, &str)]) {
        let beacon = Ps { config: serde_json::from_str(json).unwrap() };
        let fired = beacon.judge(&["salt-master", "sshd"].map(str::to_owned).into());
        let expected: Vec<BeaconEvent> =
            expected.iter().map(|(name, text)| BeaconEvent::plain(map! { *name => *text })).collect();
        assert_eq!(fired, expected, "{json}");
    }

    #[test]
    fn each_process_fires_for_itself_in_the_options_order() {
        let json = r#"{"processes": {"salt-master": "running", "strace": "running", "mysql": "stopped"}}"#;
        check(json, &[("salt-master", "Running"), ("mysql", "Stopped")]);
        check(r#"{"processes": {"sshd": "stopped", "ssh": "running"}}"#, &[]);
        check(r#"{"processes": {}}"#, &[]);
    }

    #[test]
    fn what_is_wanted_is_one_of_two_words() {
        let check = |json: &str, expected: &str| {
            let error = serde_json::from_str::<Config>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{}", "missing field `processes`");
        check(r#"{"processes": ["mysql"]}"#, "expected a map");
        check(r#"{"processes": {"mysql": "dead"}}"#, "process mysql: expected `running` or `stopped`, found \"dead\"");
    }
}
