//! aarch64: what all its kernels share, and the kernels of NEON alone.
//!
//! A register holds 4 rows x 4 columns, so a group of columns of a panel is four registers, *quads* of rows. One token is
//! multiplied by all quads of a panel, or of four panels side by side; more are taken by four, or two, and meet two quads at a
//! time, as their sums, whole and in f32, fill half of the 32 registers.
//!
//! NEON alone has no sums of four products. Nibbles times activations are added up in 16 bits (a sum gets 8 of them, each up
//! to 15 * 127); signed bytes are two at a time (2 * 128 * 127 is below 2^15).

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::matrix::{BLOCK_COLS, PANEL_ROWS};
use super::super::wide::neon::widen;
use super::activations::{FOUR_COLS, Four, Quantised, QuantisedMut};
use super::{LinearFns, Panels, Sums, portable};

/// For `Isa::Neon`.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, silu_gate: portable::silu_gate };

/// Rows of a quad.
pub(super) const QUAD_ROWS: usize = 4;
/// Quads of a panel.
pub(super) const QUADS: usize = PANEL_ROWS / QUAD_ROWS;

/// Weights as they lie, times activations.
pub(super) trait Packed {
    /// Bytes of a block's numbers.
    const BYTES: usize;
    /// Whether numbers lie above what they are by the offset that corrections are for.
    const IS_RAISED: bool;

    /// Adds the products of a block of `R` quads at `at` and of `N` tokens.
    ///
    /// # Safety
    /// `BYTES - 64 + 16 * R` can be read; the machine has the instructions of `D`.
    unsafe fn add<D: Dots, const R: usize, const N: usize>(
        at: *const u8,
        x: &[[int8x16_t; 2]; N],
        sums: &mut [[D::Sum; N]; R],
    );
}

/// Bytes with a sign.
pub(super) struct Bytes;
/// Nibbles.
pub(super) struct Nibbles;

/// How products of one quad of rows and one token are added up.
pub(super) trait Dots {
    /// Of one block.
    type Sum: Copy;
    /// Whether registers are left to read four panels side by side for one token, and to take four tokens instead of two.
    const IS_SMALL: bool;
    /// # Safety
    /// The machine has the instructions, as for the others.
    unsafe fn start(correction: int32x4_t) -> Self::Sum;
    /// Adds the products of two groups of columns: `w` by the activations in quarters `A` and `B` of `x`.
    unsafe fn add<const A: i32, const B: i32>(sum: Self::Sum, w: [int8x16_t; 2], x: int8x16_t) -> Self::Sum;
    /// One sum per row.
    unsafe fn end(sum: Self::Sum, correction: int32x4_t) -> int32x4_t;
}

/// Groups `group` and the next of `R` quads, by the half of the activations of `N` tokens that `half` says; `take` makes signed
/// bytes of what lies there.
#[inline(always)]
unsafe fn add_groups<D: Dots, T: Take, const R: usize, const N: usize, const A: i32, const B: i32>(
    w: &[[uint8x16_t; 2]; R],
    x: &[[int8x16_t; 2]; N],
    half: usize,
    sums: &mut [[D::Sum; N]; R],
) {
    for (w, sums) in w.iter().zip(sums) {
        let w = [T::take(w[0]), T::take(w[1])];
        for (x, sum) in x.iter().zip(sums) {
            // SAFETY: passed on.
            *sum = unsafe { D::add::<A, B>(*sum, w, x[half]) };
        }
    }
}

/// Groups `group` and the next of `R` quads.
#[inline(always)]
unsafe fn load_groups<const R: usize>(at: *const u8, group: usize) -> [[uint8x16_t; 2]; R] {
    // SAFETY: the caller's promise: they can be read.
    unsafe {
        let mut w = [[vdupq_n_u8(0); 2]; R];
        for (r, w) in w.iter_mut().enumerate() {
            w[0] = vld1q_u8(at.add(group * 64 + r * 16));
            w[1] = vld1q_u8(at.add(group * 64 + 64 + r * 16));
        }
        w
    }
}

/// How signed bytes come of a register of weights.
pub(super) trait Take {
    fn take(w: uint8x16_t) -> int8x16_t;
}

/// As they are.
pub(super) struct Whole;
/// The low nibbles.
pub(super) struct Low;
/// The high nibbles.
pub(super) struct High;

