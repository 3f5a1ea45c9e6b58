//! `halite run FUN [ARGS]…`: a function on the master. `state.event` is read from the event stream instead.

use anyhow::bail;
use proto::value::{Map, MapExt as _, Value};
use render::output::Format;

use super::args::Typed;
use super::events::{self, Layout, Reading};
use super::exit::{self, Usage};
use super::globals::{Face, Globals};
use super::out::Out;
use crate::api::run::RunRequest;

/// Run a function on the master (a runner)
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite run jobs.list_jobs search_function='test.*'
  halite run event.send myco/deploy '{version: 7}'
  halite run state.event 'salt/job/*' pretty=True")]
pub(crate) struct RunArgs {
    /// The function
    #[arg(value_name = "FUN")]
    pub(super) fun: String,
    /// Its arguments: YAML, keyword arguments as name=value
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    pub(super) args: Vec<String>,
}

/// Runs the function and prints what it returns.
pub(super) async fn run(globals: &Globals, args: &RunArgs) -> anyhow::Result<u8> {
    let typed = Typed::read(&args.args, &[]);
    let client = globals.client()?;
    if args.fun == "state.event" {
        let reading = state_event(typed)?;
        let mut out = Out::without_format(&globals.output)?;
        let code = events::read(&client, &reading, &mut out).await?;
        if globals.face != Face::Halite {
            // Salt's runner returns nothing, and says so.
            out.text("None\n")?;
        }
        return Ok(code);
    }
    let mut out = Out::open(globals)?;
    let kwarg = match Value::Map(typed.kwarg).to_json() {
        serde_json::Value::Object(kwarg) => kwarg,
        _ => bail!("keyword arguments are a map"),
    };
    let request = RunRequest { fun: args.fun.clone(), arg: typed.arg.iter().map(Value::to_json).collect(), kwarg };
    let value = Value::from_json(&client.run(&request).await?);
    out.value(Format::Nested, &value)?;
    Ok(exit::OK)
}

/// Reads the arguments of `state.event(tagmatch="*", count=-1, quiet=False, sock_dir=None, pretty=False, node=…)`.
fn state_event(typed: Typed) -> Result<Reading, Usage> {
    const NAMES: [&str; 6] = ["tagmatch", "count", "quiet", "sock_dir", "pretty", "node"];
    let mut given: Map = typed.kwarg;
    if typed.arg.len() > NAMES.len() {
        return Err(Usage("state.event takes at most 6 arguments".to_owned()));
    }
    for (name, value) in NAMES.into_iter().zip(typed.arg) {
        given.set(name, value);
    }
    if let Some(unknown) = given.keys().find(|name| !NAMES.contains(&name.as_str().unwrap_or(""))) {
        return Err(Usage(format!("state.event does not take {unknown:?}; known are {}", NAMES.join(", "))));
    }
    let flag = |name: &str| given.at(name).is_some_and(Value::is_truthy);
    let tag =
        given.at("tagmatch").map_or("*".to_owned(), |tag| tag.as_str().map_or_else(|| tag.to_key(), str::to_owned));
    let layout = match (flag("quiet"), flag("pretty")) {
        (true, _) => Layout::Quiet,
        (false, true) => Layout::Pretty,
        (false, false) => Layout::Plain,
    };
    // Below zero means for ever.
    let count = given.at("count").and_then(Value::as_u64);
    Ok(Reading { tags: vec![tag], since: "now".to_owned(), until: None, cursor: None, count, layout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(words: &[&str]) -> Result<Reading, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        state_event(Typed::read(&words, &[])).map_err(|error| error.to_string())
    }

    #[test]
    fn state_event_takes_salts_arguments() {
        let check = |words: &[&str], tag: &str, count: Option<u64>, layout: Layout| {
            let reading = reading(words).unwrap();
            assert_eq!(
                (reading.tags, reading.count, reading.layout),
                (vec![tag.to_owned()], count, layout),
                "{words:?}"
            );
        };
        check(&[], "*", None, Layout::Plain);
        check(&["pretty=True"], "*", None, Layout::Pretty);
        check(&["salt/job/*/ret/*", "count=1", "pretty=False"], "salt/job/*/ret/*", Some(1), Layout::Plain);
        check(&["tagmatch=a/*", "count=-1", "quiet=True", "pretty=True"], "a/*", None, Layout::Quiet);
        check(&["a", "2", "False", "None", "True"], "a", Some(2), Layout::Pretty);
        assert!(reading(&["color=red"]).unwrap_err().contains("does not take \"color\""));
    }
}
