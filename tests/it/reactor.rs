//! Reactions: an event becomes a job. Seed 004 as printed, against a Slack that is a socket of ours.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use halite_tests::{Fleet, PATIENCE, wait_for};
use serde_json::json;

/// The two files of seed 004, as printed.
const REACTOR_CONF: &str =
    "# contents of the reactor.conf file\nreactor:\n  - 'salt/beacon/*/sh/*'\n  - '/srv/reactor/sh.sls'\n";
const SH_SLS: &str = r#"Send sh to Slack:
  local.slack.post_message:
    - tgt: {{ data['id'] }}
    - kwarg:
         channel: "[Slack Channel Name]"
         api_key: "[Slack API Key]"
        message: "{{ data['id'] }} : user {{ data['user'] }} ran command {{ data['cmd'] }} with arguments {{ data['args']  }}."
        from_name: "Sh Bot"
"#;

/// A Slack of our own: answers every request with success and hands out what it was sent.
fn slack() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let (told, heard) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"ok\":true}";
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if told.send(String::from_utf8(body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, heard)
}

#[test]
fn seed_004_as_printed_sends_a_shell_command_to_slack() {
    let (url, heard) = slack();
    let mut fleet = Fleet::new().start();
    let sls = fleet.write("srv/reactor/sh.sls", SH_SLS);
    // The one change: the seed's absolute path lies in this test's directory.
    let conf = REACTOR_CONF.replace("/srv/reactor/sh.sls", &sls.display().to_string());
    fleet.write("master/master.d/reactor.conf", &conf);
    fleet.halite(&["reload"]).expect_code(0);
    fleet.start_minion("m1", &format!("slack.api_url: {url}"));
    fleet.wait_up(&["m1"]);
    let data = r#"{"id": "m1", "user": "root", "cmd": "/usr/bin/ls", "args": ["ls", "/tmp"]}"#;
    let shown = fleet.halite(&["reactor", "test", "--tag", "salt/beacon/m1/sh/87", "--data", data]).expect_code(0);
    assert!(shown.stdout.contains("slack.post_message"), "{shown:?}");
    assert!(fleet.events("salt/job/*/new").is_empty(), "a test runs nothing");
    fleet.halite(&["run", "event.send", "salt/beacon/m1/sh/87", data]).expect_code(0);
    let message = heard.recv_timeout(PATIENCE).expect("Slack hears of it");
    let message = message.replace('+', " ").replace("%20", " ");
    assert!(message.contains("user root ran command") && message.contains("Sh"), "{message}");
    let job = &fleet.wait_events("salt/job/*/new", 1)[0]["data"];
    assert_eq!((&job["fun"], &job["tgt"]), (&json!("slack.post_message"), &json!("m1")));
    let ret = &fleet.wait_events("salt/job/*/ret/m1", 1)[0]["data"];
    assert_eq!(ret["return"], true, "{ret}");
}

#[test]
fn an_event_becomes_a_job_and_an_event() {
    let mut fleet = Fleet::new().start();
    let sls = fleet.write(
        "react.sls",
        "say:\n  local.test.echo:\n    - tgt: {{ data['data']['who'] }}\n    - arg:\n      - {{ tag | json }}\ntell:\n  runner.event.send:\n    - args:\n      - tag: reacted/to/it\n      - data: {who: {{ data['data']['who'] }}}\n",
    );
    fleet.write("master/master.d/reactor.conf", &format!("reactor:\n  - 'my/*':\n    - {}\n", sls.display()));
    fleet.halite(&["reload"]).expect_code(0);
    fleet.start_minions(1);
    fleet.call("m1", &["event.send", "my/tag", "{who: m1}"]).expect_code(0);
    // The call itself returns too, under a jid of its own.
    let returns = fleet.wait_events("salt/job/*/ret/m1", 2);
    let echo = returns.iter().find(|event| event["data"]["fun"] == "test.echo").expect("the reaction's return");
    assert_eq!(echo["data"]["return"], json!("my/tag"));
    fleet.wait_events("reacted/to/it", 1);
}

#[test]
fn a_reaction_that_fails_is_told_and_the_next_one_works() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let bad = fleet.write("bad.sls", "e:\n  local.test.arg:\n    - tgt: {{ data.nope.deeper }}\n");
    let good = fleet.write("good.sls", "g:\n  local.test.ping:\n    - tgt: m1\n");
    let conf = format!("reactor:\n  - 'bad':\n    - {}\n  - 'good':\n    - {}\n", bad.display(), good.display());
    fleet.write("master/master.d/reactor.conf", &conf);
    fleet.halite(&["reload"]).expect_code(0);
    fleet.halite(&["run", "event.send", "bad", "{}"]).expect_code(0);
    let error = &fleet.wait_events("halite/reactor/error", 1)[0]["data"];
    assert!(error.to_string().contains("bad.sls"), "{error}");
    fleet.halite(&["run", "event.send", "good", "{}"]).expect_code(0);
    fleet.wait_events("salt/job/*/ret/m1", 1);
    // An edited file counts without a reload.
    std::fs::write(&bad, "e:\n  local.test.echo:\n    - tgt: m1\n    - arg: [mended]\n").unwrap();
    fleet.halite(&["run", "event.send", "bad", "{}"]).expect_code(0);
    let returns = fleet.wait_events("salt/job/*/ret/m1", 2);
    assert_eq!(returns[1]["data"]["return"], "mended");
}

