//! Properties: the metadata in READY and INITIATE (RFC 23, "Metadata").

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::SocketType;

/// Most properties of one peer: five are usual, and each costs an allocation.
const MAX_PROPERTIES: usize = 64;
/// Longest identity, as ZeroMQ has it.
pub const MAX_IDENTITY: usize = 255;
const SOCKET_TYPE: &str = "Socket-Type";
const IDENTITY: &str = "Identity";

/// Why metadata was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// `Socket-Type` is absent or unknown.
    #[error("the peer names no socket type that we know")]
    SocketType,
    /// Truncated, or with an impossible name.
    #[error("the peer's properties cannot be read")]
    Syntax,
    /// More than 64 properties, or an identity above 255 bytes.
    #[error("the peer's properties are too many or too long")]
    TooMuch,
    /// One name twice: whoever reads the first and whoever reads the last would see two peers.
    #[error("the peer names a property twice")]
    Twice,
}

/// What a peer says about itself. Proven by nothing, except that a CURVE peer's key said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The peer's socket type.
    pub socket_type: SocketType,
    /// The peer's identity; empty if it sent none.
    pub identity: Bytes,
    /// All other properties, in the order sent.
    pub properties: Vec<(String, Bytes)>,
}

impl Metadata {
    /// Appends the properties in their wire form.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_property(SOCKET_TYPE, self.socket_type.name().as_bytes(), out);
        if self.socket_type.names_itself() {
            encode_property(IDENTITY, &self.identity, out);
        }
        for (name, value) in &self.properties {
            encode_property(name, value, out);
        }
    }

    /// Reads all of `input`.
    pub fn decode(mut input: &[u8]) -> Result<Metadata, MetadataError> {
        let (mut socket_type, mut identity, mut properties) = (None, Bytes::new(), Vec::new());
        let mut names = Vec::new();
        while !input.is_empty() {
            let (name, value) = decode_property(&mut input).ok_or(MetadataError::Syntax)?;
            if names.iter().any(|known: &&str| known.eq_ignore_ascii_case(name)) {
                return Err(MetadataError::Twice);
            }
            names.push(name);
            if name.eq_ignore_ascii_case(SOCKET_TYPE) {
                socket_type = SocketType::from_name(value);
            } else if name.eq_ignore_ascii_case(IDENTITY) {
                identity = Bytes::copy_from_slice(value);
            } else {
                properties.push((name.to_owned(), Bytes::copy_from_slice(value)));
            }
            if properties.len() > MAX_PROPERTIES || identity.len() > MAX_IDENTITY {
                return Err(MetadataError::TooMuch);
            }
        }
        let socket_type = socket_type.ok_or(MetadataError::SocketType)?;
        Ok(Metadata { socket_type, identity, properties })
    }
}

/// Tells whether `name` can be the name of a property: 1 to 255 of the characters RFC 23 allows.
pub fn is_property_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(allowed)
}

/// Skips a property whose name cannot be written, so that the rest still can be read.
fn encode_property(name: &str, value: &[u8], out: &mut BytesMut) {
    let (Ok(name_len), Ok(value_len)) = (u8::try_from(name.len()), u32::try_from(value.len())) else { return };
    if !is_property_name(name) {
        return;
    }
    out.put_u8(name_len);
    out.put_slice(name.as_bytes());
    out.put_u32(value_len);
    out.put_slice(value);
}

fn decode_property<'a>(input: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let name_len = usize::from(*input.split_off_first()?);
    let name = std::str::from_utf8(input.split_off(..name_len)?).ok().filter(|name| is_property_name(name))?;
    let value_len = u32::from_be_bytes(input.split_off(..4)?.try_into().ok()?);
    let value = input.split_off(..usize::try_from(value_len).ok()?)?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dealer() -> Metadata {
        Metadata {
            socket_type: SocketType::Dealer,
            identity: Bytes::from_static(b"web1"),
            properties: vec![("X-minion".to_owned(), Bytes::from_static(b"web1"))],
        }
    }

    fn encoded(metadata: &Metadata) -> BytesMut {
        let mut out = BytesMut::new();
        metadata.encode(&mut out);
        out
    }

    #[test]
    fn metadata_round_trips_and_no_truncation_passes_for_whole() {
        let bytes = encoded(&dealer());
        assert_eq!(Metadata::decode(&bytes), Ok(dealer()));
        for len in 0..bytes.len() {
            assert_ne!(Metadata::decode(&bytes[..len]), Ok(dealer()), "{len}");
        }
    }

    #[test]
    fn names_are_case_insensitive_and_a_socket_type_is_needed() {
        let bytes = b"\x0bsocket-type\x00\x00\x00\x03SUB";
        assert_eq!(Metadata::decode(bytes).unwrap().socket_type, SocketType::Sub);
        assert_eq!(Metadata::decode(b""), Err(MetadataError::SocketType));
        assert_eq!(Metadata::decode(b"\x0bSocket-Type\x00\x00\x00\x03FOO"), Err(MetadataError::SocketType));
        assert_eq!(Metadata::decode(b"\x00\x00\x00\x00\x00"), Err(MetadataError::Syntax));
        assert_eq!(Metadata::decode(b"\x01a\xff\xff\xff\xffx"), Err(MetadataError::Syntax));
    }

    #[test]
    fn no_property_is_named_twice() {
        let again = |more: &[u8]| Metadata::decode(&[&encoded(&dealer())[..], more].concat());
        assert_eq!(again(b"\x0bsocket-TYPE\x00\x00\x00\x03SUB"), Err(MetadataError::Twice));
        assert_eq!(again(b"\x08identity\x00\x00\x00\x04web2"), Err(MetadataError::Twice));
        assert_eq!(again(b"\x08x-minion\x00\x00\x00\x04web2"), Err(MetadataError::Twice));
        assert!(again(b"\x07X-other\x00\x00\x00\x00").is_ok());
    }

    #[test]
    fn too_much_metadata_is_refused() {
        let mut many = dealer();
        many.properties = (0..65).map(|n| (format!("X-{n}"), Bytes::new())).collect();
        assert_eq!(Metadata::decode(&encoded(&many)), Err(MetadataError::TooMuch));
        let long = Metadata { identity: Bytes::from(vec![1; 256]), ..dealer() };
        assert_eq!(Metadata::decode(&encoded(&long)), Err(MetadataError::TooMuch));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Metadata::decode(&bytes);
        }
    }
}