impl Take for Whole {
    #[inline(always)]
    fn take(w: uint8x16_t) -> int8x16_t {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { vreinterpretq_s8_u8(w) }
    }
}

impl Take for Low {
    #[inline(always)]
    fn take(w: uint8x16_t) -> int8x16_t {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15))) }
    }
}

impl Take for High {
    #[inline(always)]
    fn take(w: uint8x16_t) -> int8x16_t {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { vreinterpretq_s8_u8(vshrq_n_u8::<4>(w)) }
    }
}

impl Packed for Bytes {
    const BYTES: usize = 512;
    const IS_RAISED: bool = false;

    #[inline(always)]
    unsafe fn add<D: Dots, const R: usize, const N: usize>(
        at: *const u8,
        x: &[[int8x16_t; 2]; N],
        sums: &mut [[D::Sum; N]; R],
    ) {
        // SAFETY: passed on.
        unsafe {
            add_groups::<D, Whole, R, N, 0, 1>(&load_groups(at, 0), x, 0, sums);
            add_groups::<D, Whole, R, N, 2, 3>(&load_groups(at, 2), x, 0, sums);
            add_groups::<D, Whole, R, N, 0, 1>(&load_groups(at, 4), x, 1, sums);
            add_groups::<D, Whole, R, N, 2, 3>(&load_groups(at, 6), x, 1, sums);
        }
    }
}

impl Packed for Nibbles {
    const BYTES: usize = 256;
    const IS_RAISED: bool = true;

    #[inline(always)]
    unsafe fn add<D: Dots, const R: usize, const N: usize>(
        at: *const u8,
        x: &[[int8x16_t; 2]; N],
        sums: &mut [[D::Sum; N]; R],
    ) {
        // SAFETY: passed on.
        unsafe {
            let w = load_groups(at, 0);
            add_groups::<D, Low, R, N, 0, 1>(&w, x, 0, sums);
            add_groups::<D, High, R, N, 0, 1>(&w, x, 1, sums);
            let w = load_groups(at, 2);
            add_groups::<D, Low, R, N, 2, 3>(&w, x, 0, sums);
            add_groups::<D, High, R, N, 2, 3>(&w, x, 1, sums);
        }
    }
}

/// Nibbles, in 16 bits.
struct Small;
/// Bytes, two in 16 bits.
struct Signed;

/// Four activations, four times.
#[inline(always)]
fn quarter<const A: i32>(x: int8x16_t) -> int8x16_t {
    // SAFETY: every aarch64 machine has NEON.
    opaque(unsafe { vreinterpretq_s8_s32(vdupq_laneq_s32::<A>(vreinterpretq_s32_s8(x))) })
}

/// Hides from the compiler where `x` comes from. Else it makes of `smlal` by a number without a sign, or with equal halves, two
/// or three other instructions.
#[inline(always)]
fn opaque(mut x: int8x16_t) -> int8x16_t {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0:v} */", inout(vreg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

impl Dots for Small {
    /// Products of columns of the first two rows, and of the last two.
    type Sum = [int16x8_t; 2];
    const IS_SMALL: bool = false;

    #[inline(always)]
    unsafe fn start(_: int32x4_t) -> Self::Sum {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { [vdupq_n_s16(0); 2] }
    }

    #[inline(always)]
    unsafe fn add<const A: i32, const B: i32>(
        [top, bottom]: Self::Sum,
        w: [int8x16_t; 2],
        x: int8x16_t,
    ) -> Self::Sum {
        let (a, b) = (quarter::<A>(x), quarter::<B>(x));
        let w = [opaque(w[0]), opaque(w[1])];
        // SAFETY: every aarch64 machine has NEON.
        unsafe {
            let top = vmlal_s8(top, vget_low_s8(w[0]), vget_low_s8(a));
            let bottom = vmlal_high_s8(bottom, w[0], a);
            [vmlal_s8(top, vget_low_s8(w[1]), vget_low_s8(b)), vmlal_high_s8(bottom, w[1], b)]
        }
    }

    #[inline(always)]
    unsafe fn end([top, bottom]: Self::Sum, correction: int32x4_t) -> int32x4_t {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { vaddq_s32(vpaddq_s32(vpaddlq_s16(top), vpaddlq_s16(bottom)), correction) }
    }
}

impl Dots for Signed {
    /// Of the first two rows, and of the last two: two sums for each.
    type Sum = [int32x4_t; 2];
    const IS_SMALL: bool = false;

