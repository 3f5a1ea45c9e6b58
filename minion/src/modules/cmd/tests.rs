//! What `modules/cmd` promises, tested.

use super::*;
use crate::modules::{Stop, find};
use proto::map;
use proto::value::Map;
use std::sync::Arc;

fn context(config: Map) -> ModuleContext {
    ModuleContext::offline("m1", Arc::new(config), Arc::new(map! { "shell" => "/bin/sh" }))
}

fn call(fun: &str, cmd: impl Into<Value>, options: Map) -> Result<Outcome, CallError> {
    find(fun).expect("a function").call(&context(Map::new()), vec![cmd.into()], options)
}

fn text(fun: &str, cmd: &str, options: Map) -> String {
    plain_text(&call(fun, cmd, options).expect("runs").ret)
}

fn refusal(fun: &str, cmd: &str, options: Map) -> String {
    let function = find(fun).expect("a function");
    call(fun, cmd, options).expect_err("is refused").text(function)
}

#[test]
fn output_is_stripped_and_the_status_kept() {
    assert_eq!(call("cmd.run", "echo hi; exit 3", Map::new()), Ok(Outcome::with_retcode("hi", 3)));
    assert_eq!(call("cmd.retcode", "exit 7", Map::new()), Ok(Outcome::with_retcode(7, 7)));
    assert_eq!(text("cmd.run", "echo o; echo e >&2; echo o", Map::new()), "o\ne\no");
    assert_eq!(text("cmd.run_stdout", "echo o; echo e >&2", Map::new()), "o");
    assert_eq!(text("cmd.run_stderr", "echo o; echo e >&2", Map::new()), "e");
    assert_eq!(text("cmd.run", "printf 'a \\n\\n'", map! { "rstrip" => false }), "a \n\n");
}

#[test]
fn run_all_has_the_recorded_order() {
    let outcome = call("cmd.run_all", "echo o; echo e >&2; exit 7", Map::new()).expect("runs");
    let map = outcome.ret.as_map().expect("a map");
    let keys: Vec<String> = map.keys().map(Value::to_key).collect();
    assert_eq!(keys, ["pid", "retcode", "stdout", "stderr"]);
    assert_eq!((map.text("stdout"), map.text("stderr"), outcome.retcode), (Some("o"), Some("e"), 7));
}

#[test]
fn a_timeout_is_told_as_salt_tells_it() {
    let outcome = call("cmd.run", "sleep 60", map! { "timeout" => 1 }).expect("times out");
    assert_eq!(outcome, Outcome::with_retcode("sleep 60 : Timed out after 1 seconds", 1));
}

#[test]
fn a_killed_job_kills_its_command() {
    let cx = context(Map::new());
    std::thread::scope(|scope| {
        let job = scope.spawn(|| find("cmd.run").expect("a function").call(&cx, vec!["sleep 600".into()], Map::new()));
        while cx.control.child().is_none() {
            std::thread::yield_now();
        }
        cx.control.signal(9);
        assert_eq!(job.join().expect("no panic"), Err(CallError::Stopped(Stop::Signal(9))));
    });
}

#[test]
fn options_reach_the_command() {
    assert_eq!(text("cmd.run", "pwd", map! { "cwd" => "/usr" }), "/usr");
    assert_eq!(text("cmd.run", "cat", map! { "stdin" => "a\\nb" }), "a\nb");
    assert_eq!(
        text("cmd.run", "echo $A$B-$LC_MESSAGES", map! { "env" => map! { "A" => 1, "B" => Value::Null } }),
        "1-C"
    );
    let options = map! { "env" => map! { "A" => "1" }, "clean_env" => true, "reset_system_locale" => false };
    let lines = text("cmd.run", "/usr/bin/env", options);
    assert!(lines.contains("A=1") && !lines.contains("HOME="), "{lines}");
    assert_eq!(text("cmd.run", "echo $0 $PATH", map! { "python_shell" => false }), "$0 $PATH");
    assert_eq!(plain_text(&call("cmd.run", vec!["echo", "a b"], Map::new()).expect("runs").ret), "a b");
    assert!(text("cmd.run", "echo $PATH", map! { "prepend_path" => "/x" }).starts_with("/x:"));
    assert_eq!(text("cmd.run", "echo x", map! { "hide_output" => true }), "");
}

#[test]
fn return_codes_can_be_judged_otherwise() {
    assert_eq!(call("cmd.run", "exit 3", map! { "ignore_retcode" => true }).expect("runs").retcode, 0);
    assert_eq!(call("cmd.retcode", "exit 3", map! { "success_retcodes" => vec![3] }), Ok(Outcome::with_retcode(0, 0)));
    let text = refusal("cmd.run", "echo no; exit 3", map! { "raise_err" => true });
    assert_eq!(text, "ERROR: Command 'echo no; exit 3' failed with return code: 3\nno");
}

#[test]
fn what_cannot_run_says_why() {
    let check = |options: Map, expected: &str| assert_eq!(refusal("cmd.run", "true", options), expected);
    check(map! { "cwd" => "no" }, "ERROR: Specified cwd 'no' either not absolute or does not exist");
    check(map! { "shell" => "/bin/no" }, "ERROR: The shell /bin/no is not available");
    check(map! { "runas" => "no-such-user" }, "ERROR: User 'no-such-user' is not available");
    check(map! { "umask" => "077" }, "ERROR executing 'cmd.run': the option 'umask' is not supported by this minion");
    check(
        map! { "timeout" => "soon" },
        "The minion function caused an exception: ValueError: could not convert text: 'soon'",
    );
    let text = refusal("cmd.run", "/no/such/program x", map! { "python_shell" => false });
    assert!(text.starts_with("ERROR: Unable to run command '/no/such/program x', reason: No such file"), "{text}");
}

#[test]
fn the_configuration_forbids_commands() {
    let run = |config: Map, cmd: &str| {
        find("cmd.run").expect("a function").call(&context(config), vec![cmd.into()], Map::new()).is_ok()
    };
    assert!(!run(map! { "cmd_blacklist_glob" => vec!["echo *"] }, "echo x"));
    assert!(run(map! { "cmd_blacklist_glob" => vec!["echo *"] }, "true"));
    assert!(!run(map! { "cmd_whitelist_glob" => vec!["echo *"] }, "true"));
    assert!(run(map! { "cmd_whitelist_glob" => vec!["echo *"] }, "echo x"));
}

#[test]
fn words_are_split_as_shlex_splits_them() {
    let check = |text: &str, expected: &[&str]| assert_eq!(split_words(text).expect("closed"), expected);
    check("a 'b c' \"d\\\"e\\n\"f\\ g ''", &["a", "b c", "d\"e\\nf g", ""]);
    check("  ", &[]);
    assert!(split_words("'a").is_err());
    assert!(split_words("a\\").is_err());
}
