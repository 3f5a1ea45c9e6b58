//! Who a job is for: the types of target, and the test of one minion against one target (salt-wire.md §11).
//!
//! One file per type. Everything here is total and bounded: any text gives a target or a [`BadTarget`], any target and any
//! grains give an answer or [`TooHard`]. The master fixes the recipients with what it has cached; the minion asks again
//! with what it is.

pub mod compound;
pub mod glob;
pub mod grain;
pub mod grain_pcre;
pub mod ipcidr;
pub mod list;
pub mod nodegroup;
pub mod pcre;
pub mod pillar;
mod subdict;

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::value::{Map, MapExt, Value};

/// What separates the parts of a grain or pillar target, unless another delimiter is asked for.
pub const DELIMITER: &str = ":";

/// The longest expression, in bytes; lists apart, which a publication's own limit bounds. A compound of some thousand
/// host names still fits. One that is longer is refused.
pub const MAX_EXPRESSION: usize = 64 * 1024;

/// How a target is to be read. The names on the wire are Salt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TgtType {
    /// Several targets, joined by `and`, `or`, `not` and parentheses.
    Compound,
    /// A shell-style pattern over the id (the default).
    Glob,
    /// A grain and a shell-style pattern.
    Grain,
    /// A grain and a regular expression.
    GrainPcre,
    /// An address or a network.
    Ipcidr,
    /// A list of ids.
    List,
    /// A group that the master's configuration names.
    Nodegroup,
    /// A regular expression over the id.
    Pcre,
    /// A value of the pillar and a shell-style pattern.
    Pillar,
    /// A value of the pillar, exactly.
    PillarExact,
    /// A value of the pillar and a regular expression.
    PillarPcre,
}

/// All types, by the names of the wire.
const TYPES: [TgtType; 11] = [
    TgtType::Compound,
    TgtType::Glob,
    TgtType::Grain,
    TgtType::GrainPcre,
    TgtType::Ipcidr,
    TgtType::List,
    TgtType::Nodegroup,
    TgtType::Pcre,
    TgtType::Pillar,
    TgtType::PillarExact,
    TgtType::PillarPcre,
];

/// Types that Salt has and this version has not, each with the reason.
const UNSUPPORTED: [(&str, &str); 1] = [("range", "there is no range server to ask; use a list or a nodegroup")];

/// What can be wrong with a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// An address or network cannot be read.
    #[error("{text:?} is no address and no network: {what}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A compound target makes no sense.
    #[error("compound target, word {at} ({word:?}): {what}")]
    Compound {
        /// The place of the word, from 1.
        at: usize,
        /// The word.
        word: String,
        /// What is wrong there.
        what: String,
    },
    /// The target is empty.
    #[error("the target is empty; use '*' for all minions")]
    Empty,
    /// A grain or pillar target does not say which value or which pattern.
    #[error("{text:?} is no grain or pillar target: write NAME{delimiter}PATTERN, os{delimiter}Debian")]
    NoPattern {
        /// What was given.
        text: String,
        /// What should have stood in it.
        delimiter: String,
    },
    /// A nodegroup cannot be expanded.
    #[error(transparent)]
    Nodegroup(#[from] nodegroup::BadNodegroup),
    /// A regular expression cannot be used.
    #[error("the regular expression {pattern:?} cannot be used: {what}")]
    Regex {
        /// The pattern, its beginning if it is long.
        pattern: String,
        /// What is wrong with it, and where.
        what: String,
    },
    /// The target is neither text nor a list of texts.
    #[error("a target is text or a list of texts, not {0}")]
    Shape(&'static str),
    /// It is too long.
    #[error("the target has {0} bytes; an expression has at most {MAX_EXPRESSION}")]
    TooLong(usize),
    /// The type is not one that there is.
    #[error("there are no targets of type {name:?}; known are {known}")]
    UnknownType {
        /// The type that was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The type is one of Salt's that this version does not have.
    #[error("targets of type {name} are not supported: {why}")]
    Unsupported {
        /// The type that was asked for.
        name: &'static str,
        /// Why, and what to use instead.
        why: &'static str,
    },
}

/// Comparing a target with one minion's grains takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the target takes too many steps to be compared; use a simpler pattern")]
pub struct TooHard;

/// What is known of one minion.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its grains: empty if there are none known.
    pub grains: &'a Map,
}

/// Which grains a target has to see. What is not needed need not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// All of them.
    All,
    /// Those of these names: none at all for a pattern over the id.
    Keys(BTreeSet<String>),
}

