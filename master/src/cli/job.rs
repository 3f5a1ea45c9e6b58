//! `halite TARGET FUN [ARGS]…`: publishes a job and waits for its returns.

use std::time::Duration;

use proto::value::Value;
use render::output::ret;
use serde_json::Value as Json;

use super::args::Call;
use super::exit::{self, Usage};
use super::globals::Globals;
use super::out::{Out, tell};
use super::returns::{self, Shown};
use super::span::span;
use crate::api::client::ClientError;
use crate::api::jobs::{JobPublished, JobRequest};

/// A job.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Job options")]
pub(crate) struct JobArgs {
    /// Wait so long before asking whether minions still run the job: 5, 30s, 10m [default: the configured `timeout`, 5]
    #[arg(short, long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// Publish the job, print its jid, do not wait
    #[arg(long = "async")]
    is_async: bool,
    /// Print all returns as one document, when all are in
    #[arg(short = 's', long = "static")]
    is_static: bool,
    /// Print the jid first, and who is still running the job; name minions in the summary
    #[arg(short, long)]
    verbose: bool,
    /// Print the jid first
    #[arg(long)]
    show_jid: bool,
    /// Print how many minions returned, failed, did not return
    #[arg(long)]
    summary: bool,
    /// Do not print minions that did not return (the exit code still tells)
    #[arg(long)]
    hide_timeout: bool,
    /// Let minions that are away take the job within this time: 10m, 2h, 1d [default: the master's job_ttl]
    #[arg(long, visible_alias = "ttl", value_name = "TIME", value_parser = span)]
    queue: Option<Duration>,
    /// Pass this through to the minions and their returns (YAML)
    #[arg(long, value_name = "DATA")]
    metadata: Option<String>,
    /// Have the minions send their returns to these returners too
    #[arg(long = "return", value_name = "RETURNERS")]
    returners: Option<String>,
    /// Separates the arguments of several functions
    #[arg(long, value_name = "TEXT", default_value = ",")]
    args_separator: String,
    /// Names of keyword arguments whose values stay text
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    no_parse: Vec<String>,
    /// Not in this version
    #[arg(short, long, alias = "batch-size", value_name = "SIZE", hide = true)]
    batch: Option<String>,
    /// Who it is for: a shell-style pattern, unless an option says otherwise
    #[arg(value_name = "TARGET")]
    tgt: String,
    /// The function; several with commas between
    #[arg(value_name = "FUN")]
    fun: String,
    /// Its arguments: YAML, keyword arguments as name=value
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    args: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// Separates the parts of a grain or pillar target [default: :]
    #[arg(long, value_name = "TEXT", help_heading = "Target options")]
    delimiter: Option<String>,
}

/// How to read the target.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
#[command(next_help_heading = "Target options")]
struct TargetArgs {
    /// The target is a list of ids, with commas or blanks between
    #[arg(short = 'L', long)]
    list: bool,
    /// The target is a regular expression
    #[arg(short = 'E', long)]
    pcre: bool,
    /// The target is a grain and a pattern: os:Debian
    #[arg(short = 'G', long)]
    grain: bool,
    /// The target is a grain and a regular expression
    #[arg(short = 'P', long)]
    grain_pcre: bool,
    /// The target is a value of the pillar and a pattern: role:web*
    #[arg(short = 'I', long)]
    pillar: bool,
    /// The target is a value of the pillar and a regular expression
    #[arg(short = 'J', long)]
    pillar_pcre: bool,
    /// The target is several targets: G@os:Debian and ( web* or not L@db1,db2 )
    #[arg(short = 'C', long)]
    compound: bool,
    /// The target is a group that the master's configuration names
    #[arg(short = 'N', long)]
    nodegroup: bool,
    /// The target is an address or a network: 10.0.0.0/8
    #[arg(short = 'S', long)]
    ipcidr: bool,
    /// Not in this version
    #[arg(short = 'R', long, hide = true)]
    range: bool,
}

impl TargetArgs {
    /// Returns the kind of target by Salt's names.
    fn kind(&self) -> &'static str {
        let kinds = [
            (self.list, "list"),
            (self.pcre, "pcre"),
            (self.grain, "grain"),
            (self.grain_pcre, "grain_pcre"),
            (self.pillar, "pillar"),
            (self.pillar_pcre, "pillar_pcre"),
            (self.compound, "compound"),
            (self.nodegroup, "nodegroup"),
            (self.ipcidr, "ipcidr"),
        ];
        kinds.into_iter().find(|(chosen, _)| *chosen).map_or("glob", |(_, kind)| kind)
    }
}

impl JobArgs {
    /// Returns the job as it is posted.
    fn request(&self) -> Result<JobRequest, Usage> {
        if self.batch.is_some() {
            return Err(Usage(
                "--batch is not in this version; run the job on parts of the fleet with -L or patterns".to_owned(),
            ));
        }
        if self.target.range {
            let text =
                "--range is not in this version; name the minions with -L, or a group of the configuration with -N";
            return Err(Usage(text.to_owned()));
        }
        let call = Call::read(&self.fun, &self.args, &self.args_separator, &self.no_parse)?;
        let tgt_type = self.target.kind();
        Ok(JobRequest {
            tgt: if tgt_type == "list" { listed(&self.tgt).into() } else { self.tgt.as_str().into() },
            tgt_type: tgt_type.to_owned(),
            delimiter: self.delimiter.clone(),
            fun: call.fun.to_json(),
            arg: call.arg.iter().map(Value::to_json).collect(),
            ret: self.returners.clone().unwrap_or_default(),
            ttl_s: self.queue.map(|queue| queue.as_secs()),
            metadata: self.metadata.as_deref().map(|text| render::yaml::cli_arg(text).to_json()),
            jid: None,
        })
    }

