//! Exit codes, and the one place where errors are printed.

use std::io;

use crate::api::client::ClientError;

use super::globals::Globals;
use super::out::tell;

/// All went well.
pub(crate) const OK: u8 = 0;
/// A minion failed or did not return, or the master failed.
pub(crate) const FAILED: u8 = 1;
/// The target matched no minion, the glob no key.
pub(crate) const NO_MATCH: u8 = 2;
/// The master cannot be reached.
pub(crate) const UNREACHABLE: u8 = 3;
/// The caller may not do this.
pub(crate) const NOT_PERMITTED: u8 = 4;
/// The command line, or what it asks for, is wrong.
pub(crate) const USAGE: u8 = 64;
/// Ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Something that the command line asks for and that cannot be done so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints what clap has to say and returns the exit code: help and version are no errors.
pub(super) fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    if error.use_stderr() { USAGE } else { OK }
}

/// Prints an error, with its chain of causes, and returns its exit code. A closed pipe is the reader saying enough.
pub(super) fn report(globals: &Globals, error: &anyhow::Error) -> u8 {
    if is_closed_pipe(error) {
        return OK;
    }
    tell(&format!("{}: {error:#}\n", globals.face.program()));
    if let Some(ClientError::Unreachable { .. }) = error.downcast_ref() {
        let dir = globals.config_dir();
        tell(&format!(
            "  configuration: {}\n  is halite-master running? start it with: halite-master -c {}\n",
            dir.join("master").display(),
            dir.display()
        ));
    }
    code(error)
}

/// Tells whether whoever read the output has gone.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns the exit code of an error.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        return USAGE;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Denied(_)) => NOT_PERMITTED,
        Some(ClientError::Broken { .. } | ClientError::Unreachable { .. }) => UNREACHABLE,
        Some(ClientError::Refused { code, .. }) => match code.as_str() {
            "invalid" => USAGE,
            "no_match" => NO_MATCH,
            "not_permitted" => NOT_PERMITTED,
            _ => FAILED,
        },
        None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_an_error_does_not_change_its_code() {
        let broken = || ClientError::Broken { socket: "/run/api.sock".into(), cause: "gone".to_owned() };
        let error = anyhow::Error::from(broken()).context("failed to follow job 1 to its end");
        assert_eq!((code(&error), code(&broken().into())), (UNREACHABLE, UNREACHABLE));
        assert_eq!(code(&anyhow::Error::from(Usage("no".to_owned())).context("asking")), USAGE);
    }
}
