//! `cmd_json`: a command prints a minion's pillar as JSON.

use proto::value::{Map, Value};

use super::Source;

pub(super) const SOURCE: Source = Source { name: "cmd_json", read };

fn read(text: &str) -> Result<Map, String> {
    let json = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    match Value::from_json(&json) {
        Value::Map(map) => Ok(map),
        other => Err(format!("it is no map but {}", other.kind())),
    }
}
