//! AVX-512 with VNNI: one register holds 16 rows x 4 columns, `vpdpbusd` multiplies it by four activations and adds the four
//! products of each row to its sum.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::matrix::BLOCK_COLS;
use super::activations::{FOUR_COLS, Four, Quantised, QuantisedMut, TILE_TOKENS};
use super::fetch::{AHEAD_BYTES, Fetch};
use super::{LinearFns, Panels, Sums, portable};

/// For `Isa::Avx512Vnni`.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, silu_gate };

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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn q8_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Q8>(panels, x, sums) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn q4_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Q4>(panels, x, sums) }
}

/// Weights are unpacked for every tile of tokens anew: that costs a seventh of the tile's time, while doing it once would cost
/// waiting for memory that now arrives behind the first tile's work.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn product<P: Packed>(panels: Panels<'_>, x: Quantised<'_>, sums: &mut [Sums]) {
    let stride = panels.bytes.len() / panels.count;
    let numbers = x.blocks * P::BYTES;
    assert!(sums.len() == panels.count * x.tokens && stride >= numbers + x.blocks * 32 && x.is_consistent());
    let at = panels.bytes.as_ptr();
    // SAFETY: lengths as asserted.
    unsafe {
        let w = Weights { numbers: at, scales: at.add(numbers), stride, fetch: Fetch::of_this_machine() };
        (0..x.tokens).step_by(TILE_TOKENS).for_each(|first| tile::<P>(w, panels.count, x, first, sums));
    }
}

/// Where panels are.
#[derive(Clone, Copy)]
struct Weights {
    /// Of the first one.
    numbers: *const u8,
    /// Of the first one.
    scales: *const u8,
    /// From one panel to the next.
    stride: usize,
    /// How those that come next are fetched.
    fetch: Fetch,
}

/// A tile of tokens times all panels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<P: Packed>(w: Weights, panels: usize, x: Quantised<'_>, first: usize, sums: &mut [Sums]) {
    // SAFETY: passed on; the tile has as many tokens as are taken.
    unsafe {
        match x.tokens - first {
            1 => panels_of::<P, 4, 1>(w, panels, x, first, sums),
            2 => panels_of::<P, 4, 2>(w, panels, x, first, sums),
            3 => panels_of::<P, 4, 3>(w, panels, x, first, sums),
            4 => panels_of::<P, 4, 4>(w, panels, x, first, sums),
            5 => panels_of::<P, 2, 5>(w, panels, x, first, sums),
            6 => panels_of::<P, 2, 6>(w, panels, x, first, sums),
            7 => panels_of::<P, 2, 7>(w, panels, x, first, sums),
            _ => panels_of::<P, 2, 8>(w, panels, x, first, sums),
        };
    }
}

/// `N` tokens times all panels, `M` panels at once as long as there are as many.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn panels_of<P: Packed, const M: usize, const N: usize>(
    w: Weights,
    panels: usize,
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) {
    let mut panel = 0;
    while panel < panels {
        // SAFETY: passed on.
        unsafe {
            let w = Weights {
                numbers: w.numbers.add(panel * w.stride),
                scales: w.scales.add(panel * w.stride),
                ..w
            };
            let sums = &mut sums[panel * x.tokens..];
            panel += match panels - panel {
                left if left >= M => panels_tile::<P, M, N>(w, x, first, sums),
                _ => panels_tile::<P, 1, N>(w, x, first, sums),
            };
        }
    }
}

