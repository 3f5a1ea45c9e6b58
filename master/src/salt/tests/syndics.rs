//! What a syndic may say for the minions of the master below it, and who else may not.

use super::*;
use crate::jobs::{Membership, Verdict};

const OTHER: &str = "20260101000000000000";

/// Returns a master for which `low` speaks, and `low`.
async fn with_syndic() -> (Master, Minion) {
    let master = Master::start().await;
    master.jobs.set_syndics(Some(syndics()));
    let low = Minion::accepted(&master, "low", 1).await;
    (master, low)
}

fn syndics() -> SyndicsConfig {
    let seconds = Duration::from_secs;
    SyndicsConfig { ids: vec![proto::target::glob::Glob::new("low*")], timeout: seconds(7), wait: seconds(3) }
}

/// What Salt's syndic sends of a job: these returns.
fn entry(jid: &str, returns: &[(&str, Value)]) -> Map {
    let ret = |value: &Value| map! { "return" => value.clone(), "retcode" => 0, "success" => true };
    let returns: Map = returns.iter().map(|(id, value)| (Value::from(*id), Value::from(ret(value)))).collect();
    map! { "id" => "low", "jid" => jid, "fun" => "test.ping", "arg" => vec![1], "tgt" => "*", "tgt_type" => "glob",
    "load" => Value::Null, "return" => returns }
}

fn load(entries: Vec<Map>) -> Map {
    map! { "cmd" => "_syndic_return", "load" => entries }
}

fn tag(jid: &str, id: &str) -> String {
    format!("salt/job/{jid}/ret/{id}")
}

async fn minions_of(master: &Master, jid: &str) -> String {
    let job = master.jobs.show(proto::ids::Jid::parse(jid).unwrap()).await.unwrap().expect("there is such a job");
    let ids = |value: Option<&Value>| match value {
        Some(Value::List(ids)) => ids.iter().map(Value::to_key).collect::<Vec<_>>().join(" "),
        Some(Value::Map(map)) => map.keys().map(Value::to_key).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    };
    format!("{} returned {}", ids(job.at("Minions")), ids(job.at("Result")))
}

#[tokio::test]
async fn a_syndics_minions_return_as_if_they_were_here() {
    let (master, mut low) = with_syndic().await;
    let jid = master.publish("*").await.jid.to_string();
    let sent = load(vec![entry(&jid, &[("web1", true.into()), ("web2", "odd".into())])]);
    assert_eq!(low.request(sent.clone()).await, Value::Null);
    assert_eq!(low.request(sent).await, Value::Null, "what came is acknowledged again");
    let ret = master.event(&tag(&jid, "web1")).await;
    let whole = map! { "jid" => jid.as_str(), "id" => "web1", "return" => true, "retcode" => 0, "success" => true,
    "fun" => "test.ping", "fun_args" => vec![1] };
    let mut ret = ret;
    ret.take("_stamp");
    assert_eq!(ret, whole, "neither marked nor changed");
    assert_eq!((master.count(&tag(&jid, "web1")).await, master.count(&tag(&jid, "web2")).await), (1, 1));
    assert_eq!(minions_of(&master, &jid).await, "low returned web1 web2");
}

#[tokio::test]
async fn who_is_not_named_gets_no_reply_until_it_is() {
    let master = Master::start().await;
    let mut low = Minion::accepted(&master, "low", 1).await;
    let sent = load(vec![entry(OTHER, &[("web1", true.into())])]);
    let (nonce, payload) = low.seal(sent);
    for _ in 0..11 {
        assert_eq!(low.ask(payload.clone()).await, None, "it is to send it again");
        low.link = connect(&master.requests, SocketType::Req).await;
    }
    let mut other = syndics();
    other.ids = vec![proto::target::glob::Glob::new("high")];
    master.jobs.set_syndics(Some(other));
    assert_eq!(low.ask(payload.clone()).await, None);
    low.link = connect(&master.requests, SocketType::Req).await;
    assert_eq!(master.count(&tag(OTHER, "web1")).await, 0);
    let denied = master.event("halite/minion/low/denied").await;
    assert_eq!((denied.text("tag"), denied.at("denied")), (Some(tag(OTHER, "web1").as_str()), Some(&1.into())));
    assert_eq!(master.count("halite/minion/low/denied").await, 2, "the first and the tenth");
    master.jobs.set_syndics(Some(syndics()));
    let reply = low.ask(payload).await.unwrap();
    assert_eq!(open_reply(low.session(), &nonce, &reply).unwrap().into_inner(), Value::Null);
    assert_eq!(master.count(&tag(OTHER, "web1")).await, 1, "nothing was lost");
}

