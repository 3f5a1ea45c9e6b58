//! What `bus` promises, tested.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use proto::ids::MinionId;
use proto::map;
use proto::value::{MapExt, Value};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    bus: Bus,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    fn start(config: BusConfig) -> Running {
        let (bus, task) = Bus::open(config).unwrap();
        Running::run(bus, task)
    }

    fn run(bus: Bus, task: BusTask) -> Running {
        let (stop, stopped) = watch::channel(false);
        Running { bus, stop, task: tokio::spawn(task.run(stopped)) }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
    }
}

/// The file of a log's first segment.
const FIRST: &str = "00000000000000000001.db";

/// Copies a folder, as a power cut right now would leave it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn config(folder: &TempDir) -> BusConfig {
    BusConfig::new(folder.path().join("cache/events"))
}

fn event(tag: &str, n: u64) -> NewEvent {
    NewEvent { tag: Tag::parse(tag).unwrap(), data: msgpack::encode_map(&map! { "n" => n }).into() }
}

fn batch(tag: &str, numbers: std::ops::Range<u64>) -> Batch {
    Batch { events: numbers.map(|n| event(tag, n)).collect(), mark: None }
}

fn load(n: u64, spool: u8) -> Batch {
    let mark = Mark { id: MinionId::parse("web1").unwrap(), spool: [spool; 16], n, kind: proto::message::Kind::Daemon };
    Batch { mark: Some(mark), ..batch("spooled", n..n + 1) }
}

fn query(tags: &[&str], since: Since) -> EventQuery {
    EventQuery { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), since, until: None }
}

async fn read(subscription: &mut Subscription, count: usize) -> Vec<Event> {
    let mut events = Vec::with_capacity(count);
    while events.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await;
        events.push(next.expect("an event in time").expect("the bus runs"));
    }
    events
}

fn offsets(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.offset).collect()
}

async fn all(bus: &Bus, tags: &[&str], since: Since, count: usize) -> Vec<u64> {
    offsets(&read(&mut bus.subscribe(query(tags, since)), count).await)
}

#[tokio::test]
async fn batches_of_one_caller_keep_their_order() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    let mut tickets = Vec::new();
    for n in 0..200 {
        tickets.push(running.bus.submit(batch("a", n * 3..n * 3 + 3)).await.unwrap());
    }
    for (n, ticket) in (0u64..).zip(tickets) {
        assert_eq!(ticket.await, Ok(Committed { offset: n * 3 + 1, count: 3, duplicate: false, gap: 0 }));
    }
    let events = read(&mut running.bus.subscribe(query(&[], Since::Start)), 600).await;
    for (n, event) in (0u64..).zip(&events) {
        assert_eq!((event.offset, event.durable), (n + 1, true));
        assert_eq!(event.map().unwrap().at("n"), Some(&Value::from(n)));
    }
    assert!(running.bus.stats().commits < 200, "commits are grouped");
    running.stop().await;
}

#[tokio::test]
async fn a_load_is_committed_once_and_marks_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    let committed = |offset, count, duplicate, gap| Ok(Committed { offset, count, duplicate, gap });
    assert_eq!(running.bus.commit(load(1, 1)).await, committed(1, 1, false, 0));
    assert_eq!(running.bus.commit(load(1, 1)).await, committed(1, 0, true, 0));
    assert_eq!(running.bus.commit(load(4, 1)).await, committed(2, 1, false, 2));
    running.stop().await;

    let running = Running::start(config(&folder));
    assert_eq!(running.bus.head(), 2);
    assert_eq!(running.bus.commit(load(3, 1)).await, committed(2, 0, true, 0));
    assert_eq!(running.bus.commit(load(1, 2)).await, committed(3, 1, false, 0));
    let stats = running.bus.stats();
    assert_eq!((stats.events, stats.batches, stats.duplicates), (1, 2, 1));
    for spool in 3..12 {
        running.bus.commit(load(1, spool)).await.unwrap();
    }
    assert!(!running.bus.commit(load(1, 1)).await.unwrap().duplicate, "the oldest spool was forgotten");
    running.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    for n in 1..=50 {
        running.bus.commit(load(n, 1)).await.unwrap();
    }
    let after = TempDir::new().unwrap();
    copy(&folder.path().join("cache/events"), &after.path().join("events"));
    running.stop().await;
    let running = Running::start(BusConfig::new(after.path().join("events")));
    assert_eq!(all(&running.bus, &[], Since::Start, 50).await, (1..=50).collect::<Vec<_>>());
    assert!(running.bus.commit(load(50, 1)).await.unwrap().duplicate);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_commits_what_is_queued_and_ends_the_readers() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    let bus = running.bus.clone();
    let mut live = bus.subscribe(query(&[], Since::Now));
    let mut tickets = Vec::new();
    for n in 0..100 {
        tickets.push(bus.submit(batch("a", n..n + 1)).await.unwrap());
    }
    running.stop().await;
    for ticket in tickets {
        assert!(ticket.await.is_ok());
    }
    assert_eq!(bus.commit(batch("a", 0..1)).await, Err(CommitError::Stopped));
    assert!(!bus.try_fire(Tag::parse("a").unwrap(), &map! {}));
    assert_eq!(read(&mut live, 100).await.len(), 100);
    assert_eq!(live.next().await, None);
    assert_eq!(Bus::open(config(&folder)).unwrap().0.head(), 100);
}

