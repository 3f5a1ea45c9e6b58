//! From a publication to a started job: expiry, target, the jid on the disk, then the executor.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::Publish;
use proto::target::{BadTarget, Facts, Target, TooHard};
use proto::value::{Map, MapExt, Value};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::Link;
use super::salt::ProcFolder;
use crate::executor::{Executor, Job, Return, ReturnSink, StartError};
use crate::jids::{Begun, JidError, Jids};
use crate::pillar::Pillar;

/// Jobs whose jids are written at the same time: one fsync covers all that wait together.
const AT_ONCE: usize = 32;

/// What the intake needs.
#[derive(Clone)]
pub struct IntakeParts {
    /// The minion's id.
    pub id: MinionId,
    /// The grains, as they are now.
    pub grains: watch::Receiver<Arc<Map>>,
    /// Where jobs run.
    pub executor: Executor,
    /// The pillar, as it is now.
    pub pillar: Pillar,
    /// Which jobs were seen.
    pub jids: Jids,
    /// Where returns go.
    pub link: Link,
    /// Where running jobs are shown to Salt's tools, on Salt's wire.
    pub proc: Option<ProcFolder>,
}

/// The way of jobs from the link to the executor, and of their returns back.
pub struct Intake;

/// What becomes of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It came too late.
    Expired,
    /// It does not mean this minion.
    NoMatch,
    /// It is a job to run, if it is new.
    Run,
    /// Its target takes too long to match.
    TooHard,
    /// Its target is none.
    Unreadable(BadTarget),
}

impl Intake {
    /// Starts the jobs that come in, until the link has ended.
    pub async fn run(parts: IntakeParts, mut jobs: mpsc::Receiver<Publish>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut starting = JoinSet::new();
        while let Some(publish) = jobs.recv().await {
            while starting.try_join_next().is_some() {}
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let parts = parts.clone();
            starting.spawn(async move {
                parts.take(publish).await;
                drop(place);
            });
        }
        while starting.join_next().await.is_some() {}
    }

    /// Returns the sink for the executor's returns: on the disk first, then to the master.
    pub fn returns(link: Link, jids: Jids, proc: Option<ProcFolder>) -> Arc<dyn ReturnSink> {
        Arc::new(Returns { link, jids, proc })
    }
}

impl IntakeParts {
    async fn take(&self, publish: Publish) {
        let jid = publish.jid.clone();
        let grains = self.grains.borrow().clone();
        let verdict = judge(&publish, Facts { id: self.id.as_str(), grains: &grains }, &self.pillar.get(), unix_ms());
        let refusal = match verdict {
            Verdict::Run => None,
            // A job that comes again is judged by what became of it, not by grains that have changed since.
            Verdict::NoMatch if self.jids.knows(&jid).await => return debug!(%jid, "a job came again"),
            Verdict::NoMatch => {
                debug!(%jid, "a job does not mean this minion");
                return self.link.no_match(jid).await;
            }
            Verdict::Expired => {
                warn!(%jid, "a job came too late and is not started; is this host's clock right?");
                Some(
                    "The job had expired when it arrived and was not started. Is this minion's clock right?".to_owned(),
                )
            }
            Verdict::Unreadable(error) => Some(format!("The minion cannot read the target: {error}")),
            Verdict::TooHard => Some(format!("The job was not started: {TooHard}.")),
        };
        // Also what is refused is remembered: it may come again when the clock is another, and has its return by then.
        match self.jids.begin(&jid, publish.expires_ms, &publish.load).await {
            Ok(Begun::Fresh) => match refusal {
                Some(text) => self.answer(&jid, failure(&publish, &text)).await,
                None => self.start(&publish).await,
            },
            Ok(Begun::Known) => debug!(%jid, "a job came again"),
            Err(JidError::Stopped) => {}
            Err(error) => {
                error!(%jid, %error, "the job is not started");
                let text = format!("The minion could not {error}; the job was not started.");
                self.answer(&jid, failure(&publish, &text)).await;
            }
        }
    }

    async fn start(&self, publish: &Publish) {
        let jid = &publish.jid;
        let job = match Job::from_publication(&publish.load) {
            Ok(job) => job,
            Err(error) => {
                warn!(%jid, %error, "the publication is no job");
                return self.answer(jid, failure(publish, &format!("The minion failed to {error}."))).await;
            }
        };
        info!(%jid, fun = ?job.fun(), user = job.user, "job");
        self.show(jid, job.publication()).await;
        match self.executor.start(job).await {
            Ok(()) | Err(StartError::Stopped) => {}
            Err(StartError::Busy(ret)) => {
                self.proc.iter().for_each(|proc| proc.remove(jid));
                self.answer(jid, ret.load).await;
            }
            Err(StartError::Duplicate) => debug!(%jid, "the job runs already"),
        }
    }

