//! Which verb is meant. A first word that is no verb is a target: `halite 'web*' test.ping`.
//!
//! A minion whose name is that of a verb is reached behind `--` or with a target option: `halite -- key test.ping`,
//! `halite -L key test.ping`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Args as _, CommandFactory as _, FromArgMatches as _, Parser};

use super::globals::Globals;
use super::job::JobArgs;
use super::salt;
use super::{completions, demo, doctor, events, jobs, key, lacking, man, minions, reactor, reload, run, store};

/// What is to be done.
#[derive(Debug)]
pub(super) enum Task {
    /// `salt-call`, with its words.
    Call(Vec<OsString>),
    Completions(completions::CompletionsArgs),
    Demo(demo::DemoArgs),
    Doctor(doctor::DoctorArgs),
    Events(events::EventsArgs),
    Job(Box<JobArgs>),
    Jobs(jobs::JobsArgs),
    Key(key::KeyArgs),
    Man(man::ManArgs),
    Minions(minions::MinionsArgs),
    Reactor(reactor::ReactorArgs),
    Reload(reload::ReloadArgs),
    Run(run::RunArgs),
    Store(store::StoreArgs),
}

/// What is to be done, and how.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) globals: Globals,
    pub(super) task: Task,
}

/// Run functions on minions, watch their events, manage their keys
#[derive(Debug, Parser)]
#[command(
    name = "halite",
    version,
    override_usage = "halite [OPTIONS] TARGET FUN [ARGS]...\n       halite [OPTIONS] VERB ...",
    after_help = "Examples:
  halite '*' test.ping
  halite 'web*' cmd.run 'uptime' --out json
  halite -L web1,db1 test.echo hello --summary
  halite -- key test.ping       (a minion whose name is that of a verb)

Exit codes: 0 all went well, 1 a minion failed or did not return, 2 nothing matched, 3 the master cannot be
reached, 4 not permitted, 64 wrong usage."
)]
struct VerbCli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// The verbs, by name.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    Completions(completions::CompletionsArgs),
    Demo(demo::DemoArgs),
    Doctor(doctor::DoctorArgs),
    Events(events::EventsArgs),
    Jobs(jobs::JobsArgs),
    Key(key::KeyArgs),
    Man(man::ManArgs),
    Minions(minions::MinionsArgs),
    Reactor(reactor::ReactorArgs),
    Reload(reload::ReloadArgs),
    Run(run::RunArgs),
    Store(store::StoreArgs),
}

impl From<Verb> for Task {
    fn from(verb: Verb) -> Task {
        match verb {
            Verb::Completions(args) => Task::Completions(args),
            Verb::Demo(args) => Task::Demo(args),
            Verb::Doctor(args) => Task::Doctor(args),
            Verb::Events(args) => Task::Events(args),
            Verb::Jobs(args) => Task::Jobs(args),
            Verb::Key(args) => Task::Key(args),
            Verb::Man(args) => Task::Man(args),
            Verb::Minions(args) => Task::Minions(args),
            Verb::Reactor(args) => Task::Reactor(args),
            Verb::Reload(args) => Task::Reload(args),
            Verb::Run(args) => Task::Run(args),
            Verb::Store(args) => Task::Store(args),
        }
    }
}

/// Run a function on minions
#[derive(Debug, Parser)]
#[command(name = "halite", version, after_help = "Example:\n  halite 'web*' test.ping --summary")]
pub(super) struct JobCli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[command(flatten)]
    pub(super) job: JobArgs,
}

/// Reads the words of the command line, the name it was started under first.
pub(super) fn parse(words: Vec<OsString>) -> Result<Parsed, clap::Error> {
    let name = words.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or("halite");
    match name {
        "salt" => salt::job(&words),
        "salt-call" => Ok(Parsed { globals: Globals::default(), task: Task::Call(words) }),
        "salt-key" => salt::key(&words),
        "salt-run" => salt::run(&words),
        _ if names_target(&words) => {
            let JobCli { globals, job } = JobCli::try_parse_from(words)
                .map_err(|error| lacking::instead(name_verbs(error), lacking::JOB, JobCli::command))?;
            Ok(Parsed { globals, task: Task::Job(Box::new(job)) })
        }
        _ => {
            let matches = documented()
                .try_get_matches_from(words)
                .map_err(|error| lacking::instead(error, lacking::RUN, VerbCli::command))?;
            let VerbCli { globals, verb } = VerbCli::from_arg_matches(&matches)?;
            Ok(Parsed { globals, task: verb.into() })
        }
    }
}

/// Adds the verbs to the complaint that there is no function: the first word may have been meant as one.
fn name_verbs(error: clap::Error) -> clap::Error {
    if error.kind() != clap::error::ErrorKind::MissingRequiredArgument {
        return error;
    }
    let command = VerbCli::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let text = format!("a target needs a function: halite TARGET FUN [ARGS]...\nThe verbs are {}.", verbs.join(", "));
    JobCli::command().error(clap::error::ErrorKind::MissingRequiredArgument, text)
}

/// Returns the whole command as help, completions and manual show it: the verbs, and the options of jobs.
pub(super) fn documented() -> clap::Command {
    let verbs = VerbCli::command();
    let about = verbs.get_about().cloned();
    let command = JobArgs::augment_args(verbs).subcommand_required(true).arg_required_else_help(true);
    // A verb needs no target.
    command.subcommand_negates_reqs(true).about(about.unwrap_or_default()).long_about(None)
}

/// Tells whether these words begin with a target, not with a verb.
fn names_target(words: &[OsString]) -> bool {
    let command = VerbCli::command();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else { return true };
        let takes_next = match text.strip_prefix('-') {
            None | Some("") => return text != "help" && command.find_subcommand(text).is_none(),
            // The words after it are none of ours.
            Some("-") => return true,
            Some(rest) => match rest.strip_prefix('-') {
                Some(long) => long_takes_next(&command, long),
                None => short_takes_next(&command, rest),
            },
        };
        match takes_next {
            None => return true,
            Some(true) => _ = words.next(),
            Some(false) => {}
        }
    }
    false
}

/// Tells whether the value of a long option is the next word; none if only jobs have that option.
fn long_takes_next(command: &clap::Command, long: &str) -> Option<bool> {
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    if matches!(name, "help" | "version") {
        return Some(false);
    }
    let is_it = |arg: &&clap::Arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    let arg = command.get_arguments().find(is_it)?;
    Some(value.is_none() && arg.get_action().takes_values())
}

/// Tells whether the value of the last of these short options is the next word; none if only jobs have one of them.
fn short_takes_next(command: &clap::Command, shorts: &str) -> Option<bool> {
    for (at, short) in shorts.char_indices() {
        if matches!(short, 'h' | 'V') {
            continue;
        }
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(short))?;
        if arg.get_action().takes_values() {
            return Some(shorts.len() == at + short.len_utf8());
        }
    }
    Some(false)
}
