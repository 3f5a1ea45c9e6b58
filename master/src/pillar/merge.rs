//! How what several files say becomes one pillar (`pillar_source_merging_strategy`).

use proto::value::{Map, Value};

/// How two maps become one. Where both have a key, the later one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Maps are merged at the top level only. Salt's `!aggregate` tags are not known.
    Aggregate,
    /// One environment only, merged as `recurse` does.
    None,
    /// A later value replaces the whole of an earlier one.
    Overwrite,
    /// Maps are merged at every level.
    Recurse,
    /// As `recurse`, since files are read as YAML.
    #[default]
    Smart,
}

/// Whether lists are joined (`pillar_merge_lists`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lists {
    /// The later members that the earlier list has not are put behind it.
    Join,
    /// The later list replaces the earlier one.
    #[default]
    Replace,
}

impl Strategy {
    /// Reads Salt's name.
    pub fn parse(name: &str) -> Option<Strategy> {
        Some(match name {
            "aggregate" => Strategy::Aggregate,
            "none" => Strategy::None,
            "overwrite" => Strategy::Overwrite,
            "recurse" => Strategy::Recurse,
            "smart" => Strategy::Smart,
            _ => return None,
        })
    }

    /// Merges a later map into an earlier one.
    pub(super) fn merge(self, into: &mut Map, later: Map, lists: Lists) {
        match self {
            Strategy::Aggregate | Strategy::Overwrite => {
                later.into_iter().for_each(|(key, value)| drop(into.insert(key, value)));
            }
            Strategy::None => recurse(into, later, Lists::Replace),
            Strategy::Recurse | Strategy::Smart => recurse(into, later, lists),
        }
    }
}

/// Merges at every level. How deep it goes is bounded by the readers of YAML and msgpack.
pub(super) fn recurse(into: &mut Map, later: Map, lists: Lists) {
    for (key, value) in later {
        match (into.get_mut(&key), value) {
            (Some(Value::Map(earlier)), Value::Map(later)) => recurse(earlier, later, lists),
            (Some(Value::List(earlier)), Value::List(later)) if lists == Lists::Join => {
                for member in later {
                    if !earlier.contains(&member) {
                        earlier.push(member);
                    }
                }
            }
            (Some(earlier), value) => *earlier = value,
            (None, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;

    fn check(strategy: Strategy, lists: Lists, expected: Map) {
        let mut merged = map! { "a" => map! { "x" => 1, "l" => vec![1, 2] }, "k" => 1 };
        let later = map! { "a" => map! { "y" => 2, "l" => vec![2, 3] }, "k" => vec![1], "new" => true };
        strategy.merge(&mut merged, later, lists);
        assert_eq!(merged, expected, "{strategy:?} {lists:?}");
    }

    #[test]
    fn later_values_win_as_the_strategy_says() {
        let deep =
            |list: Vec<i64>| map! { "a" => map! { "x" => 1, "l" => list, "y" => 2 }, "k" => vec![1], "new" => true };
        check(Strategy::Smart, Lists::Replace, deep(vec![2, 3]));
        check(Strategy::Recurse, Lists::Join, deep(vec![1, 2, 3]));
        check(Strategy::None, Lists::Join, deep(vec![2, 3]));
        let flat = map! { "a" => map! { "y" => 2, "l" => vec![2, 3] }, "k" => vec![1], "new" => true };
        check(Strategy::Overwrite, Lists::Join, flat.clone());
        check(Strategy::Aggregate, Lists::Replace, flat);
        assert_eq!(Strategy::parse("list"), None);
    }
}
