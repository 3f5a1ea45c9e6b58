//! Whole pillars, compared with those that a real Salt 3008.5 makes of the same files (`testdata/record.py` recorded them), and
//! what only we promise: limits, and that no minion ever sees what is another's.

use std::path::Path;
use std::sync::Arc;

use proto::map;
use proto::value::{Map, MapExt, Value};

use super::compile::ERRORS;
use super::*;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pillar/testdata");

/// A site on the disk: pillar files, and the configuration that reads them.
struct Site {
    _folder: tempfile::TempDir,
    config: PillarConfig,
}

fn site(files: &Map, options: &Map) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let pillar = folder.path().join("pillar");
    let mut envs = Map::new();
    for (path, text) in files {
        let path = path.as_str().unwrap();
        let target = pillar.join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, text.as_str().unwrap()).unwrap();
        let env = path.split('/').next().unwrap();
        envs.set(env, vec![pillar.join(env).display().to_string()]);
    }
    let mut options = options.clone();
    if options.take("any_env").is_some() {
        envs = map! { "base" => envs.at("base").cloned(), "__env__" => vec![pillar.join("__env__").display().to_string()] };
    }
    options.set("pillar_roots", envs);
    let conf = folder.path().join("etc");
    std::fs::create_dir_all(&conf).unwrap();
    std::fs::write(conf.join("master"), render::yaml::dump(&options.into())).unwrap();
    let config = crate::config::load(&conf).unwrap().requests.pillar;
    Site { _folder: folder, config }
}

fn request(id: &str, grains: Map) -> PillarRequest {
    PillarRequest { id: MinionId::parse(id).unwrap(), grains, saltenv: None, pillarenv: None, given: Map::new() }
}

fn compile(config: &PillarConfig, request: PillarRequest) -> Map {
    Compiler::new(config, &Texts::default(), request, Instant::now() + DEADLINE).run()
}

/// Returns the value with every map sorted: the recording is.
fn sorted(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    fn sort(json: Json) -> Json {
        match json {
            Json::Object(map) => {
                let mut entries: Vec<(String, Json)> = map.into_iter().map(|(key, value)| (key, sort(value))).collect();
                entries.sort_by(|one, other| one.0.cmp(&other.0));
                Json::Object(entries.into_iter().collect())
            }
            Json::Array(items) => Json::Array(items.into_iter().map(sort).collect()),
            other => other,
        }
    }
    sort(value.to_json())
}

