//! The recorded session of Salt's module, answer by answer; and what Salt has no answer for.

use std::sync::{Arc, Mutex};

use proto::map;

use super::*;
use crate::modules::{BeaconRoom, NoDaemon, NotDone, Reload, find};

/// The configuration of the recording, less the beacons that this version does not have.
const CONFIGURED: &str = "
load:
  - averages: {1m: [0.0, 0.0], 5m: [0.0, 0.0], 15m: [0.0, 0.0]}
  - interval: 5
memusage:
  - percent: 1%
  - interval: 5
sh: []
";

/// A room that knows two kinds, and takes no share above 100%.
struct Room(Mutex<Map>);

impl BeaconRoom for Room {
    fn available(&self) -> Vec<&'static str> {
        vec!["load", "memusage"]
    }

    fn check(&self, _name: &str, options: &Value) -> Result<(), String> {
        let bad = plain_text(options).contains("101%");
        if bad { Err("percent: too much".to_owned()) } else { Ok(()) }
    }

    fn configured(&self) -> Map {
        self.0.lock().unwrap().clone()
    }

    fn change(&self, edit: &mut dyn FnMut(&mut Map)) -> Result<(), NoDaemon> {
        edit(&mut self.0.lock().unwrap());
        Ok(())
    }

    fn try_out(&self, name: &str, _options: &Value) -> Result<Map, String> {
        if name == "load" { Ok(map! { "reading" => 1 }) } else { Err("no such thing".to_owned()) }
    }
}

impl Reload for Room {
    fn reload(&self) -> Result<(), NotDone> {
        Ok(())
    }
}

struct Scene {
    cx: ModuleContext,
    room: Arc<Room>,
    folder: tempfile::TempDir,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("minion").display().to_string();
    let config = map! { "conf_file" => main, "default_include" => "minion.d/*.conf" };
    let Value::Map(beacons) = yaml::load(CONFIGURED, &yaml::Source { name: "test" }).unwrap() else { panic!() };
    let room = Arc::new(Room(Mutex::new(beacons)));
    let mut cx = ModuleContext::offline("m1", Arc::new(config), Arc::new(Map::new()));
    (cx.beacons, cx.reload) = (Arc::clone(&room) as _, Arc::clone(&room) as _);
    Scene { cx, room, folder }
}

impl Scene {
    fn call(&self, fun: &str, args: &[&str], keyword: Map) -> Outcome {
        let args = args.iter().map(|arg| yaml::cli_arg(arg)).collect();
        find(fun).expect("a function").call(&self.cx, args, keyword).expect("an outcome")
    }

    #[track_caller]
    fn check(&self, fun: &str, args: &[&str], json: &str) {
        let outcome = self.call(fun, args, Map::new());
        assert_eq!(outcome.ret.to_json().to_string(), json);
        assert_eq!(outcome.retcode, i64::from(json.contains("\"result\":false")), "{json}");
    }

    fn beacon(&self, name: &str) -> Option<Value> {
        self.room.configured().at(name).cloned()
    }
}

