//! The master's reactor: its real rules and outbox, one step at a time, so that the master may die between any two of them
//! and in the middle of each write.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use master::bus::{Batch, CommitTicket, Event, NewEvent};
use master::command::{Command, PublishRequest};
use master::fileserver::Roots;
use master::reactor::{GuardsConfig, Reaction, ReactorConfig, Stepped};
use proto::ids::Jid;
use proto::tag::Tag;
use proto::value::{Map, MapExt as _, Value};
use proto::{map, msgpack};
use render::yaml::ReactorEntry;

use super::poll;
use super::world::{Happening, Lies, World};

/// What starts with this sets something off: a job for all, and an event.
pub(super) const ACTS: &str = "act/";
/// What the events that reactions fire are called: this and the tag of what set them off.
const REACTED: &str = "reacted/";
/// The reactor's file.
const RULE: &str = "
job:
  local.test.sleep:
    - tgt: '*'
    - arg: [1, '{{ tag }}']
told:
  runner.event.send:
    - args:
      - tag: 'reacted/{{ tag }}'
      - data: {}
";
/// How long the reactor waits at most between two steps.
const STEP_MS: usize = 40;

/// Something that a reaction has asked for and that is not decided yet.
enum UnderWay {
    Event(CommitTicket),
    Job(Jid),
}

/// The reactor of a master that runs.
pub(super) struct Reacting {
    folder: PathBuf,
    parts: Stepped,
    /// What it has yet to look at.
    events: VecDeque<Event>,
    /// What is to happen, the first of it perhaps under way.
    todo: VecDeque<Reaction>,
    under_way: Option<UnderWay>,
    /// The event that all this comes of.
    at: u64,
    waits: bool,
    /// How much of the WAL was put on the disk for good.
    synced: usize,
}

/// A step of the reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It does nothing that a crash could come in between of.
    Idle,
    /// Something outside of the outbox.
    Asked,
    /// A reaction was noted as done.
    Noted(i64),
    /// What an event sets off was stored, and the disk has it.
    Stored,
}

/// The outbox's files.
pub(super) struct Files {
    main: Vec<u8>,
    wal: Vec<u8>,
}

impl Files {
    fn place(folder: &Path, end: &str) -> PathBuf {
        folder.join(format!("reactor.db{end}"))
    }

    fn read(folder: &Path) -> Files {
        let read = |end| fs::read(Files::place(folder, end)).unwrap_or_default();
        Files { main: read(""), wal: read("-wal") }
    }

    /// Puts the files back, with no more of the WAL than that.
    fn restore(&self, folder: &Path, wal: usize) {
        fs::write(Files::place(folder, ""), &self.main).unwrap();
        fs::write(Files::place(folder, "-wal"), &self.wal[..wal.min(self.wal.len())]).unwrap();
        // There may be none.
        let _ = fs::remove_file(Files::place(folder, "-shm"));
    }
}

impl Reacting {
    /// Opens the outbox in a master's folder; `head` is the log's.
    pub(super) fn open(folder: &Path, head: u64) -> Reacting {
        let rule = folder.join("rule.sls");
        fs::write(&rule, RULE).unwrap();
        let tag = format!("{ACTS}*");
        let paths = vec![rule.display().to_string()];
        let config = ReactorConfig {
            rules: vec![ReactorEntry { tag, paths, position: None }],
            file_roots: Arc::new(Roots::base(Vec::new())),
            max_age: Duration::MAX,
            guards: GuardsConfig { burst: 1_000_000, ..GuardsConfig::default() },
            path: Files::place(folder, ""),
            opts: Map::new(),
        };
        let parts = Stepped::open(config, head).unwrap();
        let todo: VecDeque<Reaction> = parts.unfinished().unwrap().into();
        let at = parts.cursor();
        let (folder, events) = (folder.to_owned(), VecDeque::new());
        let mut reacting = Reacting { folder, parts, events, todo, under_way: None, at, waits: false, synced: 0 };
        // A file that was just made is on the disk.
        reacting.synced = reacting.wal_length();
        reacting
    }

    /// Returns the last event that it is done with.
    pub(super) fn cursor(&self) -> u64 {
        self.parts.cursor()
    }