/// Seed 000's rule and file, as printed.
const INTERFACE_CONF: &str =
    "reactor:\n  - 'napalm/syslog/*/INTERFACE_DOWN/*':\n    - salt://reactor/if_down_shutdown.sls\n";
const INTERFACE_SLS: &str = r"  shutdown_interface:
    runner.proxy.execute:
      - tgt: {{ data.host }}
      - function: net.load_template
      - kwarg:
          template_name: salt://templates/shut_interface.jinja
          interface_name: {{ data.yang_message.interfaces.interface.keys()[0] }}
";

#[test]
fn seed_000_as_printed_runs_on_the_device_with_the_interface_down() {
    let fleet = Fleet::new().start();
    let sls = fleet.write("srv/reactor/if_down_shutdown.sls", INTERFACE_SLS);
    let root = sls.parent().unwrap().parent().unwrap().display().to_string();
    let conf = format!("file_roots:\n  base:\n    - {root}\n{INTERFACE_CONF}");
    fleet.write("master/master.d/reactor.conf", &conf);
    fleet.halite(&["reload"]).expect_code(0);
    let tag = "napalm/syslog/junos/INTERFACE_DOWN/edge-router2";
    let data =
        r#"{"host": "edge-router2", "yang_message": {"interfaces": {"interface": {"xe-0/0/1": {"state": "down"}}}}}"#;
    fleet.halite(&["run", "event.send", tag, data]).expect_code(0);
    let is_ours = |event: &&serde_json::Value| event["data"]["fun"] == "runner.proxy.execute";
    wait_for("the run to end", || fleet.events("salt/run/*/ret").iter().any(|event| is_ours(&event)));
    let runs = fleet.events("salt/run/*/new");
    let run = &runs.iter().find(is_ours).expect("the run was announced")["data"];
    let expected = json!([{
        "tgt": "edge-router2",
        "function": "net.load_template",
        "template_name": "salt://templates/shut_interface.jinja",
        "interface_name": "xe-0/0/1"
    }]);
    assert_eq!((&run["fun_args"], &run["user"]), (&expected, &json!("Reactor")));
    // No such minion: that is said, with the rule and the file.
    let error = &fleet.wait_events("halite/reactor/error", 1)[0]["data"];
    assert_eq!((&error["tag"], &error["rule"]), (&json!(tag), &json!("napalm/syslog/*/INTERFACE_DOWN/*")));
    assert!(error["file"].as_str().is_some_and(|file| file.ends_with("if_down_shutdown.sls")), "{error}");
    let listed = fleet.halite(&["reactor", "list"]).expect_code(0).stdout;
    assert!(listed.contains("fired 1, failed 1"), "{listed}");
}

#[test]
fn a_wheel_reaction_accepts_a_key_and_a_replay_runs_nothing() {
    let mut fleet = Fleet::new().keys_pending().start();
    let sls = fleet.write(
        "accept.sls",
        "{% if data['act'] == 'pend' and data['id'].startswith('web') %}\nlet it in:\n  wheel.key.accept:\n    - args:\n      - match: {{ data['id'] }}\n{% endif %}\n",
    );
    fleet.write("master/master.d/reactor.conf", &format!("reactor:\n  - 'salt/auth':\n    - {}\n", sls.display()));
    fleet.halite(&["reload"]).expect_code(0);
    fleet.start_minion("web1", "");
    fleet.wait_up(&["web1"]);
    let told = &fleet.wait_events("salt/wheel/*/ret", 1)[0]["data"];
    assert_eq!((&told["fun"], &told["user"]), (&json!("wheel.key.accept"), &json!("Reactor")));
    assert_eq!(told["return"], json!({"minions": ["web1"]}));
    // Replayed, the same events set off the same, and nothing happens.
    let wheels = fleet.events("salt/wheel/*").len();
    let shown = fleet.halite(&["reactor", "test", "--replay", "start", "--out", "json"]).expect_code(0).json();
    let reactions: Vec<_> =
        shown.as_array().unwrap().iter().flat_map(|event| event["reactions"].as_array().unwrap()).collect();
    assert_eq!(reactions.len(), 1, "{shown}");
    assert_eq!((&reactions[0]["fun"], &reactions[0]["kwarg"]), (&json!("key.accept"), &json!({"match": "web1"})));
    assert_eq!(fleet.events("salt/wheel/*").len(), wheels);
    // The wheel is there for operators too.
    let listed = fleet.halite(&["run", "wheel.key.list", "accepted", "--out", "json"]).expect_code(0).json();
    assert_eq!(listed, json!({"minions": ["web1"]}));
}
