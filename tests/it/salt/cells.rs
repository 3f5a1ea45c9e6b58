//! The rows of the table, and the files on the master that they need.

use std::fs;
use std::path::Path;

use halite_tests::comes_true;
use serde_json::{Value as Json, json};

use super::{Bench, NATIVE, SLOW, Tried, Verdict, check, is};

/// One row.
pub(super) struct Cell {
    /// What it is called.
    pub(super) name: &'static str,
    /// What is done once, for all releases.
    pub(super) first: fn(&mut Bench) -> Tried,
    /// How it is tried with one minion. Those of all releases are tried at once.
    pub(super) run: fn(&Bench, &str) -> Tried,
}

/// The rows, in the order of a first day.
pub(super) const CELLS: &[Cell] = &[
    Cell { name: "join", first: nothing, run: join },
    Cell { name: "accept", first: nothing, run: accept },
    Cell { name: "ping", first: nothing, run: ping },
    Cell { name: "cmd.run", first: nothing, run: cmd_run },
    Cell { name: "kwargs", first: nothing, run: kwargs },
    Cell { name: "pillar.items", first: nothing, run: pillar_items },
    Cell { name: "grains target", first: nothing, run: grains_target },
    Cell { name: "cp.get_file of a 300 kB binary", first: nothing, run: get_file },
    Cell { name: "state.apply with a file.managed source", first: nothing, run: state_apply },
    Cell { name: "event.send", first: nothing, run: event_send },
    Cell { name: "beacon, its reaction on the native minion", first: nothing, run: beacon },
    Cell { name: "mine", first: nothing, run: mine },
    Cell { name: "find_job", first: nothing, run: find_job },
    Cell { name: "master restart", first: restart_master, run: Bench::wait_answer },
    Cell { name: "key delete and re-accept", first: delete_keys, run: accept_again },
];

/// What each minion is told besides where its master is.
pub(super) const MINION_CONFIG: &str = "\
grains:\n  matrix: true\nmine_functions:\n  test.arg: [mined]\nmine_interval: 60\n\
beacons:\n  status:\n    - interval: 2\n    - loadavg: [1-min]\n";

/// How many bytes the downloaded file has: more than one piece.
const BLOB: usize = 300_000;

/// What the master is told besides what Salt's tools need to know too.
pub(super) fn master_config(srv: &Path) -> String {
    let dir = srv.display();
    format!(
        "loop_interval: 1\nfile_roots:\n  base: [{dir}/salt]\npillar_roots:\n  base: [{dir}/pillar]\n\
         reactor:\n  - 'salt/beacon/*/status/*':\n    - {dir}/reactor/seen.sls\n\
         peer:\n  .*: [test\\..*]\npeer_run:\n  .*: [manage.up, test.arg]\n"
    )
}