#[tokio::test]
async fn a_bus_that_is_dropped_lets_its_readers_go() {
    let folder = TempDir::new().unwrap();
    let (bus, task) = Bus::open(config(&folder)).unwrap();
    let mut live = bus.subscribe(query(&[], Since::Now));
    drop(task);
    assert_eq!(live.next().await, None);
}

#[tokio::test]
async fn readers_begin_where_they_ask() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(BusConfig { ring_bytes: 600, ..config(&folder) });
    let bus = &running.bus;
    for n in 0..30 {
        bus.commit(batch(if n % 2 == 0 { "salt/job/1/ret/web1" } else { "salt/auth" }, n..n + 1)).await.unwrap();
    }
    let events = read(&mut bus.subscribe(query(&[], Since::Start)), 30).await;
    assert_eq!(all(bus, &[], Since::Offset(0), 1).await, [1]);
    assert_eq!(all(bus, &[], Since::Offset(28), 3).await, [28, 29, 30]);
    assert_eq!(all(bus, &["salt/job/*"], Since::Start, 3).await, [1, 3, 5]);
    assert_eq!(all(bus, &["salt/j*/web1", "salt/auth"], Since::Offset(2), 3).await, [2, 3, 4]);
    let moment = events[11].stamp_us;
    let first = events.iter().find(|event| event.stamp_us >= moment).unwrap().offset;
    assert_eq!(all(bus, &[], Since::Stamp(moment), 2).await, [first, first + 1]);
    assert_eq!(all(bus, &[], Since::Stamp(0), 1).await, [1]);
    let mut now = bus.subscribe(query(&[], Since::Now));
    let mut later = bus.subscribe(query(&[], Since::Offset(32)));
    for n in 0..3 {
        bus.commit(batch("a", n..n + 1)).await.unwrap();
    }
    assert_eq!(offsets(&read(&mut now, 3).await), [31, 32, 33]);
    assert_eq!(offsets(&read(&mut later, 2).await), [32, 33]);
    running.stop().await;
}