    fn shown(&self, configured: Duration) -> Shown {
        Shown {
            timeout: self.timeout.unwrap_or(configured),
            is_static: self.is_static,
            is_verbose: self.verbose,
            has_summary: self.summary,
            hides_missing: self.hide_timeout,
        }
    }
}

/// Splits a list as Salt does: at commas if there are any (blanks do not count then), else at blanks.
fn listed(text: &str) -> Vec<Json> {
    let names: Vec<String> = if text.contains(',') {
        text.replace(' ', "").split(',').map(str::to_owned).collect()
    } else {
        text.split_whitespace().map(str::to_owned).collect()
    };
    names.into_iter().filter(|name| !name.is_empty()).map(Json::String).collect()
}

/// Says who may still take a job that was queued for them; nothing if all are there.
fn queued(published: &JobPublished, queue: Duration) -> Option<String> {
    let down: Vec<&str> = published.down.iter().map(|down| down.id.as_str()).collect();
    let (jid, seconds) = (&published.jid, queue.as_secs());
    let names = match &down[..] {
        [] => return None,
        few @ ([_] | [_, _] | [_, _, _]) => few.join(", "),
        many => format!("{} minions", many.len()),
    };
    Some(format!("{names} may take job {jid} within {seconds} s; `halite jobs show {jid}` has what comes of it\n"))
}

/// Says that arguments went where they may not have been meant to go.
fn exposed(minions: &[String]) -> String {
    format!(
        "warning: {} told nothing of themselves yet and may match: the job went out on the Salt wire too, where every Salt \
         minion can read its arguments; name the minions (-L) to keep it off\n",
        minions.join(", ")
    )
}

/// Publishes the job and prints what comes back.
pub(super) async fn run(globals: &Globals, args: &JobArgs) -> anyhow::Result<u8> {
    let request = args.request()?;
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    let published = match client.publish(&request).await {
        Err(ClientError::Refused { code, .. }) if code == "no_match" => {
            out.text(ret::NO_MATCH)?;
            tell(ret::NO_RETURN);
            return Ok(exit::NO_MATCH);
        }
        other => other?,
    };
    if let Some(queued) = args.queue.and_then(|queue| queued(&published, queue)) {
        tell(&queued);
    }
    if !published.exposed.is_empty() {
        tell(&exposed(&published.exposed));
    }
    if args.is_async {
        out.text(&ret::async_line(&published.jid))?;
        return Ok(exit::OK);
    }
    if args.verbose {
        out.text(&ret::verbose_header(&published.jid))?;
    } else if args.show_jid {
        out.text(&ret::jid_line(&published.jid))?;
    }
    returns::follow(&client, published, out, args.shown(globals.config()?.timeout), globals.face).await
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        job: JobArgs,
    }

    fn request(words: &str) -> Result<JobRequest, String> {
        let parsed = Alone::try_parse_from(std::iter::once("x").chain(words.split(' ')));
        parsed.map_err(|error| error.to_string())?.job.request().map_err(|error| error.to_string())
    }

    #[test]
    fn targets_are_of_one_kind() {
        let check = |words: &str, kind: &str, tgt: &str| {
            let request = request(words).unwrap();
            assert_eq!((request.tgt_type.as_str(), request.tgt.to_string().as_str()), (kind, tgt), "{words}");
        };
        check("* test.ping", "glob", "\"*\"");
        check("-E m(1|3) test.ping", "pcre", "\"m(1|3)\"");
        check("-L m1,ghost test.ping", "list", r#"["m1","ghost"]"#);
        check("test.ping -L test.ping", "list", r#"["test.ping"]"#);
        check("-G os:Debian test.ping", "grain", "\"os:Debian\"");
        check("-G os|Debian --delimiter | test.ping", "grain", "\"os|Debian\"");
    }

    #[test]
    fn lists_are_split_at_commas_or_blanks() {
        assert_eq!(Json::Array(listed("m1, m2,")).to_string(), r#"["m1","m2"]"#);
        assert_eq!(Json::Array(listed("m1 m2")).to_string(), r#"["m1","m2"]"#);
    }

    #[test]
    fn options_may_stand_anywhere() {
        let request = request("-t 9 m1 test.sleep -1 --queue 2h n=3 --metadata {a:b}").unwrap();
        assert_eq!(Json::Array(request.arg).to_string(), r#"[-1,{"__kwarg__":true,"n":3}]"#);
        assert_eq!(request.ttl_s, Some(7_200));
    }

    #[test]
    fn what_this_version_lacks_is_said() {
        assert!(request("m1 test.ping -b 10%").unwrap_err().starts_with("--batch is not in this version"));
        assert!(request("-R %web test.ping").unwrap_err().starts_with("--range is not in this version; name"));
        assert!(request("-E -G m1 test.ping").is_err());
    }
}