    /// Returns what it will take up first.
    pub(super) fn unfinished(&self) -> Vec<i64> {
        self.todo.iter().map(Reaction::number).collect()
    }

    /// Takes in what is new in the log.
    pub(super) fn hear(&mut self, events: &[Event]) {
        self.events.extend(events.iter().cloned());
    }

    /// Tells whether the next step is part of a reaction.
    fn is_at_it(&self) -> bool {
        !self.todo.is_empty() || self.events.front().is_some_and(|event| event.tag.as_str().starts_with(ACTS))
    }

    fn has_work(&self) -> bool {
        !self.todo.is_empty() || !self.events.is_empty()
    }

    fn wal_length(&self) -> usize {
        fs::metadata(Files::place(&self.folder, "-wal")).map_or(0, |meta| meta.len() as usize)
    }
}

/// What the outbox becomes when its master dies.
pub(super) enum Left {
    /// As the process has left it.
    Whole,
    /// These files, with so much of the WAL.
    Cut(PathBuf, Files, usize),
}

impl Left {
    /// Puts it there, once the process has gone.
    pub(super) fn put(self) {
        if let Left::Cut(folder, files, wal) = self {
            files.restore(&folder, wal);
        }
    }
}

impl World {
    /// Has the reactor go on within a moment.
    pub(super) fn react_soon(&mut self) {
        let Some(reacting) = self.master.reacting() else { return };
        if reacting.has_work() && !std::mem::replace(&mut reacting.waits, true) {
            self.soon(STEP_MS, Happening::MasterReacts);
        }
    }

    /// Has the reactor take one step. Its master may be about to die: before it, behind it, or in the middle of a write.
    pub(super) fn master_reacts(&mut self) {
        let Some(reacting) = self.master.reacting() else { return };
        reacting.waits = false;
        let counts = reacting.is_at_it();
        let dies = counts && self.master.dies_in == Some(0);
        if counts {
            self.master.dies_in = self.master.dies_in.map(|steps| steps.saturating_sub(1));
        }
        if dies {
            self.master.dies_in = None;
            return self.die_reacting();
        }
        let step = self.step();
        self.take_note(step);
        self.react_soon();
    }

    fn die_reacting(&mut self) {
        let power = self.chance(30);
        if self.chance(30) {
            return self.end_master(power);
        }
        let Some(reacting) = self.master.reacting() else { return };
        let (folder, before) = (reacting.folder.clone(), reacting.wal_length());
        let old = Files::read(&folder);
        let step = self.step();
        if self.chance(40) || !matches!(step, Step::Noted(_) | Step::Stored) {
            self.take_note(step);
            return self.end_master(power);
        }
        let new = Files::read(&folder);
        // A WAL that has begun anew tells nothing of the middle.
        let (files, wal) = if new.wal.len() > before && new.main == old.main {
            let wal = before + self.dice.pick(new.wal.len() - before);
            (new, wal)
        } else {
            let whole = old.wal.len();
            (old, whole)
        };
        self.note(|| format!("the master dies while it writes its outbox ({step:?})"));
        self.end_master_leaving(false, Left::Cut(folder, files, wal));
    }

    /// Takes note of what a step has promised.
    fn take_note(&mut self, step: Step) {
        let Some(reacting) = self.master.reacting() else { return };
        match step {
            Step::Noted(number) => self.ledger.noted(number),
            Step::Stored => {
                reacting.synced = reacting.wal_length();
                self.ledger.notes_synced();
            }
            Step::Asked | Step::Idle => {}
        }
    }

    /// Says what is left of the outbox when the master's power goes: what was synced, and perhaps more.
    pub(super) fn outbox_after_power_cut(&mut self) -> Left {
        let Some(reacting) = self.master.reacting() else { return Left::Whole };
        let (folder, synced) = (reacting.folder.clone(), reacting.synced);
        let files = Files::read(&folder);
        if files.wal.len() <= synced {
            return Left::Whole;
        }
        let wal = synced + self.dice.pick(files.wal.len() - synced);
        Left::Cut(folder, files, wal)
    }

    fn step(&mut self) -> Step {
        let Some(reacting) = self.master.reacting() else { return Step::Idle };
        match reacting.under_way.take() {
            Some(under_way) => self.see_to(under_way),
            None if reacting.todo.is_empty() => self.judge_next(),
            None => self.begin(),
        }
    }

