//! How many bytes may be on the wire: what the line carries in its own time and a little more.
//!
//! Too few bytes on the wire and a long line stands idle; too many and an alarm waits behind them. Both follow from what
//! the PUBACKs say anyway: the rate, and the way that even an empty block needs. The bound is what the line carries in one
//! and three quarters of that way and [`limits::UPLINK_QUEUE_MS`], so that an alarm waits for little more than the rest of
//! that, on a satellite as on a fibre; on a line so thin that one block takes longer, blocks go one by one.
//!
//! The rate is estimated as in BBR (Cardwell et al., ACM Queue 14(5), 2016): what was delivered between the last PUBACK
//! before a block left and its own, the best of the last seconds. The way shows only in a block that finds the wire empty:
//! behind others the queue is measured too. As such a block can't tell a slow line from a long one, a session begins with two.

use crate::limits;
use crate::time::Mono;

/// What the line has shown in this session.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Bytes with PUBACK.
    delivered: u64,
    /// When the last PUBACK came, or the wire stopped being empty.
    since: Mono,
    /// Whether two blocks have been under way together, which tells the way from the rate.
    is_known: bool,
    /// The shortest round trip of a block alone on the wire in microseconds, and its bytes.
    alone: (u64, u64),
    /// The period that is filled and the one before it.
    periods: [Period; 2],
}

/// The best rate that was seen for a while.
#[derive(Debug, Clone, Copy)]
struct Period {
    began: Mono,
    bytes_per_s: u64,
}

/// How things stood when a block left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departure {
    pub(super) at: Mono,
    delivered: u64,
    since: Mono,
    is_alone: bool,
}

impl Pace {
    /// Of a line that came up at `now`.
    pub(super) fn new(now: Mono) -> Self {
        let nothing = Period { began: now, bytes_per_s: 0 };
        Self { delivered: 0, since: now, is_known: false, alone: (u64::MAX, 0), periods: [nothing; 2] }
    }

    /// A block leaves, on an empty wire or behind others.
    pub(super) fn depart(&mut self, now: Mono, is_alone: bool) -> Departure {
        if is_alone {
            self.since = now;
        }
        Departure { at: now, delivered: self.delivered, since: self.since, is_alone }
    }

    /// A block of so many bytes has got its PUBACK.
    pub(super) fn arrive(&mut self, now: Mono, departure: Departure, bytes: usize) {
        self.delivered += bytes as u64;
        self.since = now;
        if now.since(self.periods[0].began).as_millis() as u64 >= limits::UPLINK_PACE_PERIOD_MS {
            self.periods = [Period { began: now, bytes_per_s: 0 }, self.periods[0]];
        }
        if departure.is_alone {
            self.alone = self.alone.min((micros(departure.at, now), bytes as u64));
        }
        let delivered = self.delivered - departure.delivered;
        let way_us = if departure.is_alone && self.is_known { self.way_us() } else { 0 };
        let current = &mut self.periods[0];
        if delivered < limits::UPLINK_PACE_BYTES_MIN {
            return;
        }
        self.is_known |= !departure.is_alone && self.alone.0 < u64::MAX;
        // A PUBACK that seems to come at once says nothing of a rate.
        let elapsed_us = micros(departure.since, now).saturating_sub(way_us).max(1_000);
        current.bytes_per_s = current.bytes_per_s.max(delivered.saturating_mul(1_000_000) / elapsed_us);
    }

    /// Bytes on the wire up to which another block may go.
    pub(super) fn window_bytes(&self) -> usize {
        let rate = self.bytes_per_s();
        if rate == 0 || !self.is_known {
            return limits::UPLINK_WINDOW_BYTES_START;
        }
        let kept_us = self.way_us().saturating_mul(7) / 4 + limits::UPLINK_QUEUE_MS * 1_000;
        let bytes = u128::from(rate) * u128::from(kept_us) / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn bytes_per_s(&self) -> u64 {
        self.periods.iter().map(|period| period.bytes_per_s).max().unwrap_or(0)
    }

    /// There and back for a block without bytes, in microseconds.
    fn way_us(&self) -> u64 {
        let (round_trip_us, bytes) = self.alone;
        match self.bytes_per_s() {
            0 => 0,
            rate => round_trip_us.saturating_sub(bytes.saturating_mul(1_000_000) / rate),
        }
    }
}

fn micros(from: Mono, to: Mono) -> u64 {
    u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at_ms(ms: u64) -> Mono {
        Mono(0) + Duration::from_millis(ms)
    }

    /// Two blocks of a tenth of a second each, on a way of `way_ms`.
    fn two_blocks(pace: &mut Pace, began_ms: u64, way_ms: u64) {
        let [one, two] = [true, false].map(|is_alone| pace.depart(at_ms(began_ms), is_alone));
        pace.arrive(at_ms(began_ms + way_ms + 100), one, 50_000);
        pace.arrive(at_ms(began_ms + way_ms + 200), two, 50_000);
    }

    #[test]
    fn two_blocks_tell_the_way_from_the_rate() {
        let mut pace = Pace::new(at_ms(0));
        assert_eq!(pace.window_bytes(), limits::UPLINK_WINDOW_BYTES_START);
        two_blocks(&mut pace, 0, 0);
        assert_eq!((pace.bytes_per_s(), pace.way_us()), (500_000, 0));
        assert_eq!(pace.window_bytes() as u64, 500 * limits::UPLINK_QUEUE_MS);
    }

    #[test]
    fn a_block_alone_changes_nothing_once_the_way_is_known() {
        let mut pace = Pace::new(at_ms(0));
        two_blocks(&mut pace, 0, 0);
        let (known, window) = (pace.bytes_per_s(), pace.window_bytes());
        for n in 1..60 {
            let departure = pace.depart(at_ms(n * 1_000), true);
            pace.arrive(at_ms(n * 1_000 + 100), departure, 50_000);
        }
        assert_eq!((pace.bytes_per_s(), pace.window_bytes()), (known, window));
    }

    #[test]
    fn a_few_bytes_say_nothing_of_the_rate() {
        let mut pace = Pace::new(at_ms(0));
        two_blocks(&mut pace, 0, 300);
        let departure = pace.depart(at_ms(2_000), true);
        pace.arrive(at_ms(2_001), departure, 500);
        assert!(pace.bytes_per_s() < 500_000);
    }

    #[test]
    fn what_the_line_was_long_ago_is_forgotten_in_two_periods() {
        let mut pace = Pace::new(at_ms(0));
        two_blocks(&mut pace, 0, 0);
        let fast = pace.bytes_per_s();
        for (n, is_remembered) in [(1, true), (2, false)] {
            let began = at_ms(n * (limits::UPLINK_PACE_PERIOD_MS + 1_000));
            let departure = pace.depart(began, true);
            pace.arrive(began + Duration::from_secs(5), departure, 50_000);
            assert_eq!(pace.bytes_per_s() == fast, is_remembered, "period {n}");
        }
        assert_eq!(pace.bytes_per_s(), 10_000);
    }
}
