//! Bytes on their way out, in the order in which they were sealed.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Capacity kept while nothing is queued: an idle connection shall cost next to nothing.
const IDLE_CAPACITY: usize = 4;

/// A queue of chunks.
#[derive(Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Returns how many bytes are queued.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many chunks are queued.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Fills `slices` from the front. Returns how many were filled.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// Drops `count` bytes from the front: they were written.
    pub(super) fn advance(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(front) = self.chunks.front_mut().filter(|_| left > 0) {
            if front.len() > left {
                front.advance(left);
                return;
            }
            left -= front.len();
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            self.chunks.shrink_to(IDLE_CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_leave_in_order_by_any_step() {
        for step in 1..7 {
            let mut outbox = Outbox::default();
            for chunk in ["ab", "", "cde", "f"] {
                outbox.push(Bytes::from_static(chunk.as_bytes()));
            }
            let mut written = Vec::new();
            while outbox.len() > 0 {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = outbox.fill(&mut slices);
                let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
                outbox.advance(bytes.len());
                written.extend(bytes);
            }
            assert_eq!(written, b"abcdef", "{step}");
            assert_eq!(outbox.chunks(), 0);
        }
    }
}
