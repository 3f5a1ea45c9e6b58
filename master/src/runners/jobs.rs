//! `jobs`: what ran, what runs, and what came back.

use proto::ids::Jid;
use proto::map;
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};

use super::args::{self, Args};
use super::{Function, Runner, RunnerContext};
use crate::command::{Command, CommandError, JobsQuery};

pub(super) const RUNNER: Runner = Runner {
    name: "jobs",
    functions: &[
        Function { name: "active", usage: ACTIVE, run: |context, args| Box::pin(active(context, args)) },
        Function { name: "exit_success", usage: EXIT, run: |context, args| Box::pin(exit_success(context, args)) },
        Function { name: "last_run", usage: LAST, run: |context, args| Box::pin(last_run(context, args)) },
        Function { name: "list_job", usage: LIST_JOB, run: |context, args| Box::pin(list_job(context, args)) },
        Function { name: "list_jobs", usage: LIST_JOBS, run: |context, args| Box::pin(list_jobs(context, args)) },
        Function { name: "lookup_jid", usage: LOOKUP, run: |context, args| Box::pin(lookup_jid(context, args)) },
        Function { name: "print_job", usage: PRINT, run: |context, args| Box::pin(print_job(context, args)) },
    ],
};

const ACTIVE: &str = "jobs.active";
const EXIT: &str = "jobs.exit_success JID";
const LAST: &str = "jobs.last_run [function=GLOB] [target=GLOB] [metadata={…}]";
const LIST_JOB: &str = "jobs.list_job JID";
const LIST_JOBS: &str = "jobs.list_jobs [search_function=GLOB] [search_target=GLOB] [search_metadata={…}] \
                         [start_time=MOMENT] [end_time=MOMENT]";
const LOOKUP: &str = "jobs.lookup_jid JID [returned=True] [missing=False]";
const PRINT: &str = "jobs.print_job JID";

/// How many jobs a search looks through, the newest.
const MAX_SEARCHED: usize = 100_000;

/// Salt says so where a minion owes a return.
const NO_RETURN: &str = "Minion did not return";
/// Salt says so where there is no such job.
const NO_JOB: &str = "Cannot contact returner or no job with this jid";

/// Shows the jobs that are not over: what they are, and who has returned or still owes a return.
async fn active(context: RunnerContext<'_>, args: Args) -> Result<Value, CommandError> {
    args.finish(0, ACTIVE)?;
    let Value::Map(mut jobs) = context.value(Command::JobsActive).await? else { return Ok(Map::new().into()) };
    for job in jobs.values_mut().filter_map(Value::as_map_mut) {
        // Salt asks the minions and has process ids; the master knows who owes a return without asking.
        let ids = job.at("Running").and_then(Value::as_list).unwrap_or_default();
        let running: Vec<Value> = ids.iter().map(|id| map! { id.to_key() => Value::Null }.into()).collect();
        job.set("Running", running);
        job.take("Away");
    }
    // Nobody runs what is only owed by those that are away.
    jobs.retain(|_, job| job.get("Running").is_some_and(Value::is_truthy));
    Ok(jobs.into())
}

/// Shows the newest job that is searched for; false if there is none.
async fn last_run(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let search = Search {
        functions: patterns(args.kwarg.take("function"), LAST)?,
        targets: patterns(args.kwarg.take("target"), LAST)?,
        metadata: metadata(args.kwarg.take("metadata"), LAST)?,
        ..Search::default()
    };
    args.finish(0, LAST)?;
    let jobs = search.run(context).await?;
    let Some(last) = jobs.keys().filter_map(Value::as_str).max() else { return Ok(false.into()) };
    print(context, last).await
}

/// Tells for each recipient whether it came back well.
async fn exit_success(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let jid = args.need_text(0, "jid", EXIT)?;
    args.finish(1, EXIT)?;
    let job = show(context, &jid).await?;
    let result = |id: &Value| job.at("Result").and_then(|result| result.get(id.as_str().unwrap_or_default()));
    let good = |id: &Value| {
        result(id).is_some_and(|ret| {
            let clean = ret.get("retcode").is_none_or(|code| !code.is_truthy());
            clean && ret.get("success").is_none_or(Value::is_truthy)
        })
    };
    let shown: Map = minions(&job).iter().map(|id| (id.clone(), Value::Bool(good(id)))).collect();
    Ok(shown.into())
}

/// Shows a job with its recipients and results.
async fn list_job(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let jid = args.need_text(0, "jid", LIST_JOB)?;
    args.finish(1, LIST_JOB)?;
    Ok(show(context, &jid).await?.into())
}

/// Lists jobs, oldest first, by function and by target.
async fn list_jobs(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let search = Search {
        functions: patterns(args.kwarg.take("search_function"), LIST_JOBS)?,
        targets: patterns(args.kwarg.take("search_target"), LIST_JOBS)?,
        metadata: metadata(args.kwarg.take("search_metadata"), LIST_JOBS)?,
        from: moment(args.kwarg.take("start_time"), '0', LIST_JOBS)?,
        until: moment(args.kwarg.take("end_time"), '9', LIST_JOBS)?,
    };
    args.finish(0, LIST_JOBS)?;
    search.run(context).await.map(Value::Map)
}

/// What jobs are searched for.
#[derive(Default)]
struct Search {
    functions: Option<Vec<Glob>>,
    targets: Option<Vec<Glob>>,
    /// One of these is enough, as in Salt.
    metadata: Option<Map>,
    /// The first and the last jid.
    from: Option<String>,
    until: Option<String>,
}

