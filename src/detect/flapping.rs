//! A two-state channel that switches far more often than it used to: a loose contact, a weak link.

use super::{Reason, Verdict};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// Watches the time that the last switches took.
#[derive(Debug, Clone)]
pub struct Flapping {
    readings: u32,
    value: f64,
    last_at: Wall,
    /// Times of the last switches, a ring.
    times: [Wall; BURST],
    /// Switches under the ring's eye, and those of the burst under way.
    switches: u64,
    burst: u32,
    /// Quiet event time and switches learnt so far.
    quiet_us: i64,
    quiet_switches: u32,
}

impl Flapping {
    /// Nothing learnt yet.
    pub const fn new() -> Self {
        Self {
            readings: 0,
            value: f64::NAN,
            last_at: Wall(0),
            times: [Wall(0); BURST],
            switches: 0,
            burst: 0,
            quiet_us: 0,
            quiet_switches: 0,
        }
    }

    /// Judges one finite value of a two-state channel.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Verdict> {
        self.readings = self.readings.saturating_add(1);
        let switched = x != self.value && !self.value.is_nan();
        // A clock that jumps by days must not pass for days of rest.
        let elapsed_us = if self.value.is_nan() { 0 } else { at.micros_since(self.last_at).clamp(0, DAY_US) };
        (self.value, self.last_at) = (x, at);
        if !switched {
            self.learn(elapsed_us, false);
            return None;
        }
        let first = self.times[(self.switches % BURST as u64) as usize];
        self.times[(self.switches % BURST as u64) as usize] = at;
        self.switches += 1;
        let within_us = at.micros_since(first);
        let usual_us = self.quiet_us / i64::from(self.quiet_switches + 1);
        let hasty = self.switches > BURST as u64
            && self.readings >= READINGS_MIN
            && (0..usual_us / HASTE * BURST as i64).contains(&within_us)
            && self.burst < BURST_FOR_GOOD;
        if !hasty {
            self.burst = 0;
            self.learn(elapsed_us, true);
            return None;
        }
        self.burst += 1;
        Some(Verdict {
            score: 1.0 - 0.5 * (within_us * HASTE / (usual_us.max(1) * BURST as i64)) as f32,
            pattern: Pattern::Flapping,
            severity: Severity::Warning,
            reason: Reason::Switching {
                switches: BURST as u32,
                within_s: within_us as u64 / 1_000_000,
                usual_s: usual_us as u64 / 1_000_000,
            },
            since: Some(first),
            baseline: None,
            peak: None,
            limit: None,
            fresh: true,
        })
    }

    /// Forgets the switches under way.
    pub fn release(&mut self) {
        self.switches = 0;
        self.burst = 0;
        self.value = f64::NAN;
    }

    fn learn(&mut self, elapsed_us: i64, switched: bool) {
        if self.burst > 0 && !switched {
            return;
        }
        self.quiet_us = self.quiet_us.saturating_add(elapsed_us);
        self.quiet_switches = self.quiet_switches.saturating_add(u32::from(switched));
        // Half of the past is forgotten at a time, so that a changed habit is learnt in the end.
        if self.quiet_switches >= 1000 || self.quiet_us > 30 * DAY_US {
            (self.quiet_us, self.quiet_switches) = (self.quiet_us / 2, self.quiet_switches / 2);
        }
    }
}

impl Default for Flapping {
    fn default() -> Self {
        Self::new()
    }
}

/// Switches that make a burst.
const BURST: usize = 8;
/// A burst is so many times faster than usual.
const HASTE: i64 = 6;
/// Readings to see first.
const READINGS_MIN: u32 = 50;
/// Switches of one burst after which that is how the channel is.
const BURST_FOR_GOOD: u32 = 2000;
const DAY_US: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(period: impl Fn(i64) -> i64, seconds: i64) -> Vec<i64> {
        let mut flapping = Flapping::new();
        let mut state = false;
        let mut next = 0;
        let mut out = Vec::new();
        for s in 0..seconds {
            if s >= next {
                (state, next) = (!state, s + period(s));
            }
            if flapping.step(Wall::from_secs(s), f64::from(u8::from(state))).is_some() {
                out.push(s);
            }
        }
        out
    }

    #[test]
    fn a_door_that_opens_now_and_then_is_calm_and_a_loose_contact_is_not() {
        let period = |s| if (20_000..20_300).contains(&s) { 5 } else { 400 };
        let flagged = flags(period, 40_000);
        assert!(flagged.len() > 40 && flagged.iter().all(|s| (20_000..20_800).contains(s)), "{flagged:?}");
    }

    #[test]
    fn a_channel_that_always_switches_fast_is_calm() {
        assert_eq!(flags(|s| 3 + s % 3, 20_000), [0; 0]);
    }
}
