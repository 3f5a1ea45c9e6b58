//! The log on the disk, as an operator handles it: cursors, statistics, retention, backup, and a disk that is full.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use halite_tests::{Fleet, skipped, wait_for};
use serde_json::json;

fn fire(fleet: &Fleet, tag: &str, data: &str) {
    fleet.halite(&["run", "event.send", tag, data]).expect_code(0);
}

fn cachedir(fleet: &Fleet) -> PathBuf {
    fleet.site.dir().join("master/var/cache/halite/master")
}

#[test]
fn a_reader_with_a_name_goes_on_where_it_stopped() {
    let mut fleet = Fleet::new().start();
    for n in 1..=3 {
        fire(&fleet, "test/tag", &format!("{{n: {n}}}"));
    }
    let read = |fleet: &Fleet, more: &[&str]| -> Vec<i64> {
        let words = ["events", "--tag", "test/*", "--cursor", "shipper", "--out", "jsonl"];
        let printed = fleet.halite(&[&words[..], more].concat()).expect_code(0).jsonl();
        printed.iter().map(|event| event["data"]["n"].as_i64().unwrap()).collect()
    };
    assert_eq!(read(&fleet, &["--since", "start", "--count", "2"]), [1, 2]);
    fleet.kill_master();
    fleet.restart_master();
    assert_eq!(read(&fleet, &["--since", "start"]), [3]);
    assert_eq!(read(&fleet, &[]), Vec::<i64>::new());
    fire(&fleet, "test/tag", "{n: 4}");
    assert_eq!(read(&fleet, &[]), [4]);
    let list = || fleet.halite(&["events", "cursors", "--out", "json"]).expect_code(0).json();
    wait_for("what is not wanted to be passed over too", || read(&fleet, &[]).is_empty() && list()[2]["lag"] == 0);
    let cursors = list();
    let names: Vec<&str> = cursors.as_array().unwrap().iter().map(|cursor| cursor["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["jobs", "reactor", "shipper"]);
    assert_eq!(fleet.halite(&["events", "--cursor", "../x"]).code, 64);
    fleet.halite(&["events", "cursors", "--delete", "shipper"]).expect_code(0);
    assert_eq!(fleet.halite(&["events", "cursors", "--delete", "shipper"]).code, 1);
    assert_eq!(fleet.halite(&["events", "cursors", "--delete", "reactor"]).code, 64);
}

#[test]
fn a_cursor_has_one_reader_until_that_one_ends() {
    let fleet = Fleet::new().start();
    fire(&fleet, "test/tag", "{n: 1}");
    let words = ["events", "--tag", "test/*", "--cursor", "shipper", "--out", "jsonl", "--since", "start"];
    let mut first = fleet.halite_command(&[&words[..], &["--follow"]].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"n\":1"), "{line}");
    let second = fleet.halite(&words).expect_code(1);
    assert!(second.stderr.contains("the cursor shipper has a reader already"), "{second:?}");
    assert_eq!(fleet.halite(&["events", "--cursor", "other"]).code, 0);
    first.kill().unwrap();
    first.wait().unwrap();
    fleet.halite(&words).expect_code(0);
}

#[test]
fn a_reading_ends_where_it_is_told() {
    let fleet = Fleet::new().start();
    for n in 1..=3 {
        fire(&fleet, "test/tag", &format!("{{n: {n}}}"));
    }
    let all = fleet.wait_events("test/tag", 3);
    let (second, stamp) = (all[1]["offset"].to_string(), all[2]["data"]["_stamp"].as_str().unwrap().to_owned());
    let count = |words: &[&str]| {
        let words = [&["events", "--tag", "test/*", "--out", "jsonl"][..], words].concat();
        fleet.halite(&words).expect_code(0).jsonl().len()
    };
    assert_eq!(count(&["--until", &second]), 2);
    assert_eq!(count(&["--since", &second, "--until", &stamp]), 1);
    assert_eq!(count(&["--until", "1d"]), 0);
    assert_eq!(fleet.halite(&["events", "--until", "2999-01-01T00:00:00Z"]).code, 64);
    // What can have no event is not answered with none.
    let (day, hour) = (["--since", "5m", "--until", "1h"], ["--since", "1h", "--until", "5m"]);
    for (words, why) in [
        (&["--since", "3", "--until", "2"][..], "until, 2, lies before since, 3"),
        (&day, "until lies before since"),
        (&["--since", "now", "--until", "2"], "which is now"),
        (&["--since", "99999"], "the newest event is "),
        (&["--since", "18446744073709551615"], "the newest event is "),
        (&["--since", "2999-01-01T00:00:00Z"], "since lies in the future"),
        (&["--since", "99999", "--cursor", "ahead"], "the newest event is "),
    ] {
        let refused = fleet.halite(&[&["events"][..], words].concat());
        assert!(refused.code == 64 && refused.stderr.contains(why), "{words:?}: {refused:?}");
    }
    assert_eq!(count(&hour), 0);
    let head = fleet.halite(&["events", "stats", "--out", "json"]).expect_code(0).json()["head"].as_u64().unwrap();
    assert_eq!(count(&["--since", &(head + 1).to_string()]), 0, "whoever polls asks for what comes next");
    assert_eq!(fleet.halite(&["events", "--until", "start"]).code, 64);
    let beyond = fleet.halite(&["events", "--until", "99999"]);
    assert!(beyond.code == 64 && beyond.stderr.contains("the newest event is "), "{beyond:?}");
    let stats = fleet.halite(&["events", "stats", "--out", "json"]).expect_code(0).json();
    let class = stats["classes"].as_array().unwrap().iter().find(|class| class["class"] == "test/tag").unwrap();
    assert_eq!(class["events"], 3);
    assert_eq!(stats["segments"][0]["first"], 1);
    let text = fleet.halite(&["events", "stats"]).expect_code(0).stdout;
    assert!(text.contains("test/tag") && text.contains("reactor (the master's own)"), "{text}");
}

#[test]
fn old_segments_go_and_the_rest_is_checked_backed_up_and_restored() {
    let mut fleet = Fleet::new().master_config("event_segment_size: 64KiB\nevent_retention_bytes: 400KiB").start();
    fleet.start_minions(1);
    let padding = "x".repeat(8_000);
    let late = |fleet: &Fleet, words: &[&str]| {
        let words = [&["events", "--cursor", "late", "--tag", "fill/*", "--out", "jsonl"][..], words].concat();
        fleet.halite(&words)
    };
    fire(&fleet, "fill/log", "{}");
    late(&fleet, &["--since", "start", "--count", "1"]).expect_code(0);
    wait_for("the oldest segment to be deleted", || {
        fire(&fleet, "fill/log", &format!("{{text: {padding}}}"));
        !fleet.events("halite/bus/retention").is_empty()
    });
    let deleted = &fleet.events("halite/bus/retention")[0]["data"];
    assert_eq!((&deleted["first"], &deleted["reason"]), (&json!(1), &json!("bytes")));
    assert_eq!(deleted["behind"], json!(["late"]));
    // The reader is told how much it has missed, in its stream and beside it, once.
    let cursors = fleet.halite(&["events", "cursors", "--out", "json"]).expect_code(0).json();
    let cursor = cursors.as_array().unwrap().iter().find(|cursor| cursor["name"] == "late").unwrap();
    let lost = cursor["deleted"].as_u64().unwrap();
    assert!(lost > 0 && cursor["lag"].as_u64() >= Some(lost), "{cursors}");
    // What a running master still has in memory is not lost.
    fleet.stop_master();
    fleet.restart_master();
    let read = late(&fleet, &["--count", "1"]).expect_code(0);
    let told = read.jsonl();
    assert_eq!((told.len(), &told[0]["tag"], &told[1]["tag"]), (2, &json!("halite/bus/gap"), &json!("fill/log")));
    assert!(told[0]["data"]["count"].as_u64() >= Some(lost), "{told:?}");
    assert!(read.stderr.contains("events behind cursor late are deleted"), "{read:?}");
    assert!(late(&fleet, &[]).expect_code(0).jsonl().iter().all(|event| event["tag"] == "fill/log"));
    fleet.halite(&["store", "compact"]).expect_code(0);
    let check = fleet.halite(&["store", "check"]).expect_code(0);
    assert!(check.stdout.contains(" events, ") && !check.stdout.contains("bad"), "{check:?}");
    let backup = fleet.site.dir().join("backup").display().to_string();
    fleet.halite(&["store", "backup", &backup]).expect_code(0);
    assert_eq!(fleet.halite(&["store", "backup", &backup]).code, 64);
    let running = fleet.halite(&["store", "restore", &backup, "--force"]);
    assert!(running.code == 1 && running.stderr.contains("another master is using it"), "{running:?}");
    fire(&fleet, "after/backup", "{}");
    fleet.stop_master();
    assert_eq!(fleet.halite(&["store", "restore", &backup]).code, 64);
    fleet.halite(&["store", "restore", &backup, "--force"]).expect_code(0);
    let check = fleet.halite(&["store", "check", "--out", "json"]).expect_code(0).json();
    assert!(check.as_array().unwrap().iter().all(|finding| finding["ok"] == true), "{check}");
    let exported = fleet.halite(&["store", "export", "--tag", "fill/*"]).expect_code(0).jsonl();
    assert!(!exported.is_empty());
    fleet.restart_master();
    fleet.wait_up(&["m1"]);
    assert!(fleet.events("after/backup").is_empty());
    fleet.halite(&["m1", "test.ping"]).expect_code(0);
}

/// Fills some small segments, stops the master, and returns the files of the log, oldest first.
fn stopped_with_segments(fleet: &mut Fleet) -> Vec<PathBuf> {
    let padding = format!("{{text: {}}}", "x".repeat(8_000));
    let files = |fleet: &Fleet| {
        let names = std::fs::read_dir(cachedir(fleet).join("events")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|end| end == "db")).collect();
        files.sort();
        files
    };
    wait_for("five segments", || {
        fire(fleet, "fill/log", &padding);
        files(fleet).len() >= 5
    });
    fleet.stop_master();
    files(fleet)
}

