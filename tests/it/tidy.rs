//! The rules of the house that a machine can check. Each failure names file, line and rule.
//!
//! Clippy checks what it can (`clippy.toml`, `[workspace.lints]`); here stands the rest. An exception is a line in one
//! of the tables, with its reason.

mod manifest;
mod rooms;
mod source;

use source::{Finding, Source, report, root, sources, texts};

/// The wall for a file, tests aside.
const MAX_LINES: usize = 500;
/// The wall for a `main.rs`.
const MAX_MAIN: usize = 100;
/// The one file that may have unsafe code.
const KERNEL: &str = "minion/src/host/kernel.rs";

/// Tests that may sleep, each with its reason.
const SLEEPERS: &[(&str, &str)] = &[
    ("tests/src/faults/kind.rs", "a fault lasts as long as it is told to"),
    ("tests/src/faults/proxy.rs", "a slow link: what is sent arrives later"),
    ("tests/src/faults/rig.rs", "the harness: settle looks again after a pause"),
    ("tests/src/lib.rs", "the harness: wait_for looks again after a pause"),
    ("tests/src/swarm/mod.rs", "the simulator: wait looks again after a pause"),
    ("tests/src/swarm/salt/drive.rs", "the simulator: a minion pauses before it comes again"),
    ("tests/src/swarm/scenario.rs", "a measurement lasts as long as it is told to"),
    ("transport/benches/engines/src/client.rs", "a bench: memory is read when a server has come to rest"),
];

/// Who may name the folders of configuration files besides `config`, each with its reason.
const FOLDER_NAMERS: &[(&str, &str)] =
    &[("master/src/daemon.rs", "watches the folder for changes; what changed is read by config")];

/// Where `allow` stands for `expect`, each with its reason.
const ALLOWERS: &[(&str, &str)] = &[("proto/src/value.rs", "a macro: only its empty form has no use for `mut`")];

fn check(rule: impl Fn(&Source) -> Vec<Finding>) {
    report(&sources().iter().flat_map(rule).collect::<Vec<_>>());
}

/// Makes a finding of every line in which `broken` sees something wrong.
fn lines<'a>(
    source: &Source,
    lines: impl Iterator<Item = (usize, &'a str)>,
    rule: &str,
    broken: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    lines.filter(|(_, text)| broken(text)).map(|(line, _)| Finding::new(&source.path, line, rule)).collect()
}

fn excepted(table: &[(&str, &str)], path: &str) -> bool {
    table.iter().any(|(known, _)| *known == path)
}

#[test]
fn crates_depend_in_one_direction() {
    report(&manifest::directions());
}

#[test]
fn crates_without_io_cannot_name_any() {
    report(&manifest::pure_crates());
}

#[test]
fn versions_stand_in_the_workspace() {
    report(&manifest::versions_in_one_place());
}

#[test]
fn no_dependency_is_idle() {
    report(&manifest::idle_dependencies(sources()));
}

#[test]
fn rooms_do_not_know_each_other() {
    report(&rooms::neighbours(sources()));
}

#[test]
fn every_file_of_a_room_is_listed() {
    report(&rooms::lists(sources()));
}

#[test]
fn the_command_line_is_a_client() {
    report(&rooms::walls(sources()));
}

#[test]
fn parts_are_reached_through_their_handles() {
    report(&rooms::handles(sources()));
}

#[test]
fn states_are_pure() {
    report(&rooms::states(sources()));
}

#[test]
fn only_config_reads_the_configuration() {
    check(|source| {
        if source.path.contains("/src/config") || source.path.starts_with("render/") {
            return Vec::new();
        }
        let namer = excepted(FOLDER_NAMERS, &source.path);
        lines(source, source.product_words(), "only config reads the configuration", |text| {
            let folder = text.contains("\"master.d\"") || text.contains("\"minion.d\"");
            folder && !namer || text.contains("load_marked(")
        })
    });
}

#[test]
fn only_transport_opens_a_tcp_socket() {
    check(|source| {
        if source.path.starts_with("transport/") {
            return Vec::new();
        }
        lines(source, source.product(), "only transport opens a TCP socket", |text| {
            ["TcpListener", "TcpStream", "TcpSocket", "UdpSocket"].iter().any(|socket| text.contains(socket))
        })
    });
}

#[test]
fn files_are_small() {
    check(|source| {
        let limit = if source.name() == "main.rs" { MAX_MAIN } else { MAX_LINES };
        let size = source.size();
        let rule = format!("{size} lines without tests; the wall is {limit}");
        (size > limit).then(|| Finding::new(&source.path, limit + 1, rule)).into_iter().collect()
    });
}

#[test]
fn every_file_says_what_lives_in_it() {
    check(|source| {
        let missing = !source.text.starts_with("//!");
        missing.then(|| Finding::new(&source.path, 1, "a file opens with `//!`: what lives here")).into_iter().collect()
    });
}

#[test]
fn unsafe_code_has_one_place() {
    let places = sources().iter().flat_map(|source| {
        lines(
            source,
            source.product().chain(source.tests()),
            "unsafe code is excused once, in host/kernel.rs",
            |text| {
                ["expect(unsafe_code", "allow(unsafe_code", "warn(unsafe_code"].iter().any(|sign| text.contains(sign))
            },
        )
        .into_iter()
        .enumerate()
        .filter(|(index, _)| *index > 0 || source.path != KERNEL)
        .map(|(_, finding)| finding)
        .collect::<Vec<_>>()
    });
    report(&places.collect::<Vec<_>>());
}