    /// Looks at the next event.
    fn judge_next(&mut self) -> Step {
        let now_us = (self.wall_ms(self.master.skew_ms) * 1_000).cast_signed();
        let stores = self.chance(10);
        let Some((reacting, jobs)) = self.master.reacting_and_jobs() else { return Step::Idle };
        let Some(event) = reacting.events.pop_front() else { return Step::Idle };
        let todo = reacting.parts.take_in(&event, || jobs.allocate(now_us)).unwrap();
        reacting.at = event.offset;
        if !todo.is_empty() {
            reacting.todo = todo.into();
            return Step::Stored;
        }
        reacting.parts.advance(event.offset);
        if stores && reacting.parts.store_cursor().unwrap() { Step::Stored } else { Step::Idle }
    }

    /// Asks for what the first reaction wants.
    fn begin(&mut self) -> Step {
        let Some(reacting) = self.master.reacting() else { return Step::Idle };
        let Some(command) = reacting.todo.front().and_then(Reaction::command) else { return Step::Idle };
        let under_way = match command {
            Command::Publish(request) => self.ask_for_job(request),
            Command::Run { kwarg, arg, .. } => self.ask_for_event(&kwarg, &arg),
            other => panic!("no rule asks for {other:?}"),
        };
        if let Some(reacting) = self.master.reacting() {
            reacting.under_way = under_way;
        }
        Step::Asked
    }

    /// Publishes a job as the door does: exactly once, by its jid.
    fn ask_for_job(&mut self, request: PublishRequest) -> Option<UnderWay> {
        let jid = request.jid.expect("the outbox has chosen one");
        let about = request.arg.get(1).and_then(Value::as_str).expect("the rule says so").to_owned();
        let (_, jobs) = self.master.reacting_and_jobs()?;
        if self.lies == Lies::Jids || !jobs.knows(&jid) {
            self.ledger.reacted(&about, jid.as_str());
            let load = map! { "fun" => request.fun, "arg" => request.arg, "tgt" => request.target.tgt,
            "jid" => &jid, "ret" => "", "tgt_type" => "glob", "user" => "root" };
            if !self.announce(jid.clone(), load, true) {
                return None;
            }
        }
        Some(UnderWay::Job(jid))
    }

    fn ask_for_event(&mut self, kwarg: &Map, arg: &[Value]) -> Option<UnderWay> {
        let field = |at: usize, name: &str| arg.get(at).or_else(|| kwarg.at(name)).cloned();
        let tag = field(0, "tag").and_then(|tag| Tag::parse(tag.as_str()?).ok()).expect("the rule has a tag");
        assert!(tag.as_str().starts_with(REACTED));
        let Some(Value::Map(data)) = field(1, "data") else { panic!("the key is in the data") };
        let event = NewEvent { tag, data: msgpack::encode_map(&data).into() };
        let bus = self.master.bus()?;
        let ticket = poll(std::pin::pin!(bus.submit(Batch { events: vec![event], mark: None })))?.ok()?;
        self.turn_soon();
        Some(UnderWay::Event(ticket))
    }

    /// Looks what has become of something; once it has happened, notes that.
    fn see_to(&mut self, under_way: UnderWay) -> Step {
        let waits = match under_way {
            UnderWay::Job(jid) => self.master.is_publishing(&jid).then_some(UnderWay::Job(jid)),
            UnderWay::Event(mut ticket) => match poll(&mut ticket) {
                Some(Ok(_)) => None,
                // The log is out of order: it is asked for again.
                Some(Err(_)) => return Step::Idle,
                None => Some(UnderWay::Event(ticket)),
            },
        };
        let Some(reacting) = self.master.reacting() else { return Step::Idle };
        if waits.is_some() {
            reacting.under_way = waits;
            return Step::Idle;
        }
        let Some(reaction) = reacting.todo.pop_front() else { return Step::Idle };
        reacting.parts.done(&reaction).unwrap();
        if reacting.todo.is_empty() {
            reacting.parts.advance(reacting.at);
        }
        Step::Noted(reaction.number())
    }
}
