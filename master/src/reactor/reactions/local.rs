//! `local` (`cmd`): publishes a job.
//!
//! ```yaml
//! restart nginx:
//!   local.service.restart:
//!     - tgt: {{ data['id'] }}
//!     - args:
//!       - name: nginx
//! ```

use proto::ids::Jid;
use proto::map;
use proto::value::{Map, MapExt, Value};

use super::arguments::{Arguments, flat_keys};
use super::{Kind, Reaction, ReactionError};
use crate::command::{Command, PublishRequest, TargetText};
use crate::reactor::high::Chunk;

pub(super) const KIND: Kind = Kind { name: NAME, aliases: &["cmd"], build };

const NAME: &str = "local";

/// Keys that say where and how the job goes. `jid` and `timeout` are of no use to something that waits for nothing.
const KNOWN: &[&str] = &["delimiter", "expr_form", "jid", "metadata", "name", "ret", "tgt", "tgt_type", "timeout"];

fn build(chunk: &Chunk, _key: &str) -> Result<Reaction, ReactionError> {
    let mut arguments = Arguments::read(chunk, NAME)?;
    let tgt = target(chunk)?;
    let mut target = TargetText::new(tgt, chunk.given.text("tgt_type").or(chunk.given.text("expr_form")));
    target.delimiter = chunk.given.text("delimiter").map(str::to_owned);
    let mut arg: Vec<Value> = arguments.arg.into_iter().map(conditioned).collect();
    if !arguments.kwarg.is_empty() {
        let mut keywords = map! { "__kwarg__" => true };
        keywords.extend(arguments.kwarg);
        arg.push(keywords.into());
    }
    arguments.notes.extend(note_strays(chunk));
    let request = PublishRequest {
        target,
        fun: chunk.fun.as_str().into(),
        arg,
        ret: returners(chunk.given.at("ret")),
        jid: None,
        ttl: None,
        metadata: chunk.given.at("metadata").cloned(),
        options: Map::new(),
    };
    Ok(Reaction { command: Command::Publish(request), notes: arguments.notes })
}

fn target(chunk: &Chunk) -> Result<Value, ReactionError> {
    let wrong = |what: &str| ReactionError::Arguments {
        id: chunk.id.clone(),
        state: NAME,
        fun: chunk.fun.clone(),
        what: what.to_owned(),
    };
    match chunk.given.at("tgt") {
        None => Err(wrong("missing 1 required argument: 'tgt'")),
        // An id that looks like a number to YAML.
        Some(Value::Int(number)) => Ok(number.to_string().into()),
        Some(Value::Str(text)) if text.is_empty() => Err(wrong("'tgt' is empty")),
        Some(tgt @ (Value::Str(_) | Value::List(_))) => Ok(tgt.clone()),
        Some(other) => Err(wrong(&format!("'tgt' must be text or a list, not {}", other.kind()))),
    }
}

/// A jid without quotes is a number to YAML; the function expects text, so Salt makes it text.
fn conditioned(value: Value) -> Value {
    match value {
        Value::Int(number) if Jid::parse(&number.to_string()).is_ok() => number.to_string().into(),
        other => other,
    }
}

fn returners(ret: Option<&Value>) -> String {
    match ret {
        Some(Value::Str(text)) => text.clone(),
        Some(Value::List(items)) => items.iter().map(Value::to_key).collect::<Vec<_>>().join(","),
        _ => String::new(),
    }
}

/// Salt drops such keys without a word, and the function runs without its arguments.
fn note_strays(chunk: &Chunk) -> Option<String> {
    let strays: Map =
        flat_keys(chunk).into_iter().filter(|(name, _)| !KNOWN.contains(&name.as_str().unwrap_or(""))).collect();
    if strays.is_empty() {
        return None;
    }
    let names: Vec<String> = strays.keys().map(|name| format!("'{}'", name.to_key())).collect();
    Some(format!("Reactor '{}' is ignoring {}, which is no option of local", chunk.id, names.join(", ")))
}
