//! The envelope of a request, and what is answered without a key (salt-wire.md §1.3, §1.4): `{enc, load, version, …}`.

use std::fmt;

use super::rsa::{EncAlgo, SigAlgo};
use super::{MAX_PAYLOAD, MAX_UNPROVEN_VALUES, VERSION, bytes, msgpack};
use crate::ids::MinionId;
use crate::map;
use crate::msgpack::DecodeError;
use crate::value::{Map, MapExt, Value};

/// A request as it arrives: nothing of it is proven.
#[derive(Clone, PartialEq, Eq)]
pub enum Envelope {
    /// Under a session key.
    Aes(SealedRequest),
    /// In the clear: `_auth`, and the commands of local clients.
    Clear(Map),
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Envelope::Aes(request) => write!(f, "Aes({:?})", request.id),
            // Local clients send keys and passwords.
            Envelope::Clear(load) => write!(f, "Clear({:?})", load.text("cmd")),
        }
    }
}

/// A request that only the session key of its minion opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRequest {
    /// The minion that it says it is from: names the session key, proves nothing.
    pub id: MinionId,
    /// How the reply's key is sealed for the minion, where one is (`_pillar`).
    pub enc_algo: EncAlgo,
    /// How the reply is signed, where it is (`_pillar`).
    pub sig_algo: SigAlgo,
    /// The box.
    pub sealed: Vec<u8>,
}

/// Why a payload is not a request that is answered under a key. The variants are for the log; what the peer learns is
/// [`BadRequest::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// An algorithm is unknown.
    #[error("the algorithms of the envelope are not known")]
    Algorithm,
    /// Salt's own server fails without an answer of its own: the load has no command.
    #[error("the load has no cmd")]
    Command,
    /// The envelope lacks a field, or one is of the wrong kind.
    #[error("the envelope has no {0:?}, or a wrong one")]
    Field(&'static str),
    /// The minion id is not one.
    #[error("the id of the envelope is not a minion id")]
    Id,
    /// The ids outside and inside of the box differ.
    #[error("the ids outside and inside of the box differ")]
    IdsDiffer,
    /// The load is not a map.
    #[error("the load is not a map")]
    LoadNotMap,
    /// The nonce is not one.
    #[error("the nonce is not one")]
    Nonce,
    /// It is not msgpack.
    #[error("the payload is not msgpack")]
    NotMsgpack,
    /// The id contains NUL.
    #[error("the id contains NUL")]
    NulInId,
    /// The box does not open with the session key.
    #[error("the box does not open with the session key of its id")]
    Sealed,
    /// The request is older than is allowed.
    #[error("the request is too old")]
    Stale,
    /// The token is missing, or another key's.
    #[error("the token was not made by the accepted key")]
    Token,
    /// The payload is longer than [`MAX_PAYLOAD`], or holds more than [`MAX_UNPROVEN_VALUES`].
    #[error("the payload is longer than {MAX_PAYLOAD} bytes, or holds more than {MAX_UNPROVEN_VALUES} values")]
    TooLarge,
    /// The version is missing or below [`VERSION`].
    #[error("the protocol version is missing or below {VERSION}")]
    Version,
}

impl BadRequest {
    /// Returns what the peer is told: never what was wrong with its credentials.
    pub fn answer(self) -> BareReply {
        match self {
            BadRequest::Command => BareReply::Exception,
            BadRequest::LoadNotMap => BareReply::NotAMap,
            BadRequest::NotMsgpack => BareReply::RoutingError,
            BadRequest::NulInId => BareReply::NulInId,
            BadRequest::Algorithm
            | BadRequest::Field(_)
            | BadRequest::Id
            | BadRequest::IdsDiffer
            | BadRequest::Nonce
            | BadRequest::Sealed
            | BadRequest::Stale
            | BadRequest::Token
            | BadRequest::TooLarge
            | BadRequest::Version => BareReply::BadLoad,
        }
    }
}

/// A reply without a key: plain msgpack. A minion takes one for a failed HMAC, authenticates anew and asks once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareReply {
    /// `bad load`.
    BadLoad,
    /// An empty map: no such clear command.
    Empty,
    /// Anything else went wrong.
    Exception,
    /// The load is not a map.
    NotAMap,
    /// The id contains NUL.
    NulInId,
    /// The payload is not msgpack; in the form of 3008.
    RoutingError,
}

