//! Whether a backend that failed is asked again: back-off, then quarantine. Pure: time is an argument.

use std::time::Duration;

use crate::limits;
use crate::reading::named_enum;
use crate::time::Mono;

named_enum! {
    /// Where a backend stands.
    State {
        /// Nothing of it was found.
        Absent = "absent",
        /// Its device was found; nothing was loaded.
        Probed = "probed",
        /// Its library and a model are loaded.
        Loaded = "loaded",
        /// One operator claimed at least, golden vectors within tolerance, not slower than the CPU: what a claim is worth, the time tells.
        Verified = "verified",
        /// It answers.
        Serving = "serving",
        /// It failed too often; the CPU answers until the agent is restarted.
        Quarantined = "quarantined",
    }
}

/// The failures of one backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    /// In a row.
    failures: u32,
    /// Before this it is not asked.
    not_before: Option<Mono>,
}

impl Health {
    /// Whether it may be asked at `now`.
    pub fn may_try(&self, now: Mono) -> bool {
        !self.is_quarantined() && self.not_before.is_none_or(|until| now >= until)
    }

    /// It answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed at `now`; returns whether it is in quarantine from now on.
    pub fn failed(&mut self, now: Mono) -> bool {
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(16);
        let wait_ms = (limits::BACKEND_BACKOFF_MS_MIN << doublings).min(limits::BACKEND_BACKOFF_MS_MAX);
        self.not_before = Some(now + Duration::from_millis(wait_ms));
        self.is_quarantined()
    }

    /// The same, its wait over.
    #[cfg(test)]
    pub fn as_if_it_may_try(self) -> Self {
        Self { not_before: None, ..self }
    }

    /// Whether it failed too often.
    pub const fn is_quarantined(&self) -> bool {
        self.failures >= limits::BACKEND_FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Mono {
        Mono(ms * 1000)
    }

    #[test]
    fn waits_double_and_end_in_quarantine() {
        let mut health = Health::default();
        let mut now = 0;
        let mut waits = Vec::new();
        while !health.failed(at(now)) {
            let begun = now;
            while !health.may_try(at(now)) {
                now += limits::BACKEND_BACKOFF_MS_MIN;
            }
            waits.push((now - begun) / limits::BACKEND_BACKOFF_MS_MIN);
        }
        assert_eq!(waits, [1, 2, 4, 8]);
        assert_eq!(waits.len() + 1, limits::BACKEND_FAILURES_MAX as usize);
        assert!(!health.may_try(at(u64::MAX / 2000)));
    }

    #[test]
    fn an_answer_forgives_what_was_before() {
        let mut health = Health::default();
        (1..limits::BACKEND_FAILURES_MAX).for_each(|_| assert!(!health.failed(at(0))));
        health.succeeded();
        assert!(health.may_try(at(0)) && !health.failed(at(0)));
    }
}
