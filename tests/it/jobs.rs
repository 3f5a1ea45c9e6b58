//! Jobs: published, returned, shown; and everything that keeps a return from coming.

use halite_tests::{Fleet, Outcome};
use serde_json::json;

fn three() -> Fleet {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(3);
    fleet
}

#[test]
fn the_time_for_a_job_has_bounds() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    fleet.halite(&["m1", "test.ping", "--queue", "18446744073709551s"]).expect_code(0);
    fleet.halite(&["m1", "test.ping", "--queue", "18446744073709551615"]).expect_code(0);
    let none = fleet.halite(&["m1", "test.ping", "--queue", "0"]);
    assert!(none.code == 64 && none.stderr.contains("a second at least"), "{none:?}");
    for words in [["jobs", "show", ""], ["jobs", "kill", ""], ["jobs", "rerun", ""], ["events", "cursors", "--delete="]]
    {
        fleet.halite(&words).expect_code(64);
    }
}

#[test]
fn every_minion_returns() {
    let fleet = three();
    let ping = fleet.halite(&["*", "test.ping", "--out", "json"]).expect_code(0);
    assert_eq!(ping.json(), json!({"m1": true, "m2": true, "m3": true}));
    let text = fleet.halite(&["m1", "test.ping"]).expect_code(0);
    assert_eq!(text.stdout, "m1:\n    True\n");
    let lines = fleet.halite(&["m[12]", "test.ping", "--out", "jsonl"]).expect_code(0);
    assert_eq!(lines.jsonl().len(), 2);
    let listed = fleet.halite(&["-L", "m1,m3", "test.ping", "--out", "json"]).expect_code(0);
    assert_eq!(listed.json(), json!({"m1": true, "m3": true}));
    let yaml = fleet.halite(&["m1", "test.echo", "hi", "--out", "yaml"]).expect_code(0);
    assert_eq!(yaml.stdout, "m1: hi\n");
    let txt = fleet.halite(&["m1", "test.echo", "hi", "--out", "txt"]).expect_code(0);
    assert_eq!(txt.stdout, "m1: hi\n");
}

#[test]
fn arguments_are_typed_as_yaml() {
    let fleet = three();
    let args = ["m1", "test.arg", "1", "two", "3.5", "True", "None", "{a: 1}", "[x,y]", "kw=5", "--out", "json"];
    let returned = fleet.halite(&args).expect_code(0).json();
    assert_eq!(returned["m1"]["args"], json!([1, "two", 3.5, true, null, {"a": 1}, ["x", "y"]]));
    assert_eq!(returned["m1"]["kwargs"]["kw"], 5);
    assert_eq!(returned["m1"]["kwargs"]["__pub_fun"], "test.arg");
}

#[test]
fn exit_codes_say_what_happened() {
    let fleet = three();
    let code = |args: &[&str]| fleet.halite(args).code;
    assert_eq!(code(&["m1", "test.ping"]), 0);
    assert_eq!(code(&["m1", "cmd.run", "exit 3"]), 1);
    assert_eq!(code(&["m1", "cmd.retcode", "exit 3"]), 1);
    assert_eq!(code(&["ghost*", "test.ping"]), 2);
    assert_eq!(code(&["-L", "m1,ghost", "test.ping"]), 1);
    assert_eq!(code(&["--no-such-flag", "m1", "test.ping"]), 64);
    let nobody: Outcome = {
        let mut command = fleet.halite_command(&["m1", "test.ping"]);
        command.env("HALITE_CONFIG_DIR", fleet.site.dir().join("nowhere"));
        halite_tests::run(command)
    };
    assert_eq!(nobody.code, 3, "{nobody:?}");
    assert!(nobody.stderr.contains("halite-master"), "the error says what to do: {nobody:?}");
}

#[test]
fn failures_are_said_in_salts_words() {
    let fleet = three();
    let missing = fleet.halite(&["m1", "no.such_function"]).expect_code(1);
    assert_eq!(missing.stdout, "m1:\n    'no.such_function' is not available.\n");
    assert!(missing.stderr.contains("ERROR: Minions returned with non-zero exit code"), "{missing:?}");
    let bad = fleet.halite(&["m1", "test.sleep"]).expect_code(1);
    let text = "Passed invalid arguments to test.sleep: sleep() missing 1 required positional argument: 'length'";
    assert!(bad.stdout.contains(text), "{bad:?}");
    let boom = fleet.halite(&["m1", "test.exception", "boom"]).expect_code(1);
    assert!(boom.stdout.contains("boom"), "{boom:?}");
    let ghost = fleet.halite(&["ghost*", "test.ping"]).expect_code(2);
    assert!(ghost.stdout.contains("No minions matched the target."), "{ghost:?}");
}

