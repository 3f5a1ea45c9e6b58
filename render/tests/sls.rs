//! The recorded reactor files and the seeds' files, as printed.

use std::sync::Arc;

use halite_render::jinja::{Functions, Repairs};
use halite_render::sls::{Context, RenderError, render_sls};
use halite_render::yaml::{self, Source, Warning};
use proto::value::{Map, Value};

struct Echo;

impl Functions for Echo {
    fn call(&self, name: &str, args: Vec<Value>, _: Map) -> Result<Value, String> {
        match (name, args.into_iter().next()) {
            ("test.echo", Some(value)) => Ok(value),
            (name, _) => Err(format!("'{name}' is not available")),
        }
    }
}

fn json(text: &str) -> Value {
    Value::from_json(&serde_json::from_str(text).expect("a test holds JSON"))
}

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

fn context(tag: &str, data: &str) -> Context {
    Context {
        tag: Some(tag.to_owned()),
        data: Some(json(data)),
        opts: Some(json(r#"{"id": "lab_master"}"#)),
        grains: Some(json(r#"{"os": "Debian"}"#)),
        functions: Some(Arc::new(Echo)),
        ..Context::default()
    }
}

fn render(path: &str, tag: &str, data: &str, repairs: Repairs) -> Result<(Value, Vec<Warning>), RenderError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    render_sls(&file(path), name, &context(tag, data), repairs)
}

fn check(path: &str, tag: &str, data: &str, expected: &str) {
    let (value, warnings) = render(path, tag, data, Repairs::Off).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(value, json(expected), "{path}");
    assert_eq!(warnings, [], "{path}");
}

fn refused(path: &str, data: &str, expected: &str) {
    let error = render(path, "lab/x", data, Repairs::On).expect_err(path);
    assert_eq!(error.to_string(), expected, "{path}");
}

const SH: &str = r#"{"id": "m1", "user": "root", "cmd": "/usr/bin/ls", "args": ["ls", "-l"]}"#;
const SH_RENDERED: &str = r#"{"Send sh to Slack": {"local.slack.post_message": [{"tgt": "m1"}, {"kwarg": {
    "channel": "[Slack Channel Name]", "api_key": "[Slack API Key]",
    "message": "m1 : user root ran command /usr/bin/ls with arguments ['ls', '-l'].", "from_name": "Sh Bot"}}]}}"#;
const DOWN: &str =
    r#"{"host": "edge1", "yang_message": {"interfaces": {"interface": {"ge-0/0/1": {"state": "down"}}}}}"#;

#[test]
fn seed_sh_sls_works_as_printed() {
    let (value, warnings) =
        render("seeds/printed-sh.sls", "salt/beacon/m1/sh/42", SH, Repairs::On).expect("it renders");
    assert_eq!(value, json(SH_RENDERED));
    let lines: Vec<usize> = warnings.iter().map(|warning| warning.line).collect();
    // The page is printed with no-break spaces, which a copy of it has too.
    assert_eq!(lines, [2, 7, 8]);
    assert_eq!(
        warnings[2].to_string(),
        "printed-sh.sls:8: this key is indented less than its siblings; write it as:          from_name: \"Sh Bot\""
    );
    // Without repairs it is as wrong as to Salt.
    let error = render("seeds/sh_printed.sls", "t", SH, Repairs::Off).expect_err("it is not YAML");
    assert_eq!(error.place(), ("sh_printed.sls", 7));
    let (value, warnings) = render("seeds/sh_printed.sls", "t", SH, Repairs::On).expect("it renders");
    assert_eq!((value, warnings.len()), (json(SH_RENDERED), 2));
    check("seeds/sh.sls", "t", SH, SH_RENDERED);
}

