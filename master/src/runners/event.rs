//! `event`: fires events as the master.

use proto::value::{Map, MapExt, Value};

use super::args::{self, Args};
use super::{Function, Runner, RunnerContext};
use crate::command::{Command, CommandError, Reply};

pub(super) const RUNNER: Runner = Runner {
    name: "event",
    functions: &[Function { name: "send", usage: SEND, run: |context, args| Box::pin(send(context, args)) }],
};

const SEND: &str = "event.send TAG [data={…}] [key=value…]";

/// Fires `data` under `tag`. Further keyword arguments become fields of the data, as `event.send` of a minion does it.
async fn send(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let tag = args.need_text(0, "tag", SEND)?;
    let mut data = match args.take(1, "data") {
        None => Map::new(),
        Some(Value::Map(data)) => data,
        Some(other) => return Err(args::invalid(&format!("data must be a map, not {}", other.kind()), SEND)),
    };
    for (name, value) in std::mem::take(&mut args.kwarg) {
        if !args::is_internal(&name) {
            data.insert(name, value);
        }
    }
    args.finish(2, SEND)?;
    // The bus sets its own.
    data.take("_stamp");
    match context.door.ask(context.caller.clone(), Command::Fire { tag, data }).await? {
        Reply::Done => Ok(Value::Bool(true)),
        _ => Ok(Value::Bool(false)),
    }
}