#[tokio::test]
async fn a_slow_reader_gets_the_rest_from_the_log() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(BusConfig { ring_bytes: 8 * 1024, ..config(&folder) });
    let mut slow = running.bus.subscribe(query(&[], Since::Now));
    running.bus.commit(batch("a", 0..10)).await.unwrap();
    assert_eq!(read(&mut slow, 1).await[0].offset, 1);
    for n in 0..50 {
        running.bus.commit(batch("a", n * 100..n * 100 + 100)).await.unwrap();
    }
    assert_eq!(offsets(&read(&mut slow, 5_009).await), (2..=5_010).collect::<Vec<_>>());
    let stats = running.bus.stats();
    assert!(stats.fell_behind >= 1 && stats.ring_bytes <= 8 * 1024);
    running.bus.commit(batch("a", 0..1)).await.unwrap();
    assert_eq!(read(&mut slow, 1).await[0].offset, 5_011);
    running.stop().await;
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(BusConfig { ring_bytes: 8 * 1024, ..config(&folder) });
    running.bus.commit(batch("a", 0..3_000)).await.unwrap();
    let mut reader = running.bus.subscribe(query(&[], Since::Start));
    let mut got = Vec::new();
    while got.len() < 3_000 {
        tokio::select! {
            biased;
            event = reader.next() => got.push(event.unwrap().offset),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(got, (1..=3_000).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_for_eight_readers_stays_within_the_ring() {
    const EVENTS: u64 = 100_000;
    const RING: usize = 1024 * 1024;
    let folder = TempDir::new().unwrap();
    let running = Running::start(BusConfig { ring_bytes: RING, ..config(&folder) });
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut reader = running.bus.subscribe(query(&[], Since::Now));
            tokio::spawn(async move {
                for offset in 1..=EVENTS {
                    assert_eq!(reader.next().await.map(|event| event.offset), Some(offset));
                }
            })
        })
        .collect();
    let mut tickets = Vec::new();
    for n in 0..EVENTS / 100 {
        tickets.push(running.bus.submit(batch("salt/beacon/web1/load/", n * 100..n * 100 + 100)).await.unwrap());
        assert!(running.bus.stats().ring_bytes <= RING);
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
    let stats = running.bus.stats();
    assert_eq!((stats.head, stats.events), (EVENTS, EVENTS));
    assert!(stats.ring_bytes <= RING && stats.ring_events < 10_000);
    running.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let folder = TempDir::new().unwrap();
    let (bus, task) = Bus::open(config(&folder)).unwrap();
    task.writer.log.as_ref().unwrap().limit_pages(64);
    bus.shared.limit_pages(64);
    let running = Running::run(bus.clone(), task);
    let mut live = bus.subscribe(query(&["live", "spooled"], Since::Now));
    let large = |n: u64| Batch {
        events: vec![NewEvent {
            data: msgpack::encode_map(&map! { "x" => "y".repeat(50_000) }).into(),
            ..event("large", n)
        }],
        ..load(n, 1)
    };
    let mut written = 0;
    let refused = loop {
        match bus.commit(large(written + 1)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    let CommitError::Degraded { reason } = refused else { panic!("{refused}") };
    assert!(reason.contains("disk is full") && reason.contains("free some space"), "{reason}");
    let fired = bus.fire(Tag::parse("live").unwrap(), &map! { "x" => "y".repeat(300_000) }).await;
    assert!(matches!(fired, Err(CommitError::Degraded { .. })));
    let seen = &read(&mut live, 1).await[0];
    assert_eq!((seen.durable, seen.offset), (false, written));

    bus.shared.limit_pages(0);
    let committed = loop {
        match bus.commit(large(written + 1)).await {
            Ok(committed) => break committed,
            Err(_) => {
                let _ = bus.watch_degraded().wait_for(Option::is_none).await.unwrap();
            }
        }
    };
    assert_eq!(committed, Committed { offset: written + 1, count: 1, duplicate: false, gap: 0 });
    bus.commit(Batch { mark: None, ..load(1, 9) }).await.unwrap();
    let seen = &read(&mut live, 1).await[0];
    assert_eq!((seen.durable, seen.offset), (true, written + 2));
    assert_eq!(bus.stats().degraded, None);
    assert_eq!(all(&bus, &["large"], Since::Start, written as usize + 1).await.len() as u64, written + 1);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_is_gone_is_not_replaced_by_an_empty_one() {
    let folder = TempDir::new().unwrap();
    let (bus, task) = Bus::open(config(&folder)).unwrap();
    task.writer.log.as_ref().unwrap().limit_pages(1);
    let running = Running::run(bus.clone(), task);
    let (here, away) = (folder.path().join("cache"), folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let filling = vec![NewEvent { data: vec![0; 100_000].into(), ..event("a", 1) }];
    assert!(bus.commit(Batch { events: filling, mark: None }).await.is_err());
    let mut health = bus.watch_degraded();
    let reason = health.wait_for(|reason| reason.as_ref().is_some_and(|text| text.contains("is gone"))).await.unwrap();
    assert!(reason.is_some() && !here.exists());
    drop(reason);
    std::fs::rename(&away, &here).unwrap();
    let _ = health.wait_for(Option::is_none).await.unwrap();
    assert_eq!(bus.commit(batch("a", 0..1)).await.unwrap().offset, 1);
    running.stop().await;
}

#[test]
fn a_full_queue_drops_what_must_not_wait() {
    let folder = TempDir::new().unwrap();
    let (bus, _task) = Bus::open(BusConfig { queue_bytes: 2 * QUEUE_UNIT, ..config(&folder) }).unwrap();
    let fire = || bus.try_fire(Tag::parse("a").unwrap(), &map! {});
    assert_eq!((fire(), fire(), fire()), (true, true, false));
    assert_eq!(bus.stats().dropped, 1);
}

#[test]
fn stamps_are_set_where_they_were_or_at_the_end() {
    let check = |data: &proto::value::Map, keys: &[&str]| {
        let data = msgpack::encode_map(data).into();
        let event = Event { offset: 1, tag: Tag::parse("a").unwrap(), stamp_us: 0, data, durable: true };
        let map = event.map().unwrap();
        assert_eq!(map.text("_stamp"), Some("1970-01-01T00:00:00.000000+00:00"));
        assert_eq!(map.keys().filter_map(Value::as_str).collect::<Vec<_>>(), keys);
    };
    check(&map! { "a" => 1 }, &["a", "_stamp"]);
    check(&map! { "_stamp" => "x", "a" => 1 }, &["_stamp", "a"]);
}

fn refused(path: &Path) -> (OpenError, String) {
    let error = Bus::open(BusConfig::new(path)).map(|_| ()).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn a_log_that_cannot_be_used_is_refused_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let segment = |name: &str| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        folder.path().join(name).join(FIRST)
    };
    std::fs::write(segment("damaged"), vec![b'x'; 8_192]).unwrap();
    let (error, text) = refused(&folder.path().join("damaged"));
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(text.contains(FIRST) && text.contains("halite store restore"), "{text}");

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(refused(&file.join("events")).0, OpenError::Folder { .. }));
    std::fs::create_dir(segment("folder")).unwrap();
    assert!(matches!(refused(&folder.path().join("folder")).0, OpenError::File { .. }));

    let path = folder.path().join("events");
    let open = Bus::open(BusConfig::new(&path)).unwrap();
    assert!(matches!(refused(&path).0, OpenError::InUse { .. }));
    drop(open);
    rusqlite::Connection::open(path.join(FIRST)).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let (error, text) = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 7, .. }) && text.contains("run the newer Halite"));
}

#[tokio::test]
async fn nobody_else_can_read_the_log() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    running.bus.commit(batch("a", 0..1)).await.unwrap();
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("cache"), 0o700);
    assert_eq!(mode("cache/events"), 0o700);
    for end in ["", "-wal", "-shm"] {
        assert_eq!(mode(&format!("cache/events/{FIRST}{end}")), 0o600, "{end}");
    }
    assert_eq!(mode("cache/events.lock"), 0o600);
    running.stop().await;
}

