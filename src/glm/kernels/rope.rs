//! Rotary embedding: where in its sequence a token is, said by turning pairs of its queries and keys.
//!
//! GLM turns *neighbouring* pairs `(x[2i], x[2i + 1])` of the first `rotary_dim` elements of a head by the angle
//! `position * theta^(-2i / rotary_dim)`; the other elements pass. All in f32, as the models were trained.

use std::fmt;
use std::sync::OnceLock;

/// Cosines and sines of all angles; computed when a position is first asked for, 64 positions at a time.
pub struct RopeTable {
    frequencies: Vec<f32>,
    tokens_max: usize,
    blocks: Vec<OnceLock<Box<[f32]>>>,
}

const BLOCK_TOKENS: usize = 64;

impl RopeTable {
    /// For the first `rotary_dim` elements of a head (an even number) and positions below `tokens_max`.
    ///
    /// # Panics
    /// Where `rotary_dim` is odd.
    pub fn new(rotary_dim: usize, theta: f32, tokens_max: usize) -> RopeTable {
        assert!(rotary_dim.is_multiple_of(2), "elements are turned in pairs, not {rotary_dim}");
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / rotary_dim as f32;
            // The power correctly rounded, which libraries in f32 come within one bit of.
            1.0 / (f64::from(theta).powf(f64::from(exponent)) as f32)
        };
        RopeTable {
            frequencies: (0..rotary_dim / 2).map(frequency).collect(),
            tokens_max,
            blocks: (0..tokens_max.div_ceil(BLOCK_TOKENS)).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Elements of a head that are turned.
    pub fn rotary_dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// How many positions there are.
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// Cosine and sine of every pair in turn.
    ///
    /// # Panics
    /// Where `position` is not below `tokens_max`.
    pub(super) fn row(&self, position: usize) -> &[f32] {
        let block = self.blocks[position / BLOCK_TOKENS].get_or_init(|| {
            let first = position / BLOCK_TOKENS * BLOCK_TOKENS;
            let angles = (first..first + BLOCK_TOKENS)
                .flat_map(|position| self.frequencies.iter().map(move |f| position as f32 * f));
            angles.flat_map(|angle| [angle.cos(), angle.sin()]).collect()
        });
        &block[position % BLOCK_TOKENS * self.rotary_dim()..][..self.rotary_dim()]
    }
}

impl fmt::Debug for RopeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.frequencies.get(1).copied().unwrap_or(1.0);
        write!(f, "rotation of {} elements, second frequency {base}", self.rotary_dim())
    }
}

/// Turns the first `row.len()` elements of `x`.
#[inline(always)]
pub(super) fn turn(x: &mut [f32], row: &[f32]) {
    let ((pairs, _), (row, _)) = (x.as_chunks_mut(), row.as_chunks());
    for ([a, b], [cos, sin]) in pairs.iter_mut().zip(row) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_neighbours_and_turn_by_position_times_frequency() {
        let table = RopeTable::new(8, 10_000.0, 200);
        for position in [0, 1, 63, 64, 199] {
            let mut x: Vec<f32> = (0..12).map(|i| i as f32 - 5.5).collect();
            let before = x.clone();
            turn(&mut x, table.row(position));
            for i in 0..4 {
                let angle = position as f64 * 10_000_f64.powf(-2.0 * i as f64 / 8.0);
                let (a, b) = (f64::from(before[2 * i]), f64::from(before[2 * i + 1]));
                let want = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()];
                for (got, want) in x[2 * i..].iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 1e-4, "{position} {i}: {got} {want}");
                }
            }
            assert_eq!(x[8..], before[8..]);
        }
    }

    #[test]
    #[should_panic]
    fn there_is_no_row_behind_the_last() {
        RopeTable::new(4, 10_000.0, 64).row(64);
    }
}
