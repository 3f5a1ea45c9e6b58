//! Waits for the returns of a published job and prints them as they come.
//!
//! A syndic names its minions that the job is for, within a while; they are waited for as well.
//!
//! The events are read from the job's first one on, so that no return falls between publishing and reading. When the
//! timeout has passed, minions that have not returned are asked whether they still run the job (`wait`).

use std::time::Duration;

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::tag::Tag;
use proto::value::{Map, Value};
use render::output::{Format, Outcome, ret};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::exit;
use super::globals::Face;
use super::out::{Out, tell};
use super::progress::Progress;
use super::wait::{Due, Wait};
use crate::api::client::{Client, ClientError, Events};
use crate::api::events::EventView;
use crate::api::jobs::{JobPublished, JobRequest};

/// What is said of a job that syndics alone have heard of, to no avail.
const NOBODY: &str = "No minions matched the target, neither here nor below a syndic.\n";
/// How long minions may take to say whether they still run a job. They answer from memory.
const GATHER: Duration = Duration::from_secs(5);

/// Stands for a listed id that no accepted key has.
const NO_KEY: &str = "Minion did not return. [No accepted key has this id]";
/// Stands for one that may have been below a syndic.
const NOT_NAMED: &str = "Minion did not return. [No accepted key has this id, and no syndic has named it]";

/// What the options say about printing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// How long to wait before asking.
    pub(super) timeout: Duration,
    /// One document at the end.
    pub(super) is_static: bool,
    /// Name who is still running, and names in the summary.
    pub(super) is_verbose: bool,
    /// Print the summary.
    pub(super) has_summary: bool,
    /// Leave out minions that did not return.
    pub(super) hides_missing: bool,
}

/// Follows a job to its end and returns the exit code.
pub(super) async fn follow(
    client: &Client,
    job: JobPublished,
    out: Out,
    shown: Shown,
    face: Face,
) -> anyhow::Result<u8> {
    let mut watch = Watch::start(client, job, out, shown, face).await?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    while !watch.wait.is_over(Instant::now().into()) {
        tokio::select! {
            event = watch.events.next() => watch.take(event).or_else(|error| watch.cut_off(error))?,
            () = tokio::time::sleep_until(watch.wait.deadline().into()) => {
                watch.expired().await.or_else(|error| watch.cut_off(error))?;
            }
            () = watch.progress.due() => watch.progress.draw(watch.printer.summary.returned, watch.targeted),
            _ = &mut interrupt => return Ok(watch.interrupted()),
        }
    }
    watch.finish()
}

struct Watch<'a> {
    client: &'a Client,
    job: JobPublished,
    events: Events,
    /// The newest offset that was seen.
    seen: u64,
    /// The job that asks who is still running this one.
    question: Option<String>,
    wait: Wait,
    targeted: usize,
    printer: Printer,
    progress: Progress,
    shown: Shown,
}

