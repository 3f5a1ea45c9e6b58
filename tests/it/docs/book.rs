//! The book holds together: every page is in `SUMMARY.md`, every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{expect_none, read, root};

/// Returns the Markdown files of the repository that people read, as paths from the root.
pub(super) fn pages() -> Vec<String> {
    let mut found: Vec<String> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).into();
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap().map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().display());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the links of a page that stay within the repository: line and target.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target));
            }
        }
    }
    found
}

/// Returns the numbered lines that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((at + 1, line))
    })
}

/// Returns the anchors that mdbook and GitHub make of the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut findings = Vec::new();
    for page in pages() {
        let text = read(&page);
        for (line, target) in links(&text) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
            let file = if path.is_empty() { Path::new(&page).to_owned() } else { folder.join(path) };
            let full = root().join(&file);
            if !full.exists() {
                findings.push(format!("{page}:{line}: {target} is not there"));
            } else if !anchor.is_empty() && !anchors(&fs::read_to_string(full).unwrap()).contains(anchor) {
                findings.push(format!("{page}:{line}: {target} has no such heading"));
            }
        }
    }
    expect_none(&findings);
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let summary = read("docs/SUMMARY.md");
    let listed: BTreeSet<String> = links(&summary).into_iter().map(|(_, target)| format!("docs/{target}")).collect();
    let pages = pages().into_iter().filter(|page| page.starts_with("docs/") && page != "docs/SUMMARY.md");
    let missing = pages.filter(|page| !listed.contains(page));
    expect_none(&missing.map(|page| format!("docs/SUMMARY.md does not list {page}")).collect::<Vec<_>>());
}
