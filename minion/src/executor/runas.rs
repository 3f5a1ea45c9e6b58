//! Running a program as another user.
//!
//! The daemon has threads, and changing rights between `fork` and `exec` takes unsafe code. So the parent starts its own
//! binary once more, as `halite-minion runas-exec --uid N --gid N --groups N,N -- PROGRAM ARG…`; that process, still
//! single-threaded, gives its rights up for good, proves it, and becomes the program.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{self, Gid, Uid, User};
use thiserror::Error;

/// The hidden subcommand of the binary.
pub const SUBCOMMAND: &str = "runas-exec";
/// What the shell says for a program that cannot be executed.
const CANNOT_EXECUTE: i32 = 126;

/// A user whose rights a program shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The login name.
    pub name: String,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why a program cannot run as a user.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// The group list could not be read.
    #[error("read the groups of user '{user}'")]
    Groups {
        /// Who was asked for.
        user: String,
        /// What the system said.
        source: Errno,
    },
    /// Only root may change to another user.
    #[error("User '{user}' cannot be used: the minion runs as uid {uid} and may not change users")]
    NotPermitted {
        /// Who was asked for.
        user: String,
        /// Who the minion is.
        uid: u32,
    },
    /// There is no such user.
    #[error("User '{user}' is not available")]
    Unknown {
        /// Who was asked for.
        user: String,
    },
}

impl Target {
    /// Looks a user up and checks that this process may run programs as that user.
    pub fn find(name: &str) -> Result<Target, TargetError> {
        let unknown = || TargetError::Unknown { user: name.to_owned() };
        let user = User::from_name(name).ok().flatten().ok_or_else(unknown)?;
        let me = unistd::geteuid();
        if !me.is_root() && user.uid != me {
            return Err(TargetError::NotPermitted { user: name.to_owned(), uid: me.as_raw() });
        }
        let login = CString::new(name).map_err(|_| unknown())?;
        let groups = unistd::getgrouplist(&login, user.gid)
            .map_err(|source| TargetError::Groups { user: name.to_owned(), source })?;
        Ok(Target { name: user.name, home: user.dir, shell: user.shell, uid: user.uid, gid: user.gid, groups })
    }

    /// Returns the command that runs `argv` as this user. `program` is the `halite-minion` binary.
    pub fn command(&self, program: &Path, argv: &[OsString]) -> Command {
        if !unistd::geteuid().is_root() {
            // The same user already (see `find`): there are no rights to give up.
            let (first, rest) = argv.split_first().map_or((OsStr::new(""), argv), |(first, rest)| (first, rest));
            let mut command = Command::new(first);
            command.args(rest);
            return command;
        }
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        let mut command = Command::new(program);
        command
            .arg(SUBCOMMAND)
            .args(["--uid", &self.uid.to_string(), "--gid", &self.gid.to_string(), "--groups", &groups.join(",")])
            .arg("--")
            .args(argv);
        command
    }
}

/// What `runas-exec` was asked to do.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    argv: Vec<OsString>,
}

