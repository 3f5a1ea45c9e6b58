//! Runs one child process in its own group: output kept up to a limit, the whole group killed when the job must end.

use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use super::control::{Control, SIGKILL, Stop};

/// What is kept of each output stream; the rest is read and counted, so that the child never blocks on it.
pub const MAX_OUTPUT: usize = 8 << 20;
/// How soon a request to stop the job is seen. An exiting child is seen at once.
const POLL: Duration = Duration::from_millis(25);
/// How long a child may take to end after a signal that it can handle; then the group is killed.
pub const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long to wait for the pipes to close once the group was killed: a process that left the group may hold them.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 << 10;

/// What to do with the child's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// It goes where standard output goes, in the order written.
    Merged,
    /// It is kept apart.
    Separate,
}

/// How to run a child.
pub struct Run<'a> {
    /// The prepared command; its streams and its group are set here.
    pub command: Command,
    /// What the child reads; nothing means an empty input.
    pub stdin: Option<Vec<u8>>,
    /// What to do with its standard error.
    pub stderr: Stderr,
    /// When it is killed as having timed out.
    pub timeout: Option<Instant>,
    /// When the whole job must be over.
    pub deadline: Option<Instant>,
    /// The job's control.
    pub control: &'a Control,
}

/// What a child left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its pid.
    pub pid: u32,
    /// How it ended.
    pub ending: Ending,
    /// Its standard output.
    pub stdout: Output,
    /// Its standard error, if kept apart.
    pub stderr: Output,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself: the exit status, or minus the signal, as Python tells it.
    Exited(i64),
    /// Its time was up.
    TimedOut,
    /// The job was stopped.
    Stopped(Stop),
}

/// One output stream.
#[derive(Debug, Default, Clone)]
pub struct Output {
    kept: Vec<u8>,
    total: u64,
    closed: bool,
}

impl Output {
    /// Returns the text; undecodable bytes are replaced, and what was cut off is told at the end.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.total > self.kept.len() as u64 {
            text.push_str(&format!("\n[truncated: {} of {} bytes kept]", self.kept.len(), self.total));
        }
        text
    }
}

/// Why a child could not be run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A pipe could not be made.
    #[error("make a pipe")]
    Pipe(#[source] io::Error),
    /// The program could not be started.
    #[error("start the program")]
    Spawn(#[source] io::Error),
    /// A thread to watch it could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// The child's end could not be learned.
    #[error("wait for the program")]
    Wait(#[source] io::Error),
}

/// What the helper threads report.
#[derive(Default)]
struct Progress {
    stdout: Output,
    stderr: Output,
    exited: bool,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress());
        self.changed.notify_all();
    }
}

/// Runs the child until it has ended and its output is closed, or until it must be killed.
pub fn run(run: Run<'_>) -> Result<Finished, RunError> {
    let Run { mut command, stdin, stderr, timeout, deadline, control } = run;
    let shared = Arc::new(Shared::default());
    let (out_reader, out_writer) = io::pipe().map_err(RunError::Pipe)?;
    let err_reader = match stderr {
        Stderr::Merged => {
            command.stderr(out_writer.try_clone().map_err(RunError::Pipe)?);
            shared.progress().stderr.closed = true;
            None
        }
        Stderr::Separate => {
            let (reader, writer) = io::pipe().map_err(RunError::Pipe)?;
            command.stderr(writer);
            Some(reader)
        }
    };
    command.stdout(out_writer).process_group(0);
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(RunError::Spawn)?;
    // The command holds the writing ends; they must close for the readers to see the end.
    drop(command);
    control.set_child(Some(child.id()));
    let watched = watch(&shared, &mut child, stdin, out_reader, err_reader);
    let group = Group { child, control };
    if let Err(error) = watched {
        group.signal(SIGKILL);
        group.reap().map_err(RunError::Wait)?;
        return Err(RunError::Thread(error));
    }
    group.supervise(&shared, timeout, deadline)
}

