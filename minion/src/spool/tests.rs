//! The spool cranked by hand: window, order, acknowledgements, limits, and what is left after a crash at each step.

use proto::map;
use proto::message::{Request, WINDOW_BYTES, WINDOW_LOADS, event};
use proto::msgpack;
use proto::value::Value;

use super::*;

const MEMORY_ID: [u8; 16] = [7; 16];
const NOW_MS: u64 = 1_000_000_000;

fn item(tag: &str, bytes: usize) -> EventItem {
    EventItem { tag: tag.into(), data: msgpack::encode_map(&map! { "x" => "y".repeat(bytes) }).into() }
}

fn ret(number: u32) -> (Jid, Map) {
    let jid = Jid::parse(&format!("202611202352328{number:05}")).unwrap();
    let load = map! { "jid" => &jid, "fun" => "test.ping", "fun_args" => Value::List(vec![]), "return" => true, "retcode" => 0 };
    (jid, load)
}

/// A window and its keeper. Dropping it is what kill -9 leaves: nothing is flushed.
struct Pair {
    window: Window<u32>,
    keeper: Keeper,
    flow: Flow,
    refused: Vec<u32>,
    now: Instant,
    now_ms: u64,
}

impl Pair {
    fn new(keeper: Keeper) -> Pair {
        let (window, now) = (Window::default(), Instant::now());
        Pair { window, keeper, flow: Flow::On, refused: Vec::new(), now, now_ms: NOW_MS }
    }

    fn in_memory() -> Pair {
        Pair::new(Keeper::in_memory(MEMORY_ID))
    }

    fn on_disk(folder: &tempfile::TempDir) -> Pair {
        Pair::at(place(folder))
    }

    fn at(place: Place) -> Pair {
        Pair::new(Keeper::on_disk(place, MEMORY_ID, Instant::now()).0)
    }

    fn away(mut self) -> Pair {
        self.flow = Flow::Off;
        self
    }

    fn fire(&mut self, tag: &str, bytes: usize) {
        self.window.push_event(item(tag, bytes), None).unwrap();
        self.crank();
    }

    fn put_return(&mut self, number: u32) -> Result<(), SpoolError> {
        let (jid, load) = ret(number);
        let (taken, mut told) = oneshot::channel();
        self.window.push_return(Item::Return { load, jid: Some(jid), note: None, taken });
        self.crank();
        told.try_recv().unwrap()
    }

    fn crank(&mut self) {
        while let Some(exchange) = self.window.exchange(self.flow) {
            let answer = self.keeper.answer(exchange, self.now, self.now_ms);
            self.refused.extend(self.window.exchanged(answer));
            self.keeper.tend(self.now, self.now_ms);
        }
    }

    /// Sends what the window allows.
    fn sent(&mut self) -> Vec<Request> {
        self.crank();
        std::iter::from_fn(|| self.window.next_load()).map(|load| Request::decode(&load).unwrap()).collect()
    }

    fn ack(&mut self, at: Spooled) -> Settled<u32> {
        let settled = self.window.ack(at);
        self.crank();
        settled
    }

    /// Takes everything as a master does; returns the places and the tags or jids, in order.
    fn drain(&mut self) -> Vec<(Spooled, Vec<String>)> {
        self.flow = Flow::On;
        let mut all = Vec::new();
        loop {
            let now: Vec<_> = self.sent().iter().map(content).collect();
            let Some((last, _)) = now.last() else { return all };
            let last = *last;
            all.extend(now);
            for (at, _) in &all {
                if at.spool != last.spool {
                    self.window.ack(*at);
                }
            }
            self.ack(last);
        }
    }
}

fn place(folder: &tempfile::TempDir) -> Place {
    Place { path: folder.path().join("spool.db"), boot: "boot-1".into(), limits: Limits::default() }
}

fn content(request: &Request) -> (Spooled, Vec<String>) {
    match request {
        Request::MinionEvents(load) => (load.at, load.events.iter().map(|event| event.tag.clone()).collect()),
        Request::Return(ret) => (ret.at, vec![ret.jid.clone()]),
        other => panic!("{} is not spooled", other.name()),
    }
}

