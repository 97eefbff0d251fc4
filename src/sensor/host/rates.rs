//! Counters into rates.

use std::collections::HashMap;

use super::files::CpuTimes;
use crate::limits;
use crate::time::Mono;

/// The previous look at every counter.
#[derive(Default)]
pub(super) struct Rates {
    cpu: Option<CpuTimes>,
    counters: HashMap<String, (u64, Mono)>,
}

impl Rates {
    /// Percent of time that all cores together were busy since the previous look.
    pub(super) fn cpu(&mut self, times: CpuTimes) -> Option<f64> {
        let before = self.cpu.replace(times)?;
        let total = times.total.checked_sub(before.total).filter(|ticks| *ticks > 0)?;
        // The kernel's idle time may step back a little, and then more than all would be busy.
        let busy = times.busy.saturating_sub(before.busy).min(total);
        Some(100.0 * busy as f64 / total as f64)
    }

    /// Growth per second since the previous look; nothing at the first look or after the counter began anew.
    pub(super) fn per_second(&mut self, name: &str, total: u64, now: Mono) -> Option<f64> {
        let Some(entry) = self.counters.get_mut(name) else {
            if self.counters.len() < limits::CHANNELS_MAX {
                self.counters.insert(name.to_owned(), (total, now));
            }
            return None;
        };
        let (before, then) = std::mem::replace(entry, (total, now));
        let seconds = now.since(then).as_secs_f64();
        let grown = total.checked_sub(before).filter(|_| seconds > 0.0)?;
        Some(grown as f64 / seconds)
    }

    /// Drops counters that the look at `now` did not find.
    pub(super) fn forget_before(&mut self, now: Mono) {
        self.counters.retain(|_, (_, seen)| *seen == now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks_and_survives_a_counter_that_began_anew() {
        let mut rates = Rates::default();
        let mut look = |total, s: u64| rates.per_second("x", total, Mono(s * 1_000_000));
        assert_eq!(
            [look(1000, 1), look(3000, 3), look(10, 4), look(20, 4), look(60, 6)],
            [None, Some(1000.0), None, None, Some(20.0)]
        );
    }

    #[test]
    fn processor_load_stays_between_nothing_and_everything() {
        let mut rates = Rates::default();
        let mut look = |busy, total| rates.cpu(CpuTimes { busy, total });
        assert_eq!(
            [look(10, 100), look(60, 200), look(190, 300), look(180, 400), look(180, 400)],
            [None, Some(50.0), Some(100.0), Some(0.0), None]
        );
    }
}
