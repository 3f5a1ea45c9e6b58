//! `wheel`: changes and shows keys. Of Salt's wheel, only the functions of `key` exist here.
//!
//! ```yaml
//! let it in:
//!   wheel.key.accept:
//!     - args:
//!       - match: {{ data['id'] }}
//! ```

use proto::value::{Map, MapExt, Value};

use super::arguments::Arguments;
use super::{Kind, Reaction, ReactionError};
use crate::command::{Command, KeySelection};
use crate::reactor::high::Chunk;

pub(super) const KIND: Kind = Kind { name: NAME, aliases: &[], build };

const NAME: &str = "wheel";

fn build(chunk: &Chunk, _key: &str) -> Result<Reaction, ReactionError> {
    let arguments = Arguments::read(chunk, NAME)?.with_flat(chunk);
    let selection = || select(chunk, &arguments);
    let command = match chunk.fun.as_str() {
        "key.accept" => Command::KeyAccept(selection()?),
        "key.delete" => Command::KeyDelete(selection()?),
        "key.finger" => Command::KeyFinger(selection()?),
        "key.list" | "key.list_all" => Command::KeyList,
        "key.reject" => Command::KeyReject(selection()?),
        _ => {
            let remedy = "wheel reactions can be key.accept, key.delete, key.finger, key.list and key.reject";
            return Err(ReactionError::Unsupported {
                id: chunk.id.clone(),
                state: NAME,
                fun: chunk.fun.clone(),
                remedy,
            });
        }
    };
    Ok(Reaction { command, notes: arguments.notes })
}

fn select(chunk: &Chunk, arguments: &Arguments) -> Result<KeySelection, ReactionError> {
    let given = arguments.kwarg.at("match").or(arguments.arg.first());
    let globs = match given {
        Some(Value::Str(glob)) => vec![glob.clone()],
        Some(Value::Int(number)) => vec![number.to_string()],
        Some(Value::List(items)) => items.iter().map(Value::to_key).collect(),
        _ => Vec::new(),
    };
    if globs.is_empty() {
        let what = "missing 1 required argument: 'match'".to_owned();
        return Err(ReactionError::Arguments { id: chunk.id.clone(), state: NAME, fun: chunk.fun.clone(), what });
    }
    let flag = |kwarg: &Map, name: &str| kwarg.at(name).is_some_and(Value::is_truthy);
    Ok(KeySelection {
        globs,
        include_rejected: flag(&arguments.kwarg, "include_rejected"),
        include_denied: flag(&arguments.kwarg, "include_denied"),
        include_accepted: flag(&arguments.kwarg, "include_accepted"),
        dry_run: false,
    })
}
