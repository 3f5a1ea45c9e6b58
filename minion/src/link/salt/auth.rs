//! The RSA work of a session, which blocks: reading the keys, asking for acceptance, judging the answer, pinning the
//! master's key, opening a pillar. The loop has one piece of it under way at a time, on a thread of the blocking pool.

use std::sync::Arc;

use proto::salt::auth::{Applicant, Attempt, AuthAnswer, AuthRefused, Credentials, Standing, Trust};
use proto::salt::crypticle::KEY_LEN;
use proto::salt::pillar::{BadPillar, Waiting};
use proto::salt::request::{Asker, Token};
use proto::salt::rsa::{PrivateKey, PublicKey};
use proto::salt::{Nonce, Verified};
use proto::value::{Map, Value};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::super::keys::KeyError;
use super::state::Judged;
use super::{Target, keys};

/// Who we are: the pair, and what it makes once.
pub(super) struct Own {
    pub(super) key: PrivateKey,
    pub(super) asker: Asker,
}

/// A request for acceptance that was made, and what its answer is judged by.
pub(super) struct Prepared {
    pub(super) own: Arc<Own>,
    pub(super) payload: Vec<u8>,
    attempt: Attempt,
    trust: Trust,
}

/// What came of it.
pub(super) enum Outcome {
    Accepted(Box<Credentials>),
    Standing(Standing),
}

/// Why there is no acceptance.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthError {
    #[error("authenticate: {0}")]
    Answer(#[from] AuthRefused),
    #[error("use the key files")]
    Keys(#[from] KeyError),
    #[error("authenticate: the system gives no random bytes")]
    NoRandom,
    #[error("authenticate: OpenSSL refused to seal the token for the pinned master key")]
    Token,
}

impl AuthError {
    /// A bare answer says nothing about who gave it.
    pub(super) fn judged(&self) -> Judged {
        match self {
            AuthError::Answer(AuthRefused::Bare(_)) => Judged::Failed,
            _ => Judged::Distrusted,
        }
    }

    /// Says what an administrator can do, where there is something.
    pub(super) fn remedy(&self, target: &Target) -> String {
        let pin = keys::pin_path(&target.pki_dir);
        match self {
            AuthError::Answer(AuthRefused::MasterChanged(_)) => format!(
                "someone may be in between. If the master's key was replaced on purpose, compare the fingerprint with what \
                 `salt-key -F master` shows on the master, then delete {}; this minion pins the new key by itself",
                pin.display()
            ),
            AuthError::Answer(AuthRefused::Finger(_)) => {
                "correct master_finger if the master is the right one".to_owned()
            }
            AuthError::Answer(AuthRefused::PubSig) => {
                "verify_master_pubkey_sign here and master_sign_pubkey on the master go together".to_owned()
            }
            AuthError::Answer(AuthRefused::Algorithm(_)) => {
                "set encryption_algorithm and signing_algorithm to what the master knows".to_owned()
            }
            AuthError::Answer(AuthRefused::Signature) => format!(
                "the answer is not from the master whose key is pinned in {}; is this the right master?",
                pin.display()
            ),
            AuthError::Answer(AuthRefused::Bare(_)) => {
                "does the master speak version 3 of Salt's protocol (3006.12, 3007.4 or later)?".to_owned()
            }
            _ => "it is tried again".to_owned(),
        }
    }
}

/// Makes the request; reads the key files, and makes the pair at the first start.
pub(super) fn prepare(target: &Target, own: Option<Arc<Own>>, grains: Option<&Map>) -> Result<Prepared, AuthError> {
    let own = match own {
        Some(own) => own,
        None => Arc::new(Own::read(target)?),
    };
    let signer = target.sign_key.as_ref().map(|name| keys::public(&target.pki_dir.join(format!("{name}.pub"))));
    let trust =
        Trust { pinned: keys::pinned(&target.pki_dir)?, finger: target.finger.clone(), signer: signer.transpose()? };
    let mut token = Zeroizing::new([0; KEY_LEN]);
    SystemRandom::new().fill(&mut *token).map_err(|_| AuthError::NoRandom)?;
    let asked = applicant(target, &own, &trust, grains).ask(random()?, token);
    let (attempt, payload) = asked.map_err(|_| AuthError::Token)?;
    Ok(Prepared { own, payload, attempt, trust })
}

/// Judges the answer. A master that is accepted for the first time is pinned before this returns.
pub(super) fn judge(target: &Target, prepared: &Prepared, answer: &[u8]) -> Result<Outcome, AuthError> {
    let Prepared { own, attempt, trust, .. } = prepared;
    let credentials = match applicant(target, own, trust, None).judge(attempt, answer)? {
        AuthAnswer::Standing { standing, .. } => return Ok(Outcome::Standing(standing)),
        AuthAnswer::Accepted(credentials) => credentials.into_inner(),
    };
    let fingerprint = credentials.master.fingerprint();
    let path = keys::pin_path(&target.pki_dir);
    match &trust.pinned {
        Some(pinned) if *pinned == credentials.master => {}
        Some(_) => {
            keys::pin_anew(&target.pki_dir, &credentials.master)?;
            warn!(%fingerprint, path = %path.display(), "the master has a new key, signed by its signing key; it is pinned");
        }
        None => {
            keys::pin(&target.pki_dir, &credentials.master)?;
            // Another process may have pinned first; what is pinned counts.
            if keys::pinned(&target.pki_dir)?.as_ref() != Some(&credentials.master) {
                return Err(AuthRefused::MasterChanged(fingerprint).into());
            }
            info!(%fingerprint, path = %path.display(), "the master's key is pinned");
        }
    }
    Ok(Outcome::Accepted(Box::new(credentials)))
}

/// Opens the reply to `_pillar`.
pub(super) fn open_pillar(own: &Own, master: &PublicKey, nonce: Nonce, reply: &[u8]) -> Result<Value, BadPillar> {
    let (enc_algo, sig_algo) = (own.asker.enc_algo, own.asker.sig_algo);
    Waiting { key: &own.key, master, enc_algo, sig_algo, nonce }.open(reply).map(Verified::into_inner)
}

/// Returns random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthError::NoRandom)?;
    Ok(bytes)
}

impl Own {
    fn read(target: &Target) -> Result<Own, KeyError> {
        let key = keys::own(&target.pki_dir, target.key_bits)?;
        let token = Token::new(&key);
        info!(fingerprint = %key.public().fingerprint(), "RSA key pair");
        let asker = Asker { id: target.id.clone(), token, enc_algo: target.enc_algo, sig_algo: target.sig_algo };
        Ok(Own { key, asker })
    }
}

fn applicant<'a>(target: &'a Target, own: &'a Own, trust: &'a Trust, grains: Option<&'a Map>) -> Applicant<'a> {
    Applicant {
        id: &target.id,
        key: &own.key,
        enc_algo: target.enc_algo,
        sig_algo: target.sig_algo,
        autosign_grains: grains,
        trust,
    }
}
