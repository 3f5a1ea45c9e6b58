//! What a peer must not be able to do, or must not lose, at the edges of the protocol.

use super::*;

/// A connection for each of these, all without an accepted key.
async fn strangers(master: &Master, count: usize) -> Vec<Minion> {
    let mut strangers = Vec::with_capacity(count);
    for at in 0..count {
        let keys = Arc::new(CurveKeyPair::from_secret([77; 32]));
        let mut config = config(&master.requests, SocketType::Dealer, master, &keys);
        config.identity = Bytes::from(format!("stranger{}", at % 5));
        let dealer = transport::connect(&config).await.unwrap().link;
        strangers.push(Minion { id: MinionId::parse("stranger").unwrap(), keys, dealer });
    }
    strangers
}

#[tokio::test]
async fn strangers_in_all_places_keep_no_accepted_minion_out() {
    let master = Master::start().await;
    drop(Minion::accepted(&master, "web1", 1).await);
    let mut strangers = strangers(&master, MAX_LIMBO).await;
    for stranger in &mut strangers {
        stranger.state().await;
    }
    let mut another = Minion::connect(&master, "web2", 2).await;
    assert!(another.dealer.recv().await.is_err(), "there is no place left");
    let mut accepted = Minion::connect(&master, "web1", 1).await;
    assert_eq!(accepted.state().await, SessionState::Accepted);
    // Every way out gives the place back.
    drop(strangers);
    loop {
        let mut again = Minion::connect(&master, "web2", 2).await;
        if tokio::time::timeout(PATIENCE, again.dealer.recv()).await.unwrap().is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn a_large_message_of_a_stranger_is_not_buffered() {
    let master = Master::start().await;
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.state().await, SessionState::Pending);
    minion.dealer.sender().try_send(Bytes::from(vec![0xc0; LIMBO_MESSAGE + 1])).unwrap();
    assert!(minion.dealer.recv().await.is_err());
    // The limit goes with the limbo.
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let grains = Bytes::from(msgpack::encode_map(&map! { "x" => "y".repeat(2 * LIMBO_MESSAGE) }));
    minion.send(&Request::Grains { seq: 3, grains });
    assert_eq!(minion.reply().await.result, Ok(Value::Null));
}

#[tokio::test]
async fn a_sub_that_came_before_its_key_was_accepted_is_served_at_once() {
    let master = Master::start().await;
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.state().await, SessionState::Pending);
    let mut sub = minion.subscribe(&master).await;
    for topic in ["m/web2", "", "m/web10"] {
        sub.subscribe(topic.as_bytes()).unwrap();
    }
    // The subscription is on its way before the key is accepted.
    let soon = tokio::time::timeout(Duration::from_millis(200), sub.recv()).await;
    assert!(soon.is_err());
    master.accept("web1").await;
    assert_eq!(minion.state().await, SessionState::Accepted);
    minion.send(&session(1));
    let mut told = 0;
    while told < 2 {
        tokio::select! {
            push = minion.push() => told += usize::from(matches!(push, Push::Subscribed { .. } | Push::Reply(_))),
            heard = sub.recv() => panic!("{heard:?}"),
        }
    }
    master.jobs.publish("root", ping()).await.unwrap();
    let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("the publication comes") };
    assert_eq!(&frames[0][..], b"m/web1");
}

#[tokio::test]
async fn a_second_session_on_one_connection_keeps_its_sub() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    let mut sub = minion.subscribe(&master).await;
    minion.subscribed(&mut sub).await;
    minion.send(&session(1));
    minion.subscribed(&mut sub).await;
    assert_eq!(minion.reply().await.result, Ok(Value::Null));
    assert!(master.jobs.publish("root", ping()).await.unwrap().down.is_empty());
    assert!(matches!(sub.recv().await, Ok(Incoming::Message(_))));
}

#[tokio::test]
async fn a_load_that_cannot_be_read_does_not_block_its_spool() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let spool = Value::Bytes(vec![9; 16]);
    let bad = map! { "cmd" => "_minion_event", "spool" => spool, "n" => 1, "events" => "none" };
    minion.dealer.sender().try_send(Bytes::from(msgpack::encode_map(&bad))).unwrap();
    minion.acked(1).await;
    assert_eq!(master.event("halite/minion/web1/dropped").await.at("n"), Some(&Value::from(1)));
}

#[tokio::test]
async fn numbers_beyond_all_reason_do_not_stop_the_log() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    for spool in 1..=3 {
        let at = Spooled { spool: [spool; 16], n: u64::MAX };
        let item = EventItem { tag: "my/tag".into(), data: msgpack::encode_map(&Map::new()).into() };
        minion.send(&Request::MinionEvents(MinionEvents { at, events: vec![item] }));
        minion.acked(u64::MAX).await;
    }
    assert_eq!(master.count("my/tag").await, 3);
}

