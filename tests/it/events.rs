//! The bus: what stands on it, field by field, and how it is read.

use halite_tests::{Fleet, wait_for};
use serde_json::{Value as Json, json};

fn keys(data: &Json) -> Vec<&str> {
    let mut keys: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_job_is_told_as_in_the_recordings() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    fleet.halite(&["*", "test.ping"]).expect_code(0);
    let new = &fleet.wait_events("salt/job/*/new", 1)[0];
    let jid = new["data"]["jid"].as_str().unwrap().to_owned();
    assert_eq!(new["tag"], format!("salt/job/{jid}/new"));
    assert_eq!(keys(&new["data"]), ["_stamp", "arg", "fun", "jid", "minions", "missing", "tgt", "tgt_type", "user"]);
    assert_eq!(new["data"]["minions"], json!(["m1"]));
    let publish = &fleet.wait_events(&format!("salt/job/{jid}/publish"), 1)[0]["data"];
    assert_eq!(keys(publish), ["_stamp", "arg", "fun", "jid", "ret", "tgt", "tgt_type", "user"]);
    let ret = &fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1)[0]["data"];
    let fields = ["_stamp", "cmd", "fun", "fun_args", "id", "jid", "retcode", "return", "success", "ts", "user"];
    assert_eq!(keys(ret), fields);
    assert_eq!((&ret["cmd"], &ret["return"], &ret["retcode"]), (&json!("_return"), &json!(true), &json!(0)));
    // Seed 000: the bare jid comes first, with the minions.
    let bare = &fleet.events(&jid)[0];
    assert_eq!(keys(&bare["data"]), ["_stamp", "minions"]);
    assert!(bare["offset"].as_u64() < new["offset"].as_u64());
}

#[test]
fn a_minion_tells_its_start_as_in_the_recordings() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    for tag in ["minion_start", "salt/minion/m1/start"] {
        let data = &fleet.wait_events(tag, 1)[0]["data"];
        assert_eq!(keys(data), ["_stamp", "cmd", "data", "id", "pretag", "tag", "ts"]);
        assert_eq!((&data["cmd"], &data["tag"], &data["id"]), (&json!("_minion_event"), &json!(tag), &json!("m1")));
        assert!(data["data"].as_str().unwrap().starts_with("Minion m1 started at "), "{data}");
    }
    let auth = &fleet.events("salt/auth")[0]["data"];
    assert_eq!(keys(auth), ["_stamp", "act", "id", "pub", "result"]);
}

#[test]
fn presence_is_told_when_asked_for() {
    let mut fleet = Fleet::new().master_config("presence_events: true\nloop_interval: 1").start();
    fleet.start_minions(1);
    wait_for("m1 to be present", || {
        fleet.events("salt/presence/change").iter().any(|event| event["data"]["new"] == json!(["m1"]))
    });
    wait_for("m1 to stay", || {
        fleet.events("salt/presence/present").iter().any(|event| event["data"]["present"] == json!(["m1"]))
    });
    fleet.take_minion("m1").stop();
    wait_for("m1 to be lost", || {
        fleet.events("salt/presence/change").iter().any(|event| event["data"]["lost"] == json!(["m1"]))
    });
}

#[test]
fn an_event_sent_from_a_minion_is_on_the_bus_when_the_command_ends() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let sent = fleet.call("m1", &["event.send", "myco/mytag/success", "{success: True, message: \"It works!\"}"]);
    assert_eq!(sent.clone().expect_code(0).stdout, "local:\n    True\n", "{sent:?}");
    let data = &fleet.events("myco/mytag/success")[0]["data"];
    assert_eq!(data["id"], "m1");
    assert_eq!((&data["data"]["success"], &data["data"]["message"]), (&json!(true), &json!("It works!")));
    // A tag that is not its own does not even leave the minion.
    let forged = fleet.call("m1", &["event.send", "salt/key", "{act: accepted, id: forged}"]);
    assert_eq!(forged.code, 1, "{forged:?}");
    assert!(fleet.events("salt/key").is_empty());
}

#[test]
fn the_bus_is_read_in_every_form() {
    let fleet = Fleet::new().start();
    let fire = |number: u32| {
        fleet.halite(&["run", "event.send", "test/tag", &format!("{{n: {number}}}")]).expect_code(0);
    };
    fire(1);
    fire(2);
    fire(3);
    let all = fleet.wait_events("test/tag", 3);
    let offsets: Vec<u64> = all.iter().map(|event| event["offset"].as_u64().unwrap()).collect();
    assert!(offsets.is_sorted() && offsets.len() == 3, "{offsets:?}");
    let since = offsets[1].to_string();
    let later =
        fleet.halite(&["events", "--since", &since, "--tag", "test/*", "--out", "jsonl"]).expect_code(0).jsonl();
    assert_eq!(later.len(), 2);
    let first = fleet.halite(&["events", "--since", "start", "--tag", "test/*", "--count", "1"]).expect_code(0);
    let line = first.stdout.lines().next().unwrap();
    assert_eq!(line, "test/tag\t{", "{first:?}");
    assert!(first.stdout.contains("    \"_stamp\": \""), "{first:?}");
    let pretty = fleet.halite(&["events", "--since", "start", "--tag", "nothing/*"]).expect_code(0);
    assert_eq!(pretty.stdout, "");
}

#[test]
fn events_are_seen_live() {
    let fleet = Fleet::new().start();
    let mut watching = fleet
        .halite_command(&["run", "state.event", "pretty=True", "count=1", "tagmatch=live/*"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The watcher sees only what comes after it: fire until it has seen one.
    wait_for("the watcher to end", || {
        fleet.halite(&["run", "event.send", "live/tag", "{a: 1}"]).expect_code(0);
        watching.try_wait().unwrap().is_some()
    });
    let output = watching.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("live/tag\t{\n    \"_stamp\": "), "{text}");
}
