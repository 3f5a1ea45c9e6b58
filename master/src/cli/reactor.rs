//! `halite reactor`: the rules, and what an event would set off.

use proto::value::Value;
use render::output::Format;

use super::exit::{self, Usage};
use super::globals::Globals;
use super::out::Out;
use crate::api::events::FireRequest;

/// Show the reactor's rules, or what an event would set off
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite reactor list
  halite reactor test --tag salt/beacon/web1/load/ --data '{\"id\": \"web1\", \"1m\": 9.5}'")]
pub(crate) struct ReactorArgs {
    #[command(subcommand)]
    verb: ReactorVerb,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum ReactorVerb {
    /// Show the rules
    #[command(after_help = "Example:\n  halite reactor list")]
    List,
    /// Show what an event would set off; nothing is run
    #[command(after_help = "Example:\n  halite reactor test --tag myco/deploy --data '{\"version\": 7}'")]
    Test {
        /// The event's tag
        #[arg(long, value_name = "TAG")]
        tag: String,
        /// The event's data: JSON or YAML, a map
        #[arg(long, value_name = "DATA", default_value = "{}")]
        data: String,
    },
}

/// Does what the verb says.
pub(super) async fn run(globals: &Globals, args: ReactorArgs) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    let value = match args.verb {
        ReactorVerb::List => client.reactor().await?,
        ReactorVerb::Test { tag, data } => client.reactor_test(&FireRequest { tag, data: map_of(&data)? }).await?,
    };
    out.value(Format::Nested, &Value::from_json(&value))?;
    Ok(exit::OK)
}

/// Reads the data of an event: JSON, or YAML in one line.
fn map_of(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, Usage> {
    if let Ok(map) = serde_json::from_str(text) {
        return Ok(map);
    }
    match render::yaml::cli_arg(text).to_json() {
        serde_json::Value::Object(map) => Ok(map),
        _ => Err(Usage(format!("--data is not a map: {text:?}; write {{\"key\": \"value\"}}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_a_map_in_json_or_yaml() {
        assert_eq!(map_of("{\"a\":\n1}").unwrap()["a"], 1);
        assert_eq!(map_of("{a: 1}").unwrap()["a"], 1);
        assert!(map_of("[1]").is_err());
        assert!(map_of("a: 1").is_err());
    }
}
