//! The tracer against the kernel at hand: real commands in a real pseudo-terminal, seen exactly.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::pty::openpty;

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Set for a copy of this test binary that runs as nobody.
const UNPRIVILEGED: &str = "HALITE_TEST_UNPRIVILEGED";

/// Every tracer sees the whole machine, so tests that run commands take turns: one of them floods.
static TURN: Mutex<()> = Mutex::new(());

/// Says that a test did not run, past the capture that keeps the output of a passing test to itself.
pub(super) fn skipped(why: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).expect("a standard error");
}

/// Opens `source` and takes a turn, or says loudly why the test cannot run here.
fn open(source: Source) -> Option<(MutexGuard<'static, ()>, Tracer)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match Tracer::open_with(source) {
        Ok(tracer) => Some((turn, tracer)),
        Err(error) => {
            skipped(&error.to_string());
            None
        }
    }
}

/// Runs `command` as the leader of a new session on a new pseudo-terminal, to its end; returns its pid and terminal.
fn in_terminal(command: &mut Command) -> (u32, String) {
    let pty = openpty(None, None).expect("a pseudo-terminal");
    let tty = nix::unistd::ttyname(&pty.slave).expect("its name");
    let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
    command.stdin(end()).stdout(end()).stderr(end());
    kernel::lead_session_on_stdin(command);
    let mut child = command.spawn().expect("the command starts");
    child.wait().expect("the command ends");
    (child.id(), tty.strip_prefix("/dev").expect("a device").to_string_lossy().into_owned())
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// Reads until a command of `session` has the path `last`; returns that session's commands without the shell's own.
fn read_until(tracer: &mut Tracer, session: u32, last: &str) -> Vec<Exec> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while Instant::now() < deadline {
        let more = tracer.read(Duration::from_millis(100)).expect("the tracer reads");
        all.extend(more.into_iter().filter(|exec| exec.session_leader == session && exec.pid != session));
        if all.iter().any(|exec| exec.path == last) {
            return all;
        }
    }
    panic!("no {last} from session {session} within {PATIENCE:?}, only {all:?}");
}

#[test]
fn a_command_in_a_terminal_is_reported_exactly() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    let before = SystemTime::now();
    let script = "cd /usr/share && /bin/echo 'a b' '' 'say \"hi\"' 'ключ→é' '\\' -n; /nonexistent/x; /bin/true end; :";
    let (session, tty) = in_terminal(&mut shell(script));
    let seen = read_until(&mut tracer, session, "/bin/true");
    let [echo, missing, _] = seen.as_slice() else { panic!("three commands expected: {seen:?}") };
    assert_eq!(echo.path, "/bin/echo");
    assert_eq!(echo.argv, ["/bin/echo", "a b", "", "say \"hi\"", "ключ→é", "\\", "-n"]);
    assert_eq!((missing.path.as_str(), missing.argv.len()), ("/nonexistent/x", 1));
    assert_eq!(echo.tty.as_deref(), Some(tty.trim_start_matches('/')));
    assert_eq!(echo.cwd.as_deref(), Some("/usr/share"));
    assert_eq!((echo.ppid, echo.user.as_str(), echo.uid), (Some(session), "root", 0));
    assert!(!echo.truncated && !echo.lossy && echo.source == Source::Ebpf);
    assert!(echo.at >= before - Duration::from_millis(50) && echo.at <= SystemTime::now());
}

#[test]
fn two_hundred_fast_commands_are_all_reported() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    let script = "i=0; while [ $i -lt 200 ]; do /bin/true $i; i=$((i+1)); done; /bin/echo end; :";
    let (session, _) = in_terminal(&mut shell(script));
    let seen = read_until(&mut tracer, session, "/bin/echo");
    let numbers: Vec<&str> = seen[..seen.len() - 1].iter().map(|exec| exec.argv[1].as_str()).collect();
    assert_eq!(numbers, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(tracer.drops(), 0);
}