impl Needs {
    /// Returns the needs of a target that looks at the id alone.
    pub fn nothing() -> Needs {
        Needs::Keys(BTreeSet::new())
    }

    /// Tells whether the id alone decides.
    pub fn is_nothing(&self) -> bool {
        *self == Needs::nothing()
    }

    /// Adds what another target needs.
    fn and(self, other: Needs) -> Needs {
        match (self, other) {
            (Needs::Keys(mut keys), Needs::Keys(more)) => {
                keys.extend(more);
                Needs::Keys(keys)
            }
            _ => Needs::All,
        }
    }
}

impl TgtType {
    /// Reads the name that stands on the wire.
    pub fn parse(name: &str) -> Result<TgtType, BadTarget> {
        if name.is_empty() {
            return Ok(TgtType::Glob);
        }
        if let Some(known) = TYPES.into_iter().find(|known| known.name() == name) {
            return Ok(known);
        }
        if let Some((name, why)) = UNSUPPORTED.into_iter().find(|(known, _)| *known == name) {
            return Err(BadTarget::Unsupported { name, why });
        }
        let known = TYPES.map(TgtType::name).join(", ");
        Err(BadTarget::UnknownType { name: name.chars().take(SHOWN).collect(), known })
    }

    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TgtType::Compound => "compound",
            TgtType::Glob => "glob",
            TgtType::Grain => "grain",
            TgtType::GrainPcre => "grain_pcre",
            TgtType::Ipcidr => "ipcidr",
            TgtType::List => "list",
            TgtType::Nodegroup => "nodegroup",
            TgtType::Pcre => "pcre",
            TgtType::Pillar => "pillar",
            TgtType::PillarExact => "pillar_exact",
            TgtType::PillarPcre => "pillar_pcre",
        }
    }
}

/// How much of a bad text an error repeats, in characters.
const SHOWN: usize = 80;

/// A target, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Several targets, joined by words.
    Compound(compound::Compound),
    /// Ids that match a pattern.
    Glob(glob::Glob),
    /// Minions whose grain matches a pattern or a regular expression.
    Grain(subdict::Subdict),
    /// Minions that have this address, or one in this network.
    Ipcidr(ipcidr::Cidr),
    /// Exactly these ids.
    List(Vec<String>),
    /// Ids that match a regular expression.
    Pcre(pcre::Pcre),
    /// Minions whose pillar has a value.
    Pillar(subdict::Subdict),
}

impl Target {
    /// Reads the target of a publication: its `tgt`, `tgt_type` and `delimiter`.
    pub fn of(load: &Map) -> Result<Target, BadTarget> {
        let tgt_type = TgtType::parse(load.text("tgt_type").unwrap_or_default())?;
        let delimiter = load.text("delimiter").filter(|text| !text.is_empty()).unwrap_or(DELIMITER);
        Target::parse(load.at("tgt").unwrap_or(&Value::Null), tgt_type, delimiter)
    }

