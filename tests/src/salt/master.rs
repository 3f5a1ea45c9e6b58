//! A real Salt master, with a minion of ours, or with one of Salt's and a syndic below a master of ours.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Group, Release};
use crate::{Outcome, binaries, comes_true, run};

/// How long a Salt master may take to start; it loads thousands of files.
const START: Duration = Duration::from_secs(120);

/// A running Salt master in a directory of its own.
#[derive(Debug)]
pub struct SaltMaster {
    master: Option<Group>,
    release: Release,
    ports: (u16, u16),
    dir: tempfile::TempDir,
}

/// Our minion, with a Salt master's wire.
#[derive(Debug)]
pub struct SaltsMinion {
    process: Group,
    folder: PathBuf,
}

impl SaltMaster {
    /// Starts a master; keys are left pending. `extra` is added to its configuration.
    pub fn start(release: Release, extra: &str) -> SaltMaster {
        // Short: the paths of Salt's sockets must fit into 107 bytes.
        let dir = tempfile::Builder::new().prefix("hs-").tempdir_in("/tmp").expect("a temporary directory");
        for folder in ["etc", "srv/salt", "srv/pillar"] {
            std::fs::create_dir_all(dir.path().join(folder)).expect("directories can be made");
        }
        let mut salt = SaltMaster { master: None, release, ports: (free_port(), free_port()), dir };
        let root = salt.dir.path().display().to_string();
        let (publish, ret) = salt.ports;
        salt.write(
            "etc/master",
            format!(
                "user: root\nroot_dir: {root}/root\ninterface: 127.0.0.1\npublish_port: {publish}\nret_port: {ret}\n\
                 file_roots: {{base: [{root}/srv/salt]}}\npillar_roots: {{base: [{root}/srv/pillar]}}\n\
                 worker_threads: 3\nloop_interval: 2\n{extra}\n"
            )
            .as_bytes(),
        );
        salt.restart();
        salt
    }

    /// Ends the master and starts it again.
    pub fn restart(&mut self) {
        self.master = None;
        let command = self.release.daemon("salt-master", &self.path("etc"));
        self.master = Some(Group::start(command, &self.path("master.out")));
        let bus = self.path("root/var/run/salt/master/master_event_pub.ipc");
        let is_up = || bus.exists() && TcpStream::connect(("127.0.0.1", self.ports.1)).is_ok();
        if !comes_true(START, is_up) {
            let log = std::fs::read_to_string(self.path("master.out")).unwrap_or_default();
            panic!("the Salt master does not come up:\n{log}");
        }
    }

    /// Starts our minion with these lines added to its configuration.
    pub fn minion(&self, id: &str, extra: &str) -> SaltsMinion {
        let folder = self.path(id);
        let config = format!(
            "id: {id}\nwire: salt\nmaster: 127.0.0.1\nmaster_port: {}\nroot_dir: {}\nacceptance_wait_time: 1\n{extra}\n",
            self.ports.1,
            folder.join("root").display(),
        );
        self.write(&format!("{id}/minion"), config.as_bytes());
        let mut command = Command::new(&binaries().minion);
        command.arg("-c").arg(&folder);
        // A new one has a new log.
        let _ = std::fs::remove_file(folder.join("log"));
        SaltsMinion { process: Group::start(command, &folder.join("log")), folder }
    }

    /// Starts a minion of Salt's below this master.
    pub fn salts_minion(&self, id: &str) -> impl Drop + use<> {
        let (publish, ret) = self.ports;
        let config = format!(
            "user: root\nid: {id}\nroot_dir: {}\nmaster: 127.0.0.1\nmaster_port: {ret}\npublish_port: {publish}\n\
             acceptance_wait_time: 1\n",
            self.path(id).join("root").display(),
        );
        self.write(&format!("{id}/minion"), config.as_bytes());
        Group::start(self.release.daemon("salt-minion", &self.path(id)), &self.path(&format!("{id}/log")))
    }

    /// Starts Salt's syndic beside this master, whose configuration says where the master above is; returns the file that it
    /// logs to. Its id, and the port on which that master publishes, stand in a minion's configuration.
    pub fn syndic(&self, id: &str, publish_port: u16) -> (impl Drop + use<>, PathBuf) {
        let root = self.path("root").display().to_string();
        let config =
            format!("user: root\nid: {id}\nroot_dir: {root}\npublish_port: {publish_port}\nacceptance_wait_time: 1\n");
        self.write("etc/minion", config.as_bytes());
        let log = self.path("syndic.log");
        (Group::start(self.release.daemon("salt-syndic", &self.path("etc")), &log), log)
    }

    /// Runs `salt` with these arguments; its answer is one JSON document.
    pub fn salt(&self, args: &[&str]) -> Outcome {
        let mut command = self.command("salt");
        command.args(["--out", "json", "--static"]).args(args);
        run(command)
    }

    /// Runs another of Salt's commands.
    pub fn tool(&self, tool: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(tool);
        command.args(args);
        run(command)
    }

    /// Starts a command of Salt's that goes on beside the test; returns the file that it prints to.
    pub fn beside(&self, tool: &str, args: &[&str]) -> (impl Drop + use<>, PathBuf) {
        let path = self.path(&format!("{tool}.{}", args.join("-").replace(['/', '*'], "_")));
        let mut command = self.command(tool);
        command.args(args);
        let _ = std::fs::remove_file(&path);
        (Group::start(command, &path), path)
    }

    /// Returns a path under the master's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file under the master's directory.
    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("directories can be made");
        let mut file = std::fs::File::create(path).expect("files can be written");
        file.write_all(content).expect("files can be written");
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = self.release.command(tool);
        command.arg("-c").arg(self.path("etc"));
        command
    }
}

impl SaltsMinion {
    /// Returns what it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Returns its configuration's folder.
    pub fn confdir(&self) -> &Path {
        &self.folder
    }

    /// Runs `halite-minion call` beside it.
    pub fn call(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(&binaries().minion);
        command.arg("-c").arg(&self.folder).arg("call").args(args);
        run(command)
    }

    /// Returns the memory that it takes, in KiB.
    pub fn rss_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

/// Returns a port that was free just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
