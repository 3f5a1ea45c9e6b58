//! `docs/reference/configuration.md` and `docs/reference/exit-codes.md`: written by hand, checked against the code. Each
//! key that the code knows is in its table, each key of a table is known, and a default that stands in the code as a
//! literal is the one of the table.

use std::collections::BTreeSet;

use super::{expect_none, read, root};

const PAGE: &str = "docs/reference/configuration.md";

/// One daemon's options: the section of the page, the list of names in the code, and the crate that reads them.
struct Daemon {
    section: &'static str,
    list: &'static str,
    name: &'static str,
    folder: &'static str,
}

const DAEMONS: [Daemon; 2] = [
    Daemon { section: "## Master", list: "master/src/config/known.rs", name: "const SUPPORTED", folder: "master/src" },
    Daemon { section: "## Minion", list: "minion/src/config/keys.rs", name: "const READ", folder: "minion/src" },
];

/// Keys that are read and have no row, each with its reason.
const UNLISTED: &[(&str, &str)] = &[
    ("disable_modules", "a word of Salt's that config.get shows and nothing heeds"),
    ("user", "only compared with the user that runs the minion"),
];

/// One row: its keys, and what its last cell says of them.
struct Row {
    keys: Vec<String>,
    defaults: Vec<String>,
}

fn rows(section: &str) -> Vec<Row> {
    let page = read(PAGE);
    let (_, text) = page.split_once(&format!("{section}\n")).unwrap_or_else(|| panic!("{PAGE} has {section}"));
    let text = text.split("\n## ").next().unwrap_or(text);
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let split = |cell: &str| cell.split(", ").map(|one| one.trim_matches('`').to_owned()).collect();
        Row { keys: split(cells[0]), defaults: split(cells[cells.len() - 1]) }
    });
    rows.collect()
}

fn known(daemon: &Daemon) -> BTreeSet<String> {
    let text = read(daemon.list);
    let (_, list) = text.split_once(daemon.name).expect("the list of names is there");
    let list = list.split("];").next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_option_is_in_its_table_and_nothing_else() {
    let mut findings = Vec::new();
    for daemon in &DAEMONS {
        let documented: BTreeSet<String> = rows(daemon.section).into_iter().flat_map(|row| row.keys).collect();
        let known = known(daemon);
        let unlisted = |key: &&String| UNLISTED.iter().any(|(name, _)| *name == key.as_str());
        let missing = known.difference(&documented).filter(|key| !unlisted(key));
        findings.extend(missing.map(|key| format!("{PAGE}: {}: no row for {key}", daemon.section)));
        let unknown = documented.difference(&known);
        findings.extend(unknown.map(|key| format!("{PAGE}: {}: {key} is no option", daemon.section)));
    }
    expect_none(&findings);
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let (mut findings, mut checked) = (Vec::new(), 0);
    for daemon in &DAEMONS {
        let source = readers(daemon.folder);
        for row in rows(daemon.section) {
            let same = row.keys.len() == row.defaults.len();
            for (at, key) in row.keys.iter().enumerate() {
                let Some(literal) = literal(&source, key) else { continue };
                let shown = if same { &row.defaults[at] } else { &row.defaults[0] };
                checked += 1;
                if plain(shown) != plain(&literal) {
                    findings.push(format!("{PAGE}: {}: {key} is {shown} there, {literal} in the code", daemon.section));
                }
            }
        }
    }
    expect_none(&findings);
    assert!(checked > 25, "only {checked} defaults were found in the code: this test looks for the wrong words");
}

/// Returns the text of all that reads the configuration.
fn readers(folder: &str) -> String {
    let folder = root().join(folder);
    let within = std::fs::read_dir(folder.join("config")).unwrap().map(|entry| entry.unwrap().path());
    let files = within.chain([folder.join("config.rs")]).filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// Returns the default of a key where the code has it as a literal beside the key.
fn literal(source: &str, key: &str) -> Option<String> {
    for (at, found) in source.match_indices(&format!("\"{key}\"")) {
        let after = &source[at + found.len()..];
        let after = &after[..after.len().min(90)];
        let statement = after.split(";\n").next().unwrap_or(after);
        let inside = statement.strip_prefix(", ").map(|rest| rest.split(')').next().unwrap_or(rest));
        let value = if let Some(rest) = statement.strip_prefix(")?.unwrap_or(") {
            rest.split(')').next()
        } else if let Some(rest) = statement.strip_prefix(")?.unwrap_or_else(|| ") {
            rest.split(".into").next()
        } else if let Some(ranged) = inside.filter(|inside| inside.matches(", ").count() == 1) {
            // seconds(reader.number("key", least, most)?, default)
            statement[2 + ranged.len()..].strip_prefix(")?, ").and_then(|rest| rest.split(')').next())
        } else {
            inside
        };
        let value = value.map(|value| value.trim().trim_matches('"').to_owned());
        let is_literal = |value: &String| {
            value.starts_with(|c: char| c.is_ascii_digit())
                || value.contains('/') && !value.contains('(')
                || matches!(value.as_str(), "true" | "false" | "info")
        };
        if let Some(value) = value.filter(is_literal) {
            return Some(value);
        }
    }
    None
}

/// Brings a default of the page and one of the code to one form.
fn plain(text: &str) -> String {
    let text = text.trim().trim_start_matches('/').to_ascii_lowercase();
    if text.starts_with(|c: char| c.is_ascii_digit()) { text.replace('_', "") } else { text }
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    let page = read("docs/reference/exit-codes.md");
    let listed: BTreeSet<u32> =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
    let mut findings = Vec::new();
    let files = ["master/src/cli/exit.rs", "master/src/main.rs", "minion/src/cli/mod.rs", "minion/src/cli/call.rs"];
    let mut known = BTreeSet::from([0, 1]);
    for file in files {
        for line in read(file).lines().filter(|line| line.contains("const ") && line.contains(": u8 = ")) {
            let code = line.rsplit("= ").next().and_then(|code| code.trim_end_matches(';').parse().ok());
            let code: u32 = code.unwrap_or_else(|| panic!("{file}: {line}"));
            known.insert(code);
            if !listed.contains(&code) {
                findings.push(format!("{file}: exit code {code} is not in docs/reference/exit-codes.md"));
            }
        }
    }
    findings.extend(listed.difference(&known).map(|code| format!("exit-codes.md: no program ends with {code}")));
    expect_none(&findings);
}
