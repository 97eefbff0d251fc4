//! Whose time a source lives in, and whether somebody has set the wall clock.

use crate::clock;
use crate::sensor::SourceOptions;
use crate::time::{Stamp, Wall};

/// The clock of one source.
pub(super) struct SourceClock {
    pub name: String,
    /// A recording has the time of its newest row; everything else has ours.
    pub recorded: bool,
    newest: Option<Wall>,
    /// Nothing more will come.
    pub ended: bool,
}

impl SourceClock {
    pub fn new(name: &str, options: &SourceOptions) -> Self {
        let recorded = matches!(options, SourceOptions::Replay(_));
        Self { name: name.to_owned(), recorded, newest: None, ended: false }
    }

    /// Takes note of a reading's event time.
    pub fn heard(&mut self, at: Wall) {
        self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
    }

    /// Its time now; none once it has ended, or before the first row of a recording.
    pub fn now(&self) -> Option<Wall> {
        match (self.ended, self.recorded) {
            (true, _) => None,
            (false, true) => self.newest,
            (false, false) => Some(clock::wall()),
        }
    }
}

/// Notices when the wall clock is set while the program runs.
///
/// The kernel slews both clocks alike, so that their difference moves only when somebody sets the one for people: a
/// gateway without a battery does that at every start, as soon as it has a line.
pub(super) struct StepWatch {
    /// Wall time less monotonic time, in microseconds.
    offset_us: i64,
}

impl StepWatch {
    pub fn new(now: &Stamp) -> Self {
        Self { offset_us: offset_us(now) }
    }

    /// By how many microseconds the clock was set since the last look, negative is back; none below [`STEP_US_MIN`].
    pub fn look(&mut self, now: &Stamp) -> Option<i64> {
        let offset_us = offset_us(now);
        let step_us = offset_us.saturating_sub(std::mem::replace(&mut self.offset_us, offset_us));
        (step_us.unsigned_abs() >= STEP_US_MIN).then_some(step_us)
    }
}

fn offset_us(now: &Stamp) -> i64 {
    now.wall.0.saturating_sub_unsigned(now.mono.0)
}

/// Smaller steps change nothing that anybody would notice: what is silent is measured in longer times.
const STEP_US_MIN: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{BootId, ClockState, Mono};

    fn at(wall_s: i64, mono_s: u64) -> Stamp {
        Stamp {
            wall: Wall::from_secs(wall_s),
            mono: Mono(mono_s * 1_000_000),
            boot: BootId::default(),
            uncertainty_us: u32::MAX,
            state: ClockState::Free,
        }
    }

    #[test]
    fn a_clock_that_runs_on_was_not_set_however_long_nobody_looked() {
        let mut watch = StepWatch::new(&at(1000, 5));
        assert_eq!(watch.look(&at(1001, 6)), None);
        assert_eq!(watch.look(&at(9000, 8005)), None);
    }

    #[test]
    fn a_step_is_told_once_with_its_direction() {
        let mut watch = StepWatch::new(&at(10, 10));
        assert_eq!(watch.look(&at(1_800_000_001, 11)), Some(1_799_999_990_000_000));
        assert_eq!(watch.look(&at(1_800_000_002, 12)), None);
        assert_eq!(watch.look(&at(1_799_999_003, 13)), Some(-1_000_000_000));
        assert_eq!(watch.look(&at(1_799_999_005, 14)), None, "one second is nobody's concern");
    }

    #[test]
    fn a_recording_lives_in_its_newest_row_and_nothing_that_has_ended_has_a_time() {
        let mut clock = SourceClock { name: "r".into(), recorded: true, newest: None, ended: false };
        assert_eq!(clock.now(), None);
        clock.heard(Wall(7));
        clock.heard(Wall(5));
        assert_eq!(clock.now(), Some(Wall(7)));
        clock.ended = true;
        assert_eq!(clock.now(), None);
    }
}
