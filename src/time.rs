//! The words for time: wall time with an uncertainty, monotonic time, the boot they belong to.
//!
//! Nothing here asks a clock; see [`crate::clock`]. All counts are microseconds.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Wall-clock time in microseconds since 1970-01-01T00:00:00Z. May be negative; may be wrong (see [`Stamp`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Wall(pub i64);

/// Monotonic time in microseconds since boot, suspended time included. Comparable within one boot only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mono(pub u64);

/// Which boot a [`Mono`] belongs to: the kernel's random boot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

/// What is known about the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClockState {
    /// Before [`crate::limits::WALL_PLAUSIBLE_MIN`]: the device booted without a time source (1970).
    Unset,
    /// Plausible, nobody vouches for it.
    Free,
    /// The kernel reports a disciplined clock (adjtimex); see [`Stamp::uncertainty_us`].
    Synced,
}

impl ClockState {
    /// Stable lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            ClockState::Unset => "unset",
            ClockState::Free => "free",
            ClockState::Synced => "synced",
        }
    }
}

/// One look at all clocks at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Wall time.
    pub wall: Wall,
    /// Monotonic time of the same instant.
    pub mono: Mono,
    /// The boot that `mono` counts from.
    pub boot: BootId,
    /// How far `wall` may be off, in microseconds; `u32::MAX` when nobody knows.
    pub uncertainty_us: u32,
    /// What is known about `wall`.
    pub state: ClockState,
}

impl Wall {
    /// From whole seconds since the epoch; saturates.
    pub const fn from_secs(s: i64) -> Self {
        Wall(s.saturating_mul(1_000_000))
    }

    /// Microseconds from `earlier` to `self`, negative if it is later; saturates.
    pub const fn micros_since(self, earlier: Wall) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with milliseconds, or the bare number where no calendar reaches.
    pub fn rfc3339(self) -> String {
        let t = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000);
        match t {
            Ok(t) => format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                t.year(),
                u8::from(t.month()),
                t.day(),
                t.hour(),
                t.minute(),
                t.second(),
                t.millisecond()
            ),
            Err(_) => format!("{}us", self.0),
        }
    }

    /// Time of day in UTC, `HH:MM`.
    pub fn hhmm(self) -> String {
        let s = self.0.div_euclid(1_000_000).rem_euclid(86_400);
        format!("{:02}:{:02}", s / 3600, s / 60 % 60)
    }
}

impl Stamp {
    /// Wall time of an earlier moment of this boot by today's clock: right even if somebody has set the clock since.
    pub fn wall_of(&self, mono: Mono) -> Wall {
        self.wall - self.mono.since(mono)
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, d: Duration) -> Wall {
        Wall(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Wall {
    type Output = Wall;
    fn sub(self, d: Duration) -> Wall {
        Wall(self.0.saturating_sub(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Mono {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A duration the way people say it: `850 ms`, `41 s`, `12 min`, `3 h 05 min`, `2 d 4 h`.
pub fn humane(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{} ms", d.as_millis()),
        1..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// Whether `at` is within a span of the day, from and to in minutes of UTC; one that ends before it begins spans midnight.
pub fn in_day_span(at: Wall, (from, to): (u16, u16)) -> bool {
    let minute = (at.0.div_euclid(60_000_000)).rem_euclid(24 * 60) as u16;
    if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_beyond_2038_and_before_1970_print_right() {
        assert_eq!(Wall::from_secs(2_222_222_222).rfc3339(), "2040-06-02T03:57:02.000Z");
        assert_eq!(Wall::from_secs(-1).rfc3339(), "1969-12-31T23:59:59.000Z");
        assert_eq!(Wall::from_secs(-60).hhmm(), "23:59");
        assert_eq!(Wall(i64::MAX).rfc3339(), format!("{}us", i64::MAX));
    }

    #[test]
    fn an_earlier_moment_has_its_time_by_the_clock_of_now() {
        let now = Stamp {
            wall: Wall::from_secs(1000),
            mono: Mono(50_000_000),
            boot: BootId::default(),
            uncertainty_us: 0,
            state: ClockState::Free,
        };
        assert_eq!(now.wall_of(Mono(20_000_000)), Wall::from_secs(970));
        assert_eq!(now.wall_of(Mono(90_000_000)), Wall::from_secs(1000), "nothing lies ahead");
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Wall(i64::MAX) + Duration::from_secs(1), Wall(i64::MAX));
        assert_eq!(Wall(i64::MIN).micros_since(Wall(i64::MAX)), i64::MIN);
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    }

    #[test]
    fn durations_read_like_speech() {
        let said: Vec<_> = [0, 41, 720, 11_100, 187_200].map(|s| humane(Duration::from_secs(s))).into();
        assert_eq!(said, ["0 ms", "41 s", "12 min", "3 h 05 min", "2 d 4 h"]);
    }
}
