//! `halite events`: the bus, as it happens or from the log.

use clap::ValueEnum as _;
use proto::value::Value;
use render::output::{Format, event};
use time::OffsetDateTime;

use super::exit::{self, Usage};
use super::globals::Globals;
use super::out::{Out, tell};
use super::span;
use crate::api::client::Client;
use crate::api::events::EventView;

/// Show events as they happen, or from the log
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite events
  halite events --tag 'salt/beacon/*' --since 2h
  halite events --tag 'salt/job/*/ret/*' --count 1 --out jsonl
  halite events --since start --follow --out plain")]
pub(crate) struct EventsArgs {
    /// Only events whose tag matches this pattern; may be given several times
    #[arg(long = "tag", value_name = "GLOB")]
    tags: Vec<String>,
    /// Begin here: an offset, 30s, 15m, 2h, 1d ago, a stamp, or `start`; without --follow, end with the newest event
    #[arg(long, value_name = "SINCE")]
    since: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// With --since: go on with new events
    #[arg(long, short = 'f')]
    follow: bool,
}

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
    /// Whether to end with the newest event.
    pub(super) ends_at_head: bool,
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
        let since = self.since.as_deref().map(|text| span::since(text, OffsetDateTime::now_utc()));
        let since = since.transpose().map_err(Usage)?;
        let ends_at_head = since.is_some() && !self.follow;
        if layout == Layout::Json && !ends_at_head && self.count.is_none() {
            return Err(Usage(
                "--out json needs an end: give --count, or --since without --follow; or take jsonl".to_owned(),
            ));
        }
        let since = since.unwrap_or_else(|| "now".to_owned());
        Ok(Reading { tags: self.tags.clone(), since, ends_at_head, count: self.count, layout })
    }
}

/// Prints events.
pub(super) async fn run(globals: &Globals, args: &EventsArgs) -> anyhow::Result<u8> {
    let reading = args.reading(globals.output.out.as_deref())?;
    let mut out = Out::without_format(&globals.output)?;
    read(&globals.client()?, &reading, &mut out).await
}

/// Prints the events of a reading until its end, or until Ctrl-C.
pub(super) async fn read(client: &Client, reading: &Reading, out: &mut Out) -> anyhow::Result<u8> {
    if reading.count == Some(0) {
        return Ok(exit::OK);
    }
    let until = reading.ends_at_head.then_some("head");
    let mut events = client.events(&reading.tags, &reading.since, until).await?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut collected = Vec::new();
    let mut left = reading.count;
    let mut code = exit::OK;
    while left != Some(0) {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = &mut interrupt => {
                code = exit::INTERRUPTED;
                break;
            }
        };
        let Some(event) = event else {
            if !reading.ends_at_head {
                tell("the master has stopped\n");
                code = exit::UNREACHABLE;
            }
            break;
        };
        print(&event, reading.layout, out, &mut collected)?;
        left = left.map(|left| left - 1);
    }
    if reading.layout == Layout::Json {
        out.text(&render::output::render(Format::Json, &Value::List(collected), out.style()))?;
    }
    Ok(code)
}

fn print(event: &EventView, layout: Layout, out: &mut Out, collected: &mut Vec<Value>) -> std::io::Result<()> {
    let data = Value::from_json(&event.data);
    let shown = event::Event { tag: &event.tag, offset: Some(event.offset), data: &data };
    match layout {
        Layout::Json => {
            let document = proto::map! { "tag" => event.tag.as_str(), "offset" => event.offset, "data" => data };
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
        EventsArgs { tags: Vec::new(), since: since.map(str::to_owned), count, follow }
    }

    #[test]
    fn a_reading_of_the_log_ends_and_a_live_one_does_not() {
        let check = |args: EventsArgs, since: &str, ends: bool| {
            let reading = args.reading(None).unwrap();
            assert_eq!((reading.since.as_str(), reading.ends_at_head), (since, ends));
        };
        check(args(None, None, false), "now", false);
        check(args(Some("start"), None, false), "start", true);
        check(args(Some("17"), None, true), "17", false);
        assert!(args(Some("x"), None, false).reading(None).is_err());
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