#[tokio::test]
async fn a_contested_session_is_still_watched_over() {
    let master = Master::start().await;
    let mut silent = Minion::accepted(&master, "web1", 1).await;
    silent.open(1).await;
    // Nobody drives the first connection, so its PING is not answered: for five seconds the second one waits.
    let mut second = Minion::connect(&master, "web1", 1).await;
    assert_eq!(second.state().await, SessionState::Accepted);
    second.send(&session(2));
    assert!(tokio::time::timeout(Duration::from_millis(500), second.dealer.recv()).await.is_err());
    master.reject("web1").await;
    // Had the master waited for the probe's end, its answer would have come first.
    assert!(second.dealer.recv().await.is_err());
}

#[tokio::test]
async fn a_dead_holder_makes_room_for_one_of_two() {
    let master = Master::start().await;
    let mut silent = Minion::accepted(&master, "web1", 1).await;
    silent.open(1).await;
    let mut rivals = [Minion::connect(&master, "web1", 1).await, Minion::connect(&master, "web1", 1).await];
    for (at, rival) in (2..).zip(&mut rivals) {
        assert_eq!(rival.state().await, SessionState::Accepted);
        rival.send(&session(at));
    }
    let [mut first, mut second] = rivals;
    // Both must be driven: whoever lost asks whether the other one lives.
    let mut replies = Vec::new();
    while replies.len() < 2 {
        let both = async {
            tokio::select! {
                push = first.push() => push,
                push = second.push() => push,
            }
        };
        let push = tokio::time::timeout(PATIENCE, both).await.expect("both are answered");
        replies.extend(as_reply(push));
    }
    let won = replies.iter().filter(|reply| reply.result.is_ok()).count();
    assert_eq!((won, replies.len()), (1, 2), "{replies:?}");
}

fn as_reply(push: Push) -> Option<Reply> {
    if let Push::Reply(reply) = push { Some(reply) } else { None }
}

#[tokio::test]
async fn strangers_do_not_fill_the_log() {
    let registry = Registry::default();
    let tells = |at: usize, state| registry.tells_auth(&MinionId::parse(&format!("m{at}")).unwrap(), state);
    let told = (0..5_000).filter(|at| tells(*at, SessionState::Full)).count();
    assert_eq!(told, 1_000);
    assert!(tells(9_999, SessionState::Accepted), "an accepted minion is always told");
}

#[tokio::test]
async fn idle_peers_without_a_key_keep_no_hello_out() {
    let master = Master::start().await;
    let config = ConnectConfig::new(&master.requests, SocketType::Req, ConnectMechanism::Null);
    let mut idle = Vec::new();
    for _ in 0..1_001 {
        idle.push(transport::connect(&config).await.unwrap().link);
    }
    assert!(idle[0].recv().await.is_err(), "the first one made room");
    let mut link = transport::connect(&config).await.unwrap().link;
    link.sender().try_send(Bytes::from(proto::message::hello::HelloRequest::current().encode())).unwrap();
    assert!(matches!(link.recv().await, Ok(Incoming::Message(_))));
}

#[test]
fn an_event_does_not_keep_a_larger_load_alive() {
    let load = Bytes::from(vec![0; 1024 * 1024]);
    let kept = super::super::spooled::detached(load.slice(..10), load.len(), 10);
    assert!(load.is_unique(), "the event has its own copy");
    assert_eq!(kept.len(), 10);
    let shared = super::super::spooled::detached(load.slice(..), load.len(), load.len());
    assert!(!load.is_unique(), "a load of events alone is shared");
    drop(shared);
}

#[tokio::test]
async fn more_missed_jobs_than_one_message_holds_still_arrive() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    for _ in 0..24 {
        let arg = vec![Value::from("x".repeat(900_000))];
        // None may expire before it was seen, however slow this machine is.
        let request = PublishRequest { arg, ttl: Some(Duration::from_secs(3_600)), ..ping() };
        master.jobs.publish("root", request).await.unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    // Each round brings a part: what was returned is not listed again.
    while seen.len() < 24 {
        let mut sub = minion.subscribe(&master).await;
        minion.subscribed(&mut sub).await;
        minion.send(&Request::JobsSince { seq: 5, serial: 0 });
        let listed = minion.reply().await.result.unwrap();
        let listed = listed.get("jobs").and_then(Value::as_list).unwrap();
        let jids: Vec<_> = listed.iter().filter_map(|job| job.get("jid").and_then(Value::as_str)).collect();
        assert!(!jids.is_empty(), "every round goes on");
        for jid in jids {
            assert!(seen.insert(jid.to_owned()));
            let n = seen.len() as u64;
            minion.send(&ret(n, jid));
            minion.acked(n).await;
        }
    }
}

#[tokio::test]
async fn two_denied_keys_of_one_id_do_not_judge_each_other_for_ever() {
    let master = Master::start().await;
    let _first = Minion::accepted(&master, "web1", 1).await;
    let mut changes = master.keys.watch_changes();
    let mut strangers = [Minion::connect(&master, "web1", 2).await, Minion::connect(&master, "web1", 3).await];
    for stranger in &mut strangers {
        assert_eq!(stranger.state().await, SessionState::Denied);
    }
    let mut told = 0;
    let listen = async {
        while changes.recv().await.is_ok() {
            told += 1;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), listen).await.is_err());
    assert_eq!(told, 2, "each key was turned away once");
}
