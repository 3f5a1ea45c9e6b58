//! A SUB may ask for what it likes: it gets its own topic, and nothing of what it says is kept.

use super::*;

/// More topics than any limit would let be kept.
const MANY: usize = 5_000;

/// Asks for topics that are not its own, and takes back others that it never asked for.
async fn flood(sub: &mut Link) {
    let sender = sub.sender();
    let asking = async {
        for number in 0..MANY {
            let topic = format!("m/web1{number}{}", "x".repeat(200));
            for kind in ["\u{1}", "\u{0}never "] {
                sender.send(Bytes::from(format!("{kind}{topic}"))).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = asking => {}
        heard = sub.recv() => panic!("{heard:?}"),
    }
    sub.flush(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_topics_changes_nothing_for_an_accepted_minion() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.open(1).await;
    let mut sub = minion.subscribe(&master).await;
    minion.subscribed(&mut sub).await;
    flood(&mut sub).await;
    // Still there, and once: the job is not multiplied by what was asked for.
    let published = master.jobs.publish("root", ping()).await.unwrap();
    assert!(published.down.is_empty());
    assert!(matches!(sub.recv().await, Ok(Incoming::Message(frames)) if &frames[0][..] == b"m/web1"));
    assert!(tokio::time::timeout(Duration::from_millis(200), sub.recv()).await.is_err(), "nothing else comes");
    // Its own topic it can take back, once and again.
    for _ in 0..2 {
        sub.unsubscribe(b"m/web1").unwrap();
    }
    sub.flush(PATIENCE).await.unwrap();
    while master.jobs.publish("root", ping()).await.unwrap().down.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stranger_is_remembered_by_its_first_topics() {
    let master = Master::start().await;
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.state().await, SessionState::Pending);
    let mut sub = minion.subscribe(&master).await;
    flood(&mut sub).await;
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
    assert!(master.jobs.publish("root", ping()).await.unwrap().down.is_empty());
    assert!(matches!(sub.recv().await, Ok(Incoming::Message(frames)) if &frames[0][..] == b"m/web1"));
}
