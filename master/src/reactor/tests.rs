//! What `reactor` promises, tested.

mod recorded;

use std::path::Path;

use proto::map;
use proto::value::MapExt;
use render::yaml::{self, Source};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::bus::Subscription;
use crate::command::{Caller, Command, CommandError, Origin, PublishRequest};
use crate::fileserver::Roots;
use crate::runners::fake::{self, Asked, FakeDoor, json};

/// The files of the recording, and the seeds' as they are printed.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/reactor/testdata");

fn rules(conf: &str) -> (Vec<ReactorEntry>, Vec<yaml::Warning>) {
    let (value, marks) = yaml::load_marked(conf, &Source { name: "reactor.conf" }).unwrap();
    yaml::pair_reactor(value.get("reactor").unwrap(), "reactor.conf", &marks).unwrap()
}

fn config(folder: &Path, conf: &str) -> ReactorConfig {
    ReactorConfig {
        rules: rules(conf).0,
        file_roots: Arc::new(Roots::base(vec![Path::new(DATA).join("salt"), Path::new(DATA).join("seeds/000")])),
        max_age: Duration::from_secs(600),
        guards: GuardsConfig::default(),
        path: folder.join("reactor.db"),
        opts: map! { "id" => "vm_master" },
    }
}

/// Plans what an event sets off, without any part running.
fn planned(conf: &str, tag: &str, data: &Map) -> (Vec<Command>, plan::Plan) {
    let loaded = Loaded::new(config(Path::new("/nonexistent"), conf), Vec::new());
    let tag = Tag::parse(tag).unwrap();
    let steps: Vec<rules::Step> = loaded.rules.matching(tag.as_str()).flat_map(|rule| rule.steps()).collect();
    let plan = plan::plan(&loaded, &mut Files::default(), &steps, &tag, data);
    (plan.chunks.iter().map(|chunk| reactions::build(chunk, "").unwrap().command).collect(), plan)
}

/// A reactor that runs, with a bus and a door of its own.
struct Rig {
    folder: TempDir,
    bus: Bus,
    door: FakeDoor,
    asked: Asked,
    running: Option<(CancellationToken, JoinHandle<Result<(), RunError>>)>,
    _bus_stop: watch::Sender<bool>,
}

