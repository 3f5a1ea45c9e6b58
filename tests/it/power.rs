//! The power is cut: the stores' files as a disk would have them that keeps what was synced and does what it pleases with
//! the rest. Every change that a process makes to its files is recorded (strace), and the folder made as of any moment.

mod disk;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use halite_tests::skipped;
use halite_tests::swarm::fault::Dice;
use master::bus::{self, BusConfig};
use master::jobs;
use minion::jids::{Begun, Memory};
use minion::spool::{Flow, Keeper, Limits, Place, Window};
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::event::EventItem;
use proto::message::{Request, Spooled};
use proto::value::MapExt;

use disk::{Unsynced, restore};
use trace::{Call, Step};

/// How often the power is cut, each time in every way that a disk may take it.
const CUTS: u64 = 50;
const WAYS: [Unsynced; 4] = [Unsynced::Kept, Unsynced::Lost, Unsynced::Some, Unsynced::Torn];
/// The clock of the recorded process, in Unix milliseconds.
const NOW_MS: u64 = 1_795_600_000_000;

/// What a process did to its files.
struct Recording {
    steps: Vec<Step>,
    folder: tempfile::TempDir,
}

impl Recording {
    /// Returns what was promised before a moment, in order.
    fn promises(&self, cut: u64) -> Vec<Vec<&str>> {
        let promise = |step: &'_ Step| matches!(step.call, Call::Promise(_)) && step.began < cut;
        let found = self.steps.iter().filter(|step| promise(step)).map(|step| match &step.call {
            Call::Promise(text) => text.split(' ').collect(),
            _ => Vec::new(),
        });
        found.collect()
    }
}

