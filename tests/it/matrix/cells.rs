//! The rows of the table, and the files on the master that they need.

use std::fs;
use std::path::Path;

use halite_tests::{PATIENCE, comes_true};
use serde_json::Value as Json;

use super::{Bench, NATIVE};

/// One row: what it is called, and how it is tried with one minion.
pub(super) struct Cell {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Bench, &str) -> Result<(), String>,
}

/// The rows, in the order of a first day.
pub(super) const CELLS: &[Cell] = &[
    Cell { name: "join", run: join },
    Cell { name: "accept", run: accept },
    Cell { name: "test.ping", run: ping },
    Cell { name: "cmd.run", run: cmd_run },
    Cell { name: "keyword arguments", run: kwargs },
    Cell { name: "pillar.items", run: pillar_items },
    Cell { name: "grains target", run: grains_target },
    Cell { name: "cp.get_file, 300 kB", run: get_file },
    Cell { name: "state.apply, file.managed", run: state_apply },
    Cell { name: "event.send", run: event_send },
    Cell { name: "beacon, reaction on native", run: beacon },
    Cell { name: "mine", run: mine },
    Cell { name: "find_job", run: find_job },
    Cell { name: "everybody answers", run: everybody },
    Cell { name: "master restart", run: master_restart },
    Cell { name: "key deleted, accepted again", run: key_again },
];

/// What each minion is told besides where its master is.
pub(super) const MINION_CONFIG: &str = "\
grains:\n  matrix: true\nmine_functions:\n  test.arg: [mined]\nmine_interval: 60\n\
beacons:\n  status:\n    - interval: 2\n    - loadavg: [1-min]\n";

/// How many bytes the downloaded file has: more than one piece.
const BLOB: usize = 300_000;

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
    write("salt/web/site.conf", b"id = {{ grains['id'] }}\n");
    write("pillar/top.sls", b"base:\n  '*':\n    - common\n  'G@matrix:True':\n    - match: compound\n    - own\n");
    write("pillar/common.sls", format!("where: {}\n", srv.join("out").display()).as_bytes());
    write("pillar/own.sls", b"own: {{ grains['id'] }}\n");
    write("reactor/seen.sls", format!("seen:\n  local.event.send:\n    - tgt: {NATIVE}\n    - args:\n      - tag: matrix/reacted\n      - data: {{of: {{{{ data['id'] }}}}}}\n").as_bytes());
    fs::create_dir_all(srv.join("out")).unwrap();
    blob
}

fn join(bench: &mut Bench, id: &str) -> Result<(), String> {
    check(comes_true(PATIENCE, || bench.pending(id)), || format!("{id} never was pending"))
}

fn accept(bench: &mut Bench, id: &str) -> Result<(), String> {
    bench.fleet.halite(&["key", "accept", id, "-y"]).expect_code(0);
    bench.wait_answer(id)
}

fn ping(bench: &mut Bench, id: &str) -> Result<(), String> {
    is(&bench.json(&[id, "test.ping"])?[id], &Json::Bool(true))
}

fn cmd_run(bench: &mut Bench, id: &str) -> Result<(), String> {
    let answer = bench.fleet.halite(&[id, "cmd.run", "echo out; exit 4", "--out", "json"]);
    check(answer.code == 1 && answer.json()[id] == "out", || format!("{answer:?}"))
}

fn kwargs(bench: &mut Bench, id: &str) -> Result<(), String> {
    let answer = bench.json(&[id, "cmd.run", "echo $WORD", "env={WORD: kwarg}", "python_shell=True"])?;
    is(&answer[id], &Json::from("kwarg"))
}

fn pillar_items(bench: &mut Bench, id: &str) -> Result<(), String> {
    let pillar = bench.json(&[id, "pillar.items"])?;
    check(pillar[id].get("own").is_some() && pillar[id].get("where").is_some(), || pillar.to_string())?;
    let own = bench.json(&[id, "pillar.get", "own"])?;
    // A minion of 3008 shows asterisks; that it has the value itself is seen where a state uses it.
    let is_masked = own[id].as_str().is_some_and(|shown| !shown.is_empty() && shown.bytes().all(|byte| byte == b'*'));
    check(own[id] == id || is_masked, || own.to_string())
}

fn grains_target(bench: &mut Bench, id: &str) -> Result<(), String> {
    let version = id.trim_start_matches("salt-");
    let answer = bench.json(&["-G", &format!("saltversion:{version}"), "test.ping"])?;
    is(&answer, &serde_json::json!({ id: true }))
}

