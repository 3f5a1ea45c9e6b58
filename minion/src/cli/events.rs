//! `halite-minion events`: follows the local bus of the minion that runs here, one JSON object a line.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use proto::map;
use proto::value::Value;

use crate::config::Config;
use crate::local::{Followed, Follower, LocalError};

/// There is no daemon, or it went away.
const NO_DAEMON: u8 = 3;

/// The command line of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  halite-minion events --tag 'salt/beacon/*'")]
pub(super) struct EventsArgs {
    /// Only events whose tag matches this glob.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    tag: String,
    /// End after so many events. Default: none; Ctrl-C ends it.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints events until there were enough, or the daemon ends.
pub(super) async fn run(config: Config, args: EventsArgs) -> anyhow::Result<ExitCode> {
    match follow(&config, &args).await? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => {
            eprintln!("halite-minion events: {:#}", anyhow::Error::new(why));
            Ok(ExitCode::from(NO_DAEMON))
        }
    }
}

async fn follow(config: &Config, args: &EventsArgs) -> anyhow::Result<Result<(), LocalError>> {
    let mut follower = match Follower::begin(config, &args.tag).await {
        Ok(follower) => follower,
        Err(why) => return Ok(Err(why)),
    };
    // Whoever waits for this line knows that nothing is missed from here on.
    eprintln!("listening");
    let mut left = args.count;
    while left != Some(0) {
        match follower.next().await {
            Ok(Followed::Event(event)) => {
                let line = Value::from(map! { "tag" => event.tag, "data" => event.data }).to_json();
                let mut out = std::io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush()).context("failed to print an event")?;
                left = left.map(|left| left - 1);
            }
            Ok(Followed::Missed(count)) => eprintln!("halite-minion events: {count} events were missed"),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(()))
}