fn tags(drained: &[(Spooled, Vec<String>)]) -> Vec<&str> {
    drained.iter().flat_map(|(_, tags)| tags.iter().map(String::as_str)).collect()
}

fn numbers(requests: &[Request]) -> Vec<u64> {
    requests.iter().map(|request| content(request).0.n).collect()
}

/// Makes a spool's file, by hand.
fn made(folder: &tempfile::TempDir, sql: &str) -> Place {
    let place = place(folder);
    rusqlite::Connection::open(&place.path).unwrap().execute_batch(sql).unwrap();
    place
}

#[test]
fn a_file_of_another_form_is_left_alone_until_it_is_moved_away() {
    let newer = format!("{} PRAGMA user_version = 9", super::file::SCHEMA.sql);
    for (sql, told) in
        [("CREATE TABLE loads (x TEXT)", "tables are not those of this minion"), (&newer, "form 9; this one knows 1")]
    {
        let folder = tempfile::tempdir().unwrap();
        let place = made(&folder, sql);
        let before = std::fs::read(&place.path).unwrap();
        let error = super::file::File::open(&place, 1).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains(place.path.to_str().unwrap()), "{error}");
        assert!(error.contains("move the file away, which loses the events and returns"), "{error}");
        let now = Instant::now();
        let (mut keeper, _) = Keeper::on_disk(place.clone(), MEMORY_ID, now);
        assert!(!keeper.is_stored() && std::fs::read(&place.path).unwrap() == before, "{told}");
        std::fs::remove_file(&place.path).unwrap();
        keeper.tend(now + Duration::from_secs(60), 1);
        assert!(keeper.is_stored(), "{told}");
    }
}

#[test]
fn a_file_from_before_forms_were_counted_is_taken_and_keeps_its_form_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = made(&folder, super::file::SCHEMA.sql);
    let file = super::file::File::open(&place, 1).unwrap();
    file.sync().unwrap();
    drop(file);
    let form: u32 = rusqlite::Connection::open(&place.path)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(form, 1);
}

#[test]
fn events_that_wait_together_go_as_one_load() {
    let mut pair = Pair::in_memory();
    for number in 0..3 {
        pair.window.push_event(item(&format!("t/{number}"), 5), Some(number)).unwrap();
    }
    let (jid, load) = ret(1);
    let (taken, _told) = oneshot::channel();
    pair.window.push_return(Item::Return { load, jid: Some(jid.clone()), note: Some(9), taken });
    pair.window.push_event(item("t/last", 5), None).unwrap();
    let requests = pair.sent();
    assert_eq!(numbers(&requests), [1, 2, 3]);
    assert_eq!(content(&requests[0]).1, ["t/0", "t/1", "t/2"]);
    let settled = pair.ack(Spooled { spool: MEMORY_ID, n: 2 });
    assert_eq!(settled, Settled { notes: vec![0, 1, 2, 9], jids: vec![jid] });
    assert!(!pair.window.is_empty());
    assert!(pair.ack(Spooled { spool: MEMORY_ID, n: 3 }).notes.is_empty());
    assert!(pair.window.is_empty());
}

#[test]
fn a_batch_stays_within_its_limits() {
    let mut pair = Pair::in_memory();
    for _ in 0..1500 {
        pair.window.push_event(item("t", 1), None).unwrap();
    }
    let sizes: Vec<usize> = pair.sent().iter().map(|request| content(request).1.len()).collect();
    assert!(sizes.iter().all(|size| *size <= event::MAX_EVENTS), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 1500);
    let mut pair = Pair::in_memory();
    (0..8).for_each(|_| pair.window.push_event(item("t", 30_000), None).unwrap());
    assert_eq!(pair.sent().len(), 4);
}

