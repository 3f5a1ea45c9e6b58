//! Targets as they are read, matched and refused; the recorded commands of a fleet of three.

use proptest::prelude::*;

use super::*;
use crate::map;

/// The three minions of the recordings.
fn minions() -> Vec<(&'static str, Map)> {
    let minion = |role: &str, own: &str| {
        map! { "role" => role, "site" => map! { "dc" => vec!["x", own] }, "ipv4" => vec!["127.0.0.1", "192.0.2.2"],
        "os" => "Debian", "num_cpus" => 2, "systemd" => map! { "version" => "252" } }
    };
    vec![("m1", minion("r1", "y1")), ("m2", minion("r2", "y2")), ("m3", minion("r1x", "y3"))]
}

/// Returns who of the three is meant.
fn who(tgt: &str, tgt_type: &str, delimiter: &str) -> Result<Vec<&'static str>, String> {
    let tgt_type = TgtType::parse(tgt_type).map_err(|error| error.to_string())?;
    let target = Target::parse(&tgt.into(), tgt_type, delimiter).map_err(|error| error.to_string())?;
    let meant = |(id, grains): &(&'static str, Map)| target.matches(Facts { id, grains }) == Ok(true);
    Ok(minions().into_iter().filter(meant).map(|(id, _)| id).collect())
}

#[track_caller]
fn check(tgt: &str, tgt_type: &str, expected: &[&str]) {
    assert_eq!(who(tgt, tgt_type, DELIMITER).as_deref(), Ok(expected), "{tgt_type} {tgt:?}");
}

#[track_caller]
fn refused(tgt: &str, tgt_type: &str, text: &str) {
    assert_eq!(who(tgt, tgt_type, DELIMITER), Err(text.to_owned()), "{tgt_type} {tgt:?}");
}

#[test]
fn targets_are_read_as_salt_reads_them() {
    let all = Target::parse(&"*".into(), TgtType::Glob, DELIMITER).unwrap();
    assert!(all.needs().is_nothing());
    check("*", "glob", &["m1", "m2", "m3"]);
    let list = Target::parse(&"m1, m2,,m1".into(), TgtType::List, DELIMITER).unwrap();
    assert_eq!(list, Target::List(vec!["m1".into(), "m2".into()]));
    check("m2,m22", "list", &["m2"]);
    let listed = Target::parse(&vec!["m1", "b"].into(), TgtType::List, DELIMITER).unwrap();
    assert_eq!(listed.matches(Facts { id: "m1", grains: &Map::new() }), Ok(true));
    assert_eq!(Target::parse(&"".into(), TgtType::Glob, DELIMITER), Err(BadTarget::Empty));
    assert!(Target::parse(&vec!["a"].into(), TgtType::Glob, DELIMITER).is_err());
}

#[test]
fn the_recorded_commands_mean_the_recorded_minions() {
    // recorded: tgt-*.txt, without those that need a pillar; m3 has the role `r1x` here so that globs differ from equality.
    check("m[12]", "glob", &["m1", "m2"]);
    check("m?", "glob", &["m1", "m2", "m3"]);
    check("m1,m3", "list", &["m1", "m3"]);
    check("m(1|3)", "pcre", &["m1", "m3"]);
    check("role:r2", "grain", &["m2"]);
    check("role:r*", "grain", &["m1", "m2", "m3"]);
    check("site:dc:y3", "grain", &["m3"]);
    check("role:r(1|2)$", "grain_pcre", &["m1", "m2"]);
    check("127.0.0.1", "ipcidr", &["m1", "m2", "m3"]);
    check("127.0.0.0/8", "ipcidr", &["m1", "m2", "m3"]);
    check("G@role:r2 or ( E@m.* and not m2 )", "compound", &["m1", "m2", "m3"]);
    check("L@m1,m2 or S@10.0.0.0/8", "compound", &["m1", "m2"]);
    assert_eq!(who("site|dc|x", "grain", "|"), Ok(vec!["m1", "m2", "m3"]));
    assert_eq!(who("site|dc|y2", "grain", "|"), Ok(vec!["m2"]));
}

