//! Hosts: a master and minions that can be stopped, paused, killed and started again, as processes of this machine or each
//! in a container of its own.
//!
//! ```no_run
//! let mut hosts = halite_tests::Hosts::processes("");
//! hosts.start_minion("m1", "");
//! hosts.wait_up("m1");
//! hosts.pause("m1");
//! ```
//!
//! Containers need an engine and images: `HALITE_CONTAINERS` names the tag of `halite-master` and `halite-minion`, as
//! `tests/compose/run` makes them.

mod containers;
mod processes;

use serde_json::Value as Json;

use crate::{Outcome, skipped, wait_for};
use containers::Containers;
use processes::Processes;

/// The name of the master's host.
const MASTER: &str = "master";

/// A fleet on hosts. Dropped, it is gone.
#[derive(Debug)]
pub enum Hosts {
    /// Each host is a container with an address of its own.
    Containers(Containers),
    /// Each host is a process with a directory of its own; all share this machine's network.
    Processes(Processes),
}

impl Hosts {
    /// Starts a master, with these extra lines of configuration, as a process. It accepts every key.
    pub fn processes(config: &str) -> Hosts {
        Hosts::Processes(Processes::start(config))
    }

    /// Starts a master, with these extra lines of configuration, in a container. It accepts every key. Without an engine
    /// or images there is none, and the test's name is told in a line.
    pub fn containers(test: &str, config: &str) -> Option<Hosts> {
        match containers::tag() {
            Ok(tag) => Some(Hosts::Containers(Containers::start(tag, config))),
            Err(why) => {
                skipped(test, why);
                None
            }
        }
    }

    /// Starts a minion on a new host.
    pub fn start_minion(&mut self, id: &str, config: &str) {
        match self {
            Hosts::Containers(containers) => containers.start_minion(id, config),
            Hosts::Processes(processes) => processes.start_minion(id, config),
        }
    }

    /// Stops a host's daemon as an operator would.
    pub fn stop(&mut self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.on(host, &["stop"]),
            Hosts::Processes(processes) => processes.stop(host),
        }
    }

    /// Kills a host's daemon on the spot.
    pub fn kill(&mut self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.on(host, &["kill", "--signal", "KILL"]),
            Hosts::Processes(processes) => processes.kill(host),
        }
    }

    /// Starts the daemon of a host again that was stopped or killed, with its files as they were.
    pub fn start(&mut self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.on(host, &["start"]),
            Hosts::Processes(processes) => processes.start_again(host),
        }
    }

    /// Freezes a host: it is silent, and its connections stay open.
    pub fn pause(&self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.on(host, &["pause"]),
            Hosts::Processes(processes) => processes.pause(host),
        }
    }

    /// Thaws a host.
    pub fn resume(&self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.on(host, &["unpause"]),
            Hosts::Processes(processes) => processes.resume(host),
        }
    }

    /// Takes a host off the network, without a word to its peers. Fails the test for processes, which share one network.
    pub fn cut(&self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.network(host, "disconnect"),
            Hosts::Processes(_) => panic!("processes have no network of their own to cut {host} off"),
        }
    }

    /// Puts a host back on the network.
    pub fn heal(&self, host: &str) {
        match self {
            Hosts::Containers(containers) => containers.network(host, "connect"),
            Hosts::Processes(_) => panic!("processes have no network of their own to put {host} back on"),
        }
    }

    /// Runs `halite` on the master's host.
    pub fn halite(&self, args: &[&str]) -> Outcome {
        match self {
            Hosts::Containers(containers) => containers.run_on(MASTER, "halite", args),
            Hosts::Processes(processes) => processes.fleet().halite(args),
        }
    }

    /// Runs `halite-minion` on a minion's host, beside the daemon: `call`, `doctor`.
    pub fn minion(&self, id: &str, args: &[&str]) -> Outcome {
        match self {
            Hosts::Containers(containers) => containers.run_on(id, "halite-minion", args),
            Hosts::Processes(processes) => processes.minion(id, args),
        }
    }

    /// Returns all events in the log whose tag matches, oldest first.
    pub fn events(&self, tag: &str) -> Vec<Json> {
        self.halite(&["events", "--since", "start", "--tag", tag, "--out", "jsonl"]).expect_code(0).jsonl()
    }

    /// Waits until the log has at least so many events whose tag matches, and returns them.
    #[track_caller]
    pub fn wait_events(&self, tag: &str, count: usize) -> Vec<Json> {
        let mut found = Vec::new();
        wait_for(&format!("{count} events {tag}"), || {
            found = self.events(tag);
            found.len() >= count
        });
        found
    }

    /// Waits until a minion is connected.
    #[track_caller]
    pub fn wait_up(&self, id: &str) {
        wait_for(&format!("{id} to be up"), || self.is_up(id) == Some(true));
    }

    /// Waits until the master knows that a minion is not connected.
    #[track_caller]
    pub fn wait_down(&self, id: &str) {
        wait_for(&format!("{id} to be down"), || self.is_up(id) == Some(false));
    }

    /// Tells whether the master holds a minion for connected; nothing if it cannot be asked or does not know the id.
    fn is_up(&self, id: &str) -> Option<bool> {
        let minions = self.halite(&["minions", "--out", "json"]);
        let list: Vec<Json> = serde_json::from_str(&minions.stdout).ok()?;
        list.iter().find(|minion| minion["id"] == id)?["up"].as_bool()
    }
}
