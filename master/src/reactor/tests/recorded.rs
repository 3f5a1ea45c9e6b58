//! What was recorded on Salt 3008, replayed here; and the seeds' files as they are printed.

use super::*;

const LAB: &str = include_str!("../testdata/lab.conf");
const RECORDED: &str = include_str!("../testdata/recorded.jsonl");
const SEEDS_CONF: &str = include_str!("../testdata/seeds/recorded/reactor.conf");
const SEEDS: &str = include_str!("../testdata/seeds.jsonl");

fn lab() -> String {
    LAB.replace("/opt/salt-lab/labR/srv/reactor", &format!("{DATA}/sls"))
}

fn job_json(job: PublishRequest) -> serde_json::Value {
    let tgt_type = job.target.tgt_type.as_str();
    Value::from(map! { "tgt" => job.target.tgt, "tgt_type" => tgt_type, "fun" => job.fun, "arg" => job.arg }).to_json()
}

fn run_json(fun: &str, arg: Vec<Value>, kwarg: Map) -> serde_json::Value {
    let args = crate::runners::Args { arg, kwarg };
    Value::from(map! { "fun" => format!("runner.{fun}"), "fun_args" => args.as_fun_args() }).to_json()
}

/// Takes out the only thing that differs from the recorded host.
fn without_os(text: String) -> String {
    let os = grains::read(&Map::new()).text("os").unwrap_or_default().to_owned();
    text.replace(&format!("\"{os}\""), "\"Debian\"")
}

/// Builds what an event sets off, whether this master has the functions or not.
fn built(conf: &str, tag: &str, data: &Map) -> Vec<Command> {
    let loaded = Loaded::new(config(Path::new("/nonexistent"), conf), Vec::new());
    let tag = Tag::parse(tag).unwrap();
    let mut files = Files::default();
    let mut high = high::High::new();
    for step in loaded.rules.matching(tag.as_str()).flat_map(|rule| rule.steps()) {
        high.extend(files.render(&loaded, &step.path, &tag, data).high);
    }
    let chunks = high::compile(&high).unwrap_or_default();
    chunks.iter().filter_map(|chunk| reactions::build(chunk, "").ok()).map(|reaction| reaction.command).collect()
}

/// Replays what was recorded: each event, and the jobs and runs that followed. `differs` are the tags that lead to more
/// or other things here, on purpose.
fn replay(conf: &str, recorded: &str, differs: &[&str]) {
    for line in recorded.lines() {
        let recorded: serde_json::Value = serde_json::from_str(line).unwrap();
        let tag = recorded["tag"].as_str().unwrap();
        let Value::Map(data) = Value::from_json(&recorded["data"]) else { panic!("a map") };
        let (mut jobs, mut runs) = (Vec::new(), Vec::new());
        for command in built(conf, tag, &data) {
            match command {
                Command::Publish(job) => jobs.push(job_json(job)),
                // Not recorded: Salt refuses it before it says anything.
                Command::Run { fun, .. } if fun == "nosuch.fn" => {}
                Command::Run { fun, arg, kwarg, .. } => runs.push(run_json(&fun, arg, kwarg)),
                _ => {}
            }
        }
        let here = (without_os(serde_json::to_string(&jobs).unwrap()), serde_json::to_string(&runs).unwrap());
        let there = (recorded["jobs"].to_string(), recorded["runs"].to_string());
        assert_eq!(here == there, !differs.contains(&tag), "{tag}:\n{here:?}\n{there:?}");
    }
}

#[test]
fn every_recorded_file_does_what_it_did_there() {
    // Python is not run here.
    replay(&lab(), RECORDED, &["lab/py"]);
}

#[test]
fn every_recorded_file_of_the_seeds_does_what_it_did_there() {
    // The printed files are mended here. In the flat form Salt loses `function`, which is one of its own names.
    let differs =
        ["printed/beacon/sh", "napalm/syslog/junos/INTERFACE_DOWN/printed", "napalm/syslog/junos/INTERFACE_DOWN/py3"];
    let conf = SEEDS_CONF.replace("/opt/salt-lab/lab/srv/reactor", &format!("{DATA}/seeds/recorded"));
    replay(&conf, SEEDS, &differs);
}

#[test]
fn wheel_reactions_change_keys_and_other_types_are_refused() {
    let commands = planned(&lab(), "lab/wheel", &Map::new()).0;
    let wheel = |fun: &str, value: &str| Command::Wheel {
        fun: fun.into(),
        arg: Vec::new(),
        kwarg: map! { "match" => value },
        jid: None,
    };
    assert_eq!(commands, [wheel("key.list", "all"), wheel("key.finger", "m1")]);
    let check = |tag: &str, expected: &str| {
        let (commands, plan) = planned(&lab(), tag, &map! { "id" => "m1" });
        assert_eq!(commands, []);
        assert!(plan.faults[0].error.contains(expected), "{tag}: {:?}", plan.faults);
    };
    check("lab/caller", "Reactor 'c1' failed to execute caller 'test.arg': not supported in this version");
    check("lab/py", "the renderer 'py' is not supported");
    check("lab/err/jinja", "Failed to render");
    check("lab/err/yaml", "Failed to render");
    check("lab/err/dup", "Failed to render");
    check("lab/err/notgt", "Reactor 'e' failed to execute local 'test.ping'");
    check("lab/err/type", "ReactWrap is missing a wrapper function for 'bogus'");
    check("lab/err/norunner", "Reactor 'e' failed to execute runner 'nosuch.fn': function not available");
    check("lab/orch", "Reactor 'o' failed to execute runner 'state.orchestrate': function not available");
    check("lab/err/nofile", "File missing or not found.");
}

