//! Fires at each look with figures of this host: a health check that a reactor can count on.
//!
//! ```yaml
//! beacons:
//!   status:
//!     - loadavg: [1-min, 5-min]
//!     - time: [all]
//! ```
//!
//! `status: []` sends `cpustats`, `loadavg`, `meminfo`, `time` and `vmstats`. The tag's suffix is the time in UTC.

use std::collections::BTreeMap;

use proto::map;
use proto::value::{Map, MapExt, Value};
use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};
use crate::host::{clock, cpu, load, stats};

pub(super) const KIND: Kind = Kind::new::<Status>("status");

/// Functions, each with the fields that are sent: their names, or `all`. A single value is `all` or `0`. Default: the five
/// of the head of this file, with all their fields.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config(BTreeMap<Function, Fields>);

/// A function of Salt's module `status` that needs nothing but the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Function {
    Cpuinfo,
    Cpustats,
    Diskstats,
    Loadavg,
    Meminfo,
    Nproc,
    Time,
    Uptime,
    Version,
    Vmstats,
}

/// One field, or several.
#[derive(Debug, Deserialize)]
#[serde(try_from = "serde_json::Value")]
struct Fields(Vec<String>);

impl TryFrom<serde_json::Value> for Fields {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Fields, String> {
        let field = |value: &serde_json::Value| match value {
            serde_json::Value::String(name) => Ok(name.clone()),
            serde_json::Value::Number(number) => Ok(number.to_string()),
            other => Err(format!("expected a field's name or `all`, found {other}")),
        };
        match &value {
            serde_json::Value::Array(fields) => fields.iter().map(field).collect(),
            one => field(one).map(|field| vec![field]),
        }
        .map(Fields)
    }
}

pub(super) struct Status {
    config: Config,
}

impl Build for Status {
    type Config = Config;

    fn build(Config(functions): Config, _cx: &BeaconContext) -> Result<Status, BuildError> {
        let config = if functions.is_empty() { usual() } else { Config(functions) };
        Ok(Status { config })
    }
}

/// Returns what is sent without options.
fn usual() -> Config {
    let functions = [Function::Cpustats, Function::Loadavg, Function::Meminfo, Function::Time, Function::Vmstats];
    Config(functions.map(|function| (function, Fields(vec!["all".to_owned()]))).into())
}

impl Beacon for Status {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        Ok(vec![event(OffsetDateTime::now_utc(), self.figures()?)])
    }

    fn reading(&self) -> Result<Value, LookError> {
        self.figures().map(Value::from)
    }
}

impl Status {
    fn figures(&self) -> Result<Map, LookError> {
        let Config(functions) = &self.config;
        let mut data = Map::new();
        for (function, fields) in functions {
            data.set(function.name(), fields.pick(function.read()?));
        }
        Ok(data)
    }
}

fn event(now: OffsetDateTime, data: Map) -> BeaconEvent {
    BeaconEvent { suffix: stats::isoformat(now), data: map! { "data" => data } }
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Cpuinfo => "cpuinfo",
            Function::Cpustats => "cpustats",
            Function::Diskstats => "diskstats",
            Function::Loadavg => "loadavg",
            Function::Meminfo => "meminfo",
            Function::Nproc => "nproc",
            Function::Time => "time",
            Function::Uptime => "uptime",
            Function::Version => "version",
            Function::Vmstats => "vmstats",
        }
    }

    fn read(self) -> Result<Value, LookError> {
        let figures = match self {
            Function::Cpuinfo => stats::cpuinfo(),
            Function::Cpustats => stats::cpustats(),
            Function::Diskstats => stats::diskstats(),
            Function::Loadavg => return load::read().map(loadavg).map_err(|error| LookError(error.into())),
            Function::Meminfo => stats::meminfo(),
            Function::Nproc => return Ok(cpu::read().count.into()),
            Function::Time => return Ok(day(clock::now()).into()),
            Function::Uptime => stats::uptime(OffsetDateTime::now_utc()),
            Function::Version => return stats::version().map(Value::from).map_err(|error| LookError(error.into())),
            Function::Vmstats => stats::vmstats(),
        };
        figures.map(Value::Map).map_err(|error| LookError(error.into()))
    }
}

