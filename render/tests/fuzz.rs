//! Kept documents and templates, changed a little: whatever becomes of them has an answer, and the laws hold.
//!
//! Event data ends up inside of SLS files before they are read as YAML, so both parsers see what a minion has chosen.
//! How long an answer may take is bounded by the limits of steps, nodes and depth, which these inputs reach.

use std::path::Path;

use halite_render::{jinja, yaml};
use proptest::prelude::*;
use proto::value::Value;

/// Inputs for each law, with every `cargo test`.
const CASES: u32 = 400;
/// Line breaks to PyYAML alone: it writes them inside of quotes, and reads a blank or a line feed for them.
const OTHER_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
/// Longer ones only take longer.
const MAX_SEED: usize = 2_000;

/// Returns what the corpus and the reactor's examples hold.
fn kept() -> Vec<String> {
    let corpus = include_str!("data/corpus.txt").split("%%% ").filter_map(|part| part.split_once('\n'));
    let mut kept: Vec<String> = corpus.map(|(_, text)| text.to_owned()).collect();
    for folder in ["tests/data/seeds", "tests/data/reactor/sls"] {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("a folder of seeds");
        let mut paths: Vec<_> =
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
        paths.sort();
        kept.extend(paths.iter().map(|path| std::fs::read_to_string(path).expect("a seed")));
    }
    kept.retain(|text| text.len() <= MAX_SEED);
    assert!(kept.len() > 100, "the seeds are where they were");
    kept
}

/// The beginning of one, the end of another, and some characters replaced by such as mean something.
fn changed() -> impl Strategy<Value = String> {
    let telling = prop::sample::select(
        "{}[]()<>|&*!%@`'\"#:,?-=~.\\\n\t \0\u{85}\u{feff}\u{1f9c2}e0_".chars().collect::<Vec<_>>(),
    );
    let edits = prop::collection::vec((any::<prop::sample::Index>(), telling), 0..4);
    let one = || prop::sample::select(kept());
    let cut = any::<prop::sample::Index>;
    (one(), one(), cut(), cut(), any::<bool>(), edits).prop_map(|(head, tail, at, from, whole, edits)| {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let (mut text, tail) = (chars(&head), chars(&tail));
        if !whole {
            text.truncate(at.index(text.len() + 1));
            text.extend(&tail[from.index(tail.len() + 1)..]);
        }
        let len = text.len();
        edits.into_iter().filter(|_| len > 0).for_each(|(at, c)| text[at.index(len)] = c);
        text.into_iter().collect()
    })
}

fn read(text: &str) -> Result<Value, String> {
    yaml::load(text, &yaml::Source { name: "t" }).map_err(|error| error.to_string())
}

fn context() -> jinja::Context {
    let json = r#"{"data": {"id": "web1", "n": 3, "args": ["ls", "-l"], "empty": null}, "tag": "lab/x"}"#;
    let Value::Map(vars) = Value::from_json(&serde_json::from_str(json).expect("JSON")) else { unreachable!("a map") };
    jinja::Context { vars, ..jinja::Context::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_written_as_it_can_be_read_again(text in changed()) {
        let value = read(&text);
        let marked = yaml::load_marked(&text, &yaml::Source { name: "t" }).map_err(|error| error.to_string());
        prop_assert_eq!(marked.map(|(value, _)| value), value.clone());
        let _ = yaml::load_with_repairs(&text, "t");
        if let Ok(value) = value {
            let written = yaml::dump(&value);
            if !written.contains(OTHER_BREAKS) {
                prop_assert_eq!(read(&written), Ok(value), "written as {}", written);
            }
        }
    }

    #[test]
    fn a_template_has_one_answer_within_its_bounds(text in changed()) {
        let answer = || jinja::render(&text, "t", &context()).map(|rendered| rendered.text).map_err(|error| error.to_string());
        let once = answer();
        prop_assert!(once.as_ref().map_or(0, String::len) <= jinja::MAX_OUTPUT_BYTES);
        if !["random", "uuid", "now", "salt"].iter().any(|word| text.contains(word)) {
            prop_assert_eq!(answer(), once);
        }
    }
}
