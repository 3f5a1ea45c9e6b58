//! Salt's own tools, unmodified, beside a Halite master: `salt`, `salt-run`, `salt-key`, `salt-call` and the Python client.
//!
//! They run where `HALITE_SALT` names the releases; their framings of the local event bus differ, and so do the files that they read.

use std::path::Path;

use halite_tests::salt::{self, Release};
use halite_tests::{Fleet, Outcome, run, wait_for};
use serde_json::{Value as Json, json};

/// A fleet of two native minions, and one release of Salt's tools beside its master.
struct Lab {
    fleet: Fleet,
    release: Release,
}

impl Lab {
    fn start(test: &str, version: &'static str) -> Option<Lab> {
        let release = salt::release(test, version)?;
        let mut lab = Lab { fleet: salt::start(Fleet::new()), release };
        lab.fleet.start_minions(2);
        Some(lab)
    }

    fn tool(&self, name: &str, args: &[&str]) -> Outcome {
        self.release.tool(&self.fleet, name, args)
    }

    fn python(&self, script: &str, args: &[&str]) -> Outcome {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/salt_tools").join(script);
        let mut command = self.release.command("python");
        command.arg(path).arg(self.fleet.site.confdir("master")).args(args);
        run(command)
    }
}

/// The command line of a release, and what its runners read of the disk.
fn commands_work(test: &str, version: &'static str) {
    let Some(lab) = Lab::start(test, version) else { return };
    let text = lab.tool("salt", &["*", "test.ping"]).expect_code(0);
    for id in ["m1", "m2"] {
        assert!(text.stdout.contains(&format!("{id}:\n    True")), "{text:?}");
    }
    let both = json!({"m1": true, "m2": true});
    let out = lab.tool("salt", &["*", "test.ping", "--out", "json", "--static"]).expect_code(0);
    assert_eq!(out.json(), both);
    // Salt 3008 publishes the parts of a batch under one jid.
    let parts = lab.tool("salt", &["*", "test.ping", "-b", "1", "--out", "json", "--static"]).expect_code(0);
    let found = parts.stdout.find('{').map(|at| &parts.stdout[at..]).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Json>(found).unwrap_or_default(), both, "{parts:?}");
    let listed = lab.tool("salt", &["-L", "m2", "test.arg", "1", "x=y", "--out", "json"]).expect_code(0).json();
    assert_eq!(listed["m2"]["args"], json!([1]), "{listed}");
    assert_eq!(listed["m2"]["kwargs"]["x"], "y", "{listed}");
    let failed = lab.tool("salt", &["m1", "cmd.run", "exit 4"]).expect_code(1);
    assert!(failed.stderr.contains("non-zero exit code"), "{failed:?}");
    let nobody = lab.tool("salt", &["nosuch", "test.ping"]);
    assert!(format!("{}{}", nobody.stdout, nobody.stderr).contains("No minions matched the target"), "{nobody:?}");

    let sent = lab.tool("salt", &["*", "test.ping", "--async"]).expect_code(0);
    let jid = sent.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    wait_for("the returns to be where Salt's runner looks", || {
        let found = lab.tool("salt-run", &["jobs.lookup_jid", &jid, "--out", "json"]);
        serde_json::from_str::<Json>(&found.stdout).is_ok_and(|found| found == both)
    });
    let native = lab.fleet.halite(&["*", "test.version", "--out", "json"]).expect_code(0);
    assert!(native.json()["m1"].is_string());
    wait_for("a job of halite's own to be listed too", || {
        let listed = lab.tool("salt-run", &["jobs.list_jobs", "--out", "json"]);
        let listed = serde_json::from_str::<Json>(&listed.stdout).unwrap_or_default();
        let fun = |wanted: &str| listed.as_object().unwrap().values().any(|job| job["Function"] == wanted);
        listed.is_object() && listed[&jid]["Function"] == "test.ping" && fun("test.version")
    });
    let up = lab.tool("salt-run", &["manage.up", "--out", "json"]).expect_code(0);
    assert_eq!(up.json(), json!(["m1", "m2"]));
    let status = lab.tool("salt-run", &["manage.status", "--out", "json"]).expect_code(0);
    assert_eq!(status.json(), json!({"up": ["m1", "m2"], "down": []}));

    let audits = lab.fleet.wait_events("halite/audit/publish", 1);
    assert_eq!((&audits[0]["data"]["what"], &audits[0]["data"]["addr"]), (&json!("test.ping"), &json!("127.0.0.1")));
}

