//! What users copy from Salt's documentation of its event system, run as it is printed: the Python of `snippets.txt` with each
//! release's own library, and the command lines beside it. `/etc/salt` is somewhere else, and minions have the names of this
//! fleet; nothing else is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use halite_tests::salt::SaltMinion;
use halite_tests::{comes_true, run, skipped};
use serde_json::{Value as Json, json};

use super::cells::Cell;
use super::{Bench, NATIVE, SLOW, Tried, Verdict, check, is};

/// The rows.
pub(super) const CELLS: &[Cell] = &[
    Cell { name: "python: get_event", first: nothing, run: listen },
    Cell { name: "python: get_event(wait, tag)", first: nothing, run: wait_for_a_tag },
    Cell { name: "python: get_event(full)", first: nothing, run: full },
    Cell { name: "python: iter_events", first: nothing, run: iterate },
    Cell { name: "python: fnmatch on returns", first: nothing, run: glob },
    Cell { name: "python: MinionEvent", first: nothing, run: on_the_minion },
    Cell { name: "python: MinionEvent as on Windows", first: nothing, run: on_a_windows_minion },
    Cell { name: "python: __salt__[\"event.send\"]", first: write_module, run: module },
    Cell { name: "python: Caller().cmd(\"event.send\")", first: nothing, run: script },
    Cell { name: "salt-run state.event pretty=True", first: nothing, run: state_event },
    Cell { name: "salt-call event.fire, event.send", first: nothing, run: calls },
    Cell { name: "salt MINION event.fire", first: nothing, run: fire_at_a_minion },
    Cell { name: "salt-sproxy --events", first: nothing, run: sproxy },
];

/// The device of `salt-sproxy`: no hardware, but a proxy of Salt's own.
pub(super) const DEVICE: &str = "dev1";

/// What is left out for releases whose `get_event` does not take it.
const TRANSPORT: &str = "transport=opts[\"transport\"], ";

fn nothing(_: &mut Bench) -> Tried {
    Ok(Verdict::Green)
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/salt").join(name)
}

fn salt<'a>(bench: &'a Bench, id: &str) -> Result<&'a SaltMinion, String> {
    bench.minions.get(id).ok_or_else(|| format!("there is no {id}"))
}

/// A snippet, where it finds its configuration, and the name that it binds when it has seen something.
struct Snippet<'a> {
    name: &'a str,
    etc: &'a Path,
    seen: &'a str,
}

