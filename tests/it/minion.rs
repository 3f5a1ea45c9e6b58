//! The minion by itself: functions, grains, `call`.

use halite_tests::Fleet;

#[test]
fn a_call_needs_no_master_when_it_is_local() {
    let fleet = Fleet::new().start();
    fleet.site.configure_minion("alone", "grains:\n  role: web\n").unwrap();
    let ping = fleet.call("alone", &["--local", "test.ping"]).expect_code(0);
    assert_eq!(ping.stdout, "local:\n    True\n");
    let role = fleet.call("alone", &["--local", "grains.get", "role", "--out", "json"]).expect_code(0).json();
    assert_eq!(role["local"], "web");
    let items = fleet.call("alone", &["--local", "grains.items", "--out", "json"]).expect_code(0).json();
    for grain in
        ["id", "kernel", "os", "os_family", "osrelease", "cpuarch", "num_cpus", "mem_total", "nodename", "ipv4"]
    {
        assert!(!items["local"][grain].is_null(), "{grain}");
    }
    assert_eq!(items["local"]["id"], "alone");
}

#[test]
fn a_call_passes_on_what_failed() {
    let fleet = Fleet::new().start();
    fleet.site.configure_minion("alone", "").unwrap();
    assert_eq!(fleet.call("alone", &["--local", "cmd.run", "exit 7"]).code, 1);
    assert_eq!(fleet.call("alone", &["--local", "--retcode-passthrough", "cmd.run", "exit 7"]).code, 7);
    assert_eq!(fleet.call("alone", &["--local", "no.such"]).code, 1);
    assert_eq!(fleet.call("alone", &["--no-such-flag"]).code, 64);
}

#[test]
fn the_functions_describe_themselves() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let functions = fleet.halite(&["m1", "sys.list_functions", "test", "--out", "json"]).expect_code(0).json();
    let listed = functions["m1"].as_array().unwrap();
    for name in ["test.ping", "test.echo", "test.arg", "test.sleep", "test.exception", "test.version"] {
        assert!(listed.iter().any(|function| function == name), "{name}");
    }
    let doc = fleet.halite(&["m1", "sys.doc", "test.ping"]).expect_code(0);
    assert!(doc.stdout.contains("test.ping"), "{doc:?}");
}

#[test]
fn memory_stays_small() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(2);
    fleet.halite(&["*", "test.ping"]).expect_code(0);
    // The promises are for release builds; a debug build is allowed half as much again.
    let slack = if cfg!(debug_assertions) { 3 } else { 2 };
    let (master, minion) = (fleet.master().rss_kib().unwrap(), fleet.minion("m1").rss_kib().unwrap());
    assert!(master <= 50 * 1024 * slack / 2, "master: {master} KiB");
    assert!(minion <= 10 * 1024 * slack / 2 + 8 * 1024 * (slack - 2), "minion: {minion} KiB");
}