    #[inline(always)]
    unsafe fn start(_: int32x4_t) -> Self::Sum {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn add<const A: i32, const B: i32>(
        [top, bottom]: Self::Sum,
        w: [int8x16_t; 2],
        x: int8x16_t,
    ) -> Self::Sum {
        let (a, b) = (quarter::<A>(x), quarter::<B>(x));
        // SAFETY: every aarch64 machine has NEON.
        unsafe {
            let low =
                vmlal_s8(vmull_s8(vget_low_s8(w[0]), vget_low_s8(a)), vget_low_s8(w[1]), vget_low_s8(b));
            let high = vmlal_high_s8(vmull_high_s8(w[0], a), w[1], b);
            [vpadalq_s16(top, low), vpadalq_s16(bottom, high)]
        }
    }

    #[inline(always)]
    unsafe fn end([top, bottom]: Self::Sum, _: int32x4_t) -> int32x4_t {
        // SAFETY: every aarch64 machine has NEON.
        unsafe { vpaddq_s32(top, bottom) }
    }
}

unsafe fn q8_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Bytes, Signed>(panels, x, sums) }
}

unsafe fn q4_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Nibbles, Small>(panels, x, sums) }
}

/// Where panels are.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// Of the first one.
    pub(super) numbers: *const u8,
    /// Of the first one.
    pub(super) scales: *const u8,
    /// From one panel to the next.
    pub(super) stride: usize,
}

impl Weights {
    /// # Panics
    /// Where panels, activations and sums do not belong together.
    #[inline(always)]
    pub(super) fn checked<P: Packed>(panels: Panels<'_>, x: Quantised<'_>, sums: &[Sums]) -> Weights {
        let stride = panels.bytes.len() / panels.count;
        let numbers = x.blocks * P::BYTES;
        assert!(sums.len() == panels.count * x.tokens && stride >= numbers + x.blocks * 32);
        assert!(x.is_consistent());
        let at = panels.bytes.as_ptr();
        Weights { numbers: at, scales: at.wrapping_add(numbers), stride }
    }

    /// Without the first `panels`.
    ///
    /// # Safety
    /// There are as many.
    #[inline(always)]
    pub(super) unsafe fn skip(self, panels: usize) -> Weights {
        // SAFETY: the caller's promise.
        unsafe {
            let numbers = self.numbers.add(panels * self.stride);
            Weights { numbers, scales: self.scales.add(panels * self.stride), ..self }
        }
    }
}

// The functions below are inlined into their entries, always, to have those's instructions.

/// All panels times all tokens: a kernel.
///
/// # Safety
/// The machine has the instructions of `D`.
#[inline(always)]
pub(super) unsafe fn product<P: Packed, D: Dots>(panels: Panels<'_>, x: Quantised<'_>, sums: &mut [Sums]) {
    let all = Weights::checked::<P>(panels, x, sums);
    let mut panel = 0;
    while panel < panels.count {
        let sums = &mut sums[panel * x.tokens..];
        // SAFETY: lengths as asserted; as many panels and tokens are left as are taken.
        unsafe {
            let w = all.skip(panel);
            if D::IS_SMALL && x.tokens == 1 && panels.count - panel >= 4 {
                tile::<P, D, 4, 4, 1>(w, x, 0, 0, sums);
                panel += 4;
                continue;
            }
            let mut first = 0;
            while first < x.tokens {
                first += tokens::<P, D>(w, x, first, sums);
            }
        }
        panel += 1;
    }
}

/// A panel times up to four tokens; gives how many.
#[inline(always)]
unsafe fn tokens<P: Packed, D: Dots>(w: Weights, x: Quantised<'_>, first: usize, sums: &mut [Sums]) -> usize {
    // SAFETY: passed on; as many tokens are left as are taken.
    unsafe {
        match x.tokens - first {
            1 => one::<P, D>(w, x, first, sums),
            2 => two::<P, D, 2>(w, x, first, sums),
            _ if !D::IS_SMALL => two::<P, D, 2>(w, x, first, sums),
            3 => two::<P, D, 3>(w, x, first, sums),
            _ => two::<P, D, 4>(w, x, first, sums),
        }
    }
}

/// A panel times one token; gives 1.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
pub(super) unsafe fn one<P: Packed, D: Dots>(
    w: Weights,
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    // SAFETY: passed on.
    unsafe { tile::<P, D, 1, 4, 1>(w, x, 0, first, sums) };
    1
}

