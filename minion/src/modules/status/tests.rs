//! What this host says of itself, and what is read from given texts.

use super::*;
use crate::modules::find;
use std::sync::Arc;

fn call(fun: &str, args: &[&str]) -> Result<Value, CallError> {
    let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
    let args = args.iter().map(|arg| Value::from(*arg)).collect();
    find(fun).expect("a function").call(&cx, args, Map::new()).map(|outcome| outcome.ret)
}

#[test]
fn this_host_has_a_status() {
    let load = call("status.loadavg", &[]).expect("an outcome");
    assert!(["1-min", "5-min", "15-min"].iter().all(|key| load.get(key).and_then(Value::as_f64).is_some()));
    let memory = call("status.meminfo", &[]).expect("an outcome");
    assert_eq!(memory.get("MemTotal").and_then(|total| total.get("unit")), Some(&"kB".into()));
    assert!(call("status.nproc", &[]).expect("an outcome").as_int().is_some_and(|count| count > 0));
    assert!(call("status.version", &[]).expect("an outcome").as_str().is_some_and(|text| text.contains("Linux")));
    assert!(call("status.vmstats", &[]).expect("an outcome").get("nr_free_pages").is_some());
    assert!(call("status.cpuinfo", &[]).expect("an outcome").get("processor").is_some());
    let uptime = call("status.uptime", &[]).expect("an outcome");
    assert!(uptime.get("seconds").and_then(Value::as_int).is_some_and(|seconds| seconds > 0), "{uptime:?}");
}

#[test]
fn the_small_rest_has_salts_shapes() {
    let tcp = netstats("TcpExt: A B\nTcpExt: 1 -2\nIpExt: C\nIpExt: 3\n");
    let expected = proto::map! { "TcpExt" => proto::map! { "A" => 1, "B" => -2 }, "IpExt" => proto::map! { "C" => 3 } };
    assert_eq!(tcp, expected);
    let dev = netdev("Inter-| x\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
    let lo = dev.at("lo").expect("an interface");
    assert_eq!((lo.get("rx_multicast"), lo.get("tx_carrier")), (Some(&8.into()), Some(&15.into())));
    assert!(call("status.cpustats", &[]).expect("an outcome").get("ctxt").is_some());
    assert_eq!(call("status.time", &["%Y x"]).expect("an outcome").as_str().map(str::len), Some(6));
    assert!(call("status.time", &["%!"]).is_err());
    let noon = call("status.time", &[]).expect("an outcome");
    assert!(noon.as_str().is_some_and(|text| text.ends_with("AM") || text.ends_with("PM")), "{noon:?}");
    assert_eq!(call("status.pid", &["no such process, [0-9]{40}"]), Ok("".into()));
    assert!(call("status.pid", &["("]).is_err());
    let all = call("status.all_status", &[]).expect("an outcome");
    assert!(all.get("loadavg").is_some_and(|load| load.get("1-min").is_some()), "{all:?}");
}

#[test]
fn this_process_is_among_the_processes() {
    let procs = call("status.procs", &[]).expect("an outcome");
    let own = procs.get(&std::process::id().to_string()).expect("listed");
    let first = std::env::args().next().expect("a name");
    assert!(own.get("cmd").and_then(Value::as_str).is_some_and(|cmd| cmd.starts_with(&first)), "{own:?}");
}

#[test]
fn disks_are_chosen_by_path_and_type() {
    let root = call("status.diskusage", &["/"]).expect("an outcome");
    assert_eq!(root.as_map().map(Map::len), Some(1));
    let proc = call("status.diskusage", &["pro?"]).expect("an outcome");
    assert!(proc.get("/proc").is_some() && proc.get("/").is_none());
    assert!(call("status.diskusage", &[]).expect("an outcome").get("/").is_some());
    assert!(call("status.diskusage", &["/no/such/place"]).is_err());
}

#[test]
fn texts_have_salts_shapes() {
    let cpu = cpuinfo("flags\t: fpu vme\nmodel name\t: Fast\n\n");
    assert_eq!(cpu, proto::map! { "flags" => vec!["fpu", "vme"], "model name" => "Fast" });
    let since = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("in range");
    let uptime = uptime_map(90_061, since);
    assert_eq!((uptime.text("since_iso"), uptime.text("time")), (Some("2023-11-14T22:13:20.000000"), Some("1:1")));
    let user = user_row("ann pts/0 10:00 2.00s 0.1s 0.0s vim a b").expect("whole");
    assert_eq!((user.text("user"), user.text("what")), (Some("ann"), Some("vim a b")));
    assert_eq!(user_row("broken"), None);
}