/// Starts the threads that feed the child, read its output and see it end.
fn watch(
    shared: &Arc<Shared>,
    child: &mut Child,
    stdin: Option<Vec<u8>>,
    stdout: PipeReader,
    stderr: Option<PipeReader>,
) -> io::Result<()> {
    if let (Some(input), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A child that does not read its input closes the pipe; that is its own business.
        spawn("job-stdin", move || drop(pipe.write_all(&input)))?;
    }
    let to = Arc::clone(shared);
    spawn("job-stdout", move || read_all(stdout, &to, |progress| &mut progress.stdout))?;
    if let Some(stderr) = stderr {
        let to = Arc::clone(shared);
        spawn("job-stderr", move || read_all(stderr, &to, |progress| &mut progress.stderr))?;
    }
    let (to, pid) = (Arc::clone(shared), child.id());
    spawn("job-exit", move || {
        await_exit(pid);
        to.update(|progress| progress.exited = true);
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(128 << 10).spawn(body).map(drop)
}

fn read_all(mut pipe: PipeReader, shared: &Shared, stream: fn(&mut Progress) -> &mut Output) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match pipe.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return shared.update(|progress| stream(progress).closed = true),
            Ok(count) => {
                let mut progress = shared.progress();
                let output = stream(&mut progress);
                let room = MAX_OUTPUT.saturating_sub(output.kept.len()).min(count);
                output.kept.extend_from_slice(&chunk[..room]);
                output.total += count as u64;
            }
        }
    }
}

/// Waits until the child is dead but leaves it unreaped, so that its pid stays its own.
fn await_exit(pid: u32) {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let id = || Id::Pid(Pid::from_raw(pid.cast_signed()));
    while waitid(id(), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
}

/// A child that leads its own process group.
struct Group<'a> {
    child: Child,
    control: &'a Control,
}

