//! No value any more. Asked by the clock, since what is missing brings no reading.

use super::{Reason, Verdict};
use crate::reading::{Pattern, Severity};

/// Learns the usual interval between the values of one channel.
#[derive(Debug, Clone, Default)]
pub struct Silence {
    values: u32,
    mean_us: f64,
    longest_us: f64,
    told: bool,
}

impl Silence {
    /// A value came `interval_us` after the one before, in event time; negative intervals are ignored.
    pub fn heard(&mut self, interval_us: i64) {
        let gap_us = interval_us.max(0) as f64;
        if !std::mem::replace(&mut self.told, false) && gap_us > 0.0 && gap_us < GAP_US_MAX {
            self.values = (self.values + 1).min(VALUES_MAX);
            self.mean_us += (gap_us - self.mean_us) / f64::from(self.values);
            self.longest_us = (self.longest_us * 0.999).max(gap_us);
        }
    }

    /// Usual interval, 0 before anything is known.
    pub fn interval_us(&self) -> i64 {
        self.mean_us as i64
    }

    /// How long a silence must last to be told, once enough is learnt.
    pub fn patience_us(&self) -> Option<i64> {
        let us = (self.mean_us * MEANS).max(self.longest_us * LONGESTS).max(SILENCE_US_MIN);
        (self.values >= VALUES_MIN).then_some(us as i64)
    }

    /// Judges a silence that has lasted for `silent_us`.
    pub fn tick(&mut self, silent_us: i64) -> Option<Verdict> {
        let patience_us = self.patience_us()?;
        if silent_us < patience_us {
            return None;
        }
        Some(Verdict {
            score: 1.0 - 0.5 * (patience_us as f32 / silent_us as f32),
            pattern: Pattern::Missing,
            severity: Severity::Warning,
            reason: Reason::Silent {
                for_s: silent_us as u64 / 1_000_000,
                usual_ms: (self.mean_us / 1000.0) as u64,
            },
            since: None,
            baseline: None,
            peak: None,
            limit: None,
            fresh: !std::mem::replace(&mut self.told, true),
        })
    }
}

/// So many usual intervals, and so many times the longest one.
const MEANS: f64 = 10.0;
const LONGESTS: f64 = 3.0;
/// No silence is shorter.
const SILENCE_US_MIN: f64 = 5e6;
/// Longer gaps are a clock that jumped, or a device that was off.
const GAP_US_MAX: f64 = 7.0 * 86_400e6;
const VALUES_MIN: u32 = 20;
const VALUES_MAX: u32 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn regular() -> Silence {
        let mut silence = Silence::default();
        (0..30).for_each(|_| silence.heard(1_000_000));
        silence
    }

    #[test]
    fn ten_missed_intervals_are_a_silence_and_nine_are_not() {
        let mut silence = regular();
        assert!(silence.tick(9_900_000).is_none());
        let verdict = silence.tick(10_100_000).unwrap();
        assert_eq!((verdict.pattern, verdict.fresh), (Pattern::Missing, true));
        assert!(!silence.tick(11_000_000).unwrap().fresh);
    }

    #[test]
    fn a_channel_that_was_heard_too_little_is_never_missing() {
        let mut silence = Silence::default();
        silence.heard(1_000_000);
        assert!(silence.tick(i64::MAX).is_none());
    }

    #[test]
    fn the_gap_that_was_told_is_not_learnt_as_usual() {
        let mut silence = regular();
        let before = silence.patience_us();
        silence.tick(3_600_000_000);
        silence.heard(3_600_000_000);
        assert_eq!(silence.patience_us(), before);
    }
}
