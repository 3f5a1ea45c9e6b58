//! `reactor`: shows the reactor's rules.

use proto::value::Value;

use super::{Args, Function, Runner, RunnerContext};
use crate::command::{Command, CommandError};

pub(super) const RUNNER: Runner = Runner {
    name: "reactor",
    functions: &[Function { name: "list", usage: LIST, run: |context, args| Box::pin(list(context, args)) }],
};

const LIST: &str = "reactor.list";

/// Returns the rules: a list of one-key maps, tag to files.
async fn list(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, LIST)?;
    context.value(Command::ReactorList).await
}