#[test]
fn a_minion_that_is_down_is_named_at_once_and_gets_the_job_when_it_comes_back() {
    let mut fleet = three();
    let pid = fleet.take_minion("m3");
    pid.stop();
    halite_tests::wait_for("m3 to be down", || {
        let minions = fleet.halite(&["minions", "--out", "json"]).json();
        minions.as_array().is_some_and(|list| list.iter().any(|minion| minion["id"] == "m3" && minion["up"] == false))
    });
    let ping = fleet.halite(&["*", "test.ping", "--show-jid"]).expect_code(1);
    assert!(ping.stdout.to_lowercase().contains("not connected"), "{ping:?}");
    let jid = ping.stdout.lines().next().and_then(|line| line.strip_prefix("jid: ")).unwrap().to_owned();
    let queued = fleet.halite(&["*", "test.ping", "--queue", "10m", "--async"]).expect_code(0);
    assert!(queued.stderr.starts_with("m3 may take job ") && queued.stderr.contains("within 600 s"), "{queued:?}");
    // What m3 has missed for good is not waited for.
    let active = || fleet.halite(&["jobs", "active", "--out", "json"]).expect_code(0).json();
    let short = fleet.halite(&["m3", "test.ping", "--queue", "1s", "--async"]).expect_code(0);
    let short = short.stdout.split_whitespace().last().unwrap().to_owned();
    halite_tests::wait_for("the short job to be over", || active()[&short].is_null());
    assert_eq!(active()[&jid]["Away"], json!(["m3"]));
    fleet.start_minion("m3", "");
    let returns = fleet.wait_events(&format!("salt/job/{jid}/ret/m3"), 1);
    assert_eq!(returns[0]["data"]["return"], true);
}

