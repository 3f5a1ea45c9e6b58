//! `publish`: a job on its way to a minion (native-wire.md §5, fields of salt-wire.md §4.2).

use bytes::Bytes;

use super::{BadLoad, Fields};
use crate::ids::Jid;
use crate::msgpack;
use crate::value::{Map, MapExt, Value};

/// A publication: its fields in their order, with those that everybody needs at hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// The job.
    pub jid: Jid,
    /// Where this stands among all publications: an opaque resume point.
    pub serial: u64,
    /// When a minion must no longer start the job, in Unix milliseconds.
    pub expires_ms: u64,
    /// Salt's fields: `fun arg tgt jid ret tgt_type user` and the optional ones.
    pub load: Map,
}

impl Publish {
    /// Reads a publication.
    pub fn decode(load: &Bytes) -> Result<Publish, BadLoad> {
        let fields = Fields::read(load)?;
        match fields.str("cmd")? {
            "publish" => Publish::from_map(msgpack::decode_map(load)?),
            other => Err(BadLoad::UnknownCmd(other.to_owned())),
        }
    }

    /// Reads a publication that is decoded already, as `jobs_since` returns them.
    pub fn from_map(mut load: Map) -> Result<Publish, BadLoad> {
        load.take("cmd");
        let jid = load.text("jid").and_then(|jid| Jid::parse(jid).ok()).ok_or(BadLoad::Field("jid"))?;
        let mut number =
            |name: &'static str| load.take(name).as_ref().and_then(Value::as_u64).ok_or(BadLoad::Field(name));
        let (serial, expires_ms) = (number("serial")?, number("expires")?);
        if load.at("fun").is_none() {
            return Err(BadLoad::Field("fun"));
        }
        Ok(Publish { jid, serial, expires_ms, load })
    }

    /// Returns the whole map that travels.
    pub fn to_map(&self) -> Map {
        let mut map = crate::map! { "cmd" => "publish", "serial" => self.serial, "expires" => self.expires_ms };
        map.extend(self.load.clone());
        map
    }

    /// Encodes the publication.
    pub fn encode(&self) -> Vec<u8> {
        msgpack::encode_map(&self.to_map())
    }
}