    /// Writes the job's file before the job can end.
    async fn show(&self, jid: &Jid, publication: Map) {
        let Some(proc) = self.proc.clone() else { return };
        let jid = jid.clone();
        // It only fails with the runtime.
        let _ = tokio::task::spawn_blocking(move || proc.write(&jid, &publication)).await;
    }

    async fn answer(&self, jid: &Jid, load: Map) {
        if let Err(error) = self.link.put_return(jid.clone(), load).await {
            warn!(%jid, %error, "a return is lost");
        }
    }
}

/// Decides about a publication. The minion checks the target again: delivery is the master's word, the match its own.
pub fn judge(publish: &Publish, facts: Facts<'_>, pillar: &Map, now_ms: u64) -> Verdict {
    if publish.expires_ms <= now_ms {
        return Verdict::Expired;
    }
    match Target::of(&publish.load).map(|target| target.matches_with(facts, pillar)) {
        Ok(Ok(true)) => Verdict::Run,
        Ok(Ok(false)) => Verdict::NoMatch,
        Ok(Err(TooHard)) => Verdict::TooHard,
        Err(error) => Verdict::Unreadable(error),
    }
}

/// Builds the return of a job that was never started.
pub fn failure(publish: &Publish, text: &str) -> Map {
    let field = |name: &str, fallback: Value| publish.load.at(name).cloned().unwrap_or(fallback);
    map! {
        "cmd" => "_return",
        "success" => false,
        "return" => text,
        "retcode" => 1,
        "out" => "nested",
        "jid" => &publish.jid,
        "fun" => field("fun", "".into()),
        "fun_args" => field("arg", Value::List(Vec::new())),
        "user" => field("user", "".into()),
    }
}

/// Takes the executor's returns.
struct Returns {
    link: Link,
    jids: Jids,
    proc: Option<ProcFolder>,
}

impl ReturnSink for Returns {
    fn put(&self, ret: Return) {
        let Ok(jid) = Jid::parse(&ret.jid) else {
            return error!(jid = ret.jid, "a return of a job without a proper jid is lost");
        };
        self.proc.iter().for_each(|proc| proc.remove(&jid));
        if let Err(error) = self.jids.returned(&jid, &ret.load) {
            warn!(%jid, %error, "a return is not on the disk; a restart before the master has it would lose it");
        }
        if let Err(error) = self.link.put_return_blocking(&jid, &ret.load) {
            warn!(%jid, %error, "a return is not sent; it stays on the disk until the next start");
        }
    }
}

/// Returns this host's clock, in Unix milliseconds.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tgt: impl Into<Value>, tgt_type: &str, expected: Verdict) {
        let load = map! { "fun" => "test.ping", "tgt" => tgt.into(), "tgt_type" => tgt_type };
        let jid = Jid::parse("20261120235232821625").unwrap();
        let publish = Publish { jid, serial: 1, expires_ms: 1000, load };
        let grains = map! { "os" => "Debian" };
        let facts = Facts { id: "web1", grains: &grains };
        let pillar = map! { "role" => "web" };
        assert_eq!(judge(&publish, facts, &pillar, 999), expected, "{:?}", publish.load);
        assert_eq!(judge(&publish, facts, &pillar, 1000), Verdict::Expired);
    }

    #[test]
    fn only_a_live_job_for_this_minion_runs() {
        check("*", "glob", Verdict::Run);
        check("web?", "", Verdict::Run);
        check("web2", "glob", Verdict::NoMatch);
        check("web10", "glob", Verdict::NoMatch);
        check(vec!["web1", "web2"], "list", Verdict::Run);
        check("web2,web3", "list", Verdict::NoMatch);
        check("os:Debian", "grain", Verdict::Run);
        check("os:Alpine", "grain", Verdict::NoMatch);
        check("G@os:Debian and not web2", "compound", Verdict::Run);
        check("not G@os:Debian", "compound", Verdict::NoMatch);
        check("role:w*", "pillar", Verdict::Run);
        check("I@role:db", "compound", Verdict::NoMatch);
        check("", "glob", Verdict::Unreadable(BadTarget::Empty));
    }
}
