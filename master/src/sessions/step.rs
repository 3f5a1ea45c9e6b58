//! One session's spooled loads without its connection: taken and settled by hand. For the simulation.

use futures_util::FutureExt;
use proto::ids::MinionId;
use proto::message::{Kind, Request, Spooled};

use super::inflight::{Inflight, Load};
use super::spooled::Sender;
use crate::bus::{Bus, CommitError};
use crate::jobs;

/// The session ends: what is not acknowledged is to be sent again, on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over;

/// The loads of one session between their arrival and their acknowledgement.
pub struct Stepped {
    id: MinionId,
    inflight: Inflight,
}

impl Stepped {
    /// Begins a daemon's session.
    pub fn new(id: MinionId) -> Stepped {
        Stepped { id, inflight: Inflight::default() }
    }

    /// Takes a load; what is not spooled is ignored.
    pub fn take(
        &mut self,
        request: Request,
        bytes: usize,
        bus: &Bus,
        jobs: &mut jobs::Stepped,
        now_us: i64,
    ) -> Result<(), Over> {
        let sender = Sender { id: &self.id, kind: Kind::Daemon };
        let (at, batch, ret) = match request {
            Request::MinionEvents(load) => (load.at, sender.events(load, bytes).0, None),
            Request::Return(ret) => {
                let verdict = jobs.admit(&self.id, &ret.jid, now_us);
                let (batch, jid) = sender.ret(&ret, verdict, now_us / 1_000_000).ok_or(Over)?;
                (ret.at, batch, jid)
            }
            _ => return Ok(()),
        };
        let epoch = self.inflight.epoch(bus.epoch());
        match bus.submit_behind(batch, epoch).now_or_never() {
            Some(Ok(ticket)) => {
                self.inflight.push(Load { at, bytes, ret, ticket });
                Ok(())
            }
            _ => {
                ret.iter().for_each(|jid| jobs.take_back(&self.id, jid));
                Err(Over)
            }
        }
    }

    /// Tells whether the window is used up: then nothing more is to be taken.
    pub fn is_full(&self) -> bool {
        self.inflight.is_full()
    }

    /// Tells whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.inflight.is_empty()
    }

    /// Returns what can be acknowledged now, one for each spool, in order.
    pub fn settle(&mut self, jobs: &mut jobs::Stepped) -> Result<Vec<Spooled>, Over> {
        let mut acknowledged: Vec<Spooled> = Vec::new();
        while let Some((load, outcome)) = self.inflight.ready() {
            self.decide(&load, outcome.map(drop), jobs)?;
            match acknowledged.last_mut() {
                Some(last) if last.spool == load.at.spool => *last = load.at,
                _ => acknowledged.push(load.at),
            }
        }
        Ok(acknowledged)
    }

    /// Goes on after the connection has ended: settles what is decided and tells nobody.
    pub fn give_back(&mut self, jobs: &mut jobs::Stepped) {
        while let Some((load, outcome)) = self.inflight.ready() {
            // Nobody is left to be told.
            let _ = self.decide(&load, outcome.map(drop), jobs);
        }
    }

    fn decide(&self, load: &Load, outcome: Result<(), CommitError>, jobs: &mut jobs::Stepped) -> Result<(), Over> {
        match (&load.ret, &outcome) {
            (Some(jid), Ok(())) => jobs.logged(&self.id, jid),
            (Some(jid), Err(_)) => jobs.take_back(&self.id, jid),
            (None, _) => {}
        }
        outcome.map_err(|_| Over)
    }
}
