//! AVX2, and AVX2 with VNNI: one register holds 8 rows x 4 columns, so a panel is two halves, read side by side.
//!
//! Without VNNI, nibbles times activations are added up in 16 bits (32 columns are at most 15 * 127 * 32 / 2 in each of two
//! sums, below 2^15); signed weights go as their size, with their sign on the activation.

use std::arch::x86_64::*;

use super::super::matrix::{BLOCK_COLS, PANEL_ROWS};
use super::activations::{FOUR_COLS, Four, Quantised, QuantisedMut, TILE_TOKENS};
use super::avx512::opaque;
use super::fetch::{AHEAD_BYTES, Fetch};
use super::{LinearFns, Panels, Sums, portable};

/// For `Isa::Avx2`.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, silu_gate };
/// For `Isa::AvxVnni`.
pub(super) const FNS_VNNI: LinearFns =
    LinearFns { quantise, f32, q8_0: q8_0_vnni, q4_0: q4_0_vnni, silu_gate };

/// Rows of half a panel.
const HALF_ROWS: usize = PANEL_ROWS / 2;

/// From so many tokens on a panel is unpacked once instead of for every tile.
const UNPACK_TOKENS: usize = 2 * TILE_TOKENS + 1;

/// Weights of half a block as they lie, and how registers of 8 rows x 4 columns come of them.
trait Packed {
    /// Bytes of a whole block's numbers.
    const BYTES: usize;
    /// Whether they are bytes to be taken as they are.
    const IS_PLAIN: bool = false;
    /// Groups `g` and `g + 4` of the eight.
    ///
    /// # Safety
    /// `BYTES - 32` can be read at `half`, `g` is below 4, and the machine has AVX2.
    unsafe fn groups(half: *const u8, g: usize) -> [__m256i; 2];
}

/// Sums of products of one block's weights and one token's activations, row by row.
trait Dots {
    /// # Safety
    /// The machine has the instructions, as for the others.
    unsafe fn start(correction: i32) -> __m256i;
    /// Adds the products of four columns.
    unsafe fn add(dots: __m256i, w: __m256i, x: __m256i) -> __m256i;
    /// Eight 32-bit sums.
    unsafe fn end(dots: __m256i, correction: i32) -> __m256i;
}

/// Bytes as they lie.
struct Bytes;
/// Bytes moved up by 128.
struct Raised;
/// Nibbles.
struct Nibbles;

impl Packed for Bytes {
    const BYTES: usize = 512;
    const IS_PLAIN: bool = true;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn groups(half: *const u8, g: usize) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        [g, g + 4].map(|g| unsafe { _mm256_loadu_si256(half.add(g * 64).cast()) })
    }
}

impl Packed for Raised {
    const BYTES: usize = 512;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn groups(half: *const u8, g: usize) -> [__m256i; 2] {
        let top = _mm256_set1_epi8(-128);
        // SAFETY: the caller's promise.
        unsafe { Bytes::groups(half, g) }.map(|w| _mm256_xor_si256(w, top))
    }
}

impl Packed for Nibbles {
    const BYTES: usize = 256;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn groups(half: *const u8, g: usize) -> [__m256i; 2] {
        let mask = _mm256_set1_epi8(15);
        // SAFETY: the caller's promise.
        let both = unsafe { _mm256_loadu_si256(half.add(g * 64).cast()) };
        [_mm256_and_si256(both, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask)]
    }
}

/// Unsigned weights up to 15.
struct Small;
/// Signed weights.
struct Signed;
/// Unsigned weights, with VNNI.
struct Vnni;

