//! Looks for a pattern in nested data, as Salt's `subdict_match` does (salt-wire.md §11.3).
//!
//! `a:b:c` may mean the value `c` under `a` → `b`, or the value `b:c` under `a`: each split is tried, the deepest first.
//! What stands behind a split is a pattern, compiled once.

use std::cell::Cell;

use super::glob::Glob;
use super::pcre::Pcre;
use super::{BadTarget, Needs, TooHard};
use crate::value::{Map, MapExt, Value};

/// How many parts an expression may have. Grains nest four or five levels.
const MAX_PARTS: usize = 64;
/// How many steps one comparison with one minion's grains may take. A step is a look at a value, or [`STEP`] pairs of a
/// character of the pattern and one of the text: the grains are the minion's, and may be made to be slow.
const MAX_STEPS: usize = 20_000;
const STEP: usize = 4096;

/// A way into the data and what is to be found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subdict {
    parts: Vec<String>,
    /// What stands from each part on.
    tails: Vec<Tail>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tail {
    text: String,
    /// None where the split falls inside an expression, and this rest is none.
    test: Option<Test>,
}

/// How a value is compared with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// The text in lower case, and nothing else.
    Exact(String),
    Glob(Glob),
    Pcre(Pcre),
}

impl Subdict {
    pub(super) fn parse(
        text: &str,
        delimiter: &str,
        compile: impl Fn(&str) -> Result<Test, BadTarget>,
    ) -> Result<Subdict, BadTarget> {
        let no_pattern = || BadTarget::NoPattern { text: text.to_owned(), delimiter: delimiter.to_owned() };
        if delimiter.is_empty() {
            return Err(no_pattern());
        }
        let parts: Vec<String> = text.split(delimiter).map(str::to_owned).collect();
        if !(2..=MAX_PARTS).contains(&parts.len()) {
            return Err(no_pattern());
        }
        // The whole of it is never a pattern.
        let mut tails = vec![Tail { text: text.to_owned(), test: None }];
        let mut wrong = None;
        for at in 1..parts.len() {
            let text = parts[at..].join(delimiter);
            let test = compile(&text).map_err(|error| wrong.get_or_insert(error).clone()).ok();
            tails.push(Tail { text, test });
        }
        match wrong {
            Some(error) if tails.iter().all(|tail| tail.test.is_none()) => Err(error),
            _ => Ok(Subdict { parts, tails }),
        }
    }

    /// Returns the same way with the rest compared exactly.
    pub(super) fn into_exact(mut self) -> Subdict {
        for tail in self.tails.iter_mut().skip(1) {
            tail.test = Some(Test::Exact(tail.text.to_lowercase()));
        }
        self
    }

    /// Returns the grain that the way begins with, or all if it begins anywhere. Numbers are looked for as numbers too.
    pub(super) fn needs(&self) -> Needs {
        let first = &self.parts[0];
        if first == "*" || typed(first).is_some() { Needs::All } else { Needs::Keys([first.clone()].into()) }
    }

    /// Tells whether the pattern is found.
    pub(super) fn matches(&self, data: &Map) -> Result<bool, TooHard> {
        Walk { subdict: self, steps: Cell::new(0) }.find(data, 0)
    }
}

/// One comparison under way.
struct Walk<'a> {
    subdict: &'a Subdict,
    steps: Cell<usize>,
}

