//! `compound`: targets of several types, joined by `and`, `or`, `not` and parentheses (salt-wire.md §11.2).
//!
//! ```text
//! G@os:Debian and ( web* or L@db1,db2 ) and not S@10.0.0.0/8
//! ```
//! Words are separated by blanks, parentheses too. `not` binds tighter than `and`, `and` tighter than `or`; a `not` behind a
//! target means `and not`.

use super::{BadTarget, DELIMITER, Facts, Needs, Target, TgtType, TooHard};
use crate::value::{Map, Value};

/// How deep parentheses may nest: each level is a call.
const MAX_DEPTH: usize = 64;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compound(Node);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    One(Box<Target>),
}

impl Compound {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Compound, BadTarget> {
        let mut words = Words { words: text.split_whitespace().collect(), at: 0, depth: 0 };
        let node = words.any()?;
        match words.peek() {
            None => Ok(Compound(node)),
            Some(")") => Err(words.wrong("there is no ( that it closes")),
            Some(_) => Err(words.wrong("expected and, or, or the end")),
        }
    }

    pub(super) fn needs(&self) -> Needs {
        self.0.needs()
    }

    pub(super) fn needs_pillar(&self) -> bool {
        self.0.needs_pillar()
    }

    pub(super) fn with_exact_pillar(self) -> Compound {
        Compound(self.0.with_exact_pillar())
    }

    pub(super) fn matches(&self, facts: Facts<'_>, pillar: &Map) -> Result<bool, TooHard> {
        self.0.matches(facts, pillar)
    }

    pub(super) fn decided_by(&self, id: &str) -> Result<Option<bool>, TooHard> {
        self.0.decided_by(id)
    }
}

impl Node {
    fn needs(&self) -> Needs {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().map(Node::needs).fold(Needs::nothing(), Needs::and),
            Node::Not(node) => node.needs(),
            Node::One(target) => target.needs(),
        }
    }

    fn needs_pillar(&self) -> bool {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().any(Node::needs_pillar),
            Node::Not(node) => node.needs_pillar(),
            Node::One(target) => target.needs_pillar(),
        }
    }

    fn with_exact_pillar(self) -> Node {
        let all = |nodes: Vec<Node>| nodes.into_iter().map(Node::with_exact_pillar).collect();
        match self {
            Node::All(nodes) => Node::All(all(nodes)),
            Node::Any(nodes) => Node::Any(all(nodes)),
            Node::Not(node) => Node::Not(Box::new(node.with_exact_pillar())),
            Node::One(target) => Node::One(Box::new(target.with_exact_pillar())),
        }
    }

    fn matches(&self, facts: Facts<'_>, pillar: &Map) -> Result<bool, TooHard> {
        match self {
            Node::All(nodes) => first(nodes, facts, pillar, false).map(|found| !found),
            Node::Any(nodes) => first(nodes, facts, pillar, true),
            Node::Not(node) => node.matches(facts, pillar).map(|matches| !matches),
            Node::One(target) => target.matches_with(facts, pillar),
        }
    }

    fn decided_by(&self, id: &str) -> Result<Option<bool>, TooHard> {
        match self {
            Node::All(nodes) => decided(nodes, id, false),
            Node::Any(nodes) => decided(nodes, id, true),
            Node::Not(node) => node.decided_by(id).map(|decided| decided.map(|matches| !matches)),
            Node::One(target) => target.decided_by(id),
        }
    }
}

/// Tells what the nodes come to if one of them with this answer decides, as far as the id does.
fn decided(nodes: &[Node], id: &str, answer: bool) -> Result<Option<bool>, TooHard> {
    let mut all = Some(!answer);
    for node in nodes {
        match node.decided_by(id)? {
            Some(found) if found == answer => return Ok(Some(answer)),
            Some(_) => {}
            None => all = None,
        }
    }
    Ok(all)
}

