//! Commands: frames that begin with a name (RFC 23, "Commands"; RFC 37 for PING, SUBSCRIBE and CANCEL).

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::frame::{self, COMMAND};

/// Longest context of a PING that RFC 37 has a peer echo.
pub const MAX_PING_CONTEXT: usize = 16;
/// How much of a peer's ERROR reason is kept for the log.
const MAX_ERROR_REASON: usize = 255;

/// A command without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a command has no readable name")]
pub struct CommandError;

/// A command, as far as we know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// Ends a subscription to a topic.
    Cancel(&'a [u8]),
    /// The peer refuses us; the text is its reason.
    Error(&'a [u8]),
    /// Asks for a PONG with this context.
    Ping(&'a [u8]),
    /// Answers a PING.
    Pong,
    /// Ends a NULL handshake; the body is metadata.
    Ready(&'a [u8]),
    /// Begins a subscription to a topic.
    Subscribe(&'a [u8]),
    /// Anything else: ignored, as libzmq does.
    Unknown,
}

/// Reads the body of a command frame.
pub fn decode(body: &[u8]) -> Result<Command<'_>, CommandError> {
    let (name, data) = split_name(body).ok_or(CommandError)?;
    Ok(match name {
        b"CANCEL" => Command::Cancel(data),
        b"ERROR" => Command::Error(error_reason(data)),
        b"PING" => decode_ping(data),
        b"PONG" => Command::Pong,
        b"READY" => Command::Ready(data),
        b"SUBSCRIBE" => Command::Subscribe(data),
        _ => Command::Unknown,
    })
}

/// Splits the name off a command body. An empty name is none.
pub fn split_name(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(len)).filter(|(name, _)| !name.is_empty())
}

/// A PING too short for its time-to-live asks for nothing we could answer.
fn decode_ping(data: &[u8]) -> Command<'_> {
    match data.split_at_checked(2) {
        Some((_ttl, context)) => Command::Ping(&context[..context.len().min(MAX_PING_CONTEXT)]),
        None => Command::Unknown,
    }
}

fn error_reason(data: &[u8]) -> &[u8] {
    let text = data.split_first().map_or(data, |(_len, text)| text);
    &text[..text.len().min(MAX_ERROR_REASON)]
}

/// Returns the body of a PING that asks for nothing but an answer: no time-to-live, no context.
pub fn ping_body() -> &'static [u8] {
    b"\x04PING\x00\x00"
}

/// Returns the body of the PONG for a context.
pub fn pong_body(context: &[u8]) -> BytesMut {
    let mut body = BytesMut::with_capacity(5 + context.len());
    body.put_slice(b"\x04PONG");
    body.put_slice(context);
    body
}

/// Returns a whole command frame for a body that begins with the command's name.
pub fn encode(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(frame::HEADER_MAX + body.len());
    frame::encode_header(COMMAND, body.len(), &mut out);
    out.put_slice(body);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_commands_are_read_and_others_ignored() {
        assert_eq!(decode(b"\x04PING\x00\x0aabc"), Ok(Command::Ping(b"abc")));
        assert_eq!(decode(b"\x04PING\x00"), Ok(Command::Unknown));
        assert_eq!(decode(b"\x09SUBSCRIBEm/web1"), Ok(Command::Subscribe(b"m/web1")));
        assert_eq!(decode(b"\x06CANCEL"), Ok(Command::Cancel(b"")));
        assert_eq!(decode(b"\x05ERROR\x03400"), Ok(Command::Error(b"400")));
        assert_eq!(decode(b"\x03FOObar"), Ok(Command::Unknown));
        assert_eq!(decode(b""), Err(CommandError));
        assert_eq!(decode(b"\x00abc"), Err(CommandError));
        assert_eq!(decode(b"\x09PING"), Err(CommandError));
    }

    #[test]
    fn ping_context_is_cut_at_sixteen_bytes() {
        let body = [&b"\x04PING\x00\x00"[..], &[7; 40]].concat();
        assert_eq!(decode(&body), Ok(Command::Ping(&[7; 16])));
        assert_eq!(&pong_body(b"xy")[..], b"\x04PONGxy");
        assert_eq!(&encode(ping_body())[..], b"\x04\x07\x04PING\x00\x00");
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&body);
        }
    }
}
