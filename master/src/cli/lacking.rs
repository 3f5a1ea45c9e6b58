//! Options of Salt's programs that these do not have: each is refused with what to do instead.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Options by their names, and what to do instead.
type Lacking = &'static [(&'static [&'static str], &'static str)];

const BATCH: &str = "there are no batches in this version; run the job on parts of the fleet, with -L or patterns";
const STATES: &str = "there is no outputter for states; --out nested, json or yaml prints them whole";

/// Of `salt`.
pub(super) const JOB: Lacking = &[
    (&["--args-stdin"], "arguments are words of the command line; xargs makes them of lines"),
    (&["--batch-wait", "--batch-safe-limit", "--batch-safe-size", "--failhard"], BATCH),
    (&["--config-dump"], "read the files of the configuration directory; `halite doctor` checks them"),
    (&["-d", "--doc", "--documentation"], "run sys.doc: halite TARGET sys.doc FUN"),
    (&["--module-executors", "--executor-opts"], "there are no executors to choose from; leave it out"),
    (&["--output-diff", "--state-output", "--state_output", "--state-verbose", "--state_verbose"], STATES),
    (&["--preview-target"], "halite TARGET test.ping shows whom a target means"),
    (&["-p", "--progress"], "there is no progress bar; -v says who is still running the job"),
    (
        &["--return_config", "--return_kwargs"],
        "a returner is configured on the minion, and not by the job; leave it out",
    ),
    (&["--start-event"], "minions do not say when they begin; -v says who is still running the job"),
    (&["--subset"], "choose the minions with -L"),
];

/// Of `salt-key`.
pub(super) const KEY: Lacking = &[
    (
        &["--gen-keys", "--gen-keys-dir", "--keysize"],
        "a minion makes its own key when it first starts; accept it with -a, or put it among the accepted ones (docs/howto/keys.md)",
    ),
    (
        &["--gen-signature", "--signature-path", "--priv", "--pub", "--auto-create"],
        "the master signs its key itself, with `master_sign_pubkey: True` in its configuration",
    ),
];

/// Of `salt-run`.
pub(super) const RUN: Lacking = &[
    (&["--args-stdin"], "arguments are words of the command line; xargs makes them of lines"),
    (&["--async"], "a runner is waited for; put it into the background of the shell with &"),
    (&["-d", "--doc", "--documentation"], "the runners are described in docs/reference/runners.md"),
    (&["--jid", "--skip-grains"], "it has no meaning here; leave it out"),
    (&["--no-parse"], "quote the value for YAML instead: name='\"007\"'"),
    (&["--profiling-path", "--enable-profiling"], "there is no profiling of single runs; leave it out"),
    (&["--state-output", "--state_output", "--state-verbose", "--state_verbose"], STATES),
];

/// Of all of them.
const ALL: Lacking = &[
    (
        &["-a", "--auth", "--eauth", "--external-auth", "-T", "--make-token", "--username", "--password"],
        "there is no external authentication; what you may do goes by the user you are: root and the master's user may do everything",
    ),
    (&["--hard-crash"], "leave it out; -l debug logs more"),
    (&["--log-file", "--log-file-level"], "logs go to stderr, so redirect it with 2>FILE; -l sets the level"),
    (&["--saltfile"], "there are no Saltfiles; -c names the configuration directory"),
    (&["--versions-report"], "--version has the version; `halite doctor` tells more of this host"),
];

/// Says what to do instead, if what was not understood is an option of Salt's program.
pub(super) fn instead(error: Error, own: Lacking, command: impl FnOnce() -> clap::Command) -> Error {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return error };
    let name = given.split('=').next().unwrap_or(given);
    let known = own.iter().chain(ALL).find(|(names, _)| names.contains(&name));
    match known.filter(|_| error.kind() == ErrorKind::UnknownArgument) {
        Some((_, remedy)) => command().error(ErrorKind::UnknownArgument, format!("{name} is not taken: {remedy}")),
        None => error,
    }
}