/// The Python client of a release.
fn scripts_work(test: &str, version: &'static str) {
    let Some(lab) = Lab::start(test, version) else { return };
    let mut said = lab.python("client.py", &[]).expect_code(0);
    // Salt's client prints by itself that nobody matched.
    said.stdout = said.stdout.lines().last().unwrap_or_default().to_owned();
    let found = said.json();
    let both = json!({"m1": true, "m2": true});
    assert_eq!(found["cmd"], both);
    assert_eq!(found["grain"], both);
    assert_eq!(found["arg"]["m1"]["args"], json!(["a b", 7]));
    assert_eq!(found["arg"]["m1"]["kwargs"]["k"], json!([1, null]));
    assert_eq!(found["nobody"], json!({}));
    assert_eq!(found["async_is_a_jid"], true);
    for way in ["async_returns", "iter", "cache"] {
        assert_eq!(found[way], json!(["m1", "m2"]), "{way}");
    }
    assert_eq!(found["run_job"], json!({"jid": 20, "minions": ["m1", "m2"]}));
    let event = json!({"tag": "my/script/tag", "n": 7, "raw": [1, 255], "text": "ü", "stamped": true});
    assert_eq!(found["event"], event);
    assert!(["new", "publish", "ret"].contains(&found["job_event"].as_str().unwrap()), "{found}");
    assert_eq!(lab.fleet.events("my/script/tag")[0]["data"]["n"], 7, "what a script fires is in the log");
    lab.fleet.wait_events("my/storm", 24);
    let told = lab.fleet.events("halite/audit/fire");
    let told: Vec<_> = told.iter().map(|event| (&event["data"]["nth"], &event["data"]["what"])).collect();
    assert_eq!(told, [(&json!(1), &json!("my/script/tag")), (&json!(10), &json!("my/storm"))], "by powers of ten");
}

/// `salt-call` and `Caller` of a release, with a Salt minion's configuration.
fn calls_work(test: &str, version: &'static str) {
    let Some(lab) = Lab::start(test, version) else { return };
    let root = lab.release.configure_minion(&lab.fleet, "s1", "");
    let mut call = lab.release.command("salt-call");
    call.arg("-c").arg(&root).args(["test.ping", "--out", "json"]);
    assert_eq!(run(call).expect_code(0).json(), json!({"local": true}));
    let found = lab.python("caller.py", &[root.to_str().unwrap()]).expect_code(0).json();
    assert_eq!(found["ping"], true);
    assert_eq!(found["matched"], 8);
    let stand_alone = lab.fleet.events("salt/job/*/ret/s1");
    let jid = stand_alone[0]["data"]["jid"].as_str().unwrap();
    wait_for("the return of salt-call to be in Salt's job cache", || {
        let found = lab.tool("salt-run", &["jobs.lookup_jid", jid, "--out", "json"]);
        serde_json::from_str::<Json>(&found.stdout).is_ok_and(|found| found == json!({"s1": true}))
    });
}

/// `salt-key` of a release: it moves files, and the master follows.
fn keys_work(test: &str, version: &'static str) {
    let Some(release) = salt::release(test, version) else { return };
    let mut lab = Lab { fleet: salt::start(Fleet::new().keys_pending()), release };
    lab.fleet.start_minion("m1", "");
    let lists = |lab: &Lab| lab.tool("salt-key", &["-L", "--out", "json"]).expect_code(0).json();
    wait_for("the key to be pending", || lists(&lab)["minions_pre"] == json!(["m1"]));
    lab.tool("salt-key", &["-y", "-a", "m1"]).expect_code(0);
    lab.fleet.wait_up(&["m1"]);
    assert_eq!(lists(&lab)["minions"], json!(["m1"]));
    let fired = lab.fleet.wait_events("salt/key", 1);
    assert_eq!(fired[0]["data"]["id"], "m1", "{fired:?}");
    lab.tool("salt-key", &["-y", "-d", "m1"]).expect_code(0);
    wait_for("the minion to be pending again", || lists(&lab)["minions_pre"] == json!(["m1"]));
    lab.tool("salt-key", &["-y", "-r", "m1"]).expect_code(0);
    wait_for("the master to have rejected it", || {
        let listed = lab.fleet.halite(&["key", "list", "--out", "json"]).json();
        listed["minions_rejected"] == json!(["m1"]) || listed["rejected"] == json!(["m1"])
    });
}

#[test]
fn the_command_line_of_3006_works() {
    commands_work("the_command_line_of_3006_works", "3006.30");
}

#[test]
fn the_command_line_of_3007_works() {
    commands_work("the_command_line_of_3007_works", "3007.17");
}

#[test]
fn the_command_line_of_3008_works() {
    commands_work("the_command_line_of_3008_works", "3008.5");
}

#[test]
fn the_python_client_of_3006_works() {
    scripts_work("the_python_client_of_3006_works", "3006.30");
}

#[test]
fn the_python_client_of_3007_works() {
    scripts_work("the_python_client_of_3007_works", "3007.17");
}

#[test]
fn the_python_client_of_3008_works() {
    scripts_work("the_python_client_of_3008_works", "3008.5");
}

#[test]
fn the_key_command_of_3006_works() {
    keys_work("the_key_command_of_3006_works", "3006.30");
}

#[test]
fn the_key_command_of_3007_works() {
    keys_work("the_key_command_of_3007_works", "3007.17");
}

#[test]
fn the_key_command_of_3008_works() {
    keys_work("the_key_command_of_3008_works", "3008.5");
}

#[test]
fn calls_of_3006_work() {
    calls_work("calls_of_3006_work", "3006.30");
}

#[test]
fn calls_of_3007_work() {
    calls_work("calls_of_3007_work", "3007.17");
}

#[test]
fn calls_of_3008_work() {
    calls_work("calls_of_3008_work", "3008.5");
}
