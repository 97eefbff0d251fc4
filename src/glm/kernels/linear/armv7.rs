//! armv7 with NEON, in assembly: neither NEON's intrinsics nor `#[target_feature]` are stable for this architecture, and a
//! program built for NEON throughout would not start on a machine without it. Assembly outside of functions is taken as it is.
//!
//! A function multiplies a panel by one token. Four rows x 4 columns are a register, as on aarch64 (see `neon`), products are
//! added up in 16 bits likewise. Scales are widened once per panel, by whole-number arithmetic: NEON here has no subnormal
//! numbers, and conversions between halves and singles only from VFPv4 on.
//!
//! Attention, norms and the quantising of activations are those in plain Rust.

use std::arch::global_asm;

use super::super::matrix::PANEL_ROWS;
use super::activations::Quantised;
use super::{LinearFns, Panels, Sums, portable};

/// For `Isa::Armv7Neon`.
pub(super) const FNS: LinearFns = LinearFns { f32, q8_0, q4_0, ..portable::FNS };

/// A panel by one token.
#[repr(C)]
struct Task {
    /// Of the panel.
    numbers: *const u8,
    /// Of the panel, widened.
    scales: *const f32,
    /// The token's first block.
    q: *const i8,
    /// Of the token's blocks.
    x_scales: *const f32,
    /// Of the token's blocks.
    corrections: *const i32,
    blocks: usize,
    /// From a block's scale or correction to the next one's; the block's numbers are 8 times as far.
    step_bytes: usize,
    out: *mut Sums,
}

unsafe extern "C" {
    /// A panel of bytes by one token.
    fn outpost_glm_neon_q8_0(task: &Task);
    /// A panel of nibbles by one token.
    fn outpost_glm_neon_q4_0(task: &Task);
    /// A panel of single precision by `cols` numbers, at least one.
    fn outpost_glm_neon_f32(w: *const u8, x: *const f32, cols: usize, out: *mut Sums);
    /// Finite halves, `fours` times four, at least one time.
    fn outpost_glm_neon_widen(from: *const u8, fours: usize, to: *mut f32);
}

unsafe fn q8_0(panels: Panels<'_>, x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: the machine has NEON.
    unsafe { product::<512>(panels, x, scratch, sums, outpost_glm_neon_q8_0) }
}

unsafe fn q4_0(panels: Panels<'_>, x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]) {
    // SAFETY: the machine has NEON.
    unsafe { product::<256>(panels, x, scratch, sums, outpost_glm_neon_q4_0) }
}

/// Panels whose blocks have `BYTES` bytes of numbers.
///
/// # Safety
/// The machine has NEON.
unsafe fn product<const BYTES: usize>(
    panels: Panels<'_>,
    x: Quantised<'_>,
    scratch: &mut [u8],
    sums: &mut [Sums],
    kernel: unsafe extern "C" fn(&Task),
) {
    let stride = panels.bytes.len() / panels.count;
    let numbers = x.blocks * BYTES;
    assert!(sums.len() == panels.count * x.tokens && stride >= numbers + x.blocks * PANEL_ROWS * 2);
    assert!(x.is_consistent() && scratch.len() >= x.blocks * PANEL_ROWS * 4);
    // The scratch begins at a multiple of 64.
    let scales = scratch.as_mut_ptr().cast::<f32>();
    for (panel, sums) in panels.with_sums(sums) {
        // SAFETY: lengths as asserted.
        unsafe { outpost_glm_neon_widen(panel[numbers..].as_ptr(), x.blocks * PANEL_ROWS / 4, scales) };
        for (token, sums) in sums.iter_mut().enumerate() {
            let place = x.place(token, 0);
            let task = Task {
                numbers: panel.as_ptr(),
                scales,
                q: x.q[place * 32..].as_ptr(),
                x_scales: x.scales[place..].as_ptr(),
                corrections: x.corrections[place..].as_ptr(),
                blocks: x.blocks,
                step_bytes: x.width * 4,
                out: sums,
            };
            // SAFETY: panel, activations and scales have as many blocks.
            unsafe { kernel(&task) };
        }
    }
}

