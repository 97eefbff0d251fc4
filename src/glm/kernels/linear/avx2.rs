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

/// Weights of half a block as they lie, and how eight registers of 8 rows x 4 columns come of them.
trait Packed {
    /// Bytes of a whole block's numbers.
    const BYTES: usize;
    /// Whether they are bytes to be taken as they are.
    const IS_PLAIN: bool = false;
    /// # Safety
    /// `BYTES - 32` can be read at `half`; the machine has AVX2.
    unsafe fn unpack(half: *const u8) -> [__m256i; 8];
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
    unsafe fn unpack(half: *const u8) -> [__m256i; 8] {
        // SAFETY: the caller's promise.
        std::array::from_fn(|g| unsafe { _mm256_loadu_si256(half.add(g * 64).cast()) })
    }
}

impl Packed for Raised {
    const BYTES: usize = 512;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn unpack(half: *const u8) -> [__m256i; 8] {
        let top = _mm256_set1_epi8(-128);
        // SAFETY: the caller's promise.
        unsafe { Bytes::unpack(half) }.map(|w| _mm256_xor_si256(w, top))
    }
}

impl Packed for Nibbles {
    const BYTES: usize = 256;
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn unpack(half: *const u8) -> [__m256i; 8] {
        let mask = _mm256_set1_epi8(15);
        // SAFETY: the caller's promise.
        let both: [_; 4] = std::array::from_fn(|g| unsafe { _mm256_loadu_si256(half.add(g * 64).cast()) });
        std::array::from_fn(|g| match g {
            0..4 => _mm256_and_si256(both[g], mask),
            _ => _mm256_and_si256(_mm256_srli_epi16::<4>(both[g - 4]), mask),
        })
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
            let fetch = Fetch::of_this_machine();
            if x.tokens >= UNPACK_TOKENS && !<$packed>::IS_PLAIN {
                for (panel, sums) in panels.with_sums(sums) {
                    let scratch = &mut scratch[..x.blocks * 512];
                    // SAFETY: lengths as asserted.
                    unsafe {
                        unpack::<$packed>(panel, scratch);
                        let scales = panel[numbers..].as_ptr();
                        let w = Weights { numbers: scratch.as_ptr(), scales, stride, fetch };
                        tiles::<Bytes, $dots, 1>(w, x, 0, sums);
                        tiles::<Bytes, $dots, 1>(w, x, 1, sums);
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
                        (4.., 1) => tiles::<$packed, $dots, 8>(w, x, 0, sums),
                        (2.., 1 | 2) => tiles::<$packed, $dots, 4>(w, x, 0, sums),
                        _ => tiles::<$packed, $dots, 2>(w, x, 0, sums),
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
    /// How those that come next are fetched.
    fetch: Fetch,
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn unpack<P: Packed>(panel: &[u8], to: &mut [u8]) {
    for (to, block) in to.chunks_exact_mut(512).zip(panel.chunks_exact(P::BYTES)) {
        for half in [0, 32] {
            // SAFETY: a whole block is there to be read, 512 bytes to be written.
            unsafe {
                for (g, w) in P::unpack(block.as_ptr().add(half)).into_iter().enumerate() {
                    _mm256_storeu_si256(to.as_mut_ptr().add(g * 64 + half).cast(), w);
                }
            }
        }
    }
}

// The two functions below are inlined into their entries, always, to have those's instructions.

/// `HALVES` halves of panels, from half `first_half` (0 or 1) of the first panel on, times all tokens; gives the panels.
#[inline(always)]
unsafe fn tiles<P: Packed, D: Dots, const HALVES: usize>(
    w: Weights,
    x: Quantised<'_>,
    first_half: usize,
    sums: &mut [Sums],
) -> usize {
    let mut first = 0;
    while first < x.tokens {
        // SAFETY: passed on; as many tokens are left as are taken.
        unsafe {
            first += match x.tokens - first {
                1 => tile::<P, D, HALVES, 1>(w, x, first_half, first, sums),
                2 => tile::<P, D, HALVES, 2>(w, x, first_half, first, sums),
                3 => tile::<P, D, HALVES, 3>(w, x, first_half, first, sums),
                _ => tile::<P, D, HALVES, 4>(w, x, first_half, first, sums),
            };
        }
    }
    HALVES / 2
}

/// `HALVES` halves times `N` tokens; gives `N`.
///
/// # Safety
/// `w` has these halves of `x.blocks` blocks, `x` at least `first + N` tokens, `sums` a place for each.
#[inline(always)]
unsafe fn tile<P: Packed, D: Dots, const HALVES: usize, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    first_half: usize,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    // SAFETY: the machine has AVX2.
    let (zero, none) = unsafe { (_mm256_setzero_ps(), _mm256_setzero_si256()) };
    let mut out = [[zero; N]; HALVES];
    let start = x.place(first, 0);
    let ahead_blocks = AHEAD_BYTES / P::BYTES;
    let turn = x.blocks.saturating_sub(ahead_blocks);
    for b in 0..x.blocks {
        for (h, out) in out.iter_mut().enumerate() {
            let (panel, half) = ((first_half + h) / 2, (first_half + h) % 2);
            // SAFETY: see above. Addresses ahead may lie behind the end: they are only hinted at.
            unsafe {
                if HALVES > 1 && first == 0 && half == 0 {
                    // From the last blocks on to the panels that come next.
                    let (panel, b) =
                        if b < turn { (panel, b + ahead_blocks) } else { (panel + HALVES / 2, b - turn) };
                    w.fetch.lines(w.numbers.wrapping_add(panel * w.stride + b * P::BYTES), P::BYTES);
                }
                let place = start + b * x.width;
                let q = opaque(x.q.as_ptr().add(place * BLOCK_COLS).cast::<i32>());
                let corrections = x.corrections.as_ptr().add(place);
                let numbers = P::unpack(w.numbers.add(panel * w.stride + b * P::BYTES + half * 32));
                let mut dots = [none; N];
                for (t, dots) in dots.iter_mut().enumerate() {
                    *dots = D::start(*corrections.add(t));
                }
                for (g, w) in numbers.into_iter().enumerate() {
                    for (t, dots) in dots.iter_mut().enumerate() {
                        *dots = D::add(*dots, w, _mm256_set1_epi32(q.add(t * 8 + g).read_unaligned()));
                    }
                }
                let scales = w.scales.add(panel * w.stride + b * 32 + half * 16);
                let scales = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                for (t, out) in out.iter_mut().enumerate() {
                    let dots = D::end(dots[t], *corrections.add(t));
                    let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.as_ptr().add(place + t)));
                    *out = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, *out);
                }
            }
        }
    }
    // SAFETY: the machine has AVX2.
    unsafe { store(&out, first_half, x.tokens, &mut sums[first..]) };
    N
}

#[inline]
#[target_feature(enable = "avx2")]
fn store<const HALVES: usize, const N: usize>(
    out: &[[__m256; N]; HALVES],
    first_half: usize,
    tokens: usize,
    sums: &mut [Sums],
) {
    for (h, out) in out.iter().enumerate() {
        let (panel, half) = ((first_half + h) / 2, (first_half + h) % 2);
        for (sums, out) in sums[panel * tokens..][..N].iter_mut().zip(out) {
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
                (4.., 1) => f32_tiles::<8>(w, stride, x, cols, sums),
                _ => f32_tiles::<2>(w, stride, x, cols, sums),
            };
        }
    }
}

