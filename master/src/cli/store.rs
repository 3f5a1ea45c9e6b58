//! `halite store`: the files of the master on this host. Works on them directly, so most of it needs no running master.

use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use proto::map;
use proto::value::Value;
use render::output::{Format, event};

use super::exit;
use super::globals::Globals;
use super::out::{Out, tell};
use crate::api::client::ClientError;
use crate::store::{self, Files, Lost, Occupied, StoreError};

/// Check, back up, restore, compact or export the event log and what belongs to it
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite store check
  halite store backup /backup/halite-monday
  halite store restore /backup/halite-monday
  halite store compact
  halite store export --format jsonl --out-file events.jsonl")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum StoreVerb {
    /// Back up event log, job cache, cursors, the reactor's outbox and keys into a new folder, running or not
    #[command(after_help = "Example:\n  halite store backup /backup/halite-monday")]
    Backup {
        /// The folder: it is made, or must be empty
        dir: PathBuf,
    },
    /// Look whether every segment and database is whole and no event is missing, running or not
    #[command(after_help = "Example:\n  halite store check --out json")]
    Check,
    /// Apply retention now, index what is not indexed yet, shrink the job cache, running or not
    #[command(after_help = "Example:\n  halite store compact")]
    Compact,
    /// Print all events there are, oldest first, running or not
    #[command(after_help = "Example:\n  halite store export --tag 'salt/job/*' --out-file jobs.jsonl")]
    Export {
        /// How: one JSON document a line
        #[arg(long, value_name = "FORMAT", default_value = "jsonl", value_parser = ["jsonl"])]
        format: String,
        /// Only events whose tag matches this pattern; may be given several times
        #[arg(long = "tag", value_name = "GLOB")]
        tags: Vec<String>,
    },
    /// Put a backup in place; the master must be stopped
    #[command(after_help = "Example:\n  systemctl stop halite-master && halite store restore /backup/halite-monday")]
    Restore {
        /// The folder of the backup
        dir: PathBuf,
        /// Move aside what is there already
        #[arg(long)]
        force: bool,
    },
}

/// Does what the verb says. Exit code 0: done, all well; 1: something is not whole, or failed; 4: not for this user; 64:
/// the folder is not one for this.
pub(super) async fn run(globals: &Globals, args: StoreArgs) -> anyhow::Result<u8> {
    let files = files(globals)?;
    let done = match &args.verb {
        StoreVerb::Backup { dir } => backup(globals, &files, dir),
        StoreVerb::Check => check(globals, &files),
        StoreVerb::Compact => compact(globals, &files).await,
        StoreVerb::Export { tags, .. } => export(globals, &files, tags),
        StoreVerb::Restore { dir, force } => restore(globals, &files, dir, *force),
    };
    done.or_else(|error| match refusal(&error) {
        Some(code) => {
            tell(&format!("halite: failed to {error:#}\n"));
            Ok(code)
        }
        None => Err(error),
    })
}

fn files(globals: &Globals) -> anyhow::Result<Files> {
    let config = crate::config::load(&globals.config_dir()).context("failed to read the master's configuration")?;
    Ok(Files {
        databases: vec![config.jobs.path, config.cachedir.join("cursors.db"), config.reactor.path],
        events: config.bus.path,
        pki_dir: config.keys.pki_dir,
        retention: config.bus.retention,
    })
}

/// Returns the exit code of what the store refuses.
fn refusal(error: &anyhow::Error) -> Option<u8> {
    let store = error.downcast_ref::<StoreError>()?;
    if exit::is_closed_pipe(error) {
        return None;
    }
    let denied = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if denied.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied) {
        return Some(exit::NOT_PERMITTED);
    }
    match store {
        StoreError::NoBackup(_) | StoreError::NotEmpty(_) | StoreError::Occupied(_) | StoreError::Within { .. } => {
            Some(exit::USAGE)
        }
        StoreError::Incomplete { .. } | StoreError::Database { .. } | StoreError::File { .. } | StoreError::Log(_) => {
            Some(exit::FAILED)
        }
    }
}

/// A line on stderr that says what is being done; on a terminal only.
fn line() -> (ProgressBar, impl FnMut(&str)) {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    let drawn = bar.clone();
    (bar, move |text: &str| {
        drawn.set_message(text.to_owned());
        drawn.tick();
    })
}

