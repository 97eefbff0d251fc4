//! A value that no longer moves although it used to: a frozen sensor, a dead converter.

use super::{Reason, Verdict};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// Watches for how long the value has stayed exactly where it was.
#[derive(Debug, Clone)]
pub struct Stuck {
    value: f64,
    since: Wall,
    run: u32,
    /// Completed runs, up to what is enough to judge.
    moves: u32,
    /// Longest rest that is usual, in readings.
    usual: u32,
    /// How often it was stuck before.
    times: u32,
    told: bool,
}

impl Stuck {
    /// Nothing learnt yet.
    pub const fn new() -> Self {
        Self { value: f64::NAN, since: Wall(0), run: 0, moves: 0, usual: 1, times: 0, told: false }
    }

    /// Judges one finite value.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Verdict> {
        if x != self.value {
            self.learn_run();
            (self.value, self.since, self.run, self.told) = (x, at, 1, false);
            return None;
        }
        self.run = self.run.saturating_add(1);
        let rest_us = at.micros_since(self.since);
        let long = self.run >= (self.usual.saturating_mul(USUAL_FACTOR)).max(READINGS_MIN);
        if self.moves < MOVES_MIN || !long || rest_us < REST_US_MIN {
            return None;
        }
        let fresh = !std::mem::replace(&mut self.told, true);
        Some(Verdict {
            score: 1.0 - 0.5 * (self.usual * USUAL_FACTOR).max(READINGS_MIN) as f32 / self.run as f32,
            pattern: Pattern::Stuck,
            severity: Severity::Warning,
            reason: Reason::Flat { for_s: rest_us as u64 / 1_000_000, usual_readings: self.usual + 1 },
            since: Some(self.since),
            baseline: None,
            peak: Some(x),
            limit: None,
            fresh,
        })
    }

    /// Forgets the run under way.
    pub fn release(&mut self) {
        self.run = 0;
        self.value = f64::NAN;
        self.told = false;
    }

    fn learn_run(&mut self) {
        self.moves = (self.moves + 1).min(MOVES_MIN);
        if self.told {
            // A machine that rests every night is told twice; from the third night on that is usual.
            self.times = (self.times + 1).min(10);
            self.usual = self.usual.max((u64::from(self.run) * u64::from(self.times) / 10) as u32);
        } else {
            self.usual = self.usual.max(self.run);
        }
        self.usual = self.usual.min(u32::MAX / USUAL_FACTOR);
    }
}

impl Default for Stuck {
    fn default() -> Self {
        Self::new()
    }
}

/// Shortest rest worth a word, in readings and microseconds.
const READINGS_MIN: u32 = 20;
const REST_US_MIN: i64 = 30_000_000;
/// So many times the longest usual rest.
const USUAL_FACTOR: u32 = 5;
/// Moves to see first.
const MOVES_MIN: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings every 5 s; returns the readings at which a new rest was told.
    fn told(xs: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut stuck = Stuck::new();
        let mut fresh = |(i, x): (usize, f64)| {
            stuck.step(Wall::from_secs(5 * i as i64), x).is_some_and(|v| v.fresh).then_some(i)
        };
        xs.enumerate().filter_map(&mut fresh).collect()
    }

    fn lively(i: usize) -> f64 {
        (i % 7) as f64
    }

    #[test]
    fn a_lively_value_that_freezes_is_told_once() {
        let xs = (0..400).map(|i| if (100..200).contains(&i) { 3.5 } else { lively(i) });
        assert_eq!(told(xs), [119]);
    }

    #[test]
    fn a_value_that_always_rested_long_is_not_stuck() {
        assert_eq!(told((0..5000).map(|i| (i / 60) as f64)), [0; 0]);
    }

    #[test]
    fn a_machine_that_rests_every_night_is_soon_understood() {
        let night = |i: usize| if i % 1000 < 300 { 0.0 } else { lively(i) };
        assert!(told((0..20_000).map(night)).len() <= 3);
    }
}
