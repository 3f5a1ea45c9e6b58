//! The cells: what an operator does with a minion of a Salt master.

use halite_tests::comes_true;
use halite_tests::salt::SaltMaster;
use serde_json::{Value as Json, json};

use super::{Cell, Scene, wait_key};

/// How long what the master does by itself may take.
const SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// In this order: the first ones bring the minion up, the last ones shake the master.
pub(super) const ALL: &[Cell] = &[
    ("pending, then accepted", accept),
    ("test.ping", ping),
    ("cmd.run and its return code", command),
    ("keyword arguments", keywords),
    ("grains.items", grains),
    ("target: grain, compound, list, pcre", targets),
    ("state.single of a state that we lack", lacking),
    ("pillar: keys, values, target", pillar),
    ("cp.get_file of 300 kB, hash_file, list_master", files),
    ("mine: send, get, update by itself", mine),
    ("publish.publish, full_data, runner", publish),
    ("event.send", event),
    ("a beacon on the master's bus", beacon),
    ("start events", starts),
    ("find_job while a job runs", find_job),
    ("saltutil.running and kill_job", kill),
    ("halite-minion call", call),
    ("memory", memory),
    ("another key deleted: the AES key rotates", rotation),
    ("key deleted and accepted again", reaccept),
    ("master restarted", restart),
];

/// Puts down the files that the cells ask for.
pub(super) fn prepare(master: &SaltMaster) {
    master.write("srv/salt/dir/blob.bin", &blob());
    master.write("srv/salt/text.txt", "grüße\n".as_bytes());
    master.write("srv/pillar/top.sls", b"base:\n  'halite*':\n    - data\n");
    master.write("srv/pillar/data.sls", b"role: web\nnested:\n  list: [1, two]\n");
}

/// A file of 300 kB in which every byte occurs: two pieces of the file server.
fn blob() -> Vec<u8> {
    (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Returns what the minion answered.
fn answer(scene: &Scene, args: &[&str]) -> Result<Json, String> {
    let said = scene.master.salt(args);
    let doc: Json = serde_json::from_str(&said.stdout).map_err(|error| format!("{args:?}: {error}: {said:?}"))?;
    doc.get("halite1").cloned().ok_or_else(|| format!("{args:?}: no answer: {said:?}"))
}

fn same(found: &Json, expected: &Json) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found} is not {expected}")) }
}

fn expect(scene: &Scene, args: &[&str], expected: &Json) -> Result<(), String> {
    same(&answer(scene, args)?, expected)
}

fn accept(scene: &mut Scene) -> Result<(), String> {
    wait_key(&scene.master, "minions_pre");
    scene.master.tool("salt-key", &["-y", "-a", "halite1"]);
    up(scene)
}

/// Waits until the minion answers.
fn up(scene: &Scene) -> Result<(), String> {
    let answers = || expect(scene, &["-t", "5", "halite1", "test.ping"], &json!(true)).is_ok();
    if comes_true(SOON, answers) { Ok(()) } else { Err("it does not answer".to_owned()) }
}

fn ping(scene: &mut Scene) -> Result<(), String> {
    expect(scene, &["halite1", "test.ping"], &json!(true))
}

fn command(scene: &mut Scene) -> Result<(), String> {
    // With --static Salt's own exit code is always 0.
    let said = scene.master.tool("salt", &["halite1", "cmd.run", "echo said; exit 4"]);
    if said.code != 1 {
        return Err(format!("the exit code is {}: {said:?}", said.code));
    }
    expect(scene, &["halite1", "cmd.run", "echo said; exit 4"], &json!("said"))
}

fn keywords(scene: &mut Scene) -> Result<(), String> {
    let found = answer(scene, &["halite1", "test.arg", "1", "two", "a=b", "c={d: [e]}"])?;
    same(&found["args"], &json!([1, "two"]))?;
    same(&found["kwargs"]["a"], &json!("b"))?;
    same(&found["kwargs"]["c"], &json!({"d": ["e"]}))
}

fn grains(scene: &mut Scene) -> Result<(), String> {
    let found = answer(scene, &["halite1", "grains.items"])?;
    same(&found["id"], &json!("halite1"))?;
    same(&found["kernel"], &json!("Linux"))
}

fn targets(scene: &mut Scene) -> Result<(), String> {
    for target in [
        ["-G", "kernel:Linux"],
        ["-C", "halite* and G@kernel:Linux and not E@web.*"],
        ["-L", "halite1,other"],
        ["-E", "hal(i|y)te[0-9]"],
    ] {
        let answered = expect(scene, &[target[0], target[1], "test.ping"], &json!(true));
        answered.map_err(|why| format!("{target:?}: {why}"))?;
    }
    Ok(())
}

