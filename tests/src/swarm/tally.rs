//! What a swarm counts, and how it is shown.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;
use proto::ids::Jid;
use serde::Serialize;

/// Jobs whose returns are counted one by one; with more, the oldest is forgotten.
const MAX_JOBS: usize = 256;
/// The longest latency that is told apart, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// Plain numbers, from the start of the swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Minions that have session and SUB now.
    pub live: i64,
    /// Handshakes that were finished, both sockets counted.
    pub handshakes: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Connections that ended without our doing.
    pub lost: u64,
    /// Sessions that came back.
    pub reconnects: u64,
    /// Events that spools took.
    pub fired: u64,
    /// Events that are acknowledged.
    pub acknowledged: u64,
    /// Events that spools refused: they were full.
    pub refused: u64,
    /// Events that were not acknowledged when their minion was restarted, or that a Salt master answered with a failure.
    pub abandoned: u64,
    /// Publications, on the SUB or by `jobs_since`; on Salt's wire, where all hear all, those that are meant.
    pub publications: u64,
    /// Publications that had been seen before, by jid or by serial.
    pub duplicates: u64,
    /// Publications for somebody else.
    pub misdelivered: u64,
    /// Returns that spools took.
    pub returns: u64,
    /// Returns that are acknowledged.
    pub returns_acknowledged: u64,
    /// Messages of the master that made no sense.
    pub not_understood: u64,
    /// Minions that were restarted, and faults that were done.
    pub troubles: u64,
    /// Orders that shards have read, each counted once per shard.
    #[serde(skip)]
    pub obeyed: u64,
}

impl Count {
    /// Tells whether all that was fired is acknowledged.
    pub fn is_drained(&self) -> bool {
        self.acknowledged + self.abandoned >= self.fired
    }

    fn add(&mut self, other: &Count) {
        self.live += other.live;
        self.handshakes += other.handshakes;
        self.failed += other.failed;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
        self.fired += other.fired;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.abandoned += other.abandoned;
        self.publications += other.publications;
        self.duplicates += other.duplicates;
        self.misdelivered += other.misdelivered;
        self.returns += other.returns;
        self.returns_acknowledged += other.returns_acknowledged;
        self.not_understood += other.not_understood;
        self.troubles += other.troubles;
        self.obeyed += other.obeyed;
    }
}

/// The returns of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTally {
    /// How many are acknowledged.
    pub acknowledged: usize,
    /// When the last of them was.
    pub last: Instant,
}

/// Everything counted: by one shard since it last reported, or by all since the start.
#[derive(Debug, Clone)]
pub struct Totals {
    /// The numbers.
    pub count: Count,
    /// From firing to acknowledgement, in microseconds.
    pub ack_us: Histogram<u64>,
    /// Returns by job.
    pub jobs: BTreeMap<Jid, JobTally>,
}

impl Default for Totals {
    fn default() -> Totals {
        let ack_us = Histogram::new_with_bounds(1, LONGEST_US, 2).expect("the bounds are constants that fit");
        Totals { count: Count::default(), ack_us, jobs: BTreeMap::new() }
    }
}

impl Totals {
    /// Notes an acknowledged event.
    pub fn event_acknowledged(&mut self, after_us: u64) {
        self.count.acknowledged += 1;
        self.ack_us.saturating_record(after_us);
    }

    /// Notes an acknowledged return.
    pub fn return_acknowledged(&mut self, jid: Jid, now: Instant) {
        self.count.returns_acknowledged += 1;
        let job = self.jobs.entry(jid).or_insert(JobTally { acknowledged: 0, last: now });
        job.acknowledged += 1;
        job.last = now;
    }

    /// Takes over what a shard has counted, and leaves it empty.
    pub fn absorb(&mut self, shard: &mut Totals) {
        self.count.add(&std::mem::take(&mut shard.count));
        if !shard.ack_us.is_empty() {
            // Both have the same bounds.
            let _ = self.ack_us.add(&shard.ack_us);
            shard.ack_us.reset();
        }
        for (jid, job) in std::mem::take(&mut shard.jobs) {
            let known = self.jobs.entry(jid).or_insert(JobTally { acknowledged: 0, last: job.last });
            known.acknowledged += job.acknowledged;
            known.last = known.last.max(job.last);
        }
        while self.jobs.len() > MAX_JOBS {
            self.jobs.pop_first();
        }
    }

    /// Forgets the latencies so far.
    pub fn forget_latencies(&mut self) {
        self.ack_us.reset();
    }

    /// Returns the latencies of acknowledgements, in milliseconds.
    pub fn ack_ms(&self) -> Percentiles {
        let ms = |quantile| self.ack_us.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles {
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: self.ack_us.max() as f64 / 1_000.0,
        }
    }
}

/// A distribution, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: f64,
    /// Nine of ten are below.
    pub p90: f64,
    /// All but one in a hundred are below.
    pub p99: f64,
    /// All but one in a thousand are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Sorts out a handful of measurements, in milliseconds.
    pub fn of(samples: &[f64]) -> Percentiles {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let (mut all, mut shard) = (Totals::default(), Totals::default());
        let now = Instant::now();
        for _ in 0..2 {
            shard.count.fired += 1;
            shard.event_acknowledged(1_000);
            shard.return_acknowledged(Jid::at(1), now);
            all.absorb(&mut shard);
        }
        assert!(all.count.is_drained() && all.count.fired == 2 && shard.count == Count::default());
        assert_eq!(all.jobs[&Jid::at(1)].acknowledged, 2);
        assert!((all.ack_ms().p50 - 1.0).abs() < 0.02, "{:?}", all.ack_ms());
    }

    #[test]
    fn jobs_are_bounded() {
        let (mut all, mut shard) = (Totals::default(), Totals::default());
        for number in 0..=MAX_JOBS as i64 {
            shard.return_acknowledged(Jid::at(number), Instant::now());
        }
        all.absorb(&mut shard);
        assert!(all.jobs.len() == MAX_JOBS && !all.jobs.contains_key(&Jid::at(0)));
    }

    #[test]
    fn percentiles_of_a_handful() {
        let samples: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let found = Percentiles::of(&samples);
        assert_eq!((found.p50, found.p99, found.max), (10.0, 20.0, 20.0));
        assert_eq!(Percentiles::of(&[]), Percentiles::default());
    }
}