/// `M` panels times `N` tokens; gives `M`.
///
/// # Safety
/// `w` has `M` panels of `x.blocks` blocks, `x` at least `first + N` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn panels_tile<P: Packed, const M: usize, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    let mut out = [[_mm512_setzero_ps(); N]; M];
    let start = x.place(first, 0);
    let ahead_blocks = AHEAD_BYTES / P::BYTES;
    let turn = x.blocks.saturating_sub(ahead_blocks);
    for b in 0..x.blocks {
        for (m, out) in out.iter_mut().enumerate() {
            // SAFETY: see above. Addresses ahead may lie behind the end: they are only hinted at.
            unsafe {
                let block = w.numbers.add(m * w.stride + b * P::BYTES);
                if first == 0 {
                    // From the last blocks on to the panels that come next.
                    let (panel, b) = if b < turn { (m, b + ahead_blocks) } else { (m + M, b - turn) };
                    w.fetch.lines(w.numbers.wrapping_add(panel * w.stride + b * P::BYTES), P::BYTES);
                    w.fetch.lines(w.scales.wrapping_add(panel * w.stride + b * 32), 32);
                }
                let numbers = P::unpack(block);
                let scales = _mm512_cvtph_ps(_mm256_loadu_si256(w.scales.add(m * w.stride + b * 32).cast()));
                let place = start + b * x.width;
                let q = opaque(x.q.as_ptr().add(place * BLOCK_COLS).cast::<i32>());
                for (t, out) in out.iter_mut().enumerate() {
                    let mut dots = _mm512_set1_epi32(*x.corrections.as_ptr().add(place + t));
                    for (g, w) in numbers.iter().enumerate() {
                        let q = _mm512_set1_epi32(q.add(t * 8 + g).read_unaligned());
                        dots = _mm512_dpbusd_epi32(dots, *w, q);
                    }
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(*x.scales.as_ptr().add(place + t)));
                    *out = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, *out);
                }
            }
        }
    }
    store(&out, x.tokens, &mut sums[first..]);
    M
}