impl<'a> Watch<'a> {
    async fn start(
        client: &'a Client,
        job: JobPublished,
        out: Out,
        shown: Shown,
        face: Face,
    ) -> anyhow::Result<Watch<'a>> {
        let events = client.events(&answers_to(&job.jid)?, &job.offset.to_string(), None).await?;
        let up = job.minions.iter().filter(|id| !job.down.iter().any(|down| down.id == **id));
        let syndics = job.syndic_wait_s.map(Duration::from_secs);
        let perhaps = job.missing.iter().filter(|_| syndics.is_some());
        let now = Instant::now().into();
        let wait = Wait::new(up.chain(perhaps).cloned(), shown.timeout, GATHER, now).for_syndics(syndics, now);
        let printer = Printer::new(out, shown, face.lookup(&job.jid), face);
        let mut watch = Watch {
            client,
            events,
            seen: job.offset,
            question: None,
            wait,
            targeted: job.minions.len() + job.missing.len(),
            printer,
            progress: Progress::new(),
            shown,
            job,
        };
        watch.name_absent()?;
        Ok(watch)
    }

    /// Names at once who cannot return.
    fn name_absent(&mut self) -> anyhow::Result<()> {
        let absent = if self.job.syndic_wait_s.is_some() { &[][..] } else { &self.job.missing };
        for id in absent {
            self.printer.absent(id, NO_KEY.to_owned())?;
            self.printer.summary.not_responding.push(id.clone());
        }
        for down in &self.job.down {
            let last_seen = down.since_s.map(Duration::from_secs);
            if self.printer.merged.is_some() {
                tell(&format!("{}: {}\n", down.id, ret::down(last_seen)));
            }
            self.printer.absent(&down.id, ret::not_connected(last_seen))?;
            self.printer.summary.not_connected.push(down.id.clone());
        }
        Ok(())
    }

    /// Takes what the event stream gave.
    fn take(&mut self, event: Result<Option<EventView>, ClientError>) -> anyhow::Result<()> {
        let Some(event) = event? else {
            let cause = "the master has stopped".to_owned();
            return Err(ClientError::Broken { socket: self.client.socket().to_owned(), cause }.into());
        };
        self.seen = event.offset;
        if let Some((syndic, minions)) = named_by(&event, &self.job.jid) {
            self.named(syndic, &minions);
            return Ok(());
        }
        if let Some(id) = no_match(&event, &self.job.jid) {
            self.wait.drop(id);
            self.targeted = self.targeted.saturating_sub(1);
            self.printer.unmatched(id);
            return Ok(());
        }
        let Some(ret) = Return::of(&event.data) else { return Ok(()) };
        if ret.jid == self.job.jid {
            self.wait.returned(&ret.id);
            self.progress.aside(|| self.printer.returned(&ret))?;
        } else if self.question.as_ref() == Some(&ret.jid) {
            self.wait.answered(&ret.id, ret.value.is_truthy());
        }
        Ok(())
    }

    /// Takes the minions that a syndic has named. It runs nothing itself: what has its id is the minion beside it, if any.
    fn named(&mut self, syndic: &str, minions: &[&str]) {
        let now = Instant::now().into();
        for id in minions {
            let is_new = self.wait.named(id, now);
            self.targeted += usize::from(is_new);
            self.job.missing.retain(|missing| missing != id);
        }
        if !minions.contains(&syndic) && self.wait.outstanding().contains(syndic) {
            self.wait.drop(syndic);
            self.targeted = self.targeted.saturating_sub(1);
        }
    }

    fn lost(&mut self, ids: &[String]) -> std::io::Result<()> {
        let Watch { job, printer, progress, .. } = self;
        progress.aside(|| {
            ids.iter().try_for_each(|id| {
                let text =
                    if job.missing.contains(id) { NOT_NAMED.to_owned() } else { ret::no_response(&printer.lookup) };
                printer.lost(id, text)
            })
        })
    }

    async fn expired(&mut self) -> anyhow::Result<()> {
        match self.wait.expired(Instant::now().into()) {
            Due::Ask(ids) => self.ask(&ids).await?,
            Due::GiveUp(ids) => {
                self.lost(&ids)?;
                let running: Vec<&str> = self.wait.outstanding().iter().map(String::as_str).collect();
                if self.shown.is_verbose && !running.is_empty() {
                    self.progress.aside(|| tell(&format!("still running on {}\n", running.join(", "))));
                }
            }
        }
        Ok(())
    }

    /// Asks who still runs the job. From here on one stream carries returns and answers, in the order of the log.
    async fn ask(&mut self, ids: &[String]) -> anyhow::Result<()> {
        let question = JobRequest {
            tgt: ids.into(),
            tgt_type: "list".to_owned(),
            delimiter: None,
            fun: "saltutil.find_job".into(),
            arg: vec![self.job.jid.as_str().into()],
            ret: String::new(),
            ttl_s: None,
            metadata: None,
            jid: None,
        };
        match self.client.publish(&question).await {
            Ok(asked) => {
                let tags = [answers_to(&self.job.jid)?, answers_to(&asked.jid)?].concat();
                self.events = self.client.events(&tags, &(self.seen + 1).to_string(), None).await?;
                // Those that have gone away meanwhile will not answer.
                asked.down.iter().for_each(|down| self.wait.answered(&down.id, false));
                self.question = Some(asked.jid);
            }
            // Nobody can be asked: nobody answers.
            Err(ClientError::Refused { .. }) => ids.iter().for_each(|id| self.wait.answered(id, false)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Adds to an error of the connection that the job goes on, and how to see it.
    fn cut_off(&self, error: anyhow::Error) -> anyhow::Result<()> {
        if error.downcast_ref::<ClientError>().is_none() {
            return Err(error);
        }
        Err(error.context(format!(
            "failed to follow job {} to its end (`{}` shows it later)",
            self.job.jid, self.printer.lookup
        )))
    }

    fn interrupted(self) -> u8 {
        let Watch { progress, printer, job, .. } = self;
        drop(progress);
        tell(&format!(
            "\nExiting gracefully on Ctrl-c\nThis job's jid is: {}\nThe minions may not have all finished running and \
             any remaining minions will return upon completion. To look up the return data for this job later, run the \
             following command:\n\n{}\n",
            job.jid, printer.lookup
        ));
        exit::INTERRUPTED
    }

    fn finish(self) -> anyhow::Result<u8> {
        let Watch { progress, mut printer, targeted, .. } = self;
        drop(progress);
        if targeted == 0 && printer.summary.returned == 0 && printer.unmatched == 0 {
            // No syndic had anybody either.
            return printer.nobody();
        }
        printer.finish()
    }
}

/// Returns the patterns of the tags of what is said to a job: returns, that it does not mean a minion, and whom it means below
/// a syndic.
fn answers_to(jid: &str) -> anyhow::Result<Vec<String>> {
    let (jid, all) = (Jid::parse(jid)?, MinionId::parse("*")?);
    Ok([Tag::job_ret(&jid, &all), Tag::job_no_match(&jid, &all), Tag::job_syndic(&jid, &all)]
        .map(|tag| tag.to_string())
        .into())
}

/// Returns a syndic and the minions that it has named for this job, if that is what the event says.
fn named_by<'a>(event: &'a EventView, jid: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let syndic = event.data.get("syndic").and_then(Json::as_str)?;
    let tag = Tag::job_syndic(&Jid::parse(jid).ok()?, &MinionId::parse(syndic).ok()?);
    let minions = event.data.get("minions").and_then(Json::as_array).filter(|_| tag.as_str() == event.tag)?;
    Some((syndic, minions.iter().filter_map(Json::as_str).collect()))
}

/// Returns which minion says that this job does not mean it, if that is what the event says.
fn no_match<'a>(event: &'a EventView, jid: &str) -> Option<&'a str> {
    let text = |name: &str| event.data.get(name).and_then(Json::as_str);
    let id = text("id").filter(|_| text("jid") == Some(jid))?;
    let tag = Tag::job_no_match(&Jid::parse(jid).ok()?, &MinionId::parse(id).ok()?);
    (tag.as_str() == event.tag).then_some(id)
}