unsafe fn f32(panels: Panels<'_>, x: &[f32], cols: usize, sums: &mut [Sums]) {
    let stride = panels.bytes.len() / panels.count;
    assert!(cols > 0 && stride >= cols * 64 && sums.len() == panels.count * (x.len() / cols));
    for (panel, sums) in panels.with_sums(sums) {
        for (sums, x) in sums.iter_mut().zip(x.chunks_exact(cols)) {
            // SAFETY: lengths as asserted; the machine has NEON.
            unsafe { outpost_glm_neon_f32(panel.as_ptr(), x.as_ptr(), cols, sums) };
        }
    }
}

// r0 numbers (then the task's address is gone), r1 widened scales, r2 activations, r3 their scales, r4 corrections, r5 blocks,
// r6 step of scales, r7 step of activations, r8 place in the block, r9 64, r10 out. q12 to q15 are the sums of the four quads.
// A quad's 32-bit sums: d8 to d11 as pairs of columns of one row each.
global_asm!(
    ".pushsection .text.outpost_glm_neon, \"ax\", %progbits",
    ".arm",
    ".arch armv7-a",
    ".fpu neon",
    // The activations of a block, each four of them twice: d16 to d23. Then the block's scale in d12.
    ".macro outpost_glm_activations",
    "vld1.8 {{d0-d3}}, [r2], r7",
    "vld1.32 {{d12[]}}, [r3], r6",
    "vdup.32 d16, d0[0]",
    "vdup.32 d17, d0[1]",
    "vdup.32 d18, d1[0]",
    "vdup.32 d19, d1[1]",
    "vdup.32 d20, d2[0]",
    "vdup.32 d21, d2[1]",
    "vdup.32 d22, d3[0]",
    "vdup.32 d23, d3[1]",
    ".endm",
    // Eight products of 16 bits from two groups of columns for two rows, to \\to by \\op.
    ".macro outpost_glm_two_groups op, a, b",
    "vld1.8 {{d0-d1}}, [r8], r9",
    "vld1.8 {{d2-d3}}, [r8], r9",
    "vmull.s8 q2, d0, \\a",
    "vmull.s8 q3, d1, \\a",
    "vmlal.s8 q2, d2, \\b",
    "vmlal.s8 q3, d3, \\b",
    "\\op q4, q2",
    "\\op q5, q3",
    ".endm",
    // From 32-bit sums of pairs in q4 and q5 to the quad's sum in \\sum.
    ".macro outpost_glm_scale sum",
    "vcvt.f32.s32 q4, q4",
    "vld1.32 {{d4-d5}}, [r1]!",
    "vmul.f32 q2, q2, d12[0]",
    "vmla.f32 \\sum, q4, q2",
    ".endm",
    ".macro outpost_glm_bytes quad, sum",
    "add r8, r0, #16*\\quad",
    "outpost_glm_two_groups vpaddl.s16, d16, d17",
    "outpost_glm_two_groups vpadal.s16, d18, d19",
    "outpost_glm_two_groups vpadal.s16, d20, d21",
    "outpost_glm_two_groups vpadal.s16, d22, d23",
    "vpadd.i32 d8, d8, d9",
    "vpadd.i32 d9, d10, d11",
    "outpost_glm_scale \\sum",
    ".endm",
    // A group's low nibbles are 16 columns before its high ones. q7 is 15 everywhere.
    ".macro outpost_glm_group op, low, high",
    "vld1.8 {{d0-d1}}, [r8], r9",
    "vand q1, q0, q7",
    "vshr.u8 q0, q0, #4",
    "\\op q4, d2, \\low",
    "\\op q5, d3, \\low",
    "vmlal.s8 q4, d0, \\high",
    "vmlal.s8 q5, d1, \\high",
    ".endm",
    // q3 is the correction.
    ".macro outpost_glm_nibbles quad, sum",
    "add r8, r0, #16*\\quad",
    "outpost_glm_group vmull.s8, d16, d20",
    "outpost_glm_group vmlal.s8, d17, d21",
    "outpost_glm_group vmlal.s8, d18, d22",
    "outpost_glm_group vmlal.s8, d19, d23",
    "vpaddl.s16 q4, q4",
    "vpaddl.s16 q5, q5",
    "vpadd.i32 d8, d8, d9",
    "vpadd.i32 d9, d10, d11",
    "vadd.i32 q4, q4, q3",
    "outpost_glm_scale \\sum",
    ".endm",
    ".macro outpost_glm_begin",
    "push {{r4-r11}}",
    "vpush {{d8-d15}}",
    "ldr r10, [r0, #28]",
    "ldr r6, [r0, #24]",
    "ldm r0, {{r0-r5}}",
    "lsl r7, r6, #3",
    "mov r9, #64",
    "vmov.i32 q12, #0",
    "vmov.i32 q13, #0",
    "vmov.i32 q14, #0",
    "vmov.i32 q15, #0",
    ".endm",
    ".macro outpost_glm_end",
    "vst1.32 {{d24-d27}}, [r10]!",
    "vst1.32 {{d28-d31}}, [r10]",
    "vpop {{d8-d15}}",
    "pop {{r4-r11}}",
    "bx lr",
    ".endm",
    ".p2align 4",
    ".globl outpost_glm_neon_q8_0",
    ".hidden outpost_glm_neon_q8_0",
    ".type outpost_glm_neon_q8_0, %function",
    "outpost_glm_neon_q8_0:",
    "outpost_glm_begin",
    "1:",
    "outpost_glm_activations",
    "outpost_glm_bytes 0, q12",
    "outpost_glm_bytes 1, q13",
    "outpost_glm_bytes 2, q14",
    "outpost_glm_bytes 3, q15",
    "add r0, r0, #512",
    "subs r5, r5, #1",
    "bne 1b",
    "outpost_glm_end",
    ".size outpost_glm_neon_q8_0, . - outpost_glm_neon_q8_0",
    ".p2align 4",
    ".globl outpost_glm_neon_q4_0",
    ".hidden outpost_glm_neon_q4_0",
    ".type outpost_glm_neon_q4_0, %function",
    "outpost_glm_neon_q4_0:",
    "outpost_glm_begin",
    "vmov.i8 q7, #15",
    "1:",
    "outpost_glm_activations",
    "vld1.32 {{d6[], d7[]}}, [r4], r6",
    "outpost_glm_nibbles 0, q12",
    "outpost_glm_nibbles 1, q13",
    "outpost_glm_nibbles 2, q14",
    "outpost_glm_nibbles 3, q15",
    "add r0, r0, #256",
    "subs r5, r5, #1",
    "bne 1b",
    "outpost_glm_end",
    ".size outpost_glm_neon_q4_0, . - outpost_glm_neon_q4_0",
    ".p2align 4",
    ".globl outpost_glm_neon_f32",
    ".hidden outpost_glm_neon_f32",
    ".type outpost_glm_neon_f32, %function",
    "outpost_glm_neon_f32:",
    "vmov.i32 q12, #0",
    "vmov.i32 q13, #0",
    "vmov.i32 q14, #0",
    "vmov.i32 q15, #0",
    "1:",
    "vld1.32 {{d16[], d17[]}}, [r1]!",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vld1.32 {{d4-d7}}, [r0]!",
    "vmla.f32 q12, q0, q8",
    "vmla.f32 q13, q1, q8",
    "vmla.f32 q14, q2, q8",
    "vmla.f32 q15, q3, q8",
    "subs r2, r2, #1",
    "bne 1b",
    "vst1.32 {{d24-d27}}, [r3]!",
    "vst1.32 {{d28-d31}}, [r3]",
    "bx lr",
    ".size outpost_glm_neon_f32, . - outpost_glm_neon_f32",
    // Bits moved to the place of a single's, the exponent raised by 112: right for normal numbers. A subnormal half came out as
    // 2^-15 * (1 + m), and is 2^-14 * m: twice that less 2^-14.
    ".p2align 4",
    ".globl outpost_glm_neon_widen",
    ".hidden outpost_glm_neon_widen",
    ".type outpost_glm_neon_widen, %function",
    "outpost_glm_neon_widen:",
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
    "bx lr",
    ".size outpost_glm_neon_widen, . - outpost_glm_neon_widen",
    ".popsection",
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
            unsafe { outpost_glm_neon_widen(bytes.as_ptr(), 1, wide.as_mut_ptr()) };
            for (half, wide) in halves.into_iter().zip(wide).filter(|(half, _)| half.is_finite()) {
                assert_eq!(wide.to_bits(), half.to_f32().to_bits(), "{half:?}");
            }
        }
    }
}
