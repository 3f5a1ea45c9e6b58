//! `halite minions`: accepted minions, and who of them is there.

use std::time::Duration;

use proto::value::{Map, MapExt as _, Value};
use render::output::{Format, ret};

use super::exit;
use super::globals::Globals;
use super::out::Out;

/// List accepted minions and whether they are connected
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  halite minions --out json")]
pub(crate) struct MinionsArgs {}

/// Prints the list.
pub(super) async fn run(globals: &Globals) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let minions = Value::from_json(&globals.client()?.minions().await?);
    let shown = if out.format().is_none() { for_people(&minions) } else { None };
    out.value(Format::Nested, &shown.unwrap_or(minions))?;
    Ok(exit::OK)
}

/// Returns one line per minion, or nothing if this is no list of minions.
fn for_people(minions: &Value) -> Option<Value> {
    let line = |minion: &Value| {
        let minion = minion.as_map()?;
        Some((minion.at("id")?.clone(), Value::from(presence(minion))))
    };
    minions.as_list()?.iter().map(line).collect::<Option<Map>>().map(Value::from)
}

/// Says `connected (127.0.0.1:47532, halite 0.1.0)` or `not connected, last seen 3 min ago`.
fn presence(minion: &Map) -> String {
    if minion.at("up").and_then(Value::as_bool) != Some(true) {
        return ret::down(minion.at("left_s").and_then(Value::as_u64).map(Duration::from_secs));
    }
    let known: Vec<&str> = ["addr", "software"].into_iter().filter_map(|name| minion.text(name)).collect();
    if known.is_empty() { "connected".to_owned() } else { format!("connected ({})", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn each_minion_is_one_line() {
        let up = map! { "id" => "m1", "up" => true, "addr" => "10.0.0.1:4", "software" => "halite 0.1.0" };
        let down = map! { "id" => "m2", "up" => false, "left_s" => 185 };
        let shown = for_people(&vec![up, down].into()).unwrap();
        assert_eq!(shown.get("m1").and_then(Value::as_str), Some("connected (10.0.0.1:4, halite 0.1.0)"));
        assert_eq!(shown.get("m2").and_then(Value::as_str), Some("not connected, last seen 3 min ago"));
        assert_eq!(for_people(&Map::new().into()), None);
    }
}
