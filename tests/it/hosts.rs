//! What happens to whole hosts: as processes everywhere, and in containers where there is an engine.

use halite_tests::Hosts;

/// A silent peer is dead after three seconds instead of 45.
const QUICK: &str = "ping_interval_s: 1";
/// An event for each line of a file.
const LINES: &str = "beacons:\n  log:\n    - file: /tmp/lines\n    - tags:\n        line:\n          regex: '[0-9]+'\n    - interval: 1\n";

fn a_paused_host_gets_its_queued_job_when_it_wakes(mut hosts: Hosts) {
    hosts.start_minion("m1", "");
    hosts.wait_up("m1");
    hosts.pause("m1");
    hosts.wait_down("m1");
    let publish = hosts.halite(&["m1", "test.echo", "late", "--async", "--queue", "10m"]).expect_code(0);
    let jid = publish.stdout.split_whitespace().last().unwrap().to_owned();
    hosts.resume("m1");
    let returns = hosts.wait_events(&format!("salt/job/{jid}/ret/m1"), 1);
    assert_eq!(returns[0]["data"]["return"], "late");
}

fn a_killed_host_comes_back_under_its_key(mut hosts: Hosts) {
    hosts.start_minion("m1", "");
    hosts.wait_up("m1");
    hosts.kill("m1");
    hosts.wait_down("m1");
    hosts.start("m1");
    hosts.wait_up("m1");
    hosts.kill("master");
    hosts.start("master");
    hosts.wait_up("m1");
    hosts.halite(&["m1", "test.ping"]).expect_code(0);
    let accepted = hosts.events("salt/auth").into_iter().filter(|event| event["data"]["act"] == "pend");
    assert_eq!(accepted.count(), 0, "its key was not new to the master");
    hosts.stop("m1");
    hosts.wait_down("m1");
}

fn a_minion_knows_how_it_stands(mut hosts: Hosts) {
    hosts.start_minion("m1", "");
    hosts.wait_up("m1");
    halite_tests::wait_for("the minion to be well", || hosts.minion("m1", &["doctor", "--quiet"]).code == 0);
    hosts.stop("master");
    halite_tests::wait_for("the minion to be unwell", || hosts.minion("m1", &["doctor", "--quiet"]).code == 1);
    let told = hosts.minion("m1", &["doctor", "--quiet"]);
    assert!(told.stdout.is_empty() && told.stderr.contains("no session with the master"), "{told:?}");
}

#[test]
fn a_paused_process_gets_its_queued_job() {
    a_paused_host_gets_its_queued_job_when_it_wakes(Hosts::processes(QUICK));
}

#[test]
fn a_paused_container_gets_its_queued_job() {
    Hosts::containers("a_paused_container_gets_its_queued_job", QUICK)
        .into_iter()
        .for_each(a_paused_host_gets_its_queued_job_when_it_wakes);
}

#[test]
fn a_killed_process_comes_back_under_its_key() {
    a_killed_host_comes_back_under_its_key(Hosts::processes(QUICK));
}

#[test]
fn a_killed_container_comes_back_under_its_key() {
    Hosts::containers("a_killed_container_comes_back_under_its_key", QUICK)
        .into_iter()
        .for_each(a_killed_host_comes_back_under_its_key);
}

#[test]
fn a_process_knows_how_it_stands() {
    a_minion_knows_how_it_stands(Hosts::processes(QUICK));
}

#[test]
fn what_fires_on_a_host_without_network_comes_once_when_it_is_healed() {
    let name = "what_fires_on_a_host_without_network_comes_once_when_it_is_healed";
    let Some(mut hosts) = Hosts::containers(name, QUICK) else { return };
    hosts.start_minion("m1", LINES);
    hosts.wait_up("m1");
    hosts.cut("m1");
    hosts.wait_down("m1");
    hosts.minion("m1", &["call", "--local", "cmd.run", "seq 1 30 >/tmp/lines"]).expect_code(0);
    hosts.heal("m1");
    let lines = hosts.wait_events("salt/beacon/m1/log/line", 30);
    let numbers: Vec<u32> = lines.iter().map(|line| line["data"]["raw"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=30).collect::<Vec<_>>());
}
