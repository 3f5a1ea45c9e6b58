//! `halite events`: the bus, as it happens or from the log.

mod stats;

use std::time::Duration;

use clap::ValueEnum as _;
use clap::builder::NonEmptyStringValueParser;
use proto::tag::Tag;
use proto::value::{MapExt as _, Value};
use render::output::{Format, event};
use time::OffsetDateTime;

use super::exit::{self, Usage};
use super::globals::Globals;
use super::out::{Out, tell};
use super::span;
use crate::api::client::{Client, Events};
use crate::api::events::EventView;

/// Show events as they happen, or from the log
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:
  halite events
  halite events --tag 'salt/beacon/*' --since 2h
  halite events --tag 'salt/job/*/ret/*' --count 1 --out jsonl
  halite events --since start --follow --out plain
  halite events --since 1d --until 12h --tag 'salt/auth'
  halite events --cursor shipper --since start --out jsonl >> events.jsonl
  halite events stats
  halite events cursors",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    verb: Option<EventsVerb>,
    /// Only events whose tag matches this pattern; may be given several times
    #[arg(long = "tag", value_name = "GLOB")]
    tags: Vec<String>,
    /// Begin here: an offset, 30s, 15m, 2h, 1d ago, a stamp, or `start`; without --follow, end with the newest event
    #[arg(long, value_name = "SINCE")]
    since: Option<String>,
    /// End here: an offset, or the last event before 30s, 15m, 2h, 1d ago or a stamp
    #[arg(long, value_name = "UNTIL", conflicts_with = "follow")]
    until: Option<String>,
    /// Go on behind the last event that the reader of this name has printed; a new one begins at --since, or now
    #[arg(long, value_name = "NAME")]
    cursor: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// With --since or --cursor: go on with new events
    #[arg(long, short = 'f')]
    follow: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum EventsVerb {
    /// List the cursors of readers and how far each is behind, or delete some
    #[command(after_help = "Examples:\n  halite events cursors\n  halite events cursors --delete shipper")]
    Cursors {
        /// Forget this cursor; may be given several times
        #[arg(long = "delete", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        delete: Vec<String>,
    },
    /// Show what the log consists of: rates and bytes by class of tag, segments, cursors
    #[command(after_help = "Example:\n  halite events stats --out json")]
    Stats,
}

/// After how many printed events a cursor is moved: as many may come twice after a crash.
const ACKNOWLEDGE_EVERY: usize = 256;

/// After what time it is moved at the latest.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(500);

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Layout {
    /// One JSON document with all of them.
    Json,
    /// One JSON document per line.
    Jsonl,
    /// Tag, tab, JSON on one line.
    Plain,
    /// Tag, tab, indented JSON.
    Pretty,
    /// Nothing.
    #[value(skip)]
    Quiet,
}

/// Which events, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Patterns; none means all.
    pub(super) tags: Vec<String>,
    /// Where to begin, as the API takes it.
    pub(super) since: String,
    /// Where to end, as the API takes it; none goes on for ever.
    pub(super) until: Option<String>,
    /// The cursor to go on behind, and to move.
    pub(super) cursor: Option<String>,
    /// After how many events to end.
    pub(super) count: Option<u64>,
    /// How to print them.
    pub(super) layout: Layout,
}

impl EventsArgs {
    fn reading(&self, out: Option<&str>) -> Result<Reading, Usage> {
        let layout = match out {
            None => Layout::Pretty,
            Some("quiet") => Layout::Quiet,
            Some(name) => Layout::from_str(name, false)
                .map_err(|_| Usage(format!("events are printed pretty, plain, jsonl or json; not {name}")))?,
        };
        let moment = |text: &Option<String>| {
            text.as_deref().map(|text| span::since(text, OffsetDateTime::now_utc())).transpose().map_err(Usage)
        };
        let (since, until) = (moment(&self.since)?, moment(&self.until)?);
        if until.as_deref().is_some_and(|until| matches!(until, "start" | "now")) {
            return Err(Usage("--until takes an offset, a span or a stamp; without it a reading ends now".to_owned()));
        }
        let ends = (since.is_some() || self.cursor.is_some()) && !self.follow;
        let until = until.or_else(|| ends.then(|| "head".to_owned()));
        if layout == Layout::Json && until.is_none() && self.count.is_none() {
            return Err(Usage(
                "--out json needs an end: give --count, or --since without --follow; or take jsonl".to_owned(),
            ));
        }
        // What has an end and no beginning begins with the oldest event.
        let begin = if self.until.is_some() && self.cursor.is_none() { "start" } else { "now" };
        let since = since.unwrap_or_else(|| begin.to_owned());
        Ok(Reading { tags: self.tags.clone(), since, until, cursor: self.cursor.clone(), count: self.count, layout })
    }
}