/// A panel times `N` tokens, two quads at a time; gives `N`.
#[inline(always)]
unsafe fn two<P: Packed, D: Dots, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    first: usize,
    sums: &mut [Sums],
) -> usize {
    for quad in (0..QUADS).step_by(2) {
        // SAFETY: passed on.
        unsafe { tile::<P, D, 1, 2, N>(w, x, quad, first, sums) };
    }
    N
}

/// `R` quads from `quad` on of `M` panels times `N` tokens from `first` on.
///
/// # Safety
/// `w` has these quads of `x.blocks` blocks, `x` at least `first + N` tokens of one tile; the machine has the instructions of `D`.
#[inline(always)]
pub(super) unsafe fn tile<P: Packed, D: Dots, const M: usize, const R: usize, const N: usize>(
    w: Weights,
    x: Quantised<'_>,
    quad: usize,
    first: usize,
    sums: &mut [Sums],
) {
    let start = x.place(first, 0);
    // SAFETY: see above.
    unsafe {
        let mut out = [[[vdupq_n_f32(0.0); N]; R]; M];
        for b in 0..x.blocks {
            let place = start + b * x.width;
            let q = x.q.as_ptr().add(place * BLOCK_COLS);
            let mut four = [[vdupq_n_s8(0); 2]; N];
            for (t, four) in four.iter_mut().enumerate() {
                *four = [vld1q_s8(q.add(t * BLOCK_COLS)), vld1q_s8(q.add(t * BLOCK_COLS + 16))];
            }
            let corrections = match P::IS_RAISED {
                true => all_lanes(x.corrections.as_ptr().add(place)),
                false => [vdupq_n_s32(0); N],
            };
            let scales = x.scales.as_ptr().add(place);
            for (m, out) in out.iter_mut().enumerate() {
                let mut dots = [[D::start(corrections[0]); N]; R];
                for dots in &mut dots {
                    for (dots, correction) in dots.iter_mut().zip(corrections) {
                        *dots = D::start(correction);
                    }
                }
                P::add::<D, R, N>(w.numbers.add(m * w.stride + b * P::BYTES + quad * 16), &four, &mut dots);
                let w_scales = w.scales.add(m * w.stride + b * PANEL_ROWS * 2).cast::<u16>();
                for (r, out) in out.iter_mut().enumerate() {
                    let w_scale = widen(vld1_u16(w_scales.add((quad + r) * QUAD_ROWS)));
                    for (t, out) in out.iter_mut().enumerate() {
                        let dots = vcvtq_f32_s32(D::end(dots[r][t], corrections[t]));
                        *out = vfmaq_f32(*out, dots, vmulq_n_f32(w_scale, *scales.add(t)));
                    }
                }
            }
        }
        for (m, out) in out.iter().enumerate() {
            for (r, out) in out.iter().enumerate() {
                for (t, out) in out.iter().enumerate() {
                    let to = &mut sums[m * x.tokens + first + t].0[(quad + r) * QUAD_ROWS..];
                    vst1q_f32(to[..QUAD_ROWS].as_mut_ptr(), *out);
                }
            }
        }
    }
}

/// Each of `N` numbers four times; four are read at once.
#[inline(always)]
unsafe fn all_lanes<const N: usize>(at: *const i32) -> [int32x4_t; N] {
    // SAFETY: the caller's promise: `N` numbers can be read.
    unsafe {
        let mut all = [vdupq_n_s32(0); N];
        for (i, to) in all.iter_mut().enumerate() {
            *to = match i {
                _ if N != 4 => vdupq_n_s32(*at.add(i)),
                0 => vdupq_laneq_s32::<0>(vld1q_s32(at)),
                1 => vdupq_laneq_s32::<1>(vld1q_s32(at)),
                2 => vdupq_laneq_s32::<2>(vld1q_s32(at)),
                _ => vdupq_laneq_s32::<3>(vld1q_s32(at)),
            };
        }
        all
    }
}

