//! Lists of minion ids: an id, a glob or a regular expression a line, as in Salt. Pure.
//!
//! As in Salt a pattern counts if it matches as a glob or, over the whole id, as a regular expression. Unlike in Salt a
//! line without any of `* ? [ ] ( ) { } ^ $ | \ +` is that id and nothing else: `web1.example.com` does not let
//! `web1-example-com` in.

use std::collections::HashSet;

use proto::target::glob::Glob;
use regex::{Regex, RegexBuilder};

/// How many patterns a list may have; ids without wildcards do not count. Each is tried on each new key.
const MAX_PATTERNS: usize = 1_000;
/// The longest line: an id has 253 bytes.
const MAX_LINE: usize = 1_024;
/// How large a compiled expression may be.
const MAX_COMPILED: usize = 256 * 1024;
/// How many bad lines are named; more would fill the log.
const MAX_NAMED: usize = 20;

/// What makes a line a pattern.
const SPECIAL: &[char] = &['*', '?', '[', ']', '(', ')', '{', '}', '^', '$', '|', '\\', '+'];
/// What only regular expressions use: a line with it that does not compile is a mistake, not a glob.
const ONLY_REGEX: &[char] = &['(', ')', '{', '}', '^', '$', '|', '\\', '+'];

/// A line that does not count.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Its number, from 1.
    pub(super) line: usize,
    /// Why.
    pub(super) reason: String,
}

/// A list.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    ids: HashSet<String>,
    patterns: Vec<(Glob, Option<Regex>)>,
}

impl Patterns {
    /// Reads a list; a bad line does not disable the others.
    pub(super) fn parse(text: &[u8]) -> (Patterns, Vec<BadLine>) {
        let (mut patterns, mut bad) = (Patterns::default(), Vec::new());
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let added = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned());
            if let Err(reason) = added.and_then(|line| patterns.add(line.trim()))
                && bad.len() < MAX_NAMED
            {
                bad.push(BadLine { line: index + 1, reason });
            }
        }
        (patterns, bad)
    }

    /// Tells whether a line means this id.
    pub(super) fn match_id(&self, id: &str) -> bool {
        let one = |(glob, regex): &(Glob, Option<Regex>)| {
            glob.matches(id) || regex.as_ref().is_some_and(|regex| regex.is_match(id))
        };
        self.ids.contains(id) || self.patterns.iter().any(one)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.len() > MAX_LINE {
            return Err(format!("it is longer than {MAX_LINE} bytes"));
        }
        if !line.contains(SPECIAL) {
            self.ids.insert(line.to_owned());
            return Ok(());
        }
        if self.patterns.len() >= MAX_PATTERNS {
            return Err(format!("there are more than {MAX_PATTERNS} patterns before it"));
        }
        let compiled = RegexBuilder::new(&format!(r"\A(?:{line})\z")).size_limit(MAX_COMPILED).build();
        let regex = match compiled {
            Ok(regex) => Some(regex),
            // `*.example.com` is a fine glob.
            Err(_) if !line.contains(ONLY_REGEX) => None,
            Err(_) => return Err(format!("{line} is no regular expression that can be used, and as a glob is no id")),
        };
        self.patterns.push((Glob::new(line), regex));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, id: &str, expected: bool) {
        let (patterns, bad) = Patterns::parse(line.as_bytes());
        assert_eq!((patterns.match_id(id), bad), (expected, Vec::new()), "{line} {id}");
    }

    #[test]
    fn a_line_is_an_id_a_glob_or_an_expression() {
        check("web1", "web1", true);
        check("web1", "web11", false);
        check("web1.example.com", "web1-example-com", false);
        check("web*", "web1.example.com", true);
        check("*.example.com", "web1.example.com", true);
        check("web[0-9]?", "web12", true);
        check(r"web\d+", "web12", true);
        check(r"web\d+", "xweb12", false);
        check(r"web\d+", "web12x", false);
        check("(web|db)1", "db1", true);
        // Not `\Aweb|db\z`, which would let `webevil` in.
        check("web|db", "webevil", false);
        check("  web1 \r", "web1", true);
        check("# web1\n\n", "web1", false);
        check("", "", false);
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_count() {
        let long = "x".repeat(MAX_LINE + 1);
        let text = [b"good1\nweb(\n\xff\n".as_slice(), long.as_bytes(), b"\ngood2\n"].concat();
        let (patterns, bad) = Patterns::parse(&text);
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(bad[0].reason.contains("web("), "{bad:?}");
        assert!(patterns.match_id("good1") && patterns.match_id("good2") && !patterns.match_id("web("));
    }

    #[test]
    fn a_list_is_bounded() {
        let text = "a*\n".repeat(MAX_PATTERNS + 2 * MAX_NAMED);
        let (patterns, bad) = Patterns::parse(text.as_bytes());
        assert_eq!((patterns.patterns.len(), bad.len()), (MAX_PATTERNS, MAX_NAMED));
        let (_, bad) = Patterns::parse(b"(a{1000}){1000}");
        assert_eq!(bad.len(), 1, "an expression that is too large is no pattern");
    }
}
