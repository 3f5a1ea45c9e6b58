//! `halite jobs`: what was published, and what came back.

use proto::value::Value;
use render::output::Format;

use super::exit;
use super::globals::Globals;
use super::out::Out;
use crate::api::jobs::JobsFilter;

/// List jobs, or show one with its returns
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite jobs list --fun 'state.*' --limit 20
  halite jobs show 20261121003232784705")]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    verb: JobsVerb,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum JobsVerb {
    /// List jobs, newest last
    #[command(after_help = "Example:\n  halite jobs list --fun 'test.*' --out json")]
    List {
        /// Only jobs of functions that match this pattern
        #[arg(long, value_name = "GLOB")]
        fun: Option<String>,
        /// Only jobs whose target matches this pattern
        #[arg(long, value_name = "GLOB")]
        tgt: Option<String>,
        /// At most so many, the newest
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show one job with its returns
    #[command(after_help = "Example:\n  halite jobs show 20261121003232784705")]
    Show {
        /// The job's id
        jid: String,
    },
}

/// Does what the verb says.
pub(super) async fn run(globals: &Globals, args: JobsArgs) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    let value = match args.verb {
        JobsVerb::List { fun, tgt, limit } => client.jobs(&JobsFilter { fun, tgt, limit }).await?,
        JobsVerb::Show { jid } => client.job(&jid).await?,
    };
    out.value(Format::Nested, &Value::from_json(&value))?;
    Ok(exit::OK)
}