/// Records a run of the stores; nothing if there is no strace that works.
fn record(test: &str, which: &str, rounds: u32) -> Option<Recording> {
    let folder = tempfile::Builder::new().prefix("halite-power-").tempdir_in(memory()).unwrap();
    let (root, traces) = (folder.path().join("root"), folder.path().join("trace"));
    std::fs::create_dir_all(&root).unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-ff", "-ttt", "-T", "-xx", "-s", "1048576", "-e", "signal=none", "-e"]);
    strace.arg(format!("trace={}", trace::CALLS)).arg("-o").arg(&traces).arg(env!("CARGO_BIN_EXE_stores"));
    strace.arg(which).arg(&root).arg(rounds.to_string());
    let wanted = std::env::var_os("HALITE_STRACE").is_some();
    match strace.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) if wanted || root.join("promises").exists() => panic!("{output:?}"),
        Err(error) if wanted => panic!("strace: {error}"),
        Ok(_) => return skip(test, "strace may not trace here"),
        Err(_) => return skip(test, "there is no strace; install the package `strace`"),
    }
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("trace.") {
            texts.push(std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    let steps = trace::read(&texts, &root);
    assert!(steps.iter().any(|step| matches!(step.call, Call::Promise(_))), "nothing was promised");
    Some(Recording { steps, folder })
}

fn skip(test: &str, why: &str) -> Option<Recording> {
    skipped(test, why);
    None
}

/// Returns a place for files that costs no disk, if there is one.
fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// Cuts the power again and again, and has `check` look at what is left: the folder, and what was promised before.
fn cut_power(recording: &Recording, check: impl Fn(&Path, &[Vec<&str>], Unsynced) -> Result<(), String>) {
    let (first, last) = (recording.steps.first().unwrap().began, recording.steps.last().unwrap().ended);
    let began = Instant::now();
    for cut in 0..CUTS {
        let mut dice = Dice::new(cut);
        // As often right behind a promise, where it is most likely broken, as at any other moment.
        let promised: Vec<u64> = recording.promises_at().collect();
        let at = match cut % 2 {
            0 => promised[dice.pick(promised.len())] + 1,
            _ => first + dice.pick((last - first) as usize) as u64,
        };
        let promises = recording.promises(at);
        for way in WAYS {
            let folder = tempfile::Builder::new().prefix("halite-cut-").tempdir_in(memory()).unwrap();
            let from = recording.folder.path().join("root");
            restore(&recording.steps, at, way, &mut dice, &from, folder.path());
            if let Err(broken) = check(folder.path(), &promises, way) {
                panic!("cut {cut} at {at}, unsynced {way:?}, after {} promises: {broken}", promises.len());
            }
        }
    }
    println!("{} cuts of {} steps in {:?}", CUTS * WAYS.len() as u64, recording.steps.len(), began.elapsed());
}

impl Recording {
    fn promises_at(&self) -> impl Iterator<Item = u64> {
        self.steps.iter().filter(|step| matches!(step.call, Call::Promise(_))).map(|step| step.began)
    }
}

/// Opens what is left of a master's stores, and looks for everything that was promised.
fn check_master(folder: &Path, promises: &[Vec<&str>], _: Unsynced) -> Result<(), String> {
    let cache = folder.join("cache");
    let said = |error: &dyn std::error::Error| format!("{error}: {:?}", error.source().map(ToString::to_string));
    let bus = bus::Stepped::open(BusConfig::new(cache.join("events"))).map_err(|error| said(&error))?;
    let events = bus.read(0).map_err(|error| said(&error))?;
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &events {
        if found.insert(event.tag.as_str(), event.offset).is_some() {
            return Err(format!("{} is in the log twice", event.tag.as_str()));
        }
    }
    let mut jobs = jobs::Stepped::open(&cache.join("jobs.db"), bus.bus()).map_err(|error| said(&error))?;
    let next = jobs.next_offset().map_err(|error| said(&error))?;
    let new: Vec<_> = events.iter().filter(|event| event.offset >= next).cloned().collect();
    jobs.take_in(&new).and_then(|()| jobs.restore(NOW_MS)).map_err(|error| said(&error))?;
    let live: BTreeSet<Jid> =
        jobs.since(&MinionId::parse("m1").unwrap(), NOW_MS).1.iter().map(|job| job.jid.clone()).collect();
    for promise in promises {
        match promise[..] {
            ["event", tag, offset] if found.get(tag).map(ToString::to_string).as_deref() == Some(offset) => {}
            ["job", jid] if live.contains(&Jid::parse(jid).unwrap()) => {}
            _ => return Err(format!("{promise:?} is not kept; the log has {} events", events.len())),
        }
    }
    Ok(())
}

/// Opens what is left of a minion's stores, and looks for everything that was promised.
fn check_minion(folder: &Path, promises: &[Vec<&str>], way: Unsynced) -> Result<(), String> {
    let cache = folder.join("cache");
    let (mut memory, owed) = Memory::open(&cache, NOW_MS).map_err(|error| error.to_string())?;
    let owed: BTreeMap<Jid, String> =
        owed.into_iter().map(|(jid, load)| (jid, load.text("return").unwrap_or_default().to_owned())).collect();
    let place = Place { path: cache.join("spool.db"), boot: "second".into(), limits: Limits::default() };
    let (spooled, fresh) = spooled(Keeper::on_disk(place, [9; 16], Instant::now()).0);
    if spooled.values().any(|at| at.spool == fresh.spool) {
        return Err("new loads go under an id that was used before the power was cut".to_owned());
    }
    let has = |round: &str| spooled.contains_key(&format!("power/event/{round}"));
    for promise in promises {
        let kept = match promise[..] {
            ["begun", jid] => {
                let jid = Jid::parse(jid).unwrap();
                owed.contains_key(&jid) && memory.begin(&jid, u64::MAX, &map! {}) == Ok(Begun::Known)
            }
            ["returned", jid] => owed.get(&Jid::parse(jid).unwrap()).map(String::as_str) == Some("done"),
            // What is written and not synced survives the process, not its host.
            ["stored", tag] => way != Unsynced::Kept || spooled.contains_key(tag),
            ["synced", round] => (1..=round.parse::<u64>().unwrap()).all(|round| has(&round.to_string())),
            _ => false,
        };
        if !kept {
            return Err(format!("{promise:?} is not kept; the spool has {} events", spooled.len()));
        }
    }
    Ok(())
}

/// Reads a whole spool: the place of each event, and that of one that is fired now.
fn spooled(mut keeper: Keeper) -> (BTreeMap<String, Spooled>, Spooled) {
    let mut window: Window<()> = Window::default();
    let item = EventItem { tag: "power/fresh".to_owned(), data: Bytes::from_static(b"\x80") };
    window.push_event(item, None).unwrap();
    let mut found = BTreeMap::new();
    while let Some(exchange) = window.exchange(Flow::On) {
        window.exchanged(keeper.answer(exchange, Instant::now(), NOW_MS));
        while let Some(load) = window.next_load() {
            let at = match Request::decode(&load).unwrap() {
                Request::MinionEvents(load) => {
                    found.extend(load.events.into_iter().map(|item| (item.tag, load.at)));
                    load.at
                }
                Request::Return(ret) => ret.at,
                other => panic!("the spool has a {}", other.name()),
            };
            window.ack(at);
        }
    }
    let fresh = found.remove("power/fresh").unwrap();
    (found, fresh)
}

#[test]
fn a_master_without_power_keeps_what_it_acknowledged() {
    let test = "power::a_master_without_power_keeps_what_it_acknowledged";
    let Some(recording) = record(test, "master", 120) else { return };
    let rolls =
        |step: &&Step| matches!(&step.call, Call::Rename(_, to) if to.extension().is_some_and(|end| end == "db"));
    assert!(recording.steps.iter().filter(rolls).count() >= 2, "the log was not rolled");
    cut_power(&recording, check_master);
}

#[test]
fn a_minion_without_power_keeps_its_jobs_and_what_it_synced() {
    let test = "power::a_minion_without_power_keeps_its_jobs_and_what_it_synced";
    let Some(recording) = record(test, "minion", 90) else { return };
    cut_power(&recording, check_minion);
}

#[test]
fn a_disk_that_ignores_syncs_is_noticed() {
    let test = "power::a_disk_that_ignores_syncs_is_noticed";
    let Some(mut recording) = record(test, "master", 40) else { return };
    recording.steps.retain(|step| !matches!(step.call, Call::Sync(_)));
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cut_power(&recording, check_master)));
    assert!(broken.is_err(), "nothing was synced, and nothing was missed");
}
