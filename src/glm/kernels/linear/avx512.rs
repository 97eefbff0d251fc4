//! AVX-512 with VNNI: one register holds 16 rows x 4 columns, `vpdpbusd` multiplies it by four activations and adds the four
//! products of each row to its sum.

use std::arch::x86_64::*;

use super::super::matrix::BLOCK_COLS;
use super::{LinearFns, Quantised, QuantisedMut, Sums, portable};

/// For `Isa::Avx512Vnni`.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, silu_gate };

/// Bytes ahead of the block in work that are fetched while one token is multiplied.
const AHEAD_BYTES: usize = 4096;

/// Weights of a block as they lie: how they become eight registers of unsigned bytes.
trait Packed {
    /// Bytes of a block's numbers.
    const BYTES: usize;
    /// # Safety
    /// `BYTES` can be read at `block`; the machine has AVX-512 F and BW.
    unsafe fn unpack(block: *const u8) -> [__m512i; 8];
}

/// Signed bytes, moved up by 128.
struct Q8;
/// Nibbles.
struct Q4;
/// Bytes that are unsigned already.
struct Unpacked;

impl Packed for Q8 {
    const BYTES: usize = 512;
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn unpack(block: *const u8) -> [__m512i; 8] {
        let top = _mm512_set1_epi8(-128);
        // SAFETY: the caller's promise.
        std::array::from_fn(|g| unsafe {
            _mm512_xor_si512(_mm512_loadu_si512(block.add(g * 64).cast()), top)
        })
    }
}

impl Packed for Q4 {
    const BYTES: usize = 256;
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn unpack(block: *const u8) -> [__m512i; 8] {
        let mask = _mm512_set1_epi8(15);
        // SAFETY: the caller's promise.
        let both: [_; 4] = std::array::from_fn(|g| unsafe { _mm512_loadu_si512(block.add(g * 64).cast()) });
        std::array::from_fn(|g| match g {
            0..4 => _mm512_and_si512(both[g], mask),
            _ => _mm512_and_si512(_mm512_srli_epi16::<4>(both[g - 4]), mask),
        })
    }
}

