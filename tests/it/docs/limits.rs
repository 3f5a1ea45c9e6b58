//! The table of limits in `ARCHITECTURE.md`: each constant that it names is there, and its value stands in the row.

use std::collections::BTreeMap;

use super::{expect_none, read, root};

#[test]
fn the_limits_are_those_of_the_code() {
    let constants = constants();
    let (mut findings, mut checked) = (Vec::new(), 0);
    for row in rows() {
        for name in &row.constants {
            let Some(values) = constants.get(name) else {
                // A struct of limits, or a module.
                if name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()) {
                    findings.push(format!("ARCHITECTURE.md: there is no constant {name} ({})", row.what));
                }
                continue;
            };
            let known: Vec<u64> = values.iter().flatten().copied().collect();
            if known.is_empty() {
                continue;
            }
            checked += 1;
            if !known.iter().any(|value| row.numbers.contains(value)) {
                findings.push(format!(
                    "ARCHITECTURE.md: {}: {name} is {known:?}, the row says {:?}",
                    row.what, row.numbers
                ));
            }
        }
    }
    expect_none(&findings);
    assert!(checked > 25, "only {checked} limits were checked: this test looks for the wrong words");
}

struct Row {
    what: String,
    numbers: Vec<u64>,
    constants: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = read("ARCHITECTURE.md");
    let (_, table) = text.split_once("| what | limit | constant |\n").expect("the table of limits is there");
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let words = cells[2].split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let constants = words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
        Row { what: cells[0].to_owned(), numbers: numbers(cells[1]), constants: constants.map(str::to_owned).collect() }
    });
    rows.collect()
}

/// Reads `16 MiB; 1,000 at once, 30 s` as numbers: bytes, seconds, plain ones.
fn numbers(cell: &str) -> Vec<u64> {
    let cell = cell.replace("2²⁰", "1048576").replace("10⁶", "1000000");
    let words: Vec<&str> = cell.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let digits: String = word.trim_end_matches("/s").chars().filter(|c| *c != ',').collect();
        let Ok(number) = digits.parse::<u64>() else { continue };
        let unit = words.get(at + 1).map(|unit| unit.trim_end_matches(','));
        found.push(number * unit.map_or(1, scale));
    }
    found
}

fn scale(unit: &str) -> u64 {
    match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "min" => 60,
        "h" => 3_600,
        _ => 1,
    }
}

/// Returns the constants of all crates, by name, each with the values it has where it is declared; an expression that is
/// more than a product has none.
fn constants() -> BTreeMap<String, Vec<Option<u64>>> {
    let mut found: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
    let mut folders: Vec<_> =
        ["proto", "transport", "render", "master", "minion"].map(|name| root().join(name).join("src")).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                for (name, value) in text.lines().filter_map(constant) {
                    found.entry(name.to_owned()).or_default().push(value);
                }
            }
        }
    }
    found
}

fn constant(line: &str) -> Option<(&str, Option<u64>)> {
    let (before, rest) = line.trim().split_once("const ")?;
    if !before.is_empty() && !before.starts_with("pub") {
        return None;
    }
    let (name, rest) = rest.split_once(": ")?;
    let (_, value) = rest.split_once(" = ")?;
    Some((name, number(value.trim_end_matches(';'))))
}

/// Reads `64`, `1_000.0`, `16 * 1024 * 1024`, `16 << 20`, `Duration::from_secs(60)`.
fn number(text: &str) -> Option<u64> {
    let text = text.strip_prefix("Duration::from_secs(").and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    if let Some((left, right)) = text.split_once(" * ") {
        return Some(number(left)? * number(right)?);
    }
    if let Some((left, right)) = text.split_once(" << ") {
        return Some(number(left)? << number(right)?);
    }
    text.trim_matches(['(', ')']).replace('_', "").trim_end_matches(".0").parse().ok()
}

#[test]
fn numbers_are_read_as_they_are_written() {
    assert_eq!(numbers("16 MiB; 64 KiB"), [16 << 20, 64 << 10]);
    assert_eq!(numbers("1,000 at once, 100/s; 30 s; 24 h"), [1_000, 100, 30, 86_400]);
    assert_eq!(number("16 * 1024 * 1024"), Some(16 << 20));
    assert_eq!(number("Duration::from_secs(24 * 3_600)"), Some(86_400));
    assert_eq!(number("64 << 10"), Some(65_536));
}