#[test]
fn only_what_is_not_acknowledged_is_sent_again() {
    let mut pair = Pair::in_memory();
    (0..4).for_each(|_| pair.fire("t", 50_000));
    let first = pair.sent();
    assert_eq!(numbers(&first), [1, 2, 3, 4]);
    pair.ack(Spooled { spool: MEMORY_ID, n: 2 });
    assert!(pair.sent().is_empty());
    pair.window.rewind();
    assert_eq!(pair.sent(), first[2..]);
}

#[test]
fn an_answer_that_comes_after_a_new_connection_began_does_no_harm() {
    let mut pair = Pair::in_memory();
    pair.window.push_event(item("t/1", 5), None).unwrap();
    let exchange = pair.window.exchange(Flow::On).unwrap();
    let answer = pair.keeper.answer(exchange, pair.now, NOW_MS);
    pair.window.rewind();
    pair.window.exchanged(answer);
    assert_eq!(numbers(&pair.sent()), [1]);
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder);
    (0..300).for_each(|number| pair.put_return(number).unwrap());
    let first = pair.sent();
    assert_eq!(first.len(), WINDOW_LOADS);
    pair.ack(content(&first[9]).0);
    assert!(pair.sent().is_empty(), "half a window is read at a time");
    pair.ack(content(&first[200]).0);
    assert_eq!(pair.sent().len(), 300 - WINDOW_LOADS);
}

#[test]
fn a_large_load_goes_alone_and_is_not_asked_for_again_and_again() {
    let mut pair = Pair::in_memory();
    pair.put_return(1).unwrap();
    let (_, mut load) = ret(2);
    load.insert("return".into(), "x".repeat(3 * WINDOW_BYTES).into());
    let (taken, _told) = oneshot::channel();
    pair.window.push_return(Item::Return { load, jid: None, note: None, taken });
    assert_eq!(numbers(&pair.sent()), [1]);
    assert!(pair.window.exchange(Flow::On).is_none());
    pair.ack(Spooled { spool: MEMORY_ID, n: 1 });
    assert_eq!(numbers(&pair.sent()), [2]);
}

#[test]
fn a_full_spool_drops_the_oldest_event_and_leaves_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: 1_000_000, ..Limits::default() };
    let mut pair = Pair::at(Place { limits, ..place(&folder) }).away();
    pair.put_return(1).unwrap();
    pair.window.push_event(item("t/waited", 400_000), Some(1)).unwrap();
    pair.crank();
    (0..3).for_each(|number| pair.fire(&format!("t/{number}"), 300_000));
    assert_eq!(pair.refused, [1], "whoever waited is told");
    let drained = pair.drain();
    assert_eq!(tags(&drained)[1..], ["t/0", "t/1", "t/2"]);
    assert_eq!(drained.iter().map(|(at, _)| at.n).collect::<Vec<_>>(), [1, 3, 4, 5]);
}

#[test]
fn what_may_be_under_way_is_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: 500_000, ..Limits::default() };
    let mut pair = Pair::at(Place { limits, ..place(&folder) });
    pair.fire("t/sent", 300_000);
    let sent = pair.sent();
    pair.fire("t/2", 300_000);
    assert!(pair.refused.is_empty());
    pair.ack(content(&sent[0]).0);
    assert_eq!(pair.sent().len(), 0, "the second one was dropped in its stead");
}

#[test]
fn old_events_go_and_returns_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder).away();
    pair.fire("t/old", 5);
    pair.put_return(1).unwrap();
    pair.now_ms += 7 * 86_400_000 + 1;
    pair.fire("t/new", 5);
    assert_eq!(pair.drain().iter().map(|(at, _)| at.n).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn returns_have_room_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder).away();
    let put = |pair: &mut Pair, bytes: usize| {
        let (_, mut load) = ret(1);
        load.insert("return".into(), "x".repeat(bytes).into());
        let (taken, mut told) = oneshot::channel();
        pair.window.push_return(Item::Return { load, jid: None, note: None, taken });
        pair.crank();
        told.try_recv().unwrap()
    };
    assert_eq!(put(&mut pair, 9 << 20), Ok(()));
    assert_eq!(put(&mut pair, 9 << 20), Err(SpoolError::Full));
    assert_eq!(put(&mut pair, 17 << 20), Err(SpoolError::TooLarge));
    assert_eq!(put(&mut pair, 1), Ok(()));
    let (taken, mut told) = oneshot::channel();
    pair.window.push_return(Item::Return { load: map! { "jid" => "1" }, jid: None, note: None, taken });
    pair.crank();
    assert_eq!(told.try_recv().unwrap(), Err(SpoolError::BadReturn));
}