#[test]
fn damage_to_an_old_segment_stops_neither_readers_nor_jobs() {
    let mut fleet = Fleet::new().master_config("event_segment_size: 64KiB").start();
    fleet.start_minions(1);
    let files = stopped_with_segments(&mut fleet);
    std::fs::write(&files[1], vec![b'x'; 65_536]).unwrap();
    std::fs::remove_file(&files[2]).unwrap();
    for name in ["jobs.db", "jobs.db-wal", "jobs.db-shm"] {
        let _ = std::fs::remove_file(cachedir(&fleet).join(name));
    }
    fleet.restart_master();
    fleet.wait_up(&["m1"]);
    fleet.halite(&["m1", "test.ping"]).expect_code(0);
    let read = fleet.halite(&["events", "--since", "start", "--out", "jsonl"]).expect_code(0);
    let told: Vec<_> = read.jsonl().into_iter().filter(|event| event["tag"] == "halite/bus/gap").collect();
    let reasons: Vec<&str> = told.iter().map(|gap| gap["data"]["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["damaged"], "both are behind one name: {told:?}");
    assert!(read.stderr.contains("events are damaged, offsets ") && read.stderr.contains("store check"), "{read:?}");
    let export = fleet.halite(&["store", "export"]);
    assert!(export.code == 1 && export.stderr.contains("cannot be read"), "{}", export.stderr);
    let backup = fleet.site.dir().join("backup").display().to_string();
    let backed_up = fleet.halite(&["store", "backup", &backup]);
    assert!(backed_up.code == 1 && backed_up.stderr.contains("it is copied as it is"), "{backed_up:?}");
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew_with_its_jobs() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    for _ in 0..3 {
        fleet.halite(&["m1", "test.ping"]).expect_code(0);
    }
    fleet.stop_master();
    let events = cachedir(&fleet).join("events");
    std::fs::rename(&events, events.with_extension("old")).unwrap();
    fleet.restart_master();
    fleet.wait_up(&["m1"]);
    fleet.halite(&["m1", "test.echo", "new"]).expect_code(0);
    let listed = fleet.halite(&["jobs", "list", "--fun", "test.echo", "--out", "json"]).expect_code(0).json();
    assert_eq!(listed.as_object().unwrap().len(), 1, "{listed}");
    fleet.halite(&["store", "check"]).expect_code(0);
}

#[test]
fn a_job_cache_that_was_taken_away_is_missed() {
    let fleet = Fleet::new().start();
    fleet.halite(&["jobs", "list"]).expect_code(0);
    std::fs::rename(cachedir(&fleet).join("jobs.db"), cachedir(&fleet).join("away")).unwrap();
    let missed = fleet.halite(&["jobs", "list"]);
    assert!(missed.code == 1 && missed.stderr.contains("stop the master"), "{missed:?}");
    assert!(!cachedir(&fleet).join("jobs.db").exists());
}

#[test]
fn an_export_ends_with_its_reader() {
    let fleet = Fleet::new().start();
    fire(&fleet, "test/tag", "{}");
    let mut export = fleet
        .halite_command(&["store", "export"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(export.stdout.take());
    let ended = export.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

/// A small file system over the master's cache, while this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<SmallDisk> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a master that failed to stop.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    fleet.stop_master();
    let Some(disk) = SmallDisk::mount(cachedir(&fleet)) else {
        return skipped("a_full_disk_is_told_and_survived", "only root may mount a small file system");
    };
    fleet.restart_master();
    fleet.wait_up(&["m1"]);
    let mut watching = fleet
        .halite_command(&["events", "--tag", "halite/bus/*", "--out", "jsonl", "--count", "2"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Fill what is left.
    let filling = disk.0.join("filling");
    let _ = std::fs::write(&filling, vec![b'x'; 8 << 20]);
    let padding = "x".repeat(8_000);
    let degraded = || {
        let status = fleet.halite(&["doctor", "--out", "json"]);
        status.stdout.contains("nothing is acknowledged")
    };
    wait_for("the log to be full", || {
        fleet.halite(&["run", "event.send", "fill/log", &format!("{{text: {padding}}}")]);
        degraded()
    });
    // What needs no log still works.
    fleet.halite(&["minions"]).expect_code(0);
    std::fs::remove_file(&filling).unwrap();
    wait_for("the log to work again", || !degraded());
    wait_for("both to be told", || watching.try_wait().unwrap().is_some());
    let told = String::from_utf8(watching.wait_with_output().unwrap().stdout).unwrap();
    let tags: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["tag"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(tags, ["halite/bus/degraded", "halite/bus/recovered"], "{told}");
    fire(&fleet, "after/all", "{}");
    assert_eq!(fleet.wait_events("after/all", 1).len(), 1);
    fleet.stop_master();
    drop(disk);
}