#[test]
fn grains_are_searched_as_subdict_match_does() {
    let data = map! {
        "a" => map! { "b" => map! { "c" => "Deep", "d" => Value::Null }, "b:c" => "flat", "n" => 3 },
        "pair" => "x:y",
        "list" => vec![Value::from("one"), map! { "k" => "v", "in" => map! { "side" => 1 } }.into(), 7.into()],
        "disks" => map! { "sda" => map! { "size" => "20G" }, "sdb" => map! { "size" => "40G", "tags" => vec!["ssd"] } },
        "ports" => Value::Map([(Value::from(80), Value::from("http"))].into_iter().collect()),
        "flag" => true, "off" => false, "half" => 0.5, "none" => Value::Null, "empty" => map! {},
    };
    let check = |expression: &str, expected: bool| {
        let target = Target::parse(&expression.into(), TgtType::Grain, DELIMITER).unwrap();
        assert_eq!(target.matches(Facts { id: "m", grains: &data }), Ok(expected), "{expression}");
    };
    check("a:b:c:deep", true);
    check("A:b:c:deep", false);
    check("a:b:c:d??p", true);
    check("a:b:c", true);
    check("a:b:e", false);
    check("a:b:d:none", true);
    check("a:b:c:flat", false);
    check("a:b:*", true);
    check("a:n:3", true);
    check("pair:x:y", true);
    check("pair:X:*", true);
    check("pair:y", false);
    check("list:one", true);
    check("list:O*", true);
    check("list:7", true);
    check("list:0:one", true);
    check("list:-1:7", true);
    check("list:9:one", false);
    check("list:k:v", true);
    check("list:k", true);
    check("list:in:side:1", true);
    check("disks:*:size:40g", true);
    check("disks:*:size", true);
    check("disks:*:size:30g", false);
    check("disks:*:ssd", false);
    check("disks:*:tags:ssd", true);
    check("disks:sd?", false);
    check("*:x:y", true);
    check("*:one", true);
    check("*:a", true);
    check("*:zzz", false);
    check("ports:80:http", true);
    check("flag:true", true);
    check("off:False", true);
    check("half:0.5", true);
    check("none:none", true);
    check("empty:*", false);
    check("missing:*", false);
}

#[test]
fn only_the_grains_that_are_looked_at_are_needed() {
    let needs = |tgt: &str, tgt_type| Target::parse(&tgt.into(), tgt_type, DELIMITER).unwrap().needs();
    let keys = |names: &[&str]| Needs::Keys(names.iter().map(ToString::to_string).collect());
    assert_eq!(needs("os:Debian", TgtType::Grain), keys(&["os"]));
    assert_eq!(needs("*:Debian", TgtType::Grain), Needs::All);
    assert_eq!(needs("1:Debian", TgtType::GrainPcre), Needs::All);
    assert_eq!(needs("::1", TgtType::Ipcidr), keys(&["ipv6"]));
    assert_eq!(needs("web* and not L@a,b", TgtType::Compound), Needs::nothing());
    assert_eq!(needs("G@os:x or ( S@10.0.0.1 and P@role:y )", TgtType::Compound), keys(&["ipv4", "os", "role"]));
    assert_eq!(needs("G@os:x or G@*:y", TgtType::Compound), Needs::All);
}

#[test]
fn compound_targets_have_salts_precedence() {
    check("m1 or m2 and m3", "compound", &["m1"]);
    check("( m1 or m2 ) and m2", "compound", &["m2"]);
    check("not m1 and not m2", "compound", &["m3"]);
    check("not ( m1 or m2 )", "compound", &["m3"]);
    check("m* not m2", "compound", &["m1", "m3"]);
    check("not not m2", "compound", &["m2"]);
    check("G|@site|dc|y1 or P@role:R2", "compound", &["m1", "m2"]);
    check("web@dc1 or m3", "compound", &["m3"]);
    let words = Target::parse(&vec!["(", "m1", ")", "or", "m3"].into(), TgtType::Compound, DELIMITER).unwrap();
    assert_eq!(words.matches(Facts { id: "m3", grains: &Map::new() }), Ok(true));
    // Grains that are not known match nothing, so their negation matches.
    let no_grains = Target::parse(&"not G@os:Debian".into(), TgtType::Compound, DELIMITER).unwrap();
    assert_eq!(no_grains.matches(Facts { id: "m1", grains: &Map::new() }), Ok(true));
}