#[test]
fn arguments_beyond_the_programs_room_are_reported_whole() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = script_file(folder.path());
    let many: Vec<String> = (0..5000).map(|number| format!("file-{number}")).collect();
    let (long, longest) = ("x".repeat(4096), "y".repeat(100_000));
    for (program, script) in
        [("/bin/true", "/bin/true \"$@\"; /bin/echo; :"), (path.as_str(), "$0 \"$@\"; /bin/echo; :")]
    {
        let mut command = shell(script);
        command.arg(program).args(&many).args([&long, "", &longest]);
        let (session, _) = in_terminal(&mut command);
        let seen = read_until(&mut tracer, session, "/bin/echo");
        let exec = seen.iter().find(|exec| exec.path == program).expect("the program was run");
        assert!(!exec.truncated, "truncated at {} arguments", exec.argv.len());
        assert_eq!((exec.argv[0].as_str(), exec.argv.len()), (program, 5004));
        assert!(exec.argv[1..5001] == many && exec.argv[5001..] == [long.as_str(), "", longest.as_str()]);
    }
}

#[test]
fn arguments_that_cannot_be_had_mark_the_event_truncated() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    let mut command = shell("/nonexistent/x \"$@\"; /bin/echo; :");
    command.arg("sh").args((0..5000).map(|number| number.to_string()));
    let (session, _) = in_terminal(&mut command);
    let seen = read_until(&mut tracer, session, "/bin/echo");
    let exec = seen.iter().find(|exec| exec.path == "/nonexistent/x").expect("the attempt is reported");
    assert!(exec.truncated && exec.argv.len() > 500 && exec.argv[500] == "499");
}

/// A script with an interpreter that has an argument of its own.
fn script_file(folder: &Path) -> String {
    let path = folder.join("script");
    fs::write(&path, "#!/bin/sh -e\n:\n").expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.to_str().expect("a plain path").to_owned()
}

#[test]
fn what_finds_the_ring_full_is_counted() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    // Nobody reads meanwhile: 400 records of 20 KiB are twice the room there is.
    let mut command = shell("i=0; while [ $i -lt 400 ]; do /bin/true \"$1\"; i=$((i+1)); done; :");
    command.arg("sh").arg("x".repeat(20_000));
    let (session, _) = in_terminal(&mut command);
    let mut seen = 0;
    loop {
        let more = tracer.read(Duration::from_millis(100)).expect("the tracer reads");
        if more.is_empty() {
            break;
        }
        seen += more.iter().filter(|exec| exec.session_leader == session && exec.pid != session).count() as u64;
    }
    let drops = tracer.drops();
    assert!(drops > 0 && seen < 400 && seen + drops >= 400, "{seen} seen, {drops} dropped");
}

#[test]
fn a_login_without_a_terminal_is_reported() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    let mut login = Command::new("setsid");
    login.args(["-w", "/bin/sh", "-c", "echo 4242 > /proc/self/loginuid && /bin/true login-4242; /bin/echo; :"]);
    login.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("setsid runs");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let seen = tracer.read(Duration::from_millis(100)).expect("the tracer reads");
        if let Some(exec) = seen.iter().find(|exec| exec.argv == ["/bin/true", "login-4242"]) {
            assert_eq!((exec.loginuid, exec.tty.as_ref()), (Some(4242), None));
            return;
        }
        // The kernel sends before the command runs, so once it has ended there is nothing left to wait for.
        if seen.is_empty() {
            skipped("the login uid cannot be set here");
            return;
        }
    }
    panic!("other commands came in without end for {PATIENCE:?}");
}