impl Snippet<'_> {
    /// Runs it while something happens again and again, for it says nothing when it begins to listen. Returns what it told.
    fn run(&self, minion: &SaltMinion, without: Option<&str>, cause: impl Fn()) -> Result<Json, String> {
        let mut command = minion.release.command("python");
        command.arg(here("snippet.py")).arg(here("snippets.txt")).arg(self.name).arg(self.etc).arg(self.seen);
        command.args(without).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let ended = comes_true(SLOW, || {
            let ended = child.try_wait().is_ok_and(|ended| ended.is_some());
            if !ended {
                cause();
            }
            ended
        });
        if !ended {
            // It may have ended just now.
            let _ = child.kill();
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let told = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
        told.ok_or_else(|| format!("{} said {said:?} and {:?}", self.name, String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs it against the master's bus. `transport` is no argument any more since 3007: there the rest of it has to work.
    fn run_on_master(&self, minion: &SaltMinion, cause: impl Fn(), good: impl Fn(&Json) -> bool) -> Tried {
        let told = self.run(minion, None, &cause)?;
        let seen = |told: &Json| check(told["seen"] == self.seen && good(&told["value"]), || told.to_string());
        let refused = told["text"].as_str().is_some_and(|text| text.contains("transport"));
        if told["raised"] != "TypeError" || !refused || minion.release.line() == "3006" {
            return seen(&told);
        }
        seen(&self.run(minion, Some(TRANSPORT), cause)?)?;
        Ok(Verdict::Salt("get_event of its own library takes no transport any more (TypeError); without it, it works"))
    }
}

/// Listens on the master's bus.
fn on_master(
    bench: &Bench,
    id: &str,
    (name, seen): (&str, &str),
    cause: &[&str],
    good: impl Fn(&Json) -> bool,
) -> Tried {
    let etc = bench.fleet.site.confdir("master");
    let snippet = Snippet { name, etc: &etc, seen };
    snippet.run_on_master(salt(bench, id)?, || drop(bench.fleet.halite(cause)), good)
}

/// An event as of a key that is judged.
const AUTH: [&str; 4] = ["run", "event.send", "salt/auth", "{act: pend, id: somebody, result: true}"];

fn listen(bench: &Bench, id: &str) -> Tried {
    let good = |event: &Json| event["_stamp"].is_string();
    on_master(bench, id, ("listen", "data"), &["run", "event.send", "myco/any", "{a: 1}"], good)
}

fn wait_for_a_tag(bench: &Bench, id: &str) -> Tried {
    on_master(bench, id, ("wait for a tag", "data"), &AUTH, |event| event["act"] == "pend")
}

fn full(bench: &Bench, id: &str) -> Tried {
    let good = |tag: &Json| tag.as_str().is_some_and(|tag| tag.starts_with("salt/job/"));
    on_master(bench, id, ("full", "tag"), &[NATIVE, "test.ping"], good)
}

fn iterate(bench: &Bench, id: &str) -> Tried {
    on_master(bench, id, ("iterate", "print"), &AUTH, |event| event["act"] == "pend")
}

fn glob(bench: &Bench, id: &str) -> Tried {
    let good = |ret: &Json| ret["return"].is_boolean() || ret["fun"].is_string();
    on_master(bench, id, ("glob", "do_something_with_job_return"), &[NATIVE, "test.ping"], good)
}

fn on_the_minion(bench: &Bench, id: &str) -> Tried {
    let minion = salt(bench, id)?;
    let snippet = Snippet { name: "on the minion", etc: minion.confdir(), seen: "evdata" };
    let fire = || drop(bench.fleet.halite(&["-t", "30", id, "event.fire", "{\"x\": 1}", "custom/tag"]));
    let told = snippet.run(minion, None, fire)?;
    check(told["seen"] == "evdata" && told["value"]["x"] == 1, || told.to_string())
}

fn on_a_windows_minion(bench: &Bench, id: &str) -> Tried {
    let minion = salt(bench, id)?;
    let snippet = Snippet { name: "on a Windows minion", etc: minion.confdir(), seen: "evdata" };
    let told = snippet.run(minion, None, || ())?;
    // It ends before it looks for any bus, whoever its master is.
    let never_starts = told["raised"] == "AttributeError" || told["raised"] == "TypeError";
    check(never_starts, || told.to_string())?;
    Ok(Verdict::Salt("Salt's own library has no such name, or takes no such path; it never gets as far as a bus"))
}

/// Returns a snippet's text.
fn text(name: &str) -> Result<String, String> {
    let all = fs::read_to_string(here("snippets.txt")).map_err(|error| error.to_string())?;
    let found = all.split("\n== ").find_map(|part| part.strip_prefix(name)?.strip_prefix('\n'));
    found.map(str::to_owned).ok_or_else(|| format!("there is no snippet {name}"))
}

fn write_module(bench: &mut Bench) -> Tried {
    let (folder, text) = (bench.srv.path().join("salt/_modules"), text("module")?);
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("my_custom_module.py"), text));
    written.map(|()| Verdict::Green).map_err(|error| error.to_string())
}

/// Returns the newest event that a minion has sent with this tag.
fn sent(bench: &Bench, id: &str, tag: &str) -> Option<Json> {
    bench.fleet.events(tag).into_iter().rev().find(|event| event["data"]["id"] == id)
}

fn module(bench: &Bench, id: &str) -> Tried {
    bench.json(&[id, "saltutil.sync_modules"])?;
    let answer = bench.json(&[id, "my_custom_module.do_something"])?;
    let event = || sent(bench, id, "myco/my_custom_module/finished");
    check(comes_true(SLOW, || event().is_some()), || format!("no event; it answered {answer}"))?;
    let data = event().map(|event| event["data"]["data"].clone()).unwrap_or_default();
    // What Salt adds by itself, as `__pub_fun`, is not looked at.
    check(data["finished"] == true && data["message"] == "The something is finished!", || data.to_string())
}

fn script(bench: &Bench, id: &str) -> Tried {
    let minion = salt(bench, id)?;
    let told = Snippet { name: "script", etc: minion.confdir(), seen: "ret" }.run(minion, None, || ())?;
    check(told["seen"] == "ret" && told["value"] == true, || told.to_string())?;
    let event = || sent(bench, id, "myco/event/success");
    check(comes_true(SLOW, || event().is_some()), || "no event".to_owned())?;
    let data = event().map(|event| event["data"]["data"].clone()).unwrap_or_default();
    check(data["success"] == true && data["message"] == "It works!", || data.to_string())
}

/// Reads what `state.event pretty=True` has printed: a tag, a tab, and a JSON document over several lines.
fn printed(text: &str) -> Vec<(String, Json)> {
    let mut events = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((tag, "{")) = line.split_once('\t') else { continue };
        let document: Vec<&str> = std::iter::once("{").chain(lines.by_ref().take_while(|line| *line != "}")).collect();
        // The last one may not be whole yet.
        if let Ok(data) = serde_json::from_str(&format!("{}}}", document.join("\n"))) {
            events.push((tag.to_owned(), data));
        }
    }
    events
}

