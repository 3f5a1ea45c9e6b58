//! The functions behind `salt[…]` in reactor files: what can be answered without touching anything.

use proto::map;
use proto::value::{Map, Value};
use render::jinja::Functions;

/// `salt['test.echo']('text')` and its like.
#[derive(Debug, Clone, Copy)]
pub(super) struct MasterFunctions;

impl Functions for MasterFunctions {
    fn call(&self, name: &str, args: Vec<Value>, kwargs: Map) -> Result<Value, String> {
        match name {
            "test.arg" => Ok(map! { "args" => args, "kwargs" => kwargs }.into()),
            "test.echo" => args.into_iter().next().ok_or_else(|| "test.echo needs a text".to_owned()),
            "test.ping" => Ok(Value::Bool(true)),
            _ => Err(format!(
                "the function '{name}' is not available in reactor files: nothing runs on the master for a template"
            )),
        }
    }
}