pub(super) unsafe fn f32(panels: Panels<'_>, x: &[f32], cols: usize, sums: &mut [Sums]) {
    let stride = panels.bytes.len() / panels.count;
    let tokens = x.len() / cols;
    assert!(stride >= cols * 64 && sums.len() == panels.count * tokens);
    let mut panel = 0;
    while panel < panels.count {
        let w = panels.bytes[panel * stride..].as_ptr().cast::<f32>();
        let sums = &mut sums[panel * tokens..];
        if tokens == 1 && panels.count - panel >= 4 {
            // SAFETY: lengths as asserted; four panels are left.
            unsafe { f32_tile::<4, 1>(w, stride / 4, x, cols, tokens, sums) };
            panel += 4;
            continue;
        }
        for (x, first) in x.chunks(4 * cols).zip((0..).step_by(4)) {
            let sums = &mut sums[first..];
            // SAFETY: lengths as asserted; so many tokens are left.
            unsafe {
                match x.len() / cols {
                    4 => f32_tile::<1, 4>(w, stride / 4, x, cols, tokens, sums),
                    left => (0..left).for_each(|t| {
                        f32_tile::<1, 1>(w, stride / 4, &x[t * cols..], cols, tokens, &mut sums[t..]);
                    }),
                }
            }
        }
        panel += 1;
    }
}

/// `M` panels, `stride` numbers apart, times `N` tokens of `tokens`.
///
/// # Safety
/// `w` has these panels of `cols` columns, `x` has `N` tokens.
#[inline(always)]
unsafe fn f32_tile<const M: usize, const N: usize>(
    w: *const f32,
    stride: usize,
    x: &[f32],
    cols: usize,
    tokens: usize,
    sums: &mut [Sums],
) {
    // SAFETY: see above.
    unsafe {
        let mut out = [[[vdupq_n_f32(0.0); N]; QUADS]; M];
        for c in 0..cols {
            for (m, out) in out.iter_mut().enumerate() {
                for (r, out) in out.iter_mut().enumerate() {
                    let w = vld1q_f32(w.add(m * stride + c * PANEL_ROWS + r * QUAD_ROWS));
                    for (t, out) in out.iter_mut().enumerate() {
                        *out = vfmaq_n_f32(*out, w, *x.as_ptr().add(t * cols + c));
                    }
                }
            }
        }
        for (m, out) in out.iter().enumerate() {
            for (r, out) in out.iter().enumerate() {
                for (t, out) in out.iter().enumerate() {
                    let to = &mut sums[m * tokens + t].0[r * QUAD_ROWS..];
                    vst1q_f32(to[..QUAD_ROWS].as_mut_ptr(), *out);
                }
            }
        }
    }
}

pub(super) fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    to.fill(x, cols, quantise_four);
}

#[inline(always)]
fn quantise_four(x: &[f32; FOUR_COLS]) -> Four {
    let mut four = Four { q: [[0; BLOCK_COLS]; 4], scales: [0.0; 4], sums: [0; 4] };
    let (blocks, _) = x.as_chunks::<BLOCK_COLS>();
    for (b, x) in blocks.iter().enumerate() {
        // SAFETY: every aarch64 machine has NEON; a block has 32 numbers.
        unsafe {
            let mut numbers = [vdupq_n_f32(0.0); 8];
            let mut largest = numbers[0];
            for (i, numbers) in numbers.iter_mut().enumerate() {
                *numbers = vld1q_f32(x.as_ptr().add(i * 4));
                // Passes over what is not a number.
                largest = vmaxnmq_f32(largest, vabsq_f32(*numbers));
            }
            let largest = vmaxnmvq_f32(largest);
            if largest >= portable::SMALLEST {
                four.scales[b] = largest / 127.0;
                four.sums[b] = round(numbers, 127.0 / largest, &mut four.q[b]);
            }
        }
    }
    four
}

/// Thirty-two numbers times `inverse` to the nearest whole ones, ties to even; gives their sum.
#[inline(always)]
unsafe fn round(numbers: [float32x4_t; 8], inverse: f32, to: &mut [i8; BLOCK_COLS]) -> i32 {
    // SAFETY: every aarch64 machine has NEON; a block has 32 numbers.
    unsafe {
        let mut sum = vdupq_n_s32(0);
        let (eights, _) = numbers.as_chunks::<2>();
        for (i, [a, b]) in eights.iter().enumerate() {
            let (a, b) = (vcvtnq_s32_f32(vmulq_n_f32(*a, inverse)), vcvtnq_s32_f32(vmulq_n_f32(*b, inverse)));
            sum = vaddq_s32(sum, vaddq_s32(a, b));
            let words = vqmovn_high_s32(vqmovn_s32(a), b);
            vst1_s8(to[i * 8..][..8].as_mut_ptr(), vqmovn_s16(words));
        }
        vaddvq_s32(sum)
    }
}
