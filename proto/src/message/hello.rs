//! `hello`: first contact, in clear, before there is a key to trust (native-wire.md §2).

use bytes::Bytes;

use super::{BadLoad, Fields, RsaProof};
use crate::WIRE_VERSION;
use crate::map;
use crate::msgpack;
use crate::value::{MapExt, Value};

/// What a minion asks: which of its wire versions does the master speak?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloRequest {
    /// The versions of the native wire that the asker speaks.
    pub versions: Vec<u64>,
}

impl HelloRequest {
    /// Asks for the version of this crate.
    pub fn current() -> HelloRequest {
        HelloRequest { versions: vec![WIRE_VERSION] }
    }

    /// Reads the request.
    pub fn decode(load: &Bytes) -> Result<HelloRequest, BadLoad> {
        let fields = Fields::read(load)?;
        match fields.str("cmd")? {
            "hello" => {}
            other => return Err(BadLoad::UnknownCmd(other.to_owned())),
        }
        let versions = fields.value("versions")?.ok_or(BadLoad::Field("versions"))?;
        let versions = versions.as_list().ok_or(BadLoad::Field("versions"))?;
        Ok(HelloRequest { versions: versions.iter().filter_map(Value::as_u64).collect() })
    }

    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        msgpack::encode_map(&map! { "cmd" => "hello", "versions" => self.versions.clone() })
    }
}

/// What the master answers: who it is. Nothing here is secret, and nothing is to be believed before it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloReply {
    /// The version of the native wire that the master speaks.
    pub version: u64,
    /// The master's name.
    pub master_id: String,
    /// The master's X25519 public key.
    pub key: [u8; 32],
    /// The master's software and version.
    pub software: String,
    /// The master's RSA key, and its signature over `key`: from a master that serves Salt's minions too.
    pub rsa: Option<RsaProof>,
}

impl HelloReply {
    /// Reads the reply.
    pub fn decode(load: &Bytes) -> Result<HelloReply, BadLoad> {
        let fields = Fields::read(load)?;
        let key = fields.value("key")?.ok_or(BadLoad::Field("key"))?;
        Ok(HelloReply {
            version: fields.u64("version")?,
            master_id: fields.optional_str("master_id")?.unwrap_or_default().to_owned(),
            key: key.as_bytes().and_then(|key| key.try_into().ok()).ok_or(BadLoad::Field("key"))?,
            software: fields.optional_str("software")?.unwrap_or_default().to_owned(),
            rsa: RsaProof::read(fields.value("rsa_pub")?, fields.value("rsa_sig")?)?,
        })
    }

    /// Encodes the reply.
    pub fn encode(&self) -> Vec<u8> {
        let mut load = map! {
            "cmd" => "hello",
            "version" => self.version,
            "master_id" => self.master_id.as_str(),
            "key" => Value::Bytes(self.key.to_vec()),
            "software" => self.software.as_str(),
        };
        if let Some(proof) = &self.rsa {
            load.set("rsa_pub", proof.rsa_pub.as_str());
            load.set("rsa_sig", Value::Bytes(proof.sig.clone()));
        }
        msgpack::encode_map(&load)
    }
}