impl Packed for Unpacked {
    const BYTES: usize = 512;
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn unpack(block: *const u8) -> [__m512i; 8] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|g| unsafe { _mm512_loadu_si512(block.add(g * 64).cast()) })
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn q8_0(panel: &[u8], x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { panel_product::<Q8>(panel, x, scratch, sums) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn q4_0(panel: &[u8], x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { panel_product::<Q4>(panel, x, scratch, sums) }
}

/// From so many tokens on a panel is unpacked once instead of for every tile.
const UNPACK_TOKENS: usize = 17;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn panel_product<P: Packed>(panel: &[u8], x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]) {
    let (numbers, scales) = panel.split_at(x.blocks * P::BYTES);
    assert!(sums.len() == x.tokens && scales.len() >= x.blocks * 32 && x.is_consistent());
    // SAFETY: lengths as asserted.
    unsafe {
        if x.tokens < UNPACK_TOKENS {
            return tiles::<P>(numbers, scales, x, sums);
        }
        let scratch = &mut scratch[..x.blocks * 512];
        for (to, block) in scratch.chunks_exact_mut(512).zip(numbers.chunks_exact(P::BYTES)) {
            for (to, w) in to.chunks_exact_mut(64).zip(P::unpack(block.as_ptr())) {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), w);
            }
        }
        tiles::<Unpacked>(scratch, scales, x, sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tiles<P: Packed>(numbers: &[u8], scales: &[u8], x: Quantised<'_>, sums: &mut [Sums]) {
    let mut first = 0;
    while first < sums.len() {
        let rest = &mut sums[first..];
        // SAFETY: passed on; every tile has at least as many tokens left as it takes.
        unsafe {
            first += match rest.len() {
                1 => tile::<P, 1>(numbers, scales, x, first, rest),
                2 => tile::<P, 2>(numbers, scales, x, first, rest),
                3 => tile::<P, 3>(numbers, scales, x, first, rest),
                4 => tile::<P, 4>(numbers, scales, x, first, rest),
                5 => tile::<P, 5>(numbers, scales, x, first, rest),
                6 => tile::<P, 6>(numbers, scales, x, first, rest),
                7 => tile::<P, 7>(numbers, scales, x, first, rest),
                8..16 => tile::<P, 8>(numbers, scales, x, first, rest),
                _ => tile::<P, 16>(numbers, scales, x, first, rest),
            };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<P: Packed, const N: usize>(
    numbers: &[u8],
    scales: &[u8],
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    let mut out = [_mm512_setzero_ps(); N];
    for b in 0..x.blocks {
        // SAFETY: `numbers`, `scales` and `x` have `x.blocks` blocks, `x` at least `first + N` tokens in each. Addresses
        // ahead may lie behind the end: they are only hinted at.
        unsafe {
            let block = numbers.as_ptr().add(b * P::BYTES);
            if N == 1 {
                for line in (0..P::BYTES).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(AHEAD_BYTES + line).cast());
                }
            }
            let w = P::unpack(block);
            let w_scales = _mm512_cvtph_ps(_mm256_loadu_si256(scales.as_ptr().add(b * 32).cast()));
            let place = b * x.stride + first;
            let q = x.q.as_ptr().add(place * BLOCK_COLS).cast::<i32>();
            for (t, out) in out.iter_mut().enumerate() {
                let mut dots = _mm512_set1_epi32(*x.corrections.as_ptr().add(place + t));
                for (g, w) in w.iter().enumerate() {
                    dots =
                        _mm512_dpbusd_epi32(dots, *w, _mm512_set1_epi32(q.add(t * 8 + g).read_unaligned()));
                }
                let scale = _mm512_mul_ps(w_scales, _mm512_set1_ps(*x.scales.as_ptr().add(place + t)));
                *out = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, *out);
            }
        }
    }
    for (sums, out) in sums.iter_mut().zip(out) {
        // SAFETY: 16 numbers.
        unsafe { _mm512_storeu_ps(sums.0.as_mut_ptr(), out) };
    }
    N
}

#[target_feature(enable = "avx512f")]
unsafe fn f32(panel: &[u8], x: &[f32], cols: usize, sums: &mut [Sums]) {
    assert!(panel.len() >= cols * 64 && x.len() == cols * sums.len());
    let mut first = 0;
    while first < sums.len() {
        let (x, rest) = (&x[first * cols..], &mut sums[first..]);
        // SAFETY: lengths as asserted, and every tile has at least as many tokens left as it takes.
        unsafe {
            first += match rest.len() {
                1 => f32_tile::<1, 4>(panel, x, cols, rest),
                2 => f32_tile::<2, 4>(panel, x, cols, rest),
                3 => f32_tile::<3, 2>(panel, x, cols, rest),
                4..8 => f32_tile::<4, 2>(panel, x, cols, rest),
                8..16 => f32_tile::<8, 1>(panel, x, cols, rest),
                _ => f32_tile::<16, 1>(panel, x, cols, rest),
            };
        }
    }
}

/// `N` tokens, each with `CHAINS` sums that do not wait for each other.
#[target_feature(enable = "avx512f")]
unsafe fn f32_tile<const N: usize, const CHAINS: usize>(
    panel: &[u8],
    x: &[f32],
    cols: usize,
    sums: &mut [Sums],
) -> usize {
    let mut out = [[_mm512_setzero_ps(); N]; CHAINS];
    let whole = cols / CHAINS * CHAINS;
    for c in (0..whole).step_by(CHAINS) {
        for (k, out) in out.iter_mut().enumerate() {
            // SAFETY: the panel has 16 numbers for every column, `x` one per token.
            unsafe {
                let w = _mm512_loadu_ps(panel.as_ptr().add((c + k) * 64).cast());
                for (t, out) in out.iter_mut().enumerate() {
                    *out = _mm512_fmadd_ps(w, _mm512_set1_ps(*x.as_ptr().add(t * cols + c + k)), *out);
                }
            }
        }
    }
    let mut total = [_mm512_setzero_ps(); N];
    for out in out {
        total.iter_mut().zip(out).for_each(|(total, out)| *total = _mm512_add_ps(*total, out));
    }
    for c in whole..cols {
        // SAFETY: as above.
        unsafe {
            let w = _mm512_loadu_ps(panel.as_ptr().add(c * 64).cast());
            for (t, total) in total.iter_mut().enumerate() {
                *total = _mm512_fmadd_ps(w, _mm512_set1_ps(*x.as_ptr().add(t * cols + c)), *total);
            }
        }
    }
    for (sums, total) in sums.iter_mut().zip(total) {
        // SAFETY: 16 numbers.
        unsafe { _mm512_storeu_ps(sums.0.as_mut_ptr(), total) };
    }
    N
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    let QuantisedMut { first_block, stride, q, scales, corrections, offset } = to;
    let tokens = x.len() / cols;
    let blocks = scales.len() / stride;
    assert!(tokens <= stride && q.len() == scales.len() * BLOCK_COLS && corrections.len() == scales.len());
    for (token, x) in x.chunks_exact(cols).enumerate() {
        for b in 0..blocks {
            let start = (first_block + b) * BLOCK_COLS;
            let left = (cols - start).min(BLOCK_COLS);
            let mask = u32::MAX >> (BLOCK_COLS - left);
            let place = b * stride + token;
            // SAFETY: only the `left` numbers inside `x` are read; the place is inside `to` as asserted.
            unsafe {
                let x = x.as_ptr().add(start);
                let low = _mm512_maskz_loadu_ps(mask as u16, x);
                let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, x.wrapping_add(16));
                let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
                let zero = largest < portable::SMALLEST;
                let inverse = _mm512_set1_ps(if zero { 0.0 } else { 127.0 / largest });
                let low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
                let high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
                let q = q.as_mut_ptr().add(place * BLOCK_COLS);
                _mm_storeu_si128(q.cast(), _mm512_cvtsepi32_epi8(low));
                _mm_storeu_si128(q.add(16).cast(), _mm512_cvtsepi32_epi8(high));
                scales[place] = if zero { 0.0 } else { largest / 127.0 };
                corrections[place] = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
            }
        }
    }
    for b in 0..blocks {
        let padding = b * stride + tokens..(b + 1) * stride;
        q[padding.start * BLOCK_COLS..padding.end * BLOCK_COLS].fill(0);
        scales[padding.clone()].fill(0.0);
        corrections[padding].fill(0);
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn silu_gate(gate: &mut [Sums], up: &[Sums]) {
    portable::silu_gate(gate, up);
}