    /// Reads `tgt` as its type says. The delimiter counts for grains alone.
    pub fn parse(tgt: &Value, tgt_type: TgtType, delimiter: &str) -> Result<Target, BadTarget> {
        let text: Cow<'_, str> = match tgt {
            Value::Str(text) => text.as_str().into(),
            Value::List(_) if tgt_type == TgtType::List => return list::parse(tgt).map(Target::List),
            // Salt publishes compounds of nodegroups as lists of words.
            Value::List(_) if tgt_type == TgtType::Compound => list::parse(tgt)?.join(" ").into(),
            // A bare number on a command line or in YAML is a minion's name all the same.
            Value::Int(number) => number.to_string().into(),
            other => return Err(BadTarget::Shape(other.kind())),
        };
        if text.trim().is_empty() {
            return Err(BadTarget::Empty);
        }
        if tgt_type != TgtType::List && text.len() > MAX_EXPRESSION {
            return Err(BadTarget::TooLong(text.len()));
        }
        match tgt_type {
            TgtType::Compound => compound::Compound::parse(&text).map(Target::Compound),
            TgtType::Glob => Ok(Target::Glob(glob::Glob::new(&text))),
            TgtType::Grain => grain::parse(&text, delimiter).map(Target::Grain),
            TgtType::GrainPcre => grain_pcre::parse(&text, delimiter).map(Target::Grain),
            TgtType::Ipcidr => ipcidr::Cidr::parse(&text).map(Target::Ipcidr),
            TgtType::List => Ok(Target::List(list::split(&text))),
            // The master has expanded it before anybody reads it.
            TgtType::Nodegroup => Err(nodegroup::BadNodegroup::NotExpanded.into()),
            TgtType::Pcre => pcre::Pcre::parse(&text).map(Target::Pcre),
            TgtType::Pillar => grain::parse(&text, delimiter).map(Target::Pillar),
            TgtType::PillarExact => pillar::parse_exact(&text, delimiter).map(Target::Pillar),
            TgtType::PillarPcre => grain_pcre::parse(&text, delimiter).map(Target::Pillar),
        }
    }

    /// Returns which grains [`Target::matches`] has to see.
    pub fn needs(&self) -> Needs {
        match self {
            Target::Compound(compound) => compound.needs(),
            Target::Grain(subdict) => subdict.needs(),
            Target::Ipcidr(cidr) => cidr.needs(),
            Target::Glob(_) | Target::List(_) | Target::Pcre(_) | Target::Pillar(_) => Needs::nothing(),
        }
    }

    /// Tells whether [`Target::matches_with`] has to see the pillar.
    pub fn needs_pillar(&self) -> bool {
        match self {
            Target::Compound(compound) => compound.needs_pillar(),
            Target::Pillar(_) => true,
            Target::Glob(_) | Target::Grain(_) | Target::Ipcidr(_) | Target::List(_) | Target::Pcre(_) => false,
        }
    }

    /// Returns the target with each pillar compared exactly, as one minion's look at others' pillars must be: a pattern
    /// would let it guess their values letter by letter.
    pub fn with_exact_pillar(self) -> Target {
        match self {
            Target::Compound(compound) => Target::Compound(compound.with_exact_pillar()),
            Target::Pillar(subdict) => Target::Pillar(subdict.into_exact()),
            other => other,
        }
    }

    /// Tells whether a minion may be meant of which nothing is known but its id.
    pub fn may_match(&self, id: &str) -> Result<bool, TooHard> {
        self.decided_by(id).map(|decided| decided != Some(false))
    }

    /// Tells whether a minion is meant, as far as its id decides.
    fn decided_by(&self, id: &str) -> Result<Option<bool>, TooHard> {
        match self {
            Target::Compound(compound) => compound.decided_by(id),
            Target::Glob(_) | Target::List(_) | Target::Pcre(_) => {
                self.matches(Facts { id, grains: &Map::new() }).map(Some)
            }
            Target::Grain(_) | Target::Ipcidr(_) | Target::Pillar(_) => Ok(None),
        }
    }

    /// Tells whether a minion is meant whose pillar is not known, or does not matter.
    pub fn matches(&self, facts: Facts<'_>) -> Result<bool, TooHard> {
        self.matches_with(facts, &Map::new())
    }

    /// Tells whether a minion is meant.
    pub fn matches_with(&self, facts: Facts<'_>, pillar: &Map) -> Result<bool, TooHard> {
        match self {
            Target::Compound(compound) => compound.matches(facts, pillar),
            Target::Glob(glob) => Ok(glob.matches(facts.id)),
            Target::Grain(subdict) => subdict.matches(facts.grains),
            Target::Ipcidr(cidr) => Ok(cidr.matches(facts.grains)),
            Target::List(ids) => Ok(ids.iter().any(|listed| listed == facts.id)),
            Target::Pcre(pcre) => pcre.matches(facts.id),
            Target::Pillar(subdict) => subdict.matches(pillar),
        }
    }
}

#[cfg(test)]
mod tests;
