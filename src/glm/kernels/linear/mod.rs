//! The matrix product: panels of weights times a few vectors of activations.
//!
//! ```text
//! x (f32) -> int8 in blocks of 32 with a scale, tile by tile of up to 8 tokens     once per call, if weights are quantised
//!         -> whole-number sums per block, scaled and added up in f32               a kernel: four panels x a tile at once
//!         -> bias, silu(gate) * up, where the sums go                              here
//! ```
//!
//! One token reads every weight once and is bound by memory: kernels read four panels side by side, as one stream of reads
//! leaves a quarter of the bandwidth unused, and fetch ahead across the end of a panel. A prompt reuses a panel for tile
//! after tile while it lies in the cache. Threads share the panels; a product that one thread does in 3 us is not shared.
//!
//! A set of kernels is one [`LinearFns`]: a file per instruction set defines a `const FNS: LinearFns`, and [`fns`] names
//! it. Fields may be borrowed from a slower set. All sets give what [`portable`] gives, up to the order of additions in f32.
//!
//! Instructions of the inner loops per byte of weights, from the disassembly:
//!
//! | | Q4_0, 1 token | Q8_0, 1 token | Q4_0, 8 tokens | Q8_0, 8 tokens |
//! |---|---|---|---|---|
//! | AVX-512 VNNI | 0.20 | 0.11 | 0.53 | 0.27 |
//! | AVX2 | 0.43 | 0.27 | 2.1 | 1.5 |
//! | NEON with `smmla` | 0.37 | 0.15 | 1.5 | 0.78 |
//! | llama.cpp, the same | 0.57 | 0.27 | 1.9 | 0.94 |
//! | NEON with `sdot` | 0.37 | 0.15 | 2.0 | 0.92 |
//! | llama.cpp, the same | 0.47 | 0.19 | 2.2 | 0.99 |
//! | NEON | 0.64 | 0.29 | 4.4 | 2.4 |
//! | llama.cpp, the same | 1.6 | 0.76 | 13 | 6.1 |
//! | NEON of armv7 | 0.76 | 0.41 | 4.8 | 2.6 |
//!
//! Speed on ARM is not measured on hardware: its kernels are right under emulation (`cross/kernels.sh`), and counted. Those of
//! llama.cpp (as in llama-cpp-python 0.3.36, by GCC 12 with `-O3`) are what it picks for such a processor. From 16 tokens on it has
//! a loop of 1.8 per 8 tokens (`sdot`) and 1.4 (`smmla`) for Q4_0, for which there is none here.
//!
//! Measured by `cargo bench --bench kernels` on one core of a Sapphire Rapids server (`ggml`'s own kernels for that
//! processor, with AMX, between the same minutes: 13.4 GB/s and 125 GMAC/s): 15 to 17 GB/s for one token, which is what a
//! plain sum over memory takes, in every format and with AVX2 too; 128 tokens at 245 (Q4_0) and 225 (Q8_0) GMAC/s with
//! AVX-512, 130 with AVX-VNNI, 95 and 54 with the kernel before that there was for AVX2. On one core of an AMD EPYC (Zen 4), of 30
//! GB/s that a sum takes: 26 to 28 for one token in every format; 128 tokens at 160 GMAC/s with AVX-512, with AVX2 at 111 (Q4_0) and
//! 50 (Q8_0), where the kernel before had 72 and 41.

mod activations;
#[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
mod armv7;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "x86_64")]
mod fetch;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::bytes::BytesMut;
use super::matrix::{BLOCK_COLS, Format, Matrix, PANEL_ROWS};
use super::team::Split;
use super::{Isa, Kernels};
use activations::{Activations, Quantised, QuantisedMut};

/// What becomes of the product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// Even panels are 16 rows of a gate, odd ones the 16 rows of the same numbers that it gates:
    /// `out = silu(gate) * up`, `inter` of them. The matrix has `2 * inter` rows, `inter` rounded up to whole panels.
    SiluGate {
        /// Elements that come out.
        inter: usize,
    },
}

/// Sixteen sums, one per row of a panel.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([f32; PANEL_ROWS]);

/// A few neighbouring panels of a matrix, one behind the other.
#[derive(Clone, Copy)]
struct Panels<'a> {
    /// How many, at least one.
    count: usize,
    /// All of them: `bytes.len() / count` each.
    bytes: &'a [u8],
}

impl<'a> Panels<'a> {
    /// One panel after the other, each with the sums of all tokens.
    fn with_sums<'s>(self, sums: &'s mut [Sums]) -> impl Iterator<Item = (&'a [u8], &'s mut [Sums])> {
        let tokens = sums.len() / self.count;
        self.bytes.chunks_exact(self.bytes.len() / self.count).zip(sums.chunks_exact_mut(tokens))
    }
}