fn loadavg(load: load::Averages) -> Value {
    map! { "1-min" => load.one, "5-min" => load.five, "15-min" => load.fifteen }.into()
}

/// Writes a time as Salt's `status.time` does: `Saturday, 21. November 2026 12:10AM`.
fn day(time: OffsetDateTime) -> String {
    let format = format_description!(
        "[weekday], [day]. [month repr:long] [year] [hour repr:12 padding:zero]:[minute][period case:upper]"
    );
    time.format(&format).expect("the present has all these parts")
}

impl Fields {
    /// Returns the wanted part of what a function gives. A field that it has not is told in its place, as in Salt.
    fn pick(&self, data: Value) -> Value {
        let Fields(fields) = self;
        let is_whole = |field: &String| field == "all" || field == "0" && data.as_map().is_none();
        if fields.iter().any(is_whole) {
            return data;
        }
        let mut picked = Map::new();
        for field in fields {
            match data.get(field) {
                Some(value) => picked.set(field, value.clone()),
                None => return format!("Status beacon is incorrectly configured: '{field}'").into(),
            }
        }
        picked.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(json: &str) -> Vec<&'static str> {
        let Config(functions) = serde_json::from_str(json).unwrap();
        functions.keys().map(|function| function.name()).collect()
    }

    /// Gives a function's data; expects what of it is sent.
    fn check(fields: &str, data: impl Into<Value>, expected: &str) {
        let fields: Fields = serde_json::from_str(fields).unwrap();
        assert_eq!(fields.pick(data.into()).to_json().to_string(), expected);
    }

    #[test]
    fn the_wanted_fields_are_sent() {
        let load = || map! { "1-min" => 0.5, "5-min" => 0.25 };
        check(r#"["all"]"#, load(), r#"{"1-min":0.5,"5-min":0.25}"#);
        check(r#""all""#, load(), r#"{"1-min":0.5,"5-min":0.25}"#);
        check(r#"["5-min"]"#, load(), r#"{"5-min":0.25}"#);
        check(r#"["1-min", "2-min"]"#, load(), r#""Status beacon is incorrectly configured: '2-min'""#);
        check("[0]", load(), r#""Status beacon is incorrectly configured: '0'""#);
        check("[0]", "noon", r#""noon""#);
        check(r#"["all"]"#, 4u8, "4");
        check("[]", load(), "{}");
    }

    #[test]
    fn the_event_is_salts() {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_795_219_844_136_036_000).unwrap();
        let data =
            map! { "loadavg" => loadavg(load::Averages { one: 1.5, five: 0.5, fifteen: 1.0 }), "time" => day(now) };
        let BeaconEvent { suffix, data } = event(now, data);
        assert_eq!(suffix, "2026-11-21T00:10:44.136036");
        assert_eq!(
            Value::Map(data).to_json().to_string(),
            r#"{"data":{"loadavg":{"1-min":1.5,"5-min":0.5,"15-min":1.0},"time":"Saturday, 21. November 2026 12:10AM"}}"#
        );
    }

    #[test]
    fn the_host_answers_every_function() {
        let all = "cpuinfo cpustats diskstats loadavg meminfo nproc time uptime version vmstats";
        let options: Vec<String> = all.split(' ').map(|name| format!(r#""{name}": ["all"]"#)).collect();
        let Config(known) = serde_json::from_str(&format!("{{{}}}", options.join(", "))).unwrap();
        assert_eq!(known.keys().map(|function| function.name()).collect::<Vec<_>>().join(" "), all);
        for function in known.keys() {
            assert!(function.read().unwrap().is_truthy() || *function == Function::Diskstats, "{function:?}");
        }
    }

    #[test]
    fn unknown_functions_are_refused_with_the_known_ones() {
        let error = serde_json::from_str::<Config>(r#"{"w": ["all"]}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `w`, expected one of `cpuinfo`, `cpustats`, `diskstats`"), "{error}");
        assert!(serde_json::from_str::<Config>(r#"{"time": [{}]}"#).is_err());
        assert_eq!(functions("{}"), [""; 0]);
        let Config(usual) = usual();
        assert_eq!(usual.len(), 5);
    }
}