#[tokio::test]
async fn who_has_a_key_here_speaks_for_itself() {
    let (master, mut low) = with_syndic().await;
    let _db = Minion::accepted(&master, "db1", 2).await;
    master.keys.judge(&MinionId::parse("out").unwrap(), &proto::keys::PublicKey::X25519([7; 32]), None).await;
    master.act("reject", "out").await;
    // Anybody can have a pending key.
    master.keys.judge(&MinionId::parse("asks").unwrap(), &proto::keys::PublicKey::X25519([8; 32]), None).await;
    let said: Vec<(&str, Value)> =
        ["db1", "out", "../../x", "", ".hid", "low", "asks", "web1"].map(|id| (id, true.into())).into();
    assert_eq!(low.request(load(vec![entry(OTHER, &said)])).await, Value::Null);
    let tags = master.tags().await;
    let took: Vec<&str> = tags.iter().filter_map(|taken| taken.strip_prefix(&tag(OTHER, ""))).collect();
    assert_eq!(took, ["low", "asks", "web1"], "its own is the minion beside it");
    let denied = master.event("halite/minion/low/denied").await;
    assert_eq!(denied.text("tag"), Some(tag(OTHER, "db1").as_str()));
}

#[tokio::test]
async fn a_damaged_entry_takes_no_other_with_it() {
    let (master, mut low) = with_syndic().await;
    let without = |name: &str| {
        let mut damaged = entry(OTHER, &[("lost", true.into())]);
        damaged.take(name);
        Value::from(damaged)
    };
    let mut odd = entry(OTHER, &[]);
    odd.set("return", map! { "lost" => 5 });
    let mut alone = entry("req", &[("lost", true.into())]);
    alone.set("load", vec![1]);
    let good = entry(OTHER, &[("web1", true.into())]);
    let twice = entry(OTHER, &[("web1", false.into())]);
    let entries = [without("jid"), without("id"), without("return"), Value::Null, 7.into(), odd.into(), alone.into()];
    let entries: Vec<Value> = entries.into_iter().chain([good.into(), twice.into()]).collect();
    assert_eq!(low.request(map! { "cmd" => "_syndic_return", "load" => entries }).await, Value::Null);
    for nothing in [Value::Null, 5.into(), Vec::<Value>::new().into()] {
        assert_eq!(low.request(map! { "cmd" => "_syndic_return", "load" => nothing }).await, Value::Null);
    }
    let mut old = entry("20260101000000000001", &[("web1", true.into())]);
    old.set("cmd", "_syndic_return");
    assert_eq!(low.request(old).await, Value::Null);
    let tags = master.tags().await;
    let returns: Vec<&String> = tags.iter().filter(|tag| tag.contains("/ret/")).collect();
    assert_eq!(returns, [&tag(OTHER, "web1"), &tag("20260101000000000001", "web1")], "an old syndic is understood too");
    assert_eq!(master.event(&tag(OTHER, "web1")).await.at("return"), Some(&true.into()), "the first counts");
}

#[tokio::test]
async fn a_large_load_is_logged_in_pieces_and_each_return_once() {
    const RETURNS: usize = 2_500;
    let (master, mut low) = with_syndic().await;
    let jid = master.publish("*").await.jid.to_string();
    let ids: Vec<String> = (0..RETURNS).map(|number| format!("w{number}")).collect();
    let said: Vec<(&str, Value)> = ids.iter().map(|id| (id.as_str(), "x".repeat(1_000).into())).collect();
    let before = master.bus.head();
    for _ in 0..2 {
        assert_eq!(low.request(load(vec![entry(&jid, &said)])).await, Value::Null);
    }
    assert_eq!(master.bus.head() - before, RETURNS as u64);
    let tags: std::collections::HashSet<String> = master.tags().await.into_iter().collect();
    assert!(ids.iter().all(|id| tags.contains(&tag(&jid, id))));
}

