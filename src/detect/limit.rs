//! Configured limits with hysteresis and dwell: the rules' floor for the severity.

use super::{Duty, RateOptions, Reason, Verdict};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// The limits of one channel, in its unit. Absent ones are not watched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LimitOptions {
    /// Above it: at least a warning.
    pub warn_high: Option<f64>,
    /// Above it: critical.
    pub alarm_high: Option<f64>,
    /// Below it: at least a warning.
    pub warn_low: Option<f64>,
    /// Below it: critical.
    pub alarm_low: Option<f64>,
    /// How far back inside a value must be to count as inside again; not negative.
    pub hysteresis: f64,
    /// Event time for which a limit must stay crossed before it counts, in seconds.
    pub dwell_s: u32,
    /// How fast it may change.
    pub rate: RateOptions,
    /// When all of this holds; absent: always.
    pub times: Option<Duty>,
}

/// Watches the limits of one channel.
#[derive(Debug, Clone)]
pub struct Limits {
    options: LimitOptions,
    crossed: Option<Crossing>,
}

impl Limits {
    /// Watches `options`.
    pub const fn new(options: LimitOptions) -> Self {
        Self { options, crossed: None }
    }

    /// Judges one finite value.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Verdict> {
        let now = self.options.crossing(x);
        let hysteresis = self.options.hysteresis;
        let before = self.crossed.filter(|c| now.is_some() || !is_back(x, c.up, c.limit, hysteresis));
        let (side, limit, severity) = match (now, before) {
            (None, None) => {
                self.crossed = None;
                return None;
            }
            (Some(n), _) => n,
            // Inside, but by less than the hysteresis: the weakest crossing of that side goes on.
            (None, Some(c)) => self.options.weakest(c.up).unwrap_or((c.up, c.limit, c.severity)),
        };
        let same = before.filter(|c| c.up == side);
        let since = same.map_or(at, |c| c.since);
        let peak = same.map_or(x, |c| if side { c.peak.max(x) } else { c.peak.min(x) });
        let dwelt = at.micros_since(since) >= i64::from(self.options.dwell_s) * 1_000_000;
        let told = same.is_some_and(|c| c.told);
        self.crossed = Some(Crossing { up: side, limit, severity, since, peak, told: told || dwelt });
        (told || dwelt).then(|| Verdict {
            score: if severity == Severity::Critical { 1.0 } else { 0.9 },
            pattern: if side { Pattern::High } else { Pattern::Low },
            severity,
            reason: Reason::OverLimit { up: side, limit },
            since: Some(since),
            baseline: None,
            peak: Some(peak),
            limit: Some(limit),
            fresh: !told,
        })
    }

    /// Forgets a crossing.
    pub fn release(&mut self) {
        self.crossed = None;
    }
}

impl LimitOptions {
    /// Side (true: high), limit and severity of the gravest limit that `x` is beyond.
    fn crossing(&self, x: f64) -> Option<(bool, f64, Severity)> {
        let above = |limit: Option<f64>| limit.filter(|&l| x > l);
        let below = |limit: Option<f64>| limit.filter(|&l| x < l);
        above(self.alarm_high)
            .map(|l| (true, l, Severity::Critical))
            .or(below(self.alarm_low).map(|l| (false, l, Severity::Critical)))
            .or(above(self.warn_high).map(|l| (true, l, Severity::Warning)))
            .or(below(self.warn_low).map(|l| (false, l, Severity::Warning)))
    }

    fn weakest(&self, up: bool) -> Option<(bool, f64, Severity)> {
        let (warn, alarm) =
            if up { (self.warn_high, self.alarm_high) } else { (self.warn_low, self.alarm_low) };
        warn.map(|l| (up, l, Severity::Warning)).or(alarm.map(|l| (up, l, Severity::Critical)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Crossing {
    up: bool,
    limit: f64,
    severity: Severity,
    since: Wall,
    peak: f64,
    /// The dwell has passed.
    told: bool,
}

/// Whether `x`, which was beyond `limit`, above it if `up`, is inside again by the hysteresis.
pub(super) fn is_back(x: f64, up: bool, limit: f64, hysteresis: f64) -> bool {
    if up { x <= limit - hysteresis } else { x >= limit + hysteresis }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: LimitOptions, xs: &[f64]) -> Vec<Option<Severity>> {
        let mut limits = Limits::new(options);
        let step = |(i, &x): (usize, &f64)| limits.step(Wall::from_secs(i as i64), x).map(|v| v.severity);
        xs.iter().enumerate().map(step).collect()
    }

    const W: Option<Severity> = Some(Severity::Warning);
    const C: Option<Severity> = Some(Severity::Critical);

    #[test]
    fn a_warning_becomes_critical_and_ends_only_beyond_the_hysteresis() {
        let options = LimitOptions {
            warn_high: Some(80.0),
            alarm_high: Some(90.0),
            hysteresis: 2.0,
            ..LimitOptions::default()
        };
        let said = run(options, &[79.0, 81.0, 91.0, 85.0, 79.0, 77.0, 79.0]);
        assert_eq!(said, [None, W, C, W, W, None, None]);
    }

    #[test]
    fn a_limit_crossed_for_less_than_the_dwell_says_nothing() {
        let options = LimitOptions { warn_low: Some(5.0), dwell_s: 2, ..LimitOptions::default() };
        assert_eq!(run(options, &[4.0, 4.0, 6.0, 4.0, 4.0, 4.0]), [None, None, None, None, None, W]);
    }

    #[test]
    fn the_high_and_the_low_side_are_two_crossings() {
        let options = LimitOptions { warn_low: Some(0.0), alarm_high: Some(10.0), ..LimitOptions::default() };
        let mut limits = Limits::new(options);
        let up = limits.step(Wall(0), 11.0).unwrap();
        let down = limits.step(Wall(1), -1.0).unwrap();
        assert_eq!((up.pattern, down.pattern, down.peak), (Pattern::High, Pattern::Low, Some(-1.0)));
        assert!(up.fresh && down.fresh);
    }
}