/// One return, out of its event.
#[derive(Debug, PartialEq)]
struct Return {
    jid: String,
    id: String,
    value: Value,
    outcome: Outcome,
    /// The outputter that the minion proposes.
    format: Option<Format>,
}

impl Return {
    fn of(data: &Json) -> Option<Return> {
        let text = |name: &str| data.get(name).and_then(Json::as_str);
        let value = data.get("return").map_or(Value::Null, Value::from_json);
        let outcome = if data.get("retcode").is_some_and(is_failure) { Outcome::Bad } else { Outcome::Good };
        let format = text("out").and_then(|name| Format::parse(name).ok());
        Some(Return { jid: text("jid")?.to_owned(), id: text("id")?.to_owned(), value, outcome, format })
    }
}

/// Tells whether a return code, or any of those of several functions, is not zero.
fn is_failure(retcode: &Json) -> bool {
    match retcode {
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::Object(codes) => codes.values().any(is_failure),
        Json::Bool(_) | Json::Null => false,
        _ => true,
    }
}

/// Prints returns, or collects them for one document at the end.
struct Printer {
    out: Out,
    merged: Option<Map>,
    hides_missing: bool,
    detail: Option<ret::Detail>,
    lookup: String,
    summary: ret::Summary,
    /// How many said that the job does not mean them.
    unmatched: usize,
}

