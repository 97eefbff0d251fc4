//! The matrix product: panels of weights times a few vectors of activations.
//!
//! Quantised weights meet activations that are quantised too: to int8, in blocks of 32 with an f32 scale, once per call.
//! A *panel kernel* multiplies one panel of 16 rows by all tokens of a chunk and writes 16 sums per token; what is left
//! (bias, gate, where the sums go) is done here. Threads share the panels.
//!
//! A set of kernels is one [`LinearFns`]: a file per instruction set defines a `const FNS: LinearFns`, and [`fns`] names
//! it. Fields may be borrowed from a slower set.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::bytes::BytesMut;
use super::matrix::{BLOCK_COLS, Format, Matrix, PANEL_ROWS};
use super::team::Split;
use super::{Isa, Kernels};

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
pub(super) struct Sums(pub(super) [f32; PANEL_ROWS]);

/// Vectors quantised to int8 in blocks of 32, block by block: all tokens of block 0, then of block 1.
#[derive(Clone, Copy)]
pub(super) struct Quantised<'a> {
    /// Vectors.
    pub(super) tokens: usize,
    /// Places per block, at least `tokens`: those behind are zeros. A multiple of 16 if there are more than 8 tokens.
    pub(super) stride: usize,
    /// Blocks of one vector.
    pub(super) blocks: usize,
    /// Element `c` of block `b` of token `t` at `(b * stride + t) * 32 + c`; -127..=127. Begins at a multiple of 64.
    pub(super) q: &'a [i8],
    /// The scale of block `b` of token `t` at `b * stride + t`.
    pub(super) scales: &'a [f32],
    /// What a sum over weights that are stored with an offset is off by: `-offset * sum of q`, where the scale is. The
    /// offset is 8 for `Q4_0` (nibbles are 0..=15), 128 for `Q8_0` (for kernels that flip the top bit).
    pub(super) corrections: &'a [i32],
}

impl Quantised<'_> {
    /// Whether every place of every token can be read.
    fn is_consistent(&self) -> bool {
        let places = self.blocks * self.stride;
        self.tokens <= self.stride
            && self.q.len() >= places * BLOCK_COLS
            && self.scales.len() >= places
            && self.corrections.len() >= places
    }
}

/// A few neighbouring blocks of all tokens, to be filled; otherwise like [`Quantised`].
pub(super) struct QuantisedMut<'a> {
    pub(super) first_block: usize,
    pub(super) stride: usize,
    pub(super) q: &'a mut [i8],
    pub(super) scales: &'a mut [f32],
    pub(super) corrections: &'a mut [i32],
    pub(super) offset: i32,
}

/// A panel kernel for quantised weights: `sums[t]` is the panel times token `t`, `sums.len() == x.tokens`. The panel covers
/// `x.blocks` blocks. `scratch` begins at a multiple of 64, has 512 bytes per block, and may be used for anything.
pub(super) type QuantisedPanel =
    unsafe fn(panel: &[u8], x: Quantised<'_>, scratch: &mut [u8], sums: &mut [Sums]);

/// What an instruction set brings to the matrix product.
///
/// # Safety
/// Every function may be called only on a machine that has the instruction set.
pub(super) struct LinearFns {
    /// Fills some blocks of all tokens (`to.scales.len() / to.stride` blocks) from `x`, `cols` numbers per token. Rounds to
    /// the nearest, ties to even, so that all kernels get the same numbers. Places behind the last token become zeros.
    pub(super) quantise: unsafe fn(x: &[f32], cols: usize, to: QuantisedMut<'_>),
    /// A panel of `cols` columns of f32 times `sums.len()` tokens.
    pub(super) f32: unsafe fn(panel: &[u8], x: &[f32], cols: usize, sums: &mut [Sums]),
    /// See [`QuantisedPanel`].
    pub(super) q8_0: QuantisedPanel,
    /// See [`QuantisedPanel`].
    pub(super) q4_0: QuantisedPanel,
    /// `gate[t] = silu(gate[t]) * up[t]`.
    pub(super) silu_gate: unsafe fn(gate: &mut [Sums], up: &[Sums]),
}

/// The kernels of an instruction set.
fn fns(isa: Isa) -> &'static LinearFns {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => &avx512::FNS,
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
/// Multiplications that are worth a part of their own.
const PART_WORK_MIN: usize = 64 * 1024;
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

/// A panel kernel with its activations: panel, scratch, sums.
type PanelKernel<'a> = dyn Fn(&[u8], &mut [u8], &mut [Sums]) + Sync + 'a;

/// Quantised activations of the calling thread.
struct Activations {
    q: BytesMut,
    scales: Vec<f32>,
    corrections: Vec<i32>,
}

/// What one thread needs while it multiplies.
struct Scratch {
    unpacked: BytesMut,
    sums: [Vec<Sums>; 2],
}

thread_local! {
    static ACTIVATIONS: RefCell<Activations> =
        const { RefCell::new(Activations { q: BytesMut::empty(), scales: Vec::new(), corrections: Vec::new() }) };
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { unpacked: BytesMut::empty(), sums: [Vec::new(), Vec::new()] }) };
}

