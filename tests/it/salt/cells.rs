//! The cells of the table, in their order: each goes on where the one before has left the fleet.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use halite_tests::comes_true;
use serde_json::{Value as Json, json};

use super::Scene;

/// One thing that has to work; says what is wrong if it does not.
type Cell = (&'static str, fn(&mut Scene) -> Result<(), String>);

/// All of them.
pub(super) const ALL: &[Cell] = &[
    ("join, pending, accept", join),
    ("ping", ping),
    ("minions and keys name their wire", wires),
    ("cmd.run with its retcode", retcode),
    ("arguments", arguments),
    ("grains target", grains),
    ("event.send", event),
    ("beacon, and its reaction on a native minion", beacon),
    ("find_job", find_job),
    ("master restart", restart),
    ("a new shared key", rotation),
    ("delete and accept again", delete),
    ("reject and accept again", reject),
];

/// How long a Salt minion may take to load its modules on a busy machine.
const SLOW: Duration = Duration::from_secs(240);

fn same(found: &Json, expected: &Json) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found} is not {expected}")) }
}

fn join(scene: &mut Scene) -> Result<(), String> {
    for id in scene.ids() {
        let pending = || {
            let keys = scene.fleet.halite(&["key", "list", "--out", "json"]).json();
            keys["minions_pre"].as_array().is_some_and(|ids| ids.iter().any(|known| *known == id))
        };
        if !comes_true(SLOW, pending) {
            return Err(format!("{id} does not come"));
        }
    }
    scene.fleet.halite(&["key", "accept", "-y", "-A"]).expect_code(0);
    for id in scene.ids() {
        let tag = format!("salt/minion/{id}/start");
        if !comes_true(SLOW, || !scene.fleet.events(&tag).is_empty()) {
            return Err(format!("{id} does not say that it has started"));
        }
    }
    Ok(())
}

/// Asks, and returns what each has returned.
fn all(scene: &Scene, args: &[&str]) -> Json {
    within(scene, "30", args)
}

/// Asks, and waits for so many seconds.
fn within(scene: &Scene, timeout: &str, args: &[&str]) -> Json {
    scene.fleet.halite(&[&["--out", "json", "-t", timeout][..], args].concat()).json()
}

