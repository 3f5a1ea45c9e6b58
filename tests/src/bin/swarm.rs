//! `swarm`: thousands of minions in one process, for load and measurements.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use halite_tests::swarm::options::{Options, ReportForm};
use halite_tests::swarm::report::Report;
use halite_tests::swarm::{Swarm, scenario};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How often progress is shown, and an interrupt noticed.
const SHOW: Duration = Duration::from_millis(200);

/// The exit code of who is interrupted twice: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.with_master { measure(&options) } else { drive(&options) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("swarm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenario with a master of its own.
fn measure(options: &Options) -> anyhow::Result<bool> {
    if let Some(contradiction) = options.contradiction() {
        anyhow::bail!(contradiction);
    }
    let table = scenario::run(options)?;
    print(options, &table, || table.lines())?;
    Ok(table.log.is_good() && table.count.misdelivered == 0 && table.count.not_understood == 0)
}

/// Drives a swarm against a master that is there.
fn drive(options: &Options) -> anyhow::Result<bool> {
    let swarm = Swarm::start(options)?;
    let bar = progress();
    let interrupted = interrupts()?;
    let report = Report::of(&swarm, options, |swarm| {
        let stop = interrupted.recv_timeout(SHOW).is_ok();
        swarm.look(|totals| {
            let count = totals.count;
            bar.set_message(format!(
                "{} of {} connected, {} handshakes, {} events acknowledged of {}, {} returns, {} came back",
                count.live,
                options.minions,
                count.handshakes,
                count.acknowledged,
                count.fired,
                count.returns_acknowledged,
                count.reconnects
            ));
        });
        bar.tick();
        stop
    });
    bar.finish_and_clear();
    print(options, &report, || report.lines())?;
    Ok(report.is_good())
}

/// Shows where things stand, on a terminal only.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Tells of SIGINT; a second one that comes too soon ends the process.
fn interrupts() -> anyhow::Result<std::sync::mpsc::Receiver<()>> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if tell.try_send(()).is_err() {
                    // The first one has not been served yet.
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    });
    Ok(told)
}

fn print(options: &Options, document: &impl Serialize, lines: impl FnOnce() -> String) -> anyhow::Result<()> {
    match options.report {
        ReportForm::Json => println!("{}", serde_json::to_string(document).context("failed to write the report")?),
        ReportForm::Text => println!("{}", lines()),
    }
    Ok(())
}