impl Rig {
    /// Makes everything but the reactor.
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let (bus, bus_stop) = fake::bus(folder.path());
        let (door, asked) = FakeDoor::new(bus.clone());
        Rig { folder, bus, door, asked, running: None, _bus_stop: bus_stop }
    }

    /// Starts the reactor with one-line files: tag, then what the file says.
    fn start(&mut self, rules: &[(&str, &str)], max_age: Duration) -> Reactor {
        let config = ReactorConfig { max_age, ..self.config(rules) };
        self.start_with(config)
    }

    fn start_with(&mut self, config: ReactorConfig) -> Reactor {
        let (reactor, task) = Reactor::open(config, self.bus.clone(), self.door.clone()).unwrap();
        let stop = CancellationToken::new();
        self.running = Some((stop.clone(), tokio::spawn(task.run(stop))));
        reactor
    }

    fn config(&self, rules: &[(&str, &str)]) -> ReactorConfig {
        let mut conf = "reactor:\n".to_owned();
        for (index, (tag, text)) in rules.iter().enumerate() {
            let file = self.folder.path().join(format!("{index}.sls"));
            std::fs::write(&file, text).unwrap();
            conf += &format!("  - '{tag}': ['{}']\n", file.display());
        }
        if rules.is_empty() {
            conf += "  []\n";
        }
        config(self.folder.path(), &conf)
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    /// Ends the reactor as a crash does: nothing is finished.
    async fn crash(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    async fn fire(&self, tag: &str) {
        self.bus.fire(Tag::parse(tag).unwrap(), &map! { "id" => "m1" }).await.unwrap();
    }

    /// Returns the next job that was asked for.
    async fn job(&mut self) -> (Caller, PublishRequest) {
        match self.asked.next().await {
            (caller, Command::Publish(job)) => (caller, job),
            other => panic!("{other:?}"),
        }
    }

    fn reports(&self, what: &str) -> Subscription {
        fake::events(&self.bus, &format!("halite/reactor/{what}"))
    }
}

const PING: &str = "a: {local.test.ping: [{tgt: \"{{ tag }}\"}]}";
const AGE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn an_event_becomes_a_job_of_the_masters_user() {
    let mut rig = Rig::new();
    rig.start(&[("a/*", PING)], AGE);
    rig.fire("b/1").await;
    rig.fire("a/1").await;
    let (caller, job) = rig.job().await;
    assert_eq!((job.target.tgt, job.fun), ("a/1".into(), "test.ping".into()));
    assert!(job.jid.is_some());
    assert_ne!(caller.user, "Reactor");
    assert_eq!(caller.origin, Origin::Reactor { depth: 1 });
    rig.stop().await;
}

#[tokio::test]
async fn runners_run_as_reactor_and_set_nothing_off() {
    let mut rig = Rig::new();
    rig.start(&[("a", "x: {runner.test.arg: [{k: 1}]}"), ("salt/run/*", PING), ("z", PING)], AGE);
    rig.fire("a").await;
    let (caller, command) = rig.asked.next().await;
    assert_eq!(caller, Caller { user: "Reactor".into(), origin: Origin::Reactor { depth: 1 } });
    assert_eq!(command, Command::Run { fun: "test.arg".into(), arg: vec![], kwarg: map! { "k" => 1 }, jid: None });
    let mut runs = fake::events(&rig.bus, "salt/run/*/ret");
    assert_eq!(fake::next(&mut runs).await.1.text("user"), Some("Reactor"));
    rig.fire("z").await;
    assert_eq!(rig.job().await.1.target.tgt, "z".into());
}

#[tokio::test]
async fn a_new_reactor_starts_at_the_end_and_an_old_one_where_it_was() {
    let mut rig = Rig::new();
    rig.fire("a/before").await;
    rig.start(&[("a/*", PING)], AGE);
    rig.fire("a/1").await;
    assert_eq!(rig.job().await.1.target.tgt, "a/1".into());
    rig.stop().await;
    rig.fire("a/away").await;
    rig.start(&[("a/*", PING)], AGE);
    assert_eq!(rig.job().await.1.target.tgt, "a/away".into());
    rig.fire("a/2").await;
    assert_eq!(rig.job().await.1.target.tgt, "a/2".into());
}

#[tokio::test]
async fn events_that_came_too_long_ago_are_skipped() {
    let mut rig = Rig::new();
    rig.start(&[("a/*", PING)], AGE);
    rig.stop().await;
    rig.fire("a/old").await;
    rig.fire("b/old").await;
    rig.fire("a/old").await;
    rig.start(&[("a/*", PING)], Duration::ZERO);
    let (_, data) = fake::next(&mut rig.reports("skipped")).await;
    assert_eq!((data.at("count"), data.at("tags")), (Some(&2.into()), Some(&vec!["a/old"].into())));
    rig.fire("a/new").await;
    assert_eq!(rig.job().await.1.target.tgt, "a/new".into());
}

#[tokio::test]
async fn what_a_crash_cut_off_happens_once() {
    let mut rig = Rig::new();
    let two = "a: {local.test.ping: [{tgt: m1}]}\nb: {local.test.ping: [{tgt: m2}]}";
    rig.start(&[("a", two)], AGE);
    rig.door.open.send_replace(false);
    rig.fire("a").await;
    // The first job is asked for, and nobody answers any more.
    let asked = rig.job().await.1;
    rig.crash().await;
    rig.door.open.send_replace(true);
    rig.start(&[("a", two)], AGE);
    let (again, second) = (rig.job().await.1, rig.job().await.1);
    assert_eq!(again, asked);
    assert_eq!(second.target.tgt, "m2".into());
    rig.stop().await;
    rig.start(&[("a", two), ("z", PING)], AGE);
    rig.fire("z").await;
    assert_eq!(rig.job().await.1.target.tgt, "z".into());
    rig.stop().await;
    assert_eq!(rig.asked.rest(), []);
}

#[tokio::test]
async fn a_loop_of_jobs_is_cut() {
    let mut rig = Rig::new();
    rig.start(&[("start", PING), ("salt/job/*/new", PING)], AGE);
    rig.fire("start").await;
    let (tag, data) = fake::next(&mut rig.reports("loop")).await;
    assert_eq!((tag.as_str(), data.at("limit")), ("halite/reactor/loop", Some(&8.into())));
    for depth in 1..=8 {
        assert_eq!(rig.job().await.0.origin, Origin::Reactor { depth });
    }
    assert_eq!(rig.asked.rest(), []);
}

#[tokio::test]
async fn a_loop_of_events_is_cut() {
    let mut rig = Rig::new();
    rig.start(&[("a", "x: {runner.event.send: [{tag: a}]}")], AGE);
    rig.fire("a").await;
    let (_, data) = fake::next(&mut rig.reports("loop")).await;
    assert_eq!(data.text("tag"), Some("a"));
    let runs = rig.asked.rest().into_iter().filter(|command| matches!(command, Command::Run { .. }));
    assert_eq!(runs.count(), 8);
}

#[tokio::test]
async fn errors_and_repairs_are_events() {
    let mut rig = Rig::new();
    let indented = "a:\n  local.test.arg:\n    - tgt: m1\n    - kwarg:\n         x: 1\n        y: 2\n";
    rig.start(&[("bad", "a:\n  x: {{ nope.x }}\n"), ("odd", indented), ("none", "a: {runner.no.such: []}")], AGE);
    rig.fire("bad").await;
    let (_, error) = fake::next(&mut rig.reports("error")).await;
    assert_eq!((error.text("tag"), error.at("line")), (Some("bad"), Some(&2.into())));
    assert_eq!(error.text("file"), Some(rig.folder.path().join("0.sls").to_str().unwrap()));
    rig.fire("odd").await;
    rig.job().await;
    let (_, warning) = fake::next(&mut rig.reports("warning")).await;
    assert_eq!((warning.at("line"), warning.text("corrected")), (Some(&6.into()), Some("         y: 2")));
    rig.fire("none").await;
    let mut errors = rig.reports("error");
    fake::next(&mut errors).await;
    let (_, error) = fake::next(&mut errors).await;
    assert_eq!(error.text("reason"), Some("Reactor 'a' failed to execute runner 'no.such': function not available"));
}

#[tokio::test]
async fn a_job_without_minions_is_an_error_event() {
    let mut rig = Rig::new();
    rig.door.answer("publish", Err(CommandError::NoMatch));
    rig.start(&[("a", PING)], AGE);
    rig.fire("a").await;
    let (_, error) = fake::next(&mut rig.reports("error")).await;
    let text = error.text("reason").unwrap();
    assert!(text.starts_with("Reactor 'a' failed to execute local 'test.ping': No minions matched"), "{text}");
}

#[tokio::test]
async fn a_master_that_is_busy_is_asked_again() {
    let mut rig = Rig::new();
    rig.door.answer("publish", Err(CommandError::Busy("later".into())));
    rig.start(&[("a", PING)], AGE);
    rig.fire("a").await;
    let first = rig.job().await.1;
    assert_eq!(rig.job().await.1, first);
    rig.stop().await;
    assert_eq!(rig.asked.rest(), []);
}

#[tokio::test]
async fn a_reload_changes_the_rules_from_the_next_event_on() {
    let mut rig = Rig::new();
    let reactor = rig.start(&[("a/*", PING)], AGE);
    rig.fire("a/1").await;
    assert_eq!(rig.job().await.1.target.tgt, "a/1".into());
    reactor.reload(rig.config(&[("b/*", PING)])).await;
    rig.fire("a/2").await;
    rig.fire("b/1").await;
    assert_eq!(rig.job().await.1.target.tgt, "b/1".into());
    reactor.reload(rig.config(&[])).await;
    assert_eq!(reactor.list(), Value::List(Vec::new()));
}

#[tokio::test]
async fn an_edited_file_counts_at_once() {
    let mut rig = Rig::new();
    rig.start(&[("a", PING)], AGE);
    rig.fire("a").await;
    rig.job().await;
    std::fs::write(rig.folder.path().join("0.sls"), "a: {local.test.ping: [{tgt: edited}]}").unwrap();
    rig.fire("a").await;
    assert_eq!(rig.job().await.1.target.tgt, "edited".into());
}

#[tokio::test]
async fn list_and_test_show_and_run_nothing() {
    let mut rig = Rig::new();
    let reactor = rig.start(&[("a/*", PING), ("*", "b: {bogus.x: []}")], AGE);
    let file = |index: u32| rig.folder.path().join(format!("{index}.sls")).display().to_string();
    let list = vec![map! { "a/*" => vec![file(0)] }, map! { "*" => vec![file(1)] }];
    assert_eq!(reactor.list(), list.into());
    let shown = reactor.test("a/1", map! { "id" => "m1" }).await.unwrap();
    assert_eq!(shown.get("rules").unwrap().as_list().unwrap().len(), 2);
    let reaction = &shown.get("reactions").unwrap().as_list().unwrap()[0];
    assert_eq!((reaction.get("type"), reaction.get("tgt")), (Some(&"local".into()), Some(&"a/1".into())));
    let error = shown.get("errors").unwrap().as_list().unwrap()[0].get("reason").unwrap().as_str().unwrap();
    assert!(error.contains("'bogus'"), "{error}");
    assert!(reactor.test("", Map::new()).await.is_err());
    rig.stop().await;
    assert_eq!(rig.asked.rest(), []);
}

#[tokio::test]
async fn rules_are_added_and_deleted_while_running() {
    let mut rig = Rig::new();
    let reactor = rig.start(&[("a/*", PING)], AGE);
    let file = vec![rig.folder.path().join("0.sls").display().to_string()];
    let answer = |status: bool, comment: &str| Value::from(map! { "status" => status, "comment" => comment });
    assert_eq!(reactor.add("b/*", file.clone()), Ok(answer(true, "Reactor added.")));
    assert_eq!(reactor.add("b/*", file.clone()), Ok(answer(false, "Reactor already exists.")));
    assert!(reactor.add("", file.clone()).is_err() && reactor.add("c", Vec::new()).is_err());
    rig.fire("b/1").await;
    assert_eq!(rig.job().await.1.target.tgt, "b/1".into());
    // What was added outlives a reload, what was deleted does not.
    assert_eq!(reactor.delete("a/*"), answer(true, "Reactor deleted."));
    assert_eq!(reactor.delete("a/*"), answer(false, "Reactor does not exists."));
    assert_eq!(reactor.list(), vec![map! { "b/*" => file.clone() }].into());
    reactor.reload(rig.config(&[("a/*", PING)])).await;
    assert_eq!(reactor.list(), vec![map! { "a/*" => file.clone() }, map! { "b/*" => file }].into());
    assert_eq!(reactor.delete("b/*"), answer(true, "Reactor deleted."));
    rig.fire("b/2").await;
    rig.fire("a/2").await;
    assert_eq!(rig.job().await.1.target.tgt, "a/2".into());
}

/// Waits until the counts of the first rule are these: fired, failed, deduplicated, skipped.
async fn counted(reactor: &Reactor, expected: [u64; 4]) {
    let mut standings = reactor.standings.clone();
    let done = |standings: &Standings| {
        let counts = standings.values().next().map(|standing| standing.counts).unwrap_or_default();
        [counts.fired, counts.failed, counts.deduplicated, counts.skipped] == expected
    };
    standings.wait_for(done).await.unwrap();
}

#[tokio::test]
async fn a_rule_that_only_fails_is_switched_off_and_told() {
    let mut rig = Rig::new();
    let failing = "a: {local.test.ping: []}";
    let guards =
        GuardsConfig { breaker_failures: 2, breaker_open: Duration::from_secs(3_600), ..GuardsConfig::default() };
    let config = ReactorConfig { guards, ..rig.config(&[("a", failing)]) };
    let reactor = rig.start_with(config);
    for _ in 0..3 {
        rig.fire("a").await;
    }
    let (_, news) = fake::next(&mut rig.reports("breaker")).await;
    assert_eq!((news.text("rule"), news.text("state")), (Some("a"), Some("open")));
    assert_eq!((news.at("failures"), news.at("open_s")), (Some(&2.into()), Some(&Value::Float(3_600.0))));
    let (_, error) = fake::next(&mut rig.reports("error")).await;
    assert_eq!((error.text("rule"), error.text("id")), (Some("a"), Some("a")));
    counted(&reactor, [2, 2, 0, 1]).await;
    let shown = reactor.show();
    let rule = &shown.as_list().unwrap()[0];
    assert_eq!((rule.get("rule"), rule.get("breaker")), (Some(&"a".into()), Some(&"open".into())));
    assert!(rule.get("open_until").is_some_and(|until| !until.is_null()));
}

#[tokio::test]
async fn a_repeated_event_sets_nothing_off_while_the_window_is_open() {
    let mut rig = Rig::new();
    let guards = GuardsConfig { dedup_window: Duration::from_secs(3_600), ..GuardsConfig::default() };
    let config = ReactorConfig { guards, ..rig.config(&[("a/*", PING)]) };
    let reactor = rig.start_with(config);
    for tag in ["a/1", "a/1", "a/1", "a/2"] {
        rig.fire(tag).await;
    }
    assert_eq!((rig.job().await.1.target.tgt, rig.job().await.1.target.tgt), ("a/1".into(), "a/2".into()));
    let (_, told) = fake::next(&mut rig.reports("deduplicated")).await;
    assert_eq!((told.text("rule"), told.at("dropped")), (Some("a/*"), Some(&1.into())));
    counted(&reactor, [2, 0, 2, 0]).await;
}

#[tokio::test]
async fn a_wheel_reaction_tells_what_it_does_as_reactor() {
    let mut rig = Rig::new();
    rig.start(&[("a", "w: {wheel.key.accept: [{match: m1}]}")], AGE);
    rig.fire("a").await;
    let (_, told) = fake::next(&mut fake::events(&rig.bus, "salt/wheel/*/ret")).await;
    assert_eq!((told.text("fun"), told.text("user")), (Some("wheel.key.accept"), Some("Reactor")));
    assert_eq!(told.at("return"), Some(&json(r#"{"minions": ["m1"]}"#)));
}

#[tokio::test]
async fn a_test_of_the_reactors_own_events_shows_nothing() {
    let mut rig = Rig::new();
    let reactor = rig.start(&[("*", PING)], AGE);
    let own = reactor.test("salt/run/1/ret", map! { "user" => "Reactor" }).await.unwrap();
    assert!(own.get("ignored").is_some() && own.get("reactions").is_none());
    assert!(reactor.test("halite/reactor/error", Map::new()).await.unwrap().get("ignored").is_some());
}