/// Tells whether the events of one `test.ping` stand there as the page prints them: the bare jid, the job, its return, in this
/// order, each with its fields.
fn has_the_job(events: &[(String, Json)]) -> bool {
    let has = |data: &Json, fields: &[&str]| fields.iter().all(|field| data.get(*field).is_some());
    let news = events.iter().filter(|(tag, data)| tag.ends_with("/new") && data["fun"] == "test.ping");
    news.into_iter().any(|(_, new)| {
        let jid = new["jid"].as_str().unwrap_or_default();
        let tags = [jid.to_owned(), format!("salt/job/{jid}/new"), format!("salt/job/{jid}/ret/{NATIVE}")];
        let places = tags.map(|tag| events.iter().position(|(known, _)| *known == tag));
        let [Some(bare), Some(_), Some(ret)] = places else { return false };
        let fields = ["_stamp", "arg", "fun", "jid", "minions", "missing", "tgt", "tgt_type", "user"];
        let of_return = ["_stamp", "cmd", "fun", "fun_args", "id", "jid", "retcode", "return", "success"];
        places.is_sorted()
            && has(&events[bare].1, &["_stamp", "minions"])
            && has(new, &fields)
            && new.as_object().is_some_and(|data| data.len() == fields.len())
            && has(&events[ret].1, &of_return)
    })
}

fn state_event(bench: &Bench, id: &str) -> Tried {
    let release = &salt(bench, id)?.release;
    let (_listener, path) = release.beside(&bench.fleet, "salt-run", &["state.event", "pretty=True"]);
    let events = || printed(&fs::read_to_string(&path).unwrap_or_default());
    let seen = comes_true(SLOW, || {
        release.tool(&bench.fleet, "salt", &[NATIVE, "test.ping"]);
        has_the_job(&events())
    });
    check(seen, || format!("it printed {:?}", events()))
}

fn calls(bench: &Bench, id: &str) -> Tried {
    let minion = salt(bench, id)?;
    let call = |args: &[&str]| {
        let said = minion.call(&[args, &["--out", "json"]].concat());
        let told =
            serde_json::from_str::<Json>(&said.stdout).map_err(|error| format!("{args:?}: {error}: {said:?}"))?;
        is(&told, &json!({"local": true}))
    };
    call(&["event.fire", "{\"data\": \"message to be sent in the event\"}", "tag"])?;
    call(&["event.send", "myco/mytag/success", "{success: True, message: \"It works!\"}"])?;
    let event = || sent(bench, id, "myco/mytag/success");
    check(comes_true(SLOW, || event().is_some()), || "no event".to_owned())?;
    let data = event().map(|event| event["data"]["data"].clone()).unwrap_or_default();
    check(data["success"] == true && data["message"] == "It works!", || data.to_string())
}

fn fire_at_a_minion(bench: &Bench, id: &str) -> Tried {
    let release = &salt(bench, id)?.release;
    let line = ["event.fire", "{\"data\": \"message for the minion\"}", "customtag/african/unladen", "--out", "json"];
    for minion in [id, NATIVE] {
        let said = release.tool(&bench.fleet, "salt", &[&["-t", "30", "--static", minion][..], &line].concat());
        let told = serde_json::from_str::<Json>(&said.stdout).map_err(|error| format!("{error}: {said:?}"))?;
        is(&told, &json!({ minion: true }))?;
    }
    Ok(Verdict::Green)
}

/// What the seed's `salt-sproxy` puts on the bus, by the real one, on a device that is no hardware.
fn sproxy(bench: &Bench, id: &str) -> Tried {
    let release = &salt(bench, id)?.release;
    let Some(mut command) = release.sproxy() else {
        skipped("salt-sproxy --events", "HALITE_SALT has no sproxy (tests/salt/install puts it there)");
        return Ok(Verdict::Salt("not tried: salt-sproxy is not installed"));
    };
    let before = bench.fleet.events("proxy/runner/*/ret/*").len();
    command.arg("-c").arg(bench.fleet.site.confdir("master")).args([DEVICE, "test.ping", "--events", "-l", "quiet"]);
    let said = run(command);
    check(said.stdout.contains("True"), || format!("{said:?}"))?;
    let came = comes_true(SLOW, || bench.fleet.events("proxy/runner/*/ret/*").len() > before);
    check(came, || format!("no event of a return: {said:?}"))?;
    for new in bench.fleet.events("proxy/runner/*/new") {
        let data = &new["data"];
        let jid = data["jid"].as_str().unwrap_or_default();
        is(&data["minions"], &json!([DEVICE]))?;
        check(data["fun"] == "test.ping" && data["tgt"] == DEVICE && data["tgt_type"] == "glob", || new.to_string())?;
        let returned = format!("proxy/runner/{jid}/ret/{DEVICE}");
        // The run may be another release's, which has only begun.
        comes_true(SLOW, || !bench.fleet.events(&returned).is_empty());
        let ret = bench.fleet.events(&returned);
        check(ret.len() == 1 && ret[0]["data"]["return"] == true, || format!("{jid}: {ret:?}"))?;
    }
    Ok(Verdict::Green)
}