#[tokio::test]
async fn what_cannot_be_logged_is_not_acknowledged_and_may_come_again() {
    let (master, mut low) = with_syndic().await;
    let jid = master.publish("*").await.jid;
    master.watch.send_replace(true);
    let marker = proto::tag::Tag::parse("test/marker").unwrap();
    while master.bus.fire(marker.clone(), &Map::new()).await.is_ok() {}
    let (_, payload) = low.seal(load(vec![entry(jid.as_str(), &[("web1", true.into()), ("web2", true.into())])]));
    assert_eq!(low.ask(payload).await, None);
    for id in ["web1", "web2"].map(|id| MinionId::parse(id).unwrap()) {
        let verdict = master.jobs.admit(&id, jid.as_str(), Membership::Syndic).await.unwrap();
        assert_eq!(verdict, Verdict::Accept(jid.clone()), "{id}");
    }
}

#[tokio::test]
async fn a_syndic_names_the_minions_of_a_job_and_is_not_waited_for() {
    let (master, mut low) = with_syndic().await;
    let _db = Minion::accepted(&master, "db1", 2).await;
    let published = master.publish("*").await;
    assert_eq!(published.syndic_wait, Some(Duration::from_secs(3)));
    let jid = published.jid.to_string();
    assert_eq!(minions_of(&master, &jid).await, "db1 low returned ");
    let new = map! { "jid" => jid.as_str(), "fun" => "test.ping", "minions" => vec!["web1", "db1", "../x"], "missing" => Vec::<Value>::new() };
    let item = map! { "tag" => format!("salt/job/{jid}/new"), "data" => new };
    let below = map! { "cmd" => "_minion_event", "pretag" => "syndic/low", "events" => vec![item] };
    assert_eq!(low.request(below.clone()).await, Value::Null);
    assert_eq!(minions_of(&master, &jid).await, "db1 web1 returned ");
    let named = master.event(&format!("halite/job/{jid}/syndic/low")).await;
    assert_eq!((named.at("minions"), named.text("syndic")), (Some(&vec!["web1"].into()), Some("low")));
    let active = master.jobs.active().await.unwrap();
    let owing = active.at(&jid).and_then(|job| job.get("Away")).cloned();
    assert_eq!(owing, Some(vec!["db1", "web1"].into()));
    assert_eq!(master.count(&format!("salt/job/{jid}/new")).await, 1, "that one is the master's own");
    assert_eq!(master.count("halite/minion/low/denied").await, 0, "it is how Salt's syndics tell it");
    let ids =
        |published: crate::command::Published| published.minions.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids(master.publish("*").await), ["db1"], "it is known for what it is");
    let beside = map! { "jid" => jid.as_str(), "minions" => vec!["low"] };
    let item = map! { "tag" => format!("salt/job/{jid}/new"), "data" => beside };
    low.request(map! { "cmd" => "_minion_event", "pretag" => "syndic/low", "events" => vec![item] }).await;
    assert_eq!(ids(master.publish("*").await), ["db1", "low"], "there is a minion beside it");
    // Who is no syndic names nobody.
    let mut db = Minion::connect(&master, "db1", 2).await;
    db.auth().await;
    assert_eq!(db.request(below).await, Value::Null);
    assert_eq!(master.count(&format!("halite/job/{jid}/syndic/db1")).await, 0);
}

#[tokio::test]
async fn what_happens_below_is_told_under_the_syndics_name() {
    let (master, mut low) = with_syndic().await;
    let _db = Minion::accepted(&master, "db1", 2).await;
    let item = |tag: &str, id: &str| Value::from(map! { "tag" => tag, "data" => map! { "id" => id, "x" => 1 } });
    let events = vec![
        item("salt/beacon/web1/load/", "web1"),
        item("salt/beacon/db1/load/", "db1"),
        item("salt/key", "web1"),
        item("myco/x", "web1"),
        item("myco/y", "db1"),
    ];
    let below = map! { "cmd" => "_minion_event", "pretag" => "syndic/low", "events" => events };
    assert_eq!(low.request(below).await, Value::Null);
    let tags = master.tags().await;
    let own: Vec<&str> = tags
        .iter()
        .map(String::as_str)
        .filter(|tag| tag.starts_with("salt/beacon") || tag.starts_with("myco/"))
        .collect();
    assert_eq!(own, ["salt/beacon/web1/load/", "myco/x", "myco/y"], "a beacon of db1 comes from db1");
    assert_eq!(tags.iter().filter(|tag| tag.starts_with("syndic/low/")).count(), 5);
    assert_eq!(tags.iter().filter(|tag| *tag == "salt/key").count(), 2, "both are the master's own");
    assert_eq!(master.event("syndic/low/salt/beacon/db1/load/").await.text("id"), Some("db1"));
    assert_eq!(master.event("myco/x").await.text("id"), Some("web1"));
    assert_eq!(master.event("myco/y").await.text("id"), Some("low"), "it does not speak for db1");
    for (tag, count) in [("salt/syndic/low/start", 1), ("salt/syndic/low2/start", 0)] {
        let start =
            map! { "cmd" => "_minion_event", "tag" => tag, "data" => "Syndic low started", "pretag" => Value::Null };
        assert_eq!(low.request(start).await, Value::Null);
        assert_eq!(master.count(tag).await, count);
    }
    // A prefix that is another's is not taken for its own.
    let forged = map! { "cmd" => "_minion_event", "pretag" => "syndic/high", "events" => vec![item("salt/key", "x")] };
    low.request(forged).await;
    assert!(!master.tags().await.iter().any(|tag| tag.starts_with("syndic/high")));
}

