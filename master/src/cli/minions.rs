//! `halite minions`: accepted minions, and who of them is there.

use std::time::Duration;

use proto::value::{Map, MapExt as _, Value};
use render::output::{Format, ago, clean_line};

use super::exit;
use super::globals::Globals;
use super::out::Out;

/// List accepted minions and whether they are connected
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite minions
  halite minions --out json | jq -r '.[] | select(.up | not) | .id'")]
pub(crate) struct MinionsArgs {}

/// The heads of the columns.
const COLUMNS: [&str; 8] = ["MINION", "WIRE", "STATE", "SINCE", "LAST SEEN", "ROUND TRIP", "ADDRESS", "SOFTWARE"];

/// Prints the list.
pub(super) async fn run(globals: &Globals) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let minions = Value::from_json(&globals.client()?.minions().await?);
    match minions.as_list().filter(|_| out.format().is_none()) {
        Some(listed) => out.text(&table(listed))?,
        None => out.items(Format::Nested, &minions)?,
    }
    Ok(exit::OK)
}

type Row = [String; COLUMNS.len()];

/// Returns one line per minion, in columns as wide as they have to be.
fn table(minions: &[Value]) -> String {
    let rows: Vec<Row> =
        std::iter::once(COLUMNS.map(str::to_owned)).chain(minions.iter().filter_map(Value::as_map).map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |row: &Row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Returns the cells of a minion. What it says of itself may hold anything, also what moves a terminal's cursor.
fn row(minion: &Map) -> Row {
    let text = |name: &str| minion.text(name).map(|text| clean_line(text).into_owned());
    // Nobody knows whether a minion on the Salt wire is there; it was last heard at some time.
    let (state, seen) = match minion.at("up").and_then(Value::as_bool) {
        Some(true) => ("up", "seen_s"),
        Some(false) => ("down", "left_s"),
        None => ("unknown", "seen_s"),
    };
    let age = |name: &str| minion.at(name).and_then(Value::as_u64).map(|seconds| ago(Duration::from_secs(seconds)));
    let trip = minion.at("round_trip_ms").and_then(Value::as_f64).map(|millis| format!("{millis:.1} ms"));
    // A stamp's date and time to the second: 2026-11-21T00:32:32.784705+00:00.
    let since = text("since").and_then(|stamp| Some(stamp.get(..19)?.replace('T', " ")));
    let cells =
        [text("id"), text("wire"), Some(state.to_owned()), since, age(seen), trip, text("addr"), text("software")];
    cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn each_minion_is_one_line() {
        let up = map! { "id" => "m1", "wire" => "native", "up" => true, "since" => "2026-11-21T00:32:32.784705+00:00", "seen_s" => 2,
        "round_trip_ms" => 0.4321, "addr" => "10.0.0.1:4", "software" => "halite \u{1b}[2J" };
        let down =
            map! { "id" => "longer-name", "wire" => "native", "up" => false, "left_s" => 185, "addr" => Value::Null };
        let salt =
            map! { "id" => "s1", "wire" => "salt", "up" => Value::Null, "seen_s" => 7, "software" => "salt 3006.30" };
        let expected = "\
MINION       WIRE    STATE    SINCE                LAST SEEN  ROUND TRIP  ADDRESS     SOFTWARE
m1           native  up       2026-11-21 00:32:32  2 s ago    0.4 ms      10.0.0.1:4  halite \\x1b[2J
longer-name  native  down     -                    3 min ago  -           -           -
s1           salt    unknown  -                    7 s ago    -           -           salt 3006.30
";
        assert_eq!(table(&[up.into(), down.into(), salt.into()]), expected);
    }
}
