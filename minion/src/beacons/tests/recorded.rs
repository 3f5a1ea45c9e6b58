//! Events that Salt's beacons fired, field by field beside those of ours with the same options.

use proto::ids::MinionId;
use render::yaml::{self, Source};
use serde_json::Value as Json;

use super::*;

/// One event of each beacon, as it stood on the master's bus.
const RECORDED: &str = include_str!("recorded.jsonl");

/// The options of the recording; the figures of every host pass these thresholds.
const OPTIONS: &str = "
load:
  - averages: {1m: [-2.0, -1.0], 5m: [0.0, 0.0], 15m: [0.0, 0.0]}
  - interval: 5
memusage:
  - percent: 1%
  - interval: 5
swapusage:
  - percent: 0%
  - interval: 5
diskusage:
  - interval: 5
  - /: 0%
ps:
  - processes: {salt-master: running, strace: running, mysql: stopped}
  - interval: 5
status:
  - interval: 5
  - loadavg: [all]
  - time: [all]
network_info:
  - interfaces:
      lo: {type: equal, errin: 0, errout: 0}
  - interval: 5
";

fn recorded() -> Vec<Json> {
    RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names and kinds of all fields, at any depth; figures are another host's.
fn shape(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(_) => "bool".to_owned(),
        Json::Number(number) => if number.is_f64() { "float" } else { "integer" }.to_owned(),
        Json::String(_) => "text".to_owned(),
        Json::Array(items) => format!("[{}]", items.first().map(shape).unwrap_or_default()),
        Json::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(name, value)| format!("{name}: {}", shape(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// Returns what follows the beacon's name in a tag.
fn suffix(event: &Json) -> &str {
    event["tag"].as_str().unwrap().splitn(5, '/').nth(4).unwrap()
}

#[test]
fn what_is_fired_has_the_recorded_fields_in_the_recorded_order() {
    let options = yaml::load(OPTIONS, &Source { name: "test" }).unwrap();
    let id = MinionId::parse("m1").unwrap();
    for (name, options) in options.as_map().unwrap() {
        let name = name.as_str().unwrap();
        let recorded =
            recorded().into_iter().find(|event| event["tag"].as_str().unwrap().split('/').nth(3) == Some(name));
        let mut recorded = recorded.unwrap_or_else(|| panic!("{name} is recorded"));
        // The master adds it.
        recorded["data"].as_object_mut().unwrap().shift_remove("_stamp");
        let tried = try_out(&id, name, options).unwrap_or_else(|why| panic!("{name}: {why}"));
        let tried = Value::from(tried).to_json();
        let ours = &tried["events"][0];
        assert_eq!(shape(&ours["data"]), shape(&recorded["data"]), "{name}");
        assert_eq!(suffix(ours).is_empty(), suffix(&recorded).is_empty(), "{name}: {ours}");
        assert!(ours["tag"].as_str().unwrap().starts_with(&format!("salt/beacon/m1/{name}/")), "{ours}");
        assert!(!tried["reading"].is_null(), "{name}: {tried}");
    }
}

#[test]
fn a_line_of_a_log_is_fired_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.txt");
    let options = map! {
        "file" => file.display().to_string(), "tags" => map! { "goodbye/world" => map! { "regex" => ".*good-bye.*" } },
    };
    let (wakes, _nobody) = mpsc::channel(1);
    let cx = BeaconContext {
        id: MinionId::parse("m1").unwrap(),
        name: "log".to_owned(),
        waker: Waker { name: "log".into(), wakes },
    };
    let mut beacon = find("log").unwrap().build(&options, &cx).unwrap();
    std::fs::write(&file, "good-bye 2\n").unwrap();
    let event = beacon.look(&cx).unwrap().remove(0);
    let (tag, data) = event.addressed(&cx.id, "log").unwrap();
    let recorded = recorded().into_iter().find(|event| event["tag"] == tag.as_str()).unwrap();
    let mut data = Value::from(data).to_json();
    data["_stamp"] = recorded["data"]["_stamp"].clone();
    assert_eq!(data, recorded["data"]);
    let reading = beacon.reading().unwrap().to_json();
    assert_eq!((&reading["found"], &reading["size"], &reading["read_from"]), (&true.into(), &11.into(), &11.into()));
}

#[test]
fn a_trial_of_a_bad_beacon_says_why() {
    let id = MinionId::parse("m1").unwrap();
    let why = |name: &str, options: Value| try_out(&id, name, &options).unwrap_err();
    assert!(why("memusage", Value::List(vec![])).contains("percent"));
    assert!(why("nosuch", Value::List(vec![])).contains("there is no beacon nosuch"));
    assert!(why("enabled", vec![map! { "beacon_module" => "load" }].into()).contains("no beacon's name"));
    let off = vec![map! { "percent" => 0 }, map! { "enabled" => false }];
    assert!(try_out(&id, "memusage", &off.into()).is_ok());
}