#[test]
fn what_the_disk_cannot_take_in_time_is_refused_and_counted() {
    let mut pair = Pair::in_memory();
    pair.window.push_event(item("t/1", 700_000), None).unwrap();
    let full = Err((SpoolError::Full, None));
    assert_eq!(pair.window.push_event(item("t/2", 700_000), None), full);
    assert_eq!(pair.window.push_event(item("t/3", MAX_LOAD), Some(3)), Err((SpoolError::TooLarge, Some(3))));
    assert_eq!(numbers(&pair.sent()), [2], "the first number is missing");
}

#[test]
fn another_spools_acknowledgement_does_nothing() {
    let mut pair = Pair::in_memory();
    pair.fire("t", 1);
    pair.sent();
    pair.ack(Spooled { spool: [8; 16], n: 1 });
    assert!(!pair.window.is_empty());
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_keeps_every_number() {
    let folder = tempfile::tempdir().unwrap();
    // Stored, never sent.
    let mut pair = Pair::on_disk(&folder).away();
    (0..3).for_each(|number| pair.fire(&format!("t/{number}"), 5));
    pair.put_return(1).unwrap();
    drop(pair);
    // Sent, not acknowledged.
    let mut pair = Pair::on_disk(&folder);
    pair.fire("t/3", 5);
    let first = pair.sent();
    assert_eq!(numbers(&first), [1, 2, 3, 4, 5]);
    drop(pair);
    // Acknowledged, which the keeper has not heard.
    let mut pair = Pair::on_disk(&folder);
    assert_eq!(pair.sent(), first);
    pair.window.ack(content(&first[1]).0);
    drop(pair);
    // Acknowledged and forgotten.
    let mut pair = Pair::on_disk(&folder);
    assert_eq!(pair.sent(), first);
    pair.ack(content(&first[4]).0);
    drop(pair);
    let mut pair = Pair::on_disk(&folder);
    assert!(pair.sent().is_empty() && pair.window.is_empty());
    pair.fire("t/4", 5);
    let (at, tags) = content(&pair.sent()[0]);
    assert_eq!((at, tags), (Spooled { n: 6, ..content(&first[0]).0 }, vec!["t/4".to_owned()]));
}

#[test]
fn the_jobs_whose_returns_are_on_their_way_are_known_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder).away();
    pair.put_return(1).unwrap();
    drop(pair);
    let (_, jids) = Keeper::on_disk(place(&folder), MEMORY_ID, Instant::now());
    assert_eq!(jids, [ret(1).0]);
}

#[test]
fn after_a_boot_new_loads_go_under_a_new_id_behind_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder).away();
    (0..2).for_each(|number| pair.fire(&format!("t/{number}"), 5));
    drop(pair);
    let mut pair = Pair::at(Place { boot: "boot-2".into(), ..place(&folder) });
    pair.fire("t/2", 5);
    let drained = pair.drain();
    assert_eq!(tags(&drained), ["t/0", "t/1", "t/2"]);
    assert_eq!(drained.iter().map(|(at, _)| at.n).collect::<Vec<_>>(), [1, 2, 1]);
    assert_ne!(drained[0].0.spool, drained[2].0.spool);
}

