//! The files of the repository, and Rust text with its comments and strings told apart. No rule lives here.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folders that hold no source: version control, virtualenvs of peers. So does `target`, unless it lies in a `src`.
const SKIPPED: &[&str] = &[".git", ".venv", "__pycache__"];
/// A file larger than this is data, not something that somebody wrote.
const MAX_FILE: u64 = 1024 * 1024;

/// One broken rule: where, and which.
pub(super) struct Finding {
    path: String,
    line: usize,
    rule: String,
}

impl Finding {
    /// Returns a finding; `line` counts from 1.
    pub(super) fn new(path: impl Into<String>, line: usize, rule: impl Into<String>) -> Finding {
        Finding { path: path.into(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Fails the test with every finding, one per line.
pub(super) fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} broken:\n{}\n", lines.len(), lines.join("\n"));
}

/// Returns the root of the repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns every text file of the repository as (path from the root, content).
pub(super) fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root(), String::new(), &mut found);
    found.sort();
    found
}

fn walk(folder: &Path, prefix: String, found: &mut Vec<(String, String)>) {
    // A file may vanish between the listing and the reading (an editor's draft): it is no source then.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_output = name == "target" && !prefix.ends_with("src/");
        if is_output || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let Ok(kind) = fs::metadata(entry.path()) else { continue };
        if kind.is_dir() {
            walk(&entry.path(), format!("{prefix}{name}/"), found);
        } else if kind.len() <= MAX_FILE
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            found.push((format!("{prefix}{name}"), text));
        }
    }
}

/// One Rust file.
pub(super) struct Source {
    /// The path from the root.
    pub(super) path: String,
    /// The file as it is.
    pub(super) text: String,
    /// Without comments and without what stands in strings.
    pub(super) code: String,
    /// Without comments; strings are kept.
    pub(super) words: String,
    /// Whether the whole file is test code.
    pub(super) is_test: bool,
    test_lines: Vec<bool>,
}

impl Source {
    fn new(path: String, text: String) -> Source {
        let (code, words) = Lexer::split(&text);
        let test_lines = test_lines(&code);
        let is_test = is_test_path(&path);
        Source { path, text, code, words, is_test, test_lines }
    }

    /// Returns the numbered lines of code that are no tests; strings are blank.
    pub(super) fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code).filter(|(line, _)| !self.in_test(*line))
    }

    /// Returns the numbered lines that are no tests, strings kept.
    pub(super) fn product_words(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.words).filter(|(line, _)| !self.in_test(*line))
    }

    /// Returns the numbered lines of test code; strings are blank.
    pub(super) fn tests(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code).filter(|(line, _)| self.in_test(*line))
    }

    /// Returns the numbered lines of test code, strings kept.
    pub(super) fn test_words(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.words).filter(|(line, _)| self.in_test(*line))
    }

    /// Returns how many lines are no tests, comments and blank lines included.
    pub(super) fn size(&self) -> usize {
        numbered(&self.text).filter(|(line, _)| !self.in_test(*line)).count()
    }

    /// Returns the file's own name.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn in_test(&self, line: usize) -> bool {
        self.is_test || self.test_lines.get(line - 1).copied().unwrap_or(false)
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Returns every Rust file of the workspace; they are read once.
pub(super) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let texts = texts().into_iter().filter(|(path, _)| path.ends_with(".rs"));
    let mut sources: Vec<Source> = texts.map(|(path, text)| Source::new(path, text)).collect();
    let modules: HashSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        source.is_test |= modules.contains(&source.path);
    }
    sources
}

/// Returns whether a path alone says that a file is test code. The harness crate is test code too.
fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || ["/tests/", "/benches/"].iter().any(|part| path.contains(part))
}

/// Returns the files that a source names as `#[cfg(test)] mod name;`, whatever their visibility.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = source.path.strip_suffix("mod.rs").or_else(|| source.path.strip_suffix("lib.rs"));
    let folder = folder.map_or_else(|| format!("{}/", source.path.trim_end_matches(".rs")), str::to_owned);
    let names = source.tests().filter_map(|(_, line)| {
        let (before, name) = line.trim().split_once("mod ")?;
        (before.is_empty() || before.starts_with("pub")).then_some(name.strip_suffix(';')?)
    });
    names.map(|name| format!("{folder}{name}.rs")).collect()
}

