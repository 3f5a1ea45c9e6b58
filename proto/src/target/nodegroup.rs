//! `nodegroup`: groups that the master's configuration names. They are expanded before a job is published; minions know
//! none.
//!
//! ```yaml
//! nodegroups:
//!   web: 'L@web1,web2 or G@role:web'
//!   all_sites: 'N@web and not N@old'
//!   old:
//!     - web7
//!     - web8
//! ```

use indexmap::IndexMap;

use super::{DELIMITER, Target, TgtType};
use crate::value::Value;

/// How many words an expansion may have: groups of groups of groups can double with each level.
const MAX_WORDS: usize = 10_000;

/// What is wrong with a nodegroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNodegroup {
    /// It is not text and not a list.
    #[error("nodegroup {name} must be a compound target or a list of its words, not {found}")]
    Group {
        /// The group.
        name: String,
        /// What it is instead.
        found: &'static str,
    },
    /// It contains itself.
    #[error("nodegroup {0} contains itself")]
    Loop(String),
    /// Whoever reads it does not have the master's configuration.
    #[error("nodegroups are named by the master's configuration and mean nothing here")]
    NotExpanded,
    /// The option is no map.
    #[error("nodegroups must be a map of names to compound targets, not {0}")]
    Shape(&'static str),
    /// It expands to too much.
    #[error("nodegroup {0} expands to more than {MAX_WORDS} words")]
    TooLong(String),
    /// There is none of this name. Salt's words, and those there are.
    #[error("Node group {name} unavailable in the master's configuration (nodegroups: {known})")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
}

/// The groups of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodegroups(IndexMap<String, Vec<String>>);

impl Nodegroups {
    /// Reads the option `nodegroups`. Whether the groups make sense together shows when they are used.
    pub fn read(value: &Value) -> Result<Nodegroups, BadNodegroup> {
        let map = match value {
            Value::Null => return Ok(Nodegroups::default()),
            Value::Map(map) => map,
            other => return Err(BadNodegroup::Shape(other.kind())),
        };
        let group = |(name, value): (&Value, &Value)| {
            let name = name.to_key();
            let words = match value {
                Value::Str(text) => text.split_whitespace().map(str::to_owned).collect(),
                // A list item may hold several words; Salt then finds none of them.
                Value::List(items) => items.iter().flat_map(|item| words(&item.to_key())).collect(),
                other => return Err(BadNodegroup::Group { name, found: other.kind() }),
            };
            Ok((name, words))
        };
        map.iter().map(group).collect::<Result<_, _>>().map(Nodegroups)
    }

    /// Returns what is wrong with the groups, in words: loops, names that there are not, targets that make no sense.
    pub fn problems(&self) -> Vec<String> {
        let problem = |name: &String| {
            let wrong = match self.expand(name) {
                Ok(text) => Target::parse(&text.into(), TgtType::Compound, DELIMITER).err()?,
                Err(error) => error.into(),
            };
            Some(format!("nodegroup {name} cannot be used: {wrong}"))
        };
        self.0.keys().filter_map(problem).collect()
    }

    /// Returns the compound target that a group stands for.
    pub fn expand(&self, name: &str) -> Result<String, BadNodegroup> {
        let mut expansion = Expansion { groups: self, words: Vec::new(), path: Vec::new() };
        expansion.group(name)?;
        Ok(unwrapped(&expansion.words).join(" "))
    }

    /// Returns a compound target with every `N@group` in it expanded.
    pub fn expand_compound(&self, text: &str) -> Result<String, BadNodegroup> {
        let mut expansion = Expansion { groups: self, words: Vec::new(), path: Vec::new() };
        words(text).iter().try_for_each(|word| expansion.word(word))?;
        Ok(expansion.words.join(" "))
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Takes the outer parentheses of a whole group away, as Salt shows it.
fn unwrapped(words: &[String]) -> &[String] {
    match words {
        [open, inner @ .., close] if open == "(" && close == ")" => inner,
        all => all,
    }
}

/// One expansion under way.
struct Expansion<'a> {
    groups: &'a Nodegroups,
    words: Vec<String>,
    /// The groups that are being expanded, outermost first.
    path: Vec<String>,
}

impl Expansion<'_> {
    fn word(&mut self, word: &str) -> Result<(), BadNodegroup> {
        match word.strip_prefix("N@") {
            Some(name) if !name.is_empty() => self.group(name),
            _ => self.push(word.to_owned()),
        }
    }

    fn push(&mut self, word: String) -> Result<(), BadNodegroup> {
        if self.words.len() == MAX_WORDS {
            return Err(BadNodegroup::TooLong(self.path.first().cloned().unwrap_or_default()));
        }
        self.words.push(word);
        Ok(())
    }

