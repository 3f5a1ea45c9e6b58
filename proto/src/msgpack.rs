//! Values as msgpack and back, and a reader that walks msgpack without decoding it.
//!
//! Decoding is total: any bytes give a value or a typed error, nothing is allocated for a length that the input does not
//! hold, and nesting is bounded. Encoding is deterministic (integers and headers as short as they go).

use bytes::Bytes;
use rmp::Marker;
use rmp::encode as write;

use crate::value::{Map, Value};

/// How deep values may nest. Salt's loads nest a handful of levels; the bound keeps the stack small.
pub const MAX_DEPTH: usize = 64;

/// How many values one decoded value may hold. A nil is one byte on the wire and 80 in memory; without a bound a load of
/// 16 MiB could grow a process by a gigabyte. The largest state returns seen hold some ten thousand.
pub const MAX_VALUES: usize = 1 << 20;

/// How many items are made room for before they have been read.
const ROOM: usize = 1024;

/// Why bytes are not one msgpack value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The value is longer than the input.
    #[error("msgpack value is cut off at byte {at}")]
    CutOff {
        /// Where the input ended.
        at: usize,
    },
    /// The value nests deeper than [`MAX_DEPTH`].
    #[error("msgpack value nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The value holds more values than it may: [`MAX_VALUES`], or fewer where the sender is not proven.
    #[error("msgpack value holds more values than it may")]
    TooMany,
    /// Bytes follow the value.
    #[error("{extra} bytes follow the msgpack value")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A text is not UTF-8.
    #[error("msgpack text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the text begins.
        at: usize,
    },
    /// Another kind of value was expected here.
    #[error("expected a msgpack {expected} at byte {at}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// Where.
        at: usize,
    },
}

/// Decodes one value; all bytes must belong to it.
pub fn decode(input: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(input);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// Decodes one map; all bytes must belong to it.
pub fn decode_map(input: &[u8]) -> Result<Map, DecodeError> {
    match decode(input)? {
        Value::Map(map) => Ok(map),
        _ => Err(DecodeError::Unexpected { expected: "map", at: 0 }),
    }
}

/// Decodes those entries of a map whose text key is wanted; the others are passed over.
pub fn decode_entries(input: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Map, DecodeError> {
    let mut reader = Reader::new(input);
    let mut map = Map::new();
    for _ in 0..reader.map_len()? {
        match reader.key()? {
            Some(key) if wanted(key) => drop(map.insert(Value::from(key), reader.value()?)),
            _ => reader.skip()?,
        }
    }
    reader.finish()?;
    Ok(map)
}

/// Encodes a value.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    encode_into(&mut out, value);
    out
}

/// Encodes a map.
pub fn encode_map(map: &Map) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    map_into(&mut out, map);
    out
}

/// What a length too large for msgpack would need: no such value fits in memory limits.
const FITS: &str = "lengths are far below 4 GiB: every payload has a smaller limit";
/// Writing to a vector has no failure.
const VEC: &str = "writing to a vector cannot fail";

/// Appends an encoded value.
pub fn encode_into(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => write::write_nil(out).expect(VEC),
        Value::Bool(flag) => write::write_bool(out, *flag).expect(VEC),
        Value::Int(number) => int_into(out, *number),
        Value::Float(number) => write::write_f64(out, *number).expect(VEC),
        Value::Str(text) => write::write_str(out, text).expect(VEC),
        Value::Bytes(bytes) => write::write_bin(out, bytes).expect(VEC),
        Value::List(items) => {
            write::write_array_len(out, u32::try_from(items.len()).expect(FITS)).expect(VEC);
            items.iter().for_each(|item| encode_into(out, item));
        }
        Value::Map(map) => map_into(out, map),
    }
}

fn int_into(out: &mut Vec<u8>, number: i128) {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(signed), _) => {
            write::write_sint(out, signed).expect(VEC);
        }
        (_, Ok(unsigned)) => {
            write::write_uint(out, unsigned).expect(VEC);
        }
        // salt-wire.md §1.2: integers beyond 64 bits travel as decimal text.
        _ => write::write_str(out, &number.to_string()).expect(VEC),
    }
}

fn map_into(out: &mut Vec<u8>, map: &Map) {
    write::write_map_len(out, u32::try_from(map.len()).expect(FITS)).expect(VEC);
    for (key, value) in map {
        encode_into(out, key);
        encode_into(out, value);
    }
}

/// How a dialect reads those msgpack types whose meaning is a convention.
#[derive(Debug)]
pub(crate) struct Leaves {
    /// What a bin is.
    pub(crate) bin: fn(&[u8]) -> Value,
    /// What an extension of this type is.
    pub(crate) ext: fn(i8, &[u8]) -> Value,
}

/// The native wire's reading: bytes are bytes.
const NATIVE: &Leaves = &Leaves { bin: bytes_of, ext: |_, data| bytes_of(data) };

fn bytes_of(data: &[u8]) -> Value {
    Value::Bytes(data.to_vec())
}

/// Walks msgpack bytes from front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    leaves: &'static Leaves,
}

