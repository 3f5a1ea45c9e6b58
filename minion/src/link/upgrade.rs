//! Upgrade in place: a host that was a Salt minion keeps its id and its trust (native-wire.md §2, §4).
//!
//! The pinned key of a Salt master (`minion_master.pub`) must vouch for the native key that `hello` offers, and the minion's
//! own accepted key (`minion.pem`) vouches for its native one. Both files stay as they are.

use proto::message::RsaProof;
use proto::message::hello::HelloReply;
use proto::salt::rsa::PublicKey;
use proto::salt::upgrade;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::connect::{DialError, Target};
use super::keys::KeyError;
use super::salt::{self, pin_path};
use super::trust::TrustError;

/// Judges a master that is not known natively yet by the pinned key of a Salt master, if there is one.
pub(super) async fn judge(target: &Target, reply: &HelloReply) -> Result<(), DialError> {
    let (folder, reply) = (target.pki_dir.clone(), reply.clone());
    let demanded = target.demands.key.is_some() || target.demands.finger.is_some();
    let judged = spawn_blocking(move || -> Result<(), DialError> {
        let Some(pinned) = salt::pinned(&folder)? else { return Ok(()) };
        let path = pin_path(&folder);
        match vouched(&pinned, &reply) {
            Ok(()) => {
                info!(path = %path.display(), "the pinned key of the Salt master vouches for the master's native key");
                Ok(())
            }
            // What the configuration demands is judged next, and is the newer word.
            Err(Refusal::Silent) if demanded => Ok(()),
            Err(refusal) => Err(TrustError::NotVouched { path, why: refusal.text() }.into()),
        }
    });
    // It can only fail with the runtime.
    judged.await.unwrap_or(Err(DialError::Silent))
}

/// Why a pinned key does not vouch for a native one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Other,
    Silent,
    Signature,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Refusal::Other => "it has another RSA key than the pinned one",
            Refusal::Silent => {
                "it does not say which RSA key it has (a Halite master has one with salt_listener: True)"
            }
            Refusal::Signature => "the signature of its native key is wrong",
        }
    }
}

fn vouched(pinned: &PublicKey, reply: &HelloReply) -> Result<(), Refusal> {
    let proof = reply.rsa.as_ref().ok_or(Refusal::Silent)?;
    if PublicKey::from_pem(&proof.rsa_pub).as_ref() != Ok(pinned) {
        return Err(Refusal::Other);
    }
    upgrade::judge_master(pinned, &reply.key, &proof.sig).map_err(|_| Refusal::Signature)
}

/// Signs our native key with our key of Salt's, if there is one, for this master alone.
pub(super) async fn vouch(target: &Target, master: [u8; 32]) -> Option<RsaProof> {
    let (folder, id, native) = (target.pki_dir.clone(), target.id.clone(), target.key.pair.public());
    let signed = spawn_blocking(move || -> Result<Option<RsaProof>, KeyError> {
        let Some(key) = salt::existing(&folder)? else { return Ok(None) };
        let sig = upgrade::vouch_for_minion(&key, &id, &native, &master);
        Ok(Some(RsaProof { rsa_pub: key.public().pem().to_owned(), sig }))
    });
    match signed.await {
        Ok(Ok(proof)) => proof,
        Ok(Err(error)) => {
            warn!("{error}: {}; it cannot vouch for this minion", super::words::chain(&error));
            None
        }
        // It can only fail with the runtime.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proto::salt::rsa::PrivateKey;

    use super::*;

    #[test]
    fn only_the_pinned_keys_own_signature_over_this_native_key_counts() {
        let (master, other) = (PrivateKey::generate(2048).unwrap(), PrivateKey::generate(2048).unwrap());
        let reply = |rsa: &PrivateKey, signed: [u8; 32]| HelloReply {
            version: 1,
            master_id: "m".into(),
            key: [7; 32],
            software: String::new(),
            rsa: Some(RsaProof {
                rsa_pub: rsa.public().pem().to_owned(),
                sig: upgrade::vouch_for_master(rsa, &signed),
            }),
        };
        let pinned = master.public();
        assert_eq!(vouched(pinned, &reply(&master, [7; 32])), Ok(()));
        assert_eq!(vouched(pinned, &reply(&master, [8; 32])), Err(Refusal::Signature));
        assert_eq!(vouched(pinned, &reply(&other, [7; 32])), Err(Refusal::Other));
        let mut forged = reply(&other, [7; 32]);
        forged.rsa.iter_mut().for_each(|proof| proof.rsa_pub = pinned.pem().to_owned());
        assert_eq!(vouched(pinned, &forged), Err(Refusal::Signature));
        assert_eq!(vouched(pinned, &HelloReply { rsa: None, ..forged }), Err(Refusal::Silent));
    }
}
