//! `pcre`: a regular expression over the id, anchored at its start as Python's `re.match` is.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

use super::{BadTarget, SHOWN, TooHard};

/// How often a match may go back and try again. Patterns without look-around and back references never do.
const MAX_BACKTRACKS: usize = 50_000;
/// The largest compiled pattern, in bytes: some thousand names joined by `|` fit.
const MAX_COMPILED: usize = 4 * 1024 * 1024;

/// A compiled expression.
#[derive(Clone)]
pub struct Pcre {
    pattern: String,
    regex: Regex,
}

impl Pcre {
    /// Compiles an expression.
    pub fn parse(pattern: &str) -> Result<Pcre, BadTarget> {
        Pcre::compile(pattern, "")
    }

    /// Compiles an expression to which upper and lower case are the same.
    pub(super) fn parse_ignoring_case(pattern: &str) -> Result<Pcre, BadTarget> {
        Pcre::compile(pattern, "i")
    }

    fn compile(pattern: &str, flags: &str) -> Result<Pcre, BadTarget> {
        let bad = |error: fancy_regex::Error| BadTarget::Regex {
            pattern: pattern.chars().take(SHOWN).collect(),
            what: error.to_string().lines().last().unwrap_or_default().to_owned(),
        };
        let build = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder.backtrack_limit(MAX_BACKTRACKS).delegate_size_limit(MAX_COMPILED).build().map_err(bad)
        };
        // By itself first: `a)|(b` is none, and would be one inside the group.
        build(pattern)?;
        let regex = build(&format!(r"\A(?{flags}:{pattern})"))?;
        Ok(Pcre { pattern: pattern.to_owned(), regex })
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Tells whether the text begins with a match.
    pub fn matches(&self, text: &str) -> Result<bool, TooHard> {
        self.regex.is_match(text).map_err(|_| TooHard)
    }
}

impl PartialEq for Pcre {
    fn eq(&self, other: &Pcre) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pcre {}

impl fmt::Debug for Pcre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pcre({:?})", self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Pcre::parse(pattern).unwrap().matches(text), Ok(expected), "{pattern:?} {text:?}");
    }

    #[test]
    fn expressions_match_from_the_start_as_in_python() {
        // recorded: tgt-pcre.txt
        check("m(1|3)", "m1", true);
        check("m(1|3)", "m2", false);
        check("m(1|3)", "m10", true);
        check("m(1|3)$", "m10", false);
        check("(1|3)", "m1", false);
        check("web|db", "xdb", false);
        check("(?!web).*", "db1", true);
        check("(?!web).*", "web1", false);
        check(r"(\w)\1", "aab", true);
        check("", "anything", true);
        check("M1", "m1", false);
        check("(?i)M1", "m1", true);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        for bad in ["m(", "a)|(b", "[", "*", r"\", "(?<"] {
            let Err(BadTarget::Regex { pattern, what }) = Pcre::parse(bad) else { panic!("{bad:?} was taken") };
            assert!(pattern == bad && !what.is_empty(), "{bad:?}: {what:?}");
        }
        assert!(Pcre::parse(&format!("{}{}", r"\w{999}".repeat(9), "{9}")).is_err(), "too large");
    }

    #[test]
    fn a_match_that_goes_astray_ends() {
        let pattern = Pcre::parse(r"(?=(a+)+$)(a|aa)+\1b").unwrap();
        assert_eq!(pattern.matches(&"a".repeat(200)), Err(TooHard));
    }
}
