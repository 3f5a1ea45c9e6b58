//! Bad input, from the network, from files, from users: a clear answer, and nothing else disturbed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use halite_tests::{Fleet, PATIENCE, run};

/// Sends bytes to a port and waits until the other side has had enough of them.
fn poke(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The master may close before all has been written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
}

/// A NULL greeting of ZMTP 3.0, as a peer sends it.
fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes
}

#[test]
fn garbage_on_both_ports_disturbs_nobody() {
    let mut fleet = Fleet::new().start();
    fleet.start_minions(1);
    let (publish, requests) = fleet.site.ports().unwrap();
    let rss = fleet.master().rss_kib().unwrap();
    let mut huge = greeting();
    huge.extend([0x04, 26]);
    huge.extend(b"\x05READY\x0bSocket-Type\0\0\0\x03REQ");
    // A message frame that claims 1 TiB.
    huge.extend([0x02]);
    huge.extend((1u64 << 40).to_be_bytes());
    for port in [publish, requests] {
        poke(port, &[0; 200]);
        poke(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        poke(port, &[0xff; 4096]);
        poke(port, &huge);
    }
    assert_eq!(fleet.halite(&["*", "test.ping", "--out", "json"]).expect_code(0).json()["m1"], true);
    let grown = fleet.master().rss_kib().unwrap().saturating_sub(rss);
    assert!(grown < 20_000, "the master grew by {grown} KiB");
}

#[test]
fn a_port_in_use_is_named() {
    let fleet = Fleet::new().start();
    let (publish, _) = fleet.site.ports().unwrap();
    let config = format!(
        "root_dir: {}\ninterface: 127.0.0.1\npublish_port: {publish}\nret_port: 0\n",
        fleet.site.dir().join("second").display()
    );
    let path = fleet.write("second/master", &config);
    let mut second = Command::new(&fleet.site.binaries().master);
    second.arg("-c").arg(path.parent().unwrap());
    let outcome = run(second).expect_code(1);
    assert!(outcome.stderr.contains(&publish.to_string()) && outcome.stderr.contains("in use"), "{outcome:?}");
}

#[test]
fn a_second_master_on_the_same_directory_is_refused() {
    let fleet = Fleet::new().start();
    let mut second = Command::new(&fleet.site.binaries().master);
    second.arg("-c").arg(fleet.site.confdir("master"));
    assert_ne!(run(second).code, 0);
    fleet.halite(&["key", "list"]).expect_code(0);
}

#[test]
fn bad_yaml_is_named_with_file_and_line() {
    let fleet = Fleet::new().start();
    for (binary, name) in [(&fleet.site.binaries().master, "master"), (&fleet.site.binaries().minion, "minion")] {
        let path = fleet.write(&format!("bad/{name}"), "id: x\ninterface: [1\nuser: root\n");
        let mut command = Command::new(binary);
        command.arg("-c").arg(path.parent().unwrap());
        let outcome = run(command).expect_code(78);
        assert!(outcome.stderr.contains(&format!("bad/{name}")), "{outcome:?}");
        assert!(outcome.stderr.contains('2') || outcome.stderr.contains('3'), "{outcome:?}");
    }
}

#[test]
fn a_key_directory_that_cannot_be_used_is_named() {
    let fleet = Fleet::new().start();
    let root = fleet.site.dir().join("blocked");
    // A file where the directory should be: no user can make a directory of it, not even root.
    fleet.write("blocked/etc/halite/pki", "not a directory");
    let path = fleet.write(
        "blocked/master",
        &format!("root_dir: {}\npublish_port: 0\nret_port: 0\ninterface: 127.0.0.1\n", root.display()),
    );
    let mut command = Command::new(&fleet.site.binaries().master);
    command.arg("-c").arg(path.parent().unwrap());
    let outcome = run(command).expect_code(1);
    assert!(outcome.stderr.contains("pki"), "{outcome:?}");
}

#[test]
fn an_unknown_option_is_a_warning_that_names_the_nearest() {
    let fleet = Fleet::new().master_config("auto_acept: true\ngitfs_remotes: []").start();
    let log = fleet.master().log();
    assert!(log.contains("did you mean auto_accept?") && log.contains("gitfs_remotes"), "{log}");
}

#[test]
fn a_bad_reload_keeps_the_old_configuration_and_says_where() {
    let fleet = Fleet::new().start();
    fleet.halite(&["reload"]).expect_code(0);
    fleet.write("master/master.d/reactor.conf", "reactor:\n  - 'a/*': [/x.sls\n");
    let refused = fleet.halite(&["reload"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("reactor.conf"), "{refused:?}");
    fleet.wait_events("halite/config/rejected", 1);
    fleet.halite(&["key", "list"]).expect_code(0);
}
