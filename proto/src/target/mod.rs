//! Who a job is for: the types of target, and the test of one minion against one target (salt-wire.md §11).

pub mod glob;
pub mod list;

use std::borrow::Cow;

use crate::value::Value;

/// How a target is to be read. The names on the wire are Salt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TgtType {
    /// A shell-style pattern over the id (the default).
    Glob,
    /// A list of ids.
    List,
}

/// What can be wrong with a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// The type is not one this version knows.
    #[error("targets of type {0:?} are not supported; known are glob and list")]
    UnknownType(String),
    /// The target is neither text nor a list of texts.
    #[error("a target is text or a list of texts, not {0}")]
    Shape(&'static str),
    /// The target is empty.
    #[error("the target is empty; use '*' for all minions")]
    Empty,
}

impl TgtType {
    /// Reads the name that stands on the wire.
    pub fn parse(name: &str) -> Result<TgtType, BadTarget> {
        match name {
            "" | "glob" => Ok(TgtType::Glob),
            "list" => Ok(TgtType::List),
            other => Err(BadTarget::UnknownType(other.to_owned())),
        }
    }

    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TgtType::Glob => "glob",
            TgtType::List => "list",
        }
    }
}

/// A target, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Ids that match a pattern.
    Glob(glob::Glob),
    /// Exactly these ids.
    List(Vec<String>),
}

impl Target {
    /// Reads `tgt` and `tgt_type` as they stand in a publication.
    pub fn parse(tgt: &Value, tgt_type: TgtType) -> Result<Target, BadTarget> {
        let text: Cow<'_, str> = match tgt {
            Value::Str(text) => text.as_str().into(),
            Value::List(_) if tgt_type == TgtType::List => return list::parse(tgt).map(Target::List),
            // A bare number on a command line or in YAML is a minion's name all the same.
            Value::Int(number) => number.to_string().into(),
            other => return Err(BadTarget::Shape(other.kind())),
        };
        match tgt_type {
            _ if text.is_empty() => Err(BadTarget::Empty),
            TgtType::Glob => Ok(Target::Glob(glob::Glob::new(&text))),
            TgtType::List => Ok(Target::List(list::split(&text))),
        }
    }

    /// Tells whether the minion of this id is meant.
    pub fn matches(&self, id: &str) -> bool {
        match self {
            Target::Glob(glob) => glob.matches(id),
            Target::List(ids) => ids.iter().any(|listed| listed == id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_salt_reads_them() {
        let all = Target::parse(&"*".into(), TgtType::Glob).unwrap();
        assert!(all.matches("web1"));
        let list = Target::parse(&"m1, m2,,m1".into(), TgtType::List).unwrap();
        assert_eq!(list, Target::List(vec!["m1".into(), "m2".into()]));
        assert!(list.matches("m2") && !list.matches("m22"));
        let listed = Target::parse(&vec!["a", "b"].into(), TgtType::List).unwrap();
        assert!(listed.matches("a"));
        assert_eq!(Target::parse(&"".into(), TgtType::Glob), Err(BadTarget::Empty));
        assert!(Target::parse(&vec!["a"].into(), TgtType::Glob).is_err());
        assert!(TgtType::parse("nodegroup").is_err());
    }
}