#[test]
fn a_daemon_is_not_reported() {
    let Some((_turn, mut tracer)) = open(Source::Ebpf) else { return };
    if fs::read_to_string("/proc/self/loginuid").is_ok_and(|uid| uid.trim() != u32::MAX.to_string()) {
        skipped("this test runs under a login, so whatever it starts is a person's");
        return;
    }
    // A session of its own without a terminal, then a command that must come through after it.
    let mut daemon = Command::new("setsid");
    daemon.args(["-w", "/bin/true", "daemon"]);
    assert!(daemon.status().expect("setsid runs").success());
    let (session, _) = in_terminal(&mut shell("/bin/true person; /bin/echo; :"));
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while !seen.iter().any(|exec: &Exec| exec.session_leader == session && exec.path == "/bin/echo") {
        assert!(Instant::now() < deadline, "no command of the person's within {PATIENCE:?}");
        seen.extend(tracer.read(Duration::from_millis(100)).expect("the tracer reads"));
    }
    assert!(seen.iter().any(|exec| exec.argv == ["/bin/true", "person"]));
    assert!(!seen.iter().any(|exec| exec.argv == ["/bin/true", "daemon"]));
}

#[test]
fn the_fallback_reports_what_it_can_and_says_so() {
    let Some((_turn, mut tracer)) = open(Source::ProcConnector) else { return };
    let pty = openpty(None, None).expect("a pseudo-terminal");
    let mut command = Command::new("/bin/cat");
    command.args(["-", "a b", ""]).stdin(Stdio::from(pty.slave)).stdout(Stdio::null()).stderr(Stdio::null());
    kernel::lead_session_on_stdin(&mut command);
    let mut child = command.spawn().expect("cat starts");
    let exec = wait_for(&mut tracer, &child);
    child.kill().expect("cat is still there");
    child.wait().expect("cat ends");
    assert_eq!(exec.argv, ["/bin/cat", "-", "a b", ""]);
    assert!(exec.lossy && exec.tty.is_some() && exec.source == Source::ProcConnector);
    assert_eq!((exec.session_leader, exec.ppid), (child.id(), Some(std::process::id())));
}

fn wait_for(tracer: &mut Tracer, child: &Child) -> Exec {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let seen = tracer.read(Duration::from_millis(100)).expect("the tracer reads");
        if let Some(exec) = seen.into_iter().find(|exec| exec.pid == child.id()) {
            return exec;
        }
    }
    panic!("process {} was not reported within {PATIENCE:?}", child.id());
}

#[test]
fn without_privileges_the_exact_source_is_refused_with_a_remedy() {
    if std::env::var_os(UNPRIVILEGED).is_some() || !nix::unistd::geteuid().is_root() {
        let text = Tracer::open_with(Source::Ebpf).expect_err("nobody may load programs").to_string();
        assert!(
            text.starts_with("trace commands: ebpf: ") && text.contains("needs CAP_SYS_ADMIN, or CAP_BPF"),
            "{text}"
        );
        // The kernel lets anyone listen to its process connector since 6.6.
        assert_eq!(available().refusals[0].source, Source::Ebpf);
        return;
    }
    let me = std::env::current_exe().expect("this test binary");
    let mut copy = Command::new(me);
    copy.arg("without_privileges_the_exact_source_is_refused")
        .env(UNPRIVILEGED, "1")
        .uid(65534)
        .gid(65534)
        .current_dir("/");
    match copy.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        Err(error) => skipped(&format!("nobody cannot run this test binary: {error}")),
    }
}

#[test]
fn doctor_learns_the_source_and_why_not_a_better_one() {
    let available = available();
    let better = Source::ALL.into_iter().take_while(|source| Some(*source) != available.source);
    assert!(better.eq(available.refusals.iter().map(|refusal| refusal.source)));
}

#[test]
fn the_error_names_every_source_with_its_reason_and_remedy() {
    let refusal = |source: Source| Refusal { source, reason: "no".to_owned(), remedy: source.remedy() };
    let error = OpenError { refusals: Source::ALL.map(refusal).to_vec() };
    let (ebpf, connector) = (Source::Ebpf.remedy(), Source::ProcConnector.remedy());
    assert_eq!(error.to_string(), format!("trace commands: ebpf: no ({ebpf}); process-connector: no ({connector})"));
}

#[test]
fn terminals_are_named_as_under_dev() {
    for (kernel, dev) in [("pts12", "pts/12"), ("tty1", "tty1"), ("ttyS0", "ttyS0"), ("pts/3", "pts/3")] {
        assert_eq!(terminal(kernel.as_bytes()), dev);
    }
}