impl Walk<'_> {
    fn spend(&self, steps: usize) -> Result<(), TooHard> {
        self.steps.set(self.steps.get().saturating_add(steps));
        if self.steps.get() > MAX_STEPS { Err(TooHard) } else { Ok(()) }
    }

    /// Looks for the expression that begins at this part.
    fn find(&self, data: &Map, from: usize) -> Result<bool, TooHard> {
        let parts = &self.subdict.parts;
        for split in (from + 1..parts.len()).rev() {
            self.spend(1)?;
            if split == from + 1 && parts[from] == "*" {
                // Everything under the top level: the data itself, and the expression with its star.
                if self.in_map(data, from)? {
                    return Ok(true);
                }
            } else if let Some(found) = descend(data, &parts[from..split])
                && self.in_value(found, split)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn in_value(&self, found: &Value, tail: usize) -> Result<bool, TooHard> {
        match found {
            Value::Map(map) if map.is_empty() => Ok(false),
            Value::Map(map) => self.in_map(map, tail),
            Value::List(members) => self.in_list(members, tail),
            scalar => self.compare(scalar, tail),
        }
    }

    fn in_list(&self, members: &[Value], tail: usize) -> Result<bool, TooHard> {
        for member in members {
            let found = match member {
                Value::Map(map) => self.in_map(map, tail)?,
                scalar => self.compare(scalar, tail)?,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks in a map: for the pattern as a key, for the expression below, and with a star one level down.
    fn in_map(&self, map: &Map, tail: usize) -> Result<bool, TooHard> {
        self.spend(1)?;
        let is_wild = self.subdict.parts[tail] == "*" && tail + 1 < self.subdict.parts.len();
        let tail = if is_wild { tail + 1 } else { tail };
        let text = self.subdict.tails[tail].text.as_str();
        if text == "*" || map.at(text).is_some() || self.find(map, tail)? {
            return Ok(true);
        }
        if !is_wild {
            return Ok(false);
        }
        for value in map.values() {
            let found = match value {
                Value::Map(inner) => self.in_map(inner, tail)?,
                Value::List(members) => self.in_scalars(members, tail)?,
                scalar => self.compare(scalar, tail)?,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn in_scalars(&self, members: &[Value], tail: usize) -> Result<bool, TooHard> {
        for member in members {
            if self.compare(member, tail)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compare(&self, value: &Value, tail: usize) -> Result<bool, TooHard> {
        let Tail { text: pattern, test: Some(test) } = &self.subdict.tails[tail] else { return Ok(false) };
        let Some(text) = shown(value) else { return Ok(false) };
        self.spend(1 + text.len().saturating_mul(pattern.len()) / STEP)?;
        match test {
            Test::Exact(exact) => Ok(text.to_lowercase() == *exact),
            Test::Glob(glob) => Ok(glob.matches(&text.to_lowercase())),
            Test::Pcre(pcre) => pcre.matches(&text),
        }
    }
}

/// Follows keys into maps and lists. A number indexes a list; a name is looked for in the maps of a list.
fn descend<'a>(data: &'a Map, keys: &[String]) -> Option<&'a Value> {
    let (first, rest) = keys.split_first()?;
    let mut at = under(data, first)?;
    for key in rest {
        at = match at {
            Value::Map(map) => under(map, key)?,
            Value::List(items) => in_items(items, key)?,
            _ => return None,
        };
    }
    Some(at)
}

/// Returns the value under a key, as text or as what YAML makes of it.
fn under<'a>(map: &'a Map, key: &str) -> Option<&'a Value> {
    map.at(key).or_else(|| map.get(&typed(key)?))
}

fn in_items<'a>(items: &'a [Value], key: &str) -> Option<&'a Value> {
    let mut maps = items.iter().filter_map(Value::as_map);
    let Ok(index) = key.parse::<i64>() else { return maps.find_map(|map| map.at(key)) };
    // Python counts from the end below zero.
    let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
    let place = if index < 0 { from_end() } else { usize::try_from(index).ok() };
    maps.find_map(|map| map.get(&Value::from(index))).or_else(|| items.get(place?))
}

/// Returns what YAML makes of a key that is no text.
fn typed(key: &str) -> Option<Value> {
    let number = || key.parse::<i64>().ok().map(Value::from);
    match key {
        "true" | "True" | "yes" | "on" => Some(true.into()),
        "false" | "False" | "no" | "off" => Some(false.into()),
        "null" | "None" | "~" => Some(Value::Null),
        _ => number(),
    }
}

/// Returns the text of a scalar as Python shows it. Lists in lists have none: no pattern is meant for them.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("None".to_owned()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(format!("{number:?}")),
        Value::Str(text) => Some(text.clone()),
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::List(_) | Value::Map(_) => None,
    }
}
