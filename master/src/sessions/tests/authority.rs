//! Who may fire which tag (design §4, *Authority*), rule by rule and through a real session: what is refused is
//! acknowledged, kept out of the log, counted, and told on the bus.

use super::*;

const JID: &str = "20261120235232821625";
const DENIED: &str = "halite/minion/web1/denied";

/// A master with one accepted minion, and what that minion has sent.
struct Scene {
    master: Master,
    sent: u64,
}

impl Scene {
    async fn start() -> Scene {
        let master = Master::start().await;
        drop(Minion::accepted(&master, "web1", 1).await);
        Scene { master, sent: 0 }
    }

    /// Fires tags from a connection of their own, in one load, together with one that is everybody's.
    async fn fire(&mut self, tags: &[&str]) {
        let mut minion = Minion::connect(&self.master, "web1", 1).await;
        assert_eq!(minion.state().await, SessionState::Accepted);
        self.sent += 1;
        minion.send(&events(self.sent, &[tags, &["my/tag"]].concat()));
        minion.acked(self.sent).await;
    }

    /// Returns (tag, number) of all that was told so far.
    async fn told(&self) -> Vec<(String, Value)> {
        let until = self.master.bus.fire(proto::tag::Tag::parse("test/marker").unwrap(), &Map::new()).await.unwrap();
        let mut events = self.master.bus.subscribe(EventQuery { tags: Vec::new(), since: Since::Start, until: None });
        let mut told = Vec::new();
        while let Some(event) = events.next().await.filter(|event| event.offset < until) {
            if event.tag.as_str() == DENIED {
                let data = event.map().unwrap();
                assert_eq!(data.text("id"), Some("web1"));
                told.push((data.text("tag").unwrap().to_owned(), data.at("denied").unwrap().clone()));
            }
        }
        told
    }

    async fn refused(&mut self, tag: &str) {
        let free = self.master.count("my/tag").await;
        let before = self.told().await.len();
        let known = self.master.count(tag).await;
        self.fire(&[tag]).await;
        assert_eq!(self.master.count(tag).await, known, "{tag} is not in the log");
        assert_eq!(self.master.count("my/tag").await, free + 1, "the rest of its load is");
        assert_eq!(self.told().await[before..], [(tag.to_owned(), Value::from(1))], "it is counted and told");
    }

    async fn allowed(&mut self, tag: &str) {
        let before = self.told().await.len();
        self.fire(&[tag]).await;
        assert_eq!(self.master.count(tag).await, 1, "{tag}");
        assert_eq!(self.told().await.len(), before, "{tag}");
    }
}

#[tokio::test]
async fn tags_of_another_minion_are_refused() {
    let mut scene = Scene::start().await;
    for tag in [
        "salt/beacon/web2/load/",
        "salt/beacon/web10/load/",
        "salt/minion/web2/start",
        "salt/minion/WEB1/start",
        &format!("salt/job/{JID}/prog/web2/0"),
        &format!("salt/job/{JID}/start/web2"),
        &format!("salt/job/{JID}/sub/web2"),
        &format!("salt/state_result/{JID}/web2/x"),
    ] {
        scene.refused(tag).await;
    }
}

#[tokio::test]
async fn the_masters_own_tags_are_refused() {
    let mut scene = Scene::start().await;
    for tag in [
        "salt",
        "salt/",
        "salt//web1/x",
        "salt/auth",
        "salt/key",
        "salt/presence/change",
        "salt/run/web1/ret",
        "salt/beacon/web1",
        &format!("salt/job/{JID}/new"),
        &format!("salt/job/{JID}/ret/web1"),
        &format!("salt/job/{JID}/ret/web2"),
        "halite",
        "halite/minion/web1/dropped",
        "halite/config/reloaded",
        "syndic",
        "syndic/web1/x",
        "minion/refresh/web1",
        "minion/refresh/web2",
        "key",
        JID,
    ] {
        scene.refused(tag).await;
    }
}

#[tokio::test]
async fn a_minions_own_tags_and_free_ones_are_logged() {
    let mut scene = Scene::start().await;
    for tag in [
        "minion_start",
        "salt/minion/web1/start",
        "salt/beacon/web1/load/",
        "salt/engines/hook/test",
        &format!("salt/job/{JID}/prog/web1/0"),
        &format!("salt/job/{JID}/start/web1"),
        &format!("salt/job/{JID}/sub/web1"),
        &format!("salt/state_result/{JID}/web1/x"),
        "minion/web2",
        "myco/salt/key",
        "key/of/mine",
        "saltkey",
        &format!("{JID}/x"),
    ] {
        scene.allowed(tag).await;
    }
}

/// Text that is no tag at all is refused like a foreign one.
#[tokio::test]
async fn what_is_no_tag_is_refused() {
    let mut scene = Scene::start().await;
    for tag in ["", "two\nlines", "\u{1b}[2J"] {
        scene.refused(tag).await;
    }
}

/// One refusal is told, and then every tenfold: neither silence nor a log that a minion can fill.
#[tokio::test]
async fn refusals_are_counted_and_told_by_tens() {
    let mut scene = Scene::start().await;
    scene.fire(&["salt/key"; 99]).await;
    let counts: Vec<Value> = scene.told().await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [Value::from(1), Value::from(10)]);
}