impl Dots for Small {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn start(_: i32) -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(dots: __m256i, w: __m256i, x: __m256i) -> __m256i {
        _mm256_add_epi16(dots, _mm256_maddubs_epi16(w, x))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn end(dots: __m256i, correction: i32) -> __m256i {
        _mm256_add_epi32(_mm256_madd_epi16(dots, _mm256_set1_epi16(1)), _mm256_set1_epi32(correction))
    }
}

impl Dots for Signed {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn start(_: i32) -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(dots: __m256i, w: __m256i, x: __m256i) -> __m256i {
        let products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
        _mm256_add_epi32(dots, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn end(dots: __m256i, _: i32) -> __m256i {
        dots
    }
}

impl Dots for Vnni {
    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn start(correction: i32) -> __m256i {
        _mm256_set1_epi32(correction)
    }

    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn add(dots: __m256i, w: __m256i, x: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(dots, w, x)
    }

    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn end(dots: __m256i, _: i32) -> __m256i {
        dots
    }
}

/// The kernels' entries: few tokens are multiplied by packed weights, for many a panel is unpacked once.
macro_rules! entry {
    ($name:ident, $features:literal, $packed:ty, $dots:ty) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(panels: Panels<'_>, x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]) {
            let stride = panels.bytes.len() / panels.count;
            let numbers = x.blocks * <$packed>::BYTES;
            assert!(sums.len() == panels.count * x.tokens && stride >= numbers + x.blocks * 32);
            assert!(x.is_consistent());
            let fetch = Some(Fetch::of_this_machine());
            if x.tokens >= UNPACK_TOKENS && !<$packed>::IS_PLAIN {
                for (panel, sums) in panels.with_sums(sums) {
                    let scratch = &mut scratch[..x.blocks * 512];
                    // SAFETY: lengths as asserted.
                    unsafe {
                        unpack::<$packed>(panel, scratch);
                        let scales = panel[numbers..].as_ptr();
                        let w = Weights { numbers: scratch.as_ptr(), scales, stride, fetch: None };
                        tiles::<Bytes, $dots, 1>(w, x, sums);
                    }
                }
                return;
            }
            let mut panel = 0;
            while panel < panels.count {
                let at = panels.bytes[panel * stride..].as_ptr();
                let sums = &mut sums[panel * x.tokens..];
                // SAFETY: lengths as asserted; as many panels are left as are taken.
                unsafe {
                    let w = Weights { numbers: at, scales: at.add(numbers), stride, fetch };
                    panel += match (panels.count - panel, x.tokens) {
                        (4.., 1) => tiles::<$packed, $dots, 4>(w, x, sums),
                        (2.., 1 | 2) => tiles::<$packed, $dots, 2>(w, x, sums),
                        _ => tiles::<$packed, $dots, 1>(w, x, sums),
                    };
                }
            }
        }
    };
}
entry!(q8_0, "avx2,fma,f16c", Bytes, Signed);
entry!(q4_0, "avx2,fma,f16c", Nibbles, Small);
entry!(q8_0_vnni, "avx2,fma,f16c,avxvnni", Raised, Vnni);
entry!(q4_0_vnni, "avx2,fma,f16c,avxvnni", Nibbles, Vnni);

/// Where panels are.
#[derive(Clone, Copy)]
struct Weights {
    /// Of the first one.
    numbers: *const u8,
    /// Of the first one.
    scales: *const u8,
    /// From one panel to the next.
    stride: usize,
    /// How those that come next are fetched, unless they are in the cache.
    fetch: Option<Fetch>,
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn unpack<P: Packed>(panel: &[u8], to: &mut [u8]) {
    for (to, block) in to.chunks_exact_mut(512).zip(panel.chunks_exact(P::BYTES)) {
        for half in [0, 32] {
            // SAFETY: a whole block is there to be read, 512 bytes to be written.
            unsafe {
                for g in 0..4 {
                    for (g, w) in [g, g + 4].into_iter().zip(P::groups(block.as_ptr().add(half), g)) {
                        _mm256_storeu_si256(to.as_mut_ptr().add(g * 64 + half).cast(), w);
                    }
                }
            }
        }
    }
}

// The functions below are inlined into their entries, always, to have those's instructions.

/// `PANELS` panels times all tokens; gives `PANELS`.
///
/// # Safety
/// `w` has these panels of `x.blocks` blocks, `sums` a place for each and every token.
#[inline(always)]
unsafe fn tiles<P: Packed, D: Dots, const PANELS: usize>(
    w: Weights,
    x: Quantised<'_>,
    sums: &mut [Sums],
) -> usize {
    let mut first = 0;
    while first < x.tokens {
        // SAFETY: passed on; as many tokens are left as are taken.
        unsafe {
            first += match x.tokens - first {
                1 => tile::<P, D, PANELS, 1>(w, x, first, sums),
                2 => tile::<P, D, PANELS, 2>(w, x, first, sums),
                3 => tile::<P, D, PANELS, 3>(w, x, first, sums),
                _ => tile::<P, D, PANELS, 4>(w, x, first, sums),
            };
        }
    }
    PANELS
}

/// `PANELS` panels times `N` tokens; gives `N`.
///
/// # Safety
/// `w` has these panels of `x.blocks` blocks, `x` at least `first + N` tokens, `sums` a place for each.
#[inline(always)]
unsafe fn tile<P: Packed, D: Dots, const PANELS: usize, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    // SAFETY: the machine has AVX2.
    let mut out = [[[unsafe { _mm256_setzero_ps() }; N]; 2]; PANELS];
    let start = x.place(first, 0);
    let ahead_blocks = AHEAD_BYTES / P::BYTES;
    let turn = x.blocks.saturating_sub(ahead_blocks);
    for b in 0..x.blocks {
        let place = start + b * x.width;
        for (m, out) in out.iter_mut().enumerate() {
            // SAFETY: see above. Addresses ahead may lie behind the end: they are only hinted at.
            unsafe {
                if let (0, Some(fetch)) = (first, w.fetch) {
                    // From the last blocks on to the panels that come next.
                    let (panel, b) = if b < turn { (m, b + ahead_blocks) } else { (m + PANELS, b - turn) };
                    fetch.lines(w.numbers.wrapping_add(panel * w.stride + b * P::BYTES), P::BYTES);
                }
                let dots = dots_of::<P, D, N>(w.numbers.add(m * w.stride + b * P::BYTES), x, place);
                for (half, (out, dots)) in out.iter_mut().zip(dots).enumerate() {
                    let scales = w.scales.add(m * w.stride + b * 32 + half * 16);
                    let scales = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                    for (t, (out, dots)) in out.iter_mut().zip(dots).enumerate() {
                        let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.as_ptr().add(place + t)));
                        *out = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, *out);
                    }
                }
            }
        }
    }
    for (m, out) in out.iter().enumerate() {
        // SAFETY: the machine has AVX2.
        unsafe { store(out, &mut sums[m * x.tokens + first..]) };
    }
    N
}