/// A kernel for quantised weights: `sums[p * x.tokens + t]` becomes panel `p` times token `t`. Panels cover `x.blocks` blocks;
/// there are up to [`PANELS_AT_ONCE`] of them for few tokens, as memory gives more to one who reads in several places.
/// `scratch` begins at a multiple of 64, has 512 bytes per block, and may be used for anything.
type QuantisedKernel = unsafe fn(panels: Panels<'_>, x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]);

/// What an instruction set brings to the matrix product.
///
/// # Safety
/// Every function may be called only on a machine that has the instruction set.
struct LinearFns {
    /// Fills some blocks of a tile's tokens `x`, `cols` numbers each. Rounds to the nearest, ties to even, so that all kernels
    /// get the same numbers. Blocks of missing tokens become zeros, and so do numbers beyond the columns.
    quantise: unsafe fn(x: &[f32], cols: usize, to: QuantisedMut<'_>),
    /// Panels of `cols` columns of f32 times `x.len() / cols` tokens; sums as of a [`QuantisedKernel`].
    f32: unsafe fn(panels: Panels<'_>, x: &[f32], cols: usize, sums: &mut [Sums]),
    /// See [`QuantisedKernel`].
    q8_0: QuantisedKernel,
    /// See [`QuantisedKernel`].
    q4_0: QuantisedKernel,
    /// `gate[t] = silu(gate[t]) * up[t]`.
    silu_gate: unsafe fn(gate: &mut [Sums], up: &[Sums]),
}

/// The kernels of an instruction set.
fn fns(isa: Isa) -> &'static LinearFns {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => &avx512::FNS,
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => &avx2::FNS_VNNI,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::FNS,
        #[cfg(all(target_arch = "arm", target_endian = "little", target_os = "linux"))]
        Isa::Armv7Neon => &armv7::FNS,
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm => &i8mm::FNS,
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDotprod => &dotprod::FNS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::FNS,
        _ => &portable::FNS,
    }
}

impl Kernels {
    /// `out[t] = epilogue(w x[t] + bias)` for every token: `x` is `tokens` x `w.cols()`, `bias` one number per row of `w`,
    /// `out` is `tokens` x rows of `w` or what the epilogue leaves of them.
    ///
    /// # Panics
    /// Where lengths do not fit together.
    pub fn linear(
        &self,
        w: &Matrix,
        bias: Option<&[f32]>,
        epilogue: Epilogue,
        x: &[f32],
        tokens: usize,
        out: &mut [f32],
    ) {
        let (panels, cols) = (w.rows().div_ceil(PANEL_ROWS), w.cols());
        let (out_cols, panels_per_unit) = match epilogue {
            Epilogue::None => (w.rows(), 1),
            Epilogue::SiluGate { inter } => {
                assert_eq!(w.rows(), 2 * inter.next_multiple_of(PANEL_ROWS), "rows of a gated product");
                (inter, 2)
            }
        };
        assert!(bias.is_none_or(|bias| bias.len() == w.rows()), "one bias per row");
        assert_eq!((x.len(), out.len()), (tokens * cols, tokens * out_cols), "{tokens} tokens");
        let product =
            Product { kernels: self, fns: fns(self.isa()), w, bias, panels, panels_per_unit, out_cols };
        let chunk = tokens_per_chunk(cols);
        for (x, out) in x.chunks(chunk * cols).zip(out.chunks_mut(chunk * out_cols)) {
            product.chunk(x, x.len() / cols, out);
        }
    }
}

/// Quantised activations of one chunk stay within this, so that they stay in the second-level cache.
const CHUNK_BYTES: usize = 512 * 1024;
/// Most tokens of one chunk.
const CHUNK_TOKENS_MAX: usize = 256;
/// Panels that a kernel gets at once for few tokens; even, so that gates are not parted from what they gate.
const PANELS_AT_ONCE: usize = 4;
/// Multiplications that one thread does sooner alone: 3 us of them, while sharing costs 1 us.
const ALONE_WORK_MAX: u64 = 400 * 1000;
/// Multiplications that are worth a part of their own.
const PART_WORK_MIN: u64 = 32 * 1024;
/// Parts per thread, so that one that is held up leaves its share to the others.
const PARTS_PER_THREAD: usize = 8;

fn tokens_per_chunk(cols: usize) -> usize {
    (CHUNK_BYTES / cols / 16 * 16).clamp(16, CHUNK_TOKENS_MAX)
}

/// One call, checked.
struct Product<'a> {
    kernels: &'a Kernels,
    fns: &'static LinearFns,
    w: &'a Matrix,
    bias: Option<&'a [f32]>,
    panels: usize,
    panels_per_unit: usize,
    out_cols: usize,
}

/// A kernel with its activations: panels, scratch, sums.
type Kernel<'a> = dyn Fn(Panels<'_>, &mut [u8], &mut [Sums]) + Sync + 'a;

/// What one thread needs while it multiplies.
struct Scratch {
    unpacked: BytesMut,
    sums: Vec<Sums>,
}

thread_local! {
    static ACTIVATIONS: RefCell<Activations> = const { RefCell::new(Activations::NONE) };
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { unpacked: BytesMut::empty(), sums: Vec::new() }) };
}