impl Printer {
    fn new(out: Out, shown: Shown, lookup: String, face: Face) -> Printer {
        // One JSON document, so that `| jq` just works; under Salt's name one per minion, as Salt prints them.
        let is_one = shown.is_static || (out.format() == Some(Format::Json) && face == Face::Halite);
        let detail = if shown.is_verbose { ret::Detail::Names } else { ret::Detail::Counts };
        Printer {
            out,
            merged: is_one.then(Map::new),
            hides_missing: shown.hides_missing,
            detail: shown.has_summary.then_some(detail),
            lookup,
            summary: ret::Summary::default(),
            unmatched: 0,
        }
    }

    fn returned(&mut self, ret: &Return) -> std::io::Result<()> {
        self.summary.returned += 1;
        // It was away and has come back in time.
        self.summary.not_connected.retain(|id| *id != ret.id);
        if ret.outcome == Outcome::Bad {
            self.summary.failed.push(ret.id.clone());
        }
        self.print(&ret.id, ret.value.clone(), ret.format.unwrap_or(Format::Nested), ret.outcome)
    }

    fn unmatched(&mut self, id: &str) {
        self.unmatched += 1;
        self.summary.not_connected.retain(|away| away != id);
    }

    fn lost(&mut self, id: &str, text: String) -> std::io::Result<()> {
        self.summary.not_responding.push(id.to_owned());
        self.absent(id, text)
    }

    /// Says that the target means nobody, here or below.
    fn nobody(&mut self) -> anyhow::Result<u8> {
        self.out.text(NOBODY)?;
        tell(ret::NO_RETURN);
        Ok(exit::NO_MATCH)
    }

    fn absent(&mut self, id: &str, text: String) -> std::io::Result<()> {
        if self.hides_missing { Ok(()) } else { self.print(id, text.into(), Format::NoReturn, Outcome::Bad) }
    }

    fn print(&mut self, id: &str, value: Value, format: Format, outcome: Outcome) -> std::io::Result<()> {
        match &mut self.merged {
            Some(merged) => {
                merged.insert(id.into(), value);
                Ok(())
            }
            None => self.out.outcome(format, &map! { id => value }.into(), outcome),
        }
    }

    fn finish(mut self) -> anyhow::Result<u8> {
        let summary = &self.summary;
        let is_good =
            summary.failed.is_empty() && summary.not_connected.is_empty() && summary.not_responding.is_empty();
        if let Some(merged) = self.merged.take() {
            let outcome = if is_good { Outcome::Good } else { Outcome::Bad };
            self.out.outcome(Format::Nested, &merged.into(), outcome)?;
        }
        if let Some(detail) = self.detail {
            self.out.text(&self.summary.text(detail))?;
        }
        if is_good && self.summary.returned == 0 && self.unmatched > 0 {
            tell("The target matched no minion after all: their grains have changed since the master heard of them.\n");
            tell(ret::NO_RETURN);
            return Ok(exit::NO_MATCH);
        }
        if is_good {
            return Ok(exit::OK);
        }
        tell(ret::NON_ZERO);
        Ok(exit::FAILED)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_return_code_is_a_number_or_one_per_function() {
        let check = |retcode: Json, expected: bool| assert_eq!(is_failure(&retcode), expected, "{retcode}");
        check(json!(0), false);
        check(json!(2), true);
        check(json!({"test.ping": 0, "cmd.run": 3}), true);
        check(json!({"test.ping": 0}), false);
        check(Json::Null, false);
    }

    #[test]
    fn what_is_no_return_is_passed_over() {
        assert_eq!(Return::of(&json!({"jid": "1"})), None);
        assert_eq!(Return::of(&Json::Null), None);
        let ret = Return::of(&json!({"jid": "1", "id": "m1", "return": true, "retcode": 0, "out": "txt"})).unwrap();
        assert_eq!((ret.value, ret.outcome, ret.format), (Value::Bool(true), Outcome::Good, Some(Format::Txt)));
    }
}
