//! The documentation: pages that are made from the code, and checks that the others still say what is true.
//!
//! ```sh
//! cargo test -p halite-tests --test it docs                  # fails where a page is stale
//! UPDATE_DOCS=1 cargo test -p halite-tests --test it docs    # writes it anew
//! ```

mod beacons;
mod book;
mod commands;
mod configuration;
mod examples;
mod functions;
mod limits;
mod runners;
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

/// What stands at the top of a page that is made.
const MADE: &str =
    "<!-- Made from the code by tests/it/docs: UPDATE_DOCS=1 cargo test -p halite-tests --test it docs -->";

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads a file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails the test unless a file says exactly this; where `UPDATE_DOCS` is set, has it say so.
pub(crate) fn expect_file(path: &str, fresh: &str) {
    let file = root().join(path);
    let found = fs::read_to_string(&file).unwrap_or_default();
    if found == fresh {
        return;
    }
    if is_updating() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, fresh).unwrap();
        return;
    }
    let at = found.lines().zip(fresh.lines()).take_while(|(old, new)| old == new).count();
    let (old, new) = (found.lines().nth(at).unwrap_or("<end>"), fresh.lines().nth(at).unwrap_or("<end>"));
    panic!(
        "{path}:{} is stale: it says\n  {old}\nand the code says\n  {new}\n`UPDATE_DOCS=1 cargo test -p halite-tests --test it` writes it anew",
        at + 1
    );
}

/// Removes a file that nothing is kept in any more, where `UPDATE_DOCS` is set.
pub(crate) fn forget_file(path: &str) {
    if is_updating() && root().join(path).exists() {
        fs::remove_file(root().join(path)).unwrap();
    }
}

/// Tells whether what is stale is to be written anew.
pub(crate) fn is_updating() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

/// Fails the test with all findings at once.
#[track_caller]
fn expect_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}\n", findings.len(), findings.join("\n"));
}

/// Makes text fit for a cell of a table.
fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|").replace('\n', " ")
}

/// Makes text that is no Markdown fit to be some: outside of code, `<` begins no tag.
fn plain(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(at, part)| if at % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() })
        .collect::<Vec<_>>()
        .join("`")
}
