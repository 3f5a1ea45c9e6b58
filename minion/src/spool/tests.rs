//! The spool's window, order, acknowledgements, and what it drops.

use proto::map;
use proto::msgpack;
use proto::value::Value;

use super::*;

const ID: [u8; 16] = [7; 16];

fn event(tag: &str, bytes: usize) -> EventItem {
    EventItem { tag: tag.into(), data: msgpack::encode_map(&map! { "x" => "y".repeat(bytes) }).into() }
}

fn ret(jid: &str) -> Map {
    map! { "jid" => jid, "fun" => "test.ping", "fun_args" => Value::List(vec![]), "return" => true, "retcode" => 0 }
}

fn spool() -> Spool<u32> {
    Spool::new(ID)
}

fn sent(spool: &mut Spool<u32>) -> Vec<Request> {
    std::iter::from_fn(|| spool.next_load()).map(|load| Request::decode(&load).unwrap()).collect()
}

fn numbers(requests: &[Request]) -> Vec<u64> {
    requests
        .iter()
        .map(|request| match request {
            Request::MinionEvents(events) => events.at.n,
            Request::Return(ret) => ret.at.n,
            other => panic!("{} is not spooled", other.name()),
        })
        .collect()
}

#[test]
fn events_that_wait_together_go_as_one_load() {
    let mut spool = spool();
    for number in 0..3 {
        spool.push_event(event(&format!("t/{number}"), 5), Wish::Tell(number)).unwrap();
    }
    spool.push_return(ret("20261120235232821625"), 9).unwrap();
    spool.push_event(event("t/last", 5), Wish::Droppable).unwrap();
    let requests = sent(&mut spool);
    assert_eq!(numbers(&requests), [1, 2, 3]);
    let Request::MinionEvents(first) = &requests[0] else { panic!("events first") };
    assert_eq!(first.events.iter().map(|event| event.tag.as_str()).collect::<Vec<_>>(), ["t/0", "t/1", "t/2"]);
    assert_eq!(spool.ack(Spooled { spool: ID, n: 2 }), [0, 1, 2, 9]);
    assert!(!spool.is_empty());
    assert!(spool.ack(Spooled { spool: ID, n: 3 }).is_empty());
    assert!(spool.is_empty());
}

#[test]
fn a_batch_stays_within_its_limits() {
    let mut spool = spool();
    for _ in 0..1500 {
        spool.push_event(event("t", 1), Wish::Droppable).unwrap();
    }
    let sizes: Vec<usize> = sent(&mut spool)
        .iter()
        .map(|request| match request {
            Request::MinionEvents(events) => events.events.len(),
            _ => 0,
        })
        .collect();
    assert!(sizes.iter().all(|size| *size <= MAX_EVENTS), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 1500);
    let mut spool = self::spool();
    for _ in 0..8 {
        spool.push_event(event("t", 30_000), Wish::Droppable).unwrap();
    }
    assert_eq!(sent(&mut spool).len(), 4);
}

#[test]
fn only_what_is_not_acknowledged_is_sent_again() {
    let mut spool = spool();
    for _ in 0..4 {
        spool.push_event(event("t", 50_000), Wish::Droppable).unwrap();
    }
    let first = sent(&mut spool);
    assert_eq!(numbers(&first), [1, 2, 3, 4]);
    spool.ack(Spooled { spool: ID, n: 2 });
    assert!(sent(&mut spool).is_empty());
    spool.rewind();
    assert_eq!(sent(&mut spool), first[2..]);
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let mut spool = spool();
    for number in 0..300 {
        spool.push_return(ret("20261120235232821625"), number).unwrap();
    }
    assert_eq!(sent(&mut spool).len(), WINDOW_LOADS);
    spool.ack(Spooled { spool: ID, n: 10 });
    assert_eq!(numbers(&sent(&mut spool)).len(), 10);
}

#[test]
fn a_large_load_goes_alone() {
    let mut spool = spool();
    let mut large = ret("20261120235232821625");
    large.insert("return".into(), "x".repeat(3 * WINDOW_BYTES).into());
    spool.push_return(ret("20261120235232821624"), 1).unwrap();
    spool.push_return(large, 2).unwrap();
    assert_eq!(numbers(&sent(&mut spool)), [1]);
    spool.ack(Spooled { spool: ID, n: 1 });
    assert_eq!(numbers(&sent(&mut spool)), [2]);
}

#[test]
fn an_overflow_drops_the_oldest_event_and_leaves_a_gap() {
    let mut spool = spool();
    spool.push_event(event("t/waited", 500_000), Wish::Tell(1)).unwrap();
    spool.push_event(event("t/old", 300_000), Wish::Droppable).unwrap();
    spool.push_event(event("t/new", 400_000), Wish::Droppable).unwrap();
    assert_eq!(spool.dropped(), 1);
    let requests = sent(&mut spool);
    assert_eq!(numbers(&requests), [2, 3]);
    assert_eq!(spool.push_event(event("t/more", 10), Wish::Droppable), Ok(()));
}

#[test]
fn a_sender_that_waits_is_refused_not_dropped() {
    let mut spool = spool();
    spool.push_event(event("t/1", 700_000), Wish::Tell(1)).unwrap();
    assert_eq!(spool.push_event(event("t/2", 700_000), Wish::Tell(2)), Err(SpoolError::Full));
    assert_eq!(spool.push_event(event("t/3", 700_000), Wish::Droppable), Err(SpoolError::Full));
    assert_eq!(spool.dropped(), 1);
    // Returns have room of their own.
    assert_eq!(spool.push_return(ret("20261120235232821625"), 3), Ok(()));
    assert_eq!(spool.push_event(event("t/4", MAX_LOAD), Wish::Tell(4)), Err(SpoolError::TooLarge));
}

#[test]
fn a_return_without_its_fields_is_refused() {
    assert_eq!(spool().push_return(map! { "jid" => "1" }, 1), Err(SpoolError::BadReturn));
}

#[test]
fn another_spools_acknowledgement_does_nothing() {
    let mut spool = spool();
    spool.push_event(event("t", 1), Wish::Tell(1)).unwrap();
    sent(&mut spool);
    assert!(spool.ack(Spooled { spool: [8; 16], n: 1 }).is_empty());
    assert!(!spool.is_empty());
}
