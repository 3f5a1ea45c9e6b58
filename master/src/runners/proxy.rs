//! `proxy`: salt-sproxy's runner. Devices are minions here: what it would run itself goes out as a job.

use proto::value::{MapExt, Value};

use super::args::Args;
use super::salt::{as_keywords, publish};
use super::{Function, Runner, RunnerContext};
use crate::command::CommandError;

pub(super) const RUNNER: Runner = Runner {
    name: "proxy",
    functions: &[Function { name: "execute", usage: EXECUTE, run: |context, args| Box::pin(execute(context, args)) }],
};

const EXECUTE: &str = "proxy.execute TGT FUNCTION [tgt_type=glob] [key=value…]";

/// Options of salt-sproxy that say how it reaches devices; jobs do not need them.
const OPTIONS: &[&str] = &[
    "roster",
    "preview_target",
    "target_details",
    "timeout",
    "batch_size",
    "cache_grains",
    "cache_pillar",
    "events",
    "failhard",
    "invasive_targeting",
    "preload_targeting",
    "progress",
    "show_jid",
    "show_timeout",
    "static",
    "static_pillar",
    "static_grains",
    "summary",
    "sync_all",
    "sync_grains",
    "sync_modules",
    "sync_roster",
    "target_cache",
    "target_cache_timeout",
    "test_ping",
    "use_cached_grains",
    "use_cached_pillar",
    "use_existing_proxy",
    "verbose",
    "with_grains",
    "with_pillar",
];

/// Publishes `function` (or `salt_function`, as newer versions call it) to `tgt`; all other names are its arguments.
async fn execute(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let tgt = args.need(0, "tgt", EXECUTE)?;
    if let Some(function) = args.kwarg.take("salt_function") {
        args.kwarg.set("function", function);
    }
    let Some(fun) = args.take(1, "function") else {
        // salt-sproxy's own words.
        return Ok("Please specify a Salt function to execute.".into());
    };
    let target = args.target(tgt);
    let ret = args.kwarg.take("ret");
    for option in OPTIONS {
        args.kwarg.take(option);
    }
    args.kwarg.retain(|name, _| !super::args::is_internal(name));
    let mut positional: Vec<Value> = args.arg.drain(..).skip(2).collect();
    positional.extend(as_keywords(std::mem::take(&mut args.kwarg)));
    publish(context, target, fun, positional, ret).await
}
