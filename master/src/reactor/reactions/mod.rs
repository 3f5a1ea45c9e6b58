//! Reaction types: one file each, from a chunk to a [`Command`]. Pure: the same chunk gives the same command.

mod arguments;
mod caller;
mod local;
mod runner;
mod wheel;

use proto::map;
use proto::value::{Map, MapExt};

use super::high::Chunk;
use crate::command::Command;

/// A reaction type.
pub(super) struct Kind {
    /// The part of `local.test.ping` before the first dot.
    name: &'static str,
    /// Older names of it.
    aliases: &'static [&'static str],
    /// Builds the command. The key is unique to this reaction: what is fired twice can be told by it.
    build: fn(&Chunk, &str) -> Result<Reaction, ReactionError>,
}

/// What a chunk is about to do.
#[derive(Debug, PartialEq)]
pub(super) struct Reaction {
    /// What is asked at the door.
    pub(super) command: Command,
    /// What was given but is ignored, for the log.
    pub(super) notes: Vec<String>,
}

/// Why a chunk cannot do anything. In Salt's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReactionError {
    /// The arguments make no sense.
    #[error("Reactor '{id}' failed to execute {state} '{fun}': {what}")]
    Arguments {
        /// The id.
        id: String,
        /// The reaction type.
        state: &'static str,
        /// The function.
        fun: String,
        /// What is wrong.
        what: String,
    },
    /// The type is known, but not to this version.
    #[error("Reactor '{id}' failed to execute {state} '{fun}': not supported in this version; {remedy}")]
    Unsupported {
        /// The id.
        id: String,
        /// The reaction type.
        state: &'static str,
        /// The function.
        fun: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// There is no such type.
    #[error("Reactor '{id}': ReactWrap is missing a wrapper function for '{state}'; known are {known}")]
    Unknown {
        /// The id.
        id: String,
        /// The type asked for.
        state: String,
        /// The types there are.
        known: String,
    },
}

/// Returns all reaction types, alphabetical.
pub(super) fn all() -> &'static [Kind] {
    &[caller::KIND, local::KIND, runner::KIND, wheel::KIND]
}

/// Returns the name of a type, where an alias was given.
pub(super) fn kind_name(state: &str) -> &str {
    find(state).map_or(state, |kind| kind.name)
}

/// Builds what a chunk asks for.
pub(super) fn build(chunk: &Chunk, key: &str) -> Result<Reaction, ReactionError> {
    let Some(kind) = find(&chunk.state) else {
        let known = all().iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
        return Err(ReactionError::Unknown { id: chunk.id.clone(), state: chunk.state.clone(), known });
    };
    (kind.build)(chunk, key)
}

fn find(state: &str) -> Option<&'static Kind> {
    all().iter().find(|kind| kind.name == state || kind.aliases.contains(&state))
}

/// Shows a command, for `reactor test`.
pub(super) fn describe(command: &Command) -> Map {
    match command {
        Command::Publish(job) => {
            let mut shown = map! { "tgt" => job.target.tgt.clone(), "tgt_type" => job.target.tgt_type.as_str(),
            "arg" => job.arg.clone(), "ret" => job.ret.as_str() };
            if let Some(metadata) = &job.metadata {
                shown.set("metadata", metadata.clone());
            }
            shown
        }
        Command::Run { arg, kwarg, .. } | Command::Wheel { arg, kwarg, .. } => {
            map! { "arg" => arg.clone(), "kwarg" => kwarg.clone() }
        }
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
