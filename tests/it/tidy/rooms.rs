//! Rules about rooms (one thing per file, one `all()` per folder) and about the walls between parts.

use std::collections::BTreeSet;

use super::source::{Finding, Source};

/// A folder of equals. `knows` are the paths in the crate that its files may name besides the room itself.
struct Room {
    folder: &'static str,
    knows: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { folder: "master/src/jobs/cache", knows: &[] },
    // A reaction turns an event into commands.
    Room { folder: "master/src/reactor/reactions", knows: &["command", "reactor::high", "reactor::state::KEY"] },
    Room { folder: "master/src/runners", knows: &["command"] },
    Room { folder: "master/src/wheel", knows: &["command"] },
    Room { folder: "minion/src/beacons", knows: &["host"] },
    Room { folder: "minion/src/grains", knows: &["host"] },
    // A function runs inside the executor: its child processes and its stop flag are the executor's.
    Room {
        folder: "minion/src/modules",
        knows: &["executor::control", "executor::process", "executor::runas", "host"],
    },
    Room { folder: "minion/src/returners", knows: &["host"] },
];

/// Files of a room that are no thing of it, each with what it is. A live room has its `state.rs` and `task.rs` too.
const HELPERS: &[(&str, &str)] = &[
    ("master/src/reactor/reactions/arguments.rs", "the argument forms that all types take"),
    ("master/src/runners/args.rs", "the arguments of every runner's function"),
    ("master/src/runners/call.rs", "runs a function of the minion's for salt.cmd"),
    ("minion/src/beacons/roster.rs", "which beacons there shall be, by the files and by changes since"),
    ("minion/src/beacons/setup.rs", "reads the option `beacons` for all kinds"),
    ("minion/src/modules/args.rs", "binds arguments to parameters for every module"),
    ("minion/src/modules/diff.rs", "the difference of two texts, for whoever tells what it changed"),
    ("minion/src/modules/parts.rs", "the parts of a running minion that functions may reach"),
];

/// Things that may name a neighbour, each with its reason.
const NEIGHBOURS: &[(&str, &str, &str)] =
    &[("master/src/runners/proxy.rs", "salt", "proxy.execute is salt.execute with salt-sproxy's options")];

/// Folders whose files may name only these parts of their crate.
const WALLS: &[(&str, &[&str])] = &[
    // A command line is a client of the API; `fleet` starts daemons for the demo, and `store` works on the files of a
    // master that may be away.
    ("master/src/cli", &["SOFTWARE", "api", "cli", "config", "fleet", "store"]),
];

impl Room {
    /// Returns the room's path inside its crate, as Rust writes it.
    fn module(&self) -> String {
        self.folder.split_once("/src/").map_or(self.folder, |(_, path)| path).replace('/', "::")
    }

    fn holds(&self, source: &Source) -> bool {
        source.path.strip_prefix(self.folder).is_some_and(|rest| rest.starts_with('/')) && !source.is_test
    }

    /// Returns the things of this room: the names of its files and folders.
    fn things(&self, sources: &[Source]) -> BTreeSet<String> {
        let files = sources.iter().filter(|source| self.holds(source) && !is_helper(&source.path));
        let names = files.filter_map(|source| {
            let rest = source.path.strip_prefix(self.folder)?.trim_start_matches('/');
            rest.split('/').next().map(|name| name.trim_end_matches(".rs").to_owned())
        });
        names.filter(|name| !["mod", "state", "task"].contains(&name.as_str())).collect()
    }
}

fn is_helper(path: &str) -> bool {
    HELPERS.iter().any(|(helper, _)| *helper == path)
}

/// Checks that a room's files name only their own room, `proto`, `render` and what the room may know.
pub(super) fn neighbours(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in ROOMS {
        let own = room.module();
        let things = room.things(sources);
        for source in sources.iter().filter(|source| room.holds(source) && !is_live_part(source)) {
            for (line, path) in arrows(source, "crate::") {
                let mut known = room.knows.iter().copied().chain([own.as_str()]);
                if !known.any(|known| is_under(&path, known)) {
                    let rule = format!("a file of {} may not name crate::{path}", room.folder);
                    findings.push(Finding::new(&source.path, line, rule));
                }
            }
            findings.extend(siblings(source, room, &things));
        }
    }
    findings
}

/// A room's handle and loop know the parts that they serve; its `state.rs` has rules of its own.
fn is_live_part(source: &Source) -> bool {
    matches!(source.name(), "mod.rs" | "state.rs" | "task.rs")
}

