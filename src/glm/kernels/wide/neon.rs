//! NEON on aarch64: four registers of four.

#![allow(unsafe_op_in_unsafe_fn)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::Wide;

/// For every aarch64 machine.
#[derive(Clone, Copy)]
pub(in super::super) struct Neon([float32x4_t; 4]);

/// The numbers of the lanes.
static LANE: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

// Intrinsics for half precision became stable after the oldest compiler that this program promises to build with.

/// Four halves widened.
#[inline(always)]
pub(in super::super) unsafe fn widen(halves: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    wide
}

/// Four numbers as the nearest halves, ties to even.
#[inline(always)]
unsafe fn narrow(wide: float32x4_t) -> uint16x4_t {
    let halves: uint16x4_t;
    asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) wide, options(pure, nomem, nostack, preserves_flags));
    halves
}

#[inline(always)]
unsafe fn split(x: float32x4_t) -> (float32x4_t, float32x4_t) {
    let whole = vrndnq_f32(x);
    let exponent = vaddq_s32(vcvtq_s32_f32(whole), vdupq_n_s32(127));
    (vsubq_f32(x, whole), vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
}

#[inline(always)]
unsafe fn turn(x: float32x4_t, cos_sin: float32x4_t) -> float32x4_t {
    let sin = vmulq_f32(vrev64q_f32(x), vtrn2q_f32(cos_sin, cos_sin));
    // The first of a pair is taken away.
    let sign = vreinterpretq_u32_u64(vdupq_n_u64(1 << 31));
    let sin = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(sin), sign));
    vfmaq_f32(sin, x, vtrn1q_f32(cos_sin, cos_sin))
}

impl Neon {
    #[inline(always)]
    unsafe fn of_two(self, other: Self, f: unsafe fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        let ([a, b, c, d], [e, g, h, i]) = (self.0, other.0);
        Neon([f(a, e), f(b, g), f(c, h), f(d, i)])
    }
}

impl Wide for Neon {
    // Four registers make one value: 16 sums would be 64 registers, of which there are 32.
    const MANY: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Neon([vdupq_n_f32(x); 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Neon([vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        vst1q_f32(to, self.0[0]);
        vst1q_f32(to.add(4), self.0[1]);
        vst1q_f32(to.add(8), self.0[2]);
        vst1q_f32(to.add(12), self.0[3]);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        let (low, high) = (vld1q_u16(from), vld1q_u16(from.add(8)));
        Neon([
            widen(vget_low_u16(low)),
            widen(vget_high_u16(low)),
            widen(vget_low_u16(high)),
            widen(vget_high_u16(high)),
        ])
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        vst1q_u16(to, vcombine_u16(narrow(self.0[0]), narrow(self.0[1])));
        vst1q_u16(to.add(8), vcombine_u16(narrow(self.0[2]), narrow(self.0[3])));
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let bytes = vld1q_s8(from);
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        Neon([
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
            vcvtq_f32_s32(vmovl_high_s16(low)),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
            vcvtq_f32_s32(vmovl_high_s16(high)),
        ])
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        let [a, b, c, d] = self.0;
        let low = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(a)), vcvtnq_s32_f32(b));
        let high = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(c)), vcvtnq_s32_f32(d));
        vst1q_s8(to, vqmovn_high_s16(vqmovn_s16(low), high));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.of_two(other, vaddq_f32)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.of_two(other, vsubq_f32)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.of_two(other, vmulq_f32)
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        let [x, y, z, w] = self.0;
        Neon([
            vfmaq_f32(b.0[0], x, a.0[0]),
            vfmaq_f32(b.0[1], y, a.0[1]),
            vfmaq_f32(b.0[2], z, a.0[2]),
            vfmaq_f32(b.0[3], w, a.0[3]),
        ])
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.of_two(other, vmaxq_f32)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.of_two(other, vminq_f32)
    }

    #[inline(always)]
    unsafe fn first(self, count: usize, rest: Self) -> Self {
        let count = vdupq_n_u32(count as u32);
        let mut out = rest;
        for (i, out) in out.0.iter_mut().enumerate() {
            let is_first = vcltq_u32(vld1q_u32(LANE.as_ptr().add(i * 4)), count);
            *out = vbslq_f32(is_first, self.0[i], *out);
        }
        out
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)))
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d)))
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let [(a, p), (b, q), (c, r), (d, s)] =
            [split(self.0[0]), split(self.0[1]), split(self.0[2]), split(self.0[3])];
        (Neon([a, b, c, d]), Neon([p, q, r, s]))
    }

    #[inline(always)]
    unsafe fn turn(self, cos_sin: Self) -> Self {
        let ([a, b, c, d], [e, g, h, i]) = (self.0, cos_sin.0);
        Neon([turn(a, e), turn(b, g), turn(c, h), turn(d, i)])
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        asm!("prfm pldl1keep, [{0}]", in(reg) at, options(readonly, nostack, preserves_flags));
    }
}