/// The same address, but the compiler does not know: otherwise it broadcasts activations once for several panels, has not
/// enough registers for that, and moves them to the stack and back instead of letting `vpdpbusd` broadcast them.
#[inline]
#[allow(clippy::pointers_in_nomem_asm_block)]
pub(super) fn opaque<T>(mut at: *const T) -> *const T {
    // SAFETY: nothing happens.
    unsafe { asm!("/* {0} */", inout(reg) at, options(nomem, nostack, preserves_flags)) };
    at
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const M: usize, const N: usize>(out: &[[__m512; N]; M], tokens: usize, sums: &mut [Sums]) {
    for (m, out) in out.iter().enumerate() {
        for (sums, out) in sums[m * tokens..][..N].iter_mut().zip(out) {
            // SAFETY: 16 numbers.
            unsafe { _mm512_storeu_ps(sums.0.as_mut_ptr(), *out) };
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn f32(panels: Panels<'_>, x: &[f32], cols: usize, sums: &mut [Sums]) {
    let stride = panels.bytes.len() / panels.count;
    let tokens = x.len() / cols;
    assert!(stride >= cols * 64 && sums.len() == panels.count * tokens);
    let mut panel = 0;
    while panel < panels.count {
        let w = panels.bytes[panel * stride..].as_ptr().cast();
        let sums = &mut sums[panel * tokens..];
        // SAFETY: lengths as asserted.
        unsafe {
            panel += match panels.count - panel {
                4.. => f32_tiles::<4>(w, stride, x, cols, sums),
                _ => f32_tiles::<1>(w, stride, x, cols, sums),
            };
        }
    }
}

/// All tokens times `M` panels; gives `M`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn f32_tiles<const M: usize>(
    w: *const u8,
    stride: usize,
    x: &[f32],
    cols: usize,
    sums: &mut [Sums],
) -> usize {
    let tokens = x.len() / cols;
    let mut first = 0;
    while first < tokens {
        // SAFETY: passed on; every tile has at least as many tokens left as it takes.
        unsafe {
            first += match tokens - first {
                1 => f32_tile::<M, 1>(w, stride, x, cols, first, sums),
                2..4 => f32_tile::<M, 2>(w, stride, x, cols, first, sums),
                4..16 => f32_tile::<M, 4>(w, stride, x, cols, first, sums),
                _ if M > 1 => f32_tile::<M, 4>(w, stride, x, cols, first, sums),
                _ => f32_tile::<M, 16>(w, stride, x, cols, first, sums),
            };
        }
    }
    M
}

/// `N` tokens times `M` panels; gives `N`.
///
/// # Safety
/// `w` has `M` panels of `cols` columns, `x` at least `first + N` tokens.
#[target_feature(enable = "avx512f")]
unsafe fn f32_tile<const M: usize, const N: usize>(
    w: *const u8,
    stride: usize,
    x: &[f32],
    cols: usize,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    let mut out = [[_mm512_setzero_ps(); N]; M];
    let start = &x[first * cols..(first + N) * cols];
    for c in 0..cols {
        for (m, out) in out.iter_mut().enumerate() {
            // SAFETY: see above.
            unsafe {
                let w = _mm512_loadu_ps(w.add(m * stride + c * 64).cast());
                for (t, out) in out.iter_mut().enumerate() {
                    *out = _mm512_fmadd_ps(w, _mm512_set1_ps(*start.as_ptr().add(t * cols + c)), *out);
                }
            }
        }
    }
    store(&out, x.len() / cols, &mut sums[first..]);
    N
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    to.fill(x, cols, |x| quantise_four(x));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantise_four(x: &[f32; FOUR_COLS]) -> Four {
    let zero = _mm512_setzero_ps();
    let (mut low, mut high, mut largest) = ([zero; 4], [zero; 4], [zero; 4]);
    for b in 0..4 {
        // SAFETY: 32 numbers for each of four blocks.
        unsafe {
            low[b] = _mm512_loadu_ps(x.as_ptr().add(b * 32));
            high[b] = _mm512_loadu_ps(x.as_ptr().add(b * 32 + 16));
        }
        largest[b] = _mm512_max_ps(_mm512_abs_ps(low[b]), _mm512_abs_ps(high[b]));
    }
    let largest = transposed_max(largest);
    let counts = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(largest, _mm512_set1_ps(portable::SMALLEST));
    let inverse = _mm512_maskz_div_ps(counts, _mm512_set1_ps(127.0), largest);
    let inverse = [
        _mm512_permute_ps::<0x00>(inverse),
        _mm512_permute_ps::<0x55>(inverse),
        _mm512_permute_ps::<0xaa>(inverse),
        _mm512_permute_ps::<0xff>(inverse),
    ];
    let mut four = Four { q: [[0; BLOCK_COLS]; 4], scales: [0.0; 4], sums: [0; 4] };
    let mut sums = [_mm512_setzero_si512(); 4];
    for b in 0..4 {
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(low[b], inverse[b]));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(high[b], inverse[b]));
        sums[b] = _mm512_add_epi32(low, high);
        let to = four.q[b].as_mut_ptr();
        // SAFETY: 32 bytes.
        unsafe {
            _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(low));
            _mm_storeu_si128(to.add(16).cast(), _mm512_cvtsepi32_epi8(high));
        }
    }
    let scales = _mm512_maskz_div_ps(counts, largest, _mm512_set1_ps(127.0));
    // SAFETY: four numbers each.
    unsafe {
        _mm_storeu_ps(four.scales.as_mut_ptr(), _mm512_castps512_ps128(scales));
        _mm_storeu_si128(four.sums.as_mut_ptr().cast(), _mm512_castsi512_si128(transposed_sum(sums)));
    }
    four
}

/// The largest of each of four registers, in this order, again and again.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed_max([a, b, c, d]: [__m512; 4]) -> __m512 {
    let ab = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_max_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let abcd = _mm512_max_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
    let abcd = _mm512_max_ps(abcd, _mm512_shuffle_f32x4::<0x4e>(abcd, abcd));
    _mm512_max_ps(abcd, _mm512_shuffle_f32x4::<0xb1>(abcd, abcd))
}

/// The sum of each of four registers, in this order, again and again.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed_sum([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let abcd = _mm512_add_epi32(abcd, _mm512_shuffle_i32x4::<0x4e>(abcd, abcd));
    _mm512_add_epi32(abcd, _mm512_shuffle_i32x4::<0xb1>(abcd, abcd))
}

#[target_feature(enable = "avx512f,avx512dq")]
fn silu_gate(gate: &mut [Sums], up: &[Sums]) {
    portable::silu_gate(gate, up);
}
