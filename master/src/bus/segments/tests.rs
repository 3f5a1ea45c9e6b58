//! What segments promise, tested: at every crash, in every order.

use proto::ids::MinionId;
use proto::tag::Tag;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::bus::event::{Batch, Mark, NewEvent};
use crate::bus::keeper::{self, Stop};
use crate::bus::log::Rolled;
use crate::bus::state::BusState;

const DAY_US: i64 = 86_400_000_000;

/// A log without its threads.
struct Bare {
    segments: Segments,
    log: Option<Log>,
    state: BusState,
}

impl Bare {
    fn open(folder: &Path) -> Bare {
        let segments = Segments::open(folder).unwrap();
        let (log, tail) = Log::open(&segments.path(segments.active()), 0).unwrap();
        Bare { segments, log: Some(log), state: BusState::new(tail) }
    }

    /// Commits load `n` of the spool of `web1`, one event; false if it was a duplicate.
    fn commit(&mut self, n: u64, at_us: i64) -> bool {
        let tag = Tag::parse(&format!("test/{n}")).unwrap();
        let mark = Mark { id: MinionId::parse("web1").unwrap(), spool: [1; 16], n, kind: proto::message::Kind::Daemon };
        let batch = Batch { events: vec![NewEvent { tag, data: vec![0x80].into() }], mark: Some(mark) };
        let plan = self.state.plan(std::iter::once((&batch, at_us)));
        self.log.as_mut().unwrap().append(&plan, std::iter::once(&batch)).unwrap();
        let new = !plan.verdicts[0].committed.duplicate;
        self.state.committed(plan);
        new
    }

    fn roll(&mut self, reached: impl FnMut(RollStep) -> io::Result<()>) -> Option<OpenError> {
        let log = self.log.take().unwrap();
        let next = self.segments.next_when_free();
        match log.roll((&self.segments, next), &self.state, 0, 0, reached) {
            Rolled::New(log) => {
                self.segments.push(self.state.head() + 1);
                self.log = Some(log);
                None
            }
            Rolled::Kept(log) => {
                self.log = Some(log);
                None
            }
            Rolled::Broken(error) => Some(error),
        }
    }

    fn offsets(&self) -> Vec<i64> {
        let mut offsets = Vec::new();
        for segment in self.segments.all() {
            let db = Connection::open(self.segments.path(segment.first)).unwrap();
            let mut select = db.prepare("SELECT offset FROM events ORDER BY offset").unwrap();
            offsets.extend(select.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(Result::unwrap));
        }
        offsets
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_crash_at_any_step_of_rolling_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().join("events");
    let mut bare = Bare::open(&here);
    for n in 1..=5 {
        assert!(bare.commit(n, 0));
    }
    let mut crashes = Vec::new();
    let broken = bare.roll(|step| {
        let place = folder.path().join(format!("{step:?}"));
        copy(&here, &place);
        crashes.push((format!("{step:?}"), place));
        Ok(())
    });
    assert!(broken.is_none());
    crashes.push(("Opened".to_owned(), folder.path().join("Opened")));
    copy(&here, &folder.path().join("Opened"));
    bare.commit(6, 0);
    crashes.push(("Written".to_owned(), folder.path().join("Written")));
    copy(&here, &folder.path().join("Written"));
    assert_eq!(crashes.len(), 7);
    for (step, place) in crashes {
        let written = if step == "Written" { 6 } else { 5 };
        let mut after = Bare::open(&place);
        assert_eq!(after.state.head(), written, "{step}");
        assert!(!after.commit(written, 0), "{step}: the mark is remembered");
        assert!(after.commit(written + 1, 0), "{step}");
        assert!(after.roll(|_| Ok(())).is_none());
        assert!(after.commit(written + 2, 0), "{step}");
        let offsets: Vec<i64> = (1..=written.cast_signed() + 2).collect();
        assert_eq!(after.offsets(), offsets, "{step}: every offset once");
        assert!(!names(&place).iter().any(|name| name.starts_with("next")), "{step}");
    }
}

#[test]
fn a_roll_that_fails_keeps_or_finds_the_log() {
    let steps = [RollStep::Prepared, RollStep::Filled, RollStep::Synced, RollStep::Renamed, RollStep::FolderSynced];
    for at in steps {
        let folder = TempDir::new().unwrap();
        let mut bare = Bare::open(folder.path());
        assert!(bare.commit(1, 0));
        let broken = bare.roll(|step| if step == at { Err(io::Error::other("stopped")) } else { Ok(()) });
        let named = matches!(at, RollStep::Renamed | RollStep::FolderSynced);
        assert_eq!(broken.is_some(), named, "{at:?}");
        if named {
            bare = Bare::open(folder.path());
        }
        assert!(!bare.commit(1, 0), "{at:?}");
        assert!(bare.commit(2, 0), "{at:?}");
        assert!(bare.roll(|_| Ok(())).is_none());
        assert!(bare.commit(3, 0), "{at:?}");
        assert_eq!(bare.offsets(), [1, 2, 3], "{at:?}");
    }
}

#[test]
fn a_segment_is_full_by_size_or_by_day_and_never_empty() {
    let folder = TempDir::new().unwrap();
    let mut bare = Bare::open(folder.path());
    let is_full = |bare: &Bare, at_us| bare.log.as_ref().unwrap().is_full(at_us);
    assert!(!is_full(&bare, DAY_US * 100));
    bare.commit(1, DAY_US + 5);
    assert!(!is_full(&bare, DAY_US * 2 - 1));
    assert!(is_full(&bare, DAY_US * 2));
    assert!(!is_full(&bare, 0), "a clock that was set back makes no new segment");
    bare.log = bare.log.take().map(|log| log.with_limit(1));
    assert!(is_full(&bare, DAY_US + 6));
    let reopened = Bare::open(folder.path());
    assert!(is_full(&reopened, DAY_US * 2) && !is_full(&reopened, DAY_US + 6));
}

#[test]
fn a_torn_wal_loses_nothing_that_was_acknowledged_before_the_tear() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().join("events");
    let mut bare = Bare::open(&here);
    let wal = beside(&bare.segments.path(1), "-wal");
    let lengths: Vec<u64> = (1..=12)
        .map(|n| {
            bare.commit(n, 0);
            fs::metadata(&wal).unwrap().len()
        })
        .collect();
    let full = *lengths.last().unwrap();
    let frames = (0..=full).step_by(1_000).chain(lengths.iter().flat_map(|end| [end - 1, *end, end + 1]));
    for tear in frames.filter(|tear| *tear <= full) {
        for garbage in [false, true] {
            let place = TempDir::new_in(folder.path()).unwrap();
            copy(&here, place.path());
            let torn = beside(&path(place.path(), 1), "-wal");
            let mut bytes = fs::read(&torn).unwrap();
            bytes.truncate(usize::try_from(tear).unwrap());
            if garbage {
                bytes.extend(std::iter::repeat_n(0xa5, 5_000));
            }
            fs::write(&torn, bytes).unwrap();
            let _ = fs::remove_file(beside(&path(place.path(), 1), "-shm"));
            let mut after = Bare::open(place.path());
            let safe = lengths.iter().filter(|length| **length <= tear).count() as u64;
            let head = after.state.head();
            assert!(head >= safe, "torn at {tear}: {head} of {safe}");
            assert!(!after.commit(safe.max(1), 0) || safe == 0, "torn at {tear}: mark of {safe}");
            assert!(after.commit(head + 2, 0), "torn at {tear}: goes on");
        }
    }
}

