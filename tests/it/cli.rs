//! The operator's command: help, Salt's names, lists as data.

use std::os::unix::fs::symlink;
use std::process::Command;

use halite_tests::{Fleet, run};

#[test]
fn every_help_has_an_example() {
    let fleet = Fleet::new().start();
    for verb in ["key", "events", "jobs", "minions", "reactor", "reload", "run", "doctor", "demo", "completions", "man"]
    {
        let help = fleet.halite(&[verb, "--help"]).expect_code(0);
        assert!(help.stdout.contains("Example"), "{verb}: {}", help.stdout);
    }
    fleet.halite(&["--version"]).expect_code(0);
}

#[test]
fn salts_names_work() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let dir = fleet.site.dir().join("bin");
    std::fs::create_dir(&dir).unwrap();
    let salt = |name: &str, args: &[&str]| {
        let link = dir.join(name);
        if !link.exists() {
            symlink(&fleet.site.binaries().halite, &link).unwrap();
        }
        let mut command = Command::new(link);
        command.args(args).env("HALITE_CONFIG_DIR", fleet.site.confdir("master"));
        run(command)
    };
    assert_eq!(salt("salt", &["*", "test.ping"]).expect_code(0).stdout, "m1:\n    True\n");
    let keys = salt("salt-key", &["-L"]).expect_code(0);
    assert_eq!(keys.stdout, "Accepted Keys:\nm1\nDenied Keys:\nUnaccepted Keys:\nRejected Keys:\n");
    assert_eq!(salt("salt-run", &["test.arg", "a", "b=1", "--out", "json"]).expect_code(0).json()["kwargs"]["b"], 1);
    let listed = salt("salt-run", &["jobs.list_jobs", "--out", "json"]).expect_code(0).json();
    assert_eq!(listed.as_object().unwrap().len(), 1);
}

#[test]
fn the_doctor_finds_nothing_bad_in_a_healthy_fleet() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let doctor = fleet.halite(&["doctor", "--out", "json"]).expect_code(0).json();
    let findings = doctor.as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["health"] != "bad"), "{doctor}");
    for check in ["configuration", "version", "ports", "event log", "memory master", "fd limit", "disk", "sh source"] {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}");
    }
    let quiet = fleet.halite(&["doctor", "--quiet"]).expect_code(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let mut sick = fleet.halite_command(&["doctor"]);
    sick.env("HALITE_CONFIG_DIR", fleet.site.dir().join("nowhere"));
    let sick = run(sick);
    assert_eq!(sick.code, 3, "{sick:?}");
    assert!(sick.stdout.contains("->"), "every finding has its remedy: {sick:?}");
}
