//! The two dialects of msgpack that Salt speaks (salt-wire.md §1.2). On the wire text and bytes are one family, written
//! without str8 and bin; events, IPC frames and files know both. Each width of each type is read in both.
//!
//! Decoding is total and bounded as [`crate::msgpack`] is, encoding deterministic.

use rmp::encode as write;

use super::MAX_UNPROVEN_VALUES;
use crate::msgpack::{self, DecodeError, Leaves, Reader};
use crate::value::{Map, Value};

/// Writing to a vector has no failure.
const VEC: &str = "writing to a vector cannot fail";
/// What a length too large for msgpack would need.
const FITS: &str = "lengths are far below 4 GiB: every payload has a smaller limit";

/// The extension type of a date and time.
const DATETIME: i8 = 78;
/// The extension type of a named constant.
const CONSTANT: i8 = 79;
/// How many characters a date and time has: `YYYYMMDDTHH:MM:SS.ffffff`.
const DATETIME_LEN: usize = 24;

/// The wire: bytes that are UTF-8 are text, whatever they were written as.
const WIRE: &Leaves = &Leaves { bin: text_or_bytes, ext: |kind, data| Ext::read(kind, data).into_value(text_or_bytes) };
/// Events, IPC and files: a bin stays bytes.
const MODERN: &Leaves = &Leaves { bin: only_bytes, ext: |kind, data| Ext::read(kind, data).into_value(only_bytes) };

/// An extension that Salt knows (salt-wire.md §1.2), or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ext<'a> {
    /// A named constant, such as `NOT_SET`; its value is left encoded.
    Constant {
        /// The name.
        name: &'a str,
        /// The encoded value.
        value: &'a [u8],
    },
    /// A date and time without a zone: `YYYYMMDDTHH:MM:SS.ffffff`.
    DateTime(&'a str),
    /// An extension that Salt does not know: its bytes stand for it.
    Other {
        /// The type.
        kind: i8,
        /// What it holds.
        data: &'a [u8],
    },
}

impl<'a> Ext<'a> {
    /// Reads the payload of an extension of this type. One that is not what its type says is another one.
    pub fn read(kind: i8, data: &'a [u8]) -> Ext<'a> {
        let known = match kind {
            DATETIME => datetime(data).map(Ext::DateTime),
            CONSTANT => constant(data),
            _ => None,
        };
        known.unwrap_or(Ext::Other { kind, data })
    }

    /// Appends the encoded extension.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut put = |kind: i8, data: &[u8]| {
            write::write_ext_meta(out, u32::try_from(data.len()).expect(FITS), kind).expect(VEC);
            out.extend_from_slice(data);
        };
        match self {
            Ext::Constant { name, value } => {
                let mut data = vec![0x92];
                str_into(&mut data, name.as_bytes());
                data.extend_from_slice(value);
                put(CONSTANT, &data);
            }
            Ext::DateTime(text) => put(DATETIME, text.as_bytes()),
            Ext::Other { kind, data } => put(*kind, data),
        }
    }

    /// Returns the value that stands for this: a date and time in ISO form, a constant by its name.
    fn into_value(self, bytes: fn(&[u8]) -> Value) -> Value {
        match self {
            Ext::Constant { name, .. } => Value::from(name),
            Ext::DateTime(text) => Value::Str(format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..])),
            Ext::Other { data, .. } => bytes(data),
        }
    }
}

fn datetime(data: &[u8]) -> Option<&str> {
    const FORM: &[u8; DATETIME_LEN] = b"00000000T00:00:00.000000";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    let good = data.len() == DATETIME_LEN && data.iter().zip(FORM).all(fits);
    good.then(|| std::str::from_utf8(data).ok()).flatten()
}

fn constant(data: &[u8]) -> Option<Ext<'_>> {
    let mut reader = Reader::new(data);
    if reader.array_len() != Ok(2) {
        return None;
    }
    let (name, value) = (reader.str().ok()?, reader.raw().ok()?);
    reader.finish().ok()?;
    Some(Ext::Constant { name, value })
}

fn text_or_bytes(data: &[u8]) -> Value {
    match std::str::from_utf8(data) {
        Ok(text) => Value::from(text),
        Err(_) => only_bytes(data),
    }
}

fn only_bytes(data: &[u8]) -> Value {
    Value::Bytes(data.to_vec())
}

/// Decodes one value of the wire: what is UTF-8 is text, else bytes. All bytes must belong to it.
pub fn decode(input: &[u8]) -> Result<Value, DecodeError> {
    decode_with(input, WIRE)
}

/// Decodes one value of a sender that is not proven: the values are counted before any is made.
pub fn decode_unproven(input: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(input);
    let (mut seen, mut left) = (0_usize, 1_usize);
    while left > 0 {
        seen += 1;
        if seen > MAX_UNPROVEN_VALUES {
            return Err(DecodeError::TooMany);
        }
        left = (left - 1).saturating_add(reader.step()?);
    }
    decode(input)
}

/// Decodes one map of a sender that is not proven.
pub fn decode_unproven_map(input: &[u8]) -> Result<Map, DecodeError> {
    map_of(decode_unproven(input)?)
}

/// Decodes one map of the wire.
pub fn decode_map(input: &[u8]) -> Result<Map, DecodeError> {
    map_of(decode(input)?)
}

/// Decodes one value of an event, an IPC frame or a file: text stays text, bytes stay bytes.
pub fn decode_modern(input: &[u8]) -> Result<Value, DecodeError> {
    decode_with(input, MODERN)
}

/// Decodes one map of an event, an IPC frame or a file.
pub fn decode_modern_map(input: &[u8]) -> Result<Map, DecodeError> {
    map_of(decode_modern(input)?)
}

fn decode_with(input: &[u8], leaves: &'static Leaves) -> Result<Value, DecodeError> {
    let mut reader = Reader::in_dialect(input, leaves);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

fn map_of(value: Value) -> Result<Map, DecodeError> {
    match value {
        Value::Map(map) => Ok(map),
        _ => Err(DecodeError::Unexpected { expected: "map", at: 0 }),
    }
}

/// Encodes a value for the wire: text and bytes in the old raw family.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    encode_into(&mut out, value);
    out
}

/// Encodes a map for the wire.
pub fn encode_map(map: &Map) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    map_into(&mut out, map);
    out
}

/// Encodes a value for an event, an IPC frame or a file.
pub fn encode_modern(value: &Value) -> Vec<u8> {
    msgpack::encode(value)
}

fn encode_into(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Str(text) => str_into(out, text.as_bytes()),
        Value::Bytes(bytes) => str_into(out, bytes),
        Value::Int(number) if i64::try_from(*number).is_err() && u64::try_from(*number).is_err() => {
            str_into(out, number.to_string().as_bytes());
        }
        Value::List(items) => {
            write::write_array_len(out, u32::try_from(items.len()).expect(FITS)).expect(VEC);
            items.iter().for_each(|item| encode_into(out, item));
        }
        Value::Map(map) => map_into(out, map),
        scalar => msgpack::encode_into(out, scalar),
    }
}

fn map_into(out: &mut Vec<u8>, map: &Map) {
    write::write_map_len(out, u32::try_from(map.len()).expect(FITS)).expect(VEC);
    for (key, value) in map {
        encode_into(out, key);
        encode_into(out, value);
    }
}

/// Writes the raw family as it was before str8 and bin existed.
fn str_into(out: &mut Vec<u8>, bytes: &[u8]) {
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(len @ 0..=31), _) => out.push(0xa0 | len),
        (_, Ok(len)) => {
            out.push(0xda);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(bytes.len()).expect(FITS).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
