//! The reply to `_pillar` (salt-wire.md §5.4): pillar under a key of its own, which is sealed for the minion's RSA key,
//! and signed by the master. Both halves.

use subtle::ConstantTimeEq;

use super::crypticle::{Crypticle, IV_LEN, OneTimeKey};
use super::envelope::BareReply;
use super::request::MinionRequest;
use super::rsa::{EncAlgo, PrivateKey, PublicKey, Refused, SigAlgo};
use super::{Nonce, Verified, bytes, msgpack};
use crate::map;
use crate::value::{Map, MapExt, Value};

/// Why a pillar reply is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPillar {
    /// The master gave a bare answer.
    #[error("the master gave a bare answer: {0:?}")]
    Bare(BareReply),
    /// A field is missing or of the wrong kind.
    #[error("the pillar reply has no {0:?}, or a wrong one")]
    Field(&'static str),
    /// It answers another request.
    #[error("the pillar reply answers another request")]
    Nonce,
    /// It is not sealed for this minion.
    #[error("the pillar reply is not sealed for this minion")]
    Sealed,
    /// The master has not signed it.
    #[error("the pillar reply is not signed by the master")]
    Signature,
}

/// Encodes the reply to a proven request, for the accepted key of its minion. The one-time key and the vector must be
/// random and new.
pub fn reply(
    request: &Verified<MinionRequest>,
    master: &PrivateKey,
    minion: &PublicKey,
    (one_time, iv): (&OneTimeKey, [u8; IV_LEN]),
    pillar: &Value,
) -> Result<Vec<u8>, Refused> {
    let request = request.get();
    let key = minion.encrypt(request.enc_algo, one_time.0.key_text().as_bytes())?;
    let mut data = map! { "key" => Value::Bytes(key.clone()), "pillar" => pillar.clone() };
    data.set("nonce", request.nonce.as_ref().map(Nonce::as_str));
    let data = msgpack::encode_map(&data);
    let sig = master.sign(request.sig_algo, &data);
    let inside = map! { "data" => Value::Bytes(data), "sig" => Value::Bytes(sig) };
    let sealed = one_time.0.seal_map(iv, None, &inside);
    Ok(msgpack::encode_map(&map! { "key" => Value::Bytes(key), "pillar" => Value::Bytes(sealed) }))
}

/// A minion that waits for its pillar.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// The minion's key.
    pub key: &'a PrivateKey,
    /// The master's key.
    pub master: &'a PublicKey,
    /// What the request asked for.
    pub enc_algo: EncAlgo,
    /// What the request asked for.
    pub sig_algo: SigAlgo,
    /// The nonce of the request.
    pub nonce: Nonce,
}

impl Waiting<'_> {
    /// Opens the reply.
    pub fn open(&self, payload: &[u8]) -> Result<Verified<Value>, BadPillar> {
        let value = msgpack::decode_unproven(payload).map_err(|_| BadPillar::Field("key"))?;
        if let Some(bare) = BareReply::of(&value) {
            return Err(BadPillar::Bare(bare));
        }
        let outer = value.as_map().ok_or(BadPillar::Field("key"))?;
        let sealed_key = field(outer, "key")?;
        let text = self.key.decrypt(self.enc_algo, sealed_key).map_err(|_| BadPillar::Sealed)?;
        let one_time = OneTimeKey(Crypticle::parse(&text).map_err(|_| BadPillar::Sealed)?);
        let inside = one_time.0.open(None, field(outer, "pillar")?).map_err(|_| BadPillar::Sealed)?;
        let inside = inside.as_map().ok_or(BadPillar::Field("data"))?;
        let data = field(inside, "data")?;
        self.master.verify(self.sig_algo, data, field(inside, "sig")?).map_err(|_| BadPillar::Signature)?;
        let mut data = msgpack::decode_map(data).map_err(|_| BadPillar::Field("data"))?;
        // The key outside is not signed, so it must be the one that is.
        if !bool::from(field(&data, "key")?.ct_eq(sealed_key)) {
            return Err(BadPillar::Signature);
        }
        if !self.nonce.is(data.at("nonce")) {
            return Err(BadPillar::Nonce);
        }
        data.take("pillar").map(Verified).ok_or(BadPillar::Field("pillar"))
    }
}

fn field<'a>(map: &'a Map, name: &'static str) -> Result<&'a [u8], BadPillar> {
    bytes(map, name).ok_or(BadPillar::Field(name))
}