#[test]
fn a_job_can_be_looked_up() {
    let fleet = three();
    let publish = fleet.halite(&["*", "test.echo", "hello", "--async"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    fleet.wait_events(&format!("salt/job/{jid}/ret/*"), 3);
    let job = fleet.halite(&["jobs", "show", &jid, "--out", "json"]).expect_code(0).json();
    assert_eq!(job["Function"], "test.echo");
    assert_eq!(job["Minions"], json!(["m1", "m2", "m3"]));
    assert_eq!(job["Result"]["m2"], json!({"return": "hello", "retcode": 0, "success": true}));
    fleet.halite(&["m1", "test.ping"]).expect_code(0);
    let lines = fleet.halite(&["jobs", "list", "--out", "jsonl"]).expect_code(0).stdout;
    let jobs = fleet.halite(&["jobs", "list", "--out", "json"]).expect_code(0).json();
    assert_eq!((lines.lines().count(), jobs.as_object().unwrap().len()), (2, 2), "{lines}");
    assert_eq!(jobs[&jid]["Target"], "*");
    let none = fleet.halite(&["jobs", "show", "20200101000000000000"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("jobs list"), "{none:?}");
}

#[test]
fn commands_run_with_their_options() {
    let fleet = three();
    let run = |args: &[&str]| {
        let mut all = vec!["m1", args[0]];
        all.extend(&args[1..]);
        all.extend(["--out", "json"]);
        fleet.halite(&all).json()["m1"].clone()
    };
    assert_eq!(run(&["cmd.run", "echo hi"]), "hi");
    assert_eq!(run(&["cmd.run", "pwd", "cwd=/"]), "/");
    assert_eq!(run(&["cmd.run", "echo $GREETING", "env={GREETING: hello}"]), "hello");
    assert_eq!(run(&["cmd.run", "cat", "stdin=typed"]), "typed");
    assert_eq!(run(&["cmd.retcode", "exit 7"]), 7);
    let all = run(&["cmd.run_all", "echo o; echo e >&2; exit 7"]);
    assert_eq!((&all["retcode"], &all["stdout"], &all["stderr"]), (&json!(7), &json!("o"), &json!("e")));
    let slow = run(&["cmd.run", "sleep 600", "timeout=1"]);
    assert!(slow.as_str().is_some_and(|text| text.to_lowercase().contains("tim")), "{slow}");
    if nix::unistd::getuid().is_root() {
        assert_eq!(run(&["cmd.run", "id -un", "runas=nobody"]), "nobody");
    }
}

#[test]
fn a_running_job_can_be_seen_and_killed() {
    let fleet = three();
    let publish = fleet.halite(&["m1", "test.sleep", "600", "--async"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    halite_tests::wait_for("the job to run", || {
        let running = fleet.halite(&["m1", "saltutil.running", "--out", "json"]).json();
        running["m1"].as_array().is_some_and(|jobs| jobs.iter().any(|job| job["jid"] == jid.as_str()))
    });
    let found = fleet.halite(&["m1", "saltutil.find_job", &format!("'{jid}'"), "--out", "json"]).expect_code(0).json();
    assert_eq!(found["m1"]["fun"], "test.sleep");
    fleet.halite(&["m1", "saltutil.kill_job", &format!("'{jid}'")]).expect_code(0);
    let killed = fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    assert_eq!(killed[0]["data"]["success"], false);
}

#[test]
fn a_running_job_is_listed_and_killed_by_its_jid() {
    let fleet = three();
    let publish = fleet.halite(&["*", "test.sleep", "600", "--async"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    halite_tests::wait_for("the job to run everywhere", || {
        let running = fleet.halite(&["*", "saltutil.find_job", &format!("'{jid}'"), "--out", "json"]).json();
        running.as_object().is_some_and(|all| all.values().all(|job| job["fun"] == "test.sleep"))
    });
    let active = fleet.halite(&["jobs", "active", "--out", "json"]).expect_code(0).json();
    assert_eq!(active[&jid]["Running"], json!(["m1", "m2", "m3"]));
    let salts = fleet.halite(&["run", "jobs.active", "--out", "json"]).expect_code(0).json();
    assert_eq!(salts[&jid]["Running"], json!([{"m1": null}, {"m2": null}, {"m3": null}]));
    let killed = fleet.halite(&["jobs", "kill", &jid, "m1", "--out", "json"]).expect_code(0).json();
    assert!(
        killed["m1"].as_str().is_some_and(|text| text.starts_with(&format!("Signal 9 sent to job {jid}"))),
        "{killed}"
    );
    fleet.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    let termed = fleet.halite(&["jobs", "kill", &jid, "--signal", "TERM", "--out", "json"]).expect_code(0).json();
    assert_eq!(termed.as_object().unwrap().len(), 2, "{termed}");
    fleet.wait_events(&format!("salt/job/{jid}/ret/*"), 3);
    let over = fleet.halite(&["jobs", "kill", &jid]).expect_code(1);
    assert!(over.stderr.contains("halite jobs active"), "{over:?}");
}

#[test]
fn the_last_job_and_jobs_by_search_are_shown() {
    let fleet = three();
    let run = |args: &[&str]| fleet.halite(&[&["run"], args, &["--out", "json"]].concat()).expect_code(0).json();
    assert_eq!(run(&["jobs.last_run", "function=no.*"]), json!(false));
    fleet.halite(&["m1", "test.echo", "first", "--metadata", "{a: b, n: 1}"]).expect_code(0);
    fleet.halite(&["m2", "test.echo", "second"]).expect_code(0);
    let last = run(&["jobs.last_run", "function=test.*"]);
    let job = last.as_object().unwrap().values().next().unwrap();
    assert_eq!((&job["Target"], &job["Arguments"]), (&json!("m2"), &json!(["second"])));
    assert_eq!(job["Result"]["m2"], json!({"return": "second", "retcode": 0, "success": true}));
    let count = |args: &[&str]| run(&[&["jobs.list_jobs"], args].concat()).as_object().unwrap().len();
    assert_eq!(count(&["search_metadata={a: b, other: x}"]), 1);
    assert_eq!(count(&["search_metadata={a: c}"]), 0);
    assert_eq!(count(&["search_function=test.*", "search_target=m1,m2"]), 2);
    assert_eq!(count(&["start_time=2026-01-01"]), count(&[]));
    assert_eq!(count(&["end_time='2020-01-01 12:00'"]), 0);
    fleet.halite(&["run", "jobs.list_jobs", "start_time=yesterday"]).expect_code(64);
}

#[test]
fn the_masters_own_host_runs_functions_too() {
    let fleet = Fleet::new().start();
    let run = |args: &[&str]| fleet.halite(&[&["run", "salt.cmd"], args, &["--out", "json"]].concat());
    assert_eq!(run(&["test.ping"]).expect_code(0).json(), json!(true));
    let echoed = run(&["test.arg", "'7'", "a=b", "[x, 1]", "n=3"]).expect_code(0).json();
    assert_eq!((&echoed["args"], &echoed["kwargs"]["n"]), (&json!(["7", ["x", 1]]), &json!(3)), "{echoed}");
    assert_eq!(run(&["cmd.run", "echo hi"]).expect_code(0).json(), json!("hi"));
    assert_eq!(run(&["no.such"]).expect_code(0).json(), json!("'no.such' is not available."));
}

#[test]
fn a_job_runs_again_everywhere_or_where_it_failed() {
    let mut fleet = three();
    // It fails on m2 as long as there is no such file.
    let go = fleet.site.dir().join("m2/go");
    let script = format!("[ $PPID != {} ] || [ -e {} ]", fleet.minion("m2").pid(), go.display());
    let first = fleet.halite(&["*", "cmd.run", &script, "--show-jid"]).expect_code(1);
    let jid = first.stdout.lines().find_map(|line| line.strip_prefix("jid: ")).unwrap().to_owned();
    let rerun = |args: &[&str]| fleet.halite(&[&["jobs", "rerun"], args].concat());
    let again = rerun(&[&jid, "--failed", "--out", "json"]).expect_code(1).json();
    assert_eq!(again.as_object().unwrap().keys().collect::<Vec<_>>(), ["m2"], "{again}");
    std::fs::write(go, "").unwrap();
    let well = rerun(&[&jid, "--failed"]).expect_code(0);
    let new = well.stdout.lines().next().and_then(|line| line.strip_prefix("jid: ")).unwrap().to_owned();
    assert!(new != jid && well.stdout.contains("m2:") && !well.stdout.contains("m1:"), "{well:?}");
    let all = rerun(&[&jid, "--out", "json"]).expect_code(0).json();
    assert_eq!(all.as_object().unwrap().len(), 3, "{all}");
    let nothing = rerun(&[&new, "--failed"]).expect_code(2);
    assert!(nothing.stderr.contains("failed nowhere: all of its 1 minions"), "{nothing:?}");
    let unknown = rerun(&["20200101000000000000"]).expect_code(1);
    assert!(unknown.stderr.contains("there is no job 20200101000000000000"), "{unknown:?}");
    rerun(&["yesterday"]).expect_code(64);
    // Who did not return is meant too.
    fleet.take_minion("m3").kill();
    let lost = fleet.halite(&["-L", "m1,m3", "test.ping", "-t", "1", "--show-jid"]).expect_code(1);
    let jid = lost.stdout.lines().find_map(|line| line.strip_prefix("jid: ")).unwrap().to_owned();
    let asynchronous = fleet.halite(&["jobs", "rerun", &jid, "--failed", "--async", "--queue", "10m"]).expect_code(0);
    let new = asynchronous.stdout.split_whitespace().last().unwrap();
    let announced = fleet.wait_events(&format!("salt/job/{new}/new"), 1);
    assert_eq!(announced[0]["data"]["minions"], json!(["m3"]));
}

#[test]
fn jobs_that_are_too_old_are_forgotten_though_the_log_has_them() {
    let mut fleet = Fleet::new().master_config("keep_jobs_seconds: 2").start();
    fleet.start_minions(1);
    let ping = fleet.halite(&["m1", "test.ping", "--show-jid", "--queue", "1s"]).expect_code(0);
    let jid = ping.stdout.lines().find_map(|line| line.strip_prefix("jid: ")).unwrap().to_owned();
    fleet.halite(&["jobs", "show", &jid]).expect_code(0);
    let is_there = |fleet: &Fleet| fleet.halite(&["jobs", "show", &jid]).code == 0;
    // The look for old jobs comes once a minute, and at the start.
    halite_tests::wait_for("the job to be old", || {
        let oldest = fleet.halite(&["m1", "test.ping", "--show-jid", "--queue", "1s"]).expect_code(0).stdout;
        let now: u128 = oldest.lines().find_map(|line| line.strip_prefix("jid: ")).unwrap().parse().unwrap();
        // Digits of a moment: seconds stand before the last six; beyond a minute's turn the difference is only larger.
        now - jid.parse::<u128>().unwrap() > 3_000_000
    });
    fleet.stop_master();
    fleet.restart_master();
    halite_tests::wait_for("the job to be forgotten", || !is_there(&fleet));
    fleet.stop_master();
    for end in ["", "-wal", "-shm"] {
        let name = format!("var/cache/halite/master/jobs.db{end}");
        let _ = std::fs::remove_file(fleet.site.confdir("master").join(name));
    }
    fleet.restart_master();
    assert!(!is_there(&fleet), "a new cache does not bring it back");
    assert_eq!(fleet.events(&format!("salt/job/{jid}/ret/m1")).len(), 1, "the log has it");
}
