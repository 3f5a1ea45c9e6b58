//! Names and patterns: tags, globs, targets, ids, keys.

use halite_proto::ids::{Jid, MinionId};
use halite_proto::keys::PublicKey;
use halite_proto::map;
use halite_proto::tag::Tag;
use halite_proto::target::{DELIMITER, Facts, Needs, Target, TgtType, glob::Glob};
use halite_proto::value::Value;

/// The matcher's answer grows with pattern times text; beyond this an input only costs time.
const MAX_TEXT: usize = 4096;
/// The plain matcher below tries every way.
const MAX_PLAIN: usize = 12;

/// All types that can be read without the master's configuration.
const TYPES: [TgtType; 7] = [
    TgtType::Compound,
    TgtType::Glob,
    TgtType::Grain,
    TgtType::GrainPcre,
    TgtType::Ipcidr,
    TgtType::List,
    TgtType::Pcre,
];

/// Splits an input at its first line end.
fn halves(data: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(data).ok().filter(|text| text.len() <= MAX_TEXT)?;
    text.split_once('\n')
}

/// A pattern and a text: a pattern without specials matches itself alone, and one of `*` and `?` matches what a matcher
/// that tries every way says.
pub(super) fn glob(data: &[u8]) {
    let Some((pattern, text)) = halves(data) else { return };
    let glob = Glob::new(pattern);
    let matched = glob.matches(text);
    assert_eq!(glob.as_str(), pattern);
    assert!(!matched || text.starts_with(&glob.literal_prefix()), "a match begins with the literal prefix");
    if pattern.contains('[') {
        return;
    }
    if !pattern.contains(['*', '?']) {
        assert_eq!(matched, pattern == text);
    } else if pattern.chars().count() <= MAX_PLAIN && text.chars().count() <= MAX_PLAIN {
        let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        assert_eq!(matched, matches_plainly(&pattern, &text));
    }
}

fn matches_plainly(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=text.len()).any(|at| matches_plainly(rest, &text[at..])),
        (['?', rest @ ..], [_, left @ ..]) => matches_plainly(rest, left),
        ([c, rest @ ..], [d, left @ ..]) => c == d && matches_plainly(rest, left),
        _ => false,
    }
}

/// A public key in PEM, an id and a jid: what is read is written as it can be read again.
pub(super) fn keys(data: &[u8]) {
    if let Ok(id) = MinionId::parse_bytes(data) {
        assert!(!id.as_str().contains(['/', '\\', '\0']) && !id.as_str().starts_with('.'), "{id}");
        assert!((1..=253).contains(&id.as_str().len()));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(jid) = Jid::parse(text) {
        assert_eq!(jid.as_str(), text);
        let _ = jid.start_time();
    }
    if let Ok(key) = PublicKey::from_pem(text) {
        assert_eq!(PublicKey::from_pem(&key.to_pem()).expect("our own PEM"), key);
    }
}

/// A tag: what a minion may fire is never another minion's, and never the master's own.
pub(super) fn tag(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(tag) = Tag::parse(text) else { return };
    assert_eq!(tag.as_str(), text);
    let id = MinionId::parse("web1").expect("an id");
    let allowed = tag.allowed_from(&id);
    let mut parts = text.split('/');
    let (first, rest): (_, Vec<&str>) = (parts.next(), parts.collect());
    match first {
        Some("halite" | "syndic") => assert!(!allowed, "{text}"),
        Some("salt") if rest.first() != Some(&"engines") => assert!(!allowed || rest.contains(&"web1"), "{text}"),
        _ => {}
    }
    assert!(!allowed || Jid::parse(text).is_err(), "a jid is nobody's tag");
}

/// A target of each type, and a minion: a list matches what it lists, and what a target says it does not need to see
/// changes nothing.
pub(super) fn target(data: &[u8]) {
    let Some((tgt, id)) = halves(data) else { return };
    let grains = map! { "os" => "Debian", "ipv4" => vec!["10.0.0.7"], "cpus" => 2, "deep" => map! { "role" => "web" } };
    for tgt_type in TYPES {
        assert_eq!(TgtType::parse(tgt_type.name()), Ok(tgt_type));
        let Ok(target) = Target::parse(&Value::from(tgt), tgt_type, DELIMITER) else { continue };
        let matched = target.matches(Facts { id, grains: &grains });
        if let Target::List(ids) = &target {
            assert_eq!(matched, Ok(ids.iter().any(|listed| listed == id)));
        }
        if let Needs::Keys(keys) = target.needs() {
            let mut seen = grains.clone();
            seen.retain(|name, _| name.as_str().is_some_and(|name| keys.contains(name)));
            assert_eq!(target.matches(Facts { id, grains: &seen }), matched, "{tgt_type:?} needs {keys:?}");
        }
    }
}
