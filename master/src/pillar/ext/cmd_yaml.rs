//! `cmd_yaml`: a command prints a minion's pillar as YAML.

use proto::value::{Map, Value};
use render::yaml;

use super::Source;

pub(super) const SOURCE: Source = Source { name: "cmd_yaml", read };

fn read(text: &str) -> Result<Map, String> {
    match yaml::load(text, &yaml::Source { name: "cmd_yaml" }).map_err(|error| format!("it is not YAML: {error}"))? {
        Value::Map(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => Err(format!("it is no map but {}", other.kind())),
    }
}
