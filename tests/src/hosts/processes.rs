//! Hosts that are processes of this machine, each with a directory of its own.

use std::collections::BTreeMap;
use std::process::Command;

use master::fleet::Daemon;
use nix::sys::signal::Signal;

use super::MASTER;
use crate::{Fleet, Outcome, run};

/// A fleet of processes, and how each minion was configured.
#[derive(Debug)]
pub struct Processes {
    fleet: Fleet,
    configs: BTreeMap<String, String>,
}

impl Processes {
    pub(super) fn start(config: &str) -> Processes {
        Processes { fleet: Fleet::new().master_config(config).start(), configs: BTreeMap::new() }
    }

    pub(super) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub(super) fn start_minion(&mut self, id: &str, config: &str) {
        self.fleet.start_minion(id, config);
        self.configs.insert(id.to_owned(), config.to_owned());
    }

    pub(super) fn stop(&mut self, host: &str) {
        match host {
            MASTER => self.fleet.stop_master(),
            id => drop(self.fleet.take_minion(id).stop()),
        }
    }

    pub(super) fn kill(&mut self, host: &str) {
        match host {
            MASTER => self.fleet.kill_master(),
            id => self.fleet.take_minion(id).kill(),
        }
    }

    pub(super) fn start_again(&mut self, host: &str) {
        match host {
            MASTER => self.fleet.restart_master(),
            id => self.fleet.start_minion(id, &self.configs[id]),
        }
    }

    pub(super) fn pause(&self, host: &str) {
        self.daemon(host).signal(Signal::SIGSTOP);
    }

    pub(super) fn resume(&self, host: &str) {
        self.daemon(host).signal(Signal::SIGCONT);
    }

    pub(super) fn minion(&self, id: &str, args: &[&str]) -> Outcome {
        let mut command = Command::new(&self.fleet.site.binaries().minion);
        command.arg("-c").arg(self.fleet.site.confdir(id)).args(args);
        run(command)
    }

    fn daemon(&self, host: &str) -> &Daemon {
        if host == MASTER { self.fleet.master() } else { self.fleet.minion(host) }
    }
}