fn everybody(scene: &Scene, value: &Json) -> Json {
    scene.ids().into_iter().map(|id| (id, value.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn ping(scene: &mut Scene) -> Result<(), String> {
    same(&all(scene, &["*", "test.ping"]), &everybody(scene, &json!(true)))
}

fn wires(scene: &mut Scene) -> Result<(), String> {
    let minions = scene.fleet.halite(&["minions", "--out", "json"]).json();
    for minion in minions.as_array().ok_or("no list")? {
        let id = minion["id"].as_str().unwrap_or_default();
        let wire = if id == "m1" { "native" } else { "salt" };
        same(&minion["wire"], &json!(wire))?;
        if wire == "salt" {
            same(&minion["up"], &Json::Null)?;
            if !minion["software"].as_str().unwrap_or_default().starts_with("salt 300") {
                return Err(format!("{id} has no version: {minion}"));
            }
        }
    }
    let listed = scene.fleet.halite(&["key", "list"]).stdout;
    if listed.contains("s3006 (salt)") && listed.contains("m1 (native)") { Ok(()) } else { Err(listed) }
}

fn retcode(scene: &mut Scene) -> Result<(), String> {
    let ran = scene.fleet.halite(&["-t", "30", "--out", "json", "s*", "cmd.run", "echo hello; exit 4"]);
    for minion in &scene.minions {
        same(&ran.json()[&minion.id], &json!("hello"))?;
    }
    if ran.code == 0 { Err("the exit code is 0".to_owned()) } else { Ok(()) }
}

fn arguments(scene: &mut Scene) -> Result<(), String> {
    let found = all(scene, &["s*", "test.arg", "1", "two words", "a=[1, 2]", "b=x: y"]);
    for minion in &scene.minions {
        let found = &found[&minion.id];
        same(&found["args"], &json!([1, "two words"]))?;
        same(&found["kwargs"]["a"], &json!([1, 2]))?;
    }
    Ok(())
}

fn grains(scene: &mut Scene) -> Result<(), String> {
    for minion in &scene.minions {
        let target = format!("saltversion:{}", minion.version);
        let found = all(scene, &["-G", &target, "grains.get", "saltversion"]);
        same(&found, &json!({ minion.id.clone(): minion.version }))?;
    }
    Ok(())
}

fn event(scene: &mut Scene) -> Result<(), String> {
    all(scene, &["s*", "event.send", "myco/sent", "{\"a\": 1}"]);
    let fired = scene.fleet.wait_events("myco/sent", scene.minions.len());
    for event in fired {
        same(&event["data"]["data"]["a"], &json!(1))?;
    }
    let forged = scene.fleet.events("salt/key").len();
    all(scene, &["s*", "event.send", "salt/key", "{\"act\": \"accept\"}"]);
    scene.fleet.wait_events("halite/minion/s*/denied", scene.minions.len());
    same(&json!(scene.fleet.events("salt/key").len()), &json!(forged))
}

fn beacon(scene: &mut Scene) -> Result<(), String> {
    scene.fleet.wait_events("salt/beacon/s3006/status/*", 1);
    let touched = scene.fleet.site.dir().join("touched");
    if comes_true(SLOW, || touched.exists()) { Ok(()) } else { Err("no reaction".to_owned()) }
}

fn find_job(scene: &mut Scene) -> Result<(), String> {
    let ran = scene.fleet.halite(&["-t", "2", "--out", "json", "s*", "test.sleep", "8"]).json();
    for minion in &scene.minions {
        same(&ran[&minion.id], &json!(true))?;
    }
    let asked = scene.fleet.events("salt/job/*/new");
    let asked = asked.iter().any(|event| event["data"]["fun"] == "saltutil.find_job");
    if asked { Ok(()) } else { Err("nobody was asked".to_owned()) }
}

fn restart(scene: &mut Scene) -> Result<(), String> {
    scene.fleet.stop_master();
    scene.fleet.restart_master();
    scene.fleet.wait_up(&["m1"]);
    // A SUB comes back within ten seconds (`recon_max`); what is published before is not heard.
    all_back(scene)
}

fn rotation(scene: &mut Scene) -> Result<(), String> {
    let before = scene.fleet.events("key").len();
    let path = scene.fleet.write("master/var/cache/halite/master/.drop", "");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::rename(&path, path.with_file_name(".dfn")).unwrap();
    scene.fleet.wait_events("key", before + 1);
    ping(scene)
}

fn delete(scene: &mut Scene) -> Result<(), String> {
    scene.fleet.halite(&["key", "delete", "-y", "s3006"]).expect_code(0);
    // Whoever hears a publication that it cannot open asks for its keys anew.
    all(scene, &["s*", "test.ping"]);
    scene.wait_key("s3006", "minions_pre");
    scene.fleet.halite(&["key", "accept", "-y", "s3006"]).expect_code(0);
    all_back(scene)
}

fn reject(scene: &mut Scene) -> Result<(), String> {
    let id = scene.minions.last().unwrap().id.clone();
    scene.fleet.halite(&["key", "reject", "-y", "--include-accepted", &id]).expect_code(0);
    let found = all(scene, &["*", "test.ping"]);
    if found.get(&id).is_some() {
        return Err(format!("{id} is rejected, and asked: {found}"));
    }
    scene.fleet.halite(&["key", "accept", "-y", "--include-rejected", &id]).expect_code(0);
    scene.minions.last_mut().unwrap().restart();
    let mut found = Json::Null;
    let back = comes_true(SLOW, || {
        scene.minions.last_mut().unwrap().revive();
        found = within(scene, "3", &["*", "test.ping"]);
        found == everybody(scene, &json!(true))
    });
    if back { Ok(()) } else { Err(format!("{found}")) }
}

/// Waits until everybody answers again.
fn all_back(scene: &Scene) -> Result<(), String> {
    let mut found = Json::Null;
    let back = comes_true(SLOW, || {
        found = within(scene, "3", &["*", "test.ping"]);
        found == everybody(scene, &json!(true))
    });
    if back { Ok(()) } else { Err(format!("{found}")) }
}
