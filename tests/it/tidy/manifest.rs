//! Rules about the manifests: which crate may know which, and that no dependency is idle.

use std::collections::BTreeMap;

use super::source::{Finding, Source, texts};

/// Who may depend on whom: proto <- transport, render <- master, minion <- tests.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("render", &["proto"]),
    ("transport", &["proto"]),
    ("master", &["proto", "render", "transport"]),
    ("minion", &["proto", "render", "transport"]),
    ("tests", &["proto", "render", "transport", "master", "minion"]),
];

/// What the crates without I/O may never name, tests of their own included.
const NO_IO: &[(&str, &[&str])] = &[
    (
        "proto",
        &["tokio", "tokio-util", "axum", "hyper", "nix", "notify", "rusqlite", "socket2", "sysinfo", "time", "ureq"],
    ),
    ("render", &["tokio", "tokio-util", "axum", "hyper", "nix", "notify", "rusqlite", "socket2", "sysinfo", "ureq"]),
];

/// One line under a table of dependencies.
struct Dependency {
    table: String,
    name: String,
    line: usize,
    text: String,
}

/// One `Cargo.toml`.
struct Manifest {
    path: String,
    dependencies: Vec<Dependency>,
}

impl Manifest {
    /// Reads the tables of dependencies; the rest of the file is of no interest here.
    fn read(path: String, text: &str) -> Manifest {
        let mut table = String::new();
        let mut dependencies = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                table = header.to_owned();
                continue;
            }
            let Some((key, _)) = line.split_once('=').filter(|_| table.ends_with("dependencies")) else { continue };
            let name = key.split('.').next().unwrap_or(key).trim().trim_matches('"').to_owned();
            dependencies.push(Dependency { table: table.clone(), name, line: index + 1, text: line.to_owned() });
        }
        Manifest { path, dependencies }
    }

    /// Returns the crate's folder; the workspace itself has none.
    fn folder(&self) -> &str {
        self.path.strip_suffix("/Cargo.toml").unwrap_or_default()
    }

    fn is_workspace(&self) -> bool {
        self.folder().is_empty()
    }
}

fn manifests() -> Vec<Manifest> {
    let files = texts().into_iter().filter(|(path, _)| path == "Cargo.toml" || is_member(path));
    files.map(|(path, text)| Manifest::read(path, &text)).collect()
}

/// Members lie one level deep; a fuzz crate below one is a workspace of its own.
fn is_member(path: &str) -> bool {
    path.strip_suffix("/Cargo.toml").is_some_and(|folder| !folder.contains('/'))
}

/// Checks the directions between our crates.
pub(super) fn directions() -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests().iter().filter(|manifest| !manifest.is_workspace()) {
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == manifest.folder()) else {
            findings.push(Finding::new(
                &manifest.path,
                1,
                "a new crate is a design change: give it its place in DIRECTIONS",
            ));
            continue;
        };
        for dependency in &manifest.dependencies {
            let ours = DIRECTIONS.iter().any(|(name, _)| *name == dependency.name);
            if ours && !allowed.contains(&dependency.name.as_str()) {
                let rule = format!("{} may not depend on {}", manifest.folder(), dependency.name);
                findings.push(Finding::new(&manifest.path, dependency.line, rule));
            }
        }
    }
    findings
}

/// Checks that the crates without I/O cannot name an async runtime, a clock or a socket.
pub(super) fn pure_crates() -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in &manifests() {
        let Some((_, banned)) = NO_IO.iter().find(|(name, _)| *name == manifest.folder()) else { continue };
        for dependency in manifest.dependencies.iter().filter(|dependency| banned.contains(&dependency.name.as_str())) {
            let rule = format!("{} has no I/O and no clock, so it may not name {}", manifest.folder(), dependency.name);
            findings.push(Finding::new(&manifest.path, dependency.line, rule));
        }
    }
    findings
}

/// Checks that versions stand in one place: the workspace.
pub(super) fn versions_in_one_place() -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests().iter().filter(|manifest| !manifest.is_workspace()) {
        for dependency in
            manifest.dependencies.iter().filter(|dependency| !dependency.text.contains("workspace = true"))
        {
            let rule = format!("{} takes its version from [workspace.dependencies]", dependency.name);
            findings.push(Finding::new(&manifest.path, dependency.line, rule));
        }
    }
    findings
}

/// Checks that every dependency of the workspace is some member's, and every member's is in its source.
pub(super) fn idle_dependencies(sources: &[Source]) -> Vec<Finding> {
    let manifests = manifests();
    let mut members: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for manifest in manifests.iter().filter(|manifest| !manifest.is_workspace()) {
        for dependency in &manifest.dependencies {
            *members.entry(&dependency.name).or_default() += 1;
            if !is_named(manifest.folder(), dependency, sources) {
                let rule = format!("nothing in {} uses {}", manifest.folder(), dependency.name);
                findings.push(Finding::new(&manifest.path, dependency.line, rule));
            }
        }
    }
    for manifest in manifests.iter().filter(|manifest| manifest.is_workspace()) {
        let idle = |dependency: &&Dependency| !members.contains_key(dependency.name.as_str());
        findings.extend(manifest.dependencies.iter().filter(idle).map(|dependency| {
            Finding::new(&manifest.path, dependency.line, format!("no member depends on {}", dependency.name))
        }));
    }
    findings
}

fn is_named(folder: &str, dependency: &Dependency, sources: &[Source]) -> bool {
    let name = dependency.name.replace('-', "_");
    // Inside the workspace's own tests and benches a crate is known by its package name.
    let package = format!("halite_{name}");
    let outside_tests = dependency.table == "dependencies" && folder != "tests";
    let mut files = sources.iter().filter(|source| source.path.starts_with(&format!("{folder}/")));
    files.any(|source| {
        let mut lines: Box<dyn Iterator<Item = (usize, &str)>> = Box::new(source.product());
        if !outside_tests {
            lines = Box::new(lines.chain(source.tests()));
        }
        lines.any(|(_, line)| has_word(line, &name) || has_word(line, &package))
    })
}

/// Returns whether a whole name occurs in a line.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_ways_to_write_a_dependency_are_read() {
        let text = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = { workspace = true } # why\n[dev-dependencies]\nc = \"1\"\n";
        let manifest = Manifest::read("x/Cargo.toml".into(), text);
        let names: Vec<(&str, usize)> =
            manifest.dependencies.iter().map(|found| (found.name.as_str(), found.line)).collect();
        assert_eq!(names, [("a", 4), ("b", 5), ("c", 7)]);
    }
}
