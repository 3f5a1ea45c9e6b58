//! What the master publishes to all its Salt minions (salt-wire.md §4): a box under the shared key, signed over the
//! ciphertext, with a serial inside that only rises.

use ring::digest;

use super::crypticle::{BadContent, IV_LEN, SharedKey};
use super::rsa::{PrivateKey, PublicKey, SigAlgo};
use super::{MAX_PAYLOAD, Verified, bytes, msgpack};
use crate::ids::MinionId;
use crate::map;
use crate::value::{Map, MapExt, Value};

/// The topic of what is not addressed to ids (`zmq_filtering`).
pub const BROADCAST: &str = "broadcast";
/// The topic of syndics.
pub const SYNDIC: &str = "syndic";

/// Returns a minion's topic: the hex digits of its id's SHA-1 (salt-wire.md §4.3).
pub fn topic(id: &MinionId) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, id.as_str().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the topics under which a publication goes out where `zmq_filtering` is on: one for each minion if its target
/// names ids (`glob`, `pcre`, `list`), and that of syndics if they are to hear it; else one for all, which syndics hear too.
pub fn topics(tgt_type: &str, minions: &[MinionId], syndics: Syndics) -> Vec<String> {
    match tgt_type {
        "glob" | "pcre" | "list" => {
            let syndics = (syndics == Syndics::Hear).then(|| SYNDIC.to_owned());
            minions.iter().map(topic).chain(syndics).collect()
        }
        _ => vec![BROADCAST.to_owned()],
    }
}

/// Whether a publication may be for minions of syndics (`order_masters`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syndics {
    /// It may.
    Hear,
    /// It is for this master's own minions.
    No,
}

/// Encodes a publication: the payload frame. The serial must be larger than any before under this key. With a master's
/// key it is signed (`sign_pub_messages`).
pub fn seal(
    shared: &SharedKey,
    iv: [u8; IV_LEN],
    mut load: Map,
    serial: u64,
    signer: Option<(&PrivateKey, SigAlgo)>,
) -> Vec<u8> {
    load.set("serial", serial);
    let sealed = shared.0.seal_map(iv, None, &load);
    let mut outer = map! { "enc" => "aes", "load" => Value::Bytes(sealed.clone()) };
    if let Some((master, algo)) = signer {
        outer.set("sig_algo", algo.name());
        outer.set("sig", Value::Bytes(master.sign(algo, &sealed)));
    }
    msgpack::encode_map(&outer)
}

/// Why a publication is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPublication {
    /// It is under another key: the minion authenticates anew and opens the same payload once more.
    #[error("the publication does not open with the shared key")]
    Content(#[from] BadContent),
    /// A field is missing or of the wrong kind.
    #[error("the publication has no {0:?}, or a wrong one")]
    Field(&'static str),
    /// The payload is not msgpack, or longer than [`MAX_PAYLOAD`].
    #[error("the payload is not msgpack, or longer than {MAX_PAYLOAD} bytes")]
    NotMsgpack,
    /// Its serial is not larger than the last one: it was seen before.
    #[error("the publication has serial {serial}, the last one had {last}")]
    Replayed {
        /// The serial of this one.
        serial: u64,
        /// The last one that was taken.
        last: u64,
    },
    /// It is not signed by the master.
    #[error("the publication is not signed by the master's key")]
    Signature,
}

/// A minion's ear: opens publications under one shared key, each once. A new key begins anew at serial 0.
#[derive(Debug)]
pub struct Ear {
    shared: SharedKey,
    signer: Option<PublicKey>,
    last: u64,
}

impl Ear {
    /// Begins with a key. With the master's public key every publication must be signed by it: the shared key alone
    /// proves no more than that an accepted minion, or the master, has closed the box.
    pub fn new(shared: SharedKey, signer: Option<PublicKey>) -> Ear {
        Ear { shared, signer, last: 0 }
    }

    /// Takes what a new authentication gave. Serials begin anew if the key is another one; under the same key they go on, so
    /// that nothing that was heard is heard again.
    pub fn renew(&mut self, shared: SharedKey, signer: Option<PublicKey>) {
        if self.shared != shared {
            (self.shared, self.last) = (shared, 0);
        }
        self.signer = signer;
    }

    /// Returns the serial of the last publication that was taken.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Opens a publication and returns its load, once.
    pub fn open(&mut self, payload: &[u8]) -> Result<Verified<Map>, BadPublication> {
        if payload.len() > MAX_PAYLOAD {
            return Err(BadPublication::NotMsgpack);
        }
        let outer = msgpack::decode_unproven_map(payload).map_err(|_| BadPublication::NotMsgpack)?;
        if outer.text("enc") != Some("aes") {
            return Err(BadPublication::Field("enc"));
        }
        let sealed = bytes(&outer, "load").ok_or(BadPublication::Field("load"))?;
        if let Some(master) = &self.signer {
            let algo = outer.text("sig_algo").and_then(SigAlgo::parse).ok_or(BadPublication::Signature)?;
            let sig = bytes(&outer, "sig").ok_or(BadPublication::Signature)?;
            master.verify(algo, sealed, sig).map_err(|_| BadPublication::Signature)?;
        }
        let Value::Map(load) = self.shared.0.open(None, sealed)? else { return Err(BadPublication::Field("load")) };
        let serial = load.at("serial").and_then(Value::as_u64).ok_or(BadPublication::Field("serial"))?;
        if serial <= self.last {
            return Err(BadPublication::Replayed { serial, last: self.last });
        }
        self.last = serial;
        Ok(Verified(load))
    }
}