/// The head of a value: what it is, and how much belongs to it.
enum Head {
    Scalar(Value),
    Str(usize),
    Bin(usize),
    Ext(i8, usize),
    Array(usize),
    Map(usize),
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(input: &'a [u8]) -> Reader<'a> {
        Reader::in_dialect(input, NATIVE)
    }

    /// Starts at the first byte, reading as a dialect does.
    pub(crate) fn in_dialect(input: &'a [u8], leaves: &'static Leaves) -> Reader<'a> {
        Reader { input, at: 0, leaves }
    }

    /// Returns how many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Fails if bytes are left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }

    /// Reads the head of a map and returns how many pairs follow.
    pub fn map_len(&mut self) -> Result<usize, DecodeError> {
        let at = self.at;
        match self.head()? {
            Head::Map(len) => Ok(len),
            _ => Err(DecodeError::Unexpected { expected: "map", at }),
        }
    }

    /// Reads the head of an array and returns how many items follow.
    pub fn array_len(&mut self) -> Result<usize, DecodeError> {
        let at = self.at;
        match self.head()? {
            Head::Array(len) => Ok(len),
            _ => Err(DecodeError::Unexpected { expected: "array", at }),
        }
    }

    /// Reads a text. Bytes that are UTF-8 count as text (salt-wire.md §1.2).
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        match self.head()? {
            Head::Str(len) | Head::Bin(len) => {
                std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::NotUtf8 { at })
            }
            _ => Err(DecodeError::Unexpected { expected: "text", at }),
        }
    }

    /// Reads a text if the next value is one; otherwise passes over it and returns nothing.
    pub fn key(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.input.get(self.at).map(|byte| Marker::from_u8(*byte)) {
            Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => self.str().map(Some),
            _ => self.skip().map(|()| None),
        }
    }

    /// Passes over one value and returns its bytes.
    pub fn raw(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.at;
        self.skip()?;
        Ok(&self.input[start..self.at])
    }

    /// Passes over one value.
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_deep(0)
    }

    /// Reads one value.
    pub fn value(&mut self) -> Result<Value, DecodeError> {
        let mut left = MAX_VALUES;
        self.value_deep(0, &mut left)
    }

    /// Passes over one scalar, string or head and returns how many values follow that are its parts.
    #[cfg(feature = "salt-wire")]
    pub(crate) fn step(&mut self) -> Result<usize, DecodeError> {
        match self.head()? {
            Head::Scalar(_) => Ok(0),
            Head::Str(len) | Head::Bin(len) | Head::Ext(_, len) => self.take(len).map(|_| 0),
            Head::Array(len) => Ok(len),
            Head::Map(len) => Ok(len.saturating_mul(2)),
        }
    }

    fn skip_deep(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.head()? {
            Head::Scalar(_) => Ok(()),
            Head::Str(len) | Head::Bin(len) | Head::Ext(_, len) => self.take(len).map(|_| ()),
            Head::Array(len) => (0..len).try_for_each(|_| self.skip_deep(depth + 1)),
            Head::Map(len) => (0..len).try_for_each(|_| {
                self.skip_deep(depth + 1)?;
                self.skip_deep(depth + 1)
            }),
        }
    }

    fn value_deep(&mut self, depth: usize, left: &mut usize) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        *left = left.checked_sub(1).ok_or(DecodeError::TooMany)?;
        match self.head()? {
            Head::Scalar(value) => Ok(value),
            Head::Str(len) => {
                let bytes = self.take(len)?;
                Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => Value::Str(text.to_owned()),
                    Err(_) => Value::Bytes(bytes.to_vec()),
                })
            }
            Head::Bin(len) => Ok((self.leaves.bin)(self.take(len)?)),
            Head::Ext(kind, len) => Ok((self.leaves.ext)(kind, self.take(len)?)),
            // A length is not trusted beyond what has been read.
            Head::Array(len) => {
                let mut items = Vec::with_capacity(len.min(ROOM));
                for _ in 0..len {
                    items.push(self.value_deep(depth + 1, left)?);
                }
                Ok(Value::List(items))
            }
            Head::Map(len) => {
                let mut map = Map::with_capacity(len.min(ROOM));
                for _ in 0..len {
                    let key = self.value_deep(depth + 1, left)?;
                    map.insert(key, self.value_deep(depth + 1, left)?);
                }
                Ok(Value::Map(map))
            }
        }
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let at = self.at;
        let marker = Marker::from_u8(self.take(1)?[0]);
        Ok(match marker {
            Marker::Null => Head::Scalar(Value::Null),
            Marker::True => Head::Scalar(Value::Bool(true)),
            Marker::False => Head::Scalar(Value::Bool(false)),
            Marker::FixPos(number) => Head::Scalar(number.into()),
            Marker::FixNeg(number) => Head::Scalar(number.into()),
            Marker::U8 => Head::Scalar(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => Head::Scalar(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => Head::Scalar(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => Head::Scalar(u64::from_be_bytes(self.array()?).into()),
            Marker::I8 => Head::Scalar(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Head::Scalar(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Head::Scalar(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Head::Scalar(i64::from_be_bytes(self.array()?).into()),
            Marker::F32 => Head::Scalar(f64::from(f32::from_be_bytes(self.array()?)).into()),
            Marker::F64 => Head::Scalar(f64::from_be_bytes(self.array()?).into()),
            Marker::FixStr(len) => Head::Str(len.into()),
            Marker::Str8 => Head::Str(self.len8()?),
            Marker::Str16 => Head::Str(self.len16()?),
            Marker::Str32 => Head::Str(self.len32()?),
            Marker::Bin8 => Head::Bin(self.len8()?),
            Marker::Bin16 => Head::Bin(self.len16()?),
            Marker::Bin32 => Head::Bin(self.len32()?),
            Marker::FixArray(len) => Head::Array(len.into()),
            Marker::Array16 => Head::Array(self.len16()?),
            Marker::Array32 => Head::Array(self.len32()?),
            Marker::FixMap(len) => Head::Map(len.into()),
            Marker::Map16 => Head::Map(self.len16()?),
            Marker::Map32 => Head::Map(self.len32()?),
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => self.len8().and_then(|len| self.ext(len))?,
            Marker::Ext16 => self.len16().and_then(|len| self.ext(len))?,
            Marker::Ext32 => self.len32().and_then(|len| self.ext(len))?,
            Marker::Reserved => return Err(DecodeError::Unexpected { expected: "value", at }),
        })
    }

    fn ext(&mut self, len: usize) -> Result<Head, DecodeError> {
        let kind = i8::from_be_bytes(self.array()?);
        Ok(Head::Ext(kind, len))
    }

    fn len8(&mut self) -> Result<usize, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?).into())
    }

    fn len16(&mut self) -> Result<usize, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn len32(&mut self) -> Result<usize, DecodeError> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        // Nothing that is still to come is shorter than a byte an item.
        if len > self.input.len() - self.at { Err(DecodeError::CutOff { at: self.input.len() }) } else { Ok(len) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as asked"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.input.len());
        let end = end.ok_or(DecodeError::CutOff { at: self.input.len() })?;
        let bytes = &self.input[self.at..end];
        self.at = end;
        Ok(bytes)
    }
}

/// Returns the part of a shared buffer that one of its slices is, without copying.
pub fn share(buffer: &Bytes, slice: &[u8]) -> Bytes {
    buffer.slice_ref(slice)
}

/// Sets one text field of an encoded map and leaves every other byte as it is. A field that is there is replaced in place,
/// a missing one is added at the end. One that is there more than once is replaced each time: readers differ in which of
/// them counts.
pub fn with_field(map: &[u8], name: &str, value: &Value) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(map);
    let len = reader.map_len()?;
    let body = reader.position();
    let mut found = Vec::new();
    for _ in 0..len {
        let key = reader.key()?;
        let start = reader.position();
        reader.skip()?;
        if key == Some(name) {
            found.push(start..reader.position());
        }
    }
    reader.finish()?;
    let mut out = Vec::with_capacity(map.len() + 64);
    let mut copied = 0;
    for place in &found {
        out.extend_from_slice(&map[copied..place.start]);
        encode_into(&mut out, value);
        copied = place.end;
    }
    if found.is_empty() {
        write::write_map_len(&mut out, u32::try_from(len + 1).expect(FITS)).expect(VEC);
        out.extend_from_slice(&map[body..]);
        write::write_str(&mut out, name).expect(VEC);
        encode_into(&mut out, value);
    } else {
        out.extend_from_slice(&map[copied..]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::map;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::Float),
            ".{0,40}".prop_map(Value::Str),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
                proptest::collection::vec((inner.clone(), inner), 0..8)
                    .prop_map(|pairs| Value::Map(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_comes_back(value in any_value()) {
            prop_assert_eq!(decode(&encode(&value)).unwrap(), value);
        }

        #[test]
        fn every_cut_is_refused(value in any_value()) {
            let bytes = encode(&value);
            for end in 0..bytes.len() {
                prop_assert!(decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = Reader::new(&bytes).raw();
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_allocation() {
        assert!(matches!(decode(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::CutOff { .. })));
        assert!(matches!(decode(&[0xdf, 0xff, 0xff, 0xff, 0xff, 1, 2]), Err(DecodeError::CutOff { .. })));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(decode(&vec![0x91; 100_000]), Err(DecodeError::TooDeep));
    }

    #[test]
    fn a_field_is_replaced_in_place_or_added() {
        let bytes = encode_map(&map! { "a" => 1, "id" => "x", "z" => 2 });
        let replaced = with_field(&bytes, "id", &Value::from("web1")).unwrap();
        assert_eq!(decode_map(&replaced).unwrap(), map! { "a" => 1, "id" => "web1", "z" => 2 });
        let added = with_field(&bytes, "new", &Value::Null).unwrap();
        assert_eq!(decode_map(&added).unwrap(), map! { "a" => 1, "id" => "x", "z" => 2, "new" => Value::Null });
    }
}
