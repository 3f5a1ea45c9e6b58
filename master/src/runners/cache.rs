//! `cache`: what the master remembers of its minions.

use proto::value::Value;

use super::{Args, Function, Runner, RunnerContext};
use crate::command::{Command, CommandError};

pub(super) const RUNNER: Runner = Runner {
    name: "cache",
    functions: &[Function { name: "grains", usage: GRAINS, run: |context, args| Box::pin(grains(context, args)) }],
};

const GRAINS: &str = "cache.grains TGT [tgt_type=glob]";

/// Returns the grains of those that are meant, as far as they told any. Nobody is asked.
async fn grains(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let tgt = args.need(0, "tgt", GRAINS)?;
    if let Some(tgt_type) = args.take(1, "tgt_type") {
        args.kwarg.insert("tgt_type".into(), tgt_type);
    }
    let target = args.target(tgt);
    args.finish(2, GRAINS)?;
    context.value(Command::Grains(target)).await
}
