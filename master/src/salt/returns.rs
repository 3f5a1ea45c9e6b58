//! `_return`: what a Salt minion's job came to. Each (jid, id) counts once; a minion that matched by itself is taken too.

use proto::ids::MinionId;
use proto::tag::Tag;
use proto::value::{Map, MapExt};

use super::requests::Unanswered;
use super::{Salt, failures};
use crate::bus::{Batch, NewEvent};
use crate::jobs::{Membership, Verdict};

impl Salt {
    /// Logs a return, if it did not come before.
    pub(super) async fn ret(&self, id: &MinionId, mut load: Map) -> Result<(), Unanswered> {
        let parts = &self.inner.parts;
        let said = load.text("jid").unwrap_or_default().to_owned();
        let verdict = parts.jobs.admit(id, &said, Membership::Itself).await.map_err(|_| Unanswered::Stopping)?;
        let jid = match verdict {
            Verdict::Accept(jid) => jid,
            Verdict::Unexpected(jid) => {
                load.set("unexpected", true);
                jid
            }
            Verdict::Duplicate => return Ok(()),
            // It is sent again: without an answer a Salt minion does so by itself.
            Verdict::Undecided => return Err(Unanswered::Undecided),
            Verdict::Refuse => {
                self.deny(id, &format!("salt/job/{said}/ret/{id}"));
                return Ok(());
            }
        };
        load.set("jid", &jid);
        load.set("id", id);
        let data = proto::msgpack::encode_map(&load).into();
        let mut events = vec![NewEvent { tag: Tag::job_ret(&jid, id), data }];
        events.extend(failures::of(&load, &jid, id));
        match parts.bus.commit(Batch { events, mark: None }).await {
            Ok(_) => {
                parts.jobs.logged(id, &jid).await;
                Ok(())
            }
            Err(error) => {
                parts.jobs.take_back(id, &jid).await;
                Err(Unanswered::NotLogged(error))
            }
        }
    }
}