#[test]
fn the_recorded_session_has_the_recorded_answers() {
    let scene = scene();
    let check = |fun: &str, args: &[&str], json: &str| scene.check(fun, args, json);
    check(
        "beacons.add",
        &["nosuch", "[{a: b}]"],
        r#"{"comment":"Beacon \"nosuch\" is not available.","result":false}"#,
    );
    let exists = r#"{"comment":"Beacon memusage is already configured.","result":true}"#;
    check("beacons.add", &["memusage", "[{percent: 1%}]"], exists);
    check("beacons.delete", &["memusage"], r#"{"comment":"Deleted beacon: memusage.","result":true}"#);
    assert_eq!(scene.beacon("memusage"), None);
    let added = r#"{"comment":"Added beacon: memusage.","result":true}"#;
    check("beacons.add", &["memusage", "[{percent: 2%}, {interval: 7}]"], added);
    let modified = r#"{"comment":"Modified beacon: memusage.","result":true,"changes":{"diff":"--- \n+++ \n@@ -1,2 +1,2 @@\n-percent:2%\n+percent:3%\n interval:7\n"}}"#;
    check("beacons.modify", &["memusage", "[{percent: 3%}, {interval: 7}]"], modified);
    check("beacons.disable_beacon", &["load"], r#"{"comment":"Disabled beacon load on minion.","result":true}"#);
    assert_eq!(scene.beacon("load").unwrap().as_list().unwrap()[2], map! { "enabled" => false }.into());
    check("beacons.enable_beacon", &["load"], r#"{"comment":"Enabled beacon load on minion.","result":true}"#);
    assert_eq!(scene.beacon("load").unwrap().as_list().unwrap()[2], map! { "enabled" => true }.into());
    check("beacons.disable", &[], r#"{"comment":"Disabled beacons on minion.","result":true}"#);
    assert_eq!(scene.beacon("enabled"), Some(false.into()));
    check("beacons.enable", &[], r#"{"comment":"Enabled beacons on minion.","result":true}"#);
    check("beacons.reset", &[], r#"{"comment":"Beacon configuration reset.","result":true}"#);
    check("beacons.list", &[], r#""beacons: {}\n""#);
}

#[test]
fn lists_are_yaml_or_data() {
    let scene = scene();
    scene.check("beacons.list_available", &[], r#""beacons:\n- load\n- memusage\n""#);
    let yaml = scene.call("beacons.list", &[], Map::new()).ret;
    let head = "beacons:\n  load:\n  - averages:\n      15m:\n      - 0.0\n      - 0.0\n      1m:\n";
    assert!(yaml.as_str().unwrap().starts_with(head), "{yaml:?}");
    assert!(yaml.as_str().unwrap().ends_with("  memusage:\n  - percent: 1%\n  - interval: 5\n  sh: []\n"));
    let keyword = map! { "return_yaml" => false, "include_pillar" => false };
    assert_eq!(scene.call("beacons.list", &[], keyword).ret, scene.room.configured().into());
}

#[test]
fn what_is_saved_is_recorded_yaml_and_whole() {
    let scene = scene();
    let path = scene.folder.path().join("minion.d").join("beacons.conf");
    let comment = format!("Beacons saved to {}.", path.display());
    let saved = map! { "comment" => comment, "result" => true };
    assert_eq!(scene.call("beacons.save", &[], Map::new()).ret, saved.into());
    let listed = scene.call("beacons.list", &[], Map::new()).ret;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), listed.as_str().unwrap());
    // An empty configuration is one too: what is in the main file must not come back.
    scene.call("beacons.reset", &[], Map::new());
    scene.call("beacons.save", &[], Map::new());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "beacons: {}\n");
}

#[test]
fn bad_options_change_nothing() {
    let scene = scene();
    let before = scene.room.configured();
    let comment =
        r#"{"comment":"Beacon memusage configuration invalid, not modifying.\npercent: too much","result":false}"#;
    scene.check("beacons.modify", &["memusage", "[{percent: 101%}]"], comment);
    let own_name = "[{beacon_module: memusage}, {percent: 101%}]";
    let comment = r#"{"comment":"Beacon mine configuration invalid, not adding.\npercent: too much","result":false}"#;
    scene.check("beacons.add", &["mine", own_name], comment);
    scene.check("beacons.modify", &["none", "[]"], r#"{"comment":"Beacon none is not configured.","result":true}"#);
    scene.check("beacons.delete", &["none"], r#"{"comment":"Beacon none is not configured.","result":true}"#);
    let none = r#"{"comment":"Beacon none is not currently configured.","result":false}"#;
    scene.check("beacons.enable_beacon", &["none"], none);
    assert_eq!(scene.room.configured(), before);
    scene.call("beacons.disable", &[], Map::new());
    scene.check("beacons.delete", &["enabled"], r#"{"comment":"Beacon enabled is not configured.","result":true}"#);
    scene.call("beacons.enable", &[], Map::new());
    let before = scene.room.configured();
    for (fun, args) in [("beacons.add", ["mine", "[{beacon_module: load}]"]), ("beacons.modify", ["load", "[]"])] {
        let outcome = scene.call(fun, &args, map! { "test" => true });
        assert!(plain_text(&outcome.ret).contains(" would be "), "{outcome:?}");
    }
    assert_eq!(scene.room.configured(), before);
}

#[test]
fn a_trial_shows_what_is_seen_or_why_nothing_is() {
    let scene = scene();
    scene.check("beacons.test", &["load"], r#"{"reading":1}"#);
    let why = r#"{"comment":"Beacon memusage does not work: no such thing","result":false}"#;
    scene.check("beacons.test", &["memusage"], why);
    scene.check("beacons.test", &["none"], r#"{"comment":"Beacon none is not configured.","result":false}"#);
}

#[test]
fn without_a_daemon_nothing_is_changed() {
    let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
    let refused = find("beacons.reset").expect("a function").call(&cx, vec![], Map::new());
    assert!(matches!(refused, Err(CallError::Failed(why)) if why.contains("no halite-minion daemon")));
}
