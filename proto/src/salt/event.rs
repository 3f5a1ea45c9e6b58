//! The bytes of an event on the local bus (salt-wire.md §7.3): tag, two line feeds, a msgpack map.

use bytes::Bytes;

use super::msgpack;
use crate::msgpack::{DecodeError, Reader};
use crate::value::Map;

/// What stands between tag and data.
const SEPARATOR: &[u8] = b"\n\n";
/// The longest tag, in bytes. Salt knows no limit; this is the bus's.
pub const MAX_TAG: usize = 4096;

/// An event, its data still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The tag.
    pub tag: String,
    /// The data: an encoded map.
    pub data: Bytes,
}

/// Why bytes are not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// The data is not a msgpack map.
    #[error("the data of the event is not a msgpack map")]
    Data(#[from] DecodeError),
    /// The tag is empty, longer than [`MAX_TAG`], not UTF-8, or does not end.
    #[error("an event begins with a tag of 1 to {MAX_TAG} bytes of UTF-8 and two line feeds")]
    Tag,
}

impl Event {
    /// Takes a tag and data.
    pub fn new(tag: &str, data: &Map) -> Event {
        Event { tag: tag.to_owned(), data: crate::msgpack::encode_map(data).into() }
    }

    /// Reads an event. The data is known to be one whole map, and is left encoded.
    pub fn decode(body: &Bytes) -> Result<Event, BadEvent> {
        let window = &body[..body.len().min(MAX_TAG + SEPARATOR.len())];
        let end = window.windows(SEPARATOR.len()).position(|pair| pair == SEPARATOR).ok_or(BadEvent::Tag)?;
        let tag = std::str::from_utf8(&body[..end]).ok().filter(|tag| !tag.is_empty()).ok_or(BadEvent::Tag)?;
        let data = body.slice(end + SEPARATOR.len()..);
        let mut reader = Reader::new(&data);
        let pairs = reader.map_len()?;
        (0..pairs).try_for_each(|_| reader.skip().and_then(|()| reader.skip()))?;
        reader.finish()?;
        Ok(Event { tag: tag.to_owned(), data })
    }

    /// Returns the data, decoded.
    pub fn map(&self) -> Result<Map, DecodeError> {
        msgpack::decode_modern_map(&self.data)
    }

    /// Encodes the event.
    pub fn encode(&self) -> Bytes {
        [self.tag.as_bytes(), SEPARATOR, &self.data].concat().into()
    }
}
