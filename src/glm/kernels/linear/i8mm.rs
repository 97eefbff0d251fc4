//! aarch64 with `smmla`: a register of two rows x 8 columns times one of two tokens x 8 columns gives four sums, twice the
//! products of an `sdot`.
//!
//! Two groups of columns of a quad become two such registers by interleaving their rows' fours. Tokens are laid out in pairs
//! when they are quantised: 8 columns of one, the same 8 of the other. A pair less than a tile is wide, one token alone, is
//! multiplied by `sdot`.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::matrix::{BLOCK_COLS, PANEL_ROWS};
use super::super::wide::neon::widen;
use super::activations::{Quantised, QuantisedMut, TILE_TOKENS};
use super::dotprod::Sdot;
use super::neon::{self, Bytes, High, Low, Nibbles, Packed, QUAD_ROWS, QUADS, Take, Weights, Whole};
use super::{LinearFns, Panels, Sums, portable};

/// For `Isa::NeonI8mm`.
pub(super) const FNS: LinearFns =
    LinearFns { quantise, f32: neon::f32, q8_0, q4_0, silu_gate: portable::silu_gate };

/// Columns of a block that one instruction takes.
const STEP_COLS: usize = 8;

#[target_feature(enable = "dotprod,i8mm")]
unsafe fn q8_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Bytes>(panels, x, sums) }
}

#[target_feature(enable = "dotprod,i8mm")]
unsafe fn q4_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Nibbles>(panels, x, sums) }
}

/// As all aarch64 kernels do, then brings tokens together in pairs.
fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    let QuantisedMut { first_block, width, q, scales, corrections, offset } = to;
    neon::quantise(x, cols, QuantisedMut { first_block, width, q, scales, corrections, offset });
    for block in q.chunks_exact_mut(width * BLOCK_COLS) {
        let (pairs, _) = block.as_chunks_mut::<{ 2 * BLOCK_COLS }>();
        for pair in pairs {
            let both = *pair;
            let (one, other) = both.split_at(BLOCK_COLS);
            let steps = one.chunks_exact(STEP_COLS).zip(other.chunks_exact(STEP_COLS));
            for (to, (one, other)) in pair.chunks_exact_mut(2 * STEP_COLS).zip(steps) {
                to[..STEP_COLS].copy_from_slice(one);
                to[STEP_COLS..].copy_from_slice(other);
            }
        }
    }
}

/// Weights of a block of one quad, ready for `smmla`.
trait Paired: Packed {
    /// Each step's first two rows, and last two.
    ///
    /// # Safety
    /// `BYTES - 48` can be read at `at`.
    unsafe fn pairs(at: *const u8) -> [[int8x16_t; 2]; 4];
}

/// Two neighbouring groups of a quad as two rows, and two, x 8 columns.
#[inline(always)]
unsafe fn interleaved(at: *const u8, group: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let a = vreinterpretq_u32_u8(vld1q_u8(at.add(group * 64)));
        let b = vreinterpretq_u32_u8(vld1q_u8(at.add(group * 64 + 64)));
        [vreinterpretq_u8_u32(vzip1q_u32(a, b)), vreinterpretq_u8_u32(vzip2q_u32(a, b))]
    }
}

#[inline(always)]
fn take<T: Take>([top, bottom]: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    [T::take(top), T::take(bottom)]
}

impl Paired for Bytes {
    #[inline(always)]
    unsafe fn pairs(at: *const u8) -> [[int8x16_t; 2]; 4] {
        // SAFETY: passed on.
        unsafe {
            [
                take::<Whole>(interleaved(at, 0)),
                take::<Whole>(interleaved(at, 2)),
                take::<Whole>(interleaved(at, 4)),
                take::<Whole>(interleaved(at, 6)),
            ]
        }
    }
}

impl Paired for Nibbles {
    #[inline(always)]
    unsafe fn pairs(at: *const u8) -> [[int8x16_t; 2]; 4] {
        // SAFETY: passed on.
        let (a, b) = unsafe { (interleaved(at, 0), interleaved(at, 2)) };
        [take::<Low>(a), take::<Low>(b), take::<High>(a), take::<High>(b)]
    }
}