fn lacking(scene: &mut Scene) -> Result<(), String> {
    let said = scene.master.tool("salt", &["halite1", "state.single", "test.nop", "name=x"]);
    if said.code != 1 {
        return Err(format!("the exit code is {}: {said:?}", said.code));
    }
    expect(scene, &["halite1", "state.single", "test.nop", "name=x"], &json!("'state.single' is not available."))
}

/// The command line of 3008 hides values of a pillar, so they are asked for by what they do.
fn pillar(scene: &mut Scene) -> Result<(), String> {
    expect(scene, &["halite1", "pillar.keys", ""], &json!(["role", "nested"]))
        .or_else(|_| expect(scene, &["halite1", "pillar.ls"], &json!(["role", "nested"])))?;
    let found = answer(scene, &["halite1", "pillar.items"])?;
    if found.get("nested").is_none() {
        return Err(format!("pillar.items: {found}"));
    }
    expect(scene, &["-I", "role:w*", "test.ping"], &json!(true))?;
    expect(scene, &["-C", "halite* and I@nested:list:two", "test.ping"], &json!(true))?;
    let other = scene.master.salt(&["-t", "2", "-I", "role:db", "test.ping"]);
    if other.stdout.contains("true") { Err(format!("it answered for another: {other:?}")) } else { Ok(()) }
}

fn files(scene: &mut Scene) -> Result<(), String> {
    let to = scene.minion.confdir().join("blob");
    let to_text = to.display().to_string();
    expect(scene, &["halite1", "cp.get_file", "salt://dir/blob.bin", &to_text], &json!(to_text))?;
    if std::fs::read(&to).map_err(|error| error.to_string())? != blob() {
        return Err("the file arrived with other bytes".to_owned());
    }
    let hash = answer(scene, &["halite1", "cp.hash_file", "salt://dir/blob.bin"])?;
    same(&hash["hash_type"], &json!("sha256"))?;
    let listed = answer(scene, &["halite1", "cp.list_master"])?;
    same(&listed, &json!(["dir/blob.bin", "text.txt"]))?;
    expect(scene, &["halite1", "cp.get_file_str", "salt://text.txt"], &json!("grüße\n"))?;
    let cached = answer(scene, &["halite1", "cp.cache_file", "salt://text.txt"])?;
    let path = cached.as_str().ok_or_else(|| format!("cp.cache_file: {cached}"))?;
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    if text == "grüße\n" { Ok(()) } else { Err(text) }
}

fn mine(scene: &mut Scene) -> Result<(), String> {
    expect(scene, &["halite1", "mine.send", "test.ping"], &json!(true))?;
    expect(scene, &["halite1", "mine.get", "halite1", "test.ping"], &json!({"halite1": true}))?;
    // What is configured is told by the minion itself.
    let told = || expect(scene, &["halite1", "mine.get", "*", "kernel"], &json!({"halite1": "Linux"})).is_ok();
    if comes_true(SOON, told) { Ok(()) } else { Err("mine_functions are not told by themselves".to_owned()) }
}

fn publish(scene: &mut Scene) -> Result<(), String> {
    expect(
        scene,
        &["halite1", "publish.publish", "halite*", "test.echo", "said", "timeout=30"],
        &json!({"halite1": "said"}),
    )?;
    let full = json!({"halite1": {"ret": true}});
    expect(scene, &["halite1", "publish.full_data", "*", "test.ping", "timeout=30"], &full)?;
    expect(scene, &["halite1", "publish.publish", "*", "cmd.run", "id"], &json!({}))?;
    let echoed = json!({"args": [1], "kwargs": {"a": "b"}});
    expect(scene, &["halite1", "publish.runner", "test.arg", "[1, a=b]"], &echoed)
}

/// Waits for one event whose tag matches while something is done again and again: a listener is there some time after it
/// was started, and says nothing of it.
fn heard(scene: &Scene, tag: &str, cause: impl Fn()) -> Result<String, String> {
    let (_listener, path) = scene.master.beside("salt-run", &["state.event", tag, "count=1"]);
    let mut text = String::new();
    let told = comes_true(SOON, || {
        cause();
        text = std::fs::read_to_string(&path).unwrap_or_default();
        text.contains('{') && text.ends_with('\n')
    });
    if told { Ok(text) } else { Err(format!("no event {tag}")) }
}

