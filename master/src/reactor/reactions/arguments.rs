//! The arguments of a reaction, in all forms that Salt ever took: `args`, `arg` with `kwarg`, and flat keys.

use proto::value::{Map, MapExt, Value};
use render::python;

use super::ReactionError;
use crate::reactor::high::Chunk;

/// Keys of a chunk that are never arguments of the function.
const INTERNAL: &[&str] = &["arg", "args", "fun", "kwarg", "names", "order", "state"];

/// Arguments, and what of them is ignored.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arguments {
    /// Positional.
    pub(super) arg: Vec<Value>,
    /// By name.
    pub(super) kwarg: Map,
    /// What was given but is ignored, for the log.
    pub(super) notes: Vec<String>,
}

impl Arguments {
    /// Reads `args` if there is any, else `arg` and `kwarg`.
    pub(super) fn read(chunk: &Chunk, state: &'static str) -> Result<Arguments, ReactionError> {
        let given = &chunk.given;
        let Some(args) = given.at("args") else {
            let arg = match given.at("arg") {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::List(items)) => items.clone(),
                Some(one) => vec![one.clone()],
            };
            let kwarg = match given.at("kwarg") {
                None | Some(Value::Null) => Map::new(),
                Some(kwarg) => named(kwarg).ok_or_else(|| malformed(chunk, state))?,
            };
            return Ok(Arguments { arg, kwarg, notes: Vec::new() });
        };
        let kwarg = named(args).ok_or_else(|| malformed(chunk, state))?;
        let ignored = |name: &&str| given.at(name).is_some();
        let note = |name: &str| {
            format!(
                "Reactor '{}' is ignoring '{name}' param {} due to presence of 'args' param. Check the Reactor System \
                 documentation for the correct argument format.",
                chunk.id,
                python::str(given.at(name).unwrap_or(&Value::Null))
            )
        };
        Ok(Arguments {
            arg: Vec::new(),
            kwarg,
            notes: ["arg", "kwarg"].into_iter().filter(ignored).map(note).collect(),
        })
    }

    /// Adds the flat keys of a chunk; what `kwarg` says counts more.
    pub(super) fn with_flat(mut self, chunk: &Chunk) -> Arguments {
        if chunk.given.at("args").is_some() {
            return self;
        }
        let mut flat = flat_keys(chunk);
        flat.extend(self.kwarg);
        self.kwarg = flat;
        self
    }
}

/// Returns the keys of a chunk that no form of arguments explains.
pub(super) fn flat_keys(chunk: &Chunk) -> Map {
    let is_flat = |name: &str| !name.starts_with("__") && !INTERNAL.contains(&name);
    let keys = chunk.given.iter().filter(|(name, _)| name.as_str().is_some_and(is_flat));
    keys.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Reads keyword arguments: a map, or a list of one-key maps (a bare name in it means null, as in Salt).
fn named(value: &Value) -> Option<Map> {
    let items = match value {
        Value::Map(map) => return Some(map.clone()),
        Value::List(items) if !items.is_empty() => items,
        _ => return None,
    };
    let mut named = Map::new();
    for item in items {
        match item {
            Value::Map(map) if map.len() == 1 => named.extend(map.clone()),
            Value::Str(_) | Value::Int(_) | Value::Float(_) => drop(named.insert(item.clone(), Value::Null)),
            _ => return None,
        }
    }
    Some(named)
}

fn malformed(chunk: &Chunk, state: &'static str) -> ReactionError {
    let what = "Incorrect argument format, check the Reactor System documentation for the correct format.";
    ReactionError::Arguments { id: chunk.id.clone(), state, fun: chunk.fun.clone(), what: what.to_owned() }
}