#[test]
fn what_is_dropped_of_an_earlier_id_shows_in_the_present_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder).away();
    (0..2).for_each(|_| pair.fire("t/old", 5));
    drop(pair);
    let mut pair = Pair::at(Place { boot: "boot-2".into(), ..place(&folder) }).away();
    pair.now_ms += 7 * 86_400_000 + 1;
    pair.fire("t/1", 5);
    pair.fire("t/2", 5);
    assert_eq!(pair.drain().iter().map(|(at, _)| at.n).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn a_disk_that_cannot_be_written_makes_a_spool_in_memory_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    drop(Pair::on_disk(&folder));
    let file = rusqlite::Connection::open(place(&folder).path).unwrap();
    // The second and the third load cannot be written at first, as if the disk were full.
    let full = "CREATE TRIGGER full BEFORE INSERT ON loads WHEN NEW.seq IN (2, 3) AND NEW.n = 2 AND NEW.jid IS NULL
        AND NEW.spool <> x'07070707070707070707070707070707' BEGIN SELECT RAISE(FAIL, 'full'); END";
    file.execute_batch(full).unwrap();
    drop(file);
    let mut pair = Pair::on_disk(&folder).away();
    pair.fire("t/0", 5);
    pair.fire("t/1", 5);
    pair.fire("t/2", 5);
    assert!(pair.keeper.due().is_some(), "it is tried again");
    pair.now += Duration::from_secs(60);
    pair.keeper.tend(pair.now, NOW_MS);
    assert_eq!(pair.keeper.due(), None, "it is on the disk for good");
    pair.fire("t/3", 5);
    drop(pair);
    let mut pair = Pair::on_disk(&folder);
    let drained = pair.drain();
    assert_eq!(tags(&drained), ["t/0", "t/1", "t/2", "t/3"]);
    let places: Vec<_> = drained.iter().map(|(at, _)| (at.spool == MEMORY_ID, at.n)).collect();
    assert_eq!(places, [(false, 1), (true, 1), (true, 2), (false, 2)]);
}

#[test]
fn a_folder_that_cannot_be_made_does_not_keep_events_from_the_master() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let path = folder.path().join("file/spool.db");
    let mut pair = Pair::at(Place { path, ..place(&folder) });
    pair.fire("t/1", 5);
    assert_eq!(content(&pair.sent()[0]).0, Spooled { spool: MEMORY_ID, n: 1 });
    // The folder appears, with what an earlier process left.
    std::fs::remove_file(folder.path().join("file")).unwrap();
    let path = folder.path().join("file/spool.db");
    let mut earlier = Pair::at(Place { path, ..place(&folder) }).away();
    earlier.fire("t/earlier", 5);
    drop(earlier);
    pair.now += Duration::from_secs(60);
    pair.fire("t/2", 5);
    let drained = pair.drain();
    // Each under an id of its own: the master takes none for another.
    assert_eq!(tags(&drained), ["t/2", "t/earlier"]);
    assert_ne!(drained[0].0.spool, drained[1].0.spool);
}

#[test]
fn a_second_daemon_does_not_number_in_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Pair::on_disk(&folder);
    let mut second = Pair::on_disk(&folder);
    first.fire("t/1", 5);
    second.fire("t/2", 5);
    let spools = [&mut first, &mut second].map(|pair| content(&pair.sent()[0]).0.spool == MEMORY_ID);
    assert_eq!(spools, [false, true]);
}

#[test]
fn a_damaged_file_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(place(&folder).path, "x".repeat(8192)).unwrap();
    let mut pair = Pair::on_disk(&folder);
    pair.fire("t/1", 5);
    assert_ne!(content(&pair.sent()[0]).0.spool, MEMORY_ID, "it is on the disk");
    assert!(folder.path().join("spool.db.damaged").exists());
}

#[test]
fn an_acknowledged_event_needs_no_fsync_and_an_empty_file_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::on_disk(&folder);
    (0..40).for_each(|_| pair.fire("t", 60_000));
    assert!(pair.keeper.due().is_some());
    pair.drain();
    assert_eq!(pair.keeper.due(), None);
    drop(pair);
    let size = std::fs::metadata(place(&folder).path).unwrap().len();
    assert!(size < 300_000, "{size} bytes");
}