fn event(scene: &mut Scene) -> Result<(), String> {
    let text = heard(scene, "cells/event", || {
        scene.master.salt(&["halite1", "event.send", "cells/event", "foo=bar"]);
    })?;
    if text.contains(r#""foo": "bar""#) { Ok(()) } else { Err(text) }
}

fn beacon(scene: &mut Scene) -> Result<(), String> {
    let text = heard(scene, "salt/beacon/halite1/status/*", || ())?;
    if text.contains(r#""id": "halite1""#) { Ok(()) } else { Err(text) }
}

fn starts(scene: &mut Scene) -> Result<(), String> {
    let started = std::cell::Cell::new(0);
    let text = heard(scene, "salt/minion/second/start", || {
        // Each is a new one, until the listener is there.
        started.set(started.get() + 1);
        let id = "second";
        let minion = scene.master.minion(id, "");
        comes_true(SOON, || {
            minion.log().contains("connected to") || {
                scene.master.tool("salt-key", &["-y", "-a", id]);
                false
            }
        });
        comes_true(std::time::Duration::from_secs(1), || false);
    });
    scene.master.tool("salt-key", &["-y", "-d", "second"]);
    let text = text?;
    if text.contains("Minion second started at ") { Ok(()) } else { Err(text) }
}

fn find_job(scene: &mut Scene) -> Result<(), String> {
    // The answer comes long after the timeout: `salt` waits because find_job says that the job runs.
    expect(scene, &["-t", "2", "halite1", "test.sleep", "8"], &json!(true))
}

fn kill(scene: &mut Scene) -> Result<(), String> {
    let said = scene.master.tool("salt", &["--async", "halite1", "test.sleep", "300"]);
    let jid: String = said.stdout.split_whitespace().last().unwrap_or_default().to_owned();
    let proc = scene.minion.confdir().join("root/var/cache/halite/minion/proc").join(&jid);
    if !comes_true(SOON, || proc.exists()) {
        return Err(format!("no file for the job {jid}: {said:?}"));
    }
    let running = answer(scene, &["halite1", "saltutil.running"])?;
    same(&running[0]["fun"], &json!("test.sleep"))?;
    let found = answer(scene, &["halite1", "saltutil.find_job", &format!("'{jid}'")])?;
    same(&found["jid"], &json!(jid))?;
    answer(scene, &["halite1", "saltutil.kill_job", &format!("'{jid}'")])?;
    if comes_true(SOON, || !proc.exists()) { Ok(()) } else { Err("its file stays".to_owned()) }
}

fn call(scene: &mut Scene) -> Result<(), String> {
    let said = scene.minion.call(&["test.echo", "called", "--out", "json"]);
    same(&serde_json::from_str(&said.stdout).unwrap_or_default(), &json!({"local": "called"}))
        .map_err(|why| format!("{why}: {said:?}"))?;
    let listed = || scene.master.tool("salt-run", &["jobs.list_jobs", "search_function=test.echo", "--out", "json"]);
    let told = comes_true(SOON, || listed().stdout.contains("test.echo"));
    if told { Ok(()) } else { Err("the master has no job of it".to_owned()) }
}

fn memory(scene: &mut Scene) -> Result<(), String> {
    // The promise of 10 MB is for release builds; a debug build's code alone is larger than that.
    let limit = if cfg!(debug_assertions) { 32 * 1024 } else { 10 * 1024 };
    match scene.minion.rss_kib() {
        Some(taken) if taken <= limit => Ok(()),
        taken => Err(format!("{taken:?} KiB")),
    }
}

/// Makes the master rotate its key: another minion's is deleted.
fn rotation(scene: &mut Scene) -> Result<(), String> {
    let renewals = |scene: &Scene| scene.minion.log().matches("authenticating anew").count();
    let before = renewals(scene);
    let public = std::fs::read(scene.minion.confdir().join("root/etc/halite/pki/minion/minion.pub"));
    scene.master.write("root/etc/salt/pki/master/minions/ghost", &public.map_err(|error| error.to_string())?);
    scene.master.tool("salt-key", &["-y", "-d", "ghost"]);
    let mut lost = 0;
    let rotated = comes_true(SOON, || {
        lost += i32::from(expect(scene, &["halite1", "test.ping"], &json!(true)).is_err());
        renewals(scene) > before
    });
    match (rotated, lost) {
        (true, 0) => ping(scene),
        (true, lost) => Err(format!("{lost} jobs were lost")),
        (false, _) => Err("the minion noticed no new key".to_owned()),
    }
}

fn reaccept(scene: &mut Scene) -> Result<(), String> {
    scene.master.tool("salt-key", &["-y", "-d", "halite1"]);
    wait_key(&scene.master, "minions_pre");
    scene.master.tool("salt-key", &["-y", "-a", "halite1"]);
    up(scene)?;
    let by_grain = || expect(scene, &["-G", "kernel:Linux", "test.ping"], &json!(true)).is_ok();
    if comes_true(SOON, by_grain) { Ok(()) } else { Err("the master has no grains of it".to_owned()) }
}

fn restart(scene: &mut Scene) -> Result<(), String> {
    scene.master.restart();
    up(scene)?;
    heard(scene, "salt/beacon/halite1/status/*", || ()).map(|_| ())
}
