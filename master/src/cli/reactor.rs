//! `halite reactor`: the rules and how they do, and what an event would set off.

use std::io::Read as _;

use anyhow::Context as _;
use proto::map;
use proto::value::{Map, MapExt as _, Value};
use render::output::Format;
use time::OffsetDateTime;

use super::exit::{self, Usage};
use super::globals::Globals;
use super::out::{Out, tell};
use super::span;
use crate::api::client::Client;
use crate::api::events::{EventView, FireRequest};

/// The largest file of data that is read.
const MAX_DATA: u64 = 1024 * 1024;
/// How many events of the log one replay shows; the rest is said to be left out.
const MAX_REPLAYED: usize = 10_000;
/// How many tag patterns one reading of the log may have; with more rules, all events are looked at.
const MAX_TAGS: usize = 64;

/// Show the reactor's rules, or what an event would set off
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite reactor list
  halite reactor test --tag salt/beacon/web1/load/ --data '{\"id\": \"web1\", \"1m\": 9.5}'
  halite reactor test --replay 1h")]
pub(crate) struct ReactorArgs {
    #[command(subcommand)]
    verb: ReactorVerb,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum ReactorVerb {
    /// Show the rules, and what became of their events since the master started
    #[command(after_help = "Example:\n  halite reactor list")]
    List,
    /// Show what an event would set off; nothing is run
    #[command(after_help = "Examples:
  halite reactor test --tag myco/deploy --data '{\"version\": 7}'
  halite reactor test --tag myco/deploy --data @event.json
  halite reactor test --replay 2h --tag 'salt/beacon/*'")]
    Test(TestArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct TestArgs {
    /// The event's tag; with --replay, only events whose tag matches this pattern
    #[arg(long, value_name = "TAG", required_unless_present = "replay")]
    tag: Option<String>,
    /// The event's data: a map in JSON or YAML, or @FILE with one
    #[arg(long, value_name = "DATA", default_value = "{}", conflicts_with = "replay")]
    data: String,
    /// Show what the events in the log since then would set off: an offset, 30s, 15m, 2h, 1d, a stamp, or `start`
    #[arg(long, value_name = "SINCE")]
    replay: Option<String>,
}

/// Does what the verb says.
pub(super) async fn run(globals: &Globals, args: ReactorArgs) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    match args.verb {
        ReactorVerb::List => {
            let rules = Value::from_json(&client.reactor().await?);
            match out.format() {
                None => out.text(&listing(&rules))?,
                Some(_) => out.items(Format::Nested, &rules)?,
            }
        }
        ReactorVerb::Test(TestArgs { tag, replay: Some(since), .. }) => {
            let since = span::since(&since, OffsetDateTime::now_utc()).map_err(Usage)?;
            let shown = replay(&client, &since, tag.as_deref()).await?;
            out.items(Format::Nested, &Value::List(shown))?;
        }
        ReactorVerb::Test(TestArgs { tag, data, replay: None }) => {
            let request = FireRequest { tag: tag.unwrap_or_default(), data: map_of(&text_of(&data)?)? };
            out.value(Format::Nested, &Value::from_json(&client.reactor_test(&request).await?))?;
        }
    }
    Ok(exit::OK)
}

/// Shows the rules for people: each with its files, its counts, and whether it is switched off.
fn listing(rules: &Value) -> String {
    let rules = rules.as_list().unwrap_or_default();
    if rules.is_empty() {
        return "The reactor has no rules; see the option reactor.\n".to_owned();
    }
    rules.iter().filter_map(Value::as_map).map(paragraph).collect()
}

fn paragraph(rule: &Map) -> String {
    let mut text = format!("{}\n", rule.text("rule").unwrap_or_default());
    for file in rule.at("files").and_then(Value::as_list).unwrap_or_default() {
        text += &format!("    {}\n", file.to_key());
    }
    let counted =
        |name: &&str| rule.at(name).and_then(Value::as_u64).is_some_and(|count| count > 0 || *name == "fired");
    let names = ["fired", "failed", "limited", "deduplicated", "skipped"];
    let counts: Vec<String> = names
        .iter()
        .filter(|name| counted(name))
        .map(|name| format!("{name} {}", rule.at(name).map(Value::to_key).unwrap_or_default()))
        .collect();
    text += &format!("    {}\n", counts.join(", "));
    if let Some(until) = rule.text("open_until") {
        text += &format!("    BREAKER OPEN: it failed again and again; the next trial is at {until}\n");
    }
    text
}

/// Shows what the events of the log would set off: those that a rule matches.
async fn replay(client: &Client, since: &str, tag: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let rules = Value::from_json(&client.reactor().await?);
    let tags = match tag {
        Some(tag) => vec![tag.to_owned()],
        None => patterns(&rules),
    };
    if rules.as_list().is_none_or(|rules| rules.is_empty()) {
        return Ok(Vec::new());
    }
    let mut events = client.events(&tags, since, Some("head")).await?;
    let mut shown = Vec::new();
    while let Some(event) = events.next().await? {
        if shown.len() == MAX_REPLAYED {
            tell(&format!(
                "more than {MAX_REPLAYED} events; the rest is left out, begin later (--replay) or give --tag\n"
            ));
            break;
        }
        shown.extend(tried(client, event).await?);
    }
    Ok(shown)
}

/// Returns the rules' patterns, as far as one reading takes them.
fn patterns(rules: &Value) -> Vec<String> {
    let rules = rules.as_list().unwrap_or_default();
    let tags: Vec<String> = rules.iter().filter_map(|rule| rule.get("rule")?.as_str().map(str::to_owned)).collect();
    if tags.len() > MAX_TAGS { Vec::new() } else { tags }
}

/// Shows what one event would set off; nothing if no rule matches, or if it is one of the reactor itself.
async fn tried(client: &Client, event: EventView) -> anyhow::Result<Option<Value>> {
    let serde_json::Value::Object(data) = event.data else { return Ok(None) };
    let stamp = data.get("_stamp").and_then(|stamp| stamp.as_str()).unwrap_or_default().to_owned();
    let request = FireRequest { tag: event.tag, data };
    let Value::Map(tried) = Value::from_json(&client.reactor_test(&request).await?) else { return Ok(None) };
    if tried.at("rules").and_then(Value::as_list).is_none_or(<[Value]>::is_empty) {
        return Ok(None);
    }
    let mut shown = map! { "offset" => event.offset, "stamp" => stamp };
    shown.extend(tried);
    Ok(Some(shown.into()))
}

/// Reads the file of `@FILE`, or returns what was given.
fn text_of(data: &str) -> anyhow::Result<String> {
    let Some(path) = data.strip_prefix('@') else { return Ok(data.to_owned()) };
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("failed to open {path}"))?;
    file.take(MAX_DATA + 1).read_to_string(&mut text).with_context(|| format!("failed to read {path}"))?;
    if text.len() as u64 > MAX_DATA {
        return Err(Usage(format!("{path} is larger than {MAX_DATA} bytes: that is no event")).into());
    }
    Ok(text)
}

/// Reads the data of an event: JSON, or YAML.
fn map_of(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, Usage> {
    if let Ok(map) = serde_json::from_str(text) {
        return Ok(map);
    }
    match render::yaml::load(text, &render::yaml::Source { name: "--data" }).map(|value| value.to_json()) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        Err(error) => Err(Usage(format!("--data cannot be read: {error}"))),
        Ok(_) => Err(Usage(format!("--data is not a map: {text:?}; write {{\"key\": \"value\"}}, or @FILE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_a_map_in_json_or_yaml_or_a_file() {
        assert_eq!(map_of("{\"a\":\n1}").unwrap()["a"], 1);
        assert_eq!(map_of("{a: 1}").unwrap()["a"], 1);
        assert_eq!(map_of("a: 1\nb: [x]").unwrap()["b"][0], "x");
        assert!(map_of("[1]").is_err());
        assert!(map_of("a: [").is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{a: 1}").unwrap();
        assert_eq!(text_of(&format!("@{}", file.path().display())).unwrap(), "{a: 1}");
        assert!(text_of("@/nonexistent/x").is_err());
    }

    #[test]
    fn rules_are_shown_with_what_became_of_their_events() {
        let rule = |breaker: Value| {
            map! { "rule" => "a/*", "files" => vec!["/x.sls", "salt://y.sls"], "fired" => 3, "failed" => 1,
            "limited" => 0, "deduplicated" => 0, "skipped" => 0, "open_until" => breaker }
        };
        let open = rule("2026-11-21T00:00:00.000000".into());
        let expected = "a/*\n    /x.sls\n    salt://y.sls\n    fired 3, failed 1\n";
        assert_eq!(listing(&vec![rule(Value::Null)].into()), expected);
        assert!(listing(&vec![open].into()).contains("BREAKER OPEN"));
        assert!(listing(&Value::List(Vec::new())).contains("no rules"));
    }

    #[test]
    fn the_log_is_read_by_the_rules_patterns_while_they_are_few() {
        let rules = |count: usize| Value::from(vec![map! { "rule" => "a/*" }; count]);
        assert_eq!(patterns(&rules(2)), ["a/*", "a/*"]);
        assert!(patterns(&rules(MAX_TAGS + 1)).is_empty());
    }
}
