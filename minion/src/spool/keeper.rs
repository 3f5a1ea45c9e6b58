//! The keeper: numbers loads and stores them, in the file or, while that cannot be written, in memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::ids::Jid;
use proto::message::Spooled;
use tracing::{debug, error, info, warn};

use super::file::{Commit, Dropped, File, Kind, Stored};
use super::pack::{Body, Pack, pack};
use super::{Exchange, Exchanged, MAX_EVENT_BYTES, MAX_RETURN_BYTES, Place, Read, Row, SYNC_EVERY, SpoolError};
use crate::database::{OpenError, is_damage};

/// How soon a disk that cannot be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often at most it is logged that events are dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Keeps loads until they are acknowledged. Blocks; runs on a thread of its own.
#[derive(Debug)]
pub struct Keeper {
    place: Option<Place>,
    file: Option<File>,
    /// When the disk is tried again, if it failed.
    retry: Option<Instant>,
    /// The loads that are not in the file, under an id of their own: the file's numbers stay true.
    memory: VecDeque<Stored>,
    memory_id: [u8; 16],
    memory_n: u64,
    next_seq: u64,
    /// Loads that are missing before the next one.
    gap: u64,
    acked: u64,
    held: u64,
    /// Since when something is stored without an fsync.
    unsynced: Option<Instant>,
    dropped: u64,
    told_dropped: Option<Instant>,
}

impl Keeper {
    /// Makes a spool in memory, for a process that tells by its exit code what the master has.
    pub fn in_memory(id: [u8; 16]) -> Keeper {
        Keeper {
            place: None,
            file: None,
            retry: None,
            memory: VecDeque::new(),
            memory_id: id,
            memory_n: 0,
            next_seq: 1,
            gap: 0,
            acked: 0,
            held: 0,
            unsynced: None,
            dropped: 0,
            told_dropped: None,
        }
    }

    /// Opens a spool on the disk, with what an earlier process left there; `id` is for what cannot be written. Also gives the
    /// jobs whose returns are on their way already.
    pub fn on_disk(place: Place, id: [u8; 16], now: Instant) -> (Keeper, Vec<Jid>) {
        let mut keeper = Keeper { place: Some(place), ..Keeper::in_memory(id) };
        keeper.open(now);
        let Some(file) = &keeper.file else { return (keeper, Vec::new()) };
        match file.jids().and_then(|jids| Ok((jids, file.last_seq()?))) {
            Ok((jids, last)) => {
                keeper.next_seq = last + 1;
                if file.totals.loads > 0 {
                    info!(loads = file.totals.loads, "loads from before the restart are on their way to the master");
                }
                (keeper, jids)
            }
            Err(failed) => {
                keeper.failed_to_read(&failed, now);
                (keeper, Vec::new())
            }
        }
    }

    /// Returns when [`Keeper::tend`] is due.
    pub fn due(&self) -> Option<Instant> {
        let sync = self.unsynced.map(|since| since + SYNC_EVERY);
        [sync, self.retry].into_iter().flatten().min()
    }

    /// Stores what is new, forgets what is acknowledged, and reads what is wanted.
    pub fn answer<N>(&mut self, exchange: Exchange<N>, now: Instant, now_ms: u64) -> Exchanged<N> {
        self.acked = self.acked.max(exchange.acked);
        self.held = exchange.held;
        self.gap += exchange.skipped;
        let packs = self.admit(pack(exchange.put));
        let first = self.next_seq;
        self.next_seq += packs.len() as u64;
        let dropped = self.store(&packs, first, now, now_ms);
        let mut stored = Vec::new();
        for (seq, pack) in (first..).zip(packs) {
            // Whoever sent the return may be gone.
            let _ = pack.taken.map(|taken| taken.send(Ok(())));
            stored.extend(pack.notes.into_iter().map(|note| (seq, note)));
        }
        let (rows, more) = exchange.read.map_or((Vec::new(), true), |read| self.read(read, now));
        Exchanged { rows, more, stored, dropped }
    }

    /// Does what is due: tries the disk again, puts on it for good what is only written, gives room back.
    pub fn tend(&mut self, now: Instant, now_ms: u64) {
        if self.retry.is_some_and(|at| at <= now) {
            self.store::<()>(&[], self.next_seq, now, now_ms);
        }
        if self.unsynced.is_some_and(|since| since + SYNC_EVERY <= now) {
            self.sync(now);
        }
        if let Some(Err(failed)) = self.file.as_ref().map(File::shrink) {
            debug!(error = %failed, "the spool's file keeps its size");
        }
    }

