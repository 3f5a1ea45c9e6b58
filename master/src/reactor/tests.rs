//! What `reactor` promises, tested.

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
use crate::runners::fake::{self, Asked, FakeDoor, json};

/// The files of the recording, and the seeds' as they are printed.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/reactor/testdata");
const LAB: &str = include_str!("testdata/lab.conf");
const RECORDED: &str = include_str!("testdata/recorded.jsonl");

fn rules(conf: &str) -> (Vec<ReactorEntry>, Vec<yaml::Warning>) {
    let (value, marks) = yaml::load_marked(conf, &Source { name: "reactor.conf" }).unwrap();
    yaml::pair_reactor(value.get("reactor").unwrap(), "reactor.conf", &marks).unwrap()
}

fn config(folder: &Path, conf: &str) -> ReactorConfig {
    ReactorConfig {
        rules: rules(conf).0,
        file_roots: vec![Path::new(DATA).join("salt"), Path::new(DATA).join("seeds/000")],
        max_age: Duration::from_secs(600),
        path: folder.join("reactor.db"),
        opts: map! { "id" => "vm_master" },
    }
}

fn lab() -> String {
    LAB.replace("/opt/salt-lab/labR/srv/reactor", &format!("{DATA}/sls"))
}

/// Plans what an event sets off, without any part running.
fn planned(conf: &str, tag: &str, data: &Map) -> (Vec<Command>, plan::Plan) {
    let loaded = Loaded::new(config(Path::new("/nonexistent"), conf));
    let tag = Tag::parse(tag).unwrap();
    let paths: Vec<String> = loaded.rules.matching(tag.as_str()).flat_map(|rule| rule.paths.clone()).collect();
    let plan = plan::plan(&loaded, &mut Files::default(), &paths, &tag, data);
    (plan.chunks.iter().map(|chunk| reactions::build(chunk, "").unwrap().command).collect(), plan)
}

fn job_json(job: PublishRequest) -> serde_json::Value {
    let tgt_type = job.tgt_type.as_str();
    Value::from(map! { "tgt" => job.tgt, "tgt_type" => tgt_type, "fun" => job.fun, "arg" => job.arg }).to_json()
}

fn run_json(fun: &str, arg: Vec<Value>, kwarg: Map) -> serde_json::Value {
    let args = crate::runners::Args { arg, kwarg };
    Value::from(map! { "fun" => format!("runner.{fun}"), "fun_args" => args.as_fun_args() }).to_json()
}

/// Takes out the only thing that differs from the recorded host.
fn without_os(text: String) -> String {
    let os = grains::read(&Map::new()).text("os").unwrap_or_default().to_owned();
    text.replace(&format!("\"{os}\""), "\"Debian\"")
}

#[test]
fn every_recorded_file_does_what_it_did_there() {
    for line in RECORDED.lines() {
        let recorded: serde_json::Value = serde_json::from_str(line).unwrap();
        let tag = recorded["tag"].as_str().unwrap();
        let Value::Map(data) = Value::from_json(&recorded["data"]) else { panic!("a map") };
        let (mut jobs, mut runs) = (Vec::new(), Vec::new());
        for command in planned(&lab(), tag, &data).0 {
            match command {
                Command::Publish(job) => jobs.push(job_json(job)),
                // Not recorded: Salt refuses it before it says anything.
                Command::Run { fun, .. } if fun == "nosuch.fn" => {}
                Command::Run { fun, arg, kwarg } => runs.push(run_json(&fun, arg, kwarg)),
                _ => {}
            }
        }
        // The printed sh.sls is mended here; Salt refuses it.
        if tag != "salt/beacon/m1/sh/1" {
            assert_eq!(without_os(serde_json::to_string(&jobs).unwrap()), recorded["jobs"].to_string(), "{tag}");
        }
        assert_eq!(serde_json::to_string(&runs).unwrap(), recorded["runs"].to_string(), "{tag}");
    }
}

#[test]
fn wheel_reactions_change_keys_and_other_types_are_refused() {
    let commands = planned(&lab(), "lab/wheel", &Map::new()).0;
    assert_eq!(commands[0], Command::KeyList);
    assert!(matches!(&commands[1], Command::KeyFinger(keys) if keys.globs == ["m1"]));
    let check = |tag: &str, expected: &str| {
        let (commands, plan) = planned(&lab(), tag, &map! { "id" => "m1" });
        assert_eq!(commands, []);
        assert!(plan.faults[0].error.contains(expected), "{tag}: {:?}", plan.faults);
    };
    check("lab/caller", "Reactor 'c1' failed to execute caller 'test.arg': not supported in this version");
    check("lab/py", "the renderer 'py' is not supported");
    check("lab/err/jinja", "Failed to render");
    check("lab/err/yaml", "Failed to render");
    check("lab/err/dup", "Failed to render");
    check("lab/err/notgt", "Reactor 'e' failed to execute local 'test.ping'");
    check("lab/err/type", "ReactWrap is missing a wrapper function for 'bogus'");
    check("lab/err/nofile", "File missing or not found.");
}

