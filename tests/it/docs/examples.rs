//! Every ```` ```yaml ```` block of the documentation is read by what would read it: the minion's reader of beacons, the
//! master's configuration, the reactor itself.

use halite_tests::Fleet;
use proto::value::{Map, MapExt as _, Value};
use render::yaml;

use super::{book, expect_none, read};

/// What an event is taken to hold where a reactor file is tried.
const EVENT: &str = r#"{"id": "web1", "user": "root", "cmd": "/bin/ls", "args": ["ls"], "memusage": 90.0, "data": {}, "act": "pend", "result": true, "name": "x", "mount": "/", "diskusage": 90.0, "host": "router1", "yang_message": {"interfaces": {"interface": {"xe-0/0/1": {"state": "down"}}}}}"#;

/// One block: where it stands, and its text without the indentation of a list that it is in.
struct Block {
    place: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    book::pages().iter().flat_map(|page| fenced(page, &read(page))).collect()
}

fn fenced(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match &mut open {
            None if line.trim() == "```yaml" => {
                open = Some((indent, Block { place: format!("{page}:{}", at + 1), text: String::new() }));
            }
            None => {}
            Some(_) if line.trim() == "```" => found.extend(open.take().map(|(_, block)| block)),
            Some((indent, block)) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
        }
    }
    found
}

/// What reads a block.
enum Reader {
    Beacons(Map),
    /// Options of a daemon.
    Options,
    /// Neither of ours: it has to be YAML.
    Other,
    Sls,
}

fn reader(block: &Block) -> Result<Reader, String> {
    let is_sls = |line: &str| {
        let word = line.trim().trim_start_matches("- ");
        line.starts_with("  ")
            && ["local.", "cmd.", "runner.", "wheel.", "caller."].iter().any(|kind| word.starts_with(kind))
    };
    if block.text.contains("{{") || block.text.contains("{%") || block.text.lines().any(is_sls) {
        return Ok(Reader::Sls);
    }
    let value = yaml::load(&block.text, &yaml::Source { name: &block.place }).map_err(|error| error.to_string())?;
    let Value::Map(map) = value else { return Err(format!("{}: no map", block.place)) };
    if let Some(beacons) = map.at("beacons").and_then(Value::as_map) {
        return Ok(Reader::Beacons(beacons.clone()));
    }
    if map.keys().all(|key| minion::beacons::find(&key.to_key()).is_some()) {
        return Ok(Reader::Beacons(map));
    }
    let foreign = ["services", "jobs", "on"].iter().any(|word| map.at(word).is_some());
    Ok(if foreign { Reader::Other } else { Reader::Options })
}

/// What the minion itself reads of a beacon; the rest is the kind's.
const SCHEDULE: &[&str] = &["beacon_module", "disable_during_state_run", "enabled", "interval"];

/// Reads the configuration of one beacon as its kind does.
fn beacon(name: &str, value: &Value) -> Result<(), String> {
    let mut options = Map::new();
    for item in value.as_list().unwrap_or(std::slice::from_ref(value)) {
        options.extend(item.as_map().ok_or_else(|| format!("{name}: {item:?} is no map"))?.clone());
    }
    let kind = options.text("beacon_module").unwrap_or(name).to_owned();
    SCHEDULE.iter().for_each(|option| drop(options.take(option)));
    let kind = minion::beacons::find(&kind).ok_or_else(|| format!("there is no beacon {kind}"))?;
    kind.check(&options).map_err(|error| format!("{name}: {error}"))
}

/// Reads options as a master would and as a minion would; returns what both of them complain about.
fn options(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("master"), text).unwrap();
    std::fs::write(dir.path().join("minion"), format!("id: web1\n{text}")).unwrap();
    let master = match master::config::load(dir.path()) {
        Ok(config) => config.warnings,
        Err(error) => vec![format!("{error:?}")],
    };
    if master.is_empty() {
        return master;
    }
    match minion::config::Config::load(dir.path(), &minion::config::Overrides::default()) {
        Ok(config) if config.warnings.is_empty() => Vec::new(),
        Ok(config) => [master, config.warnings].concat(),
        Err(error) => [master, vec![format!("{error:?}")]].concat(),
    }
}

#[test]
fn examples_of_configuration_are_read_without_a_word() {
    let (mut findings, mut beacons) = (Vec::new(), 0);
    for block in blocks() {
        match reader(&block) {
            Err(error) => findings.push(error),
            Ok(Reader::Beacons(map)) => {
                beacons += map.len();
                let wrong = map.iter().filter_map(|(name, options)| beacon(&name.to_key(), options).err());
                findings.extend(wrong.map(|why| format!("{}: {why}", block.place)));
            }
            Ok(Reader::Options) => {
                findings.extend(options(&block.text).iter().map(|why| format!("{}: {why}", block.place)));
            }
            Ok(Reader::Other | Reader::Sls) => {}
        }
    }
    expect_none(&findings);
    assert!(beacons >= 10, "only {beacons} beacons are shown in the documentation");
}

#[test]
fn examples_of_reactor_files_react() {
    let blocks: Vec<Block> = blocks().into_iter().filter(|block| matches!(reader(block), Ok(Reader::Sls))).collect();
    assert!(!blocks.is_empty(), "the documentation shows reactor files");
    let fleet = Fleet::new().start();
    let mut conf = "reactor:\n".to_owned();
    for (at, block) in blocks.iter().enumerate() {
        let sls = fleet.write(&format!("docs/{at}.sls"), &block.text);
        conf.push_str(&format!("  - 'docs/{at}':\n    - {}\n", sls.display()));
    }
    fleet.write("master/master.d/reactor.conf", &conf);
    fleet.halite(&["reload"]).expect_code(0);
    let (mut findings, mut reactions) = (Vec::new(), 0);
    for (at, block) in blocks.iter().enumerate() {
        let tag = format!("docs/{at}");
        let tried = fleet.halite(&["reactor", "test", "--tag", &tag, "--data", EVENT, "--out", "json"]).expect_code(0);
        let plan = tried.json();
        let silent = |list: &serde_json::Value| list.as_array().is_none_or(Vec::is_empty);
        reactions += plan["reactions"].as_array().map_or(0, Vec::len);
        if !silent(&plan["errors"]) || !silent(&plan["warnings"]) {
            findings.push(format!("{}: {}", block.place, tried.stdout));
        }
    }
    expect_none(&findings);
    assert!(reactions > 1, "{reactions} reactions");
}
