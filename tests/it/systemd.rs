//! What systemd is told, as `packaging/systemd/` expects it: readiness, the watchdog's food, and how things stand.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use halite_tests::{Fleet, PATIENCE};

/// What stands for systemd: the socket that a daemon tells.
struct Manager {
    socket: UnixDatagram,
    daemon: Child,
}

impl Manager {
    /// Starts a daemon as its unit does, with a short `WatchdogSec`.
    fn start(dir: &Path, binary: &Path, confdir: &Path) -> Manager {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(confdir).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Manager { socket, daemon }
    }

    /// Waits until the daemon has told something that begins so.
    fn hears(&self, beginning: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let len = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {beginning}: {error}"));
            let told = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if let Some(line) = told.lines().find(|line| line.starts_with(beginning)) {
                return line.to_owned();
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn the_master_feeds_its_watchdog() {
    let fleet = Fleet::new().start();
    let dir = fleet.site.dir().join("watched");
    let config = format!("root_dir: {}\ninterface: 127.0.0.1\npublish_port: 0\nret_port: 0\n", dir.display());
    fleet.write("watched/master", &config);
    let manager = Manager::start(&dir, &fleet.site.binaries().master, &dir);
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
}

#[test]
fn the_minion_feeds_its_watchdog_and_says_how_it_stands() {
    let mut fleet = Fleet::new().start();
    fleet.site.configure_minion("m1", "").unwrap();
    let manager = Manager::start(fleet.site.dir(), &fleet.site.binaries().minion, &fleet.site.confdir("m1"));
    manager.hears("STATUS=connected to 127.0.0.1");
    manager.hears("WATCHDOG=1");
    fleet.kill_master();
    manager.hears("STATUS=not connected to 127.0.0.1: failed to");
    manager.hears("WATCHDOG=1");
}
