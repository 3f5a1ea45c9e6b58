//! `runner`: runs a function on the master.
//!
//! ```yaml
//! tell:
//!   runner.event.send:
//!     - args:
//!       - tag: site/alert
//!       - data: {{ data | json }}
//! ```

use proto::map;
use proto::value::{MapExt, Value};

use super::arguments::Arguments;
use super::{Kind, Reaction, ReactionError};
use crate::command::Command;
use crate::reactor::high::Chunk;
use crate::reactor::state::KEY;

pub(super) const KIND: Kind = Kind { name: "runner", aliases: &[], build };

fn build(chunk: &Chunk, key: &str) -> Result<Reaction, ReactionError> {
    let mut arguments = Arguments::read(chunk, "runner")?.with_flat(chunk);
    if chunk.fun == "event.send" && !key.is_empty() {
        mark(&mut arguments, key);
    }
    let Arguments { arg, kwarg, notes } = arguments;
    Ok(Reaction { command: Command::Run { fun: chunk.fun.clone(), arg, kwarg, jid: None }, notes })
}

/// Puts the key of the reaction into the data: an event that is fired twice after a crash can be told by it, and so can
/// a loop of events.
fn mark(arguments: &mut Arguments, key: &str) {
    let positional = arguments.arg.get_mut(1);
    let data = if positional.is_some() { positional } else { arguments.kwarg.get_mut(&Value::from("data")) };
    match data {
        Some(Value::Map(data)) => data.set(KEY, key),
        Some(data @ Value::Null) => *data = map! { KEY => key }.into(),
        // It is not data, and the runner will say so.
        Some(_) => {}
        None => arguments.kwarg.set("data", map! { KEY => key }),
    }
}
