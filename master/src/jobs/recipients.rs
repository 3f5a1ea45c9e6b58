//! Who a job is for: accepted keys that match the target, by their ids and what is known of their grains. Pure.

use bytes::Bytes;
use proto::ids::MinionId;
use proto::msgpack;
use proto::target::{Facts, Needs, Target, TooHard};
use proto::value::Map;

/// How many ids an explicit list may name.
const MAX_LISTED: usize = 100_000;

/// Who a target means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recipients {
    /// Accepted ids that match, sorted unless the target lists them.
    pub(super) minions: Vec<MinionId>,
    /// Listed ids that no accepted key has.
    pub(super) missing: Vec<String>,
    /// Accepted ids that have told nothing of themselves, and that the target may mean all the same.
    pub(super) perhaps: Vec<MinionId>,
}

/// A target cannot be compared with one minion's grains.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("match the target against the grains of {id}")]
pub(super) struct MatchError {
    id: MinionId,
    source: TooHard,
}

/// Where facts about minions come from, encoded.
pub(super) trait Known {
    /// Returns what a minion told of itself.
    fn grains(&self, id: &MinionId) -> Option<Bytes>;
    /// Returns what it was told.
    fn pillar(&self, id: &MinionId) -> Option<Bytes>;
}

/// Finds the recipients. `accepted` is sorted. Only what the target looks at is decoded; what cannot be is as good as
/// nothing.
pub(super) fn find(target: &Target, accepted: &[MinionId], known: &dyn Known) -> Result<Recipients, MatchError> {
    if let Target::List(ids) = target {
        return Ok(listed(ids, accepted));
    }
    let needs = target.needs();
    let looks = !needs.is_nothing() || target.needs_pillar();
    let (mut minions, mut perhaps) = (Vec::new(), Vec::new());
    for id in accepted {
        let grains = if looks { known.grains(id) } else { None };
        let is_unknown = looks && grains.is_none();
        let grains = grains.filter(|_| !needs.is_nothing()).map(|grains| decode(&grains, &needs)).unwrap_or_default();
        let pillar = if target.needs_pillar() { known.pillar(id) } else { None };
        let pillar = pillar.and_then(|pillar| msgpack::decode_map(&pillar).ok()).unwrap_or_default();
        let facts = Facts { id: id.as_str(), grains: &grains };
        let failed = |source| MatchError { id: id.clone(), source };
        if target.matches_with(facts, &pillar).map_err(failed)? {
            minions.push(id.clone());
        } else if is_unknown && target.may_match(id.as_str()).map_err(failed)? {
            perhaps.push(id.clone());
        }
    }
    Ok(Recipients { minions, missing: Vec::new(), perhaps })
}

fn listed(ids: &[String], accepted: &[MinionId]) -> Recipients {
    let mut found = Recipients::default();
    for id in ids.iter().take(MAX_LISTED) {
        match accepted.binary_search_by(|known| known.as_str().cmp(id)) {
            Ok(at) => found.minions.push(accepted[at].clone()),
            Err(_) => found.missing.push(id.clone()),
        }
    }
    found
}

fn decode(grains: &[u8], needs: &Needs) -> Map {
    match needs {
        Needs::All => msgpack::decode_map(grains).unwrap_or_default(),
        Needs::Keys(keys) => msgpack::decode_entries(grains, |key| keys.contains(key)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proto::map;
    use proto::target::TgtType;

    use super::*;

    /// Returns who is meant, and whose grains were looked at.
    fn check(tgt: &str, tgt_type: TgtType, expected: &[&str], decoded: usize) {
        let accepted: Vec<MinionId> = ["db1", "web1", "web2"].map(|id| MinionId::parse(id).unwrap()).into();
        let known = Three { looked: RefCell::new(0) };
        let target = Target::parse(&tgt.into(), tgt_type, ":").unwrap();
        let found = find(&target, &accepted, &known).unwrap();
        assert_eq!(found.minions.iter().map(MinionId::as_str).collect::<Vec<_>>(), expected, "{tgt}");
        assert_eq!(*known.looked.borrow(), decoded, "{tgt}");
    }

    struct Three {
        looked: RefCell<usize>,
    }

    impl Known for Three {
        fn grains(&self, id: &MinionId) -> Option<Bytes> {
            *self.looked.borrow_mut() += 1;
            let os = if id.as_str() == "web2" { return None } else { "Debian" };
            Some(Bytes::from(msgpack::encode_map(&map! { "os" => os, "id" => id })))
        }

        fn pillar(&self, id: &MinionId) -> Option<Bytes> {
            *self.looked.borrow_mut() += 1;
            (id.as_str() != "web1").then(|| Bytes::from(msgpack::encode_map(&map! { "role" => id })))
        }
    }

    /// Knows nothing that can be read.
    struct Nonsense;

    impl Known for Nonsense {
        fn grains(&self, _: &MinionId) -> Option<Bytes> {
            Some(Bytes::from_static(b"\xc1\x00"))
        }

        fn pillar(&self, _: &MinionId) -> Option<Bytes> {
            Some(Bytes::from_static(b"\xc1\x00"))
        }
    }

    #[test]
    fn only_targets_that_look_at_grains_decode_them() {
        check("web*", TgtType::Glob, &["web1", "web2"], 0);
        check("web2,db1", TgtType::List, &["web2", "db1"], 0);
        check("w.*2", TgtType::Pcre, &["web2"], 0);
        check("web* and not web1", TgtType::Compound, &["web2"], 0);
        check("os:debian", TgtType::Grain, &["db1", "web1"], 3);
        check("not G@os:debian or db*", TgtType::Compound, &["db1", "web2"], 3);
        check("role:web*", TgtType::Pillar, &["web2"], 6);
        check("I@role:db1 or G@os:debian", TgtType::Compound, &["db1", "web1"], 6);
    }

    #[test]
    fn who_has_told_nothing_may_be_meant_all_the_same() {
        let accepted: Vec<MinionId> = ["db1", "web1", "web2"].map(|id| MinionId::parse(id).unwrap()).into();
        let perhaps = |tgt: &str, tgt_type| {
            let target = Target::parse(&tgt.into(), tgt_type, ":").unwrap();
            let found = find(&target, &accepted, &Three { looked: RefCell::new(0) }).unwrap();
            found.perhaps.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(perhaps("os:debian", TgtType::Grain), ["web2"]);
        assert_eq!(perhaps("G@os:debian and not web2", TgtType::Compound), Vec::<String>::new());
        assert_eq!(perhaps("G@os:debian or web2", TgtType::Compound), Vec::<String>::new(), "it is meant");
        assert_eq!(perhaps("db*", TgtType::Glob), Vec::<String>::new());
    }

    #[test]
    fn grains_that_cannot_be_read_are_as_good_as_none() {
        let accepted = [MinionId::parse("m1").unwrap()];
        let target = Target::parse(&"os:*".into(), TgtType::Grain, ":").unwrap();
        let found = find(&target, &accepted, &Nonsense).unwrap();
        assert_eq!(found, Recipients::default());
    }
}
