//! Frames: flags, length, body (RFC 23, "Framing"). The length is judged before anything is allocated for it.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// More frames of the same message follow.
pub const MORE: u8 = 1;
/// The length takes eight bytes.
pub const LONG: u8 = 2;
/// The body is a command, not a part of a message.
pub const COMMAND: u8 = 4;

/// Longest body with a one-byte length.
const SHORT_MAX: usize = 255;
/// Longest header: flags and an eight-byte length.
pub const HEADER_MAX: usize = 9;
/// What each frame costs besides its body, so that endless empty frames are bounded too.
pub const FRAME_OVERHEAD: usize = 32;

/// What a peer may make us keep in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame body before the peer has finished its handshake. Default 64 KiB.
    pub max_frame_before_ready: usize,
    /// Largest message of a CURVE peer: bodies plus [`FRAME_OVERHEAD`] each. Default 16 MiB and 64 KiB of slack.
    pub max_message: usize,
    /// Largest message of a NULL peer, of whom nothing is known. Default 64 KiB; a Salt listener needs more.
    pub max_message_null: usize,
    /// Most frames in one message. Default 64.
    pub max_frames: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_frame_before_ready: 64 * 1024,
            max_message: 16 * 1024 * 1024 + 64 * 1024,
            max_message_null: 64 * 1024,
            max_frames: 64,
        }
    }
}

/// Why a frame was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A reserved flag is set, or a command claims to have more parts.
    #[error("frame flags {0:#04x} are not allowed")]
    Flags(u8),
    /// The announced length is above the limit.
    #[error("a frame of {length} bytes is above the limit of {limit}")]
    TooLong {
        /// What the peer announced.
        length: u64,
        /// What it may send.
        limit: usize,
    },
}

/// A decoded header. The body follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    flags: u8,
    /// Where the body starts.
    pub body_at: usize,
    /// How long the body is.
    pub body_len: usize,
}

impl Header {
    /// Tells whether more frames of this message follow.
    pub fn has_more(self) -> bool {
        self.flags & MORE != 0
    }

    /// Tells whether the body is a command.
    pub fn is_command(self) -> bool {
        self.flags & COMMAND != 0
    }

    /// Returns the length of header and body.
    pub fn total(self) -> usize {
        self.body_at + self.body_len
    }
}

/// Reads a header, or says that more bytes are needed. `limit` bounds the body.
pub fn decode_header(input: &[u8], limit: usize) -> Result<Option<Header>, FrameError> {
    let Some(&flags) = input.first() else { return Ok(None) };
    if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
        return Err(FrameError::Flags(flags));
    }
    let Some((length, body_at)) = decode_length(flags, input) else { return Ok(None) };
    match usize::try_from(length) {
        Ok(body_len) if body_len <= limit => Ok(Some(Header { flags, body_at, body_len })),
        _ => Err(FrameError::TooLong { length, limit }),
    }
}

fn decode_length(flags: u8, input: &[u8]) -> Option<(u64, usize)> {
    if flags & LONG == 0 {
        return input.get(1).map(|&length| (u64::from(length), 2));
    }
    let length = input.get(1..HEADER_MAX)?.try_into().ok()?;
    Some((u64::from_be_bytes(length), HEADER_MAX))
}

/// Appends the header of a body of `body_len` bytes.
pub fn encode_header(flags: u8, body_len: usize, out: &mut BytesMut) {
    match u8::try_from(body_len) {
        Ok(short) if body_len <= SHORT_MAX => out.put_slice(&[flags, short]),
        _ => {
            out.put_u8(flags | LONG);
            out.put_u64(body_len as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(flags: u8, body_len: usize) -> BytesMut {
        let mut out = BytesMut::new();
        encode_header(flags, body_len, &mut out);
        out
    }

    #[test]
    fn a_tebibyte_is_refused_from_its_header_alone() {
        let mut bytes = vec![LONG];
        bytes.extend_from_slice(&(1u64 << 40).to_be_bytes());
        let refused = FrameError::TooLong { length: 1 << 40, limit: 65_536 };
        assert_eq!(decode_header(&bytes, 65_536), Err(refused));
        assert_eq!(decode_header(&bytes[..8], 65_536), Ok(None));
    }

    #[test]
    fn reserved_flags_are_refused() {
        for flags in [0x08, 0x80, 0xff, MORE | COMMAND] {
            assert_eq!(decode_header(&[flags, 0], 10), Err(FrameError::Flags(flags)));
        }
    }

    proptest! {
        #[test]
        fn headers_round_trip(body_len in 0usize..100_000, more in any::<bool>()) {
            let bytes = header(u8::from(more), body_len);
            for len in 0..bytes.len() {
                prop_assert_eq!(decode_header(&bytes[..len], 100_000), Ok(None));
            }
            let decoded = decode_header(&bytes, 100_000).unwrap().unwrap();
            prop_assert_eq!((decoded.body_len, decoded.has_more()), (body_len, more));
            prop_assert_eq!(decoded.total(), bytes.len() + body_len);
        }

        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(Some(header)) = decode_header(&bytes, 1000) {
                prop_assert!(header.body_len <= 1000);
            }
        }
    }
}
