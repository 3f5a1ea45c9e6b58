//! The loop's end of the spool: what is handed to the keeper's thread, and who is told when the master has it.

use std::sync::mpsc::SyncSender;

use bytes::Bytes;
use proto::message::Spooled;
use proto::message::event::EventItem;
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::Note;
use crate::jids::Jids;
use crate::spool::{Exchange, Exchanged, Flow, Item, SpoolError, Window};

/// What waits for the master, and for whom.
pub(super) struct Outbox {
    window: Window<Note>,
    keeper: SyncSender<Exchange<Note>>,
    /// Where acknowledged returns are noted.
    jids: Option<Jids>,
}

impl Outbox {
    pub(super) fn new(keeper: SyncSender<Exchange<Note>>, jids: Option<Jids>) -> Outbox {
        Outbox { window: Window::default(), keeper, jids }
    }

    /// Takes an event, or tells whoever waits that it is not taken.
    pub(super) fn event(&mut self, item: EventItem, told: Option<SyncSender<Result<(), SpoolError>>>) {
        if let Err((error, note)) = self.window.push_event(item, told.map(Note::Event)) {
            debug!(%error, "event not taken");
            note.into_iter().for_each(|note| refuse(note, error));
        }
    }

    /// Takes a return.
    pub(super) fn ret(&mut self, item: Item<Note>) {
        self.window.push_return(item);
    }

    /// The master has everything up to here.
    pub(super) fn acked(&mut self, at: Spooled) {
        let settled = self.window.ack(at);
        for note in settled.notes {
            match note {
                // Whoever waited may have given up; what it sent is in the log all the same.
                Note::Event(told) => drop(told.try_send(Ok(()))),
                Note::Told(told) => drop(told.send(())),
            }
        }
        for jid in settled.jids {
            self.jids.iter().for_each(|jids| jids.acknowledged(jid.clone()));
        }
    }

    /// Gives the keeper what is new, and asks for what may be sent.
    pub(super) fn exchange(&mut self, flow: Flow) {
        if let Some(exchange) = self.window.exchange(flow)
            && self.keeper.try_send(exchange).is_err()
        {
            // One is under way at a time, so there is room, unless its thread has panicked.
            error!("the spool has failed; restart the minion");
        }
    }

    /// Takes the keeper's answer.
    pub(super) fn exchanged(&mut self, answer: Exchanged<Note>) {
        for note in self.window.exchanged(answer) {
            refuse(note, SpoolError::Full);
        }
    }

    /// Returns the next load to send on this connection.
    pub(super) fn next_load(&mut self) -> Option<Bytes> {
        self.window.next_load()
    }

    /// Begins a new connection.
    pub(super) fn rewind(&mut self) {
        self.window.rewind();
    }

    /// Tells whether everything was acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// Has everything stored that was taken, and waits until the spool has ended.
    pub(super) async fn settle(mut self, mut answers: mpsc::Receiver<Exchanged<Note>>) {
        loop {
            self.exchange(Flow::Off);
            if !self.window.is_exchanging() {
                break;
            }
            let Some(answer) = answers.recv().await else { return };
            self.exchanged(answer);
        }
        drop(self.keeper);
        while answers.recv().await.is_some() {}
    }
}

/// Tells whoever waits that what it sent is not on its way.
fn refuse(note: Note, error: SpoolError) {
    if let Note::Event(told) = note {
        // Whoever waited may be gone.
        let _ = told.try_send(Err(error));
    }
}
