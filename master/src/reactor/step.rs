//! The reactor without its task: events taken in, reactions carried out and noted by hand. For the simulation.

use std::sync::Arc;

use proto::ids::Jid;

use super::outbox::{Entry, OpenError, Outbox, OutboxError};
use super::plan;
use super::sls::Files;
use super::state::{Print, ReactorState, Seen, Verdict};
use super::task::{command, is_job};
use super::{Loaded, ReactorConfig};
use crate::bus::Event;
use crate::command::Command;

/// A reaction that is in the outbox and not known to be done.
#[derive(Debug, Clone)]
pub struct Reaction {
    entry: Entry,
}

impl Reaction {
    /// Returns its number in the outbox.
    pub fn number(&self) -> i64 {
        self.entry.n
    }

    /// Returns what is asked of the master, with the jid that was chosen for it; nothing if it makes no sense.
    pub fn command(&self) -> Option<Command> {
        command(&self.entry).ok()
    }
}

/// The rules and the outbox of a master.
pub struct Stepped {
    loaded: Arc<Loaded>,
    files: Files,
    state: ReactorState,
    outbox: Outbox,
}

impl Stepped {
    /// Opens the outbox as [`super::Reactor::open`] does; `head` is the log's.
    pub fn open(config: ReactorConfig, head: u64) -> Result<Stepped, OpenError> {
        let mut outbox = Outbox::open(&config.path, head)?;
        let cursor = outbox.resume(head)?;
        let loaded = Loaded::new(config, Vec::new());
        let state = ReactorState::new(cursor, outbox.causes()?, loaded.guards);
        Ok(Stepped { loaded, files: Files::default(), state, outbox })
    }

    /// Returns the last event that is done with.
    pub fn cursor(&self) -> u64 {
        self.state.cursor()
    }

    /// Returns what was interrupted and is to happen first.
    pub fn unfinished(&self) -> Result<Vec<Reaction>, OutboxError> {
        Ok(self.outbox.unfinished()?.into_iter().map(|entry| Reaction { entry }).collect())
    }

    /// Judges an event and stores what it sets off, with jids of `jid`; returns what is to happen now.
    pub fn take_in(&mut self, event: &Event, mut jid: impl FnMut() -> Jid) -> Result<Vec<Reaction>, OutboxError> {
        let tag = event.tag.as_str();
        let seen = Seen { offset: event.offset, tag, stamp_us: event.stamp_us, print: Print::default() };
        let data = event.map().unwrap_or_default();
        if self.loaded.rules.matching(tag).next().is_none() {
            return Ok(Vec::new());
        }
        let Verdict::React { steps, depth, .. } = self.state.judge(&self.loaded.rules, seen, &data) else {
            return Ok(Vec::new());
        };
        let plan = plan::plan(&self.loaded, &mut self.files, &steps, &event.tag, &data);
        let entry = |(index, chunk)| {
            let jid = is_job(&chunk).then(&mut jid);
            Entry::new(seen, index, depth, jid, chunk)
        };
        let mut entries: Vec<Entry> = plan.chunks.into_iter().enumerate().map(entry).collect();
        if !entries.is_empty() {
            self.outbox.plan(event.offset, &mut entries)?;
            self.state.note_stored(event.offset);
        }
        Ok(entries.into_iter().map(|entry| Reaction { entry }).collect())
    }

    /// Notes that a reaction has happened.
    pub fn done(&mut self, reaction: &Reaction) -> Result<(), OutboxError> {
        self.state.note_cause(reaction.entry.cause(), reaction.entry.depth);
        self.outbox.done(reaction.entry.n)
    }

    /// Notes that an event and all that it has set off are done with.
    pub fn advance(&mut self, offset: u64) {
        self.state.advance(offset);
    }

    /// Stores how far the reactor is; tells whether there was anything to store.
    pub fn store_cursor(&mut self) -> Result<bool, OutboxError> {
        let Some(cursor) = self.state.unstored() else { return Ok(false) };
        self.outbox.store_cursor(cursor)?;
        self.state.note_stored(cursor);
        Ok(true)
    }
}
