//! What `modules/ps` promises, tested on this host.

use super::*;
use crate::modules::find;
use proto::map;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

fn call(fun: &str, args: Vec<Value>, options: Map) -> Result<Value, CallError> {
    let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
    find(fun).expect("a function").call(&cx, args, options).map(|outcome| outcome.ret)
}

/// A process that waits for its input, with a mark of its own in its command line.
fn waiting(mark: &str) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line", mark]).stdin(Stdio::piped());
    command.spawn().expect("a shell")
}

#[test]
fn this_process_is_found_by_number_and_name() {
    let own = i64::from(std::process::id());
    let pids = call("ps.get_pid_list", vec![], Map::new()).expect("an outcome");
    assert!(pids.as_list().expect("a list").contains(&own.into()));
    let info = call("ps.proc_info", vec![own.into()], Map::new()).expect("alive");
    let keys: Vec<String> = info.as_map().expect("a map").keys().map(Value::to_key).collect();
    assert_eq!(keys, ATTRIBUTES);
    let name = info.get("name").cloned().expect("a name");
    let found = call("ps.pgrep", vec![name.clone()], Map::new()).expect("an outcome");
    assert!(found.as_list().expect("found").contains(&own.into()));
    let regex = map! { "pattern_is_regex" => true };
    let found = call("ps.pgrep", vec![format!("^{}$", plain_text(&name)).into()], regex).expect("an outcome");
    assert!(found.as_list().expect("found").contains(&own.into()));
    let two = call("ps.proc_info", vec![own.into()], map! { "attrs" => vec!["pid", "ppid"] }).expect("alive");
    assert_eq!(two.as_map().map(Map::len), Some(2));
}

#[test]
fn what_is_not_there_is_told() {
    assert_eq!(call("ps.pgrep", vec!["no process is called so".into()], Map::new()), Ok(Value::Null));
    assert_eq!(call("ps.pgrep", vec!["".into()], map! { "user" => "nosuchuser" }), Ok(Value::Null));
    assert_eq!(call("ps.kill_pid", vec![0.into()], Map::new()), Ok(false.into()));
    assert_eq!(call("ps.kill_pid", vec![i64::MAX.into()], Map::new()), Ok(false.into()));
    assert!(call("ps.kill_pid", vec![(-1).into()], Map::new()).is_err());
    assert!(call("ps.kill_pid", vec![1.into()], map! { "signal" => 999 }).is_err());
    assert!(call("ps.pkill", vec!["".into()], Map::new()).is_err());
    assert!(call("ps.pgrep", vec!["(".into()], map! { "pattern_is_regex" => true }).is_err());
    assert!(call("ps.proc_info", vec![i64::MAX.into()], Map::new()).is_err());
    let own = i64::from(std::process::id());
    assert!(call("ps.proc_info", vec![own.into()], map! { "attrs" => vec!["nothing"] }).is_err());
    assert!(call("ps.top", vec![], map! { "interval" => -1 }).is_err());
    assert!(call("ps.disk_usage", vec!["/no/such/place".into()], Map::new()).is_err());
}

#[test]
fn processes_are_signalled() {
    use std::os::unix::process::ExitStatusExt;
    let mut one = waiting("halite-ps-one");
    assert_eq!(call("ps.kill_pid", vec![one.id().into()], Map::new()), Ok(true.into()));
    assert_eq!(one.wait().expect("ends").signal(), Some(15));
    assert_eq!(call("ps.kill_pid", vec![one.id().into()], Map::new()), Ok(false.into()));
    let mark = format!("halite-ps-{}", std::process::id());
    let mut two = waiting(&mark);
    let killed = call("ps.pkill", vec![mark.into()], map! { "full" => true, "signal" => 9 });
    assert_eq!(killed, Ok(map! { "killed" => vec![two.id()] }.into()));
    assert_eq!(two.wait().expect("ends").signal(), Some(9));
}

#[test]
fn the_host_is_measured() {
    let top = call("ps.top", vec![2.into(), 0.into()], Map::new()).expect("an outcome");
    let first = top.as_list().and_then(|rows| rows.first()).expect("processes");
    assert!(first.get("cpu").and_then(|cpu| cpu.get("user")).is_some());
    assert_eq!(top.as_list().map(<[Value]>::len), Some(2));
    let share = call("ps.cpu_percent", vec![], Map::new()).expect("an outcome").as_f64().expect("a number");
    assert!((0.0..=100.0).contains(&share));
    let each = call("ps.cpu_percent", vec![0.into(), true.into()], Map::new()).expect("an outcome");
    assert_eq!(each.as_list().map(<[Value]>::len), Some(cpu::read().count));
    assert!(call("ps.boot_time", vec![], Map::new()).expect("an outcome").as_int() > Some(1_000_000_000));
    assert!(call("ps.virtual_memory", vec![], Map::new()).expect("an outcome").get("percent").is_some());
    assert!(call("ps.total_physical_memory", vec![], Map::new()).expect("an outcome").as_int() > Some(0));
    assert!(call("ps.disk_usage", vec!["/".into()], Map::new()).expect("an outcome").get("percent").is_some());
}
