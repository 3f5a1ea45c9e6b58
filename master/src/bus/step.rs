//! The bus without its thread: turned by hand, by a clock of its own, on a disk that can be told to fail. For the simulation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::tag::Tag;
use rusqlite::{Connection, OpenFlags, ffi};

use super::writer::{Entry, Writer, append};
use super::{Bus, BusConfig, BusTask, Event, OpenError, files};

/// What the disk does with a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Disk {
    /// It writes.
    #[default]
    Works,
    /// It writes nothing and says so.
    Fails,
    /// It writes, and says that it did not.
    FailsLate,
    /// It writes nothing and says that it did.
    Lies,
}

/// A bus that commits when it is told to.
pub struct Stepped {
    bus: Bus,
    writer: Writer,
    disk: Arc<Mutex<Disk>>,
}

impl Stepped {
    /// Opens the log as [`Bus::open`] does. Dropping it is what a kill does: what was committed is there, nothing else.
    pub fn open(config: BusConfig) -> Result<Stepped, OpenError> {
        let (bus, BusTask { mut writer, .. }) = Bus::open(config)?;
        let disk = Arc::new(Mutex::new(Disk::default()));
        let (shown, mut real) = (Arc::clone(&disk), append());
        writer.append = Box::new(move |log, plan, group| {
            let disk = *shown.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(disk, Disk::Works | Disk::FailsLate) {
                real(log, plan, group)?;
            }
            if matches!(disk, Disk::Works | Disk::Lies) { Ok(()) } else { Err(io_error()) }
        });
        Ok(Stepped { bus, writer, disk })
    }

    /// Returns the handle.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Has the disk behave so from now on.
    pub fn set_disk(&self, disk: Disk) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    /// Commits what is queued as one transaction; else opens the log anew if that is due. Tells whether there was anything
    /// to do. The clock is asked whenever the writer's thread would look at its own.
    pub fn turn(&mut self, clock: &mut dyn FnMut() -> Duration) -> bool {
        if let Ok(Entry::Submit(first)) = self.writer.queue.try_recv() {
            self.writer.turn(first, clock);
            return true;
        }
        let now = clock();
        let due = self.writer.state.retry_in(now) == Some(Duration::ZERO);
        // A disk that fails cannot be opened anew either.
        if due && *self.disk.lock().unwrap_or_else(PoisonError::into_inner) == Disk::Works {
            self.writer.recover(now);
        }
        due
    }

    /// Has the next segment's marks made ready, as its thread does now and then.
    pub fn fill_ahead(&self) {
        let shared = &self.writer.shared;
        // What cannot be done ahead, the writer does.
        let _ = shared.segments.fill_ahead(shared.epoch());
    }

    /// Tells whether the log takes nothing at present.
    pub fn is_degraded(&self) -> bool {
        self.writer.state.degraded().is_some()
    }

    /// Reads what is in the files behind an offset, as anybody could who opens them.
    pub fn read(&self, after: u64) -> rusqlite::Result<Vec<Event>> {
        let mut events = Vec::new();
        let found = files(self.writer.shared.segments.folder()).unwrap_or_default();
        for (at, (_, path)) in found.iter().enumerate() {
            if found.get(at + 1).is_some_and(|(next, _)| *next <= after + 1) {
                continue;
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(path, flags)?;
            let sql = "SELECT offset, stamp_us, tag, data FROM events WHERE offset > ?1 ORDER BY offset";
            let mut query = db.prepare(sql)?;
            let mut rows = query.query([after.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let Ok(tag) = Tag::parse(row.get_ref(2)?.as_str()?) else { continue };
                let data = Bytes::from(row.get::<_, Vec<u8>>(3)?);
                let offset = row.get::<_, i64>(0)?.cast_unsigned();
                events.push(Event { offset, tag, stamp_us: row.get(1)?, data, durable: true });
            }
        }
        Ok(events)
    }
}

fn io_error() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proto::ids::MinionId;
    use proto::message::Kind;

    use super::*;
    use crate::bus::{Batch, CommitTicket, Mark, NewEvent};

    fn submit(bus: &Stepped, n: u64, epoch: u64) -> CommitTicket {
        let event = NewEvent { tag: Tag::parse(&format!("a/{n}")).unwrap(), data: Bytes::from_static(b"\x80") };
        let mark = Mark { id: MinionId::parse("web1").unwrap(), spool: [1; 16], n, kind: Kind::Daemon };
        let batch = Batch { events: vec![event], mark: Some(mark) };
        bus.bus().submit_behind(batch, epoch).now_or_never().unwrap().unwrap()
    }

    #[test]
    fn what_comes_behind_a_refused_load_is_refused_too() {
        let folder = tempfile::tempdir().unwrap();
        let config = BusConfig { commit_max_events: 1, ..BusConfig::new(folder.path().join("events")) };
        let mut bus = Stepped::open(config).unwrap();
        let epoch = bus.bus().epoch();
        let [first, second] = [1, 2].map(|n| submit(&bus, n, epoch));
        bus.set_disk(Disk::Fails);
        bus.turn(&mut || Duration::ZERO);
        // It works again, and has been opened anew, before the second is looked at.
        bus.set_disk(Disk::Works);
        bus.turn(&mut || Duration::from_secs(9));
        assert!(!bus.is_degraded());
        assert!(first.now_or_never().unwrap().is_err());
        assert!(second.now_or_never().unwrap().is_err(), "its mark would make a duplicate of the first");
        let epoch = bus.bus().epoch();
        for n in [1, 2] {
            let again = submit(&bus, n, epoch);
            bus.turn(&mut || Duration::from_secs(10));
            assert!(!again.now_or_never().unwrap().unwrap().duplicate);
        }
        assert_eq!(bus.read(0).unwrap().len(), 2);
    }
}
