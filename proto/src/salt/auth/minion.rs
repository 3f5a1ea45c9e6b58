//! The minion's half of `_auth`: asks, and believes only what the master's key has signed (salt-wire.md §2.5).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::super::crypticle::{Crypticle, KEY_LEN, SessionKey, SharedKey};
use super::super::envelope::{BareReply, Envelope};
use super::super::rsa::{EncAlgo, PrivateKey, PublicKey, Refused, SigAlgo};
use super::super::{Nonce, Verified, bytes, msgpack};
use super::{AuthRequest, Standing, digest_of};
use crate::ids::{Fingerprint, MinionId};
use crate::value::{Map, MapExt, Value};

/// What a minion knows of its master before it asks.
#[derive(Debug, Default)]
pub struct Trust {
    /// The key that was trusted before (`minion_master.pub`). Without one the first key is trusted.
    pub pinned: Option<PublicKey>,
    /// The fingerprint that the master's key must have (`master_finger`).
    pub finger: Option<Fingerprint>,
    /// The key that must have signed the master's key (`verify_master_pubkey_sign`); it may sign a new one.
    pub signer: Option<PublicKey>,
}

/// A minion that asks for acceptance.
#[derive(Debug)]
pub struct Applicant<'a> {
    /// The minion's id.
    pub id: &'a MinionId,
    /// The minion's key.
    pub key: &'a PrivateKey,
    /// How the answer's keys shall be sealed.
    pub enc_algo: EncAlgo,
    /// How the answer shall be signed.
    pub sig_algo: SigAlgo,
    /// Grains that may vouch for the key.
    pub autosign_grains: Option<&'a Map>,
    /// What is known of the master.
    pub trust: &'a Trust,
}

/// One request that waits for its answer.
pub struct Attempt {
    nonce: Nonce,
    token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(..)")
    }
}

/// What a minion works with once it is accepted.
#[derive(Debug)]
pub struct Credentials {
    /// The master's key: to be pinned if none was.
    pub master: PublicKey,
    /// Opens publications.
    pub shared: SharedKey,
    /// Closes requests and opens replies.
    pub session: SessionKey,
    /// Where publications are to be had.
    pub publish_port: u16,
}

/// Whether an answer was signed by a key that was known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By the pinned key.
    Signed,
    /// The master's key is not known yet, so anybody can have said this.
    Unknown,
}

/// What the master answered.
#[derive(Debug)]
pub enum AuthAnswer {
    /// The key is accepted.
    Accepted(Box<Verified<Credentials>>),
    /// The key is not accepted now.
    Standing {
        /// How the key stands.
        standing: Standing,
        /// Whether that is proven.
        proof: Proof,
    },
}

