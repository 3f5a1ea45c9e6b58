//! How long the job cache takes for a job of a whole fleet.

use std::time::{Duration, Instant};

use proto::ids::Jid;
use proto::map;
use proto::msgpack;
use proto::tag::Tag;
use proto::value::{Map, MapExt as _, Value};

use super::cache::JobCache;
use crate::bus::Event;

const JID: &str = "20261120235232821625";
/// How many events the projection takes in at a time.
const BATCH: usize = 1_000;
/// The promises for 10,000 returns, on two cores and a release build.
const STORED_WITHIN: Duration = Duration::from_secs(1);
const READ_WITHIN: Duration = Duration::from_millis(300);

fn event(offset: u64, tag: &str, data: &Map) -> Event {
    Event { offset, tag: Tag::parse(tag).unwrap(), stamp_us: 0, data: msgpack::encode_map(data).into(), durable: true }
}

/// A job and its returns, as the log has them.
fn log(returns: u64) -> Vec<Event> {
    let ids: Vec<String> = (0..returns).map(|number| format!("minion-{number:05}.example.org")).collect();
    let new = map! { "jid" => JID, "fun" => "test.ping", "arg" => Value::List(Vec::new()), "tgt" => "*",
    "tgt_type" => "glob", "user" => "root", "minions" => ids.clone(), "missing" => Value::List(Vec::new()) };
    let ret = |(number, id): (u64, &String)| {
        let data = map! { "cmd" => "_return", "id" => id.as_str(), "success" => true, "return" => true, "retcode" => 0, "jid" => JID,
        "fun" => "test.ping", "fun_args" => Value::List(Vec::new()), "user" => "root" };
        event(number + 2, &format!("salt/job/{JID}/ret/{id}"), &data)
    };
    std::iter::once(event(1, &format!("salt/job/{JID}/new"), &new)).chain((0..).zip(&ids).map(ret)).collect()
}

#[test]
fn a_log_that_was_replaced_is_taken_in_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut cache = JobCache::open(&path).unwrap();
    cache.take_in(&log(9), None).unwrap();
    assert_eq!((cache.resume(10).unwrap(), cache.resume(500).unwrap()), (11, 11));
    assert_eq!((cache.resume(9).unwrap(), cache.next_offset().unwrap()), (0, 0));
    assert_eq!(cache.resume(0).unwrap(), 0);
}

#[test]
fn a_cache_that_was_taken_away_is_not_replaced_by_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    assert!(JobCache::open_to_read(&path).is_err() && !path.exists());
    let mut cache = JobCache::open(&path).unwrap();
    cache.take_in(&log(1), None).unwrap();
    assert!(JobCache::open_to_read(&path).unwrap().show(&Jid::parse(JID).unwrap()).unwrap().is_some());
}

#[test]
fn a_job_keeps_its_returners_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = JobCache::open(&folder.path().join("jobs.db")).unwrap();
    let jid = Jid::parse(JID).unwrap();
    let load = |ret: &str| {
        map! { "fun" => "test.ping", "arg" => Value::List(Vec::new()), "tgt" => "*", "jid" => JID, "ret" => ret,
        "tgt_type" => "glob", "user" => "root" }
    };
    let mut published = load("redis,slack");
    published.set("module_executors", vec!["direct_call"]);
    let publish = event(2, &format!("salt/job/{JID}/publish"), &published);
    cache.take_in(&[log(1), vec![publish]].concat()[..], None).unwrap();
    let shown = cache.show(&jid).unwrap().unwrap();
    assert_eq!(shown.at("Returners"), Some(&"redis,slack".into()));
    cache.remember(&jid, 1, u64::MAX >> 1).unwrap();
    let row = cache.live(0).unwrap().pop().unwrap();
    assert_eq!(super::task::publication(msgpack::decode_map(&row.load).unwrap()), published);

    let mut plain = JobCache::open(&folder.path().join("other.db")).unwrap();
    plain.take_in(&[log(1), vec![event(2, &format!("salt/job/{JID}/publish"), &load(""))]].concat(), None).unwrap();
    assert_eq!(plain.show(&jid).unwrap().unwrap().at("Returners"), None);
}

#[test]
fn the_returns_of_a_whole_fleet_are_stored_and_read_back_quickly() {
    let is_slow = std::env::var_os("RUN_SLOW_TESTS").is_some();
    let returns = if is_slow { 10_000 } else { 1_000 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut cache = JobCache::open(&path).unwrap();
    let events = log(returns);
    let began = Instant::now();
    events.chunks(BATCH).for_each(|batch| cache.take_in(batch, None).unwrap());
    let stored = began.elapsed();
    let began = Instant::now();
    let shown = JobCache::open(&path).unwrap().show(&Jid::parse(JID).unwrap()).unwrap().unwrap();
    let shown = Value::from(shown).to_json();
    let text = shown.to_string();
    let read = began.elapsed();
    assert_eq!(shown["Result"].as_object().unwrap().len() as u64, returns);
    eprintln!("{returns} returns: stored in {stored:?}, read back in {read:?} ({} bytes of JSON)", text.len());
    if is_slow && cfg!(not(debug_assertions)) {
        assert!(stored <= STORED_WITHIN && read <= READ_WITHIN, "stored in {stored:?}, read back in {read:?}");
    }
}