/// The bare replies that are texts.
const TEXTS: [(BareReply, &str); 4] = [
    (BareReply::BadLoad, "bad load"),
    (BareReply::Exception, "Some exception handling minion payload"),
    (BareReply::NotAMap, "payload and load must be a dict"),
    (BareReply::NulInId, "bad load: id contains a null byte"),
];

impl BareReply {
    /// Encodes the reply.
    pub fn encode(self) -> Vec<u8> {
        msgpack::encode(&match self {
            BareReply::Empty => Value::Map(Map::new()),
            BareReply::RoutingError => Value::Map(map! { "error" => "Routing error" }),
            BareReply::BadLoad | BareReply::Exception | BareReply::NotAMap | BareReply::NulInId => {
                let text = TEXTS.iter().find(|(reply, _)| *reply == self);
                Value::from(text.expect("the texts of all of them are listed").1)
            }
        })
    }

    /// Recognises a decoded reply. 3006 says `{msg: bad load}` to what is not msgpack.
    pub fn of(value: &Value) -> Option<BareReply> {
        match value {
            Value::Str(text) => TEXTS.iter().find(|(_, known)| known == text).map(|(reply, _)| *reply),
            Value::Map(map) if map.is_empty() => Some(BareReply::Empty),
            Value::Map(map) if map.text("error") == Some("Routing error") => Some(BareReply::RoutingError),
            Value::Map(map) if map.text("msg") == Some("bad load") => Some(BareReply::RoutingError),
            _ => None,
        }
    }
}

impl Envelope {
    /// Reads a payload of the request port. The version is judged first: below [`VERSION`] nothing else is looked at.
    pub fn decode(payload: &[u8]) -> Result<Envelope, BadRequest> {
        if payload.len() > MAX_PAYLOAD {
            return Err(BadRequest::TooLarge);
        }
        let outer = msgpack::decode_unproven(payload).map_err(|error| match error {
            DecodeError::TooMany => BadRequest::TooLarge,
            _ => BadRequest::NotMsgpack,
        })?;
        let outer = outer.as_map().ok_or(BadRequest::Field("enc"))?;
        let enc = outer.text("enc").ok_or(BadRequest::Field("enc"))?;
        let load = outer.at("load").ok_or(BadRequest::Field("load"))?;
        let version = outer.at("version").and_then(Value::as_u64).ok_or(BadRequest::Version)?;
        if version < VERSION {
            return Err(BadRequest::Version);
        }
        match enc {
            "aes" => sealed(outer).map(Envelope::Aes),
            "clear" => load.as_map().cloned().map(Envelope::Clear).ok_or(BadRequest::LoadNotMap),
            _ => Err(BadRequest::Field("enc")),
        }
    }

    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        msgpack::encode_map(&match self {
            Envelope::Aes(request) => map! {
                "enc" => "aes",
                "load" => Value::Bytes(request.sealed.clone()),
                "version" => VERSION,
                "id" => &request.id,
                "enc_algo" => request.enc_algo.name(),
                "sig_algo" => request.sig_algo.name(),
            },
            Envelope::Clear(load) => map! { "enc" => "clear", "load" => load.clone(), "version" => VERSION },
        })
    }
}

fn sealed(outer: &Map) -> Result<SealedRequest, BadRequest> {
    let id = bytes(outer, "id").ok_or(BadRequest::Field("id"))?;
    if id.contains(&0) {
        return Err(BadRequest::NulInId);
    }
    let id = MinionId::parse_bytes(id).map_err(|_| BadRequest::Id)?;
    // Without a name the default is meant: only `_pillar` looks at them.
    let enc_algo = outer.text("enc_algo").map_or(Some(EncAlgo::OaepSha1), EncAlgo::parse);
    let sig_algo = outer.text("sig_algo").map_or(Some(SigAlgo::Pkcs1v15Sha1), SigAlgo::parse);
    Ok(SealedRequest {
        id,
        enc_algo: enc_algo.ok_or(BadRequest::Algorithm)?,
        sig_algo: sig_algo.ok_or(BadRequest::Algorithm)?,
        sealed: bytes(outer, "load").ok_or(BadRequest::Field("load"))?.to_vec(),
    })
}