/// Prints events.
pub(super) async fn run(globals: &Globals, args: &EventsArgs) -> anyhow::Result<u8> {
    match &args.verb {
        Some(EventsVerb::Cursors { delete }) => return cursors(globals, delete).await,
        Some(EventsVerb::Stats) => return stats(globals).await,
        None => {}
    }
    let reading = args.reading(globals.output.out.as_deref())?;
    let mut out = Out::without_format(&globals.output)?;
    read(&globals.client()?, &reading, &mut out).await
}

/// Prints the events of a reading until its end, or until Ctrl-C.
pub(super) async fn read(client: &Client, reading: &Reading, out: &mut Out) -> anyhow::Result<u8> {
    if reading.count == Some(0) {
        return Ok(exit::OK);
    }
    let mut events =
        client.events_of(&reading.tags, &reading.since, reading.until.as_deref(), reading.cursor.as_deref()).await?;
    let mut place = Place { client, name: reading.cursor.as_deref(), printed: None, count: 0 };
    let mut collected = Vec::new();
    let printed = pump(&mut events, reading, &mut place, out, &mut collected).await;
    if reading.layout == Layout::Json && printed.is_ok() {
        out.text(&render::output::render(Format::Json, &Value::List(collected), out.style()))?;
    }
    // Also when printing has failed: what went out before is not to come again.
    place.acknowledge().await?;
    printed
}

/// Prints events until the end of the reading; returns the exit code.
async fn pump(
    events: &mut Events,
    reading: &Reading,
    place: &mut Place<'_>,
    out: &mut Out,
    collected: &mut Vec<Value>,
) -> anyhow::Result<u8> {
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut left = reading.count;
    while left != Some(0) {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = &mut interrupt => return Ok(exit::INTERRUPTED),
            () = tokio::time::sleep(ACKNOWLEDGE_AFTER), if place.is_behind(reading.layout) => {
                place.acknowledge().await?;
                continue;
            }
        };
        let Some(event) = event else {
            if reading.until.is_some() {
                // What lies between the last event that was wanted and the end need not be looked at again.
                events.until().into_iter().for_each(|until| place.printed(until));
                break;
            }
            tell("the master has stopped\n");
            return Ok(exit::UNREACHABLE);
        };
        print(&event, reading.layout, out, collected)?;
        place.printed(event.offset);
        if is_gap(&event) {
            tell(&gap(&event, reading.cursor.as_deref()));
            continue;
        }
        if place.count >= ACKNOWLEDGE_EVERY && reading.layout != Layout::Json {
            place.acknowledge().await?;
        }
        left = left.map(|left| left - 1);
    }
    Ok(exit::OK)
}

/// Tells whether an event says that others are missing before it.
fn is_gap(event: &EventView) -> bool {
    !event.durable && event.tag == Tag::bus("gap").as_str()
}

fn gap(event: &EventView, cursor: Option<&str>) -> String {
    let [count, first, last] = ["count", "first", "last"].map(|name| event.data[name].as_u64().unwrap_or_default());
    let whose = cursor.map(|name| format!(" behind cursor {name}")).unwrap_or_default();
    match event.data["reason"].as_str() {
        Some(reason @ ("damaged" | "missing")) => {
            format!(
                "{count} events{whose} are {reason}, offsets {first} to {last}; `halite store check` names the file\n"
            )
        }
        _ => format!(
            "{count} events{whose} are deleted, offsets {first} to {last}: older than the log is kept; see event_retention_age and \
             event_retention_bytes\n"
        ),
    }
}

/// Where a reader with a name is.
struct Place<'a> {
    client: &'a Client,
    name: Option<&'a str>,
    /// The last event that is dealt with and that the master does not know of.
    printed: Option<u64>,
    count: usize,
}

impl Place<'_> {
    fn printed(&mut self, offset: u64) {
        if self.name.is_some() {
            (self.printed, self.count) = (Some(offset), self.count + 1);
        }
    }

    /// Tells whether there is something to say. One JSON document is out only at its end.
    fn is_behind(&self, layout: Layout) -> bool {
        self.printed.is_some() && layout != Layout::Json
    }

    async fn acknowledge(&mut self) -> anyhow::Result<()> {
        if let (Some(name), Some(offset)) = (self.name, self.printed) {
            self.client.advance_cursor(name, offset).await?;
            (self.printed, self.count) = (None, 0);
        }
        Ok(())
    }
}

