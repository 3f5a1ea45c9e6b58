//! `halite reload`: the master reads its configuration again; a bad one is refused and the old one stays.

use proto::value::Value;
use render::output::Format;

use super::exit;
use super::globals::Globals;
use super::out::Out;
use crate::api::client::ClientError;

/// Have the master read its configuration again
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  halite reload")]
pub(crate) struct ReloadArgs {}

/// Asks for it, and prints what changed.
pub(super) async fn run(globals: &Globals) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let answer = match globals.client()?.reload().await {
        // The file is wrong, not the command line.
        Err(ClientError::Refused { code, message }) if code == "invalid" => anyhow::bail!(message),
        other => Value::from_json(&other?),
    };
    match (answer.is_null(), out.format()) {
        (true, None) => out.text("The configuration was read again.\n")?,
        _ => out.value(Format::Nested, &answer)?,
    }
    Ok(exit::OK)
}
