//! What the log consists of: the newest events by class, and the segments.

use std::collections::BTreeMap;

use proto::tag::Tag;
use rusqlite::{Connection, params};

use super::reader::PAGE_ROWS;

/// How many events are looked at: a tenth of a second's work, and enough to see what a fleet is busy with.
pub(super) const NEWEST: u64 = 100_000;

/// How many classes are told apart; whoever invents more tags finds them under [`OTHERS`].
const MAX_CLASSES: usize = 200;

/// The class of what is in none.
const OTHERS: &str = "(others)";

/// What is in the newest part of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many events were looked at.
    pub events: u64,
    /// The stamps of the oldest and of the newest of them, in microseconds since 1970.
    pub from_us: i64,
    /// The newest one's.
    pub to_us: i64,
    /// By class of tag: how many events, and how many bytes of tag and data.
    pub classes: BTreeMap<String, (u64, u64)>,
}

/// One file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentView {
    /// The first offset it may hold.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Whether it is complete and has its index.
    pub sealed: bool,
}

impl Survey {
    fn add(&mut self, tag: &str, bytes: u64, stamp_us: i64) {
        if self.events == 0 {
            self.from_us = stamp_us;
        }
        (self.events, self.to_us) = (self.events + 1, stamp_us);
        let class = Tag::parse(tag).map_or_else(|_| OTHERS.to_owned(), |tag| tag.class());
        let known = self.classes.len() < MAX_CLASSES || self.classes.contains_key(&class);
        let class = if known { class } else { OTHERS.to_owned() };
        let entry = self.classes.entry(class).or_default();
        *entry = (entry.0 + 1, entry.1 + bytes);
    }

    /// Adds one page of a segment; returns where to go on, or nothing at its end.
    pub(super) fn add_page(&mut self, db: &Connection, from: u64, end: u64) -> rusqlite::Result<Option<u64>> {
        let mut select = db.prepare_cached(
            "SELECT offset, stamp_us, tag, length(tag) + length(data) FROM events WHERE offset >= ?1 AND offset <= ?2 \
             ORDER BY offset LIMIT ?3",
        )?;
        let mut rows = select.query(params![from.cast_signed(), end.cast_signed(), PAGE_ROWS])?;
        let mut next = None;
        while let Some(row) = rows.next()? {
            next = Some(row.get::<_, i64>(0)?.cast_unsigned() + 1);
            self.add(row.get_ref(2)?.as_str()?, row.get::<_, i64>(3)?.unsigned_abs(), row.get(1)?);
        }
        Ok(next)
    }
}