/// Returns for every line whether it belongs to an item under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut marked = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if !lines[at].trim_start().starts_with("#[cfg(test)]") {
            at += 1;
            continue;
        }
        let end = at + item_length(&lines[at..]);
        marked[at..end].fill(true);
        at = end;
    }
    marked
}

/// Returns how many lines an item has, its attributes included: up to a `;` or the brace that closes its first one.
fn item_length(lines: &[&str]) -> usize {
    let mut depth = 0_i32;
    for (index, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' => depth -= 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        return index + 1;
                    }
                }
                ';' if depth == 0 => return index + 1,
                _ => {}
            }
        }
    }
    lines.len()
}

/// Splits Rust text into code (no comments, strings blank) and words (no comments). Lines stay where they are.
struct Lexer<'a> {
    rest: &'a str,
    code: String,
    words: String,
}

impl Lexer<'_> {
    fn split(text: &str) -> (String, String) {
        let mut lexer = Lexer { rest: text, code: String::new(), words: String::new() };
        while !lexer.rest.is_empty() {
            lexer.step();
        }
        (lexer.code, lexer.words)
    }

    fn step(&mut self) {
        if self.rest.starts_with("//") {
            let length = self.rest.find('\n').unwrap_or(self.rest.len());
            self.comment(length);
        } else if self.rest.starts_with("/*") {
            let length = block_comment(self.rest);
            self.comment(length);
        } else if let Some(length) = raw_string(self.rest).filter(|_| !self.inside_word()) {
            self.string(length);
        } else if self.rest.starts_with('"') {
            let length = closing(self.rest, '"');
            self.string(length);
        } else if let Some(length) = char_literal(self.rest) {
            self.string(length);
        } else {
            self.keep();
        }
    }

    /// Returns whether the next character continues a name, so that an `r` in it starts no raw string.
    fn inside_word(&self) -> bool {
        self.code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn comment(&mut self, length: usize) {
        let blank = blank(self.take(length));
        self.code.push_str(&blank);
        self.words.push_str(&blank);
    }

    fn string(&mut self, length: usize) {
        let text = self.take(length).to_owned();
        self.code.push_str(&blank(&text));
        self.words.push_str(&text);
    }

    fn keep(&mut self) {
        let length = self.rest.chars().next().map_or(0, char::len_utf8);
        let text = self.take(length).to_owned();
        self.code.push_str(&text);
        self.words.push_str(&text);
    }
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Returns the length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for (at, _) in text.char_indices() {
        let here = &text[at..];
        // `/*/` opens and does not close, so a slash that belongs to an opening is not seen as an end.
        if here.starts_with("/*") {
            depth += 1;
        } else if at >= 3 && text[..=at].ends_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    text.len()
}

/// Returns the length of a raw string, if one starts here.
fn raw_string(text: &str) -> Option<usize> {
    let after = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix).filter(|rest| rest.starts_with(['#', '"'])))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// Returns the length of a quoted text up to its closing quote; `\` protects what follows it.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a character literal; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut chars = body.chars();
    let first = chars.next()?;
    (first == '\\' || chars.next() == Some('\'')).then(|| closing(text, '\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_told_from_code() {
        let text = "let a = \"x // y\"; // z\nlet b = r#\"un\"wrap\"#; /* k /* d */ e */ let c = '\"'; fn f<'a>() {}";
        let (code, words) = Lexer::split(text);
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&code), "let a = ; let b = ; let c = ; fn f<'a>() {}");
        assert_eq!(squeezed(&words), "let a = \"x // y\"; let b = r#\"un\"wrap\"#; let c = '\"'; fn f<'a>() {}");
        assert_eq!((code.lines().count(), code.chars().count()), (2, text.chars().count()));
    }

    #[test]
    fn an_item_under_cfg_test_ends_where_it_ends() {
        let source =
            Source::new("a/src/b.rs".into(), "fn a() {}\n#[cfg(test)]\nmod t {\n  fn b() {}\n}\nfn c() {}\n".into());
        let product: Vec<usize> = source.product().map(|(line, _)| line).collect();
        assert_eq!(product, [1, 6]);
        assert_eq!(source.size(), 2);
    }

    #[test]
    fn a_module_file_under_cfg_test_is_found() {
        let source = Source::new("a/src/b.rs".into(), "#[cfg(test)]\npub(crate) mod pair;\nfn a() {}\n".into());
        assert_eq!(test_modules(&source), ["a/src/b/pair.rs"]);
    }
}
