//! What minions of all releases and a native one do as one fleet, and what Salt's tools see of it. In this order: each goes on
//! where the one before has left the fleet.

use std::os::unix::fs::PermissionsExt as _;

use halite_tests::comes_true;
use halite_tests::salt::{Release, SaltMinion};
use serde_json::{Value as Json, json};

use super::{Bench, NATIVE, SLOW, Tried, Verdict, check, is};

/// One thing that has to work.
type Check = (&'static str, fn(&mut Bench) -> Tried);

/// All of them.
pub(super) const ALL: &[Check] = &[
    ("halite '*' and every release's salt '*'", everybody),
    ("minions and keys name their wire", wires),
    ("pillar: targets, cache.pillar, cache.grains", pillar),
    ("salt-run mine.get of every release", mine),
    ("a failed state is told by an event", failed_state),
    ("publish.publish, full_data, runner", publish),
    ("a forged salt/key is refused", forged),
    ("a new shared key loses no job", rotation),
    ("reject and accept again", reject),
    ("a Salt minion's host becomes native", upgrade),
];

fn releases(bench: &Bench) -> Vec<Release> {
    bench.minions.values().map(|minion| minion.release.clone()).collect()
}

/// Runs one of a release's tools for one document.
fn tool(bench: &Bench, release: &Release, program: &str, args: &[&str]) -> Result<Json, String> {
    let answer = release.tool(&bench.fleet, program, &[args, &["--out", "json"]].concat());
    serde_json::from_str(&answer.stdout).map_err(|error| format!("{program} {}: {error}: {answer:?}", release.version))
}

fn everybody(bench: &mut Bench) -> Tried {
    let expected = bench.everybody(&json!(true));
    is(&bench.json(&["*", "test.ping"])?, &expected)?;
    for release in releases(bench) {
        let found = tool(bench, &release, "salt", &["-t", "30", "--static", "*", "test.ping"])?;
        is(&found, &expected).map_err(|why| format!("salt {}: {why}", release.version))?;
    }
    Ok(Verdict::Green)
}

fn wires(bench: &mut Bench) -> Tried {
    // What a master knew of a minion went with its key, and a Salt minion tells it again only if it is asked to.
    let told = bench.fleet.events("minion/refresh/*").len();
    bench.json(&["salt-*", "saltutil.refresh_pillar"])?;
    bench.fleet.wait_events("minion/refresh/*", told + bench.minions.len());
    let minions = bench.fleet.halite(&["minions", "--out", "json"]).json();
    for minion in minions.as_array().ok_or("no list")? {
        let id = minion["id"].as_str().unwrap_or_default();
        let wire = if id == NATIVE { "native" } else { "salt" };
        is(&minion["wire"], &json!(wire))?;
        if wire == "salt" {
            is(&minion["up"], &Json::Null)?;
            let software = format!("salt {}", id.trim_start_matches("salt-"));
            is(&minion["software"], &json!(software))?;
        }
    }
    let listed = bench.fleet.halite(&["key", "list"]).stdout;
    let named = bench.minions.keys().all(|id| listed.contains(&format!("{id} (salt)")));
    check(named && listed.contains(&format!("{NATIVE} (native)")), || listed)
}

fn pillar(bench: &mut Bench) -> Tried {
    let mine: Json = bench.minions.keys().map(|id| (id.clone(), json!(true))).collect::<serde_json::Map<_, _>>().into();
    is(&bench.json(&["-I", "own:salt-*", "test.ping"])?, &mine)?;
    for release in releases(bench) {
        let found = tool(bench, &release, "salt", &["-t", "30", "--static", "-I", "own:salt-*", "test.ping"])?;
        is(&found, &mine).map_err(|why| format!("salt -I {}: {why}", release.version))?;
        // These read the files on the disk: who is meant, and what is known of them.
        let mut found = Json::Null;
        let same = comes_true(SLOW, || {
            found = tool(bench, &release, "salt-run", &["cache.pillar", "own:salt-*", "tgt_type=pillar"])
                .unwrap_or_default();
            bench.minions.keys().all(|id| found[id]["own"] == **id) && found.get(NATIVE).is_none()
        });
        check(same, || format!("salt-run cache.pillar {}: {found}", release.version))?;
        let found = tool(bench, &release, "salt-run", &["cache.grains", "*"])?;
        check(bench.ids().iter().all(|id| found[id]["id"] == **id), || {
            format!("cache.grains {}: {found}", release.version)
        })?;
    }
    let cachedir = bench.fleet.site.confdir("master").join("var/cache/salt/master");
    for path in ["minions/native/data.p", "pillar/native.p", "grains/native.p"] {
        let facts = std::fs::metadata(cachedir.join(path)).map_err(|error| format!("{path}: {error}"))?;
        check(facts.permissions().mode() & 0o777 == 0o600, || format!("{path}: {:o}", facts.permissions().mode()))?;
    }
    Ok(Verdict::Green)
}

fn mine(bench: &mut Bench) -> Tried {
    bench.json(&["salt-*", "mine.update"])?;
    for release in releases(bench) {
        let mut found = Json::Null;
        let same = comes_true(SLOW, || {
            found = tool(bench, &release, "salt-run", &["mine.get", "salt-*", "test.arg"]).unwrap_or_default();
            bench.minions.keys().all(|id| found[id]["args"][0] == "mined")
        });
        check(same, || format!("salt-run mine.get {}: {found}", release.version))?;
    }
    Ok(Verdict::Green)
}

fn failed_state(bench: &mut Bench) -> Tried {
    bench.fleet.halite(&["-t", "60", "salt-*", "state.sls", "failing"]).expect_code(1);
    for id in bench.minions.keys() {
        let told = bench.fleet.wait_events(&format!("salt/job/*/sub/{id}/error/state.sls"), 1);
        is(&told[0]["data"]["return"], &json!("Error: test.fail_without_changes"))?;
    }
    Ok(Verdict::Green)
}

fn publish(bench: &mut Bench) -> Tried {
    let bench = &*bench;
    std::thread::scope(|scope| {
        let asking: Vec<_> =
            bench.minions.values().map(|minion| scope.spawn(move || publishes(bench, minion))).collect();
        let tried = asking.into_iter().map(|asking| asking.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
        tried.collect::<Result<Vec<_>, _>>()
    })?;
    let mine = |args: &[&str]| Ok::<Json, String>(bench.json(&[&[NATIVE], args].concat())?[NATIVE].clone());
    is(&mine(&["publish.publish", "*", "test.ping", "timeout=60"])?, &bench.everybody(&json!(true)))?;
    is(&mine(&["publish.publish", "*", "cmd.run", "id"])?, &json!({}))?;
    is(&mine(&["publish.runner", "test.arg", "[1, a=b]"])?, &json!({ "args": [1], "kwargs": { "a": "b" } }))?;
    Ok(Verdict::Green)
}

/// Has one minion publish, as far as it may (options `peer` and `peer_run`).
fn publishes(bench: &Bench, minion: &SaltMinion) -> Tried {
    let call = |args: &[&str]| -> Result<Json, String> {
        let answer = minion.call(&[args, &["--out", "json"]].concat());
        let found: Json =
            serde_json::from_str(&answer.stdout).map_err(|error| format!("{args:?}: {error}: {answer:?}"))?;
        Ok(found["local"].clone())
    };
    let same = |args: &[&str], expected: Json| {
        let tried = call(args).and_then(|found| is(&found, &expected));
        tried.map_err(|why| format!("{} {args:?}: {why}", minion.release.version))
    };
    same(&["publish.publish", "*", "test.ping", "timeout=60"], bench.everybody(&json!(true)))?;
    same(&["publish.full_data", NATIVE, "test.echo", "said", "timeout=60"], json!({ NATIVE: { "ret": "said" } }))?;
    same(&["publish.publish", "*", "cmd.run", "id"], json!({}))?;
    same(&["publish.runner", "test.arg", "[1, a=b]"], json!({ "args": [1], "kwargs": { "a": "b" } }))?;
    same(&["publish.runner", "manage.status"], json!({}))?;
    let up = call(&["publish.runner", "manage.up"])?;
    let listed = up.as_array().map(|ids| ids.iter().filter_map(Json::as_str).collect::<Vec<_>>()).unwrap_or_default();
    check(bench.ids().iter().all(|id| listed.contains(id)), || format!("{} manage.up: {up}", minion.release.version))
}

fn forged(bench: &mut Bench) -> Tried {
    let told = bench.fleet.events("salt/key").len();
    bench.json(&["salt-*", "event.send", "salt/key", "{\"act\": \"accept\"}"])?;
    bench.fleet.wait_events("halite/minion/salt-*/denied", bench.minions.len());
    is(&json!(bench.fleet.events("salt/key").len()), &json!(told))
}

fn rotation(bench: &mut Bench) -> Tried {
    let before = bench.fleet.events("key").len();
    let path = bench.fleet.write("master/var/cache/salt/master/.drop", "");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::rename(&path, path.with_file_name(".dfn")).unwrap();
    bench.fleet.wait_events("key", before + 1);
    is(&bench.json(&["*", "test.ping"])?, &bench.everybody(&json!(true)))
}

fn reject(bench: &mut Bench) -> Tried {
    let Some(id) = bench.minions.keys().next_back().cloned() else { return Ok(Verdict::Green) };
    bench.fleet.halite(&["key", "reject", "-y", "--include-accepted", &id]).expect_code(0);
    let found = bench.json(&["*", "test.ping"])?;
    check(found.get(&id).is_none(), || format!("{id} is rejected, and asked: {found}"))?;
    bench.fleet.halite(&["key", "accept", "-y", "--include-rejected", &id]).expect_code(0);
    // It would shut down by itself, some time later.
    bench.minions.get_mut(&id).expect("it is there").restart();
    let expected = bench.everybody(&json!(true));
    let mut found = Json::Null;
    let back = comes_true(SLOW, || {
        bench.minions.values_mut().for_each(SaltMinion::revive);
        found = bench.json(&["-t", "3", "*", "test.ping"]).unwrap_or_default();
        found == expected
    });
    check(back, || found.to_string())
}

/// Our minion takes the place of one of Salt's, with its keys and its pin, and nobody does anything on the master.
fn upgrade(bench: &mut Bench) -> Tried {
    let Some((id, minion)) = bench.minions.pop_first() else { return Ok(Verdict::Green) };
    let pki = minion.confdir().join("root/etc/salt/pki/minion");
    drop(minion);
    let pinned = std::fs::read(pki.join("minion_master.pub")).map_err(|error| error.to_string())?;
    bench.fleet.start_minion(&id, &format!("pki_dir: {}", pki.display()));
    bench.fleet.wait_up(&[&id]);
    let told = bench.fleet.events("salt/key");
    let upgraded = told.iter().any(|event| event["data"]["act"] == "upgraded" && event["data"]["id"] == *id);
    check(upgraded, || format!("{told:?}"))?;
    let minions = bench.fleet.halite(&["minions", "--out", "json"]).json();
    let mine = minions.as_array().and_then(|list| list.iter().find(|minion| minion["id"] == *id)).cloned();
    is(&mine.unwrap_or_default()["wire"], &json!("native"))?;
    is(&bench.json(&[&id, "test.ping"])?, &json!({ id: true }))?;
    let now = std::fs::read(pki.join("minion_master.pub")).map_err(|error| error.to_string())?;
    check(now == pinned, || "the pin has changed".to_owned())
}