#[test]
fn one_wrong_declaration_drops_the_list_and_one_wrong_file_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("good.sls", "a:\n  local.test.ping:\n    - tgt: m1\n");
    write("empty.sls", "b:\n  local:\n    - tgt: m1\n");
    write("wrong.sls", "c: [\n");
    let dir = folder.path().display();
    let conf = format!(
        "reactor:\n  - high: ['{dir}/good.sls', '{dir}/empty.sls']\n  - file: ['{dir}/wrong.sls', '{dir}/good.sls']\n"
    );
    let (commands, plan) = planned(&conf, "high", &Map::new());
    assert_eq!(commands, []);
    let expected = format!(
        "Unable to render reactions for event high due to errors ([\"No function declared in state 'b' in SLS \
         '{dir}/empty.sls'\"]) in one or more of the sls files (['{dir}/good.sls', '{dir}/empty.sls'])"
    );
    assert_eq!(plan.faults[0].error, expected);
    let (commands, plan) = planned(&conf, "file", &Map::new());
    assert_eq!((commands.len(), plan.faults.len()), (1, 1));
}

/// Seed 004: `reactor.conf` and `sh.sls` as they are printed.
#[test]
fn the_printed_sh_reactor_tells_slack() {
    // The page has non-breaking spaces; those of the configuration are not the reactor's to mend.
    let conf = &include_str!("testdata/seeds/004/reactor.conf").replace('\u{a0}', " ");
    let (entries, warnings) = rules(conf);
    assert_eq!((entries.len(), warnings.len()), (1, 1));
    let conf = conf.replace("/srv/reactor", &format!("{DATA}/seeds/004"));
    let data = map! { "id" => "m1", "user" => "root", "cmd" => "/usr/bin/ls",
    "args" => vec!["ls", "-l"], "_stamp" => "2026-11-21T00:46:34.646402+00:00" };
    let (mut commands, plan) = planned(&conf, "salt/beacon/m1/sh/42", &data);
    assert_eq!(plan.faults, []);
    // The key that is indented less, and the non-breaking spaces.
    assert_eq!(plan.warnings.len(), 3, "{:?}", plan.warnings);
    let Command::Publish(job) = commands.remove(0) else { panic!("a job") };
    let expected = json(
        r#"{"tgt":"m1","tgt_type":"glob","fun":"slack.post_message","arg":[{"__kwarg__":true,
        "channel":"[Slack Channel Name]","api_key":"[Slack API Key]",
        "message":"m1 : user root ran command /usr/bin/ls with arguments ['ls', '-l'].","from_name":"Sh Bot"}]}"#,
    );
    assert_eq!(job_json(job).to_string(), expected.to_json().to_string());
    assert_eq!(commands, []);
}

