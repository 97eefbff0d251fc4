//! How long to wait before the next attempt: exponential with full jitter.
//!
//! A fleet that loses its broker together must not come back together: each wait is drawn evenly from zero to the
//! ceiling, and the ceiling doubles (the "full jitter" of the AWS Architecture Blog, 2015).

use std::time::Duration;

/// Bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffOptions {
    /// Ceiling of the first wait; default 500 ms.
    pub base: Duration,
    /// Highest ceiling; default 60 s.
    pub cap: Duration,
    /// A connection that lived this long starts over from `base`; default 30 s.
    pub stable_after: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            stable_after: Duration::from_secs(30),
        }
    }
}

/// Counts failures and draws waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    options: BackoffOptions,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub const fn new(options: BackoffOptions) -> Self {
        Self { options, failures: 0 }
    }

    /// The wait after one more failure, evenly from zero to [`Backoff::ceiling`].
    pub fn failed(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let ceiling_us = u64::try_from(self.ceiling().as_micros()).unwrap_or(u64::MAX - 1);
        self.failures = self.failures.saturating_add(1);
        Duration::from_micros(rng.u64(0..=ceiling_us))
    }

    /// Tells how long the connection that just ended had lived.
    pub fn lived(&mut self, for_how_long: Duration) {
        if for_how_long >= self.options.stable_after {
            self.failures = 0;
        }
    }

    /// The longest that the next wait can be.
    pub fn ceiling(&self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.options.base.saturating_mul(factor).min(self.options.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap_and_waits_stay_below_them() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(BackoffOptions::default());
        let mut ceilings_ms = Vec::new();
        for _ in 0..100 {
            let ceiling = backoff.ceiling();
            ceilings_ms.push(ceiling.as_millis());
            assert!(backoff.failed(&mut rng) <= ceiling);
        }
        assert_eq!(ceilings_ms[..9], [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(ceilings_ms[99], 60_000);
    }

    #[test]
    fn only_a_stable_connection_starts_over() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(BackoffOptions::default());
        backoff.failed(&mut rng);
        backoff.failed(&mut rng);
        backoff.lived(Duration::from_secs(29));
        assert_eq!(backoff.ceiling(), Duration::from_secs(2));
        backoff.lived(Duration::from_secs(30));
        assert_eq!(backoff.ceiling(), Duration::from_millis(500));
    }

    #[test]
    fn waits_of_a_fleet_are_spread() {
        let mut waits: Vec<_> = (0..1000)
            .map(|seed| {
                let mut backoff = Backoff::new(BackoffOptions::default());
                backoff.failed(&mut fastrand::Rng::with_seed(seed)).as_millis() / 50
            })
            .collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() >= 10, "a thousand devices fall into {} of ten slots", waits.len());
    }
}
