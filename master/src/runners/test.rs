//! `test`: shows what arrives.

use proto::map;
use proto::value::Value;

use super::{Args, Function, Runner, RunnerContext};
use crate::command::CommandError;

pub(super) const RUNNER: Runner = Runner {
    name: "test",
    functions: &[Function { name: "arg", usage: "test.arg …", run: |context, args| Box::pin(arg(context, args)) }],
};

/// Returns its arguments.
async fn arg(_: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    Ok(map! { "args" => args.arg, "kwargs" => args.kwarg }.into())
}
