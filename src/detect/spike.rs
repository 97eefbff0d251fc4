//! A value far from its neighbours, although the range has seen it: the distance to the median of the last few.

use super::{Reason, Verdict, squash};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// The detector of one stream.
#[derive(Debug, Clone)]
pub struct Spike {
    recent: [f64; NEAR],
    readings: u64,
    /// Usual distance to the median, and the farthest that is known, both slowly forgetting.
    usual: f64,
    farthest: f64,
}

impl Spike {
    /// Nothing learnt yet.
    pub const fn new() -> Self {
        Self { recent: [0.0; NEAR], readings: 0, usual: 0.0, farthest: 0.0 }
    }

    /// Judges one finite value.
    pub fn step(&mut self, _at: Wall, value: f64) -> Option<Verdict> {
        let x = value.clamp(-VALUE_MAX, VALUE_MAX);
        let slot = (self.readings % NEAR as u64) as usize;
        let near = self.median();
        self.recent[slot] = x;
        self.readings += 1;
        if self.readings <= NEAR as u64 {
            return None;
        }
        let distance = (x - near).abs();
        let bound = (FARTHER * self.farthest).max(USUALS * self.usual);
        let strength = distance / bound.max(f64::MIN_POSITIVE);
        self.usual += (distance - self.usual) / (self.readings as f64).min(MEMORY);
        self.farthest = (self.farthest * (1.0 - 1.0 / FADE)).max(distance);
        (self.readings > READINGS_MIN && strength > 1.0).then(|| Verdict {
            score: squash(strength),
            pattern: Pattern::Spike,
            severity: Severity::Info,
            reason: Reason::Jumped { from: near, usual: self.usual },
            since: None,
            baseline: Some(near),
            peak: Some(value),
            limit: None,
            fresh: true,
        })
    }

    fn median(&self) -> f64 {
        let mut sorted = self.recent;
        sorted.sort_by(f64::total_cmp);
        sorted[NEAR / 2]
    }
}

impl Default for Spike {
    fn default() -> Self {
        Self::new()
    }
}

/// Larger values are judged as if they were this large.
const VALUE_MAX: f64 = 1e15;
/// Neighbours looked at.
const NEAR: usize = 9;
/// Readings to see first.
const READINGS_MIN: u64 = crate::limits::NOVELTY_LEARN_READINGS;
/// A spike is so many times farther than every one before, and than what is usual.
const FARTHER: f64 = 1.5;
const USUALS: f64 = 12.0;
/// Readings that the usual distance is averaged over, and after which a farthest one has faded.
const MEMORY: f64 = 1000.0;
const FADE: f64 = 20_000.0;
