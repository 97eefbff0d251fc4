//! Activations as kernels for quantised weights take them: int8 in blocks of 32, by tiles of up to 8 tokens.

use super::super::bytes::BytesMut;
use super::super::matrix::BLOCK_COLS;
use super::super::team::{Split, Team};
use super::LinearFns;

/// Most tokens of a tile. Up to so many are few: the time goes into reading weights.
pub(super) const TILE_TOKENS: usize = 8;
/// Numbers that are worth a part of their own.
const PART_NUMBERS_MIN: usize = 16 * 1024;

/// Tokens quantised to int8, in blocks of 32 numbers with a scale each. They lie tile after tile, within a tile block after
/// block, within a block token after token: a tile is read from its beginning to its end.
#[derive(Clone, Copy)]
pub(super) struct Quantised<'a> {
    /// How many.
    pub(super) tokens: usize,
    /// Tokens of a tile: as many as there are up to [`TILE_TOKENS`], the last tile filled with zeros.
    pub(super) width: usize,
    /// Blocks of one token.
    pub(super) blocks: usize,
    /// Element `c` of a block at `place * 32 + c`; -127..=127. Begins at a multiple of 64.
    pub(super) q: &'a [i8],
    /// The scale of the block in a place.
    pub(super) scales: &'a [f32],
    /// What a sum over weights that are stored with an offset is off by: `-offset * sum of q` of a place. The offset is 8 for
    /// `Q4_0` (nibbles are 0..=15) and 128 for `Q8_0` (for kernels that flip the top bit).
    pub(super) corrections: &'a [i32],
}

impl Quantised<'_> {
    /// Where a block of a token is. The next block of the same token is `width` further on.
    pub(super) fn place(&self, token: usize, block: usize) -> usize {
        (token / self.width * self.blocks + block) * self.width + token % self.width
    }

    /// Whether every place of every token can be read.
    pub(super) fn is_consistent(&self) -> bool {
        let places = self.tokens.next_multiple_of(self.width) * self.blocks;
        self.q.len() >= places * BLOCK_COLS && self.scales.len() >= places && self.corrections.len() >= places
    }
}

/// Some neighbouring blocks of one tile, to be filled.
pub(super) struct QuantisedMut<'a> {
    /// The first of them; there are `scales.len() / width`.
    pub(super) first_block: usize,
    /// Tokens of the tile, missing ones included.
    pub(super) width: usize,
    /// As in [`Quantised`].
    pub(super) q: &'a mut [i8],
    /// As in [`Quantised`].
    pub(super) scales: &'a mut [f32],
    /// As in [`Quantised`].
    pub(super) corrections: &'a mut [i32],
    /// See [`Quantised::corrections`].
    pub(super) offset: i32,
}

/// Columns that are quantised in one go.
pub(super) const FOUR_COLS: usize = 4 * BLOCK_COLS;

/// Four quantised blocks of one token.
pub(super) struct Four {
    /// As in [`Quantised`].
    pub(super) q: [[i8; BLOCK_COLS]; 4],
    /// As in [`Quantised`].
    pub(super) scales: [f32; 4],
    /// Of the `q` of each block.
    pub(super) sums: [i32; 4],
}

impl QuantisedMut<'_> {
    /// Fills all of it from a tile's tokens `x` of `cols` numbers, four blocks of a token by `four` at a time. Inlined, so that
    /// it may have its caller's instructions.
    #[inline(always)]
    pub(super) fn fill(self, x: &[f32], cols: usize, four: impl Fn(&[f32; FOUR_COLS]) -> Four) {
        let (q, _) = self.q.as_chunks_mut::<BLOCK_COLS>();
        let blocks = self.scales.len() / self.width;
        let cols_here = self.first_block * BLOCK_COLS..cols.min((self.first_block + blocks) * BLOCK_COLS);
        for (token, x) in x.chunks_exact(cols).enumerate() {
            for (i, x) in x[cols_here.clone()].chunks(FOUR_COLS).enumerate() {
                let quantised = match x.try_into() {
                    Ok(x) => four(x),
                    Err(_) => {
                        let mut padded = [0.0; FOUR_COLS];
                        padded[..x.len()].copy_from_slice(x);
                        four(&padded)
                    }
                };
                for (k, block) in (i * 4..blocks.min(i * 4 + 4)).enumerate() {
                    let place = block * self.width + token;
                    q[place] = quantised.q[k];
                    self.scales[place] = quantised.scales[k];
                    // Activations that are no numbers have any sum.
                    self.corrections[place] = (-self.offset).wrapping_mul(quantised.sums[k]);
                }
            }
        }
        let tokens = x.len() / cols;
        for block in 0..blocks {
            let missing = block * self.width + tokens..(block + 1) * self.width;
            q[missing.clone()].fill([0; BLOCK_COLS]);
            self.scales[missing.clone()].fill(0.0);
            self.corrections[missing].fill(0);
        }
    }
}

/// Memory for activations, kept from call to call.
pub(super) struct Activations {
    q: BytesMut,
    scales: Vec<f32>,
    corrections: Vec<i32>,
}

impl Activations {
    pub(super) const NONE: Activations =
        Activations { q: BytesMut::empty(), scales: Vec::new(), corrections: Vec::new() };

    /// Quantises `x`, rows of `cols`.
    ///
    /// # Safety
    /// The machine has the instructions of `fns`.
    pub(super) unsafe fn quantise(
        &mut self,
        fns: &LinearFns,
        team: &Team,
        x: &[f32],
        cols: usize,
        offset: i32,
    ) -> Quantised<'_> {
        let (tokens, blocks) = (x.len() / cols, cols.div_ceil(BLOCK_COLS));
        let width = tokens.min(TILE_TOKENS);
        let tiles = tokens.div_ceil(width);
        let places = tiles * blocks * width;
        if self.scales.len() < places {
            self.q = BytesMut::zeroed(places * BLOCK_COLS);
            self.scales = vec![0.0; places];
            self.corrections = vec![0; places];
        }
        let q = Split::new(&mut self.q.as_signed_mut()[..places * BLOCK_COLS]);
        let scales = Split::new(&mut self.scales[..places]);
        let corrections = Split::new(&mut self.corrections[..places]);
        let parts = (width * cols / PART_NUMBERS_MIN).clamp(1, blocks);
        let blocks_per_part = blocks.div_ceil(parts);
        let parts = blocks.div_ceil(blocks_per_part);
        team.run(tiles * parts, &|part| {
            let (tile, first_block) = (part / parts, part % parts * blocks_per_part);
            let first = tile * width;
            let x = &x[first * cols..tokens.min(first + width) * cols];
            let start = (tile * blocks + first_block) * width;
            let end = start + (blocks - first_block).min(blocks_per_part) * width;
            // SAFETY: every part has blocks of its own; the machine has the instructions by the caller's promise.
            unsafe {
                let to = QuantisedMut {
                    first_block,
                    width,
                    q: q.part(start * BLOCK_COLS..end * BLOCK_COLS),
                    scales: scales.part(start..end),
                    corrections: corrections.part(start..end),
                    offset,
                };
                (fns.quantise)(x, cols, to);
            }
        });
        let (scales, corrections) = (&self.scales[..places], &self.corrections[..places]);
        Quantised {
            tokens,
            width,
            blocks,
            q: &self.q.as_signed()[..places * BLOCK_COLS],
            scales,
            corrections,
        }
    }
}
