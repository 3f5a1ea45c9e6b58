//! Mechanism NULL (RFC 23): each half sends READY with its metadata, and nothing is proven.

use bytes::{BufMut, Bytes, BytesMut};

use crate::zmtp::command;
use crate::zmtp::metadata::Metadata;

/// Returns the READY frame.
pub fn ready(metadata: &Metadata) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(b"\x05READY");
    metadata.encode(&mut body);
    command::encode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmtp::SocketType;
    use crate::zmtp::command::Command;

    #[test]
    fn ready_carries_the_metadata() {
        let metadata = Metadata { socket_type: SocketType::Pub, identity: Bytes::new(), properties: Vec::new() };
        let frame = ready(&metadata);
        assert_eq!(&frame[..8], b"\x04\x19\x05READY");
        let Ok(Command::Ready(data)) = command::decode(&frame[2..]) else { panic!("not a READY") };
        assert_eq!(Metadata::decode(data), Ok(metadata));
    }
}
