//! Upgrade in place (native-wire.md §4): a host that was a Salt minion shows a native key that its accepted RSA key has
//! signed, and keeps its id without a hand on the master.

use proto::ids::MinionId;
use proto::map;
use proto::message::{ErrorCode, RsaProof, SessionRequest};
use proto::salt::rsa::PublicKey;
use proto::salt::upgrade;
use proto::tag::Tag;
use proto::value::Value;

use super::dealer::{Dealer, Ended};

impl Dealer<'_> {
    /// Judges the signature of an RSA key over this session's own key. A peer that guesses may do so a few times only.
    pub(super) async fn upgrade(&mut self, session: SessionRequest) -> Result<(), Ended> {
        let Some(proof) = session.upgrade else { return Ok(()) };
        if !self.may_vouch() {
            return self.reply(session.seq, Err((ErrorCode::Refused, "asked too often".into())));
        }
        let master = self.parts.keys.master_pair().public;
        let (id, native) = (self.id.clone(), self.key);
        let judged = tokio::task::spawn_blocking(move || judge(&id, &native, &master, &proof));
        let vouched = match judged.await.ok().flatten() {
            Some(pem) => self.parts.keys.upgrade(&self.id, &pem, self.key).await,
            None => false,
        };
        if !vouched {
            return self.refuse_upgrade(session.seq);
        }
        self.reply(session.seq, Ok(Value::Null))?;
        self.rejudge().await
    }

    /// Refuses, says so aloud, and leaves everything as it was.
    fn refuse_upgrade(&mut self, seq: u64) -> Result<(), Ended> {
        let refused = self.parts.registry.refused_upgrade();
        let addr = self.peer.info.addr.to_string();
        tracing::warn!(minion_id = %self.id, addr, refused, "an upgrade was refused: it is not signed by the accepted key");
        if refused.is_power_of_two() {
            let data = map! { "id" => &self.id, "addr" => addr, "refused" => refused };
            self.parts.bus.try_fire(Tag::upgrade_refused(), &data);
        }
        self.reply(seq, Err((ErrorCode::Refused, "the upgrade is not signed by the accepted key".into())))
    }
}

/// Returns the RSA key if it has signed this native key for this id and this master.
fn judge(id: &MinionId, native: &[u8; 32], master: &[u8; 32], proof: &RsaProof) -> Option<String> {
    let rsa = PublicKey::from_pem(&proof.rsa_pub).ok()?;
    upgrade::judge_minion(&rsa, id, native, master, &proof.sig).ok()?;
    Some(rsa.pem().to_owned())
}