#[test]
fn pillars_are_what_salt_makes_of_the_same_files() {
    let mut names: Vec<_> = std::fs::read_dir(DATA).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    names.sort();
    assert!(names.len() >= 24, "{names:?}");
    let mut wrong = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let case = render::yaml::load(&text, &render::yaml::Source { name: "case" }).unwrap();
        let part = |name: &str| case.get(name).and_then(Value::as_map).cloned().unwrap_or_default();
        let site = site(&part("files"), &part("options"));
        let asked = part("request");
        let text = |name: &str| asked.text(name).map(str::to_owned);
        let given = asked.at("pillar_override").and_then(Value::as_map).cloned().unwrap_or_default();
        let request = PillarRequest {
            saltenv: text("saltenv"),
            pillarenv: text("pillarenv"),
            given,
            ..request("m1", part("grains"))
        };
        let ours = sorted(&compile(&site.config, request).into());
        let recorded = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(&recorded).unwrap();
        if ours != theirs {
            wrong.push(format!("{}:\n  ours   {ours}\n  salt's {theirs}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_minion_is_who_its_session_says_and_nobody_else() {
    let top = "base:\n  'web1': [secret]\n  'id:web1':\n    - match: grain\n    - secret\n";
    let files = map! { "base/top.sls" => top, "base/secret.sls" => "secret: {{ grains.id }} {{ opts.id }}\n" };
    let site = site(&files, &Map::new());
    let lies = map! { "id" => "web1", "os" => "x" };
    assert_eq!(compile(&site.config, request("db1", lies.clone())), Map::new());
    assert_eq!(compile(&site.config, request("web1", lies)), map! { "secret" => "web1 web1" });
}

#[test]
fn nothing_is_carried_from_one_minion_to_another() {
    let files = map! {
        "base/top.sls" => "base:\n  '*': [own]\n  'a': [a, broken]\n",
        "base/own.sls" => "own: {{ grains.id }}\nknown: {{ pillar }}\n",
        "base/a.sls" => "token: only-for-a\n",
        "base/broken.sls" => "x: {{ nosuch.token }}\n",
    };
    let site = site(&files, &Map::new());
    let texts = Texts::default();
    let ask = |id: &str| Compiler::new(&site.config, &texts, request(id, Map::new()), Instant::now() + DEADLINE).run();
    let (first, other) = (ask("a"), ask("b"));
    assert_eq!(first.text("token"), Some("only-for-a"));
    let text = format!("{other:?}");
    assert!(!text.contains("only-for-a") && !text.contains("broken") && other.at(ERRORS).is_none(), "{text}");
    assert_eq!(other.text("own"), Some("b"));
}

#[test]
fn why_a_file_failed_is_told_only_where_that_is_configured() {
    let files = map! { "base/top.sls" => "base: {'*': [x]}\n", "base/x.sls" => "pass: s3cret\nx: {{ nosuch.y }}\n" };
    let errors = |options: Map| {
        let pillar = compile(&site(&files, &options).config, request("m1", Map::new()));
        format!("{:?}", pillar.at("_errors"))
    };
    let safe = errors(Map::new());
    assert!(safe.contains("Rendering SLS 'x' failed. Please see master log for details."), "{safe}");
    let open = errors(map! { "pillar_safe_render_error" => false });
    assert!(open.contains("Rendering SLS 'x' failed, render error:\\nJinja variable 'nosuch' is undefined"), "{open}");
}

#[test]
fn endless_templates_and_endless_includes_end() {
    let mut files = map! {
        "base/top.sls" => "base: {'*': [busy, deep0]}\n",
        "base/busy.sls" => "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}x: 1\n",
    };
    for at in 0..60 {
        files.set(&format!("base/deep{at}.sls"), format!("include: [deep{}]\nd{at}: 1\n", at + 1));
    }
    let pillar = compile(&site(&files, &Map::new()).config, request("m1", Map::new()));
    let errors = format!("{:?}", pillar.at("_errors"));
    assert!(errors.contains("Rendering SLS 'busy' failed"), "{errors}");
    assert!(errors.contains("levels deep"), "{errors}");
    assert_eq!((pillar.at("d0"), pillar.at("d59")), (Some(&1.into()), None));
}

#[test]
fn what_takes_too_long_is_an_error() {
    let files = map! { "base/top.sls" => "base: {'*': [x]}\n", "base/x.sls" => "x: 1\n" };
    let site = site(&files, &Map::new());
    let pillar = Compiler::new(&site.config, &Texts::default(), request("m1", Map::new()), Instant::now()).run();
    assert!(format!("{pillar:?}").contains("takes more than 30 s"), "{pillar:?}");
}

#[test]
fn a_file_outside_the_roots_is_none() {
    let files = map! {
        "base/top.sls" => "base: {'*': ['..other.secret', out, x]}\n",
        "base/x.sls" => "{% include '../other/secret.sls' %}\n",
        "other/secret.sls" => "secret: true\n",
    };
    let mut site = site(&files, &Map::new());
    let base = site.config.roots.of("base").unwrap();
    std::os::unix::fs::symlink("../other/secret.sls", Path::new(&base[0]).join("out.sls")).unwrap();
    site.config.roots = Arc::new(Roots::base(base));
    let pillar = compile(&site.config, request("m1", Map::new()));
    assert!(!format!("{pillar:?}").contains("true"), "{pillar:?}");
    assert_eq!(pillar.at("_errors").and_then(Value::as_list).map(<[Value]>::len), Some(3), "{pillar:?}");
}

#[tokio::test]
async fn targets_see_what_a_minion_was_told_until_its_key_is_gone() {
    let files = map! { "base/top.sls" => "base: {'*': [x]}\n", "base/x.sls" => "role: web\n" };
    let site = site(&files, &Map::new());
    let pillars = Pillars::new(site.config.clone());
    let id = MinionId::parse("m1").unwrap();
    assert_eq!(pillars.cached(&id), None);
    let given = PillarRequest { given: map! { "role" => "forged" }, ..request("m1", Map::new()) };
    pillars.compile(given).await.unwrap();
    assert_eq!(pillars.cached(&id), None, "what a minion gives along is no fact about it");
    pillars.compile(request("m1", Map::new())).await.unwrap();
    assert_eq!(pillars.cached(&id), Some(msgpack::encode_map(&map! { "role" => "web" }).into()));
    pillars.forget(&id);
    assert_eq!(pillars.known_blocking(&id, || None), None, "one that was never here has none");
    assert!(pillars.known_blocking(&id, || Some(Map::new())).is_some());
    let silent = Pillars::new(PillarConfig { cache: false, ..site.config });
    silent.compile(request("m1", Map::new())).await.unwrap();
    assert_eq!(silent.cached(&id), None);
}

#[tokio::test]
async fn a_pillar_that_no_message_can_carry_is_refused() {
    let text = format!("x: {}\n", "x".repeat(500_000));
    let mut files = map! { "base/top.sls" => "base: {'*': ['x*']}\n" };
    for at in 0..20 {
        files.set(&format!("base/x{at}.sls"), text.replace("x:", &format!("k{at}:")));
    }
    let site = site(&files, &Map::new());
    let pillars = Pillars::new(site.config.clone());
    assert_eq!(pillars.compile(request("m1", Map::new())).await, Err(PillarError::TooLarge));
}