    /// Tells whether all that is kept is in the file: a kill loses nothing of it.
    pub fn is_stored(&self) -> bool {
        self.file.is_some() && self.memory.is_empty()
    }

    /// Returns since when something is in the file that a power cut would lose.
    pub fn unsynced(&self) -> Option<Instant> {
        self.unsynced
    }

    /// Has the disk be full beyond so many pages of the file, until it is opened anew.
    pub fn limit_pages(&self, pages: u32) -> rusqlite::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.limit_pages(pages))
    }

    /// Ends: everything that can be is on the disk.
    pub(super) fn close(mut self, now: Instant, now_ms: u64) {
        if self.retry.is_some() {
            self.retry = Some(now);
            self.store::<()>(&[], self.next_seq, now, now_ms);
        }
        if self.unsynced.is_some() {
            self.sync(now);
        }
        if !self.memory.is_empty() && self.place.is_some() {
            warn!(loads = self.memory.len(), "loads that cannot be written to the disk are lost with this process");
        }
    }

    fn sync(&mut self, now: Instant) {
        self.unsynced = None;
        if let Some(Err(failed)) = self.file.as_ref().map(File::sync) {
            self.failed_to_write(&failed, now);
        }
    }

    /// Refuses returns for which there is no room.
    fn admit<N>(&self, packs: Vec<Pack<N>>) -> Vec<Pack<N>> {
        let mut taken = self.file.as_ref().map_or(0, |file| file.totals.return_bytes)
            + self.memory.iter().filter(|stored| stored.kind == Kind::Return).map(Stored::size).sum::<u64>();
        let mut admitted = Vec::new();
        for mut pack in packs {
            let bytes = pack.return_bytes();
            if bytes > 0 && taken > 0 && taken + bytes > MAX_RETURN_BYTES {
                // Whoever sent it may be gone.
                let _ = pack.taken.take().map(|taken| taken.send(Err(SpoolError::Full)));
                continue;
            }
            taken += bytes;
            admitted.push(pack);
        }
        admitted
    }

    /// Stores loads in the file, else in memory; returns the places of what was dropped.
    fn store<N>(&mut self, packs: &[Pack<N>], first: u64, now: Instant, now_ms: u64) -> Vec<u64> {
        self.memory.retain(|stored| stored.row.seq > self.acked);
        if self.retry.is_some_and(|at| at <= now) && self.file.is_none() {
            self.open(now);
        }
        let dropped = match self.store_in_file(packs, first, now, now_ms) {
            Some(dropped) => dropped,
            None => self.store_in_memory(packs, first, now_ms),
        };
        self.tell_dropped(dropped.len() as u64, now);
        dropped
    }

    fn store_in_file<N>(&mut self, packs: &[Pack<N>], first: u64, now: Instant, now_ms: u64) -> Option<Vec<u64>> {
        if self.retry.is_some_and(|at| at > now) {
            return None;
        }
        let (file, place) = (self.file.as_mut()?, self.place.as_ref()?);
        let mut new: Vec<Stored> = self.memory.iter().cloned().collect();
        let mut last_n = file.last_n;
        new.extend(number(packs, first, file.id, &mut last_n, self.gap, now_ms));
        let max_age_ms = u64::try_from(place.limits.max_age.as_millis()).unwrap_or(u64::MAX);
        let commit = Commit {
            acked: self.acked,
            new: &new,
            last_n,
            held: self.held,
            max_bytes: place.limits.max_bytes,
            expired_ms: now_ms.saturating_sub(max_age_ms),
        };
        match file.commit(&commit) {
            Ok(dropped) => Some(self.committed(&dropped, packs.len(), new.len(), now)),
            Err(failed) => {
                self.failed_to_write(&failed, now);
                None
            }
        }
    }

    fn committed(&mut self, dropped: &[Dropped], numbered: usize, written: usize, now: Instant) -> Vec<u64> {
        self.memory.clear();
        if numbered > 0 {
            self.gap = 0;
        }
        self.gap += dropped.iter().filter(|dropped| dropped.unseen).count() as u64;
        let loads = self.file.as_ref().map_or(0, |file| file.totals.loads);
        // What was acknowledged in time needs no fsync.
        let since = self.unsynced.or((written > 0).then_some(now));
        self.unsynced = since.filter(|_| loads > 0);
        if self.retry.take().is_some() {
            info!("the spool is on the disk again");
        }
        dropped.iter().map(|dropped| dropped.seq).collect()
    }

    fn store_in_memory<N>(&mut self, packs: &[Pack<N>], first: u64, now_ms: u64) -> Vec<u64> {
        let new = number(packs, first, self.memory_id, &mut self.memory_n, self.gap, now_ms);
        if !new.is_empty() {
            self.gap = 0;
        }
        self.memory.extend(new);
        let is_event = |stored: &&Stored| stored.kind == Kind::Events;
        let mut bytes: u64 = self.memory.iter().filter(is_event).map(Stored::size).sum();
        let mut dropped = Vec::new();
        self.memory.retain(|stored| {
            let goes = stored.kind == Kind::Events && bytes > MAX_EVENT_BYTES as u64 && stored.row.seq > self.held;
            if goes {
                bytes -= stored.size();
                dropped.push(stored.row.seq);
            }
            !goes
        });
        dropped
    }

    /// Reads on: first what is in the file, then what is in memory, which came later.
    fn read(&mut self, read: Read, now: Instant) -> (Vec<Row>, bool) {
        let (mut rows, more) = match self.file.as_ref().map(|file| file.read(read, self.acked)) {
            None => (Vec::new(), false),
            Some(Ok(found)) => found,
            Some(Err(failed)) => {
                self.failed_to_read(&failed, now);
                (Vec::new(), false)
            }
        };
        if more {
            return (rows, true);
        }
        let mut bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
        for Stored { row, .. } in self.memory.iter().filter(|stored| stored.row.seq > read.after) {
            bytes += row.bytes.len();
            let alone = rows.is_empty() && read.after == self.acked;
            if rows.len() >= read.loads || (bytes > read.bytes && !alone) {
                return (rows, true);
            }
            rows.push(row.clone());
        }
        (rows, false)
    }

    fn open(&mut self, now: Instant) {
        let Some(place) = &self.place else { return };
        match File::open(place, self.next_seq) {
            Ok(file) => {
                self.next_seq = file.last_seq().unwrap_or(0).max(self.next_seq - 1) + 1;
                self.file = Some(file);
            }
            Err(failed) => self.degrade(&failed, now),
        }
    }

    fn failed_to_write(&mut self, failed: &rusqlite::Error, now: Instant) {
        if is_damage(failed) {
            return self.failed_to_read(failed, now);
        }
        self.degrade(failed, now);
    }

    /// A file that cannot be read would block what comes behind it for ever: it is moved out of the way.
    fn failed_to_read(&mut self, failed: &rusqlite::Error, now: Instant) {
        error!(error = %failed, "the spool cannot be read; what is in it does not reach the master");
        if let (Some(file), Some(place)) = (self.file.take(), &self.place) {
            file.set_aside(&place.path);
        }
        self.unsynced = None;
        self.degrade(failed, now);
        self.retry = Some(now);
    }

    fn degrade(&mut self, failed: &(dyn std::error::Error + 'static), now: Instant) {
        if self.retry.is_none() {
            let path = self.place.as_ref().map(|place| place.path.display().to_string());
            let source = failed.source().map(ToString::to_string);
            let remedy = match failed.downcast_ref() {
                // They say themselves what to do.
                Some(OpenError::Foreign { .. } | OpenError::Newer { .. }) => "",
                _ => ": is the disk full, or read-only?",
            };
            error!(
                path, error = %failed, source,
                "cannot keep events on the disk; new ones are in memory only, and a restart of this minion loses them, \
                 until the file can be written{remedy}"
            );
        }
        self.retry = Some(now + RETRY);
    }

    fn tell_dropped(&mut self, dropped: u64, now: Instant) {
        self.dropped += dropped;
        if self.dropped > 0 && self.told_dropped.is_none_or(|told| told + TELL_EVERY <= now) {
            warn!(loads = self.dropped, "the spool is full or its events are too old; the oldest were dropped");
            (self.dropped, self.told_dropped) = (0, Some(now));
        }
    }
}

/// Gives loads their places and numbers.
fn number<N>(
    packs: &[Pack<N>],
    first: u64,
    spool: [u8; 16],
    last_n: &mut u64,
    gap: u64,
    stored_ms: u64,
) -> Vec<Stored> {
    let mut numbered = Vec::new();
    for (seq, pack) in (first..).zip(packs) {
        let at = Spooled { spool, n: *last_n + 1 + if numbered.is_empty() { gap } else { 0 } };
        // A return was encoded once when it was packed, so it can be encoded again.
        let Ok(bytes) = pack.encode(at) else { continue };
        *last_n = at.n;
        let (kind, jid) = match &pack.body {
            Body::Events(_) => (Kind::Events, None),
            Body::Return { jid, .. } => (Kind::Return, jid.clone()),
        };
        numbered.push(Stored { row: Row { seq, at, jid, bytes }, kind, stored_ms });
    }
    numbered
}