/// All tokens times `HALVES` halves of panels; gives the panels.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn f32_tiles<const HALVES: usize>(
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
                4.. if HALVES == 2 => f32_tile::<HALVES, 4>(w, stride, x, cols, first, sums),
                _ => f32_tile::<HALVES, 1>(w, stride, x, cols, first, sums),
            };
        }
    }
    HALVES / 2
}

/// `HALVES` halves times `N` tokens; gives `N`.
///
/// # Safety
/// `w` has these halves of `cols` columns, `x` at least `first + N` tokens.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn f32_tile<const HALVES: usize, const N: usize>(
    w: *const u8,
    stride: usize,
    x: &[f32],
    cols: usize,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    let mut out = [[_mm256_setzero_ps(); N]; HALVES];
    let tokens = &x[first * cols..(first + N) * cols];
    for c in 0..cols {
        for (h, out) in out.iter_mut().enumerate() {
            // SAFETY: see above.
            unsafe {
                let w = _mm256_loadu_ps(w.add(h / 2 * stride + c * 64 + h % 2 * 32).cast());
                for (t, out) in out.iter_mut().enumerate() {
                    *out = _mm256_fmadd_ps(w, _mm256_set1_ps(*tokens.as_ptr().add(t * cols + c)), *out);
                }
            }
        }
    }
    store(&out, 0, x.len() / cols, &mut sums[first..]);
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