fn check(globals: &Globals, files: &Files) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let (bar, mut progress) = line();
    let findings = store::check(files, &mut progress);
    bar.finish_and_clear();
    let findings = findings?;
    let whole = findings.iter().all(|finding| finding.ok);
    if out.format().is_some() {
        let view = |finding: &store::Finding| {
            Value::from(
                map! { "what" => finding.what.as_str(), "ok" => finding.ok, "detail" => finding.detail.as_str() },
            )
        };
        out.items(Format::Json, &Value::List(findings.iter().map(view).collect()))?;
    } else {
        for finding in &findings {
            let health = if finding.ok { "ok" } else { "bad" };
            out.text(&format!("{health:<4} {}: {}\n", finding.what, finding.detail))?;
        }
        if findings.iter().any(|finding| finding.unseen) {
            out.text(
                "Make room on the disk, or see to it, and check again: this says nothing of what is in the files.\n",
            )?;
        }
        if findings.iter().any(|finding| !finding.ok && !finding.unseen) {
            out.text(
                "Restore a backup (`halite store restore DIR`), or save what is readable with `halite store export`.\n",
            )?;
        }
    }
    Ok(if whole { exit::OK } else { exit::FAILED })
}

fn backup(globals: &Globals, files: &Files, dir: &std::path::Path) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let (bar, mut progress) = line();
    let done = store::backup(files, dir, &mut progress);
    bar.finish_and_clear();
    let done = done?;
    let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let (damaged, left_out) = (names(&done.damaged), names(&done.left_out));
    for path in &damaged {
        tell(&format!("halite: {path} is damaged; it is copied as it is\n"));
    }
    for path in &left_out {
        tell(&format!("halite: {path} is damaged and left out; it begins anew after a restore\n"));
    }
    let is_whole = damaged.is_empty() && left_out.is_empty();
    let view = map! { "dir" => dir.display().to_string(), "segments" => done.segments, "bytes" => done.bytes,
    "head" => done.head, "damaged" => damaged, "left_out" => left_out };
    say(
        &mut out,
        view.into(),
        &format!(
            "Backed up {} segments, {} bytes, up to event {}, with databases and keys into {}\n",
            done.segments,
            done.bytes,
            done.head,
            dir.display()
        ),
    )?;
    Ok(if is_whole { exit::OK } else { exit::FAILED })
}

fn restore(globals: &Globals, files: &Files, dir: &std::path::Path, force: bool) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let occupied = if force { Occupied::MoveAside } else { Occupied::Refuse };
    let (bar, mut progress) = line();
    let done = store::restore(files, dir, occupied, &mut progress);
    bar.finish_and_clear();
    let done = done?;
    let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let (restored, aside) = (names(&done.restored), names(&done.aside));
    let mut text = String::new();
    restored.iter().for_each(|path| text.push_str(&format!("restored {path}\n")));
    aside.iter().for_each(|path| text.push_str(&format!("moved aside {path}\n")));
    text.push_str("Start the master now.\n");
    say(&mut out, map! { "restored" => restored, "aside" => aside }.into(), &text)
}

async fn compact(globals: &Globals, files: &Files) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let (bar, mut progress) = line();
    progress("compacting");
    // Who runs is asked to do it itself; else it is done here.
    let done = match globals.client()?.compact().await {
        Err(ClientError::Unreachable { .. }) => {
            let done = store::compact(files, &mut progress);
            done.map(|done| serde_json::json!({ "deleted": done.deleted, "sealed": done.sealed, "jobs": done.jobs }))
                .map_err(anyhow::Error::from)
        }
        asked => asked.map_err(anyhow::Error::from),
    };
    bar.finish_and_clear();
    let done = done?;
    let text = format!(
        "Deleted {} segments, indexed {}, forgot {} jobs whose events are gone\n",
        done["deleted"], done["sealed"], done["jobs"]
    );
    say(&mut out, Value::from_json(&done), &text)
}

fn export(globals: &Globals, files: &Files, tags: &[String]) -> anyhow::Result<u8> {
    let mut out = Out::without_format(&globals.output)?;
    let exported = store::export(files, tags, &mut |event| {
        let data = event.map().map_or(Value::Null, Value::Map);
        out.text(&event::jsonl(&event::Event {
            tag: event.tag.as_str(),
            offset: Some(event.offset),
            durable: true,
            data: &data,
        }))
    })?;
    for Lost { path, events, error } in &exported.lost {
        let path = path.display();
        tell(&match error {
            Some(error) => {
                format!("halite: {events} events of {path} cannot be read ({error}); the others are there\n")
            }
            None => format!("halite: {events} events of {path} or behind it are missing; the others are there\n"),
        });
    }
    Ok(if exported.lost.is_empty() { exit::OK } else { exit::FAILED })
}

/// Prints a text for people, or the same as a value if an outputter was asked for.
fn say(out: &mut Out, value: Value, text: &str) -> anyhow::Result<u8> {
    match out.format() {
        Some(format) => out.value(format, &value)?,
        None => out.text(text)?,
    }
    Ok(exit::OK)
}