#[test]
fn a_sealed_segment_is_a_plain_indexed_file() {
    let folder = TempDir::new().unwrap();
    let mut bare = Bare::open(folder.path());
    bare.commit(1, 0);
    bare.roll(|_| Ok(()));
    bare.commit(2, 0);
    let stop = Stop::default();
    let first = bare.segments.path(1);
    let reader = Connection::open(&first).unwrap();
    reader.query_row("SELECT count(*) FROM events", [], |_| Ok(())).unwrap();
    assert!(!keeper::seal(&first, &stop).unwrap(), "somebody has it open");
    drop(reader);
    assert!(keeper::seal(&first, &stop).unwrap());
    assert!(is_sealed(&first) && !is_sealed(&bare.segments.path(2)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1 + 3, "no side files but the active one's");
    let db = Connection::open(&first).unwrap();
    let plan: String = db
        .query_row("EXPLAIN QUERY PLAN SELECT offset FROM events WHERE tag = 'test/1'", [], |row| row.get(3))
        .unwrap();
    assert!(plan.contains("events_by_tag"), "{plan}");
    let phases = |segments: &Segments| segments.all().iter().map(|segment| segment.phase).collect::<Vec<_>>();
    assert_eq!(phases(&Bare::open(folder.path()).segments), [Phase::Sealed, Phase::Active]);
}

#[test]
fn the_one_file_of_earlier_versions_becomes_the_first_segment() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().join("events");
    {
        let mut bare = Bare::open(&here);
        for n in 1..=3 {
            bare.commit(n, 0);
        }
        // As a master that was killed has left it: with a WAL.
        for end in ["", "-wal"] {
            fs::copy(beside(&bare.segments.path(1), end), beside(&folder.path().join("events.db"), end)).unwrap();
        }
    }
    fs::remove_dir_all(&here).unwrap();
    let mut bare = Bare::open(&here);
    assert_eq!((bare.state.head(), bare.offsets()), (3, vec![1, 2, 3]));
    assert!(!bare.commit(3, 0) && bare.commit(4, 0));
    assert_eq!(names(folder.path()), ["events"], "nothing is left of the old file");
    // Another old file later is left alone.
    fs::write(folder.path().join("events.db"), "whatever").unwrap();
    assert_eq!(Bare::open(&here).state.head(), 4);
}