/// Four sums: row 0 by both tokens, row 1 by both tokens. The intrinsic, `vmmlaq_s32`, is not stable yet.
#[inline]
#[target_feature(enable = "i8mm")]
fn smmla(mut sum: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the machine has the instruction.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sum = inout(vreg) sum,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

// The functions below are inlined into their entries, always, to have those's instructions.

#[inline(always)]
unsafe fn product<P: Paired>(panels: Panels<'_>, x: Quantised<'_>, sums: &mut [Sums]) {
    if x.width == 1 {
        // SAFETY: passed on; what has `smmla` has `sdot`.
        return unsafe { neon::product::<P, Sdot>(panels, x, sums) };
    }
    let all = Weights::checked::<P>(panels, x, sums);
    for (panel, sums) in sums.chunks_exact_mut(x.tokens).enumerate() {
        for first in (0..x.tokens).step_by(TILE_TOKENS) {
            // SAFETY: lengths as asserted.
            unsafe {
                let w = all.skip(panel);
                // Where the last tile has one token of a pair, the other is zeros.
                let (pairs, left) = (x.width / 2, x.tokens - first);
                match pairs.min(left.div_ceil(2)) {
                    1 => tile::<P, 4, 1>(w, x, first, sums),
                    2 => tile::<P, 2, 2>(w, x, first, sums),
                    3 => tile::<P, 1, 3>(w, x, first, sums),
                    _ => tile::<P, 1, 4>(w, x, first, sums),
                }
                if x.width % 2 == 1 {
                    neon::one::<P, Sdot>(w, x, first + x.width - 1, sums);
                }
            }
        }
    }
}

/// A panel times `N` pairs of tokens from `first` on, `R` quads at a time.
///
/// # Safety
/// `w` has a panel of `x.blocks` blocks, the tile at `first` at least `N` pairs; the machine has the instructions.
#[inline(always)]
unsafe fn tile<P: Paired, const R: usize, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) {
    for quad in (0..QUADS).step_by(R) {
        // SAFETY: passed on.
        let out = unsafe { quads::<P, R, N>(w, x, first, quad) };
        for (r, out) in out.into_iter().enumerate() {
            for (t, [top, bottom]) in out.into_iter().enumerate() {
                // SAFETY: every aarch64 machine has NEON; a quad has four rows.
                unsafe {
                    let tokens = [vuzp1q_f32(top, bottom), vuzp2q_f32(top, bottom)];
                    for (sums, token) in sums[first..].iter_mut().skip(t * 2).zip(tokens) {
                        let to = &mut sums.0[(quad + r) * QUAD_ROWS..];
                        vst1q_f32(to[..QUAD_ROWS].as_mut_ptr(), token);
                    }
                }
            }
        }
    }
}

/// Sums of `R` quads by `N` pairs: of two rows and of two rows, each by two tokens.
#[inline(always)]
unsafe fn quads<P: Paired, const R: usize, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    first: usize,
    quad: usize,
) -> [[[float32x4_t; 2]; N]; R] {
    let start = x.place(first, 0);
    // SAFETY: see `tile`.
    unsafe {
        let mut out = [[[vdupq_n_f32(0.0); 2]; N]; R];
        for b in 0..x.blocks {
            let place = start + b * x.width;
            let q = x.q.as_ptr().add(place * BLOCK_COLS);
            let scales: [_; N] = both_halves(x.scales.as_ptr().add(place).cast());
            for (r, out) in out.iter_mut().enumerate() {
                let steps = P::pairs(w.numbers.add(b * P::BYTES + (quad + r) * 16));
                let mut dots = [[vdupq_n_s32(0); 2]; N];
                if P::IS_RAISED {
                    let corrections: [_; N] = both_halves(x.corrections.as_ptr().add(place).cast());
                    for (dots, correction) in dots.iter_mut().zip(corrections) {
                        *dots = [vreinterpretq_s32_s64(correction); 2];
                    }
                }
                for (step, rows) in steps.into_iter().enumerate() {
                    for (t, dots) in dots.iter_mut().enumerate() {
                        let tokens = vld1q_s8(q.add(t * 2 * BLOCK_COLS + step * 2 * STEP_COLS));
                        *dots = [smmla(dots[0], rows[0], tokens), smmla(dots[1], rows[1], tokens)];
                    }
                }
                let w_scales = w.scales.add(b * PANEL_ROWS * 2).cast::<u16>();
                let w_scale = widen(vld1_u16(w_scales.add((quad + r) * QUAD_ROWS)));
                let w_scales = [vzip1q_f32(w_scale, w_scale), vzip2q_f32(w_scale, w_scale)];
                for (t, out) in out.iter_mut().enumerate() {
                    let scale = vreinterpretq_f32_s64(scales[t]);
                    for (half, out) in out.iter_mut().enumerate() {
                        let scale = vmulq_f32(scale, w_scales[half]);
                        *out = vfmaq_f32(*out, vcvtq_f32_s32(dots[t][half]), scale);
                    }
                }
            }
        }
        out
    }
}

/// Each of `N` pairs of 32-bit numbers twice; two pairs are read at once.
#[inline(always)]
unsafe fn both_halves<const N: usize>(at: *const i64) -> [int64x2_t; N] {
    // SAFETY: the caller's promise: `N` pairs can be read.
    unsafe {
        let mut all = [vdupq_n_s64(0); N];
        for (i, to) in all.iter_mut().enumerate() {
            let two = at.add(i / 2 * 2);
            *to = match i % 2 {
                0 if i + 1 == N => vdupq_n_s64(two.read_unaligned()),
                0 => vdupq_laneq_s64::<0>(vld1q_s64(two)),
                _ => vdupq_laneq_s64::<1>(vld1q_s64(two)),
            };
        }
        all
    }
}
