//! The frames of the local event bus (salt-wire.md §7.2): msgpack maps `{head, body}`, end to end or each after its
//! length. Which of the two a tool reads depends on its patch release, so it is a setting; what a tool writes shows.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use rmp::encode as write;

use super::msgpack;
use crate::msgpack::{DecodeError, Reader};
use crate::value::{MapExt, Value};

/// The longest frame. Salt trims an event to 1 MiB (`max_event_size`); there is room for one beside its wrapping, and
/// for masters that allow more. A longer one ends the connection.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;
/// How many bytes the length before a frame has.
const PREFIX: usize = 4;
/// Writing to a vector has no failure.
const VEC: &str = "writing to a vector cannot fail";

/// How frames follow each other (`ipc_framing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each after four bytes of length: what subscribers of 3006.26 and later 3006 read, and what newer tools write.
    Prefixed,
    /// End to end: what all other subscribers read.
    Stream,
}

impl Framing {
    /// Returns the name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Framing::Prefixed => "prefixed",
            Framing::Stream => "stream",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Framing> {
        [Framing::Prefixed, Framing::Stream].into_iter().find(|framing| framing.name() == name)
    }

    /// Tells how a peer writes by its first byte: a map begins at 0x80, and no length reaches that.
    pub fn detect(first: u8) -> Framing {
        if first >= 0x80 { Framing::Stream } else { Framing::Prefixed }
    }
}

/// Why a peer's bytes are not frames. The connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The frame is not msgpack.
    #[error("the frame is not msgpack")]
    Decode(#[from] DecodeError),
    /// The frame is not a map with a body.
    #[error("the frame is not a map with a body")]
    NoBody,
    /// The frame is longer than [`MAX_FRAME`].
    #[error("the frame is longer than {MAX_FRAME} bytes")]
    TooLarge,
}

/// Encodes the frame of an event. The body is a bin: 3006 decodes anything else as text.
pub fn encode(framing: Framing, event: &[u8]) -> Vec<u8> {
    let mut out = vec![0; if framing == Framing::Prefixed { PREFIX } else { 0 }];
    let start = out.len();
    out.reserve(event.len() + 24);
    write::write_map_len(&mut out, 2).expect(VEC);
    write::write_str(&mut out, "head").expect(VEC);
    write::write_map_len(&mut out, 0).expect(VEC);
    write::write_str(&mut out, "body").expect(VEC);
    write::write_bin(&mut out, event).expect(VEC);
    if framing == Framing::Prefixed {
        let len = u32::try_from(out.len() - start).expect("an event is far below 4 GiB: it has a smaller limit");
        out[..PREFIX].copy_from_slice(&len.to_be_bytes());
    }
    out
}

/// Takes a peer's bytes apart, as they come. The first byte says how they are framed.
#[derive(Default)]
pub struct Frames {
    buffer: BytesMut,
    framing: Option<Framing>,
    walk: Walk,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames {{ bytes: {}, framing: {:?} }}", self.buffer.len(), self.framing)
    }
}

/// How far a frame without a length has been walked: no byte is looked at twice, however slowly they come.
struct Walk {
    at: usize,
    /// How many values the frame still consists of.
    values: usize,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk { at: 0, values: 1 }
    }
}

impl Frames {
    /// Adds bytes of the peer. Nothing is taken beyond the limit: a frame that does not end by then never will.
    pub fn push(&mut self, input: &[u8]) -> Result<(), BadFrame> {
        if self.buffer.len() + input.len() > MAX_FRAME + PREFIX {
            return Err(BadFrame::TooLarge);
        }
        self.buffer.extend_from_slice(input);
        Ok(())
    }

    /// Returns the event of the next frame, or nothing if more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, BadFrame> {
        let Some(first) = self.buffer.first() else { return Ok(None) };
        let framing = *self.framing.get_or_insert(Framing::detect(*first));
        let frame = match framing {
            Framing::Prefixed => self.prefixed()?,
            Framing::Stream => self.stream()?,
        };
        frame.map(|frame| body(&frame)).transpose()
    }

    fn prefixed(&mut self) -> Result<Option<Bytes>, BadFrame> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > MAX_FRAME {
            return Err(BadFrame::TooLarge);
        }
        if self.buffer.len() < PREFIX + len {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    fn stream(&mut self) -> Result<Option<Bytes>, BadFrame> {
        while self.walk.values > 0 {
            let mut reader = Reader::new(&self.buffer[self.walk.at..]);
            match reader.step() {
                Ok(parts) => self.walk.values = (self.walk.values - 1).saturating_add(parts),
                Err(DecodeError::CutOff { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            self.walk.at += reader.position();
        }
        let len = std::mem::take(&mut self.walk).at;
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

fn body(frame: &Bytes) -> Result<Bytes, BadFrame> {
    let frame = msgpack::decode_modern_map(frame)?;
    match frame.at("body") {
        Some(Value::Bytes(body)) => Ok(Bytes::from(body.clone())),
        Some(Value::Str(body)) => Ok(Bytes::from(body.clone())),
        _ => Err(BadFrame::NoBody),
    }
}
