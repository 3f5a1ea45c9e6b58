//! What a run of the swarm tells: one document, for programs or for people.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Swarm;
use super::machine::Usage;
use super::options::Options;
use super::tally::{Count, Percentiles};

/// The report of a run against a master that was there.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many minions there were to be.
    pub minions: usize,
    /// How many had session and SUB at the end.
    pub connected: i64,
    /// Seconds until all had; none if that never was.
    pub all_connected_s: Option<f64>,
    /// Handshakes per second until then.
    pub handshakes_per_s: f64,
    /// Seconds in which events were fired.
    pub events_s: f64,
    /// Acknowledged events per second of these.
    pub events_per_s: f64,
    /// From firing to acknowledgement, in milliseconds.
    pub ack_ms: Percentiles,
    /// Whether everything that was fired was acknowledged at the end.
    pub drained: bool,
    /// Everything that was counted.
    pub count: Count,
    /// What this process has used.
    pub own: Usage,
}

impl Report {
    /// Runs a swarm for its duration, or until `stop` says so, and reports.
    pub fn of(swarm: &Swarm, options: &Options, mut stop: impl FnMut(&Swarm) -> bool) -> Report {
        /// How long all may take to connect before the run goes on without the rest.
        const CONNECT: Duration = Duration::from_secs(120);
        /// How long the last acknowledgements may take.
        const DRAIN: Duration = Duration::from_secs(30);

        let all = i64::try_from(options.minions).unwrap_or(i64::MAX);
        let mut stopped = false;
        let connected = |swarm: &Swarm| swarm.look(|totals| totals.count.live >= all);
        let until = swarm.started() + CONNECT;
        while !connected(swarm) && !stopped && Instant::now() < until {
            stopped = stop(swarm);
        }
        let all_connected_s = connected(swarm).then(|| swarm.started().elapsed().as_secs_f64());
        if let Some(seconds) = all_connected_s {
            // Who waits for it reads this: the report comes at the end.
            eprintln!("swarm: {} minions connected within {seconds:.2} s", options.minions);
        }
        let handshakes = swarm.look(|totals| totals.count.handshakes);
        let handshakes_per_s = handshakes as f64 / swarm.started().elapsed().as_secs_f64();
        let begun = (Instant::now(), swarm.look(|totals| totals.count.acknowledged));
        swarm.begin(options);
        let over = || options.duration > 0.0 && begun.0.elapsed().as_secs_f64() >= options.duration;
        while !stopped && !over() {
            stopped = stop(swarm);
        }
        let events_s = begun.0.elapsed().as_secs_f64();
        let events = swarm.look(|totals| totals.count.acknowledged) - begun.1;
        let drained = swarm.drain(DRAIN);
        let totals = swarm.totals();
        Report {
            minions: options.minions,
            connected: totals.count.live,
            all_connected_s,
            handshakes_per_s,
            events_s,
            events_per_s: events as f64 / events_s.max(f64::EPSILON),
            ack_ms: totals.ack_ms(),
            drained,
            count: totals.count,
            own: Usage::own(),
        }
    }

    /// Tells whether nothing went wrong that was not ordered.
    pub fn is_good(&self) -> bool {
        self.drained && self.count.misdelivered == 0 && self.count.not_understood == 0 && self.all_connected_s.is_some()
    }

    /// Returns the report as lines for people.
    pub fn lines(&self) -> String {
        let Report { count, ack_ms, own, .. } = self;
        let connected = match self.all_connected_s {
            Some(seconds) => format!("all within {seconds:.1} s, {:.0} handshakes/s", self.handshakes_per_s),
            None => format!("never all; {} connections failed", count.failed),
        };
        let lines = [
            format!("minions        {} of {} connected ({connected})", self.connected, self.minions),
            format!(
                "events         {} fired, {} acknowledged ({:.0}/s), {} refused, {} abandoned",
                count.fired, count.acknowledged, self.events_per_s, count.refused, count.abandoned
            ),
            format!(
                "acknowledged   p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
                ack_ms.p50, ack_ms.p90, ack_ms.p99, ack_ms.p999, ack_ms.max
            ),
            format!(
                "jobs           {} publications, {} of them again, {} misdelivered; {} returns, {} acknowledged",
                count.publications, count.duplicates, count.misdelivered, count.returns, count.returns_acknowledged
            ),
            format!(
                "connections    {} handshakes, {} failed, {} lost, {} sessions came back, {} troubles made",
                count.handshakes, count.failed, count.lost, count.reconnects, count.troubles
            ),
            format!(
                "this process   {:.1} s user, {:.1} s system, {:.0} MiB",
                own.user_s,
                own.system_s,
                own.rss_kib as f64 / 1_024.0
            ),
        ];
        lines.join("\n")
    }
}
