//! The fields of an encoded map, found without decoding their values.

use bytes::Bytes;

use crate::msgpack::{self, DecodeError, Reader};
use crate::value::{Map, Value};

/// How many fields a message may have. The largest one of the wire has about twenty.
pub const MAX_FIELDS: usize = 256;

/// Why a load is not the message it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLoad {
    /// It is not msgpack, or not a map.
    #[error("the load is not a msgpack map")]
    Decode(#[from] DecodeError),
    /// A field is missing or of the wrong kind.
    #[error("field {0:?} is missing or wrong")]
    Field(&'static str),
    /// A limit is exceeded.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
    /// The command is not one of the wire's.
    #[error("unknown cmd {0:?}")]
    UnknownCmd(String),
}

/// A load's fields by name, each still encoded.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Fields<'a> {
    /// Finds the fields of an encoded map. All bytes must belong to it.
    pub fn read(load: &'a [u8]) -> Result<Fields<'a>, BadLoad> {
        let mut reader = Reader::new(load);
        let len = reader.map_len()?;
        if len > MAX_FIELDS {
            return Err(BadLoad::TooMany("fields", MAX_FIELDS));
        }
        let mut pairs = Vec::with_capacity(len);
        for _ in 0..len {
            let key = reader.key()?;
            let value = reader.raw()?;
            if let Some(key) = key {
                pairs.push((key, value));
            }
        }
        reader.finish()?;
        Ok(Fields(pairs))
    }

    /// Returns all fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// Returns a field's encoded value.
    pub fn raw(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Returns a text field.
    pub fn str(&self, name: &'static str) -> Result<&'a str, BadLoad> {
        self.optional_str(name)?.ok_or(BadLoad::Field(name))
    }

    /// Returns a text field that may be missing or nil.
    pub fn optional_str(&self, name: &'static str) -> Result<Option<&'a str>, BadLoad> {
        match self.raw(name) {
            None | Some([0xc0]) => Ok(None),
            Some(raw) => Reader::new(raw).str().map(Some).map_err(|_| BadLoad::Field(name)),
        }
    }

    /// Returns an unsigned field.
    pub fn u64(&self, name: &'static str) -> Result<u64, BadLoad> {
        self.optional_u64(name)?.ok_or(BadLoad::Field(name))
    }

    /// Returns an unsigned field that may be missing or nil.
    pub fn optional_u64(&self, name: &'static str) -> Result<Option<u64>, BadLoad> {
        match self.raw(name) {
            None | Some([0xc0]) => Ok(None),
            Some(raw) => scalar(raw).and_then(|value| value.as_u64()).map(Some).ok_or(BadLoad::Field(name)),
        }
    }

    /// Returns a field of 16 bytes.
    pub fn array16(&self, name: &'static str) -> Result<[u8; 16], BadLoad> {
        let value = self.raw(name).and_then(scalar).ok_or(BadLoad::Field(name))?;
        value.as_bytes().and_then(|bytes| bytes.try_into().ok()).ok_or(BadLoad::Field(name))
    }

    /// Returns a decoded field.
    pub fn value(&self, name: &'static str) -> Result<Option<Value>, BadLoad> {
        self.raw(name).map(msgpack::decode).transpose().map_err(|_| BadLoad::Field(name))
    }

    /// Returns a decoded map.
    pub fn map(&self, name: &'static str) -> Result<Option<Map>, BadLoad> {
        self.raw(name).map(msgpack::decode_map).transpose().map_err(|_| BadLoad::Field(name))
    }

    /// Returns a field that must be a map, still encoded, as a part of the load's own buffer.
    pub fn map_bytes(&self, load: &Bytes, name: &'static str) -> Result<Bytes, BadLoad> {
        let raw = self.raw(name).ok_or(BadLoad::Field(name))?;
        Reader::new(raw).map_len().map_err(|_| BadLoad::Field(name))?;
        Ok(msgpack::share(load, raw))
    }
}

/// Decodes a value that is small by nature; anything long is refused before it is copied.
fn scalar(raw: &[u8]) -> Option<Value> {
    const LONGEST_SCALAR: usize = 64;
    if raw.len() > LONGEST_SCALAR { None } else { msgpack::decode(raw).ok() }
}

/// Encodes a map and, after its own fields, some that are encoded already.
pub fn encode_with(head: &Map, rest: &[(&str, &[u8])]) -> Vec<u8> {
    let room = 64 + rest.iter().map(|(name, raw)| name.len() + raw.len() + 8).sum::<usize>();
    let mut out = Vec::with_capacity(room);
    let len = u32::try_from(head.len() + rest.len()).expect("a message has few fields");
    rmp::encode::write_map_len(&mut out, len).expect("writing to a vector cannot fail");
    for (key, value) in head {
        msgpack::encode_into(&mut out, key);
        msgpack::encode_into(&mut out, value);
    }
    for (name, raw) in rest {
        rmp::encode::write_str(&mut out, name).expect("writing to a vector cannot fail");
        out.extend_from_slice(raw);
    }
    out
}
