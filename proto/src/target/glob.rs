//! `glob`: Python's `fnmatch` over the whole text, in time linear in pattern times text. Tags use it too.

use std::str::Chars;

/// A compiled shell-style pattern: `*` any run (slashes too), `?` any one character, `[a-z]`, `[!a-z]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: String,
    parts: Vec<Part>,
    /// The pattern is its own only match.
    is_literal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Compiles a pattern. Every text is one: an unclosed bracket is itself, as in Python.
    pub fn new(pattern: &str) -> Glob {
        let chars: Vec<char> = pattern.chars().collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            at += 1;
            match c {
                '*' if parts.last() == Some(&Part::Any) => {}
                '*' => parts.push(Part::Any),
                '?' => parts.push(Part::One),
                '[' => match set(&chars[at..]) {
                    Some((part, used)) => {
                        parts.push(part);
                        at += used;
                    }
                    None => parts.push(Part::Char('[')),
                },
                other => parts.push(Part::Char(other)),
            }
        }
        let is_literal = parts.iter().all(|part| matches!(part, Part::Char(_)));
        Glob { pattern: pattern.to_owned(), parts, is_literal }
    }

    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Tells whether the whole text matches. Allocates nothing: a fleet is looked through with it, and every event.
    pub fn matches(&self, text: &str) -> bool {
        if self.is_literal {
            return self.pattern == text;
        }
        let (mut part, mut rest) = (0, text.chars());
        // Where to go on when a part fails: the part after the last `*`, and what begins with the first character it took
        // last.
        let mut retry: Option<(usize, Chars<'_>)> = None;
        loop {
            let here = rest.clone();
            let Some(c) = rest.next() else { break };
            match self.parts.get(part) {
                Some(Part::Any) => {
                    part += 1;
                    retry = Some((part, here.clone()));
                    rest = here;
                }
                Some(one) if one.takes(c) => part += 1,
                _ => {
                    let Some((after, from)) = &mut retry else { return false };
                    from.next();
                    (part, rest) = (*after, from.clone());
                }
            }
        }
        self.parts[part..].iter().all(|part| *part == Part::Any)
    }

    /// Returns the text that every match begins with: what an index by prefix can use.
    pub fn literal_prefix(&self) -> String {
        let literal = |part: &Part| match part {
            Part::Char(c) => Some(*c),
            _ => None,
        };
        self.parts.iter().map_while(literal).collect()
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Any => false,
            Part::One => true,
            Part::Char(own) => *own == c,
            Part::Set { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// Reads what follows a `[`; returns the set and how many characters it took, or nothing if it is never closed.
fn set(rest: &[char]) -> Option<(Part, usize)> {
    let negated = rest.first() == Some(&'!');
    let start = usize::from(negated);
    // A `]` right at the start is a member.
    let close = start + 1 + rest.get(start + 1..)?.iter().position(|c| *c == ']')?;
    let members = &rest[start..close];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        if let (Some('-'), Some(&to)) = (members.get(at + 1), members.get(at + 2)) {
            ranges.push((members[at], to));
            at += 3;
        } else {
            ranges.push((members[at], members[at]));
            at += 1;
        }
    }
    Some((Part::Set { negated, ranges }, close + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern:?} {text:?}");
    }

    #[test]
    fn patterns_match_as_in_python() {
        check("*", "", true);
        check("", "", true);
        check("", "x", false);
        check("web?", "web1", true);
        check("web?", "web", false);
        check("web[12]", "web2", true);
        check("web[!12]", "web2", false);
        check("web[a-c]x", "webbx", true);
        check("[]]", "]", true);
        check("[!]]", "a", true);
        check("[abc", "[abc", true);
        check("[", "[", true);
        check("a-[z-a]", "a-m", false);
        check("salt/beacon/*/sh/*", "salt/beacon/m1/sh/87", true);
        check("salt/beacon/*/sh/*", "salt/beacon/m1/sh/", true);
        check("salt/*", "salt/a/b/c", true);
        check("*a*b*c", "xxaxxbxxc", true);
        check("*a*b*c", "xxaxxbxx", false);
        check("Web1", "web1", false);
        assert_eq!(Glob::new("salt/job/*").literal_prefix(), "salt/job/");
    }

    proptest! {
        #[test]
        fn any_pattern_and_text_give_an_answer(pattern in r"[\*\?\[\]!a-c\-]{0,24}", text in "[a-c]{0,40}") {
            let _ = Glob::new(&pattern).matches(&text);
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(50) + "b";
        check(&pattern, &"a".repeat(5_000), false);
    }
}
