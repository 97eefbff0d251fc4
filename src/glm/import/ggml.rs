//! The blocks of GGUF files: layouts as ggml has them, one function each.
//!
//! | type | numbers | bytes | content |
//! |---|---|---|---|
//! | `Q4_0` | 32 | 18 | scale f16; 16 bytes: low nibbles are the first half, high nibbles the second; minus 8 |
//! | `Q8_0` | 32 | 34 | scale f16; 32 x i8 |
//! | `Q4_K` | 256 | 144 | scale and minimum f16; 8 x (scale, minimum) in 6 bits each; 128 bytes of nibbles |
//! | `Q5_K` | 256 | 176 | the same with 32 bytes of fifth bits before the nibbles |
//! | `Q6_K` | 256 | 210 | 128 bytes of low nibbles, 64 of upper pairs, 16 scales i8, scale f16; minus 32 |

use half::f16;

use crate::glm::kernels::{BLOCK_COLS, Block};

/// Numbers in a block of the K family.
pub(super) const SUPER_COLS: usize = 256;

/// A `Q4_0` block, 18 bytes.
pub(super) fn q4_0(bytes: &[u8]) -> Block {
    let mut block = Block { scale: scale(bytes), q: [0; BLOCK_COLS] };
    let (low, high) = block.q.split_at_mut(BLOCK_COLS / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&bytes[2..18]) {
        *low = (byte & 15) as i8 - 8;
        *high = (byte >> 4) as i8 - 8;
    }
    block
}

/// A `Q8_0` block, 34 bytes.
pub(super) fn q8_0(bytes: &[u8]) -> Block {
    let mut block = Block { scale: scale(bytes), q: [0; BLOCK_COLS] };
    block.q.iter_mut().zip(&bytes[2..34]).for_each(|(q, byte)| *q = *byte as i8);
    block
}

/// A `Q4_K` block, 144 bytes, as 256 numbers.
pub(super) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    q45_k(bytes, None, &bytes[16..144], out);
}

/// A `Q5_K` block, 176 bytes, as 256 numbers.
pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    q45_k(bytes, Some(&bytes[16..48]), &bytes[48..176], out);
}

/// A `Q6_K` block, 210 bytes, as 256 numbers.
pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    let (low, rest) = bytes.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = scale(d).to_f32();
    for (half, out) in out.chunks_exact_mut(SUPER_COLS / 2).enumerate() {
        let (low, high, scales) =
            (&low[half * 64..][..64], &high[half * 32..][..32], &scales[half * 8..][..8]);
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            // Quarters 0 and 2 share the first 32 bytes of nibbles, 1 and 3 the second.
            let nibbles = &low[quarter % 2 * 32..][..32];
            for (l, out) in out.iter_mut().enumerate() {
                let nibble = nibbles[l] >> (quarter / 2 * 4) & 15;
                let upper = high[l] >> (2 * quarter) & 3;
                let q = (nibble | upper << 4) as i8 - 32;
                *out = d * f32::from(scales[2 * quarter + l / 16] as i8) * f32::from(q);
            }
        }
    }
}

fn q45_k(bytes: &[u8], fifth_bits: Option<&[u8]>, nibbles: &[u8], out: &mut [f32]) {
    let (d, d_min) = (scale(bytes).to_f32(), scale(&bytes[2..]).to_f32());
    for (sub, out) in out.chunks_exact_mut(32).enumerate() {
        let (sub_scale, sub_min) = six_bits(&bytes[4..16], sub);
        let (step, low) = (d * f32::from(sub_scale), d_min * f32::from(sub_min));
        let nibbles = &nibbles[sub / 2 * 32..][..32];
        for (l, out) in out.iter_mut().enumerate() {
            let fifth = fifth_bits.map_or(0, |bits| (bits[l] >> sub & 1) << 4);
            *out = step * f32::from(nibbles[l] >> (sub % 2 * 4) & 15 | fifth) - low;
        }
    }
}

/// Scale and minimum of one of eight sub-blocks, out of 12 bytes: the first four stand in the lower six bits, of the others
/// the lower four in the last four bytes and the upper two above the first ones'.
fn six_bits(packed: &[u8], sub: usize) -> (u8, u8) {
    match sub {
        0..4 => (packed[sub] & 63, packed[sub + 4] & 63),
        _ => {
            let low = packed[sub + 4];
            (low & 15 | packed[sub - 4] >> 6 << 4, low >> 4 | packed[sub] >> 6 << 4)
        }
    }
}

fn scale(bytes: &[u8]) -> f16 {
    f16::from_le_bytes([bytes[0], bytes[1]])
}
