//! A real syndic, its master and a minion below a master of ours: what is asked above is done below, and comes back up.

use std::path::Path;

use halite_tests::salt::{self, Release, SaltMaster};
use halite_tests::{Fleet, comes_true, wait_for};
use serde_json::json;

use super::SLOW;

/// A syndic is named after it was refused: its log and the master's say so, and then it works.
fn works_below(version: &'static str) {
    let Some(release) = salt::release(&format!("a syndic of Salt {version}"), version) else { return };
    let fleet = salt::start(Fleet::new().keys_pending().master_config("order_masters: true\nsyndic_wait: 3\n"));
    let (publish, ret) = fleet.site.ports().expect("the master has run");
    let extra = format!("auto_accept: true\nsyndic_master: 127.0.0.1\nsyndic_master_port: {ret}\n");
    let below = SaltMaster::start(release.clone(), &extra);
    let _minion = below.salts_minion("web1");
    let (_syndic, log) = below.syndic("low", publish);
    wait_for("the syndic's key", || fleet.halite(&["key", "list", "unaccepted"]).stdout.contains("low"));
    fleet.halite(&["key", "accept", "-y", "low"]).expect_code(0);
    refused(&fleet, &below, &log);
    named(&fleet);
    seen(&fleet, &release);
    from_below(&fleet, &below);
}

/// Nobody is named: what the syndic returns is not taken, and both logs tell.
fn refused(fleet: &Fleet, below: &SaltMaster, log: &Path) {
    let said = |text: &str| std::fs::read_to_string(log).unwrap_or_default().contains(text);
    let warned = || fleet.master().log().contains("name its id in `syndics`");
    let told = comes_true(SLOW, || {
        below.salt(&["-t", "2", "web1", "test.ping"]);
        warned() && said("Unable to call _return_pub_multi")
    });
    assert!(told, "{}\n{}", fleet.master().log(), std::fs::read_to_string(log).unwrap_or_default());
    assert_eq!(fleet.events("salt/job/*/ret/web1").len(), 0);
    assert!(!fleet.events("halite/minion/low/denied").is_empty());
}

/// It is named, and nobody starts anything again.
fn named(fleet: &Fleet) {
    let config = fleet.site.confdir("master").join("master.d/syndics.conf");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "syndics: ['lo*']\n").unwrap();
    fleet.halite(&["reload"]).expect_code(0);
    let mut answer = json!(null);
    let answers = comes_true(SLOW, || {
        let said = fleet.halite(&["*", "test.ping", "--out", "json"]);
        answer = serde_json::from_str(&said.stdout).unwrap_or_default();
        answer == json!({ "web1": true })
    });
    assert!(answers, "{answer}");
}

/// What an operator sees of the minions below, by our commands and by Salt's.
fn seen(fleet: &Fleet, release: &Release) {
    let said = fleet.halite(&["web*", "cmd.run", "echo below; exit 3", "--out", "json"]).expect_code(1);
    assert_eq!(said.json(), json!({ "web1": "below" }));
    let said = fleet.halite(&["-L", "web1,ghost", "test.ping", "--out", "json", "-t", "2"]).expect_code(1).json();
    assert!(said["web1"] == true && said["ghost"].as_str().unwrap().contains("no syndic has named it"), "{said}");
    let said = fleet.halite(&["ghost*", "test.ping"]).expect_code(2);
    assert!(said.stdout.contains("neither here nor below a syndic"), "{said:?}");
    let jobs = fleet.halite(&["jobs", "list", "--fun", "cmd.run", "--out", "json"]).json();
    let jid = jobs.as_object().unwrap().keys().next_back().unwrap();
    let job = fleet.halite(&["jobs", "show", jid, "--out", "json"]).json();
    assert_eq!((&job["Minions"], &job["Result"]["web1"]["return"]), (&json!(["web1"]), &json!("below")));
    let ret = &fleet.events(&format!("salt/job/{jid}/ret/web1"))[0]["data"];
    assert!(ret["unexpected"].is_null() && ret["retcode"] == 3, "{ret}");
    let said = release.tool(fleet, "salt", &["-t", "5", "--static", "--out", "json", "web*", "test.ping"]);
    assert_eq!(said.json(), json!({ "web1": true }));
    assert!(fleet.site.confdir("master").join("var/cache/salt/master/syndics/low").exists());
}

/// A job of the master below comes up too, with the name of its syndic.
fn from_below(fleet: &Fleet, below: &SaltMaster) {
    below.salt(&["web1", "test.arg", "from below"]);
    let mut jobs = json!(null);
    let known = comes_true(SLOW, || {
        jobs = fleet.halite(&["jobs", "list", "--fun", "test.arg", "--out", "json"]).json();
        jobs.as_object().is_some_and(|jobs| jobs.values().any(|job| job["Syndic"] == "low"))
    });
    assert!(known, "{jobs}");
    let jid = jobs.as_object().unwrap().keys().next_back().unwrap();
    wait_for("its return", || {
        let job = fleet.halite(&["jobs", "show", jid, "--out", "json"]).json();
        job["Result"]["web1"]["return"]["args"] == json!(["from below"])
    });
}

#[test]
fn a_syndic_of_3006_works_below_our_master() {
    works_below("3006.30");
}

#[test]
fn a_syndic_of_3007_works_below_our_master() {
    works_below("3007.17");
}

/// On a Python before 3.12 this release's syndic hangs at its second message, below Salt's own master too.
#[test]
fn a_syndic_of_3008_works_below_our_master() {
    let test = "a syndic of Salt 3008.5";
    let Some(release) = salt::release(test, "3008.5") else { return };
    let mut python = release.command("python");
    python.args(["-c", "import sys; sys.exit(sys.version_info < (3, 12))"]);
    if halite_tests::run(python).code == 0 {
        works_below("3008.5");
    } else {
        halite_tests::skipped(test, "its Python is older than 3.12");
    }
}