    fn group(&mut self, name: &str) -> Result<(), BadNodegroup> {
        let groups = self.groups;
        let Some(words) = groups.0.get(name) else {
            let known = groups.0.keys().take(20).cloned().collect::<Vec<_>>().join(", ");
            return Err(BadNodegroup::Unknown { name: name.chars().take(super::SHOWN).collect(), known });
        };
        let is_loop = self.path.iter().any(|known| known == name);
        self.path.push(name.to_owned());
        if is_loop {
            return Err(BadNodegroup::Loop(self.path.join(" → ")));
        }
        match names(words) {
            Some(listed) => listed.into_iter().try_for_each(|word| self.push(word))?,
            None => {
                self.push("(".to_owned())?;
                words.iter().try_for_each(|word| self.word(word))?;
                self.push(")".to_owned())?;
            }
        }
        self.path.pop();
        Ok(())
    }
}

/// Returns what a group of bare names stands for: a list of ids, or of expressions if they look like such. Nothing if it
/// is a compound target.
fn names(words: &[String]) -> Option<Vec<String>> {
    let is_lettered =
        |word: &str| word.as_bytes().get(1) == Some(&b'@') && word.starts_with(|c: char| c.is_ascii_uppercase());
    let is_compound = |word: &String| {
        matches!(word.as_str(), "and" | "or" | "not" | "(" | ")") || word.contains('*') || is_lettered(word)
    };
    if words.is_empty() || words.iter().any(is_compound) {
        return None;
    }
    if !words.iter().any(|word| word.contains(['(', '[', '{', '\\', '?', '}', ']', ')'])) {
        return Some(vec![format!("L@{}", words.join(","))]);
    }
    let expressions: Vec<String> = words.iter().map(|word| format!("E@{word}")).collect();
    let joined: Vec<String> = expressions.join(" or ").split(' ').map(str::to_owned).collect();
    if joined.len() == 1 {
        return Some(joined);
    }
    Some([vec!["(".to_owned()], joined, vec![")".to_owned()]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map;

    fn groups() -> Nodegroups {
        let map = map! {
            "web" => "L@m1,m2",
            "nested" => vec!["N@web", "and", "G@role:r1"],
            "twice" => "N@web or N@nested",
            "names" => vec!["m1", "m2"],
            "of_names" => "N@names and not m2",
            "regex" => vec!["web(1|2)", "db"],
            "numbers" => vec![1, 2],
            "a" => "N@b",
            "b" => "m1 or N@a",
            "lost" => "N@gone",
            "one" => "( m1 ) or ( m2 )",
            "none" => "",
        };
        Nodegroups::read(&map.into()).unwrap()
    }

    fn check(name: &str, expected: &str) {
        assert_eq!(groups().expand(name).as_deref(), Ok(expected), "{name}");
    }

    #[test]
    fn groups_become_compound_targets() {
        // recorded: tgt-nodegroup.txt, tgt-nodegroup-nested.txt
        check("web", "L@m1,m2");
        check("nested", "( L@m1,m2 ) and G@role:r1");
        check("twice", "( L@m1,m2 ) or ( ( L@m1,m2 ) and G@role:r1 )");
        check("names", "L@m1,m2");
        check("of_names", "L@m1,m2 and not m2");
        check("regex", "E@web(1|2) or E@db");
        check("numbers", "L@1,2");
        check("one", "( m1 ) or ( m2 )");
        check("none", "");
        assert_eq!(groups().expand_compound("N@web and not m2").unwrap(), "( L@m1,m2 ) and not m2");
        assert_eq!(groups().expand_compound("web*").unwrap(), "web*");
    }

    #[test]
    fn groups_that_make_no_sense_are_refused_by_name() {
        let error = |name: &str| groups().expand(name).unwrap_err().to_string();
        assert_eq!(error("a"), "nodegroup a → b → a contains itself");
        assert!(
            error("nope").starts_with("Node group nope unavailable in the master's configuration (nodegroups: web, ")
        );
        assert!(error("lost").starts_with("Node group gone unavailable"));
        let shape = |value: Value| Nodegroups::read(&value).unwrap_err().to_string();
        assert_eq!(shape("x".into()), "nodegroups must be a map of names to compound targets, not text");
        let wrong = "nodegroup web must be a compound target or a list of its words, not map";
        assert_eq!(shape(map! { "web" => map! {} }.into()), wrong);
    }

    #[test]
    fn an_expansion_has_an_end() {
        let mut map = map! { "g0" => "a* b*" };
        (1..64).for_each(|level| {
            map.insert(format!("g{level}").into(), format!("N@g{0} or N@g{0}", level - 1).into());
        });
        let groups = Nodegroups::read(&map.into()).unwrap();
        assert_eq!(groups.expand("g63"), Err(BadNodegroup::TooLong("g63".to_owned())));
    }
}
