//! Salt's minions beside a fleet of ours.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Group, Release};
use crate::{Fleet, Outcome, run};

/// A running minion of Salt, and all the processes it started; gone when dropped.
#[derive(Debug)]
pub struct SaltMinion {
    /// Its release.
    pub release: Release,
    process: Group,
    confdir: PathBuf,
}

impl Release {
    /// Writes a minion's configuration into a directory of the fleet: it looks for the fleet's master.
    pub fn configure_minion(&self, fleet: &Fleet, id: &str, extra: &str) -> PathBuf {
        let (publish, requests) = fleet.site.ports().expect("the master has run");
        let confdir = fleet.site.confdir(id);
        fs::create_dir_all(&confdir).expect("a directory for the minion");
        let config = format!(
            "user: root\nid: {id}\nroot_dir: {}\nmaster: 127.0.0.1\npublish_port: {publish}\nmaster_port: {requests}\n\
             acceptance_wait_time: 1\nrandom_reauth_delay: 1\nrecon_default: 100\nrecon_max: 500\nauth_timeout: 10\n\
             {extra}\n",
            confdir.join("root").display(),
        );
        fs::write(confdir.join("minion"), config).expect("the minion's configuration");
        confdir
    }

    /// Starts a minion of this release beside a fleet.
    pub fn start_minion(&self, fleet: &Fleet, id: &str, extra: &str) -> SaltMinion {
        let confdir = self.configure_minion(fleet, id, extra);
        SaltMinion { release: self.clone(), process: start(self, &confdir), confdir }
    }
}

fn start(release: &Release, confdir: &Path) -> Group {
    Group::start(release.daemon("salt-minion", confdir), &confdir.join("output"))
}

impl SaltMinion {
    /// Starts it again if it has ended by itself, as a supervisor would: a Salt minion that is rejected shuts down, and the
    /// one that comes after it may find what is left of it and end too.
    pub fn revive(&mut self) {
        if self.process.ended().is_some() {
            self.process = start(&self.release, &self.confdir);
        }
    }

    /// Ends it and starts it again.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = start(&self.release, &self.confdir);
    }

    /// Runs `salt-call` beside it.
    pub fn call(&self, args: &[&str]) -> Outcome {
        let mut command = self.release.command("salt-call");
        command.arg("-c").arg(&self.confdir).args(args);
        run(command)
    }

    /// Returns what it wrote to its terminal.
    pub fn output(&self) -> String {
        fs::read_to_string(self.confdir.join("output")).unwrap_or_default()
    }

    /// Returns its configuration directory.
    pub fn confdir(&self) -> &Path {
        &self.confdir
    }
}
