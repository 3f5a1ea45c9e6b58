//! `halite jobs rerun`: publishes a job's function and arguments again, to all its minions or to those it failed on.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use proto::value::{Map, MapExt as _, Value};
use render::output::ret;

use crate::api::jobs::JobRequest;
use crate::cli::exit::{self, Usage};
use crate::cli::globals::Globals;
use crate::cli::out::{Out, tell};
use crate::cli::returns::{self, Shown};
use crate::cli::span::span;

pub(super) const EXAMPLES: &str = "Examples:
  halite jobs rerun 20261121003232784705
  halite jobs rerun 20261121003232784705 --failed --queue 2h

The new job has the function, the arguments, the metadata and the returners of the old one.
Exit codes: those of the new job (0 all succeeded, 1 a minion failed or did not return), 1 too if there is no such job,
2 if it failed nowhere or was for no minion, 64 if JID is no job id.";

/// Which job to run again, and where.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RerunArgs {
    /// The job's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    jid: String,
    /// Only on minions that failed or have not returned
    #[arg(long)]
    failed: bool,
    /// Publish the job, print its jid, do not wait
    #[arg(long = "async")]
    is_async: bool,
    /// Wait so long before asking whether minions still run the job: 5, 30s, 10m [default: the configured `timeout`, 5]
    #[arg(short, long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// Let minions that are away take the job within this time: 10m, 2h, 1d [default: the master's job_ttl]
    #[arg(long, visible_alias = "ttl", value_name = "TIME", value_parser = span)]
    queue: Option<Duration>,
}

/// Publishes the job again and prints what comes back.
pub(super) async fn run(globals: &Globals, args: &RerunArgs, mut out: Out) -> anyhow::Result<u8> {
    let client = globals.client()?;
    let job = Value::from_json(&client.job(&args.jid).await?);
    let job = job.as_map().ok_or_else(|| Usage(format!("job {} cannot be read", args.jid)))?;
    let minions = if args.failed { failed(job) } else { recipients(job) };
    if minions.is_empty() {
        tell(&why_nobody(args, job));
        return Ok(exit::NO_MATCH);
    }
    let active = Value::from_json(&client.jobs_active().await?);
    let running = still_running(active.get(&args.jid), &minions);
    if !running.is_empty() {
        let names = running.join(", ");
        tell(&format!("{names} may still run job {0}; `halite jobs kill {0}` ends it there\n", args.jid));
    }
    let published = client.publish(&request(args, job, minions)).await?;
    if args.is_async {
        out.text(&ret::async_line(&published.jid))?;
        return Ok(exit::OK);
    }
    if out.format().is_none() {
        out.text(&ret::jid_line(&published.jid))?;
    }
    let timeout = args.timeout.unwrap_or(globals.config()?.timeout);
    let shown = Shown { timeout, is_static: false, is_verbose: false, has_summary: false, hides_missing: false };
    returns::follow(&client, published, out, shown, globals.face).await
}

/// Returns who the job was for.
fn recipients(job: &Map) -> Vec<String> {
    let minions = job.at("Minions").and_then(Value::as_list).unwrap_or_default();
    minions.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns on whom it failed, and who has not returned.
fn failed(job: &Map) -> Vec<String> {
    let succeeded = |id: &String| {
        let result = job.at("Result").and_then(|result| result.get(id));
        result.is_some_and(|result| result.get("success") == Some(&Value::Bool(true)))
    };
    recipients(job).into_iter().filter(|id| !succeeded(id)).collect()
}

fn why_nobody(args: &RerunArgs, job: &Map) -> String {
    match recipients(job).len() {
        0 => format!("job {} was for no minion: there is nobody to run it again\n", args.jid),
        all => format!(
            "job {} failed nowhere: all of its {all} minions have returned well; without --failed it runs again on all\n",
            args.jid
        ),
    }
}

/// Returns those of these minions that are connected and still owe their return.
fn still_running<'a>(active: Option<&'a Value>, minions: &[String]) -> Vec<&'a str> {
    let running = active.and_then(|job| job.get("Running")).and_then(Value::as_list).unwrap_or_default();
    running.iter().filter_map(Value::as_str).filter(|id| minions.iter().any(|minion| minion == id)).collect()
}

fn request(args: &RerunArgs, job: &Map, minions: Vec<String>) -> JobRequest {
    let arg = job.at("Arguments").and_then(Value::as_list).unwrap_or_default();
    JobRequest {
        tgt: minions.into(),
        tgt_type: "list".to_owned(),
        delimiter: None,
        fun: job.at("Function").map(Value::to_json).unwrap_or_default(),
        arg: arg.iter().map(Value::to_json).collect(),
        ret: job.text("Returners").unwrap_or_default().to_owned(),
        ttl_s: args.queue.map(|queue| queue.as_secs()),
        metadata: job.at("Metadata").map(Value::to_json),
        jid: None,
    }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn args() -> RerunArgs {
        let jid = "20261121003232784705".to_owned();
        RerunArgs { jid, failed: true, is_async: false, timeout: None, queue: Some(Duration::from_secs(60)) }
    }

    fn job() -> Map {
        let well = map! { "return" => true, "retcode" => 0, "success" => true };
        let badly = map! { "return" => "no", "retcode" => 1, "success" => false };
        map! {
            "Function" => "cmd.run", "Arguments" => vec![Value::from("true"), map! { "__kwarg__" => true }.into()],
            "Minions" => vec!["a", "b", "c"], "Metadata" => map! { "by" => "me" }, "Returners" => "redis,slack",
            "Result" => map! { "a" => well, "b" => badly },
        }
    }

    #[test]
    fn those_that_failed_or_did_not_return_are_meant() {
        assert_eq!(
            (failed(&job()), recipients(&job())),
            (vec!["b".into(), "c".into()], vec!["a".into(), "b".into(), "c".into()])
        );
    }

    #[test]
    fn the_new_job_is_the_old_one_for_a_list_of_minions() {
        let request = request(&args(), &job(), vec!["b".into()]);
        assert_eq!((request.tgt.to_string(), request.tgt_type.as_str()), (r#"["b"]"#.to_owned(), "list"));
        assert_eq!((request.fun, request.ret.as_str()), ("cmd.run".into(), "redis,slack"));
        assert_eq!(serde_json::Value::Array(request.arg).to_string(), r#"["true",{"__kwarg__":true}]"#);
        assert_eq!((request.ttl_s, request.metadata.unwrap().to_string()), (Some(60), r#"{"by":"me"}"#.to_owned()));
    }

    #[test]
    fn it_is_said_why_there_is_nobody() {
        let mut well = job();
        well.set("Minions", vec!["a"]);
        assert!(failed(&well).is_empty() && why_nobody(&args(), &well).contains("failed nowhere: all of its 1"));
        assert!(why_nobody(&args(), &map! {}).contains("was for no minion"));
    }

    #[test]
    fn who_still_runs_it_is_named() {
        let active = map! { "Running" => vec!["a", "b"], "Away" => vec!["c"] }.into();
        assert_eq!(still_running(Some(&active), &["b".to_owned(), "c".to_owned()]), ["b"]);
        assert!(still_running(None, &["b".to_owned()]).is_empty());
    }
}
