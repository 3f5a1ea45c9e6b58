//! The corpus against the real PyYAML and Jinja2. Runs where `HALITE_PEERS` names a virtualenv that has both.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use halite_render::{jinja, python, yaml};
use proto::value::Value;

/// What the templates of the corpus see.
const CONTEXT: &str = r#"{"data": {"id": "web1.example", "n": 3, "f": 2.50, "args": ["ls", "-l"], "empty": null,
    "flag": true, "nested": {"deep": {"x": "y"}}}, "tag": "lab/x"}"#;

#[test]
fn the_corpus_reads_as_in_python() {
    let Some(peers) = std::env::var_os("HALITE_PEERS") else {
        // Past the capture that keeps the output of a passing test to itself.
        let line = "skipped: the corpus: HALITE_PEERS names no virtualenv with pyyaml and jinja2\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    };
    let corpus = include_str!("data/corpus.txt");
    let snippets: Vec<(&str, &str)> = corpus.split("%%% ").filter_map(|part| part.split_once('\n')).collect();
    let expected = ask(&Path::new(&peers).join("bin/python"), &snippets);
    assert_eq!(expected.len(), snippets.len());
    let mut wrong = Vec::new();
    for ((kind, text), expected) in snippets.iter().zip(&expected) {
        let agrees = match (answer(kind, text), expected.as_str()) {
            (Ok(ours), Some(theirs)) if ours == theirs => continue,
            (Err(_), None) => continue,
            (ours, _) => ours,
        };
        wrong.push(format!("--- {kind}\n{text}ours:   {agrees:?}\ntheirs: {expected}"));
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), snippets.len(), wrong.join("\n"));
}

fn ask(python: &Path, snippets: &[(&str, &str)]) -> Vec<serde_json::Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/peer.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python runs");
    let request = serde_json::json!({ "context": CONTEXT, "snippets": snippets });
    child.stdin.take().expect("a pipe").write_all(request.to_string().as_bytes()).expect("python reads");
    let output = child.wait_with_output().expect("python ends");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("python answers JSON")
}

fn answer(kind: &str, text: &str) -> Result<String, String> {
    match kind {
        "yaml" => yaml::load(text, &yaml::Source { name: "corpus" })
            .map(|value| python::repr(&value))
            .map_err(|error| error.to_string()),
        "dump" => Ok(yaml::dump(&json(text))),
        _ => {
            let Value::Map(vars) = json(CONTEXT) else { unreachable!("the context is a map") };
            let context = jinja::Context { vars, ..jinja::Context::default() };
            jinja::render(text, "corpus", &context).map(|rendered| rendered.text).map_err(|error| error.to_string())
        }
    }
}

fn json(text: &str) -> Value {
    Value::from_json(&serde_json::from_str(text).expect("the corpus holds JSON"))
}