/// Writes states, pillars and a reaction; returns the bytes of `salt://blob.bin`.
pub(super) fn write_srv(srv: &Path) -> Vec<u8> {
    let write = |name: &str, text: &[u8]| {
        let path = srv.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // Every byte value, in an order that no piece repeats.
    let blob: Vec<u8> = (0..BLOB).map(|at| u8::try_from((at * at / 7 + at) % 256).unwrap()).collect();
    write("salt/blob.bin", &blob);
    write("salt/web/init.sls", b"managed:\n  file.managed:\n    - name: {{ pillar['where'] }}/{{ grains['id'] }}.conf\n    - source: salt://web/site.conf\n    - template: jinja\n");
    write("salt/failing.sls", b"wrong:\n  test.fail_without_changes: []\n");
    write("salt/web/site.conf", b"id = {{ grains['id'] }}\n");
    write(
        "pillar/top.sls",
        b"base:\n  '*':\n    - common\n  'G@matrix:True':\n    - match: compound\n    - own\n  'dev1':\n    - device\n",
    );
    write("pillar/common.sls", format!("where: {}\n", srv.join("out").display()).as_bytes());
    write("pillar/device.sls", b"proxy:\n  proxytype: dummy\n");
    write("pillar/own.sls", b"own: {{ grains['id'] }}\n");
    write("reactor/seen.sls", format!("seen:\n  local.event.send:\n    - tgt: {NATIVE}\n    - args:\n      - tag: matrix/reacted\n      - data: {{of: {{{{ data['id'] }}}}}}\n").as_bytes());
    fs::create_dir_all(srv.join("out")).unwrap();
    blob
}

fn nothing(_: &mut Bench) -> Tried {
    Ok(Verdict::Green)
}

fn join(bench: &Bench, id: &str) -> Tried {
    check(comes_true(SLOW, || bench.has_key("minions_pre", id)), || format!("{id} never was pending"))
}

fn accept(bench: &Bench, id: &str) -> Tried {
    bench.fleet.halite(&["key", "accept", id, "-y"]).expect_code(0);
    bench.wait_answer(id)?;
    let started = || !bench.fleet.events(&format!("salt/minion/{id}/start")).is_empty();
    check(comes_true(SLOW, started), || format!("{id} does not say that it has started"))
}

fn ping(bench: &Bench, id: &str) -> Tried {
    is(&bench.json(&[id, "test.ping"])?, &json!({ id: true }))
}

fn cmd_run(bench: &Bench, id: &str) -> Tried {
    let answer = bench.fleet.halite(&["-t", "30", id, "cmd.run", "echo out; exit 4", "--out", "json"]);
    check(answer.code == 1 && answer.json()[id] == "out", || format!("{answer:?}"))
}

fn kwargs(bench: &Bench, id: &str) -> Tried {
    let answer = bench.json(&[id, "cmd.run", "echo $WORD", "env={WORD: kwarg}", "python_shell=True"])?;
    is(&answer[id], &json!("kwarg"))?;
    let answer = bench.json(&[id, "test.arg", "1", "two words", "a=[1, 2]", "b=x: y"])?;
    is(&answer[id]["args"], &json!([1, "two words"]))?;
    is(&answer[id]["kwargs"]["a"], &json!([1, 2]))
}

fn pillar_items(bench: &Bench, id: &str) -> Tried {
    let pillar = bench.json(&[id, "pillar.items"])?;
    check(pillar[id].get("own").is_some() && pillar[id].get("where").is_some(), || pillar.to_string())?;
    let own = bench.json(&[id, "pillar.get", "own"])?;
    let is_masked = own[id].as_str().is_some_and(|shown| !shown.is_empty() && shown.bytes().all(|byte| byte == b'*'));
    if is_masked && id.starts_with("salt-3008") {
        return Ok(Verdict::Salt(
            "Salt 3008 shows asterisks for values of the pillar; that they arrive is seen by the state that uses one",
        ));
    }
    is(&own[id], &json!(id))
}

fn grains_target(bench: &Bench, id: &str) -> Tried {
    let version = id.trim_start_matches("salt-");
    let answer = bench.json(&["-G", &format!("saltversion:{version}"), "test.ping"])?;
    is(&answer, &json!({ id: true }))
}

fn get_file(bench: &Bench, id: &str) -> Tried {
    let path = bench.fleet.site.dir().join(format!("{id}.bin"));
    let answer = bench.json(&[id, "cp.get_file", "salt://blob.bin", &path.display().to_string()])?;
    let got = fs::read(&path).map_err(|error| format!("{error}: {answer}"))?;
    check(got == bench.blob, || format!("{} bytes, and not the right ones", got.len()))?;
    // Salt compares what it has with the master's hash before it downloads: the second time nothing is to be sent.
    let hash = bench.json(&[id, "cp.hash_file", "salt://blob.bin"])?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &bench.blob);
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    is(&hash[id], &json!({"hash_type": "sha256", "hsum": digest}))?;
    let cached = bench.json(&[id, "cp.cache_file", "salt://blob.bin"])?;
    let got = cached[id].as_str().and_then(|path| fs::read(path).ok());
    check(got.as_ref() == Some(&bench.blob), || format!("cp.cache_file: {cached}"))?;
    is(&bench.json(&[id, "cp.is_cached", "salt://blob.bin"])?[id], &cached[id])
}

