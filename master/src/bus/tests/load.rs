//! Measurements under load: slow, so they run with `RUN_SLOW_TESTS` and print what they found (`--nocapture`).

use std::io::Write as _;
use std::time::Instant;

use super::*;
use crate::bus::checkpoint::Pace;

/// How many events are written, as 300 bytes each.
const EVENTS: u64 = 1_500_000;

fn is_wanted(test: &str) -> bool {
    let wanted = std::env::var_os("RUN_SLOW_TESTS").is_some();
    if !wanted {
        // Past the capture: a test that was skipped must not look like one that passed.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: set RUN_SLOW_TESTS to run it");
    }
    wanted
}

fn at(times: &[Duration], part: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
    let place = (times.len() as f64 * part) as usize;
    times[place.min(times.len() - 1)].as_secs_f64() * 1e3
}

/// Nothing is moved out of the WAL.
const NO_CHECKPOINTS: Pace = Pace { bytes: usize::MAX, every: Duration::MAX, enough: i64::MAX };

/// A segment of this size is never full.
const ENDLESS: u64 = u64::MAX / 2;

/// The rate that is asked for, in events/s.
const RATE: u32 = 100_000;

/// How many batches are on their way at a time, and the events of one.
const SENDERS: u32 = 4;
const EVENTS_OF_BATCH: u32 = 100;

/// Commits this many events, at the rate that is asked for or as fast as they go; tells how long commits took.
async fn commit_all(events: u64, segment_bytes: u64, pace: Pace, is_paced: bool) -> String {
    let folder = TempDir::new().unwrap();
    let (bus, mut task) = Bus::open(BusConfig { segment_bytes, ..config(&folder) }).unwrap();
    task.writer.pace = pace;
    let running = Running::run(bus, task);
    let filling = NewEvent { data: vec![0x80; 270].into(), ..event("salt/beacon/web1/load/", 0) };
    let batch = Batch { events: vec![filling; EVENTS_OF_BATCH as usize], mark: None };
    let started = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (bus, batch) = (running.bus.clone(), batch.clone());
            let between = Duration::from_secs(1) * SENDERS * EVENTS_OF_BATCH / RATE;
            let first = started + between * sender / SENDERS;
            let mut clock = is_paced.then(|| tokio::time::interval_at(first.into(), between));
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..events / u64::from(SENDERS * EVENTS_OF_BATCH) {
                    // From when it was due: what waits behind a slow commit is slow too.
                    let begun = match &mut clock {
                        Some(clock) => clock.tick().await.into_std(),
                        None => Instant::now(),
                    };
                    bus.commit(batch.clone()).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for sender in senders {
        times.extend(sender.await.unwrap());
    }
    times.sort_unstable();
    let (p50, p99, p999, max) = (at(&times, 0.5), at(&times, 0.99), at(&times, 0.999), at(&times, 1.0));
    let rate = events as f64 / started.elapsed().as_secs_f64();
    let segments = running.bus.shared.segments.all().len();
    assert_eq!(running.bus.head(), events);
    running.stop().await;
    format!(
        "{rate:.0} events/s, commits p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} max {max:.1} ms, {segments} segments"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_do_not_wait_for_checkpoints() {
    if !is_wanted("commits_do_not_wait_for_checkpoints") {
        return;
    }
    let say = |what: &str, said: String| writeln!(std::io::stderr(), "{what}: {said}").unwrap();
    for is_paced in [true, false] {
        for _ in 0..3 {
            say("with checkpoints", commit_all(EVENTS, ENDLESS, Pace::default(), is_paced).await);
            say("without", commit_all(EVENTS, ENDLESS, NO_CHECKPOINTS, is_paced).await);
        }
    }
    let shipped = BusConfig::new("").segment_bytes;
    say("a minute of segments as shipped", commit_all(4 * EVENTS, shipped, Pace::default(), true).await);
    say("small segments", commit_all(EVENTS, 64 << 20, Pace::default(), false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_ten_million_events_opens_at_once() {
    if !is_wanted("a_log_of_ten_million_events_opens_at_once") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    let filling = NewEvent { data: vec![0x80; 270].into(), ..event("salt/beacon/web1/load/", 0) };
    let batch = Batch { events: vec![filling; 5_000], mark: None };
    for _ in 0..2_000 {
        running.bus.commit(batch.clone()).await.unwrap();
    }
    // What kill -9 would leave now: the segment that is written, with its WAL. The others are not opened at a start.
    let left = TempDir::new().unwrap();
    let killed = config(&left);
    std::fs::create_dir_all(&killed.path).unwrap();
    let segments = &running.bus.shared.segments;
    let active = segments.path(segments.active());
    let wal = ["", "-wal"].map(|end| {
        let from = crate::bus::segments::beside(&active, end);
        std::fs::copy(&from, killed.path.join(from.file_name().unwrap())).unwrap()
    })[1];
    running.stop().await;
    for (what, config) in
        [("after a clean end".to_owned(), config(&folder)), (format!("with a WAL of {wal} bytes"), killed)]
    {
        let begun = Instant::now();
        let (bus, _task) = Bus::open(config).unwrap();
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let _ = writeln!(std::io::stderr(), "{} events open in {took:.1} ms {what}", bus.head());
        assert_eq!(bus.head(), 10_000_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_roll_quickly_with_ten_thousand_minions() {
    if !is_wanted("segments_roll_quickly_with_ten_thousand_minions") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let running = Running::start(BusConfig { segment_bytes: 4 << 20, ..config(&folder) });
    let load = |number: u64, events| {
        let id = proto::ids::MinionId::parse(&format!("minion-{}", number % 10_000)).unwrap();
        let mark = Mark { id, spool: [7; 16], n: number / 10_000 + 1, kind: proto::message::Kind::Daemon };
        Batch { events, mark: Some(mark) }
    };
    for number in 0..10_000 {
        drop(running.bus.submit(load(number, Vec::new())).await.unwrap());
    }
    let filling = NewEvent { data: vec![0x80; 270].into(), ..event("salt/beacon/web1/load/", 0) };
    let (mut quiet, mut rolled) = (Vec::new(), Vec::new());
    for round in 0..2_000 {
        let before = running.bus.shared.segments.active();
        let begun = Instant::now();
        // Each load comes from another minion, so marks move all the time.
        for number in 0..99 {
            let load = load(10_000 + round * 100 + number, vec![filling.clone()]);
            drop(running.bus.submit(load).await.unwrap());
        }
        running.bus.commit(load(10_000 + round * 100 + 99, vec![filling.clone()])).await.unwrap();
        let all = if running.bus.shared.segments.active() == before { &mut quiet } else { &mut rolled };
        all.push(begun.elapsed());
    }
    quiet.sort_unstable();
    rolled.sort_unstable();
    let (p50, p99, max) = (at(&quiet, 0.5), at(&quiet, 0.99), at(&quiet, 1.0));
    let (roll, longest, times) = (at(&rolled, 0.5), at(&rolled, 1.0), rolled.len());
    let _ = writeln!(
        std::io::stderr(),
        "commits p50 {p50:.1} p99 {p99:.1} max {max:.1} ms; {times} with a new segment: p50 {roll:.1} max {longest:.1} ms"
    );
    running.stop().await;
}
