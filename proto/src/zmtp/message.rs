//! A multipart message to be sent: cheap to clone, encoded at most once however many NULL peers get it.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{self, FRAME_OVERHEAD, MORE};

/// Up to this size a message is copied into one buffer; above it, its frames are sent from where they are.
const CONTIGUOUS_MAX: usize = 16 * 1024;

/// One message of one or more frames.
#[derive(Debug, Clone)]
pub struct Multipart(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    frames: Box<[Bytes]>,
    cost: usize,
    encoded: OnceLock<Encoded>,
}

#[derive(Debug)]
enum Encoded {
    One(Bytes),
    Many(Box<[Bytes]>),
}

impl Multipart {
    /// Returns the message with these frames. Without any, it is one empty frame: ZMTP has no empty message.
    pub fn new(mut frames: Vec<Bytes>) -> Multipart {
        if frames.is_empty() {
            frames.push(Bytes::new());
        }
        let cost = frames.iter().map(|frame| frame.len() + FRAME_OVERHEAD).sum();
        Multipart(Arc::new(Parts { frames: frames.into(), cost, encoded: OnceLock::new() }))
    }

    /// Returns the frames.
    pub fn frames(&self) -> &[Bytes] {
        &self.0.frames
    }

    /// Returns what the message counts in limits: its bytes, plus an overhead for each frame.
    pub fn cost(&self) -> usize {
        self.0.cost
    }

    /// Returns the unsealed wire form as chunks to be written in order.
    pub(super) fn encoded(&self) -> &[Bytes] {
        match self.0.encoded.get_or_init(|| encode(&self.0)) {
            Encoded::One(chunk) => std::slice::from_ref(chunk),
            Encoded::Many(chunks) => chunks,
        }
    }
}

impl From<Vec<Bytes>> for Multipart {
    fn from(frames: Vec<Bytes>) -> Self {
        Multipart::new(frames)
    }
}

impl From<Bytes> for Multipart {
    fn from(frame: Bytes) -> Self {
        Multipart::new(vec![frame])
    }
}

impl<const N: usize> From<[Bytes; N]> for Multipart {
    fn from(frames: [Bytes; N]) -> Self {
        Multipart::new(frames.into())
    }
}

/// Returns the MORE flag for frame `index` of `count`.
pub(super) fn more_flag(index: usize, count: usize) -> u8 {
    if index + 1 < count { MORE } else { 0 }
}

fn encode(parts: &Parts) -> Encoded {
    let count = parts.frames.len();
    let headed = parts.frames.iter().enumerate().map(|(index, frame)| (more_flag(index, count), frame));
    if parts.cost <= CONTIGUOUS_MAX {
        let mut out = BytesMut::with_capacity(parts.cost);
        for (flags, frame) in headed {
            frame::encode_header(flags, frame.len(), &mut out);
            out.put_slice(frame);
        }
        return Encoded::One(out.freeze());
    }
    let chunks = headed.flat_map(|(flags, frame)| {
        let mut header = BytesMut::with_capacity(frame::HEADER_MAX);
        frame::encode_header(flags, frame.len(), &mut header);
        [header.freeze(), frame.clone()]
    });
    Encoded::Many(chunks.filter(|chunk| !chunk.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_are_one_chunk_and_shared() {
        let message = Multipart::from([Bytes::from_static(b"ab"), Bytes::new()]);
        assert_eq!(message.encoded(), [Bytes::from_static(b"\x01\x02ab\x00\x00")]);
        assert_eq!(message.clone().encoded()[0].as_ptr(), message.encoded()[0].as_ptr());
        assert_eq!(message.cost(), 66);
    }

    #[test]
    fn large_frames_are_not_copied() {
        let big = Bytes::from(vec![7; 20_000]);
        let message = Multipart::from([Bytes::new(), big.clone()]);
        let chunks = message.encoded();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[2].as_ptr(), big.as_ptr());
        assert_eq!(&chunks[1][..], b"\x02\x00\x00\x00\x00\x00\x00\x4e\x20");
    }

    #[test]
    fn a_message_has_at_least_one_frame() {
        assert_eq!(Multipart::new(Vec::new()).frames().len(), 1);
    }
}
