//! Hosts that are containers: a network of their own, an address each, and an end with the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::MASTER;
use crate::{Outcome, run};

/// A fleet of containers on a network.
#[derive(Debug)]
pub struct Containers {
    /// The tag of the images.
    tag: &'static str,
    /// The name of the network, and what the names of the containers begin with.
    name: String,
    hosts: Vec<String>,
    /// The configuration files, which the containers see read-only.
    dir: tempfile::TempDir,
}

/// Returns the tag of the images, or why there are no containers to be had.
pub(super) fn tag() -> Result<&'static str, &'static str> {
    static TAG: OnceLock<Result<String, &'static str>> = OnceLock::new();
    let find = || {
        let tag = std::env::var("HALITE_CONTAINERS").map_err(|_| "HALITE_CONTAINERS names no tag of images")?;
        let info = Command::new("docker").arg("info").output();
        if info.is_ok_and(|info| info.status.success()) { Ok(tag) } else { Err("no container engine answers") }
    };
    TAG.get_or_init(find).as_ref().map(String::as_str).map_err(|why| *why)
}

impl Containers {
    pub(super) fn start(tag: &'static str, config: &str) -> Containers {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("halite-it-").tempdir().expect("a temporary directory");
        // The user of the images reads it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), open).expect("its mode can be set");
        let name = format!("halite-it-{}-{number}", std::process::id());
        let mut containers = Containers { tag, name, hosts: Vec::new(), dir };
        docker(&["network", "create", &containers.name]);
        // `salt` is where a minion looks for its master.
        containers.start_host(MASTER, "salt", &format!("auto_accept: true\n{config}\n"));
        containers
    }

    pub(super) fn start_minion(&mut self, id: &str, config: &str) {
        self.start_host(id, id, &format!("{config}\n"));
    }

    fn start_host(&mut self, host: &str, alias: &str, config: &str) {
        let role = if host == MASTER { "master" } else { "minion" };
        let file = self.write(host, config);
        self.hosts.push(host.to_owned());
        docker(&[
            "run",
            "--detach",
            "--init",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            &format!("--name={}", self.container(host)),
            &format!("--hostname={host}"),
            &format!("--network={}", self.name),
            &format!("--network-alias={alias}"),
            &format!("--volume={}:/etc/halite/{role}:ro", file.display()),
            &format!("halite-{role}:{}", self.tag),
        ]);
    }

    fn write(&self, host: &str, config: &str) -> PathBuf {
        let file = self.dir.path().join(host);
        fs::write(&file, config).expect("files can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
        file
    }

    /// Does something with a host's container.
    pub(super) fn on(&self, host: &str, doing: &[&str]) {
        docker(&[doing, &[&self.container(host)]].concat());
    }

    pub(super) fn network(&self, host: &str, doing: &str) {
        docker(&["network", doing, &self.name, &self.container(host)]);
    }

    pub(super) fn run_on(&self, host: &str, program: &str, args: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        command.args(["exec", &self.container(host), program]).args(args);
        run(command)
    }

    fn container(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let remove = |args: &[&str]| drop(Command::new("docker").args(args).output());
        for host in &self.hosts {
            if std::thread::panicking() {
                tell(&self.container(host));
            }
            remove(&["rm", "--force", "--volumes", &self.container(host)]);
        }
        remove(&["network", "rm", &self.name]);
    }
}

/// Says what a container logged, for the one who reads why a test failed.
fn tell(container: &str) {
    let mut command = Command::new("docker");
    command.args(["logs", "--tail", "40", container]);
    let log = run(command);
    eprintln!("{container}:\n{}{}", log.stdout, log.stderr);
}

/// Runs `docker`; fails the test if it fails.
fn docker(args: &[&str]) {
    let mut command = Command::new(Path::new("docker"));
    command.args(args);
    let outcome = run(command);
    assert_eq!(outcome.code, 0, "docker {args:?}: {}", outcome.stderr);
}
