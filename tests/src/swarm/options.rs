//! The command line of `swarm`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

use super::fault::Faults;

/// Where a master is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or address; an IPv6 address in brackets.
    pub host: String,
    /// The port of requests.
    pub requests: u16,
    /// The port of publications.
    pub publications: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let bad = || format!("{text:?} is no HOST:PORT[,PUBPORT]");
        let (main, publications) = match text.split_once(',') {
            Some((main, port)) => (main, Some(port.parse::<u16>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (host, port) = main.rsplit_once(':').ok_or_else(bad)?;
        let requests: u16 = port.parse().map_err(|_| bad())?;
        let publications = publications.unwrap_or(requests.saturating_sub(1));
        if host.is_empty() || requests == 0 || publications == 0 {
            return Err(bad());
        }
        Ok(Address { host: host.to_owned(), requests, publications })
    }
}

/// Which wire the minions speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// Halite's own.
    Native,
    /// Salt's, protocol version 3: to a Salt master, or to a Halite master with `salt_listener`.
    Salt,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// One JSON document on standard output.
    Json,
    /// Lines for people.
    Text,
}

/// Thousands of minions in one process, on the real wire, for load and measurements.
#[derive(Debug, Clone, Parser)]
#[command(name = "swarm", version, about, after_help = EXAMPLES)]
pub struct Options {
    /// How many minions.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub minions: usize,
    /// The wire that the minions speak. On Salt's, a minion has one request under way at a time, an event counts as
    /// acknowledged when its request is answered, and there are no --churn, --fault and --with-master.
    #[arg(long, value_enum, default_value_t = Wire::Native)]
    pub wire: Wire,
    /// The master. PUBPORT defaults to PORT - 1; on Salt's wire the master itself names it.
    #[arg(long, value_name = "HOST:PORT[,PUBPORT]", required_unless_present = "with_master")]
    pub master: Option<Address>,
    /// Start a master in a temporary directory (auto_accept) and run the scenario `scale` against it, printing its table.
    #[arg(long, conflicts_with = "master")]
    pub with_master: bool,
    /// Beacon events per second, of all minions together. With --with-master: the rate of the scenario's event phase.
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    pub events_per_s: f64,
    /// How many events one minion fires at a time; they travel as one load.
    #[arg(long, default_value_t = 1, value_name = "K")]
    pub burst: usize,
    /// Bytes of padding in the data of each event.
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    pub beacon_size: usize,
    /// The functions that are answered, joined by commas; all others return an error.
    #[arg(long, default_value = "test.ping,cmd.run", value_delimiter = ',', value_name = "FUN,FUN")]
    pub answer: Vec<String>,
    /// Minions per second that end and start again as new processes.
    #[arg(long, default_value_t = 0.0, value_name = "C")]
    pub churn: f64,
    /// What goes wrong, each so many times a second in the whole swarm, joined by commas: `kill=RATE` (a connection is
    /// cut), `stall=RATE:SECONDS` (a minion stops reading), `lag=RATE:SECONDS` (a minion answers late), `repeat=RATE` (a
    /// minion sends again all that is not acknowledged).
    #[arg(long, default_value = "none", value_name = "SPEC")]
    pub fault: Faults,
    /// The seed of all that is random, keys apart.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds from the moment all are connected; 0 runs until interrupted. With --with-master: the event phase.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// A directory that keeps the swarm's keys and the master's, so that the next run is the same fleet. Default: new
    /// keys with each run; on Salt's wire these are RSA keys, of which a processor makes some fifteen a second.
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// What ids begin with; a number follows.
    #[arg(long, default_value = "swarm-")]
    pub prefix: String,
    /// New connections per second, at most; 0 is no limit.
    #[arg(long, default_value_t = 0.0, value_name = "PER_SECOND")]
    pub connect_rate: f64,
    /// Connections being made at the same time, at most. A master takes 1,024 unfinished handshakes of one address.
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub connecting: usize,
    /// How often a silent master is asked for a sign of life, in seconds; after three times that it is dead. As a minion it
    /// would be told by the master.
    #[arg(long, default_value_t = 15.0, value_name = "SECONDS")]
    pub ping: f64,
    /// Threads; each drives its share of the minions in one task.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = ReportForm::Text)]
    pub report: ReportForm,
}

impl Options {
    /// Says what is asked for and not to be had on this wire.
    pub fn contradiction(&self) -> Option<&'static str> {
        let trouble = self.churn > 0.0 || self.fault != Faults::default();
        match self.wire {
            Wire::Salt if self.with_master => {
                Some("--with-master measures the native wire; start a master and name it")
            }
            Wire::Salt if trouble => Some("--churn and --fault are for the native wire"),
            Wire::Native | Wire::Salt => None,
        }
    }

    /// Returns where the master is, if that is known.
    pub fn address(&self) -> Option<&Address> {
        self.master.as_ref()
    }
}

const EXAMPLES: &str = "\
Examples:
  swarm --minions 9900 --master 127.0.0.1:4506 --duration 60
      9,900 idle minions for a minute.
  swarm --minions 1000 --master 127.0.0.1:4506 --events-per-s 20000 --burst 10 --report json
      20,000 events a second, ten at a time, and what became of them.
  swarm --minions 200 --master 127.0.0.1:4506 --events-per-s 500 --churn 5 --fault kill=10,stall=1:3,repeat=5 --seed 7
      A bad day.
  swarm --minions 1000 --wire salt --keys swarm-keys --master 127.0.0.1:4506 --events-per-s 500
      Salt minions, for a Salt master or a Halite one; the second run has its keys already.
  swarm --minions 9900 --with-master --events-per-s 20000 --duration 60 --report json
      The whole measurement of one master: connect, memory, jobs, events, restart.

The report's exit code is 1 when an acknowledged event was lost, a minion got what was not its own, or not all minions
could connect.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_port_or_two() {
        let address = |requests, publications| Address { host: "h".into(), requests, publications };
        assert_eq!("h:4506".parse(), Ok(address(4506, 4505)));
        assert_eq!("h:4506,7".parse(), Ok(address(4506, 7)));
        assert_eq!("[::1]:4506".parse::<Address>().unwrap().host, "[::1]");
        for bad in ["h", ":1", "h:x", "h:0", "h:1", "h:2,x", ""] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_wire_has_not_is_refused() {
        let said = |line: &str| Options::parse_from(line.split_whitespace()).contradiction();
        assert_eq!(said("swarm --master h:4506 --churn 1 --fault kill=1"), None);
        assert_eq!(said("swarm --wire salt --master h:4506 --events-per-s 9"), None);
        for bad in ["--master h:4506 --churn 1", "--master h:4506 --fault kill=1", "--with-master"] {
            assert!(said(&format!("swarm --wire salt {bad}")).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_master_is_needed() {
        assert!(Options::try_parse_from(["swarm"]).is_err());
        assert!(Options::try_parse_from(["swarm", "--with-master"]).is_ok());
    }
}
