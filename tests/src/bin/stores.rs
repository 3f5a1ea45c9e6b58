//! Drives the daemons' stores for the tests that cut the power: every promise they make is one line in a file, written at
//! the moment when it is made.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use master::bus::{Batch, Bus, BusConfig, Mark, NewEvent};
use master::jobs;
use minion::jids::{Begun, Memory};
use minion::spool::{Flow, Item, Keeper, Limits, Place, Window};
use proto::ids::{Jid, MinionId};
use proto::message::event::EventItem;
use proto::message::{Kind, Publish};
use proto::tag::Tag;
use proto::value::Value;
use proto::{map, msgpack};

/// Loads that are under way at the same time.
const AT_ONCE: u64 = 6;
/// Rounds between two jobs.
const JOB_EVERY: u64 = 7;
/// How large a segment of the log is: so small that it is rolled, sealed and deleted while this runs.
const SEGMENT: u64 = 96 << 10;
/// A wall clock that stands still, in Unix milliseconds.
const NOW_MS: u64 = 1_795_600_000_000;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    Master,
    Minion,
}

/// Drives a store and writes down what it promises.
#[derive(Debug, Parser)]
struct Options {
    /// Whose stores.
    which: Which,
    /// Where they are; what is promised goes into the file `promises`.
    folder: PathBuf,
    /// How long, in rounds.
    rounds: u64,
}

/// Where promises are written down.
struct Promises(File);

impl Promises {
    fn open(folder: &Path) -> anyhow::Result<Promises> {
        fs::create_dir_all(folder)?;
        Ok(Promises(OpenOptions::new().create(true).append(true).open(folder.join("promises"))?))
    }

    /// Writes a line, by one call to the system.
    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes()).context("write down a promise")
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let promises = Promises::open(&options.folder)?;
    match options.which {
        Which::Master => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
            runtime.block_on(master(&options, promises))
        }
        Which::Minion => minion(&options, promises),
    }
}

async fn master(options: &Options, mut promises: Promises) -> anyhow::Result<()> {
    let mut config = BusConfig::new(options.folder.join("cache/events"));
    config.segment_bytes = SEGMENT;
    let (bus, task) = Bus::open(config)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(task.run(stopped));
    let mut jobs = jobs::Stepped::open(&options.folder.join("cache/jobs.db"), &bus)?;
    let id = MinionId::parse("m1")?;
    for round in 1..=options.rounds {
        let mut tickets = Vec::new();
        for spool in 0..AT_ONCE {
            let data = map! { "padding" => "x".repeat((round * 97 + spool * 211) as usize % 1500) };
            let tag = Tag::parse(&format!("power/{spool}/{round}"))?;
            let event = NewEvent { tag, data: msgpack::encode_map(&data).into() };
            let mark = Mark { id: id.clone(), spool: [spool as u8; 16], n: round, kind: Kind::Daemon };
            tickets.push(bus.submit(Batch { events: vec![event], mark: Some(mark) }).await?);
        }
        for (spool, ticket) in tickets.into_iter().enumerate() {
            let offset = ticket.await?.offset;
            promises.tell(&format!("event power/{spool}/{round} {offset}"))?;
        }
        if round % JOB_EVERY == 0 {
            let jid = publish(&bus, &mut jobs, &id, round).await?;
            promises.tell(&format!("job {jid}"))?;
        }
    }
    stop.send_replace(true);
    running.await??;
    Ok(())
}

/// Publishes a job as far as stores are concerned.
async fn publish(bus: &Bus, jobs: &mut jobs::Stepped, id: &MinionId, round: u64) -> anyhow::Result<Jid> {
    let expires_ms = NOW_MS + 86_400_000;
    let jid = jobs.allocate((NOW_MS * 1_000 + round).cast_signed());
    let load = map! { "fun" => "test.ping", "arg" => Value::List(Vec::new()), "tgt" => "m1", "jid" => &jid };
    let batch = jobs::Stepped::announce(&jid, &load, std::slice::from_ref(id), expires_ms);
    let serial = bus.commit(batch).await?.offset;
    let publish = Publish { jid: jid.clone(), serial, expires_ms, load };
    jobs.insert(Arc::new(publish), [id.clone()].into());
    Ok(jid)
}

fn minion(options: &Options, mut promises: Promises) -> anyhow::Result<()> {
    let cache = options.folder.join("cache");
    let (mut memory, _) = Memory::open(&cache, NOW_MS)?;
    let place = Place { path: cache.join("spool.db"), boot: "first".into(), limits: Limits::default() };
    // A clock of its own: the second between two syncs is not waited for.
    let mut now = Instant::now();
    let (mut keeper, _) = Keeper::on_disk(place, [7; 16], now);
    let mut window = Window::default();
    for round in 1..=options.rounds {
        let data = msgpack::encode_map(&map! { "padding" => "x".repeat((round * 97) as usize % 1500) }).into();
        let item = EventItem { tag: format!("power/event/{round}"), data };
        if window.push_event(item, Some(round)).is_err() {
            bail!("the spool is full");
        }
        if round % JOB_EVERY == 0 {
            run_job(&mut memory, &mut window, &mut promises, round)?;
        }
        if let Some(exchange) = window.exchange(Flow::Off) {
            let answer = keeper.answer(exchange, now, NOW_MS);
            window.exchanged(answer);
        }
        promises.tell(&format!("stored power/event/{round}"))?;
        now += Duration::from_millis(130);
        let due = keeper.unsynced();
        keeper.tend(now, NOW_MS);
        if due.is_some() && keeper.unsynced().is_none() {
            promises.tell(&format!("synced {round}"))?;
        }
    }
    Ok(())
}

/// Takes a job in and returns it, as far as stores are concerned; every third one is cut.
fn run_job(memory: &mut Memory, window: &mut Window<u64>, promises: &mut Promises, round: u64) -> anyhow::Result<()> {
    let jid = Jid::at((NOW_MS * 1_000 + round).cast_signed());
    let publication = map! { "fun" => "test.ping", "arg" => Value::List(Vec::new()), "jid" => &jid, "user" => "root" };
    if memory.begin(&jid, NOW_MS + 86_400_000, &publication)? != Begun::Fresh {
        bail!("{jid} was known");
    }
    promises.tell(&format!("begun {jid}"))?;
    if (round / JOB_EVERY).is_multiple_of(3) {
        return Ok(());
    }
    let load = map! { "cmd" => "_return", "jid" => &jid, "fun" => "test.ping", "return" => "done", "retcode" => 0,
    "success" => true };
    memory.returned(&jid, &load)?;
    promises.tell(&format!("returned {jid}"))?;
    let (taken, _) = tokio::sync::oneshot::channel();
    window.push_return(Item::Return { load, jid: Some(jid), note: None, taken });
    Ok(())
}