#[test]
fn exceptions_are_expected_with_a_reason() {
    check(|source| {
        let all = || source.product().chain(source.tests());
        let mut findings = lines(source, all(), "write #[expect(.., reason = \"..\")], not allow", |text| {
            (text.contains("#[allow(") || text.contains("#![allow(")) && !excepted(ALLOWERS, &source.path)
        });
        let words: Vec<&str> = source.words.lines().collect();
        for (line, _) in all().filter(|(_, text)| text.contains("#[expect(") || text.contains("#![expect(")) {
            // A long attribute is broken over some lines.
            let attribute = words[line - 1..].iter().take(6).copied().collect::<String>();
            let attribute = attribute.split(")]").next().unwrap_or_default();
            if !attribute.contains("reason = \"") {
                findings.push(Finding::new(&source.path, line, "an #[expect] gives its reason"));
            }
        }
        findings
    });
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    check(|source| {
        lines(
            source,
            source.product(),
            "no unwrap outside tests: handle it, or expect(\"why this cannot be\")",
            |text| text.contains(".unwrap()") || text.contains(".unwrap_err()") || text.contains(".expect(\"\")"),
        )
    });
}

#[test]
fn every_queue_is_bounded() {
    check(|source| {
        lines(source, source.product().chain(source.tests()), "every queue has a named limit", |text| {
            text.contains("unbounded_channel") || text.contains("UnboundedSender")
        })
    });
}

#[test]
fn tests_do_not_sleep() {
    check(|source| {
        if excepted(SLEEPERS, &source.path) {
            return Vec::new();
        }
        lines(
            source,
            source.tests(),
            "a test waits for a condition (wait_for) or pauses time, it does not sleep",
            |text| ["thread::sleep", "time::sleep(", " sleep(", "sleep_ms("].iter().any(|sign| text.contains(sign)),
        )
    });
}

#[test]
fn tests_use_no_fixed_ports() {
    check(|source| {
        lines(source, source.test_words(), "a test binds port 0 and asks which one it got", |text| {
            ["bind(\"", "bind((\"", "tcp://"].iter().any(|sign| text.contains(sign)) && has_fixed_port(text)
        })
    });
}

/// Returns whether an address in this line has a port other than 0 (any) and 1 (nobody listens there).
fn has_fixed_port(text: &str) -> bool {
    ["127.0.0.1:", "0.0.0.0:", "localhost:", "[::1]:", "[::]:", "127.0.0.1\", ", "0.0.0.0\", "].iter().any(|host| {
        text.match_indices(host).any(|(at, _)| {
            let port: String = text[at + host.len()..].chars().take_while(char::is_ascii_digit).collect();
            port.parse::<u16>().is_ok_and(|port| port > 1)
        })
    })
}

#[test]
fn the_repository_names_no_machine() {
    // Put together here, so that this file does not break its own rule.
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let registries = [
        concat!("static.crates", ".io"),
        concat!("index.crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
    ];
    let mut findings = Vec::new();
    for (path, text) in texts().iter().filter(|(path, _)| path != "Cargo.lock") {
        for (index, line) in text.lines().enumerate() {
            if machine.iter().any(|place| line.contains(place)) {
                findings.push(Finding::new(path, index + 1, "a path of somebody's machine"));
            }
            if registries.iter().any(|host| line.contains(host)) {
                findings.push(Finding::new(
                    path,
                    index + 1,
                    "a registry's host name; registries are configured outside the repository",
                ));
            }
        }
    }
    report(&findings);
}

#[test]
fn nothing_is_left_lying_about() {
    let left =
        |path: &String| ["tmp", "orig", "rej", "bak", "swp"].iter().any(|end| path.ends_with(&format!(".{end}")));
    let found: Vec<Finding> = texts()
        .into_iter()
        .filter(|(path, _)| left(path))
        .map(|(path, _)| Finding::new(path, 1, "a left-over file"))
        .collect();
    report(&found);
}

#[test]
fn the_papers_are_there() {
    let papers = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Cargo.lock",
        "clippy.toml",
        "deny.toml",
        "rustfmt.toml",
        "rust-toolchain.toml",
        ".ci/run",
    ];
    let missing = papers.iter().filter(|paper| !root().join(paper).is_file());
    report(&missing.map(|paper| Finding::new(*paper, 1, "is missing")).collect::<Vec<_>>());
}

/// The stage that builds from source copies folder by folder, and no test builds it: a base image with Rust cannot be had
/// everywhere.
#[test]
fn the_image_from_source_gets_what_the_build_reads() {
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    check(|source| {
        let beyond = |line: &str| {
            let path = line.split_once("include_str!(\"").map_or("", |(_, rest)| rest);
            let above = path.trim_start_matches("../");
            let folder = above.split('/').next().unwrap_or_default();
            let climbs = (path.len() - above.len()) / "../".len() >= source.path.matches('/').count();
            climbs && !dockerfile.contains(&format!("COPY {folder} {folder}\n"))
        };
        lines(source, source.product_words(), "the Dockerfile does not copy what this includes", beyond)
    });
}
