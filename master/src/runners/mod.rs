//! Runners: functions that run on the master, called `<runner>.<function>` by operators and reactions.
//!
//! One file per runner, each with a table of functions, listed in [`all`]. A runner acts by asking at the door, in the
//! name of whoever called it; it never reaches a part behind the door. Every run is announced as `salt/run/<jid>/new`
//! and ended with `salt/run/<jid>/ret` (salt-wire.md §9).

mod args;
mod cache;
mod call;
mod event;
mod jobs;
mod manage;
mod proxy;
mod reactor;
mod salt;
mod test;

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use proto::ids::Jid;
use proto::map;
use proto::tag::Tag;
use proto::value::{MapExt, Value};
use tokio::time::Instant;

use crate::bus::{Bus, EventQuery, Since};
use crate::command::{Caller, Command, CommandError, Door, PublishRequest, Reply};

pub use args::Args;

/// What Salt returns as exit code of a function that there is not.
const RETCODE_UNAVAILABLE: u8 = 254;
/// What Salt returns as exit code of a function that failed.
const RETCODE_FAILED: u8 = 1;

/// An answer that is being worked on.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CommandError>> + Send + 'a>>;

/// What runners and reactions need of the door. Boxed answers, because a command may run a runner that asks again.
pub trait Ask: Send + Sync {
    /// Asks for something in somebody's name.
    fn ask(&self, caller: Caller, command: Command) -> Answer<'_, Reply>;

    /// Makes a jid that nothing else has.
    fn new_jid(&self) -> Answer<'_, Jid>;
}

impl Ask for Door {
    fn ask(&self, caller: Caller, command: Command) -> Answer<'_, Reply> {
        Box::pin(Door::ask(self, caller, command))
    }

    fn new_jid(&self) -> Answer<'_, Jid> {
        Box::pin(Door::new_jid(self))
    }
}

/// What a function of a runner gets.
#[derive(Clone, Copy)]
pub struct RunnerContext<'a> {
    /// Where it asks.
    pub door: &'a dyn Ask,
    /// In whose name.
    pub caller: &'a Caller,
}

impl RunnerContext<'_> {
    /// Asks for something that is answered with a value.
    pub(crate) async fn value(&self, command: Command) -> Result<Value, CommandError> {
        match self.door.ask(self.caller.clone(), command).await? {
            Reply::Value(value) => Ok(value),
            Reply::Done => Ok(Value::Bool(true)),
            _ => Err(something_else()),
        }
    }

    /// Publishes a job and waits for its returns, so long at most; returns the ids of those that have returned.
    pub(crate) async fn returning(
        &self,
        request: PublishRequest,
        timeout: Duration,
    ) -> Result<HashSet<Value>, CommandError> {
        let until = Instant::now() + timeout;
        let job = match self.door.ask(self.caller.clone(), Command::Publish(request)).await {
            Ok(Reply::Published(job)) => job,
            // Their keys have just gone.
            Err(CommandError::NoMatch) => return Ok(HashSet::new()),
            Err(error) => return Err(error),
            Ok(_) => return Err(something_else()),
        };
        let tags = vec![format!("salt/job/{}/ret/*", job.jid)];
        let query = EventQuery { tags, since: Since::Offset(job.offset), until: None };
        let events = self.door.ask(self.caller.clone(), Command::Events(query)).await?;
        let Reply::Events(mut returns) = events else { return Err(something_else()) };
        let mut returned = HashSet::new();
        let gather = async {
            while returned.len() < job.minions.len() {
                let Some(event) = returns.next().await else { break };
                let id = event.map().ok().and_then(|data| data.at("id").cloned());
                returned.extend(id);
            }
        };
        // Who has not returned by then has not returned.
        let _ = tokio::time::timeout_at(until, gather).await;
        Ok(returned)
    }
}

fn something_else() -> CommandError {
    CommandError::Internal("the master answered something else than was asked".into())
}

/// A runner: its name and its functions.
#[derive(Debug)]
pub struct Runner {
    /// The part before the dot.
    pub name: &'static str,
    /// Its functions, alphabetical.
    pub functions: &'static [Function],
}

/// A function of a runner.
#[derive(Debug)]
pub struct Function {
    /// The part behind the dot.
    pub name: &'static str,
    /// How it is called, for people.
    pub usage: &'static str,
    run: Run,
}

/// Returns all runners, alphabetical.
pub fn all() -> &'static [Runner] {
    &[
        cache::RUNNER,
        event::RUNNER,
        jobs::RUNNER,
        manage::RUNNER,
        proxy::RUNNER,
        reactor::RUNNER,
        salt::RUNNER,
        test::RUNNER,
    ]
}

/// Finds a function by its full name.
pub fn find(fun: &str) -> Option<&'static Function> {
    let (runner, function) = fun.split_once('.')?;
    let runner = all().iter().find(|one| one.name == runner)?;
    runner.functions.iter().find(|one| one.name == function)
}

/// Runs a function of a runner and tells the bus about it.
pub async fn run(
    door: &dyn Ask,
    bus: &Bus,
    caller: Caller,
    fun: &str,
    args: Args,
    jid: Option<Jid>,
) -> Result<Value, CommandError> {
    let call = Call { room: "run", kind: "runner", fun, run: find(fun).map(|function| function.run) };
    call.perform(door, bus, caller, args, jid).await
}

/// What runs a function.
pub(crate) type Run = for<'a> fn(RunnerContext<'a>, Args) -> Answer<'a, Value>;

/// A call of a function on the master, told on the bus as `salt/<room>/<jid>/new` and `…/ret`.
pub(crate) struct Call<'a> {
    /// `run` or `wheel`.
    pub(crate) room: &'static str,
    /// What events put before the function: `runner` or `wheel`.
    pub(crate) kind: &'static str,
    /// The function, as it was asked for.
    pub(crate) fun: &'a str,
    /// Nothing if there is no such function.
    pub(crate) run: Option<Run>,
}

impl Call<'_> {
    /// Runs the function.
    pub(crate) async fn perform(
        self,
        door: &dyn Ask,
        bus: &Bus,
        caller: Caller,
        args: Args,
        jid: Option<Jid>,
    ) -> Result<Value, CommandError> {
        let Call { room, kind, fun, run } = self;
        let jid = match jid {
            Some(jid) => jid,
            None => door.new_jid().await?,
        };
        let Some(run) = run else {
            let text = format!("'{fun}' is not available.");
            let ret = map! { "success" => false, "return" => text.as_str(), "retcode" => RETCODE_UNAVAILABLE,
            "fun" => fun, "fun_args" => args.as_fun_args(), "jid" => &jid, "user" => caller.user.as_str() };
            bus.try_fire(Tag::run_ret(room, &jid), &ret);
            return Err(CommandError::NotFound(text));
        };
        let mut data = map! { "fun" => format!("{kind}.{fun}"), "jid" => &jid, "user" => caller.user.as_str(),
        "fun_args" => args.as_fun_args() };
        bus.try_fire(Tag::run_new(room, &jid), &data);
        let done = run(RunnerContext { door, caller: &caller }, args).await;
        match &done {
            Ok(value) => {
                data.set("return", value.clone());
                data.set("success", true);
            }
            Err(error) => {
                data.set("return", format!("Exception occurred in {kind} {fun}: {error}"));
                data.set("success", false);
                data.set("retcode", RETCODE_FAILED);
            }
        }
        bus.try_fire(Tag::run_ret(room, &jid), &data);
        done
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
