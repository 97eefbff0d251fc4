//! NEON on armv7, in assembly: neither its intrinsics nor `#[target_feature]` are stable for this architecture, and a program
//! built for NEON throughout would not start on a machine without it. Assembly outside of functions is taken as it is.
//!
//! So values lie in memory between operations, each of which is a call. Where that would cost more than the arithmetic a
//! whole loop is one operation ([`Wide::IN_MEMORY`]). Subnormal numbers are zeros here.

#![allow(unsafe_op_in_unsafe_fn)]

use super::portable::Portable;
use super::{LANES, Wide};

/// For armv7 machines with NEON.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in super::super) struct Armv7Neon(Portable);

/// What `exp2` needs, in the order in which it does.
static EXP2: [f32; 9] = [
    -126.0,
    // Added to a number below 2^22, leaves it rounded in the lowest bits.
    12_582_912.0,
    1.534_581_2e-4,
    1.339_993_1e-3,
    9.618_489e-3,
    5.550_328_6e-2,
    0.240_226_46,
    std::f32::consts::LN_2,
    1.0,
];

unsafe extern "C" {
    /// `a += b`, and so on.
    fn outpost_glm_neon_add(a: &mut Armv7Neon, b: &Armv7Neon);
    fn outpost_glm_neon_sub(a: &mut Armv7Neon, b: &Armv7Neon);
    fn outpost_glm_neon_mul(a: &mut Armv7Neon, b: &Armv7Neon);
    fn outpost_glm_neon_max(a: &mut Armv7Neon, b: &Armv7Neon);
    fn outpost_glm_neon_min(a: &mut Armv7Neon, b: &Armv7Neon);
    /// `sum += a * b`.
    fn outpost_glm_neon_mul_add(sum: &mut Armv7Neon, a: &Armv7Neon, b: &Armv7Neon);
    fn outpost_glm_neon_sum(of: &Armv7Neon, to: &mut f32);
    fn outpost_glm_neon_largest(of: &Armv7Neon, to: &mut f32);
    fn outpost_glm_neon_exp2(x: &mut Armv7Neon, numbers: &[f32; 9]);
    fn outpost_glm_neon_turn(x: &mut Armv7Neon, cos_sin: &Armv7Neon);
    fn outpost_glm_neon_load_i8(from: *const i8, to: &mut Armv7Neon);
    fn outpost_glm_neon_store_i8(from: &Armv7Neon, to: *mut i8);
    /// Finite halves, `fours` times four, at least one time.
    fn outpost_glm_neon_widen(from: *const u8, fours: usize, to: *mut f32);
    /// See [`Wide::add_weighted`]; `count` is not 0.
    fn outpost_glm_neon_add_weighted(
        sums: &mut Armv7Neon,
        weights: *const f32,
        count: usize,
        from: *const f32,
        stride_bytes: usize,
    );
    /// Of `sixteens` times 16, at least one time.
    fn outpost_glm_neon_squares(x: *const f32, sixteens: usize, to: &mut f32);
    /// As many; see [`Wide::scale`].
    fn outpost_glm_neon_scale(x: *const f32, weight: *const f32, by: &f32, to: *mut f32, sixteens: usize);
}

/// Finite halves widened, `fours` times four of them.
///
/// # Safety
/// The machine has NEON; so many can be read and written.
pub(in super::super) unsafe fn widen(from: *const u8, fours: usize, to: *mut f32) {
    if fours > 0 {
        outpost_glm_neon_widen(from, fours, to);
    }
}

impl Armv7Neon {
    #[inline(always)]
    unsafe fn by(mut self, other: Self, f: unsafe extern "C" fn(&mut Self, &Self)) -> Self {
        f(&mut self, &other);
        self
    }
}