fn state_apply(bench: &Bench, id: &str) -> Tried {
    let answer = bench.json(&["-t", "60", id, "state.apply", "web"])?;
    let chunks = answer[id].as_object().ok_or_else(|| answer.to_string())?;
    check(chunks.len() == 1 && chunks.values().all(|chunk| chunk["result"] == true), || answer.to_string())?;
    let written = chunks.values().next().and_then(|chunk| chunk["name"].as_str()).ok_or_else(|| answer.to_string())?;
    let text = fs::read_to_string(written).map_err(|error| error.to_string())?;
    is(&Json::from(text), &Json::from(format!("id = {id}\n")))
}

fn event_send(bench: &Bench, id: &str) -> Tried {
    let tag = format!("matrix/{id}/sent");
    is(&bench.json(&[id, "event.send", &tag, "{a: 1}"])?[id], &json!(true))?;
    let events = bench.fleet.wait_events(&tag, 1);
    check(events[0]["data"]["data"]["a"] == 1 && events[0]["data"]["id"] == id, || events[0].to_string())
}

fn beacon(bench: &Bench, id: &str) -> Tried {
    let tag = format!("salt/beacon/{id}/status/*");
    check(comes_true(SLOW, || !bench.fleet.events(&tag).is_empty()), || format!("no event {tag}"))?;
    let reacted = || {
        let events = bench.fleet.events("matrix/reacted");
        events.iter().any(|event| event["data"]["data"]["of"] == id && event["data"]["id"] == NATIVE)
    };
    check(comes_true(SLOW, reacted), || "the reaction did not run on our minion".to_owned())
}

fn mine(bench: &Bench, id: &str) -> Tried {
    bench.json(&[id, "mine.update"])?;
    let mined = || {
        let answer = bench.json(&[id, "mine.get", id, "test.arg"]);
        answer.is_ok_and(|answer| answer[id][id]["args"][0] == "mined")
    };
    check(comes_true(SLOW, mined), || format!("the mine holds {:?}", bench.json(&[id, "mine.get", id, "test.arg"])))
}

fn find_job(bench: &Bench, id: &str) -> Tried {
    // The answer comes after the timeout: who asked waits because find_job says that the job runs.
    is(&bench.json(&["-t", "1", id, "test.sleep", "4"])?, &json!({ id: true }))?;
    let asked = bench.fleet.events("salt/job/*/new");
    let asked = asked.iter().any(|event| {
        let minions = event["data"]["minions"].as_array();
        event["data"]["fun"] == "saltutil.find_job" && minions.is_some_and(|ids| ids.iter().any(|asked| asked == id))
    });
    check(asked, || "the minion was not asked".to_owned())
}

fn restart_master(bench: &mut Bench) -> Tried {
    bench.fleet.kill_master();
    bench.fleet.restart_master();
    Ok(Verdict::Green)
}

fn delete_keys(bench: &mut Bench) -> Tried {
    let ids: Vec<&str> = bench.minions.keys().map(String::as_str).collect();
    bench.fleet.halite(&[&["key", "delete", "-y"][..], &ids].concat()).expect_code(0);
    Ok(Verdict::Green)
}

fn accept_again(bench: &Bench, id: &str) -> Tried {
    // It learns of it when it cannot read what is published, or when its next request is refused.
    let asks_again = || {
        bench.fleet.halite(&["-t", "1", "*", "test.ping"]);
        bench.has_key("minions_pre", id)
    };
    check(comes_true(SLOW, asks_again), || format!("{id} did not ask again"))?;
    bench.fleet.halite(&["key", "accept", id, "-y"]).expect_code(0);
    bench.wait_answer(id)
}
