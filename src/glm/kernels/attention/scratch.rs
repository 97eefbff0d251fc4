//! What a thread needs while it attends; kept from call to call.

use std::ops::{Deref, DerefMut};

use super::super::wide::LANES;
use super::kernel::{ROWS_AT_ONCE, STEP_MAX, STEP_WIDENED_MAX};

/// Room for a task.
pub(super) struct Scratch {
    /// Turned and scaled: rows of a head's elements, rounded up.
    pub(super) queries: Floats,
    /// Weighted sums of values, as many.
    pub(super) gathered: Floats,
    /// Per row, in 16 parts.
    pub(super) sums: Vec<Sixteen>,
    /// Per row.
    pub(super) largest: Vec<f32>,
    /// Of the rows at work: what they have gathered is scaled by it.
    pub(super) factors: [Sixteen; ROWS_AT_ONCE],
    scores: Floats,
    keys: Floats,
    values: Floats,
    row: Floats,
}

impl Scratch {
    /// No room yet.
    pub(super) const EMPTY: Scratch = Scratch {
        queries: Floats::EMPTY,
        gathered: Floats::EMPTY,
        sums: Vec::new(),
        largest: Vec::new(),
        factors: [ZEROS; ROWS_AT_ONCE],
        scores: Floats::EMPTY,
        keys: Floats::EMPTY,
        values: Floats::EMPTY,
        row: Floats::EMPTY,
    };

    /// Makes room for so many rows, which have gathered nothing yet.
    pub(super) fn begin(&mut self, rows: usize, width: usize, lowest: f32) {
        self.queries.grow(rows * width);
        self.gathered.grow(rows * width);
        self.gathered[..rows * width].fill(0.0);
        self.sums.clear();
        self.sums.resize(rows, ZEROS);
        self.largest.clear();
        self.largest.resize(rows, lowest);
        self.scores.grow(ROWS_AT_ONCE * STEP_MAX);
    }

    /// One row.
    pub(super) fn row(&mut self, width: usize) -> &mut [f32] {
        self.row.grow(width);
        &mut self.row[..width]
    }

    /// Room for the widened keys and values of a step.
    pub(super) fn widened(&mut self, width: usize) -> (*mut f32, *mut f32) {
        self.keys.grow(STEP_WIDENED_MAX * width);
        self.values.grow(STEP_WIDENED_MAX * width);
        (self.keys.as_mut_ptr(), self.values.as_mut_ptr())
    }

    /// Scores of the rows at work, `STEP_MAX` apart; later their weights.
    #[inline(always)]
    pub(super) fn scores(&mut self) -> *mut f32 {
        self.scores.0.as_mut_ptr().cast()
    }

    /// A row's query.
    #[inline(always)]
    pub(super) fn query(&self, row: usize, width: usize) -> *const f32 {
        self.queries[row * width..].as_ptr()
    }

    /// What a row has gathered.
    #[inline(always)]
    pub(super) fn gathered(&mut self, row: usize, width: usize) -> *mut f32 {
        self.gathered[row * width..].as_mut_ptr()
    }
}

/// Sixteen numbers at a multiple of 64.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sixteen(pub(super) [f32; LANES]);

const ZEROS: Sixteen = Sixteen([0.0; LANES]);

/// Numbers from a multiple of 64 on, whole vectors of them.
pub(super) struct Floats(Vec<Sixteen>);

impl Floats {
    /// None yet.
    pub(super) const EMPTY: Floats = Floats(Vec::new());

    /// To at least so many.
    pub(super) fn grow(&mut self, len: usize) {
        if self.0.len() * LANES < len {
            self.0.resize(len.div_ceil(LANES), ZEROS);
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        // SAFETY: sixteen f32 without padding each (repr C, 64 bytes).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LANES) }
    }
}

impl DerefMut for Floats {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LANES) }
    }
}