impl Wide for Armv7Neon {
    const MANY: bool = false;
    const IN_MEMORY: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Armv7Neon(Portable::splat(x))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Armv7Neon(Portable::load(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        self.0.store(to);
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        let mut wide = Self::splat(0.0);
        widen(from.cast(), LANES / 4, (&raw mut wide).cast());
        wide
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        self.0.store_f16(to);
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        let mut wide = Self::splat(0.0);
        outpost_glm_neon_load_i8(from, &mut wide);
        wide
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        outpost_glm_neon_store_i8(&self, to);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.by(other, outpost_glm_neon_add)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.by(other, outpost_glm_neon_sub)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.by(other, outpost_glm_neon_mul)
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, mut b: Self) -> Self {
        outpost_glm_neon_mul_add(&mut b, &self, &a);
        b
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.by(other, outpost_glm_neon_max)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.by(other, outpost_glm_neon_min)
    }

    #[inline(always)]
    unsafe fn first(self, count: usize, rest: Self) -> Self {
        Armv7Neon(self.0.first(count, rest.0))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut sum = 0.0;
        outpost_glm_neon_sum(&self, &mut sum);
        sum
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut largest = 0.0;
        outpost_glm_neon_largest(&self, &mut largest);
        largest
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let (rest, power) = self.0.split();
        (Armv7Neon(rest), Armv7Neon(power))
    }

    #[inline(always)]
    unsafe fn turn(self, cos_sin: Self) -> Self {
        self.by(cos_sin, outpost_glm_neon_turn)
    }

    #[inline(always)]
    unsafe fn exp2(mut self) -> Self {
        outpost_glm_neon_exp2(&mut self, &EXP2);
        self
    }

    #[inline(always)]
    unsafe fn add_weighted(
        mut self,
        weights: *const f32,
        count: usize,
        from: *const f32,
        stride: usize,
    ) -> Self {
        if count > 0 {
            outpost_glm_neon_add_weighted(&mut self, weights, count, from, stride * 4);
        }
        self
    }

    #[inline(always)]
    unsafe fn squares(x: *const f32, count: usize) -> f32 {
        let mut sum = 0.0;
        if count > 0 {
            outpost_glm_neon_squares(x, count / LANES, &mut sum);
        }
        sum
    }

    #[inline(always)]
    unsafe fn scale(x: *const f32, weight: *const f32, by: f32, to: *mut f32, count: usize) {
        if count > 0 {
            outpost_glm_neon_scale(x, weight, &by, to, count / LANES);
        }
    }
}

/// A function of this name, which nobody outside the program sees; `d8` to `d15` and `r4` to `r11` belong to its caller.
macro_rules! function {
    ($name:literal, $($line:expr),+ $(,)?) => {
        std::arch::global_asm!(
            ".pushsection .text.outpost_glm_neon, \"ax\", %progbits",
            ".arm",
            ".arch armv7-a",
            ".fpu neon",
            ".p2align 4",
            concat!(".globl outpost_glm_neon_", $name),
            concat!(".hidden outpost_glm_neon_", $name),
            concat!(".type outpost_glm_neon_", $name, ", %function"),
            concat!("outpost_glm_neon_", $name, ":"),
            $($line,)+
            "bx lr",
            concat!(".size outpost_glm_neon_", $name, ", . - outpost_glm_neon_", $name),
            ".popsection",
        );
    };
}

pub(in super::super) use function;

/// `a` by `b` to `a`, sixteen lanes.
macro_rules! of_two {
    ($name:literal, $op:literal) => {
        function!(
            $name,
            "vld1.32 {{d16-d19}}, [r1]!",
            "vld1.32 {{d20-d23}}, [r1]",
            "vld1.32 {{d0-d3}}, [r0]!",
            "vld1.32 {{d4-d7}}, [r0]",
            "sub r0, r0, #32",
            concat!($op, " q0, q0, q8"),
            concat!($op, " q1, q1, q9"),
            concat!($op, " q2, q2, q10"),
            concat!($op, " q3, q3, q11"),
            "vst1.32 {{d0-d3}}, [r0]!",
            "vst1.32 {{d4-d7}}, [r0]",
        );
    };
}

of_two!("add", "vadd.f32");
of_two!("sub", "vsub.f32");
of_two!("mul", "vmul.f32");
of_two!("max", "vmax.f32");
of_two!("min", "vmin.f32");

function!(
    "mul_add",
    "vld1.32 {{d16-d19}}, [r1]!",
    "vld1.32 {{d20-d23}}, [r1]",
    "vld1.32 {{d24-d27}}, [r2]!",
    "vld1.32 {{d28-d31}}, [r2]",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vld1.32 {{d4-d7}}, [r0]",
    "sub r0, r0, #32",
    "vmla.f32 q0, q8, q12",
    "vmla.f32 q1, q9, q13",
    "vmla.f32 q2, q10, q14",
    "vmla.f32 q3, q11, q15",
    "vst1.32 {{d0-d3}}, [r0]!",
    "vst1.32 {{d4-d7}}, [r0]",
);

/// One number of sixteen.
macro_rules! of_all {
    ($name:literal, $op:literal, $pairwise:literal) => {
        function!(
            $name,
            "vld1.32 {{d0-d3}}, [r0]!",
            "vld1.32 {{d4-d7}}, [r0]",
            concat!($op, " q0, q0, q1"),
            concat!($op, " q2, q2, q3"),
            concat!($op, " q0, q0, q2"),
            concat!($pairwise, " d0, d0, d1"),
            concat!($pairwise, " d0, d0, d0"),
            "vst1.32 {{d0[0]}}, [r1]",
        );
    };
}

of_all!("sum", "vadd.f32", "vpadd.f32");
of_all!("largest", "vmax.f32", "vpmax.f32");

// What is left of a number without the nearest whole one is in q0 to q3, 2 to that whole one in q4 to q7, the polynomial in q12
// to q15.
function!(
    "exp2",
    "vpush {{d8-d15}}",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vld1.32 {{d4-d7}}, [r0]",
    "sub r0, r0, #32",
    "vld1.32 {{d16[], d17[]}}, [r1]!",
    "vmax.f32 q0, q0, q8",
    "vmax.f32 q1, q1, q8",
    "vmax.f32 q2, q2, q8",
    "vmax.f32 q3, q3, q8",
    "vld1.32 {{d16[], d17[]}}, [r1]!",
    "vadd.f32 q4, q0, q8",
    "vadd.f32 q5, q1, q8",
    "vadd.f32 q6, q2, q8",
    "vadd.f32 q7, q3, q8",
    "vsub.f32 q9, q4, q8",
    "vsub.f32 q10, q5, q8",
    "vsub.f32 q11, q6, q8",
    "vsub.f32 q12, q7, q8",
    "vsub.f32 q0, q0, q9",
    "vsub.f32 q1, q1, q10",
    "vsub.f32 q2, q2, q11",
    "vsub.f32 q3, q3, q12",
    // The exponent of 1 is added; what a shift leaves of the rest is nothing.
    "vmov.f32 q9, #1.0",
    "vshl.i32 q4, q4, #23",
    "vshl.i32 q5, q5, #23",
    "vshl.i32 q6, q6, #23",
    "vshl.i32 q7, q7, #23",
    "vadd.i32 q4, q4, q9",
    "vadd.i32 q5, q5, q9",
    "vadd.i32 q6, q6, q9",
    "vadd.i32 q7, q7, q9",
    "vld1.32 {{d24[], d25[]}}, [r1]!",
    "vmov q13, q12",
    "vmov q14, q12",
    "vmov q15, q12",
    "mov r2, #6",
    "1:",
    "vld1.32 {{d16[], d17[]}}, [r1]!",
    "vmul.f32 q12, q12, q0",
    "vmul.f32 q13, q13, q1",
    "vmul.f32 q14, q14, q2",
    "vmul.f32 q15, q15, q3",
    "vadd.f32 q12, q12, q8",
    "vadd.f32 q13, q13, q8",
    "vadd.f32 q14, q14, q8",
    "vadd.f32 q15, q15, q8",
    "subs r2, r2, #1",
    "bne 1b",
    "vmul.f32 q0, q12, q4",
    "vmul.f32 q1, q13, q5",
    "vmul.f32 q2, q14, q6",
    "vmul.f32 q3, q15, q7",
    "vst1.32 {{d0-d3}}, [r0]!",
    "vst1.32 {{d4-d7}}, [r0]",
    "vpop {{d8-d15}}",
);

// q8 are the cosines, q9 the sines of two pairs each, q11 the sign of every first.
function!(
    "turn",
    "vmov.i32 q11, #0x80000000",
    "vshr.u64 q11, q11, #32",
    "mov r2, #4",
    "1:",
    "vld1.32 {{d0-d1}}, [r0]",
    "vld1.32 {{d16-d17}}, [r1]!",
    "vmov q9, q8",
    "vtrn.32 q8, q9",
    "vrev64.32 q10, q0",
    "vmul.f32 q10, q10, q9",
    "veor q10, q10, q11",
    "vmla.f32 q10, q0, q8",
    "vst1.32 {{d20-d21}}, [r0]!",
    "subs r2, r2, #1",
    "bne 1b",
);

function!(
    "load_i8",
    "vld1.8 {{d0-d1}}, [r0]",
    "vmovl.s8 q8, d0",
    "vmovl.s8 q9, d1",
    "vmovl.s16 q0, d16",
    "vmovl.s16 q1, d17",
    "vmovl.s16 q2, d18",
    "vmovl.s16 q3, d19",
    "vcvt.f32.s32 q0, q0",
    "vcvt.f32.s32 q1, q1",
    "vcvt.f32.s32 q2, q2",
    "vcvt.f32.s32 q3, q3",
    "vst1.32 {{d0-d3}}, [r1]!",
    "vst1.32 {{d4-d7}}, [r1]",
);

// 12 582 912 = 0x4b400000 leaves a number rounded in the lowest bits.
function!(
    "store_i8",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vld1.32 {{d4-d7}}, [r0]",
    "movw r2, #0",
    "movt r2, #0x4b40",
    "vdup.32 q8, r2",
    "vadd.f32 q0, q0, q8",
    "vadd.f32 q1, q1, q8",
    "vadd.f32 q2, q2, q8",
    "vadd.f32 q3, q3, q8",
    "vmovn.i32 d0, q0",
    "vmovn.i32 d1, q1",
    "vmovn.i32 d2, q2",
    "vmovn.i32 d3, q3",
    "vmovn.i16 d0, q0",
    "vmovn.i16 d1, q1",
    "vst1.8 {{d0-d1}}, [r1]",
);

// Bits moved to the place of a single's, the exponent raised by 112: right for normal numbers. A subnormal half came out as
// 2^-15 * (1 + m), and is 2^-14 * m: twice that less 2^-14.
function!(
    "widen",
    "vmov.i32 q8, #0x38000000",
    "vmov.i32 q9, #0x800000",
    "vadd.i32 q9, q9, q8",
    "vmov.i32 q10, #0x80000000",
    "1:",
    "vld1.16 {{d0}}, [r0]!",
    "vshll.i16 q1, d0, #16",
    "vshl.i32 q2, q1, #1",
    "vshr.u32 q2, q2, #4",
    "vadd.i32 q2, q2, q8",
    "vadd.f32 q3, q2, q2",
    "vsub.f32 q3, q3, q9",
    "vcgt.u32 q11, q9, q2",
    "vbit q2, q3, q11",
    "vbit q2, q1, q10",
    "vst1.32 {{d4-d5}}, [r2]!",
    "subs r1, r1, #1",
    "bne 1b",
);

// r12 leads from the second half of sixteen numbers to the next sixteen.
function!(
    "add_weighted",
    "ldr r12, [sp]",
    "sub r12, r12, #32",
    "vld1.32 {{d24-d27}}, [r0]!",
    "vld1.32 {{d28-d31}}, [r0]",
    "sub r0, r0, #32",
    "1:",
    "vld1.32 {{d16[], d17[]}}, [r1]!",
    "vld1.32 {{d0-d3}}, [r3]!",
    "vld1.32 {{d4-d7}}, [r3], r12",
    "vmla.f32 q12, q0, q8",
    "vmla.f32 q13, q1, q8",
    "vmla.f32 q14, q2, q8",
    "vmla.f32 q15, q3, q8",
    "subs r2, r2, #1",
    "bne 1b",
    "vst1.32 {{d24-d27}}, [r0]!",
    "vst1.32 {{d28-d31}}, [r0]",
);

function!(
    "squares",
    "vmov.i32 q12, #0",
    "vmov.i32 q13, #0",
    "vmov.i32 q14, #0",
    "vmov.i32 q15, #0",
    "1:",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vld1.32 {{d4-d7}}, [r0]!",
    "vmla.f32 q12, q0, q0",
    "vmla.f32 q13, q1, q1",
    "vmla.f32 q14, q2, q2",
    "vmla.f32 q15, q3, q3",
    "subs r1, r1, #1",
    "bne 1b",
    "vadd.f32 q12, q12, q13",
    "vadd.f32 q14, q14, q15",
    "vadd.f32 q12, q12, q14",
    "vpadd.f32 d24, d24, d25",
    "vpadd.f32 d24, d24, d24",
    "vst1.32 {{d24[0]}}, [r2]",
);

function!(
    "scale",
    "ldr r12, [sp]",
    "vld1.32 {{d24[], d25[]}}, [r2]",
    "1:",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vld1.32 {{d4-d7}}, [r0]!",
    "vld1.32 {{d16-d19}}, [r1]!",
    "vld1.32 {{d20-d23}}, [r1]!",
    "vmul.f32 q0, q0, q12",
    "vmul.f32 q1, q1, q12",
    "vmul.f32 q2, q2, q12",
    "vmul.f32 q3, q3, q12",
    "vmul.f32 q0, q0, q8",
    "vmul.f32 q1, q1, q9",
    "vmul.f32 q2, q2, q10",
    "vmul.f32 q3, q3, q11",
    "vst1.32 {{d0-d3}}, [r3]!",
    "vst1.32 {{d4-d7}}, [r3]!",
    "subs r12, r12, #1",
    "bne 1b",
);

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::super::Isa;
    use super::*;

    #[test]
    fn every_finite_half_is_widened_to_the_same_number() {
        if !Isa::Armv7Neon.is_available() {
            return;
        }
        for first in (0..=u16::MAX).step_by(4) {
            let halves = [first, first + 1, first + 2, first + 3].map(f16::from_bits);
            let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
            let mut wide = [f32::NAN; 4];
            // SAFETY: the machine has NEON; four halves, four numbers.
            unsafe { widen(bytes.as_ptr(), 1, wide.as_mut_ptr()) };
            for (half, wide) in halves.into_iter().zip(wide).filter(|(half, _)| half.is_finite()) {
                assert_eq!(wide.to_bits(), half.to_f32().to_bits(), "{half:?}");
            }
        }
    }
}