#[tokio::test]
async fn a_job_of_the_master_below_is_known_by_its_load() {
    let (master, mut low) = with_syndic().await;
    let mut said = entry(OTHER, &[("web1", true.into())]);
    said.set("load", map! { "fun" => "test.ping", "tgt" => "web*", "tgt_type" => "glob", "user" => "root", "arg" => Vec::<Value>::new(),
    "Minions" => vec!["web1", "web2"] });
    assert_eq!(low.request(load(vec![said.clone()])).await, Value::Null);
    assert_eq!(minions_of(&master, OTHER).await, "web1 web2 returned web1");
    let job = master.jobs.show(proto::ids::Jid::parse(OTHER).unwrap()).await.unwrap().unwrap();
    assert_eq!((job.text("Target"), job.text("Syndic")), (Some("web*"), Some("low")));
    // What it says of the master's own jobs changes nothing.
    let jid = master.publish("*").await.jid.to_string();
    said.set("jid", jid.as_str());
    assert_eq!(low.request(load(vec![said])).await, Value::Null);
    let job = master.jobs.show(proto::ids::Jid::parse(&jid).unwrap()).await.unwrap().unwrap();
    assert_eq!((job.text("Target"), job.at("Syndic")), (Some("*"), None));
}

#[tokio::test]
async fn syndics_hear_what_may_be_for_their_minions() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let master = Master::start_with(dir, |config| config.filtering = true).await;
    let nobody = |target: &str| master.jobs.publish("root", master.ping(target));
    assert!(nobody("web*").await.is_err());
    master.jobs.set_syndics(Some(syndics()));
    assert!(nobody("web*").await.is_err(), "no syndic is accepted");
    let low = Minion::accepted(&master, "low", 1).await;
    let _db = Minion::accepted(&master, "db1", 2).await;
    let mut sub = connect(&master.publications, SocketType::Sub).await;
    for wanted in [proto::salt::publish::BROADCAST, proto::salt::publish::SYNDIC] {
        sub.subscribe(wanted.as_bytes()).unwrap();
    }
    let subscribers = &master.salt.inner.subscribers;
    tokio::select! { () = wait_for(|| subscribers.topics() == 2) => {}, heard = sub.recv() => panic!("{heard:?}") }
    let list = |ids: &[&str]| {
        let target = TargetText { tgt: ids.to_vec().into(), tgt_type: "list".into(), delimiter: None };
        master.jobs.publish("root", PublishRequest { target, ..master.ping("*") })
    };
    assert_eq!(list(&["db1"]).await.unwrap().syndic_wait, None, "all of them are here");
    let first = nobody("web*").await.unwrap();
    assert_eq!((first.minions.len(), first.was_before()), (0, false));
    let second = list(&["db1", "web1"]).await.unwrap();
    assert_eq!(second.missing, ["web1"]);
    let target = TargetText { tgt: "os:Debian".into(), tgt_type: "grain".into(), delimiter: None };
    let third = master.jobs.publish("root", PublishRequest { target, ..master.ping("*") }).await.unwrap();
    let mut ear = Ear::new(low.credentials.unwrap().shared, None);
    for (job, topic) in [(first, "syndic"), (second, "syndic"), (third, "broadcast")] {
        let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("nothing was published") };
        assert_eq!(frames[0], topic.as_bytes());
        let load = ear.open(&frames[1]).unwrap().into_inner();
        assert_eq!((load.text("jid"), load.at("to")), (Some(job.jid.as_str()), Some(&7.into())));
    }
}