/// Commits until there are so many segments.
async fn fill(running: &Running, segments: usize) -> u64 {
    let mut n = 0;
    while running.bus.shared.segments.all().len() < segments {
        n += 1;
        let tag = if n == 7 { "rare/one" } else { "common/many" };
        let filling = NewEvent { data: vec![0x80; 2_000].into(), ..event(tag, n) };
        running.bus.commit(Batch { events: vec![filling], mark: None }).await.unwrap();
    }
    running.bus.head()
}

/// Waits until all segments but the active one are sealed.
fn sealed(bus: &Bus) {
    while bus.shared.segments.all().iter().any(|segment| segment.phase == segments::Phase::Closed) {
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_through_segments_as_through_one_log() {
    let folder = TempDir::new().unwrap();
    let small = BusConfig { segment_bytes: 100_000, ring_bytes: 0, ..config(&folder) };
    let running = Running::start(small.clone());
    running.bus.commit(load(1, 1)).await.unwrap();
    let head = fill(&running, 4).await;
    let check = async |bus: &Bus| {
        let count = usize::try_from(head).unwrap();
        let events = read(&mut bus.subscribe(query(&[], Since::Start)), count).await;
        assert_eq!(offsets(&events), (1..=head).collect::<Vec<_>>());
        let bounded = EventQuery { until: Some(head), ..query(&["rare/*", "none/*"], Since::Start) };
        let mut rare = bus.subscribe(bounded);
        assert_eq!(rare.next().await.map(|event| event.offset), Some(8));
        assert!(rare.next().await.is_none(), "a bounded reader ends");
        for middle in [1, head / 2, head] {
            let stamp = events[usize::try_from(middle).unwrap() - 1].stamp_us;
            let first = events.iter().find(|event| event.stamp_us >= stamp).unwrap().offset;
            assert_eq!(bus.offset_at(stamp).await, Some(first));
        }
        assert_eq!(bus.offset_at(i64::MAX).await, Some(head + 1));
    };
    check(&running.bus).await;
    sealed(&running.bus);
    check(&running.bus).await;
    running.stop().await;
    let running = Running::start(small);
    assert_eq!(running.bus.head(), head);
    check(&running.bus).await;
    assert!(running.bus.commit(load(1, 1)).await.unwrap().duplicate, "the mark went through three segments");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_deletes_the_oldest_and_readers_go_on() {
    let folder = TempDir::new().unwrap();
    let retention = Retention { age: None, bytes: Some(350_000) };
    let running = Running::start(BusConfig { segment_bytes: 100_000, ring_bytes: 0, retention, ..config(&folder) });
    let bus = &running.bus;
    bus.note_cursor("slow", Some(3));
    bus.note_cursor("quick", Some(u64::MAX));
    let mut told = bus.subscribe(query(&["halite/bus/retention"], Since::Now));
    while bus.shared.segments.find(1).is_some_and(|segment| segment.first == 1) {
        bus.commit(batch("common/many", 0..20)).await.unwrap();
    }
    // Nobody has listened meanwhile: the first thing it is told is that.
    let told = read(&mut told, 2).await;
    assert_eq!(told[0].tag.as_str(), "halite/bus/gap");
    let told = told[1].map().unwrap();
    assert_eq!((told.at("first"), told.text("reason")), (Some(&Value::from(1)), Some("bytes")));
    assert_eq!(told.at("behind"), Some(&Value::from(vec!["slow"])));
    let last = told.at("last").and_then(Value::as_u64).unwrap();
    let oldest = bus.shared.segments.all()[0].first;
    assert!(oldest > last);
    // Who wants what is deleted is told so, whatever it filters; who wants what there is is not.
    let before = bus.stats().overtaken;
    let events = read(&mut bus.subscribe(query(&["common/*"], Since::Offset(3))), 2).await;
    let gap = events[0].map().unwrap();
    assert_eq!((events[0].tag.as_str(), events[0].durable), ("halite/bus/gap", false));
    assert_eq!(
        ["first", "last", "count"].map(|name| gap.at(name).and_then(Value::as_u64)),
        [Some(3), Some(oldest - 1), Some(oldest - 3)]
    );
    assert!(events[1].durable && events[1].offset >= oldest, "{events:?}");
    assert_eq!(bus.stats().overtaken - before, oldest - 3);
    for since in [Since::Start, Since::Offset(0), Since::Offset(oldest)] {
        assert!(all(bus, &[], since, 1).await[0] >= oldest);
    }
    assert_eq!(bus.stats().overtaken - before, oldest - 3);
    let gone = EventQuery { until: Some(last), ..query(&[], Since::Start) };
    assert!(bus.subscribe(gone).next().await.is_none(), "what is deleted is not waited for");
    let head = bus.head();
    running.stop().await;
    assert_eq!(Bus::open(config(&folder)).unwrap().0.head(), head);
}

#[tokio::test]
async fn a_bounded_reader_ends_where_it_was_told() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder));
    let bus = &running.bus;
    bus.commit(batch("a", 0..10)).await.unwrap();
    let until = |since, until| EventQuery { until: Some(until), ..query(&["a"], since) };
    for (since, end, expected) in [
        (Since::Start, 0, vec![]),
        (Since::Start, 2, vec![1, 2]),
        (Since::Offset(9), 10, vec![9, 10]),
        (Since::Offset(11), 10, vec![]),
        (Since::Now, 10, vec![]),
        (Since::Stamp(i64::MAX), 10, vec![]),
        (Since::Stamp(0), 1, vec![1]),
    ] {
        let mut reader = bus.subscribe(until(since, end));
        let mut got = Vec::new();
        while let Some(event) = reader.next().await {
            got.push(event.offset);
        }
        assert_eq!(got, expected, "{since:?} {end}");
    }
    let mut ahead = bus.subscribe(until(Since::Now, 12));
    bus.commit(batch("b", 0..5)).await.unwrap();
    assert!(ahead.next().await.is_none(), "the end may be an event that is not wanted");
    running.stop().await;
}

mod damage;
mod load;
