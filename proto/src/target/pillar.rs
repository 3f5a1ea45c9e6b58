//! `pillar`, `pillar_pcre`, `pillar_exact`: as the grain types, over a minion's pillar. Here is what only the exact one has.

use super::BadTarget;
use super::subdict::{Subdict, Test};

/// Reads `NAME:VALUE`. Upper and lower case are the same.
pub(super) fn parse_exact(text: &str, delimiter: &str) -> Result<Subdict, BadTarget> {
    Subdict::parse(text, delimiter, |value| Ok(Test::Exact(value.to_lowercase())))
}

#[cfg(test)]
mod tests {
    use crate::map;
    use crate::target::{DELIMITER, Facts, Target, TgtType};
    use crate::value::Map;

    fn check(text: &str, tgt_type: TgtType, expected: bool) {
        let pillar = map! { "role" => "Web-Front", "db" => map! { "pass" => "s3cret" }, "l" => vec!["a1", "b2"] };
        let (grains, id) = (Map::new(), "m1");
        let target = Target::parse(&text.into(), tgt_type, DELIMITER).unwrap();
        let facts = Facts { id, grains: &grains };
        assert_eq!(target.matches_with(facts, &pillar), Ok(expected), "{text:?} {tgt_type:?}");
        assert!(!tgt_type.name().starts_with("pillar") || target.needs_pillar());
    }

    #[test]
    fn a_pillar_is_compared_as_its_type_says() {
        check("role:web-*", TgtType::Pillar, true);
        check("role:db*", TgtType::Pillar, false);
        check("db:pass:*", TgtType::Pillar, true);
        check("role:web-f.*", TgtType::PillarPcre, true);
        check("role:web-front", TgtType::PillarExact, true);
        check("role:web-*", TgtType::PillarExact, false);
        check("l:b2", TgtType::PillarExact, true);
        check("I@role:web* and J@db:pass:s.+", TgtType::Compound, true);
        check("m1 and not I@role:web*", TgtType::Compound, false);
        check("I|@db|pass|s3*", TgtType::Compound, true);
    }

    #[test]
    fn a_minions_look_at_others_pillars_is_exact() {
        let pillar = map! { "db" => map! { "pass" => "s3cret" } };
        let (grains, id) = (Map::new(), "m1");
        let matches = |text: &str, tgt_type| {
            let target = Target::parse(&text.into(), tgt_type, DELIMITER).unwrap().with_exact_pillar();
            target.matches_with(Facts { id, grains: &grains }, &pillar).unwrap()
        };
        assert!(!matches("db:pass:s*", TgtType::Pillar));
        assert!(!matches("db:pass:s.*", TgtType::PillarPcre));
        assert!(!matches("I@db:pass:s* or J@db:pass:.*", TgtType::Compound));
        assert!(matches("I@db:pass:s3cret", TgtType::Compound));
        assert!(matches("m* and not I@db:pass:s*", TgtType::Compound));
    }
}