/// A block of a panel times `N` tokens from `place` on: whole-number sums. Four columns at a time, so that what a token has there
/// is spread over a register once for both halves, and these sums stay in registers.
///
/// # Safety
/// `P::BYTES` can be read at `block`, `x` has `N` places from `place` on, and the machine has the instructions.
#[inline(always)]
unsafe fn dots_of<P: Packed, D: Dots, const N: usize>(
    block: *const u8,
    x: Quantised<'_>,
    place: usize,
) -> [[__m256i; N]; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let q = opaque(x.q.as_ptr().add(place * BLOCK_COLS).cast::<i32>());
        let corrections = x.corrections.as_ptr().add(place);
        let mut dots = [[_mm256_setzero_si256(); N]; 2];
        for dots in &mut dots {
            for (t, dots) in dots.iter_mut().enumerate() {
                *dots = D::start(*corrections.add(t));
            }
        }
        for g in 0..4 {
            let w = [P::groups(block, g), P::groups(block.add(32), g)];
            for k in 0..2 {
                for t in 0..N {
                    let x = _mm256_set1_epi32(q.add(t * 8 + g + 4 * k).read_unaligned());
                    for (dots, w) in dots.iter_mut().zip(w) {
                        dots[t] = D::add(dots[t], w[k], x);
                    }
                }
            }
        }
        for dots in &mut dots {
            for (t, dots) in dots.iter_mut().enumerate() {
                *dots = D::end(*dots, *corrections.add(t));
            }
        }
        dots
    }
}

