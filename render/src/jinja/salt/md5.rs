//! MD5 (RFC 1321), for names and sums that other programs compare: it protects nothing. The crates that hash for us leave
//! it out for that reason.

/// The shifts of the four rounds, each repeated four times.
const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// Returns the MD5 sum.
pub(super) fn digest(bytes: &[u8]) -> [u8; 16] {
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - bytes.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let length = padded.len() - 8;
    padded[length..].copy_from_slice(&(bytes.len() as u64).wrapping_mul(8).to_le_bytes());
    let table = table();
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        state = round(state, block, &table);
    }
    let mut sum = [0; 16];
    for (place, word) in sum.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    sum
}

/// The constants are defined by sines (RFC 1321, section 3.4).
fn table() -> [u32; 64] {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is below 2^32")]
    std::array::from_fn(|step| ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32)
}

fn round(state: [u32; 4], block: &[u8], table: &[u32; 64]) -> [u32; 4] {
    let word = |at: usize| block[at * 4..at * 4 + 4].iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
    let [mut a, mut b, mut c, mut d] = state;
    for step in 0..64 {
        let (mixed, at) = match step / 16 {
            0 => (b & c | !b & d, step),
            1 => (d & b | !d & c, (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), (7 * step) % 16),
        };
        let turned = mixed.wrapping_add(a).wrapping_add(table[step]).wrapping_add(word(at));
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(turned.rotate_left(SHIFTS[step / 16][step % 4]));
    }
    let turned = [a, b, c, d];
    std::array::from_fn(|at| state[at].wrapping_add(turned[at]))
}
