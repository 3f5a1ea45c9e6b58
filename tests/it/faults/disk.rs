//! A log that cannot be written, end to end: nothing is acknowledged, everything else goes on, and it recovers by itself.

use std::path::PathBuf;

use halite_tests::faults::disk::{FailingDisk, Failure, SmallDisk};
use halite_tests::{Fleet, Outcome, skipped, wait_for};

fn cachedir(fleet: &Fleet) -> PathBuf {
    fleet.site.confdir("master").join("var/cache/halite/master")
}

fn is_degraded(fleet: &Fleet) -> bool {
    fleet.halite(&["doctor", "--out", "json"]).stdout.contains("nothing is acknowledged")
}

/// Harms the disk, looks at what an operator and a minion see, heals it, and looks again. `reason` is what the log line says.
fn survives<Harm>(fleet: &Fleet, reason: &str, harm: impl FnOnce() -> Harm, heal: impl FnOnce(Harm)) {
    let seen = fleet.site.dir().join("seen");
    let mut watching = fleet
        .halite_command(&["events", "--tag", "halite/bus/[dr]*", "--tag", "probe/live", "--out", "jsonl"])
        .stdout(std::fs::File::create(&seen).unwrap())
        .spawn()
        .unwrap();
    wait_for("the reader to read", || {
        fleet.halite(&["run", "event.send", "probe/live", "{n: 1}"]).expect_code(0);
        !std::fs::read_to_string(&seen).unwrap().is_empty()
    });
    let before = std::fs::read_to_string(&seen).unwrap().len();
    let harmed = harm();
    let padding = "x".repeat(8_000);
    wait_for("the log to be out of order", || {
        fleet.halite(&["run", "event.send", "probe/fill", &format!("{{text: {padding}}}")]);
        is_degraded(fleet)
    });
    // No acknowledgement: the command that waits for one says that there was none.
    let sent = fleet.call("m1", &["--timeout", "2", "event.send", "probe/call", "{n: 1}", "timeout=2"]);
    assert_ne!(sent.code, 0, "{sent:?}");
    // Service goes on: jobs reach minions, and what needs no log is answered.
    let ran = fleet.site.dir().join("ran");
    let script = format!("echo ran >> {}", ran.display());
    let publish = fleet.halite(&["m1", "cmd.run", &script, "--async", "--queue", "10m"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    wait_for("the job to run", || ran.exists());
    fleet.halite(&["minions"]).expect_code(0);
    // Who reads live sees what the master fires, and that it is not in the log.
    let fired = fleet.halite(&["run", "event.send", "probe/live", "{n: 2}"]);
    assert!(fired.code != 0 && fired.stderr.contains("event log"), "{fired:?}");
    heal(harmed);
    wait_for("the log to work again", || !is_degraded(fleet));
    fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    fleet.halite(&["m1", "test.ping"]).expect_code(0);
    assert_eq!(fleet.events(&format!("salt/job/{jid}/ret/m1")).len(), 1, "its return came once");
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "ran\n", "and it ran once");
    let told = || std::fs::read_to_string(&seen).unwrap()[before..].to_owned();
    wait_for("the live reader to have seen it all", || told().contains("halite/bus/recovered"));
    let _ = (watching.kill(), watching.wait());
    let told = Outcome { code: 0, stdout: told(), stderr: String::new() }.jsonl();
    // The probes from before may have come late; `event.send` of a runner has its data flat.
    let told: Vec<_> = told.iter().filter(|event| event["data"]["n"] != 1).collect();
    let tags: Vec<_> = told.iter().map(|event| (event["tag"].as_str().unwrap(), event["durable"].as_bool())).collect();
    assert_eq!(tags[..2], [("halite/bus/degraded", Some(false)), ("probe/live", Some(false))], "{told:?}");
    assert_eq!(tags[2..], [("halite/bus/recovered", None)], "told once: {told:?}");
    let log = fleet.master().log();
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains("event log is out of order"));
    assert!(line.is_some_and(|line| line.contains(reason)), "{log}");
}

fn failing(test: &str, failure: Failure, reason: &str) {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let folder = cachedir(&fleet).join("events");
    let files = ["", "-wal"].map(|end| folder.join(format!("{:020}.db{end}", 1)));
    if !FailingDisk::is_possible() {
        return skipped(test, "strace is not there, or may not be used");
    }
    survives(&fleet, reason, || FailingDisk::of(fleet.master().pid(), &files, failure).expect("it was possible"), drop);
}

#[test]
fn a_disk_whose_syncs_fail_is_told_and_survived() {
    failing("a_disk_whose_syncs_fail_is_told_and_survived", Failure::Sync, "the disk fails");
}

#[test]
fn a_read_only_disk_is_told_and_survived() {
    failing("a_read_only_disk_is_told_and_survived", Failure::Write, "check");
}

#[test]
fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    fleet.stop_master();
    let Some(disk) = SmallDisk::mount(&cachedir(&fleet)) else {
        return skipped(
            "a_full_disk_acknowledges_nothing_and_loses_nothing",
            "only root may mount a small file system",
        );
    };
    fleet.restart_master();
    fleet.wait_up(&["m1"]);
    survives(&fleet, "free some space", || assert!(disk.fill()), |()| assert!(disk.free()));
    fleet.stop_master();
}