#[test]
fn an_offset_is_found_in_its_segment_or_behind_a_hole() {
    let folder = TempDir::new().unwrap();
    for name in ["00000000000000000010.db", "00000000000000000020.db", "00000000000000000030.db", "7.db", "next.new"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(firsts(folder.path()).unwrap(), [10, 20, 30]);
    let segments = Segments::open(folder.path()).unwrap();
    let find = |offset| segments.find(offset).map(|segment| (segment.first, segment.last));
    assert_eq!((find(1), find(10), find(19)), (Some((10, Some(19))), Some((10, Some(19))), Some((10, Some(19)))));
    assert_eq!((find(20), find(30), find(99)), (Some((20, Some(29))), Some((30, None)), Some((30, None))));
    segments.delete(20).unwrap();
    assert_eq!(find(20), Some((30, None)));
    segments.delete(30).unwrap();
    assert_eq!(segments.active(), 30, "the active one stays in the list");
}

/// A kill in the last step of sealing leaves a rollback journal: the file is then neither what its header says nor can a
/// reader mend it.
#[test]
fn a_segment_that_was_cut_off_while_it_was_sealed_is_mended_at_the_start() {
    let folder = TempDir::new().unwrap();
    let (live, crashed) = (folder.path().join("live"), folder.path().join("crashed"));
    let mut bare = Bare::open(&live);
    (1..=3).for_each(|n| assert!(bare.commit(n, 0)));
    assert!(bare.roll(|_| Ok(())).is_none());
    let sealed = bare.segments.path(1);
    assert!(keeper::seal(&sealed, &Stop::default()).unwrap());
    let mut db = Connection::open(&sealed).unwrap();
    let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    change.execute("DELETE FROM events", []).unwrap();
    change.cache_flush().unwrap();
    drop(bare);
    copy(&live, &crashed);
    drop(change);

    let path = path(&crashed, 1);
    assert!(beside(&path, JOURNAL).exists());
    let reader = Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let refused = reader.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0));
    assert!(refused.is_err(), "a reader cannot undo it");
    drop(reader);
    assert_eq!(Bare::open(&crashed).offsets(), [1, 2, 3]);
    assert!(!beside(&path, JOURNAL).exists());
}

/// The next segment's marks are made ready at one moment and completed at a later one.
#[test]
fn a_segment_begins_with_all_marks_however_far_ahead_it_was_filled() {
    let ids: Vec<MinionId> = (0..5).map(|number| MinionId::parse(&format!("m{number}")).unwrap()).collect();
    for round in 0..40_u64 {
        let folder = TempDir::new().unwrap();
        let mut bare = Bare::open(folder.path());
        let mut dice = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        for n in 1..=60 {
            let (id, spool) = (ids[roll(5) as usize].clone(), [roll(12) as u8; 16]);
            let kind = if roll(2) == 0 { proto::message::Kind::Daemon } else { proto::message::Kind::Call };
            let event = NewEvent { tag: Tag::parse("a/b").unwrap(), data: vec![0x80].into() };
            // Loads without events move a mark and not the head.
            let events = if roll(3) == 0 { Vec::new() } else { vec![event] };
            let batch = Batch { events, mark: Some(Mark { id, spool, n, kind }) };
            let plan = bare.state.plan(std::iter::once((&batch, 0)));
            bare.log.as_mut().unwrap().append(&plan, std::iter::once(&batch)).unwrap();
            bare.state.committed(plan);
            match roll(9) {
                0 => bare.segments.fill_ahead(0).unwrap(),
                // Another epoch: what was made ready in it does not count.
                1 => bare.segments.fill_ahead(1).unwrap(),
                2 if bare.state.head() >= bare.segments.active() => {
                    let failed = bare
                        .roll(|step| if step == RollStep::Filled { Err(io::Error::other("stopped")) } else { Ok(()) });
                    assert!(failed.is_none());
                }
                3 if bare.state.head() >= bare.segments.active() => assert!(bare.roll(|_| Ok(())).is_none()),
                _ => {}
            }
        }
        assert!(bare.roll(|_| Ok(())).is_none());
        let tail = Log::open(&bare.segments.path(bare.segments.active()), 0).unwrap().1;
        let sorted = |state: &BusState| -> Vec<_> {
            let mut all: Vec<_> =
                state.marks().map(|(id, mark)| (id.clone(), mark.spool, mark.n, mark.used, mark.kind.name())).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&BusState::new(tail)), sorted(&bare.state), "round {round}");
    }
}

#[test]
fn a_next_file_that_is_being_filled_is_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let bare = Bare::open(folder.path());
    let held = bare.segments.next_when_free();
    assert!(bare.segments.next_if_free().is_none());
    drop(held);
    assert!(bare.segments.next_if_free().is_some());
}