#[test]
fn errors_say_what_and_where() {
    refused("and m1", "compound", r#"compound target, word 1 ("and"): expected a target"#);
    refused("m1 and", "compound", r#"compound target, word 3 ("the end"): expected a target"#);
    refused("m1 m2", "compound", r#"compound target, word 2 ("m2"): expected and, or, or the end"#);
    refused("m1 )", "compound", r#"compound target, word 2 (")"): there is no ( that it closes"#);
    refused("( m1 or m2", "compound", r#"compound target, word 5 ("the end"): expected and, or, or )"#);
    refused("( )", "compound", r#"compound target, word 2 (")"): expected a target"#);
    let unknown = r#"compound target, word 3 ("X@y"): there is no X@; known are E@ G@ I@ J@ L@ N@ P@ S@, and a pattern without a letter"#;
    refused("m1 or X@y", "compound", unknown);
    let grain = r#"compound target, word 1 ("G@os"): "os" is no grain or pillar target: write NAME:PATTERN, os:Debian"#;
    refused("G@os", "compound", grain);
    refused(
        "a",
        "range",
        "targets of type range are not supported: there is no range server to ask; use a list or a nodegroup",
    );
    let known =
        "known are compound, glob, grain, grain_pcre, ipcidr, list, nodegroup, pcre, pillar, pillar_exact, pillar_pcre";
    refused("a", "graim", &format!(r#"there are no targets of type "graim"; {known}"#));
    assert!(who("m(", "pcre", DELIMITER).unwrap_err().starts_with(r#"the regular expression "m(" cannot be used: "#));
    assert!(
        who("role:m(", "grain_pcre", DELIMITER).unwrap_err().starts_with(r#"the regular expression "m(" cannot be"#)
    );
    assert_eq!(who("x:(a:b)", "grain_pcre", DELIMITER), Ok(vec![]));
    refused("os", "grain", r#""os" is no grain or pillar target: write NAME:PATTERN, os:Debian"#);
    refused(&"x".repeat(MAX_EXPRESSION + 1), "pcre", "the target has 65537 bytes; an expression has at most 65536");
    refused("web", "nodegroup", "nodegroups are named by the master's configuration and mean nothing here");
    let nested = format!("{}m1{}", "( ".repeat(65), " )".repeat(65));
    refused(&nested, "compound", r#"compound target, word 65 ("("): parentheses nest more than 64 levels"#);
}

#[test]
fn grains_that_are_made_to_be_slow_are_given_up() {
    let grains = map! { "a" => Value::List(vec![Value::from("x".repeat(1 << 16)); 10]) };
    let target = Target::parse(&format!("a:{}", "*y".repeat(10)).into(), TgtType::Grain, DELIMITER).unwrap();
    assert_eq!(target.matches(Facts { id: "m", grains: &grains }), Ok(false));
    let grains = map! { "a" => Value::List(vec![Value::from("x".repeat(1 << 16)); 1_000]) };
    assert_eq!(target.matches(Facts { id: "m", grains: &grains }), Err(TooHard));
    let mut nested = map! { "k" => "v" };
    for _ in 0..40 {
        nested = map! { "k" => nested, "l" => "w" };
    }
    let stars = Target::parse(&format!("{}x", "*:".repeat(60)).into(), TgtType::Grain, DELIMITER).unwrap();
    let answer = stars.matches(Facts { id: "m", grains: &nested });
    assert_ne!(answer, Ok(true));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c*:]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec(("[a-c*:]{0,3}".prop_map(Value::from), inner), 0..4)
                .prop_map(|pairs| Value::Map(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_gives_a_target_or_an_error(text in ".{0,40}", kind in 0..TYPES.len(), delimiter in ".{0,2}") {
        if let Ok(target) = Target::parse(&text.into(), TYPES[kind], &delimiter) {
            let _ = (target.needs(), target.matches(Facts { id: "web1", grains: &Map::new() }));
        }
    }

    #[test]
    fn any_words_give_a_target_or_an_error(words in "((and|or|not|\\(|\\)|m1|G@a:b|G\\|@a|S@::1|E@x|N@w|L@|é@x|@) ){0,12}") {
        let _ = Target::parse(&words.into(), TgtType::Compound, DELIMITER);
    }

    #[test]
    fn the_needed_grains_are_enough(grains in value(), text in "[a-c*]{0,2}(:[a-c*]{0,2}){1,4}") {
        let target = Target::parse(&text.into(), TgtType::Grain, DELIMITER).unwrap();
        let Value::Map(grains) = grains else { return Ok(()) };
        let all = target.matches(Facts { id: "m", grains: &grains });
        if let Needs::Keys(keys) = target.needs() {
            let some: Map = grains.into_iter().filter(|(key, _)| keys.contains(key.as_str().unwrap_or("-"))).collect();
            prop_assert_eq!(target.matches(Facts { id: "m", grains: &some }), all);
        }
    }
}

#[test]
fn an_id_alone_rules_a_minion_out_or_leaves_it_open() {
    let check = |tgt: &str, tgt_type, expected: bool| {
        let target = Target::parse(&tgt.into(), tgt_type, DELIMITER).unwrap();
        assert_eq!(target.may_match("web1"), Ok(expected), "{tgt}");
    };
    check("web*", TgtType::Glob, true);
    check("db*", TgtType::Glob, false);
    check("db1,web1", TgtType::List, true);
    check("db.*", TgtType::Pcre, false);
    for (tgt, tgt_type) in [
        ("os:Debian", TgtType::Grain),
        ("os:Debian", TgtType::GrainPcre),
        ("10.0.0.0/8", TgtType::Ipcidr),
        ("role:web", TgtType::Pillar),
    ] {
        check(tgt, tgt_type, true);
    }
    check("db* and G@os:Debian", TgtType::Compound, false);
    check("G@os:Debian and not web*", TgtType::Compound, false);
    check("G@os:Debian and not db*", TgtType::Compound, true);
    check("not G@os:Debian", TgtType::Compound, true);
    check("not ( G@os:Debian or web* )", TgtType::Compound, false);
    check("db* or I@role:web", TgtType::Compound, true);
    check("web* or I@role:web", TgtType::Compound, true);
}
