//! `halite jobs`: what was published, what runs, and what came back; how to end it, and how to run it again.

mod rerun;

use clap::builder::NonEmptyStringValueParser;
use proto::target::glob::Glob;
use proto::value::{MapExt as _, Value};
use render::output::Format;
use serde_json::Value as Json;

use super::exit;
use super::globals::Globals;
use super::out::{Out, tell};
use super::returns::{self, Shown};
use crate::api::jobs::{JobRequest, JobsFilter};

/// List jobs, show one with its returns, see what runs, kill it or run it again
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite jobs active
  halite jobs kill 20261121003232784705
  halite jobs list --fun 'state.*' --limit 20
  halite jobs rerun 20261121003232784705 --failed
  halite jobs show 20261121003232784705")]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    verb: JobsVerb,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum JobsVerb {
    /// List the jobs that somebody still owes a return
    #[command(after_help = "Example:\n  halite jobs active --out json | jq 'keys'")]
    Active,
    /// Kill a job on the minions that run it, and show what each says
    #[command(after_help = "Examples:
  halite jobs kill 20261121003232784705
  halite jobs kill 20261121003232784705 'web*' --signal TERM")]
    Kill(KillArgs),
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
    /// Run a job again on its minions, as a new job
    #[command(after_help = rerun::EXAMPLES)]
    Rerun(rerun::RerunArgs),
    /// Show one job with its returns
    #[command(after_help = "Example:\n  halite jobs show 20261121003232784705")]
    Show {
        /// The job's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        jid: String,
    },
}

/// Which job to kill, where and how.
#[derive(Debug, Clone, clap::Args)]
struct KillArgs {
    /// The job's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    jid: String,
    /// Only on minions that match this pattern [default: all that still owe a return]
    #[arg(value_name = "TARGET", default_value = "*", hide_default_value = true)]
    tgt: String,
    /// The signal: a number or a name
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    signal: i32,
}

/// Reads a signal: `15`, `TERM`, `SIGTERM`.
fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let named = || name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32);
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    number.or_else(named).ok_or_else(|| "write a number from 1 to 64, or a name: KILL, TERM, INT, HUP".to_owned())
}

/// Does what the verb says.
pub(super) async fn run(globals: &Globals, args: JobsArgs) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    let listed = match args.verb {
        JobsVerb::Active => client.jobs_active().await?,
        JobsVerb::Kill(args) => return kill(globals, &args, out).await,
        JobsVerb::List { fun, tgt, limit } => client.jobs(&JobsFilter { fun, tgt, limit }).await?,
        JobsVerb::Rerun(args) => return rerun::run(globals, &args, out).await,
        JobsVerb::Show { jid } => {
            out.value(Format::Nested, &Value::from_json(&client.job(&jid).await?))?;
            return Ok(exit::OK);
        }
    };
    out.items(Format::Nested, &Value::from_json(&listed))?;
    Ok(exit::OK)
}

/// Has those that owe the job's return kill it.
async fn kill(globals: &Globals, args: &KillArgs, out: Out) -> anyhow::Result<u8> {
    let client = globals.client()?;
    let active = Value::from_json(&client.jobs_active().await?);
    let Some(job) = active.get(&args.jid) else {
        tell(&format!("job {} does not run; `halite jobs active` shows those that do\n", args.jid));
        return Ok(exit::FAILED);
    };
    let owing = owing(job, &args.tgt);
    if owing.is_empty() {
        let text = format!("no minion that matches {:?} runs job {}", args.tgt, args.jid);
        tell(&format!("{text}; `halite jobs active` shows who does\n"));
        return Ok(exit::NO_MATCH);
    }
    let timeout = globals.config()?.timeout;
    let shown = Shown { timeout, is_static: false, is_verbose: false, has_summary: false, hides_missing: false };
    let published = client.publish(&request(args, owing)).await?;
    returns::follow(&client, published, out, shown, globals.face).await
}

/// Returns who owes a return of this job and matches.
fn owing(job: &Value, tgt: &str) -> Vec<String> {
    let glob = Glob::new(tgt);
    let ids = ["Running", "Away"].into_iter().filter_map(|name| job.as_map()?.at(name)?.as_list()).flatten();
    ids.filter_map(Value::as_str).filter(|id| glob.matches(id)).map(str::to_owned).collect()
}

fn request(args: &KillArgs, minions: Vec<String>) -> JobRequest {
    let (fun, signal) = match args.signal {
        KILL => ("saltutil.kill_job", None),
        TERM => ("saltutil.term_job", None),
        other => ("saltutil.signal_job", Some(other)),
    };
    JobRequest {
        tgt: minions.into(),
        tgt_type: "list".to_owned(),
        delimiter: None,
        fun: fun.into(),
        arg: std::iter::once(Json::from(args.jid.as_str())).chain(signal.map(Json::from)).collect(),
        ret: String::new(),
        ttl_s: None,
        metadata: None,
        jid: None,
    }
}

const KILL: i32 = nix::sys::signal::Signal::SIGKILL as i32;
const TERM: i32 = nix::sys::signal::Signal::SIGTERM as i32;

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!((signal("9"), signal("term"), signal("SIGHUP")), (Ok(9), Ok(15), Ok(1)));
        assert!(signal("0").is_err() && signal("65").is_err() && signal("LOUD").is_err());
    }

    #[test]
    fn each_signal_has_its_function() {
        let check = |number: i32, fun: &str, arg: &str| {
            let args = KillArgs { jid: "20261121003232784705".to_owned(), tgt: "*".to_owned(), signal: number };
            let request = request(&args, vec!["m1".to_owned()]);
            assert_eq!((request.fun, Json::Array(request.arg).to_string()), (fun.into(), arg.to_owned()));
        };
        check(9, "saltutil.kill_job", r#"["20261121003232784705"]"#);
        check(15, "saltutil.term_job", r#"["20261121003232784705"]"#);
        check(10, "saltutil.signal_job", r#"["20261121003232784705",10]"#);
    }

    #[test]
    fn those_that_owe_a_return_and_match_are_meant() {
        let job = map! { "Running" => vec!["web1", "db1"], "Away" => vec!["web2"] }.into();
        assert_eq!(owing(&job, "*"), ["web1", "db1", "web2"]);
        assert_eq!(owing(&job, "web*"), ["web1", "web2"]);
        assert!(owing(&map! {}.into(), "*").is_empty());
    }
}