async fn cursors(globals: &Globals, delete: &[String]) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    for name in delete {
        client.delete_cursor(name).await?;
        tell(&format!("cursor {name} is deleted\n"));
    }
    if delete.is_empty() {
        let cursors = client.cursors().await?;
        match out.format() {
            Some(format) => out.items(format, &Value::from_json(&cursors))?,
            None => out.text(&stats::cursors(&cursors))?,
        }
    }
    Ok(exit::OK)
}

async fn stats(globals: &Globals) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let stats = globals.client()?.event_stats().await?;
    match out.format() {
        Some(format) => out.value(format, &Value::from_json(&stats))?,
        None => out.text(&stats::text(&stats))?,
    }
    Ok(exit::OK)
}

fn print(event: &EventView, layout: Layout, out: &mut Out, collected: &mut Vec<Value>) -> std::io::Result<()> {
    let data = Value::from_json(&event.data);
    let shown = event::Event { tag: &event.tag, offset: Some(event.offset), durable: event.durable, data: &data };
    match layout {
        Layout::Json => {
            let mut document = proto::map! { "tag" => event.tag.as_str(), "offset" => event.offset };
            if !event.durable {
                document.set("durable", false);
            }
            document.set("data", data);
            collected.push(document.into());
            Ok(())
        }
        Layout::Jsonl => out.text(&event::jsonl(&shown)),
        Layout::Plain => out.text(&event::plain(&shown, out.style())),
        Layout::Pretty => out.text(&event::pretty(&shown, out.style())),
        Layout::Quiet => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(since: Option<&str>, count: Option<u64>, follow: bool) -> EventsArgs {
        let since = since.map(str::to_owned);
        EventsArgs { verb: None, tags: Vec::new(), since, until: None, cursor: None, count, follow }
    }

    #[test]
    fn a_reading_of_the_log_ends_and_a_live_one_does_not() {
        let check = |args: EventsArgs, since: &str, until: Option<&str>| {
            let reading = args.reading(None).unwrap();
            assert_eq!((reading.since.as_str(), reading.until.as_deref()), (since, until));
        };
        check(args(None, None, false), "now", None);
        check(args(Some("start"), None, false), "start", Some("head"));
        check(args(Some("17"), None, true), "17", None);
        check(EventsArgs { until: Some("9".into()), ..args(None, None, false) }, "start", Some("9"));
        check(EventsArgs { until: Some("9".into()), ..args(Some("7"), None, false) }, "7", Some("9"));
        check(EventsArgs { cursor: Some("c".into()), ..args(None, None, false) }, "now", Some("head"));
        check(EventsArgs { cursor: Some("c".into()), ..args(Some("start"), None, true) }, "start", None);
        assert!(args(Some("x"), None, false).reading(None).is_err());
        assert!(EventsArgs { until: Some("start".into()), ..args(None, None, false) }.reading(None).is_err());
    }

    #[test]
    fn a_gap_is_told_with_its_reader() {
        let data = serde_json::json!({"first": 3, "last": 9, "count": 7});
        let event = |durable| EventView { tag: "halite/bus/gap".into(), offset: 9, durable, data: data.clone() };
        assert!(is_gap(&event(false)) && !is_gap(&event(true)), "anybody may fire such a tag as the master");
        let text = gap(&event(false), Some("ship"));
        assert!(text.starts_with("7 events behind cursor ship are deleted, offsets 3 to 9: "), "{text}");
        assert!(gap(&event(false), None).starts_with("7 events are deleted"));
        let damaged = serde_json::json!({"first": 3, "last": 9, "count": 7, "reason": "damaged"});
        let text = gap(&EventView { data: damaged, ..event(false) }, None);
        assert_eq!(text, "7 events are damaged, offsets 3 to 9; `halite store check` names the file\n");
    }

    #[test]
    fn one_json_document_needs_an_end() {
        assert!(args(None, None, false).reading(Some("json")).is_err());
        assert!(args(Some("start"), None, true).reading(Some("json")).is_err());
        assert!(args(Some("start"), None, false).reading(Some("json")).is_ok());
        assert!(args(None, Some(3), false).reading(Some("json")).is_ok());
        assert!(args(None, None, false).reading(Some("yaml")).is_err());
    }
}
