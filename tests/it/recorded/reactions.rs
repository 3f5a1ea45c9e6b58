//! What the reactor does: the recorded events are fired again, and the jobs that follow are the recorded ones.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use super::Scene;
use super::data;

/// Where the recorded reactor files are kept: the reactor's own tests render them too.
const FILES: &str = "../master/src/reactor/testdata";

/// Recorded jobs that differ, by a word of their arguments, each with its reason in `docs/differences.md`.
pub(super) const DIFFERENCES: &[(&str, &str)] =
    &[("lab/jinja", "what `salt[…]` has in reactor files"), ("lab/py", "Reactor files are YAML after Jinja")];

/// Puts the reactor's files where the recorded rules have them.
pub(super) fn files(scene: &Scene) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILES);
    copy(scene, &from.join("sls"), "srv/reactor");
    copy(scene, &from.join("salt"), "srv/salt");
    let roots = format!("file_roots:\n  base: [{}]\n", scene.fleet.site.dir().join("srv/salt").display());
    scene.fleet.write("master/master.d/roots.conf", &roots);
}

fn copy(scene: &Scene, from: &Path, to: &str) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = format!("{to}/{}", entry.file_name().display());
        if entry.path().is_dir() {
            copy(scene, &entry.path(), &to);
        } else {
            scene.write(&to, &fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// Puts recorded rules in force.
pub(super) fn rules(scene: &Scene, name: &str) {
    let rules = scene.local(&fs::read_to_string(data().join("reactor").join(name)).unwrap());
    scene.fleet.write("master/master.d/reactor.conf", &rules);
    scene.fleet.halite(&["reload"]).expect_code(0);
}

fn recorded() -> Vec<Json> {
    let text = fs::read_to_string(data().join("reactor/events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fires what was fired, in its order, and waits until the last one has been answered.
pub(super) fn fire(scene: &mut Scene) {
    let fired = recorded().into_iter().filter(|event| event["data"]["cmd"] == "_minion_event");
    for event in fired {
        let (tag, data) = (event["tag"].as_str().unwrap(), &event["data"]["data"]);
        scene.types(&format!("salt-call event.fire_master '{data}' '{tag}'")).expect_code(0);
    }
    scene.types("salt-call event.fire_master '{id: m1}' lab/local/cmd").expect_code(0);
    halite_tests::wait_for("the last reaction", || {
        jobs(&scene.fleet.events("salt/job/*/new")).iter().filter(|job| job.contains("\"a\"")).count() == 2
    });
}

/// Returns what the jobs are: function, target, arguments.
fn jobs(events: &[Json]) -> Vec<String> {
    let jobs = events
        .iter()
        .filter(|event| event["tag"].as_str().is_some_and(|tag| tag.starts_with("salt/job/") && tag.ends_with("/new")));
    let mut jobs: Vec<String> = jobs
        .map(|event| format!("{} {} {}", event["data"]["fun"], event["data"]["tgt"], sorted(&event["data"]["arg"])))
        .collect();
    jobs.sort();
    jobs
}

/// Writes a value with its keys in order.
fn sorted(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        Json::Object(map) => {
            let mut fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", sorted(value))).collect();
            fields.sort();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}

/// Returns what is wrong with the jobs that followed.
pub(super) fn compare(scene: &Scene) -> Vec<String> {
    let (mut theirs, mut ours) = (jobs(&recorded()), jobs(&scene.fleet.events("salt/job/*/new")));
    // The last one was fired once more, to know that all are answered.
    ours.dedup();
    theirs.dedup();
    let excused = |job: &str| DIFFERENCES.iter().any(|(word, _)| job.contains(word));
    let missing = theirs.iter().filter(|job| !ours.contains(job) && !excused(job));
    let more = ours.iter().filter(|job| !theirs.contains(job) && !excused(job));
    let missing = missing.map(|job| format!("reactor: this job was recorded and is not there: {job}"));
    missing.chain(more.map(|job| format!("reactor: this job is there and was not recorded: {job}"))).collect()
}
