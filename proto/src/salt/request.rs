//! A minion's request under its session key, and the reply (salt-wire.md §5.1): both halves.
//!
//! The master believes a request when the session key opens it, the ids outside and inside are one, and its token was
//! made by the accepted RSA key. Signed returns (§5.3) are made and verified here too.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::crypticle::{BadContent, IV_LEN, SessionKey};
use super::envelope::{BadRequest, BareReply, Envelope, SealedRequest};
use super::rsa::{EncAlgo, PrivateKey, PublicKey, Refused, SigAlgo};
use super::{Nonce, Verified, bytes, msgpack};
use crate::ids::MinionId;
use crate::value::{Map, MapExt, Value};

/// What a token opens to.
const TOKEN: &[u8] = b"salt";

/// A minion's proof of its RSA key: constant for the life of the key, so it is made once (salt-wire.md §2.6).
pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    /// Makes the token of a key.
    pub fn new(key: &PrivateKey) -> Token {
        let token = key.seal_x931(TOKEN).expect("four bytes fit into the smallest modulus that is taken");
        Token(Zeroizing::new(token))
    }

    /// Returns the bytes as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token that a key has been seen to have made. It belongs to that key: with another one it says nothing.
pub struct ProvenToken(Zeroizing<Vec<u8>>);

impl ProvenToken {
    fn prove(key: &PublicKey, token: &[u8]) -> Option<ProvenToken> {
        let opened = key.open_x931(token).ok()?;
        (opened == TOKEN).then(|| ProvenToken(Zeroizing::new(token.to_vec())))
    }

    fn is(&self, token: &[u8]) -> bool {
        bool::from(self.0.as_slice().ct_eq(token))
    }
}

impl fmt::Debug for ProvenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProvenToken(..)")
    }
}

/// What is new in each request: the nonce, the vector of its box, the time.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Ties the reply to the request.
    pub nonce: Nonce,
    /// The vector of the box: random.
    pub iv: [u8; IV_LEN],
    /// The time, in seconds since 1970.
    pub unix_s: u64,
}

/// A minion that asks.
#[derive(Debug)]
pub struct Asker {
    /// The minion's id.
    pub id: MinionId,
    /// The proof of its key.
    pub token: Token,
    /// How keys in replies shall be sealed.
    pub enc_algo: EncAlgo,
    /// How replies shall be signed.
    pub sig_algo: SigAlgo,
}

impl Asker {
    /// Closes a load and encodes the request. What Salt's client adds to a load is added here.
    pub fn seal(&self, session: &SessionKey, fresh: &Fresh, mut load: Map) -> Vec<u8> {
        load.set("nonce", fresh.nonce.as_str());
        load.set("ts", fresh.unix_s);
        load.set("tok", Value::Bytes(self.token.0.to_vec()));
        load.set("id", &self.id);
        let sealed = session.0.seal_map(fresh.iv, None, &load);
        let (id, enc_algo, sig_algo) = (self.id.clone(), self.enc_algo, self.sig_algo);
        Envelope::Aes(SealedRequest { id, enc_algo, sig_algo, sealed }).encode()
    }
}

/// How old a request may be (`request_server_ttl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// As old as it likes: Salt's default.
    Off,
    /// At most this old. A load that does not say its time is too old.
    Seconds {
        /// The limit.
        ttl_s: u64,
        /// The time now, in seconds since 1970.
        now_s: u64,
    },
}

/// A minion's request.
#[derive(Clone, PartialEq, Eq)]
pub struct MinionRequest {
    /// The minion.
    pub id: MinionId,
    /// Ties the reply to the request; without one the reply has none.
    pub nonce: Option<Nonce>,
    /// How a key in the reply is sealed.
    pub enc_algo: EncAlgo,
    /// How the reply is signed.
    pub sig_algo: SigAlgo,
    /// The load without `nonce` and `tok`; `ts` stays, for it appears in events.
    pub load: Map,
}

impl fmt::Debug for MinionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Returns and events are nobody's business but their readers'.
        write!(f, "MinionRequest {{ id: {:?}, cmd: {:?} }}", self.id, self.load.text("cmd"))
    }
}

impl SealedRequest {
    /// Opens the request: the key is the accepted one of the minion that the envelope names.
    pub fn open(&self, session: &SessionKey, key: &PublicKey, ttl: Ttl) -> Result<Verified<MinionRequest>, BadRequest> {
        self.open_proven(session, key, None, ttl).map(|(request, _)| request)
    }