#[test]
fn seed_reactor_conf_works_as_printed() {
    // The page is printed with no-break spaces, which a copy of it has too.
    let printed = file("seeds/printed-reactor.conf");
    let (text, respaced) = yaml::plain_spaces(&printed, "reactor.conf");
    assert_eq!(respaced.expect("it has them").line, 3);
    let (value, marks) = yaml::load_marked(&text, &Source { name: "reactor.conf" }).expect("it is YAML");
    let reactor = value.get("reactor").expect("it has reactors");
    let (entries, warnings) = yaml::pair_reactor(reactor, "reactor.conf", &marks).expect("it pairs up");
    assert_eq!(entries[0].tag, "salt/beacon/*/sh/*");
    assert_eq!(entries[0].paths, ["/srv/reactor/sh.sls"]);
    assert_eq!((entries.len(), warnings.len(), warnings[0].line), (1, 1, 3));
}

#[test]
fn recorded_reactor_confs_need_no_repair() {
    for (path, count) in [("reactor/reactor.conf", 22), ("reactor/extra-reactor.conf", 7), ("seeds/reactor.conf", 7)] {
        let (value, marks) = yaml::load_marked(&file(path), &Source { name: path }).expect("it is YAML");
        let paired = yaml::pair_reactor(value.get("reactor").expect("reactors"), path, &marks).expect("it pairs up");
        assert_eq!((paired.0.len(), paired.1.len()), (count, 0), "{path}");
    }
}

#[test]
fn seed_if_down_shutdown_works_as_printed() {
    let (value, warnings) = render("seeds/printed-if_down_shutdown.sls", "t", DOWN, Repairs::On).expect("it renders");
    let expected = r#"{"shutdown_interface": {"runner.proxy.execute": [{"tgt": "edge1"}, {"function": "net.load_template"},
        {"kwarg": {"template_name": "salt://templates/shut_interface.jinja", "interface_name": "ge-0/0/1"}}]}}"#;
    assert_eq!(value, json(expected));
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["printed-if_down_shutdown.sls:7: keys() cannot be indexed; write it as: interface_name: \
          {{ (data.yang_message.interfaces.interface.keys() | list)[0] }}"]
    );
    let error = render("seeds/if_printed.sls", "t", DOWN, Repairs::Off).expect_err("Salt refuses it");
    assert_eq!(error.to_string(), "Jinja variable dict_keys object has no element 0; line 7 (if_printed.sls)");
    let fixed = r#"{"shutdown_interface": {"runner.proxy.execute": [{"tgt": "edge1"}, {"function": "test.arg"},
        {"kwarg": {"template_name": "salt://templates/shut_interface.jinja", "interface_name": "ge-0/0/1"}}]}}"#;
    check("seeds/if_py3.sls", "t", DOWN, fixed);
}