/// Why an answer is not believed. For the minion's own log: nothing is sent to a master over this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefused {
    /// The master does not know an algorithm.
    #[error("the master does not know an algorithm: {0}")]
    Algorithm(&'static str),
    /// The master gave a bare answer.
    #[error("the master gave a bare answer: {0:?}")]
    Bare(BareReply),
    /// A field is missing or of the wrong kind.
    #[error("the answer has no {0:?}, or a wrong one")]
    Field(&'static str),
    /// The master's key has not the fingerprint that was asked for.
    #[error("the master's key has the fingerprint {0}, not the one of master_finger")]
    Finger(Fingerprint),
    /// A key was not sealed for this minion, or is none.
    #[error("the {0} key of the answer does not open")]
    Key(&'static str),
    /// The master's key is another one than was trusted.
    #[error("the master's key has changed: its fingerprint is {0}")]
    MasterChanged(Fingerprint),
    /// The answer is to another request.
    #[error("the answer is to another request")]
    Nonce,
    /// It is not msgpack.
    #[error("the answer is not msgpack")]
    NotMsgpack,
    /// The shared key is not proven by the master's key.
    #[error("the shared key is not proven by the master's key")]
    Proof,
    /// The signature over the master's key is missing, wrong, or was not asked for.
    #[error("the signature over the master's key is missing, wrong, or was not asked for")]
    PubSig,
    /// The signature of the answer is missing or wrong.
    #[error("the answer is not signed by the master's key")]
    Signature,
    /// The master could not open the token, so it has not the private key.
    #[error("the master has not proven its key: the token did not come back")]
    Token,
}

impl Applicant<'_> {
    /// Makes the request, and what is needed to judge its answer. The random bytes make the nonce and the token.
    pub fn ask(&self, nonce: [u8; 16], token: Zeroizing<[u8; KEY_LEN]>) -> Result<(Attempt, Vec<u8>), Refused> {
        let nonce = Nonce::from_random(nonce);
        let token = self.trust.pinned.as_ref().map(|_| Zeroizing::new(STANDARD.encode(token.as_slice())));
        let sealed = match (&self.trust.pinned, &token) {
            (Some(master), Some(token)) => Some(master.encrypt(self.enc_algo, token.as_bytes())?),
            _ => None,
        };
        let request = AuthRequest {
            id: self.id.clone(),
            nonce,
            enc_algo: self.enc_algo,
            sig_algo: self.sig_algo,
            public: self.key.public().clone(),
            token: sealed,
            autosign_grains: self.autosign_grains.cloned(),
        };
        Ok((Attempt { nonce, token }, Envelope::Clear(request.to_load()).encode()))
    }

    /// Judges an answer.
    pub fn judge(&self, attempt: &Attempt, answer: &[u8]) -> Result<AuthAnswer, AuthRefused> {
        let answer = msgpack::decode_unproven(answer).map_err(|_| AuthRefused::NotMsgpack)?;
        if let Some(bare) = BareReply::of(&answer) {
            return Err(AuthRefused::Bare(bare));
        }
        let outer = answer.as_map().ok_or(AuthRefused::Field("load"))?;
        if outer.text("enc") != Some("clear") {
            return Err(AuthRefused::Field("enc"));
        }
        if let Some(load) = outer.at("load").and_then(Value::as_map) {
            return Err(unsigned(load));
        }
        let load = bytes(outer, "load").ok_or(AuthRefused::Field("load"))?;
        let sig = bytes(outer, "sig").ok_or(AuthRefused::Signature)?;
        let inner = msgpack::decode_unproven_map(load).map_err(|_| AuthRefused::NotMsgpack)?;
        let signed = Signed { load, sig, inner: &inner };
        match inner.at("ret") {
            Some(ret) => self.standing(attempt, &signed, ret),
            None => self.accepted(attempt, &signed),
        }
    }

    fn standing(&self, attempt: &Attempt, signed: &Signed<'_>, ret: &Value) -> Result<AuthAnswer, AuthRefused> {
        let proof = match &self.trust.pinned {
            None => Proof::Unknown,
            Some(master) => {
                signed.verify(self.sig_algo, master)?;
                Proof::Signed
            }
        };
        signed.answers(&attempt.nonce)?;
        let standing = Standing::of(ret).ok_or(AuthRefused::Field("ret"))?;
        Ok(AuthAnswer::Standing { standing, proof })
    }

    /// The signature is verified before anything that it covers is used.
    fn accepted(&self, attempt: &Attempt, signed: &Signed<'_>) -> Result<AuthAnswer, AuthRefused> {
        let pem = signed.inner.text("pub_key").ok_or(AuthRefused::Field("pub_key"))?;
        let master = PublicKey::from_pem(pem).map_err(|_| AuthRefused::Field("pub_key"))?;
        self.trusts(&master, pem, signed.inner)?;
        signed.verify(self.sig_algo, &master)?;
        signed.answers(&attempt.nonce)?;
        let shared = SharedKey(self.key(signed.inner, "aes")?);
        let proven = bytes(signed.inner, "sig").and_then(|proof| master.open_x931(proof).ok());
        if !proven.is_some_and(|proven| bool::from(proven.ct_eq(digest_of(&shared).as_bytes()))) {
            return Err(AuthRefused::Proof);
        }
        self.token_came_back(attempt, signed.inner)?;
        let session = SessionKey(self.key(signed.inner, "session")?);
        let port = signed.inner.at("publish_port").and_then(Value::as_u64);
        let publish_port = port.and_then(|port| u16::try_from(port).ok()).ok_or(AuthRefused::Field("publish_port"))?;
        Ok(AuthAnswer::Accepted(Box::new(Verified(Credentials { master, shared, session, publish_port }))))
    }

    fn trusts(&self, master: &PublicKey, pem: &str, inner: &Map) -> Result<(), AuthRefused> {
        match (&self.trust.signer, inner.text("pub_sig")) {
            (None, None) => {
                if self.trust.pinned.as_ref().is_some_and(|pinned| pinned != master) {
                    return Err(AuthRefused::MasterChanged(master.fingerprint()));
                }
            }
            (Some(signer), Some(sig)) => {
                let sig = STANDARD.decode(sig.trim_end()).map_err(|_| AuthRefused::PubSig)?;
                signer.verify(self.sig_algo, pem.as_bytes(), &sig).map_err(|_| AuthRefused::PubSig)?;
            }
            (None, Some(_)) | (Some(_), None) => return Err(AuthRefused::PubSig),
        }
        match &self.trust.finger {
            Some(finger) if *finger != master.fingerprint() => Err(AuthRefused::Finger(master.fingerprint())),
            _ => Ok(()),
        }
    }

    fn key(&self, inner: &Map, name: &'static str) -> Result<Crypticle, AuthRefused> {
        let sealed = bytes(inner, name).ok_or(AuthRefused::Field(name))?;
        let text = self.key.decrypt(self.enc_algo, sealed).map_err(|_| AuthRefused::Key(name))?;
        Crypticle::parse(&text).map_err(|_| AuthRefused::Key(name))
    }

    fn token_came_back(&self, attempt: &Attempt, inner: &Map) -> Result<(), AuthRefused> {
        let Some(sent) = &attempt.token else { return Ok(()) };
        let sealed = bytes(inner, "token").ok_or(AuthRefused::Token)?;
        let token = self.key.decrypt(self.enc_algo, sealed).map_err(|_| AuthRefused::Token)?;
        if bool::from(token.ct_eq(sent.as_bytes())) { Ok(()) } else { Err(AuthRefused::Token) }
    }
}

/// A load with the signature over its bytes.
struct Signed<'a> {
    load: &'a [u8],
    sig: &'a [u8],
    inner: &'a Map,
}

impl Signed<'_> {
    fn verify(&self, sig_algo: SigAlgo, master: &PublicKey) -> Result<(), AuthRefused> {
        master.verify(sig_algo, self.load, self.sig).map_err(|_| AuthRefused::Signature)
    }

    fn answers(&self, nonce: &Nonce) -> Result<(), AuthRefused> {
        if nonce.is(self.inner.at("nonce")) { Ok(()) } else { Err(AuthRefused::Nonce) }
    }
}

/// An unsigned answer is never believed; it only says what to look for.
fn unsigned(load: &Map) -> AuthRefused {
    match load.text("ret") {
        Some("bad enc algo") => AuthRefused::Algorithm("bad enc algo"),
        Some("bad sig algo") => AuthRefused::Algorithm("bad sig algo"),
        _ => AuthRefused::Signature,
    }
}
