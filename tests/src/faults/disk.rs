//! Disks that fill up and disks that fail, under a real master.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How large a disk is that is not full.
const ROOMY: &str = "512m";

/// How often it is tried to fill a disk that is being written.
const ATTEMPTS: u64 = 20;
/// By how much more room is left with each attempt, in bytes.
const SLACK: u64 = 16 * 1024;

/// A file system in memory over a folder, while this lives. It fills up by being made smaller.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; none where this user may not.
    pub fn mount(path: &Path) -> Option<SmallDisk> {
        let options = format!("size={ROOMY},mode=700");
        let done = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path));
        done.then(|| SmallDisk(path.to_owned()))
    }

    /// Takes all free room away, or nearly; tells whether that could be done.
    pub fn fill(&self) -> bool {
        // What is written between the look and the change makes the kernel refuse it.
        (0..ATTEMPTS).any(|attempt| {
            let Ok(state) = nix::sys::statvfs::statvfs(&self.0) else { return false };
            let used = (state.blocks() - state.blocks_free()) * state.fragment_size();
            self.resize(&(used + attempt * SLACK).to_string())
        })
    }

    /// Gives the room back.
    pub fn free(&self) -> bool {
        self.resize(ROOMY)
    }

    fn resize(&self, size: &str) -> bool {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a master that failed to stop.
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// What a failing disk answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Syncing fails with an I/O error: nobody knows what is on the disk.
    Sync,
    /// Nothing can be written: what a file system does that the kernel has made read-only after an error.
    Write,
}

/// System calls of a process that fail, while this lives: `strace` answers them in the kernel's place.
#[derive(Debug)]
pub struct FailingDisk(Child);

impl FailingDisk {
    /// Tells whether there is a `strace` here that may trace a process.
    pub fn is_possible() -> bool {
        run(Command::new("strace").args(["-o", "/dev/null", "true"]))
    }

    /// Has calls on these files fail; none where there is no `strace`, or where this user may not use it.
    pub fn of(pid: u32, files: &[PathBuf], failure: Failure) -> Option<FailingDisk> {
        let calls = match failure {
            Failure::Sync => "inject=fsync,fdatasync:error=EIO",
            Failure::Write => "inject=pwrite64,write,ftruncate,fsync,fdatasync:error=EROFS",
        };
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-q",
            "-o",
            "/dev/null",
            "-e",
            "trace=write,pwrite64,ftruncate,fsync,fdatasync",
            "-e",
            calls,
        ]);
        files.iter().for_each(|file| _ = command.arg("-P").arg(file));
        command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let failing = FailingDisk(command.spawn().ok()?);
        // It has the process once the kernel says who traces it.
        crate::comes_true(crate::PATIENCE, || is_traced(pid)).then_some(failing)
    }
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It lets go of the process when it is asked to end; killed, it might not.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}