#[test]
fn recorded_files_render_as_recorded() {
    let base = "reactor/sls/";
    let check =
        |name: &str, tag: &str, data: &str, expected: &str| check(&format!("{base}{name}"), tag, data, expected);
    let m1 = r#"{"id": "m1"}"#;
    check(
        "local_new.sls",
        "t",
        m1,
        r#"{"new_style": {"local.test.arg": [{"tgt": "m1"}, {"args": [{"first": 1}, {"second": "two"}]}]}}"#,
    );
    check("local_cmd.sls", "t", m1, r#"{"cmd_style": {"cmd.test.arg": [{"tgt": "m1"}, {"arg": ["a"]}]}}"#);
    check("glob/g1.sls", "t", m1, r#"{"g1": {"local.test.arg": [{"tgt": "m1"}, {"arg": ["glob1"]}]}}"#);
    check("multi2.sls", "t", m1, r#"{"m2": {"local.test.arg": [{"tgt": "m1"}, {"arg": ["multi2"]}]}}"#);
    check("caller.sls", "t", m1, r#"{"c1": {"caller.test.arg": [{"args": [{"a": 1}]}]}}"#);
    check(
        "wheel.sls",
        "t",
        m1,
        r#"{"w1": {"wheel.key.list": [{"args": [{"match": "all"}]}]}, "w2": {"wheel.key.finger": [{"match": "m1"}]}}"#,
    );
    check("err_notgt.sls", "t", m1, r#"{"e": {"local.test.ping": []}}"#);
    check(
        "local_old.sls",
        "lab/local/old",
        m1,
        r#"{"old_style": {"local.test.arg": [{"tgt": "m*"}, {"tgt_type": "glob"}, {"arg": ["pos1", 2]}, {"kwarg": {"k": "v"}}, {"ret": ""}]},
        "list_target": {"local.test.arg": [{"tgt": ["m1", "m2"]}, {"tgt_type": "list"}, {"arg": ["lab/local/old"]}]},
        "pillar_state": {"local.state.single": [{"tgt": "m1"}, {"args": [{"fun": "test.nop"}, {"name": "x"}]}]}}"#,
    );
    check("salt-runner.sls", "lab/runner/flat", m1, r#"{"r_flat": {"runner.test.arg": [{"foo": "bar"}, {"zed": 2}]}}"#);
    check("salt-runner.sls", "lab/runner/x", m1, r#"{"r_stdout": {"runner.test.stdout_print": []}}"#);
    check(
        "orch.sls",
        "t",
        r#"{"z": 1, "a": [true, null]}"#,
        r#"{"o": {"runner.state.orchestrate": [{"args": [{"mods": "orch.x"}, {"pillar": {"ev": {"a": [true, null], "z": 1}}}]}]}}"#,
    );
    check(
        "jinja.sls",
        "lab/jinja",
        r#"{"id": "m1", "data": {"go": true}}"#,
        r#"{"j1": {"local.test.arg": [{"tgt": "m1"}, {"arg": ["lab/jinja", "1-2",
        "{\"data\": {\"go\": true}, \"id\": \"m1\"}", "via-salt", "lab_master", "Debian", "nopillar", "noenv"]}]}}"#,
    );
    check(
        "sh_fixed.sls",
        "t",
        r#"{"data": {"id": "m1", "user": "root"}}"#,
        r##"{"Send sh to Slack": {"local.slack.post_message": [{"tgt": "m1"}, {"kwarg": {"channel": "#x",
        "message": "m1 : user root", "from_name": "Sh Bot", "api_key": "k"}}]}}"##,
    );
}

#[test]
fn recorded_failures_fail_in_salts_words() {
    let m1 = r#"{"id": "m1"}"#;
    refused(
        "reactor/sls/err_jinja.sls",
        m1,
        "Jinja variable 'dict object' has no attribute 'nope'; line 3 (err_jinja.sls)",
    );
    refused("reactor/sls/sh.sls", m1, "Jinja variable 'dict object' has no attribute 'user'; line 7 (sh.sls)");
    refused(
        "reactor/sls/err_dup.sls",
        m1,
        "err_dup.sls:4:1: found conflicting ID 'e': first on line 1, again on line 4",
    );
    refused(
        "reactor/sls/err_yaml.sls",
        m1,
        "err_yaml.sls:4:5: while parsing a block mapping, did not find expected key",
    );
    refused("reactor/sls/pyr.sls", m1, "pyr.sls:1: the renderer 'py' is not supported; known are jinja and yaml");
}

#[test]
fn the_first_line_chooses_the_renderers() {
    let run = |text: &str| render_sls(text, "x.sls", &context("t", "{}"), Repairs::Off).expect("it renders").0;
    assert_eq!(run("#!yaml\na: '{{ tag }}'\n"), json(r#"{"a": "{{ tag }}"}"#));
    assert_eq!(run("#!jinja|yaml\na: {{ tag }}\n"), json(r#"{"a": "t"}"#));
    assert_eq!(run("#!jinja | yaml\na: {{ tag }}\n"), json(r#"{"a": "t"}"#));
    assert_eq!(run("a: {{ tag }}\n"), json(r#"{"a": "t"}"#));
    assert_eq!(run(""), Value::Null);
}