impl Search {
    async fn run(&self, context: RunnerContext<'_>) -> Result<Map, CommandError> {
        let everything = self.functions.is_none()
            && self.targets.is_none()
            && self.metadata.is_none()
            && self.from.is_none()
            && self.until.is_none();
        let query = JobsQuery { fun: None, tgt: None, limit: (!everything).then_some(MAX_SEARCHED) };
        let Value::Map(mut jobs) = context.value(Command::JobsList(query)).await? else { return Ok(Map::new()) };
        jobs.retain(|jid, job| self.finds(jid.as_str().unwrap_or_default(), job));
        Ok(jobs)
    }

    fn finds(&self, jid: &str, job: &Value) -> bool {
        let has = |wanted: &Map| {
            let told = job.get("Metadata").and_then(Value::as_map);
            told.is_some_and(|told| wanted.iter().any(|(key, value)| told.get(key) == Some(value)))
        };
        matches(&self.functions, job.get("Function"))
            && matches(&self.targets, job.get("Target"))
            && self.metadata.as_ref().is_none_or(has)
            && self.from.as_deref().is_none_or(|from| from <= jid)
            && self.until.as_deref().is_none_or(|until| jid <= until)
    }
}

fn metadata(value: Option<Value>, usage: &str) -> Result<Option<Map>, CommandError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Map(map)) => Ok(Some(map)),
        Some(_) => Err(args::invalid("metadata must be a map", usage)),
    }
}

/// Reads `2026-11-21 00:32:32`, or its beginning from the day on, as the jid of that moment. UTC, as all jids are.
fn moment(value: Option<Value>, filler: char, usage: &str) -> Result<Option<String>, CommandError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.to_key(),
    };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let is_odd = |c: char| !c.is_ascii_digit() && !matches!(c, '-' | ':' | '.' | ' ' | 'T' | 'Z');
    if !(8..=20).contains(&digits.len()) || text.contains(is_odd) {
        return Err(args::invalid(&format!("{text:?} is no moment: write 2026-11-21 or '2026-11-21 00:32:32'"), usage));
    }
    Ok(Some(format!("{digits}{}", filler.to_string().repeat(20 - digits.len()))))
}

/// Shows what came back: minion to return.
async fn lookup_jid(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let jid = args.need_text(0, "jid", LOOKUP)?;
    let returned = args.kwarg.take("returned").is_none_or(|flag| flag.is_truthy());
    let missing = args.kwarg.take("missing").is_some_and(|flag| flag.is_truthy());
    args.finish(1, LOOKUP)?;
    let job = show(context, &jid).await?;
    let results = job.at("Result").and_then(Value::as_map);
    let mut shown = Map::new();
    for (id, ret) in results.filter(|_| returned).into_iter().flatten() {
        shown.insert(id.clone(), ret.get("return").cloned().unwrap_or_default());
    }
    let came = |id: &Value| results.is_some_and(|results| results.contains_key(id));
    for id in minions(&job).iter().filter(|id| missing && !came(id)) {
        shown.insert(id.clone(), NO_RETURN.into());
    }
    Ok(shown.into())
}

/// Shows a job under its jid.
async fn print_job(context: RunnerContext<'_>, mut args: Args) -> Result<Value, CommandError> {
    let jid = args.need_text(0, "jid", PRINT)?;
    args.finish(1, PRINT)?;
    print(context, &jid).await
}

async fn print(context: RunnerContext<'_>, jid: &str) -> Result<Value, CommandError> {
    let mut job = show(context, jid).await?;
    job.take("jid");
    Ok(map! { jid => job }.into())
}

async fn show(context: RunnerContext<'_>, jid: &str) -> Result<Map, CommandError> {
    let unknown =
        |start: String| map! { "jid" => jid, "Error" => NO_JOB, "StartTime" => start, "Result" => Map::new() };
    let Ok(parsed) = Jid::parse(jid) else { return Ok(unknown(String::new())) };
    match context.value(Command::JobShow(parsed.clone())).await {
        Ok(Value::Map(job)) => Ok(job),
        Ok(_) | Err(CommandError::NotFound(_)) => Ok(unknown(parsed.start_time())),
        Err(error) => Err(error),
    }
}

fn minions(job: &Map) -> &[Value] {
    job.at("Minions").and_then(Value::as_list).unwrap_or_default()
}

/// Reads a search: one pattern, several with commas between them, or a list.
fn patterns(value: Option<Value>, usage: &str) -> Result<Option<Vec<Glob>>, CommandError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text.split(',').map(|part| Glob::new(part.trim())).collect())),
        Some(Value::List(items)) => Ok(Some(items.iter().map(|item| Glob::new(&item.to_key())).collect())),
        Some(other) => Err(args::invalid(&format!("a search must be text or a list, not {}", other.kind()), usage)),
    }
}

/// Tells whether a job's function or target, each of them if there are several, is searched for.
fn matches(patterns: &Option<Vec<Glob>>, value: Option<&Value>) -> bool {
    let Some(patterns) = patterns else { return true };
    let one = |text: &str| patterns.iter().any(|glob| glob.matches(text));
    match value {
        Some(Value::List(items)) => items.iter().filter_map(Value::as_str).any(one),
        Some(Value::Str(text)) => one(text),
        _ => false,
    }
}
