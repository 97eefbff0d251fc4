//! A configured bound on how fast a value may change: part of the rules' floor for the severity.

use super::limit::is_back;
use super::{Reason, Verdict};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// The bounds of one channel, in its unit per minute and in either direction. Absent ones are not watched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RateOptions {
    /// Faster: at least a warning.
    pub warn: Option<f64>,
    /// Faster: critical.
    pub alarm: Option<f64>,
}

/// Watches the change over the last half minute to a minute, or from one reading to the next where they are farther apart.
#[derive(Debug, Clone)]
pub struct Rate {
    options: RateOptions,
    change: Change,
    told: bool,
}

/// Measures how fast a value changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    /// What is compared with, and what will be.
    from: Option<(Wall, f64)>,
    next: (Wall, f64),
}

/// How fast a value has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed {
    /// Since then,
    pub since: Wall,
    /// from this value,
    pub from: f64,
    /// by so much per minute.
    pub per_min: f64,
}

impl Change {
    /// Takes one finite value; none before the second.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Changed> {
        if self.from.is_none() {
            (self.from, self.next) = (Some((at, x)), (at, x));
            return None;
        }
        if at.micros_since(self.next.0) >= HALF_US {
            (self.from, self.next) = (Some(self.next), (at, x));
        }
        let (since, from) = self.from?;
        let minutes = at.micros_since(since) as f64 / 60e6;
        let per_min = (x - from) / minutes.max(HALF_US as f64 / 60e6);
        per_min.is_finite().then_some(Changed { since, from, per_min })
    }
}

impl Rate {
    /// Watches `options`.
    pub const fn new(options: RateOptions) -> Self {
        Self { options, change: Change { from: None, next: (Wall(0), 0.0) }, told: false }
    }

    /// Judges one finite value.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Verdict> {
        let Changed { since, from, per_min } = self.change.step(at, x)?;
        let beyond =
            |bound: Option<f64>, severity| bound.filter(|b| per_min.abs() > *b).map(|b| (b, severity));
        let crossed = beyond(self.options.alarm, Severity::Critical)
            .or_else(|| beyond(self.options.warn, Severity::Warning));
        let fresh = crossed.is_some() && !self.told;
        // Around the bound it is one crossing.
        let least = self.options.warn.or(self.options.alarm).unwrap_or(0.0);
        let lasts = self.told && !is_back(per_min.abs(), true, least, hysteresis(least));
        self.told = crossed.is_some() || lasts;
        let (bound, severity) = crossed?;
        Some(Verdict {
            score: if severity == Severity::Critical { 1.0 } else { 0.9 },
            pattern: if per_min > 0.0 { Pattern::Rise } else { Pattern::Fall },
            severity,
            reason: Reason::TooFast { per_min, bound },
            since: Some(since),
            baseline: Some(from),
            peak: Some(x),
            limit: None,
            fresh,
        })
    }

    /// Forgets what it compares with.
    pub fn release(&mut self) {
        (self.change.from, self.told) = (None, false);
    }
}

/// How far back a rate must be to be harmless again: at half of the bound.
pub(super) fn hysteresis(bound: f64) -> f64 {
    bound.abs() / 2.0
}

/// The shortest time that a change is measured over, in microseconds: noise from one reading to the next is no rate.
const HALF_US: i64 = 30_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Severities told by second, of a value that climbs by `per_min` from second 100 to 220.
    fn told(per_min: f64, step_s: usize) -> Vec<(i64, Severity)> {
        let mut rate = Rate::new(RateOptions { warn: Some(2.0), alarm: Some(10.0) });
        let mut fresh = Vec::new();
        for s in (0..400).step_by(step_s) {
            let x =
                20.0 + per_min / 60.0 * (s as f64).clamp(100.0, 220.0) + if s % 2 == 0 { 0.4 } else { 0.0 };
            fresh.extend(rate.step(Wall::from_secs(s), x).filter(|v| v.fresh).map(|v| (s, v.severity)));
        }
        fresh
    }

    #[test]
    fn a_climb_faster_than_the_bound_is_told_once_and_noise_is_none() {
        assert_eq!(told(1.0, 1), []);
        let fast = told(4.0, 1);
        assert!(
            fast.len() == 1 && (100..150).contains(&fast[0].0) && fast[0].1 == Severity::Warning,
            "{fast:?}"
        );
        assert!(rate_of(-4.0) == Pattern::Fall && rate_of(4.0) == Pattern::Rise);
    }

    fn rate_of(per_min: f64) -> Pattern {
        let mut rate = Rate::new(RateOptions { warn: Some(2.0), alarm: None });
        let step = |s: i64| rate.step(Wall::from_secs(s), per_min / 60.0 * s as f64);
        (0..100).filter_map(step).next().unwrap().pattern
    }

    #[test]
    fn readings_minutes_apart_are_compared_one_by_one() {
        let mut rate = Rate::new(RateOptions { warn: None, alarm: Some(10.0) });
        assert_eq!(rate.step(Wall::from_secs(0), 0.0), None);
        assert_eq!(rate.step(Wall::from_secs(600), 50.0), None);
        let verdict = rate.step(Wall::from_secs(1200), 250.0).unwrap();
        assert_eq!(verdict.reason, Reason::TooFast { per_min: 20.0, bound: 10.0 });
        rate.release();
        assert_eq!(rate.step(Wall::from_secs(1201), 900.0), None);
    }
}