/// Returns whether a Rust path is this one or lies below it.
fn is_under(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Two things of one room never know each other; what they share stands in `mod.rs`.
fn siblings(source: &Source, room: &Room, things: &BTreeSet<String>) -> Vec<Finding> {
    let depth = source.path.matches('/').count() - room.folder.matches('/').count();
    if depth != 1 || is_helper(&source.path) {
        return Vec::new();
    }
    let named = arrows(source, "super::").into_iter().filter(|(_, path)| {
        let first = path.split("::").next().unwrap_or_default();
        let excused = NEIGHBOURS.iter().any(|(file, thing, _)| *file == source.path && *thing == first);
        path.contains("::") && things.contains(first) && !excused
    });
    named
        .map(|(line, path)| {
            Finding::new(
                &source.path,
                line,
                format!("a thing of {} may not name its neighbour super::{path}", room.folder),
            )
        })
        .collect()
}

/// Returns every path that starts with `prefix` in code that is no test, without the prefix.
fn arrows(source: &Source, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.product() {
        for (at, _) in line.match_indices(prefix) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let path: String =
                line[at + prefix.len()..].chars().take_while(|c| c.is_alphanumeric() || "_:{".contains(*c)).collect();
            found.push((number, path.trim_end_matches('{').trim_end_matches(':').to_owned()));
        }
    }
    found
}

/// Checks that `all()` lists every file of its room, in alphabetical order.
pub(super) fn lists(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in ROOMS {
        let things = room.things(sources);
        if things.is_empty() {
            continue;
        }
        let path = format!("{}/mod.rs", room.folder);
        let Some(listed) = sources.iter().find(|source| source.path == path).and_then(listed) else {
            findings.push(Finding::new(path, 1, "a room has a function all() in its mod.rs"));
            continue;
        };
        let names: Vec<&String> = listed.names.iter().filter(|name| things.contains(*name)).collect();
        findings.extend(
            things
                .iter()
                .filter(|thing| !names.contains(thing))
                .map(|thing| Finding::new(&path, listed.line, format!("all() does not list {}/{thing}", room.folder))),
        );
        if !names.is_sorted() {
            findings.push(Finding::new(&path, listed.line, "all() is in alphabetical order"));
        }
    }
    findings
}

struct Listed {
    line: usize,
    names: Vec<String>,
}

/// Returns the modules that the body of `all()` names, in its order.
fn listed(source: &Source) -> Option<Listed> {
    let start = source.code.find("fn all(")?;
    let length = source.code[start..].find("\n}").unwrap_or(source.code.len() - start);
    let body = &source.code[start..start + length];
    let line = source.code[..start].lines().count();
    let mut names = Vec::new();
    for (at, _) in body.match_indices("::") {
        let word: String = body[..at].chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        names.push(word.chars().rev().collect());
    }
    names.dedup();
    Some(Listed { line, names })
}

/// Checks the folders that may name only some parts of their crate.
pub(super) fn walls(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, knows) in WALLS {
        for source in sources.iter().filter(|source| source.path.starts_with(&format!("{folder}/")) && !source.is_test)
        {
            for (line, path) in arrows(source, "crate::") {
                let first = path.split("::").next().unwrap_or_default();
                if !knows.contains(&first) {
                    findings.push(Finding::new(&source.path, line, format!("{folder} may not name crate::{path}")));
                }
            }
        }
    }
    findings
}

/// Checks that a part is reached through its handle: nobody outside a folder names its `state` or `task`.
pub(super) fn handles(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        for (line, path) in arrows(source, "crate::") {
            let parts: Vec<&str> = path.split("::").collect();
            let Some(at) = parts.iter().position(|part| matches!(*part, "state" | "task")).filter(|at| *at > 0) else {
                continue;
            };
            if !source.path.contains(&format!("/src/{}", parts[..at].join("/"))) {
                findings.push(Finding::new(
                    &source.path,
                    line,
                    format!("crate::{path} is reached through its part's handle"),
                ));
            }
        }
    }
    findings
}

/// Checks the rules of `state.rs`: no async, no clock, no randomness, no files, and no other part of the crate.
pub(super) fn states(sources: &[Source]) -> Vec<Finding> {
    const BANNED: &[(&str, &str)] = &[
        ("async ", "is not async"),
        (".await", "is not async"),
        ("tokio", "knows no runtime"),
        ("Instant::now", "takes the time as an argument"),
        ("SystemTime::now", "takes the time as an argument"),
        ("OffsetDateTime::now", "takes the time as an argument"),
        ("SystemRandom", "takes random bytes as arguments"),
        ("std::fs", "touches no files"),
        ("std::net::Tcp", "opens no sockets"),
    ];
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.name() == "state.rs" && !source.is_test) {
        for (line, text) in source.product() {
            let broken = BANNED.iter().find(|(word, _)| text.contains(word));
            findings.extend(
                broken.map(|(word, rule)| {
                    Finding::new(&source.path, line, format!("a state.rs {rule}: `{}`", word.trim()))
                }),
            );
        }
        let folder = source.path.trim_end_matches("/state.rs");
        let own = folder.split_once("/src/").map_or("", |(_, path)| path).replace('/', "::");
        findings.extend(arrows(source, "crate::").into_iter().filter(|(_, path)| !path.starts_with(&own)).map(
            |(line, path)| {
                Finding::new(
                    &source.path,
                    line,
                    format!("a state.rs knows std, proto and its own folder, not crate::{path}"),
                )
            },
        ));
    }
    findings
}