fn get_file(bench: &mut Bench, id: &str) -> Result<(), String> {
    let path = bench.fleet.site.dir().join(format!("{id}.bin"));
    let answer = bench.json(&[id, "cp.get_file", "salt://blob.bin", &path.display().to_string()])?;
    let got = fs::read(&path).map_err(|error| format!("{error}: {answer}"))?;
    check(got == bench.blob, || format!("{} bytes, and not the right ones", got.len()))
}

fn state_apply(bench: &mut Bench, id: &str) -> Result<(), String> {
    let answer = bench.json(&["-t", "60", id, "state.apply", "web"])?;
    let chunks = answer[id].as_object().ok_or_else(|| answer.to_string())?;
    check(chunks.len() == 1 && chunks.values().all(|chunk| chunk["result"] == true), || answer.to_string())?;
    let written = chunks.values().next().and_then(|chunk| chunk["name"].as_str()).ok_or_else(|| answer.to_string())?;
    is(
        &Json::from(fs::read_to_string(written).map_err(|error| error.to_string())?),
        &Json::from(format!("id = {id}\n")),
    )
}

fn event_send(bench: &mut Bench, id: &str) -> Result<(), String> {
    let tag = format!("matrix/{id}/sent");
    is(&bench.json(&[id, "event.send", &tag, "{a: 1}"])?[id], &Json::Bool(true))?;
    let events = bench.fleet.wait_events(&tag, 1);
    check(events[0]["data"]["data"]["a"] == 1 && events[0]["data"]["id"] == id, || events[0].to_string())
}

fn beacon(bench: &mut Bench, id: &str) -> Result<(), String> {
    let tag = format!("salt/beacon/{id}/status/*");
    check(comes_true(PATIENCE, || !bench.fleet.events(&tag).is_empty()), || format!("no event {tag}"))?;
    let reacted = || {
        let events = bench.fleet.events("matrix/reacted");
        events.iter().any(|event| event["data"]["data"]["of"] == id && event["data"]["id"] == NATIVE)
    };
    check(comes_true(PATIENCE, reacted), || "the reaction did not run on our minion".to_owned())
}

fn mine(bench: &mut Bench, id: &str) -> Result<(), String> {
    bench.json(&[id, "mine.update"])?;
    let mined = || {
        let answer = bench.json(&[id, "mine.get", id, "test.arg"]);
        answer.is_ok_and(|answer| answer[id][id]["args"][0] == "mined")
    };
    check(comes_true(PATIENCE, mined), || format!("the mine holds {:?}", bench.json(&[id, "mine.get", id, "test.arg"])))
}

fn find_job(bench: &mut Bench, id: &str) -> Result<(), String> {
    let started = bench.fleet.halite(&[id, "test.sleep", "20", "--async", "--out", "json"]).expect_code(0);
    let jid: String = started.stdout.chars().filter(char::is_ascii_digit).collect();
    let jid = jid.get(..20).ok_or_else(|| format!("no jid: {}", started.stdout))?.to_owned();
    let found = || bench.json(&[id, "saltutil.find_job", &jid]).is_ok_and(|answer| answer[id]["fun"] == "test.sleep");
    let seen = comes_true(PATIENCE, found);
    bench.json(&[id, "saltutil.kill_job", &jid])?;
    check(seen, || format!("{jid} is not found"))
}

fn everybody(bench: &mut Bench, id: &str) -> Result<(), String> {
    let answer = bench.json(&["*", "test.ping"])?;
    let all = bench.minions.keys().map(String::as_str).chain([NATIVE]).all(|one| answer[one] == true);
    check(all && answer[id] == true, || answer.to_string())
}

fn master_restart(bench: &mut Bench, id: &str) -> Result<(), String> {
    bench.fleet.kill_master();
    bench.fleet.restart_master();
    bench.wait_answer(id)
}

fn key_again(bench: &mut Bench, id: &str) -> Result<(), String> {
    bench.fleet.halite(&["key", "delete", id, "-y"]).expect_code(0);
    // It learns of it when it cannot read what is published.
    let asks_again = || {
        bench.fleet.halite(&["-t", "1", "*", "test.ping"]);
        bench.pending(id)
    };
    check(comes_true(PATIENCE * 2, asks_again), || format!("{id} did not ask again"))?;
    bench.fleet.halite(&["key", "accept", id, "-y"]).expect_code(0);
    bench.wait_answer(id)
}

impl Bench {
    /// Runs `halite` for one document.
    fn json(&self, args: &[&str]) -> Result<Json, String> {
        let answer = self.fleet.halite(&[args, &["--out", "json"]].concat());
        serde_json::from_str(&answer.stdout).map_err(|error| format!("{error}: {answer:?}"))
    }
}

fn is(found: &Json, expected: &Json) -> Result<(), String> {
    check(found == expected, || format!("{found}, not {expected}"))
}

fn check(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}