impl Group<'_> {
    /// Signals the whole group. The group may be gone already; then there is nothing to do.
    fn signal(&self, signal: i32) {
        if let Ok(signal) = Signal::try_from(signal) {
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), signal);
        }
    }

    fn supervise(
        self,
        shared: &Shared,
        timeout: Option<Instant>,
        deadline: Option<Instant>,
    ) -> Result<Finished, RunError> {
        let reason = self.await_end(shared, timeout, deadline);
        if let Some(reason) = reason {
            self.end_group(shared, reason);
        }
        let pid = self.child.id();
        let status = self.reap().map_err(RunError::Wait)?;
        let ending = reason.unwrap_or_else(|| Ending::Exited(exit_code(status)));
        let mut progress = shared.progress();
        let (stdout, stderr) = (std::mem::take(&mut progress.stdout), std::mem::take(&mut progress.stderr));
        Ok(Finished { pid, ending, stdout, stderr })
    }

    /// Waits for the end; returns the reason if the group must be made to end.
    fn await_end(&self, shared: &Shared, timeout: Option<Instant>, deadline: Option<Instant>) -> Option<Ending> {
        let mut progress = shared.progress();
        loop {
            if progress.exited && progress.stdout.closed && progress.stderr.closed {
                return None;
            }
            if let Some(stop) = self.control.stopped() {
                return Some(Ending::Stopped(stop));
            }
            let now = Instant::now();
            if deadline.is_some_and(|end| end <= now) {
                return Some(Ending::Stopped(Stop::Deadline));
            }
            if timeout.is_some_and(|end| end <= now) {
                return Some(Ending::TimedOut);
            }
            if let Some(signal) = self.control.take_signal() {
                self.signal(signal);
            }
            progress = shared.changed.wait_timeout(progress, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes the group end: by the reason's signal, then by SIGKILL.
    fn end_group(&self, shared: &Shared, reason: Ending) {
        if let Ending::Stopped(stop) = reason
            && stop.signal() != SIGKILL
        {
            self.signal(stop.signal());
            let hard = || self.control.stopped() == Some(Stop::Signal(SIGKILL));
            wait_for(shared, TERM_GRACE, |progress| progress.exited || hard());
        }
        self.signal(SIGKILL);
        wait_for(shared, DRAIN_GRACE, |progress| progress.exited && progress.stdout.closed && progress.stderr.closed);
    }

    fn reap(mut self) -> io::Result<ExitStatus> {
        self.control.set_child(None);
        self.child.wait()
    }
}

fn wait_for(shared: &Shared, limit: Duration, done: impl Fn(&Progress) -> bool) {
    let end = Instant::now() + limit;
    let mut progress = shared.progress();
    while !done(&progress) && Instant::now() < end {
        progress = shared.changed.wait_timeout(progress, POLL).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn exit_code(status: ExitStatus) -> i64 {
    status.code().map_or_else(|| -i64::from(status.signal().unwrap_or(0)), i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn plain(script: &str, control: &Control, timeout: Option<Duration>) -> Finished {
        run(Run {
            command: shell(script),
            stdin: None,
            stderr: Stderr::Separate,
            timeout: timeout.map(|limit| Instant::now() + limit),
            deadline: None,
            control,
        })
        .expect("runs")
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let done = plain("echo out; echo err >&2; exit 7", &Control::default(), None);
        assert_eq!(
            (done.ending, done.stdout.text(), done.stderr.text()),
            (Ending::Exited(7), "out\n".to_owned(), "err\n".to_owned())
        );
    }

    #[test]
    fn input_reaches_the_child() {
        let (control, command) = (Control::default(), shell("cat"));
        let stdin = Some(vec![b'x'; 1 << 20]);
        let done =
            run(Run { command, stdin, stderr: Stderr::Merged, timeout: None, deadline: None, control: &control });
        assert_eq!(done.expect("runs").stdout.kept.len(), 1 << 20);
    }

    #[test]
    fn output_over_the_limit_is_counted_not_kept() {
        let done = plain("head -c 9000000 /dev/zero", &Control::default(), None);
        assert_eq!((done.stdout.kept.len(), done.stdout.total), (MAX_OUTPUT, 9_000_000));
        assert!(done.stdout.text().ends_with("[truncated: 8388608 of 9000000 bytes kept]"));
    }

    #[test]
    fn a_timeout_kills_the_whole_group() {
        // The grandchild holds the pipe open: the run only ends early if the grandchild is dead too.
        let begin = Instant::now();
        let done = plain("sleep 60 & echo $!; sleep 60", &Control::default(), Some(Duration::from_millis(200)));
        assert_eq!(done.ending, Ending::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(10));
        let grandchild: i32 = done.stdout.text().trim().parse().expect("a pid");
        // Its pipe closes a moment before it counts as dead.
        while alive(grandchild) {
            assert!(begin.elapsed() < Duration::from_secs(20), "the grandchild {grandchild} lives on");
            thread::yield_now();
        }
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_killed_by_a_second_request() {
        let control = Control::default();
        thread::scope(|scope| {
            let running = scope.spawn(|| plain("trap '' TERM; echo ready; while :; do sleep 60; done", &control, None));
            while control.child().is_none() {
                thread::yield_now();
            }
            control.signal(super::super::control::SIGTERM);
            control.signal(SIGKILL);
            assert_eq!(running.join().expect("no panic").ending, Ending::Stopped(Stop::Signal(SIGKILL)));
        });
        assert_eq!(control.child(), None);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let control = Control::default();
        let command = Command::new("/no/such/program");
        let done =
            run(Run { command, stdin: None, stderr: Stderr::Merged, timeout: None, deadline: None, control: &control });
        assert!(matches!(done, Err(RunError::Spawn(_))));
    }

    /// Tells whether a process exists and is no zombie.
    fn alive(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
    }
}
