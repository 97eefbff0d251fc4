//! How long to wait before the next attempt: exponential with full jitter.
//!
//! A fleet that loses its broker together must not come back together: each wait is drawn evenly from zero to the
//! ceiling, and the ceiling doubles (the "full jitter" of the AWS Architecture Blog, 2015). A broker that closes its
//! connections has closed them all in the same moment, so the first wait after that is spread wider than after a line
//! that broke; one that says no is left alone for longest.

use std::time::Duration;

/// Bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffOptions {
    /// Ceiling of the first wait; default 500 ms.
    pub base: Duration,
    /// Highest ceiling; default 60 s.
    pub cap: Duration,
    /// Ceiling of the first waits after the broker has closed the connection, `cap` at most; default 10 s.
    pub spread: Duration,
    /// A connection that lived this long starts over from `base`; default 30 s.
    pub stable_after: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            spread: Duration::from_secs(10),
            stable_after: Duration::from_secs(30),
        }
    }
}

/// What ended a connection, or an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The line, or nobody there: this device's own misfortune, as far as it can tell.
    Line,
    /// The broker, in order: it restarts, or sheds its clients; a whole fleet is without it.
    BrokerClosed,
    /// The broker, for a reason that needs time or a person: busy, a quota, no rights, banned.
    HoldOff,
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

    /// The wait after one more failure, drawn evenly: from zero to [`Backoff::ceiling`]; after the broker's closing to
    /// `spread` at least; after its no from half of `cap` to `cap`.
    pub fn failed(&mut self, cause: Cause, rng: &mut fastrand::Rng) -> Duration {
        let (ceiling, cap) = (self.ceiling(), self.options.cap);
        let (least, most) = match cause {
            Cause::Line => (Duration::ZERO, ceiling),
            Cause::BrokerClosed => (Duration::ZERO, ceiling.max(self.options.spread.min(cap))),
            Cause::HoldOff => (cap / 2, cap),
        };
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX - 1);
        self.failures = self.failures.saturating_add(1);
        Duration::from_micros(rng.u64(micros(least)..=micros(most)))
    }

    /// Tells how long the connection that just ended had lived.
    pub fn lived(&mut self, for_how_long: Duration) {
        if for_how_long >= self.options.stable_after {
            self.failures = 0;
        }
    }

    /// The longest that the next wait can be when the line fails.
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
            assert!(backoff.failed(Cause::Line, &mut rng) <= ceiling);
        }
        assert_eq!(ceilings_ms[..9], [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(ceilings_ms[99], 60_000);
    }

    #[test]
    fn only_a_stable_connection_starts_over() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(BackoffOptions::default());
        backoff.failed(Cause::Line, &mut rng);
        backoff.failed(Cause::Line, &mut rng);
        backoff.lived(Duration::from_secs(29));
        assert_eq!(backoff.ceiling(), Duration::from_secs(2));
        backoff.lived(Duration::from_secs(30));
        assert_eq!(backoff.ceiling(), Duration::from_millis(500));
    }

    #[test]
    fn waits_of_a_fleet_are_spread() {
        let mut slots: Vec<_> = fleet(Cause::Line).iter().map(|wait| wait.as_millis() / 50).collect();
        slots.dedup();
        assert!(slots.len() >= 10, "a thousand devices fall into {} of ten slots", slots.len());
    }

    /// First waits of a thousand devices after the same event, in order.
    fn fleet(cause: Cause) -> Vec<Duration> {
        let first =
            |seed| Backoff::new(BackoffOptions::default()).failed(cause, &mut fastrand::Rng::with_seed(seed));
        let mut waits: Vec<_> = (0..1000).map(first).collect();
        waits.sort_unstable();
        waits
    }

    #[test]
    fn a_broker_that_sheds_its_fleet_sees_it_come_back_over_ten_seconds() {
        let waits = fleet(Cause::BrokerClosed);
        let within_a_second = |s: u64| {
            let second = Duration::from_secs(s)..Duration::from_secs(s + 1);
            waits.iter().filter(|wait| second.contains(*wait)).count()
        };
        let busiest = (0..10).map(within_a_second).max().unwrap();
        assert!(busiest < 200, "{busiest} of a thousand come back within one second");
        assert!(waits[999] <= Duration::from_secs(10));
    }

    #[test]
    fn a_no_keeps_everybody_away_for_half_the_longest_wait_at_least() {
        let waits = fleet(Cause::HoldOff);
        assert!(waits[0] >= Duration::from_secs(30) && waits[999] <= Duration::from_secs(60));
    }

    #[test]
    fn no_wait_exceeds_the_cap_however_it_ended() {
        let options = BackoffOptions { cap: Duration::from_secs(2), ..BackoffOptions::default() };
        for cause in [Cause::Line, Cause::BrokerClosed, Cause::HoldOff] {
            let mut backoff = Backoff::new(options);
            let mut rng = fastrand::Rng::with_seed(1);
            assert!((0..1000).all(|_| backoff.failed(cause, &mut rng) <= options.cap), "{cause:?}");
        }
    }
}