/// Seed 000: `if_down_shutdown.sls` as it is printed.
#[test]
fn the_printed_interface_reactor_runs_on_the_device() {
    let conf = include_str!("testdata/seeds/000/reactor.conf");
    let Value::Map(data) =
        json(r#"{"host":"router1","yang_message":{"interfaces":{"interface":{"xe-0/0/1":{"state":"down"}}}}}"#)
    else {
        panic!("a map")
    };
    // The option is printed four spaces deep, as it stands in the document.
    let (mut commands, plan) = planned(conf, "napalm/syslog/junos/INTERFACE_DOWN/router1", &data);
    assert_eq!(plan.faults, []);
    assert_eq!(plan.warnings.len(), 1);
    let kwarg = map! { "tgt" => "router1", "function" => "net.load_template",
    "template_name" => "salt://templates/shut_interface.jinja", "interface_name" => "xe-0/0/1" };
    assert_eq!(commands.remove(0), Command::Run { fun: "proxy.execute".into(), arg: Vec::new(), kwarg });
}

#[test]
fn the_other_forms_of_the_interface_reactor_mean_the_same() {
    let check = |file: &str, arg: &str, kwarg: &str| {
        let conf = format!("reactor: [{{x: '{DATA}/sls/{file}.sls'}}]");
        let Value::Map(data) = json(r#"{"host":"r1","yang_message":{"interfaces":{"interface":{"xe0":{}}}}}"#) else {
            panic!("a map")
        };
        let expected = match (json(arg), json(kwarg)) {
            (Value::List(arg), Value::Map(kwarg)) => Command::Run { fun: "proxy.execute".into(), arg, kwarg },
            _ => panic!("a list and a map"),
        };
        assert_eq!(planned(&conf, "x", &data).0, [expected], "{file}");
    };
    let template = "salt://templates/shut_interface.jinja";
    check(
        "if_args",
        "[]",
        &format!(
            r#"{{"tgt":"r1","salt_function":"test.arg","template_name":"{template}","interface_name":"xe0","events":true}}"#
        ),
    );
    check("if_argslist", "[]", r#"{"tgt":"r1","salt_function":"test.arg","interface_name":"xe0","events":true}"#);
    check("if_arg", r#"["r1","test.arg"]"#, r#"{"interface_name":"xe0","events":true}"#);
    check(
        "if_py3",
        "[]",
        &format!(r#"{{"tgt":"r1","function":"test.arg","template_name":"{template}","interface_name":"xe0"}}"#),
    );
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
    assert_eq!((job.tgt, job.fun), ("a/1".into(), "test.ping".into()));
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
    assert_eq!(command, Command::Run { fun: "test.arg".into(), arg: vec![], kwarg: map! { "k" => 1 } });
    let mut runs = fake::events(&rig.bus, "salt/run/*/ret");
    assert_eq!(fake::next(&mut runs).await.1.text("user"), Some("Reactor"));
    rig.fire("z").await;
    assert_eq!(rig.job().await.1.tgt, "z".into());
}

#[tokio::test]
async fn a_new_reactor_starts_at_the_end_and_an_old_one_where_it_was() {
    let mut rig = Rig::new();
    rig.fire("a/before").await;
    rig.start(&[("a/*", PING)], AGE);
    rig.fire("a/1").await;
    assert_eq!(rig.job().await.1.tgt, "a/1".into());
    rig.stop().await;
    rig.fire("a/away").await;
    rig.start(&[("a/*", PING)], AGE);
    assert_eq!(rig.job().await.1.tgt, "a/away".into());
    rig.fire("a/2").await;
    assert_eq!(rig.job().await.1.tgt, "a/2".into());
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
    assert_eq!(rig.job().await.1.tgt, "a/new".into());
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
    assert_eq!(second.tgt, "m2".into());
    rig.stop().await;
    rig.start(&[("a", two), ("z", PING)], AGE);
    rig.fire("z").await;
    assert_eq!(rig.job().await.1.tgt, "z".into());
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
    assert_eq!(error.text("sls"), Some(rig.folder.path().join("0.sls").to_str().unwrap()));
    rig.fire("odd").await;
    rig.job().await;
    let (_, warning) = fake::next(&mut rig.reports("warning")).await;
    assert_eq!((warning.at("line"), warning.text("corrected")), (Some(&6.into()), Some("         y: 2")));
    rig.fire("none").await;
    let mut errors = rig.reports("error");
    fake::next(&mut errors).await;
    let (_, error) = fake::next(&mut errors).await;
    assert_eq!(error.text("error"), Some("Reactor 'a' failed to execute runner 'no.such': function not available"));
}

#[tokio::test]
async fn a_job_without_minions_is_an_error_event() {
    let mut rig = Rig::new();
    rig.door.answer("publish", Err(CommandError::NoMatch));
    rig.start(&[("a", PING)], AGE);
    rig.fire("a").await;
    let (_, error) = fake::next(&mut rig.reports("error")).await;
    let text = error.text("error").unwrap();
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
    assert_eq!(rig.job().await.1.tgt, "a/1".into());
    reactor.reload(rig.config(&[("b/*", PING)])).await;
    rig.fire("a/2").await;
    rig.fire("b/1").await;
    assert_eq!(rig.job().await.1.tgt, "b/1".into());
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
    assert_eq!(rig.job().await.1.tgt, "edited".into());
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
    let error = shown.get("errors").unwrap().as_list().unwrap()[0].get("error").unwrap().as_str().unwrap();
    assert!(error.contains("'bogus'"), "{error}");
    assert!(reactor.test("", Map::new()).await.is_err());
    rig.stop().await;
    assert_eq!(rig.asked.rest(), []);
}
