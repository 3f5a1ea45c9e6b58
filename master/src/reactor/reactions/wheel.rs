//! `wheel`: manages the master. Of Salt's wheel, the functions of `key` exist here.
//!
//! ```yaml
//! let it in:
//!   wheel.key.accept:
//!     - args:
//!       - match: {{ data['id'] }}
//! ```

use super::arguments::Arguments;
use super::{Kind, Reaction, ReactionError};
use crate::command::Command;
use crate::reactor::high::Chunk;

pub(super) const KIND: Kind = Kind { name: NAME, aliases: &[], build };

const NAME: &str = "wheel";

fn build(chunk: &Chunk, _key: &str) -> Result<Reaction, ReactionError> {
    let Arguments { arg, kwarg, notes } = Arguments::read(chunk, NAME)?.with_flat(chunk);
    Ok(Reaction { command: Command::Wheel { fun: chunk.fun.clone(), arg, kwarg, jid: None }, notes })
}