/// Why `runas-exec` did not become the program.
#[derive(Debug, Error)]
enum ExecError {
    #[error("bad arguments: this subcommand is for the minion's own use")]
    Arguments,
    #[error("change to uid {0}")]
    Change(Uid, #[source] Errno),
    #[error("give up the rights of root: they could be regained")]
    Regained,
    #[error("run {0:?}")]
    Exec(OsString, #[source] io::Error),
}

/// Serves `halite-minion runas-exec`: `args` is what follows the subcommand. Becomes the program, or returns the exit code
/// after telling why not.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let error = match parse(args) {
        Some(request) => exec(&request),
        None => ExecError::Arguments,
    };
    let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
    eprintln!("halite-minion {SUBCOMMAND}: failed to {error}{cause}");
    match error {
        ExecError::Exec(_, source) if source.kind() == io::ErrorKind::NotFound => CANNOT_EXECUTE + 1,
        _ => CANNOT_EXECUTE,
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Request> {
    let mut args = args.into_iter();
    let mut option = |name: &str| args.next().filter(|arg| arg == name).and_then(|_| args.next()?.into_string().ok());
    let uid = option("--uid")?.parse().ok()?;
    let gid = option("--gid")?.parse().ok()?;
    let groups = option("--groups")?;
    let groups = groups.split(',').filter(|group| !group.is_empty());
    let groups: Option<Vec<Gid>> = groups.map(|group| group.parse().ok().map(Gid::from_raw)).collect();
    let argv = args.next().filter(|arg| arg == "--").map(|_| args.collect::<Vec<_>>())?;
    (!argv.is_empty()).then_some(Request { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups: groups?, argv })
}

fn exec(request: &Request) -> ExecError {
    if let Err(errno) = change(request) {
        return ExecError::Change(request.uid, errno);
    }
    if !given_up(request) {
        return ExecError::Regained;
    }
    let source = Command::new(&request.argv[0]).args(&request.argv[1..]).exec();
    ExecError::Exec(request.argv[0].clone(), source)
}

/// Changes groups before the user: afterwards there is no right to.
fn change(request: &Request) -> Result<(), Errno> {
    unistd::setgroups(&request.groups)?;
    unistd::setgid(request.gid)?;
    unistd::setuid(request.uid)
}

/// Tells whether this process is only the user now, with no way back to root.
fn given_up(request: &Request) -> bool {
    let is_user = unistd::getuid() == request.uid && unistd::geteuid() == request.uid;
    let is_group = unistd::getgid() == request.gid && unistd::getegid() == request.gid;
    let root = Uid::from_raw(0);
    let way_back = !request.uid.is_root() && (unistd::setuid(root).is_ok() || unistd::seteuid(root).is_ok());
    is_user && is_group && !way_back
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set for the copy of this test binary that plays `halite-minion runas-exec`.
    const CHILD: &str = "HALITE_TEST_RUNAS_EXEC";

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_complete_requests_are_taken() {
        let request = parse(words("--uid 5 --gid 6 --groups 6,7 -- id -u")).expect("complete");
        assert_eq!((request.uid.as_raw(), request.gid.as_raw()), (5, 6));
        assert_eq!((request.groups.len(), request.argv), (2, words("id -u")));
        for bad in ["", "--uid 5", "--uid 5 --gid 6 --groups 6 id", "--uid x --gid 6 --groups 6 -- id"] {
            assert_eq!(parse(words(bad)), None, "{bad}");
        }
        assert_eq!(parse(words("--uid 5 --gid 6 --groups 6 --")), None);
    }

    #[test]
    fn an_unknown_user_is_refused() {
        let error = Target::find("no-such-user-here").expect_err("unknown");
        assert_eq!(error.to_string(), "User 'no-such-user-here' is not available");
    }

    #[test]
    fn the_parent_names_the_user_by_number() {
        let root = Target::find("root");
        if unistd::geteuid().is_root() {
            let command = root.expect("root may be root").command(Path::new("/bin/minion"), &words("id -u"));
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
            assert_eq!(args[..5], ["runas-exec", "--uid", "0", "--gid", "0"]);
            assert_eq!(args[args.len() - 3..], ["--", "id", "-u"]);
        } else {
            assert!(matches!(root, Err(TargetError::NotPermitted { .. })));
        }
    }

    #[test]
    fn the_program_runs_as_the_user_with_no_way_back() {
        if let Ok(args) = std::env::var(CHILD) {
            // Rights belong to threads in the kernel; this one becomes the program.
            std::process::exit(main(words(&args)));
        }
        if !unistd::geteuid().is_root() {
            return; // Only root has rights to give up.
        }
        let target = Target::find("nobody").expect("every host has nobody");
        let args = format!(
            "--uid {} --gid {} --groups {} -- grep -E ^(Uid|Gid|Groups|CapEff): /proc/self/status",
            target.uid, target.gid, target.gid
        );
        let output = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "executor::runas::tests::the_program_runs_as_the_user_with_no_way_back", "--nocapture"])
            .env(CHILD, args)
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ids = |line: &str, id: u32| format!("{line}:\t{id}\t{id}\t{id}\t{id}\n");
        assert!(text.contains(&ids("Uid", target.uid.as_raw())), "{text}");
        assert!(text.contains(&ids("Gid", target.gid.as_raw())), "{text}");
        assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
        assert!(text.contains(&format!("Groups:\t{} \n", target.gid)), "{text}");
    }
}