impl Product<'_> {
    fn chunk(&self, x: &[f32], tokens: usize, out: &mut [f32]) {
        if self.w.format() == Format::F32 {
            // SAFETY: the kernels are those of an instruction set that the machine has (`Kernels::new`).
            self.units(tokens, out, &|panel, _, sums| unsafe {
                (self.fns.f32)(panel, x, self.w.cols(), sums)
            });
            return;
        }
        let (kernel, offset) = match self.w.format() {
            Format::Q4_0 => (self.fns.q4_0, 8),
            Format::F32 | Format::Q8_0 => (self.fns.q8_0, 128),
        };
        ACTIVATIONS.with_borrow_mut(|activations| {
            let x = self.quantise(x, tokens, offset, activations);
            // SAFETY: as above.
            self.units(tokens, out, &|panel, unpacked, sums| unsafe { kernel(panel, x, unpacked, sums) });
        });
    }

    fn quantise<'a>(&self, x: &[f32], tokens: usize, offset: i32, to: &'a mut Activations) -> Quantised<'a> {
        let cols = self.w.cols();
        let blocks = cols.div_ceil(BLOCK_COLS);
        let stride = if tokens > 8 { tokens.next_multiple_of(16) } else { tokens };
        let places = blocks * stride;
        if to.scales.len() < places {
            *to = Activations {
                q: BytesMut::zeroed(places * BLOCK_COLS),
                scales: vec![0.0; places],
                corrections: vec![0; places],
            };
        }
        let (scales, corrections) = (&mut to.scales[..places], &mut to.corrections[..places]);
        let q = &mut to.q.as_signed_mut()[..places * BLOCK_COLS];
        let parts = self.parts(blocks, places * BLOCK_COLS);
        let per_part = blocks.div_ceil(parts);
        let (split_q, split_corrections) = (Split::new(q), Split::new(corrections));
        self.kernels.team.run_chunks(scales, per_part * stride, &|part, scales| {
            let start = part * per_part * stride;
            let end = start + scales.len();
            // SAFETY: parts are chunks of equal length, so these do not overlap either; the machine has the instructions.
            unsafe {
                let to = QuantisedMut {
                    first_block: part * per_part,
                    stride,
                    q: split_q.part(start * BLOCK_COLS..end * BLOCK_COLS),
                    scales,
                    corrections: split_corrections.part(start..end),
                    offset,
                };
                (self.fns.quantise)(x, cols, to);
            }
        });
        Quantised { tokens, stride, blocks, q, scales, corrections }
    }

    /// Multiplies all panels by `panel_kernel(panel, scratch, sums)` and finishes their sums.
    fn units(&self, tokens: usize, out: &mut [f32], panel_kernel: &PanelKernel<'_>) {
        let stride = self.w.bytes().len() / self.panels;
        let units = self.panels / self.panels_per_unit;
        let parts = self.parts(units, self.panels * PANEL_ROWS * self.w.cols() * tokens);
        let per_part = units.div_ceil(parts);
        let out = Split::new(out);
        self.kernels.team.run(units.div_ceil(per_part), &|part| {
            SCRATCH.with_borrow_mut(|scratch| {
                let (unpacked, [gate, up]) = scratch.sized(self.w, tokens);
                for unit in part * per_part..units.min((part + 1) * per_part) {
                    let mut multiply = |half, sums: &mut [Sums]| {
                        let panel = unit * self.panels_per_unit + half;
                        panel_kernel(&self.w.bytes()[panel * stride..][..stride], unpacked, sums);
                        self.add_bias(panel, sums);
                    };
                    multiply(0, gate);
                    if self.panels_per_unit == 2 {
                        multiply(1, up);
                        // SAFETY: the machine has the instructions.
                        unsafe { (self.fns.silu_gate)(gate, up) };
                    }
                    self.write(unit, gate, &out);
                }
            });
        });
    }

    fn add_bias(&self, panel: usize, sums: &mut [Sums]) {
        let Some(bias) = self.bias else { return };
        let bias = &bias[panel * PANEL_ROWS..];
        for sums in sums {
            sums.0.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        }
    }

    fn write(&self, unit: usize, sums: &[Sums], out: &Split<'_, f32>) {
        let start = unit * PANEL_ROWS;
        let len = PANEL_ROWS.min(self.out_cols - start);
        for (token, sums) in sums.iter().enumerate() {
            let at = token * self.out_cols + start;
            // SAFETY: rows of different units do not overlap, and every unit is written once.
            let out = unsafe { out.part(at..at + len) };
            out.copy_from_slice(&sums.0[..len]);
        }
    }

    /// Into how many parts `units` of altogether so many multiplications are shared out.
    fn parts(&self, units: usize, work: usize) -> usize {
        match self.kernels.threads() {
            1 => 1,
            threads => (work / PART_WORK_MIN).min(units).clamp(1, threads * PARTS_PER_THREAD),
        }
    }
}

impl Scratch {
    /// Room for one panel unpacked, and sums of `tokens`.
    fn sized(&mut self, w: &Matrix, tokens: usize) -> (&mut [u8], [&mut [Sums]; 2]) {
        let bytes = match w.format() {
            Format::F32 => 0,
            Format::Q8_0 | Format::Q4_0 => w.cols().div_ceil(BLOCK_COLS) * BLOCK_COLS * PANEL_ROWS,
        };
        if self.unpacked.len() < bytes {
            self.unpacked = BytesMut::zeroed(bytes);
        }
        let sums = self.sums.each_mut().map(|sums| {
            if sums.len() < tokens {
                sums.resize(tokens, Sums([0.0; PANEL_ROWS]));
            }
            &mut sums[..tokens]
        });
        (&mut self.unpacked[..bytes], sums)
    }
}