/// Both halves of a panel, the sums of its tokens from the first of `sums` on.
#[inline]
#[target_feature(enable = "avx2")]
fn store<const N: usize>(out: &[[__m256; N]; 2], sums: &mut [Sums]) {
    for (half, out) in out.iter().enumerate() {
        for (sums, out) in sums[..N].iter_mut().zip(out) {
            let to = &mut sums.0[half * HALF_ROWS..][..HALF_ROWS];
            // SAFETY: 8 numbers.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), *out) };
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn f32(panels: Panels<'_>, x: &[f32], cols: usize, sums: &mut [Sums]) {
    let stride = panels.bytes.len() / panels.count;
    let tokens = x.len() / cols;
    assert!(stride >= cols * 64 && sums.len() == panels.count * tokens);
    let mut panel = 0;
    while panel < panels.count {
        let w = panels.bytes[panel * stride..].as_ptr();
        let sums = &mut sums[panel * tokens..];
        // SAFETY: lengths as asserted; as many panels are left as are taken.
        unsafe {
            panel += match (panels.count - panel, tokens) {
                (4.., 1) => f32_tiles::<4>(w, stride, x, cols, sums),
                _ => f32_tiles::<1>(w, stride, x, cols, sums),
            };
        }
    }
}

/// All tokens times `PANELS` panels; gives `PANELS`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn f32_tiles<const PANELS: usize>(
    w: *const u8,
    stride: usize,
    x: &[f32],
    cols: usize,
    sums: &mut [Sums],
) -> usize {
    let tokens = x.len() / cols;
    let mut first = 0;
    while first < tokens {
        // SAFETY: passed on; as many tokens are left as are taken.
        unsafe {
            first += match tokens - first {
                4.. if PANELS == 1 => f32_tile::<PANELS, 4>(w, stride, x, cols, first, sums),
                _ => f32_tile::<PANELS, 1>(w, stride, x, cols, first, sums),
            };
        }
    }
    PANELS
}

/// `PANELS` panels times `N` tokens; gives `N`.
///
/// # Safety
/// `w` has these panels of `cols` columns, `x` at least `first + N` tokens.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn f32_tile<const PANELS: usize, const N: usize>(
    w: *const u8,
    stride: usize,
    x: &[f32],
    cols: usize,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    let mut out = [[[_mm256_setzero_ps(); N]; 2]; PANELS];
    let start = &x[first * cols..(first + N) * cols];
    for c in 0..cols {
        for (m, out) in out.iter_mut().enumerate() {
            for (half, out) in out.iter_mut().enumerate() {
                // SAFETY: see above.
                unsafe {
                    let w = _mm256_loadu_ps(w.add(m * stride + c * 64 + half * 32).cast());
                    for (t, out) in out.iter_mut().enumerate() {
                        *out = _mm256_fmadd_ps(w, _mm256_set1_ps(*start.as_ptr().add(t * cols + c)), *out);
                    }
                }
            }
        }
    }
    let tokens = x.len() / cols;
    out.iter().enumerate().for_each(|(m, out)| store(out, &mut sums[m * tokens + first..]));
    N
}

#[target_feature(enable = "avx2")]
fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    to.fill(x, cols, |x| quantise_four(x));
}

#[inline]
#[target_feature(enable = "avx2")]
fn quantise_four(x: &[f32; FOUR_COLS]) -> Four {
    let (zero, size) = (_mm256_setzero_ps(), _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX)));
    let (eights, _) = x.as_chunks::<8>();
    // SAFETY: eight numbers.
    let load = |i: usize| unsafe { _mm256_loadu_ps(eights[i].as_ptr()) };
    let mut largest = [zero; 4];
    for (b, largest) in largest.iter_mut().enumerate() {
        for k in 0..4 {
            *largest = _mm256_max_ps(_mm256_and_ps(load(b * 4 + k), size), *largest);
        }
    }
    let largest = transposed_max(largest);
    let counts = _mm256_cmp_ps::<_CMP_GE_OQ>(largest, _mm256_set1_ps(portable::SMALLEST));
    let inverse = _mm256_and_ps(_mm256_div_ps(_mm256_set1_ps(127.0), largest), counts);
    let inverse = [
        _mm256_permute_ps::<0x00>(inverse),
        _mm256_permute_ps::<0x55>(inverse),
        _mm256_permute_ps::<0xaa>(inverse),
        _mm256_permute_ps::<0xff>(inverse),
    ];
    let mut four = Four { q: [[0; BLOCK_COLS]; 4], scales: [0.0; 4], sums: [0; 4] };
    let mut sums = [_mm256_setzero_si256(); 4];
    for b in 0..4 {
        let rounded = |k: usize| _mm256_cvtps_epi32(_mm256_mul_ps(load(b * 4 + k), inverse[b]));
        let q = [rounded(0), rounded(1), rounded(2), rounded(3)];
        sums[b] = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
        // Packing works within halves of a register; the permutation puts fours back in order.
        let packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(four.q[b].as_mut_ptr().cast(), packed) };
    }
    let scales = _mm256_and_ps(_mm256_div_ps(largest, _mm256_set1_ps(127.0)), counts);
    // SAFETY: four numbers each.
    unsafe {
        _mm_storeu_ps(four.scales.as_mut_ptr(), _mm256_castps256_ps128(scales));
        _mm_storeu_si128(four.sums.as_mut_ptr().cast(), transposed_sum(sums));
    }
    four
}

/// The largest of each of four registers, in this order, twice.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed_max([a, b, c, d]: [__m256; 4]) -> __m256 {
    let ab = _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let cd = _mm256_max_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    let abcd = _mm256_max_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd));
    _mm256_max_ps(abcd, _mm256_permute2f128_ps::<0x01>(abcd, abcd))
}

/// The sum of each of four registers, in this order.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed_sum([a, b, c, d]: [__m256i; 4]) -> __m128i {
    let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

#[target_feature(enable = "avx2,fma")]
fn silu_gate(gate: &mut [Sums], up: &[Sums]) {
    portable::silu_gate(gate, up);
}
