//! Unmodified Salt minions of three releases and a native one under one master: a table with a verdict for each cell, and
//! a failure if one is not good. They run where `HALITE_SALT` names a directory with a virtualenv for each release.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use halite_tests::{Fleet, wait_for};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

mod cells;

/// The releases.
const VERSIONS: [&str; 3] = ["3006.30", "3007.17", "3008.5"];

/// A Salt minion with everything that it started; all of it ends when this is dropped.
struct SaltMinion {
    id: String,
    version: &'static str,
    venv: PathBuf,
    confdir: PathBuf,
    process: Child,
}

impl SaltMinion {
    fn start(fleet: &Fleet, version: &'static str, venv: PathBuf, extra: &str) -> SaltMinion {
        let id = format!("s{}", version.split('.').next().unwrap());
        let (publish, ret) = fleet.site.ports().unwrap();
        let root = fleet.site.dir().join(&id);
        let config = format!(
            "user: root\nid: {id}\nroot_dir: {}\nmaster: 127.0.0.1\npublish_port: {publish}\nmaster_port: {ret}\n\
             acceptance_wait_time: 1\nrandom_reauth_delay: 1\nauth_timeout: 10\n{extra}",
            root.join("root").display(),
        );
        let path = fleet.write(&format!("{id}/etc/minion"), &config);
        let confdir = path.parent().unwrap().to_owned();
        let process = spawn(&venv, &confdir);
        SaltMinion { id, version, venv, confdir, process }
    }

    /// Starts it again if it has ended by itself, as a supervisor would: a Salt minion that is rejected shuts down, and the
    /// one that comes after it may find what is left of it and end too.
    fn revive(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
            self.restart();
        }
    }

    /// Ends it and starts it again.
    fn restart(&mut self) {
        self.end();
        self.process = spawn(&self.venv, &self.confdir);
    }

    fn end(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // It may have ended by itself.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.confdir.join("log")).unwrap_or_default()
    }
}

impl Drop for SaltMinion {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(venv: &std::path::Path, confdir: &std::path::Path) -> Child {
    use std::os::unix::process::CommandExt;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(confdir.join("log")).unwrap();
    let mut command = Command::new(venv.join("bin/salt-minion"));
    command.arg("-c").arg(confdir).args(["-l", "warning"]).env("PYTHONWARNINGS", "ignore");
    command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Returns the virtualenv of each release; without one of them, says loudly which is missing.
fn venvs() -> Vec<(&'static str, PathBuf)> {
    const TEST: &str = "Salt's minions under our master";
    let Some(dir) = std::env::var_os("HALITE_SALT").map(PathBuf::from) else {
        halite_tests::skipped(TEST, "HALITE_SALT names no directory with virtualenvs of Salt");
        return Vec::new();
    };
    let found = VERSIONS.into_iter().filter_map(|version| {
        let venv = dir.join(version);
        if venv.join("bin/salt-minion").exists() {
            return Some((version, venv));
        }
        halite_tests::skipped(TEST, &format!("HALITE_SALT has no Salt {version}"));
        None
    });
    found.collect()
}

/// What the cells are tried on.
struct Scene {
    fleet: Fleet,
    minions: Vec<SaltMinion>,
}

impl Scene {
    fn start(venvs: Vec<(&'static str, PathBuf)>) -> Scene {
        let reactor = "reactor:\n  - 'salt/beacon/s*/status/*':\n    - /reactor/beacon.sls\n";
        let builder = Fleet::new().keys_pending();
        let mut fleet = builder.master_config("salt_listener: true\nloop_interval: 1\n").start();
        let touched = fleet.site.dir().join("touched");
        let sls = fleet.write(
            "reactor/beacon.sls",
            &format!("touch:\n  local.cmd.run:\n    - tgt: m1\n    - arg:\n      - touch {}\n", touched.display()),
        );
        fleet
            .write("master/master.d/reactor.conf", &reactor.replace("/reactor/beacon.sls", &sls.display().to_string()));
        fleet.halite(&["reload"]).expect_code(0);
        fleet.start_minion("m1", "");
        let start = |(version, venv)| {
            // One of them has a beacon.
            let beacon = if version == VERSIONS[0] {
                "beacons:\n  status:\n    - interval: 1\n    - time:\n      - all\n"
            } else {
                ""
            };
            SaltMinion::start(&fleet, version, venv, beacon)
        };
        let minions = venvs.into_iter().map(start).collect();
        Scene { fleet, minions }
    }

    /// Returns the ids of all minions, the native one first.
    fn ids(&self) -> Vec<String> {
        std::iter::once("m1".to_owned()).chain(self.minions.iter().map(|minion| minion.id.clone())).collect()
    }

    /// Waits until a key is in this state.
    fn wait_key(&self, id: &str, state: &str) {
        wait_for(&format!("the key of {id} to be in {state}"), || {
            let keys = self.fleet.halite(&["key", "list", "--out", "json"]).json();
            keys[state].as_array().is_some_and(|ids| ids.iter().any(|known| known == id))
        });
    }
}

#[test]
fn salt_minions_of_three_releases_live_under_our_master() {
    let venvs = venvs();
    if venvs.is_empty() {
        return;
    }
    let mut scene = Scene::start(venvs);
    let mut bad = Vec::new();
    for (name, cell) in cells::ALL {
        let verdict = match cell(&mut scene) {
            Ok(()) => "ok".to_owned(),
            Err(why) => {
                bad.push(format!("{name}: {why}"));
                format!("NOT OK: {why}")
            }
        };
        use std::io::Write as _;
        let versions: Vec<&str> = scene.minions.iter().map(|minion| minion.version).collect();
        // Without a standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "salt minions {} | {name} | {verdict}", versions.join(" "));
    }
    let logs: Vec<String> = scene.minions.iter().map(|minion| format!("{}:\n{}", minion.id, minion.log())).collect();
    let master = scene.fleet.master().log();
    assert!(bad.is_empty(), "{}\n\nthe master's log:\n{master}\n\n{}", bad.join("\n"), logs.join("\n"));
}
