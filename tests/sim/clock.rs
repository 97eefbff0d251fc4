//! A gateway's clocks: they drift, are set and set back, and begin in 1970 where nobody tells the time.

use std::time::Duration;

use fastrand::Rng;
use outpost::limits::WALL_PLAUSIBLE_MIN;
use outpost::time::{BootId, ClockState, Mono, Stamp, Wall};

pub struct Clock {
    boot: u32,
    boot_at: Mono,
    drift_ppm: i64,
    /// Wall time less monotonic time, in microseconds.
    offset_us: i64,
}

impl Clock {
    pub fn new(rng: &mut Rng) -> Self {
        let mut clock = Self { boot: 0, boot_at: Mono(0), drift_ppm: rng.i64(-200..=200), offset_us: 0 };
        clock.reboot(Mono(0), rng);
        clock
    }

    /// Every third boot finds nobody who knows the time.
    pub fn reboot(&mut self, now: Mono, rng: &mut Rng) {
        self.boot += 1;
        self.boot_at = now;
        self.offset_us = if rng.u32(0..3) == 0 { 0 } else { TRUE_BEGIN.0 + now.0 as i64 };
    }

    /// Somebody sets the wall clock: right, or off by up to a month.
    pub fn step(&mut self, now: Mono, rng: &mut Rng) {
        let error_us = if rng.bool() { 0 } else { rng.i64(-MONTH_US..=MONTH_US) };
        self.offset_us = TRUE_BEGIN.0 + now.0 as i64 - self.mono(now).0 as i64 + error_us;
    }

    /// The gateway's own monotonic time at the world's `now`.
    pub fn mono(&self, now: Mono) -> Mono {
        let us = now.since(self.boot_at).as_micros() as i64;
        Mono((us + us / 1_000_000 * self.drift_ppm) as u64)
    }

    pub fn stamp(&self, now: Mono) -> Stamp {
        let mono = self.mono(now);
        let wall = Wall(self.offset_us + mono.0 as i64);
        let state = if wall < WALL_PLAUSIBLE_MIN { ClockState::Unset } else { ClockState::Free };
        Stamp { wall, mono, boot: boot_id(self.boot), uncertainty_us: u32::MAX, state }
    }
}

fn boot_id(n: u32) -> BootId {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&n.to_be_bytes());
    BootId(id)
}

const TRUE_BEGIN: Wall = Wall::from_secs(1_767_323_045);
const MONTH_US: i64 = Duration::from_secs(30 * 86_400).as_micros() as i64;
