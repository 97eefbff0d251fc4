//! armv7 with NEON, in assembly for the reasons that `wide::armv7` gives.
//!
//! A function multiplies a panel by one token. Four rows x 4 columns are a register, as on aarch64 (see `neon`), products are
//! added up in 16 bits likewise. Scales are widened once per panel, by whole-number arithmetic: NEON here has no subnormal
//! numbers, and conversions between halves and singles only from VFPv4 on.
//!
//! The gate's `exp` is the one in plain Rust.

use std::arch::global_asm;

use super::super::matrix::{BLOCK_COLS, PANEL_ROWS};
use super::super::wide::armv7::{function, widen};
use super::activations::{Four, Quantised, QuantisedMut};
use super::portable::{self, SMALLEST};
use super::{LinearFns, Panels, Sums};

/// For `Isa::Armv7Neon`.
pub(super) const FNS: LinearFns = LinearFns { quantise, f32, q8_0, q4_0, ..portable::FNS };

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
    /// The largest magnitude of a block.
    fn outpost_glm_neon_peak(x: &[f32; BLOCK_COLS], to: &mut f32);
    /// A block times `by` to the nearest whole numbers, ties to even, none beyond 127; and their sum.
    fn outpost_glm_neon_round(x: &[f32; BLOCK_COLS], by: &f32, to: &mut [i8; BLOCK_COLS], sum: &mut i32);
}

unsafe fn quantise(x: &[f32], cols: usize, to: QuantisedMut<'_>) {
    to.fill(x, cols, |x| {
        let mut four = Four { q: [[0; BLOCK_COLS]; 4], scales: [0.0; 4], sums: [0; 4] };
        let (blocks, _) = x.as_chunks::<BLOCK_COLS>();
        for (b, x) in blocks.iter().enumerate() {
            let mut largest = 0.0;
            // SAFETY: the machine has NEON.
            unsafe { outpost_glm_neon_peak(x, &mut largest) };
            if largest >= SMALLEST {
                four.scales[b] = largest / 127.0;
                // SAFETY: as above.
                unsafe { outpost_glm_neon_round(x, &(127.0 / largest), &mut four.q[b], &mut four.sums[b]) };
            }
        }
        four
    });
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
        unsafe { widen(panel[numbers..].as_ptr(), x.blocks * PANEL_ROWS / 4, scales) };
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
    ".popsection",
);

function!(
    "peak",
    "vmov.i32 q8, #0",
    "mov r2, #4",
    "1:",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vabs.f32 q0, q0",
    "vabs.f32 q1, q1",
    "vmax.f32 q0, q0, q1",
    "vmax.f32 q8, q8, q0",
    "subs r2, r2, #1",
    "bne 1b",
    "vpmax.f32 d16, d16, d17",
    "vpmax.f32 d16, d16, d16",
    "vst1.32 {{d16[0]}}, [r1]",
);

// 12 582 912 = 0x4b400000 leaves a number rounded in the lowest bits.
function!(
    "round",
    "vld1.32 {{d16[], d17[]}}, [r1]",
    "movw r12, #0",
    "movt r12, #0x4b40",
    "vdup.32 q9, r12",
    "vmov.i32 q10, #0",
    "mov r12, #4",
    "1:",
    "vld1.32 {{d0-d3}}, [r0]!",
    "vmul.f32 q0, q0, q8",
    "vmul.f32 q1, q1, q8",
    "vadd.f32 q0, q0, q9",
    "vadd.f32 q1, q1, q9",
    "vmovn.i32 d4, q0",
    "vmovn.i32 d5, q1",
    "vpadal.s16 q10, q2",
    "vmovn.i16 d6, q2",
    "vst1.8 {{d6}}, [r2]!",
    "subs r12, r12, #1",
    "bne 1b",
    "vpadd.i32 d20, d20, d21",
    "vpadd.i32 d20, d20, d20",
    "vst1.32 {{d20[0]}}, [r3]",
);