impl Product<'_> {
    fn chunk(&self, x: &[f32], tokens: usize, out: &mut [f32]) {
        if self.w.format() == Format::F32 {
            let kernel = self.fns.f32;
            // SAFETY: the kernels are those of an instruction set that the machine has (`Kernels::new`).
            let kernel =
                |w: Panels<'_>, _: &mut [u8], sums: &mut [Sums]| unsafe { kernel(w, x, self.w.cols(), sums) };
            return self.groups(tokens, out, &kernel);
        }
        let (kernel, offset) = match self.w.format() {
            Format::Q4_0 => (self.fns.q4_0, 8),
            Format::F32 | Format::Q8_0 => (self.fns.q8_0, 128),
        };
        ACTIVATIONS.with_borrow_mut(|activations| {
            // SAFETY: as above.
            let x = unsafe { activations.quantise(self.fns, &self.kernels.team, x, self.w.cols(), offset) };
            // SAFETY: as above.
            self.groups(tokens, out, &|w, unpacked, sums| unsafe { kernel(w, x, unpacked, sums) });
        });
    }

    /// Multiplies all panels by `kernel(panels, scratch, sums)` and finishes their sums.
    fn groups(&self, tokens: usize, out: &mut [f32], kernel: &Kernel<'_>) {
        let stride = self.w.bytes().len() / self.panels;
        let per_group = PANELS_AT_ONCE;
        let groups = self.panels.div_ceil(per_group);
        let parts = parts(self.kernels.threads(), groups, work(self.panels, self.w.cols(), tokens));
        let per_part = groups.div_ceil(parts) * per_group;
        let out = Split::new(out);
        self.kernels.team.run(self.panels.div_ceil(per_part), &|part| {
            SCRATCH.with_borrow_mut(|scratch| {
                let (unpacked, sums) = scratch.sized(self.w, tokens * per_group);
                let end = self.panels.min((part + 1) * per_part);
                for first in (part * per_part..end).step_by(per_group) {
                    let count = per_group.min(end - first);
                    let sums = &mut sums[..tokens * count];
                    let bytes = &self.w.bytes()[first * stride..][..count * stride];
                    kernel(Panels { count, bytes }, unpacked, sums);
                    self.finish(first, tokens, sums, &out);
                }
            });
        });
    }

    /// Bias, epilogue and where the sums of a group go.
    fn finish(&self, first_panel: usize, tokens: usize, sums: &mut [Sums], out: &Split<'_, f32>) {
        for (panel, sums) in sums.chunks_exact_mut(tokens).enumerate() {
            self.add_bias(first_panel + panel, sums);
        }
        let per_unit = tokens * self.panels_per_unit;
        if self.panels_per_unit == 2 {
            for sums in sums.chunks_exact_mut(per_unit) {
                let (gate, up) = sums.split_at_mut(tokens);
                // SAFETY: the kernels are those of an instruction set that the machine has.
                unsafe { (self.fns.silu_gate)(gate, up) };
            }
        }
        let start = first_panel / self.panels_per_unit * PANEL_ROWS;
        let len = (sums.len() / per_unit * PANEL_ROWS).min(self.out_cols - start);
        for token in 0..tokens {
            let at = token * self.out_cols + start;
            // SAFETY: rows of different groups do not overlap, and every group is written once.
            let out = unsafe { out.part(at..at + len) };
            let mut sums = sums.chunks_exact(per_unit);
            let (whole, rest) = out.as_chunks_mut();
            for (out, sums) in whole.iter_mut().zip(&mut sums) {
                *out = sums[token].0;
            }
            if let (false, Some(sums)) = (rest.is_empty(), sums.next()) {
                rest.copy_from_slice(&sums[token].0[..rest.len()]);
            }
        }
    }

    fn add_bias(&self, panel: usize, sums: &mut [Sums]) {
        let Some(bias) = self.bias else { return };
        let bias = &bias[panel * PANEL_ROWS..];
        for sums in sums {
            sums.0.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        }
    }
}

/// Multiplications of a product, which a machine of 32 bits can't count in its own numbers.
fn work(panels: usize, cols: usize, tokens: usize) -> u64 {
    (panels * PANEL_ROWS) as u64 * cols as u64 * tokens as u64
}

/// Into how many parts `units` of altogether so many multiplications are shared out.
fn parts(threads: usize, units: usize, work: u64) -> usize {
    if threads == 1 || work <= ALONE_WORK_MAX {
        return 1;
    }
    let worth = usize::try_from(work / PART_WORK_MIN).unwrap_or(usize::MAX);
    worth.min(units).min(threads * PARTS_PER_THREAD)
}

impl Scratch {
    /// Room for one panel unpacked, and for so many sums.
    fn sized(&mut self, w: &Matrix, sums: usize) -> (&mut [u8], &mut [Sums]) {
        let bytes = match w.format() {
            Format::F32 => 0,
            Format::Q8_0 | Format::Q4_0 => w.cols().div_ceil(BLOCK_COLS) * BLOCK_COLS * PANEL_ROWS,
        };
        if self.unpacked.len() < bytes {
            self.unpacked = BytesMut::zeroed(bytes);
        }
        if self.sums.len() < sums {
            self.sums.resize(sums, Sums([0.0; PANEL_ROWS]));
        }
        (&mut self.unpacked[..bytes], &mut self.sums[..sums])
    }
}