#[test]
fn one_wrong_declaration_drops_the_list_and_one_wrong_file_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("good.sls", "a:\n  local.test.ping:\n    - tgt: m1\n");
    write("empty.sls", "b:\n  local:\n    - tgt: m1\n");
    write("wrong.sls", "c: [\n");
    let dir = folder.path().display();
    let conf = format!(
        "reactor:\n  - high: ['{dir}/good.sls', '{dir}/empty.sls']\n  - file: ['{dir}/wrong.sls', '{dir}/good.sls']\n"
    );
    let (commands, plan) = planned(&conf, "high", &Map::new());
    assert_eq!(commands, []);
    let expected = format!(
        "Unable to render reactions for event high due to errors ([\"No function declared in state 'b' in SLS \
         '{dir}/empty.sls'\"]) in one or more of the sls files (['{dir}/good.sls', '{dir}/empty.sls'])"
    );
    assert_eq!(plan.faults[0].error, expected);
    let (commands, plan) = planned(&conf, "file", &Map::new());
    assert_eq!((commands.len(), plan.faults.len()), (1, 1));
}

/// Seed 004: `reactor.conf` and `sh.sls` as they are printed.
#[test]
fn the_printed_sh_reactor_tells_slack() {
    // The page has non-breaking spaces; those of the configuration are not the reactor's to mend.
    let conf = &include_str!("../testdata/seeds/004/reactor.conf").replace('\u{a0}', " ");
    let (entries, warnings) = rules(conf);
    assert_eq!((entries.len(), warnings.len()), (1, 1));
    let conf = conf.replace("/srv/reactor", &format!("{DATA}/seeds/004"));
    let data = map! { "id" => "m1", "user" => "root", "cmd" => "/usr/bin/ls",
    "args" => vec!["ls", "-l"], "_stamp" => "2026-11-21T00:46:34.646402+00:00" };
    let (mut commands, plan) = planned(&conf, "salt/beacon/m1/sh/42", &data);
    assert_eq!(plan.faults, []);
    // The key that is indented less, and the non-breaking spaces.
    assert_eq!(plan.warnings.len(), 3, "{:?}", plan.warnings);
    let Command::Publish(job) = commands.remove(0) else { panic!("a job") };
    let expected = json(
        r#"{"tgt":"m1","tgt_type":"glob","fun":"slack.post_message","arg":[{"__kwarg__":true,
        "channel":"[Slack Channel Name]","api_key":"[Slack API Key]",
        "message":"m1 : user root ran command /usr/bin/ls with arguments ['ls', '-l'].","from_name":"Sh Bot"}]}"#,
    );
    assert_eq!(job_json(job).to_string(), expected.to_json().to_string());
    assert_eq!(commands, []);
}

/// Seed 000: `if_down_shutdown.sls` as it is printed.
#[test]
fn the_printed_interface_reactor_runs_on_the_device() {
    let conf = include_str!("../testdata/seeds/000/reactor.conf");
    let Value::Map(data) =
        json(r#"{"host":"router1","yang_message":{"interfaces":{"interface":{"xe-0/0/1":{"state":"down"}}}}}"#)
    else {
        panic!("a map")
    };
    // The option is printed four spaces deep, as it stands in the document.
    let (mut commands, plan) = planned(conf, "napalm/syslog/junos/INTERFACE_DOWN/router1", &data);
    assert_eq!(plan.faults, []);
    assert_eq!(plan.warnings.len(), 1);
    let kwarg = map! { "tgt" => "router1", "function" => "net.load_template",
    "template_name" => "salt://templates/shut_interface.jinja", "interface_name" => "xe-0/0/1" };
    assert_eq!(commands.remove(0), Command::Run { fun: "proxy.execute".into(), arg: Vec::new(), kwarg, jid: None });
}

#[test]
fn the_other_forms_of_the_interface_reactor_mean_the_same() {
    let check = |file: &str, arg: &str, kwarg: &str| {
        let conf = format!("reactor: [{{x: '{DATA}/sls/{file}.sls'}}]");
        let Value::Map(data) = json(r#"{"host":"r1","yang_message":{"interfaces":{"interface":{"xe0":{}}}}}"#) else {
            panic!("a map")
        };
        let expected = match (json(arg), json(kwarg)) {
            (Value::List(arg), Value::Map(kwarg)) => {
                Command::Run { fun: "proxy.execute".into(), arg, kwarg, jid: None }
            }
            _ => panic!("a list and a map"),
        };
        assert_eq!(planned(&conf, "x", &data).0, [expected], "{file}");
    };
    let template = "salt://templates/shut_interface.jinja";
    check(
        "if_args",
        "[]",
        &format!(
            r#"{{"tgt":"r1","salt_function":"test.arg","template_name":"{template}","interface_name":"xe0","events":true}}"#
        ),
    );
    check("if_argslist", "[]", r#"{"tgt":"r1","salt_function":"test.arg","interface_name":"xe0","events":true}"#);
    check("if_arg", r#"["r1","test.arg"]"#, r#"{"interface_name":"xe0","events":true}"#);
    check(
        "if_py3",
        "[]",
        &format!(r#"{{"tgt":"r1","function":"test.arg","template_name":"{template}","interface_name":"xe0"}}"#),
    );
}
