//! A master that moves to another address, under the same name: minions ask for the address again with each attempt.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use halite_tests::faults::proxy::Proxy;
use halite_tests::{Fleet, run, skipped};

/// The name that leads to the master.
const NAME: &str = "moved-master";

fn address(host: [u8; 4], port: u16) -> SocketAddr {
    (host, port).into()
}

#[test]
fn a_master_whose_name_leads_elsewhere_is_found_again() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "true"]);
    if !unshare.output().is_ok_and(|output| output.status.success()) {
        return skipped("a_master_whose_name_leads_elsewhere_is_found_again", "there is no mount namespace to be had");
    }
    let mut fleet = Fleet::new().master_config("ping_interval_s: 1").start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (publish, requests) = fleet.site.ports().unwrap();
    let open =
        |host, port, to| Proxy::open(runtime.handle(), address(host, port), address([127, 0, 0, 1], to)).unwrap();
    let old = [open([127, 0, 0, 2], 0, publish), open([127, 0, 0, 2], 0, requests)];
    let ports = (old[0].port(), old[1].port());
    let hosts = fleet.write("hosts", &format!("127.0.0.1 localhost\n127.0.0.2 {NAME}\n"));
    // The minion sees a hosts file of its own; everything else of the machine is as it is.
    let minion = fleet.site.binaries().minion.clone();
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {hosts} /etc/hosts && exec {minion} \"$@\"' minion \"$@\"\n",
        hosts = hosts.display(),
        minion = minion.display()
    );
    let script = fleet.write("minion-with-hosts", &script);
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    fleet.write("m1/minion.d/moved.conf", &format!("master: {NAME}\n"));
    fleet.start_minion_as_program(&script, "m1", ports, "recon_default: 200\nrecon_max: 1000");
    fleet.wait_up(&["m1"]);
    drop(old);
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n127.0.0.3 {NAME}\n")).unwrap();
    let _new = [open([127, 0, 0, 3], ports.0, publish), open([127, 0, 0, 3], ports.1, requests)];
    let mut ping = fleet.halite_command(&["m1", "test.ping"]);
    ping.arg("--queue").arg("5m").arg("-t").arg("60");
    run(ping);
    fleet.wait_up(&["m1"]);
    fleet.halite(&["m1", "test.ping"]).expect_code(0);
}
