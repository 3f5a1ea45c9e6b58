//! `halite doctor`: looks at this installation and says of everything that is not well what to do about it.

mod checks;

use std::path::PathBuf;

use proto::map;
use proto::value::Value;
use render::output::Format;

use super::Globals;
use super::exit;
use super::out::Out;
use crate::api::client::ClientError;

/// Look at this installation: daemons, memory, sockets, versions, disk, limits, the sh beacon, the configuration
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  halite doctor --quiet")]
pub(crate) struct DoctorArgs {
    /// For health checks: print nothing unless something is bad, and that to standard error; warnings are left out
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Ok,
    Warning,
    Bad,
}

impl Health {
    fn name(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    health: Health,
    detail: String,
    /// What to do, unless all is well.
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding { check, health: Health::Ok, detail: detail.into(), remedy: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, health: Health::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn bad(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check, health: Health::Bad, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn to_value(&self) -> Value {
        map! { "check" => self.check, "health" => self.health.name(), "detail" => self.detail.as_str(),
        "remedy" => self.remedy.as_deref() }
        .into()
    }

    fn line(&self) -> String {
        let mut line = format!("{:<8} {:<14} {}\n", self.health.name(), self.check, self.detail);
        if let Some(remedy) = &self.remedy {
            line.push_str(&format!("         {:<14} -> {remedy}\n", ""));
        }
        line
    }
}

/// Looks. Exit code 0: all well, warnings apart; 1: something is bad; 3: the master is not reachable; 4: not for this
/// user.
pub(crate) async fn run(globals: &Globals, args: DoctorArgs) -> anyhow::Result<u8> {
    let confdir = globals.config_dir();
    let mut out = Out::open(globals)?;
    let mut findings = checks::configuration(&confdir);
    let (status, refused) = match globals.client() {
        Ok(client) => match client.status().await {
            Ok(status) => (Some((client, status)), None),
            Err(error) => {
                findings.push(no_answer(&error));
                (None, Some(exit::code(&error.into())))
            }
        },
        // The configuration's own finding says why.
        Err(_) => (None, None),
    };
    if let Some((client, status)) = &status {
        findings.extend(checks::master(status));
        findings.push(checks::socket(client.socket()));
        if let Ok(keys) = client.keys().await {
            findings.push(checks::keys(&keys));
        }
    }
    if args.quiet {
        findings.retain(|finding| finding.health == Health::Bad);
        findings.iter().for_each(|finding| eprint!("{}", finding.line()));
        return Ok(refused.unwrap_or(if findings.is_empty() { exit::OK } else { exit::FAILED }));
    }
    // Only warnings come from here, and it takes its time: a check that runs every ten seconds does without.
    let local = tokio::task::spawn_blocking(move || checks::host(&confdir, &minion_binary())).await?;
    findings.extend(local);
    let worst = findings.iter().any(|finding| finding.health == Health::Bad);
    match out.format() {
        None => findings.iter().try_for_each(|finding| out.text(&finding.line()))?,
        Some(_) => {
            out.items(Format::Json, &Value::List(findings.iter().map(Finding::to_value).collect()))?;
        }
    }
    Ok(refused.unwrap_or(if worst { exit::FAILED } else { exit::OK }))
}

fn no_answer(error: &ClientError) -> Finding {
    let remedy = match error {
        ClientError::Denied(_) => "run the doctor as root, as the master's user or as a member of its group",
        ClientError::Unreachable { .. } => "start halite-master, or name its configuration with -c",
        ClientError::Broken { .. } | ClientError::Refused { .. } => "look into the master's log",
    };
    Finding::bad("master", error.to_string(), remedy)
}

/// Returns where the minion's binary should be: beside this one.
fn minion_binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.with_file_name("halite-minion")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_to_do() {
        let bad = Finding::bad("fd limit", "1024", "set LimitNOFILE=65536");
        assert_eq!(bad.line(), "bad      fd limit       1024\n                        -> set LimitNOFILE=65536\n");
        assert_eq!(Finding::ok("disk", "fine").line(), "ok       disk           fine\n");
    }

    #[test]
    fn a_user_without_rights_is_not_told_to_start_the_master() {
        let denied = no_answer(&ClientError::Denied("/run/api.sock".into()));
        assert!(denied.remedy.unwrap().starts_with("run the doctor as root"));
    }
}
