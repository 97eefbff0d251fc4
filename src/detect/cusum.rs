//! A mean that creeps away within its own range: the cumulated sum of Page (1954), on means of blocks.
//!
//! Neighbouring readings resemble each other, so single ones would make the sum wander. Blocks are an hour long at
//! least, and their own spread over days is the scale: a stream that breathes by the day has a large one. What climbs
//! within hours is [`super::Novelty`]'s.

use super::{Reason, Verdict, squash};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// The detector of one stream.
#[derive(Debug, Clone, Default)]
pub struct Cusum {
    block: Option<(Wall, f64)>,
    count: u32,
    /// Blocks learnt, their mean and their forgetting variance.
    blocks: u32,
    mean: f64,
    variance: f64,
    up: Side,
    down: Side,
}

/// What has cumulated on one side, and since when.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    sum: f64,
    since: Wall,
}

impl Cusum {
    /// Judges one finite value.
    pub fn step(&mut self, at: Wall, value: f64) -> Option<Verdict> {
        let x = value.clamp(-VALUE_MAX, VALUE_MAX);
        let (begun, mean) = self.block.unwrap_or((at, x));
        self.count = self.count.saturating_add(1);
        let mean = mean + (x - mean) / f64::from(self.count);
        self.block = Some((begun, mean));
        if self.count < BLOCK_READINGS || at.micros_since(begun) < BLOCK_US {
            return None;
        }
        (self.block, self.count) = (None, 0);
        self.close(begun, mean)
    }

    /// Drops what has cumulated: the channel's clock was set back.
    pub fn release(&mut self) {
        (self.block, self.count) = (None, 0);
        (self.up, self.down) = (Side::default(), Side::default());
    }

    fn close(&mut self, begun: Wall, mean: f64) -> Option<Verdict> {
        let sigma = self.variance.sqrt() + SIGMA_MIN_SHARE * self.mean.abs() + f64::MIN_POSITIVE;
        // One wild block is no drift.
        let z = ((mean - self.mean) / sigma).clamp(-Z_MAX, Z_MAX);
        let verdict = if self.blocks >= BLOCKS_MIN { self.cumulate(begun, mean, z) } else { None };
        self.blocks = (self.blocks + 1).min(BLOCKS_MAX);
        let share = 1.0 / f64::from(self.blocks);
        let deviation = mean - self.mean;
        self.mean += share * deviation;
        self.variance += share * (deviation * (mean - self.mean) - self.variance);
        verdict
    }

    fn cumulate(&mut self, begun: Wall, mean: f64, z: f64) -> Option<Verdict> {
        self.up.add(z - SLACK, begun);
        self.down.add(-z - SLACK, begun);
        let up = self.up.sum >= self.down.sum;
        let side = if up { self.up } else { self.down };
        if side.sum < DECISION {
            return None;
        }
        let verdict = Verdict {
            score: squash(side.sum / DECISION),
            pattern: if up { Pattern::Rise } else { Pattern::Fall },
            severity: Severity::Info,
            reason: Reason::Drifted { up, from: self.mean },
            since: Some(side.since),
            baseline: Some(self.mean),
            peak: Some(mean),
            limit: None,
            fresh: true,
        };
        // From here on the new level is the usual one.
        (self.up, self.down) = (Side::default(), Side::default());
        (self.mean, self.blocks) = (mean, BLOCKS_MIN);
        Some(verdict)
    }
}

impl Side {
    fn add(&mut self, z: f64, begun: Wall) {
        if self.sum <= 0.0 {
            self.since = begun;
        }
        self.sum = (self.sum + z).max(0.0);
    }
}

/// Larger values are judged as if they were this large.
const VALUE_MAX: f64 = 1e15;
/// Readings and microseconds that a block has at least.
const BLOCK_READINGS: u32 = 32;
const BLOCK_US: i64 = 3_600_000_000;
/// Blocks to see first, and blocks that the usual is averaged over.
const BLOCKS_MIN: u32 = 48;
const BLOCKS_MAX: u32 = 256;
/// Standard deviations of a block that are no drift.
const SLACK: f64 = 1.0;
/// Cumulated standard deviations that are one.
const DECISION: f64 = 12.0;
/// Most that one block adds.
const Z_MAX: f64 = 4.0;
/// A spread below this share of the mean is rounding.
const SIGMA_MIN_SHARE: f64 = 1e-9;
