//! aarch64 with `sdot`: each lane of a quad's register adds four products to the sum of its row.

use std::arch::aarch64::*;
use std::arch::asm;

use super::activations::Quantised;
use super::neon::{Bytes, Dots, Nibbles, f32, product, quantise};
use super::{LinearFns, Panels, Sums, portable};

/// For `Isa::NeonDotprod`.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, silu_gate: portable::silu_gate };

#[target_feature(enable = "dotprod")]
unsafe fn q8_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Bytes, Sdot>(panels, x, sums) }
}

#[target_feature(enable = "dotprod")]
unsafe fn q4_0(panels: Panels<'_>, x: Quantised<'_>, _: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: passed on.
    unsafe { product::<Nibbles, Sdot>(panels, x, sums) }
}

/// Sums of `sdot`.
pub(super) struct Sdot;

impl Dots for Sdot {
    type Sum = int32x4_t;
    const IS_SMALL: bool = true;

    #[inline(always)]
    unsafe fn start(correction: int32x4_t) -> int32x4_t {
        correction
    }

    #[inline]
    #[target_feature(enable = "dotprod")]
    unsafe fn add<const A: i32, const B: i32>(sum: int32x4_t, w: [int8x16_t; 2], x: int8x16_t) -> int32x4_t {
        sdot::<B>(sdot::<A>(sum, w[0], x), w[1], x)
    }

    #[inline(always)]
    unsafe fn end(sum: int32x4_t, _: int32x4_t) -> int32x4_t {
        sum
    }
}

/// `sum + w . x`, four columns of four rows by quarter `A` of `x`. The intrinsic, `vdotq_laneq_s32`, is not stable yet.
#[inline]
#[target_feature(enable = "dotprod")]
fn sdot<const A: i32>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the machine has the instruction.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{quarter}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            quarter = const A,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
