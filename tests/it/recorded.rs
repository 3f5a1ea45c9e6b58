//! The proof: commands that were recorded on Salt 3008.5 are run here under Salt's names, and must print and return the
//! same. What differs has its reason in `docs/differences.md`, and is kept as it is in a file beside the recording.
//!
//! `data/<group>/<case>.txt` is a recording: `$ command`, what it printed, `--- stderr` and what it said there, and
//! `--- exit N (…s)`; `data/<group>/events.jsonl` is what went over Salt's bus. `table.rs` has a verdict for each case,
//! in the order in which they are run. `<case>.halite` is what ours prints where it differs, as [`normal`] makes it:
//! `UPDATE_DOCS=1 cargo test -p halite-tests --test it recorded` writes it anew.
//!
//! Left out: the texts of `--help`, scripts that import Salt's own Python, and a recording of a command that had to be
//! killed.

mod case;
mod events;
mod normal;
mod reactions;
mod scene;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use case::Case;
use scene::Scene;
use table::{CASES, Verdict};

use crate::docs::is_updating;

/// Returns where the recordings lie.
fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("it/recorded/data")
}

fn differences() -> String {
    fs::read_to_string(data().join("../../../../docs/differences.md")).unwrap()
}

#[test]
fn every_recording_has_its_verdict() {
    let (mut recorded, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for group in fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path()) {
        let files = fs::read_dir(&group).unwrap().map(|entry| entry.unwrap().path());
        for file in files {
            let name = format!("{}/{}", group.file_name().unwrap().display(), file.file_stem().unwrap().display());
            match file.extension().and_then(|end| end.to_str()) {
                Some("txt") => drop(recorded.insert(name)),
                Some("halite") => drop(kept.insert(name)),
                _ => {}
            }
        }
    }
    let judged: BTreeSet<String> = CASES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(judged.len(), CASES.len(), "a case stands in the table twice");
    assert_eq!(recorded, judged);
    // While files are written anew, other tests are at it.
    if is_updating() {
        return;
    }
    let differ = CASES.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Differs(_)));
    assert_eq!(kept, differ.map(|(name, _)| (*name).to_owned()).collect(), "what ours prints is kept where it differs");
}

#[test]
fn every_difference_has_its_reason() {
    let paper = differences();
    let reasons = CASES.iter().filter_map(|(name, verdict)| match verdict {
        Verdict::Same => None,
        Verdict::Differs(reason) => Some((*name, *reason)),
    });
    let events = events::DIFFERENCES.iter().map(|(kind, _, reason)| (*kind, *reason));
    let missing: Vec<String> = reasons
        .chain(events)
        .chain(reactions::DIFFERENCES.iter().copied())
        .filter(|(_, reason)| !paper.contains(reason))
        .map(|(name, reason)| format!("{name}: docs/differences.md does not say {reason:?}"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn events_are_as_recorded() {
    let mut scene = Scene::start("events", "presence_events: true\nloop_interval: 1\n", true);
    scene.minion("m1", "");
    scene.minion("m2", "");
    scene.wait_pending(&["m1", "m2"]);
    scene.run_all(&mut |scene, case| match case {
        // Salt's minion ends when it is rejected.
        "key-list-after-reject" => scene.stop_minion("m2"),
        "test-ping" => scene.fleet.wait_up(&["m1"]),
        _ => {}
    });
    scene.finish();
}

#[test]
fn the_event_interface_is_as_recorded() {
    let mut scene = Scene::start("event-api", "", false);
    for id in ["m1", "m2"] {
        scene.minion(id, "");
    }
    scene.fleet.wait_up(&["m1", "m2"]);
    scene.run_all(&mut |_, _| {});
    scene.finish();
}

#[test]
fn beacons_are_as_recorded() {
    let mut scene = Scene::start("beacons", "", false);
    let beacons = fs::read_to_string(data().join("beacons/minion.d-beacons.conf")).unwrap();
    let beacons = scene.local(&beacons);
    scene.write("watched/log.txt", "before\n");
    scene.write("watched/f.txt", "");
    scene.fleet.write("m1/minion.d/beacons.conf", &beacons);
    scene.minion("m1", "");
    scene.fleet.wait_up(&["m1"]);
    scene.fleet.wait_events("salt/beacon/m1/status/*", 1);
    scene.write("watched/log.txt", "before\ngood-bye 2\n");
    scene.fleet.wait_events("salt/beacon/m1/log/*", 1);
    scene.in_a_session(&["/bin/sh", "-c", "/bin/ls /; exit 0"]);
    scene.run_all(&mut |_, _| {});
    scene.finish();
}

#[test]
fn the_reactor_is_as_recorded() {
    let mut scene = Scene::start("reactor", "", false);
    // Nobody is told: the port is one that nobody listens at.
    scene.minion("m1", "slack.api_url: http://127.0.0.1:1/api\n");
    scene.fleet.wait_up(&["m1"]);
    reactions::files(&scene);
    reactions::rules(&scene, "seed-reactor.conf");
    scene.run_all(&mut |scene, case| match case {
        "list" => reactions::rules(scene, "reactor.conf"),
        "add" => reactions::fire(scene),
        _ => {}
    });
    let findings = reactions::compare(&scene);
    scene.finish_with(findings);
}

#[test]
fn targets_and_jobs_are_as_recorded() {
    let pillar = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("top.sls", "base:\n  '*': [app]\n  m1: [special]\n"),
        ("app.sls", "app: {name: shop, tiers: [web, db]}\n"),
        ("special.sls", "special: true\nsecret: hunter2\n"),
    ] {
        std::fs::write(pillar.path().join(name), text).unwrap();
    }
    let groups = "nodegroups:\n  web: L@m1,m2\n  nested: N@web and not m2\n";
    let config = format!("{groups}pillar_roots:\n  base: [{}]\n", pillar.path().display());
    let mut scene = Scene::start("targeting-jobs", &config, false);
    for (at, id) in ["m1", "m2", "m3"].into_iter().enumerate() {
        let number = at + 1;
        scene.minion(id, &format!("grains:\n  role: r{number}\n  site: {{dc: [x, y{number}]}}\n"));
    }
    scene.fleet.wait_up(&["m1", "m2", "m3"]);
    scene.run_all(&mut |scene, case| match case {
        "jobs-lookup" => ["m1", "m2", "m3"].iter().for_each(|id| scene.wait_job(id)),
        "dead-minion" => scene.lose_minion("m3"),
        _ => {}
    });
    scene.finish();
}

#[test]
fn a_recording_is_read_whole() {
    let case = Case::parse("events/x", "$ salt a b\none\n\ntwo\n--- stderr\nerr\n--- exit 1 (0.97s)\n");
    assert_eq!((case.command.as_str(), case.stdout.as_str()), ("salt a b", "one\n\ntwo\n"));
    assert_eq!((case.stderr.as_str(), case.code), ("err\n", 1));
}