/// Tells whether one of the nodes gives this answer.
fn first(nodes: &[Node], facts: Facts<'_>, pillar: &Map, answer: bool) -> Result<bool, TooHard> {
    for node in nodes {
        if node.matches(facts, pillar)? == answer {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The words of an expression and how far they are read.
struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    depth: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_it = self.peek() == Some(word);
        self.at += usize::from(is_it);
        is_it
    }

    fn wrong(&self, what: impl Into<String>) -> BadTarget {
        let word = self.peek().unwrap_or("the end").chars().take(super::SHOWN).collect();
        BadTarget::Compound { at: self.at + 1, word, what: what.into() }
    }

    /// Reads targets joined by `or`.
    fn any(&mut self) -> Result<Node, BadTarget> {
        let mut nodes = vec![self.all()?];
        while self.takes("or") {
            nodes.push(self.all()?);
        }
        Ok(single(nodes, Node::Any))
    }

    /// Reads targets joined by `and`.
    fn all(&mut self) -> Result<Node, BadTarget> {
        let mut nodes = vec![self.not()?];
        while self.takes("and") || self.peek() == Some("not") {
            nodes.push(self.not()?);
        }
        Ok(single(nodes, Node::All))
    }

    fn not(&mut self) -> Result<Node, BadTarget> {
        let mut negated = false;
        while self.takes("not") {
            negated = !negated;
        }
        let node = self.one()?;
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    fn one(&mut self) -> Result<Node, BadTarget> {
        match self.peek() {
            Some("(") => self.group(),
            Some("and" | "or" | ")") | None => Err(self.wrong("expected a target")),
            Some(word) => {
                let target = target(word).map_err(|error| match error {
                    // The error of a part names the word that it stands in.
                    BadTarget::Compound { what, .. } => self.wrong(what),
                    other => self.wrong(other.to_string()),
                })?;
                self.at += 1;
                Ok(Node::One(Box::new(target)))
            }
        }
    }

    fn group(&mut self) -> Result<Node, BadTarget> {
        if self.depth == MAX_DEPTH {
            return Err(self.wrong(format!("parentheses nest more than {MAX_DEPTH} levels")));
        }
        self.at += 1;
        self.depth += 1;
        let node = self.any()?;
        self.depth -= 1;
        if self.takes(")") { Ok(node) } else { Err(self.wrong("expected and, or, or )")) }
    }
}

fn single(mut nodes: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match (nodes.len(), nodes.pop()) {
        (1, Some(node)) => node,
        (_, last) => {
            nodes.extend(last);
            join(nodes)
        }
    }
}

/// Reads one word: a plain pattern, or a letter that names the type, `@` and the target.
fn target(word: &str) -> Result<Target, BadTarget> {
    let Some((letter, delimiter, rest)) = lettered(word) else {
        return Target::parse(&word.into(), TgtType::Glob, DELIMITER);
    };
    let tgt_type = match letter {
        'E' => TgtType::Pcre,
        'G' => TgtType::Grain,
        'L' => TgtType::List,
        'N' => TgtType::Nodegroup,
        'P' => TgtType::GrainPcre,
        'S' => TgtType::Ipcidr,
        'I' => TgtType::Pillar,
        'J' => TgtType::PillarPcre,
        'R' => return Err(TgtType::parse("range").err().unwrap_or(BadTarget::Empty)),
        other => {
            let what =
                format!("there is no {other}@; known are E@ G@ I@ J@ L@ N@ P@ S@, and a pattern without a letter");
            return Err(BadTarget::Compound { at: 0, word: word.to_owned(), what });
        }
    };
    Target::parse(&Value::from(rest), tgt_type, delimiter.unwrap_or(DELIMITER))
}

/// Splits `G@…` and `G|@…`, where a delimiter stands between the letter and the `@`.
fn lettered(word: &str) -> Option<(char, Option<&str>, &str)> {
    let letter = word.chars().next().filter(char::is_ascii_uppercase)?;
    let behind = &word[1..];
    if let Some(rest) = behind.strip_prefix('@') {
        return Some((letter, None, rest));
    }
    let delimiter = behind.chars().next().filter(|_| matches!(letter, 'G' | 'I' | 'J' | 'P'))?.len_utf8();
    let rest = behind[delimiter..].strip_prefix('@')?;
    Some((letter, Some(&behind[..delimiter]), rest))
}