    /// Opens the request; a token that this key has made before need not be opened again. Returns the token too, to be
    /// kept with the key for the next request.
    pub fn open_proven(
        &self,
        session: &SessionKey,
        key: &PublicKey,
        proven: Option<&ProvenToken>,
        ttl: Ttl,
    ) -> Result<(Verified<MinionRequest>, Option<ProvenToken>), BadRequest> {
        let load = session.0.open(None, &self.sealed).map_err(|error| match error {
            BadContent::Box(_) => BadRequest::Sealed,
            BadContent::Decode(_) | BadContent::Nonce => BadRequest::LoadNotMap,
        })?;
        let Value::Map(mut load) = load else { return Err(BadRequest::LoadNotMap) };
        if is_stale(&load, ttl) {
            return Err(BadRequest::Stale);
        }
        if bytes(&load, "id") != Some(self.id.as_str().as_bytes()) {
            return Err(BadRequest::IdsDiffer);
        }
        let token = load.take("tok").ok_or(BadRequest::Token)?;
        let token = token.as_bytes().unwrap_or_default();
        let new = match proven.filter(|proven| proven.is(token)) {
            Some(_) => None,
            None => Some(ProvenToken::prove(key, token).ok_or(BadRequest::Token)?),
        };
        let nonce = load.take("nonce").map(|nonce| Nonce::parse(nonce.as_bytes().unwrap_or_default()));
        let nonce = nonce.transpose().map_err(|_| BadRequest::Nonce)?;
        if load.text("cmd").is_none() {
            return Err(BadRequest::Command);
        }
        let (id, enc_algo, sig_algo) = (self.id.clone(), self.enc_algo, self.sig_algo);
        Ok((Verified(MinionRequest { id, nonce, enc_algo, sig_algo, load }), new))
    }
}

fn is_stale(load: &Map, ttl: Ttl) -> bool {
    match ttl {
        Ttl::Off => false,
        Ttl::Seconds { ttl_s, now_s } => {
            let sent_s = load.at("ts").and_then(Value::as_u64);
            sent_s.is_none_or(|sent_s| now_s.saturating_sub(sent_s) > ttl_s)
        }
    }
}

impl Verified<MinionRequest> {
    /// Closes and encodes the reply. An empty text says that the handler failed, an empty map that the command or a
    /// field is not known (salt-wire.md §1.4).
    pub fn reply(&self, session: &SessionKey, iv: [u8; IV_LEN], value: &Value) -> Vec<u8> {
        msgpack::encode(&Value::Bytes(session.0.seal(iv, self.0.nonce.as_ref(), value)))
    }
}

/// Why a reply is not taken. All but a wrong content are cured by authenticating anew and asking once more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// The master gave a bare answer.
    #[error("the master gave a bare answer: {0:?}")]
    Bare(BareReply),
    /// The box does not open, or holds the reply to another request.
    #[error("the reply does not open")]
    Content(#[from] BadContent),
    /// It is not a box.
    #[error("the reply is not a box")]
    NotABox,
}

/// Opens the reply to a request.
pub fn open_reply(session: &SessionKey, nonce: &Nonce, payload: &[u8]) -> Result<Verified<Value>, BadReply> {
    let value = msgpack::decode_unproven(payload).map_err(|_| BadReply::NotABox)?;
    if let Some(bare) = BareReply::of(&value) {
        return Err(BadReply::Bare(bare));
    }
    let sealed = value.as_bytes().ok_or(BadReply::NotABox)?;
    Ok(Verified(session.0.open(Some(nonce), sealed)?))
}

/// The fields that a return's own signature does not cover.
const UNSIGNED: [&str; 3] = ["nonce", "tok", "sig"];

/// Adds to a return's load its own signature (`minion_sign_messages`, salt-wire.md §5.3), over the load as it stands.
pub fn sign_return(key: &PrivateKey, algo: SigAlgo, load: &mut Map) {
    let sig = key.sign(algo, &signed_part(load));
    load.set("sig", Value::Bytes(sig));
}

/// Verifies the signature that a return's load carries.
pub fn verify_return(key: &PublicKey, algo: SigAlgo, load: &Map) -> Result<(), Refused> {
    key.verify(algo, &signed_part(load), bytes(load, "sig").ok_or(Refused)?)
}

fn signed_part(load: &Map) -> Vec<u8> {
    let part: Map = load
        .iter()
        .filter(|(key, _)| key.as_str().is_none_or(|name| !UNSIGNED.contains(&name)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    msgpack::encode_modern(&Value::Map(part))
}
