//! `caller`: runs a function of the minion that reacts. The master's reactor has none of its own.

use super::{Kind, Reaction, ReactionError};
use crate::reactor::high::Chunk;

pub(super) const KIND: Kind = Kind { name: "caller", aliases: &[], build };

fn build(chunk: &Chunk, _key: &str) -> Result<Reaction, ReactionError> {
    let (id, fun) = (chunk.id.clone(), chunk.fun.clone());
    let remedy = "the reactor runs on the master: use local with the minion as tgt";
    Err(ReactionError::Unsupported { id, state: "caller", fun, remedy })
}
