//! The byte budget of a metered line: what may be sent today, and how finely. No clock, no socket, no disk inside.
//!
//! A day is a day of UTC. Everything that goes over the line is counted, whoever asked for it; only lanes below `alarm`
//! ask for leave. What keeps the line itself alive ([`upkeep_per_day`]) asks for none either and is taken from the same
//! budget. A lane has leave as long as its own share lasts and what is left of the day's budget also covers what the
//! lanes before it are likely to need until midnight, at today's pace. So the first to wait is `raw`, then `metric`, and
//! at last `digest`. Each step back up needs some slack, lest it be taken back at once.
//!
//! ```
//! use outpost::sync::budget::{Budget, BudgetOptions, Fidelity};
//! use outpost::time::Wall;
//! use outpost::wire::Lane;
//!
//! let noon = Wall::from_secs(1_800_014_400);
//! let mut budget = Budget::new(BudgetOptions { bytes_per_day: Some(1_000_000), ..BudgetOptions::default() });
//! assert_eq!(budget.look(noon), Fidelity::Raw);
//! // At this pace the summaries alone need more than the day has.
//! budget.sent(noon, Some(Lane::Metric), 400_000);
//! assert_eq!(budget.look(noon), Fidelity::Metrics);
//! assert_eq!(budget.allowance(noon)[Lane::Alarm.index()], u64::MAX);
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::WALL_PLAUSIBLE_MIN;
use crate::reading::named_enum;
use crate::time::{Wall, in_day_span};
use crate::wire::{Lane, PerLane};

named_enum! {
    /// How finely the far side is told what happens; the finest first.
    Fidelity {
        /// Everything goes.
        Raw = "raw",
        /// Single readings wait; summaries of windows go.
        Metrics = "metrics",
        /// Only digests and alarms go.
        Digests = "digests",
    }
}

/// What the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetOptions {
    /// Bytes per day of UTC in both directions, TLS included; none for no bound.
    pub bytes_per_day: Option<u64>,
    /// The most that a lane may have of it, in percent. That of `alarm` means nothing: alarms always go.
    pub shares_percent: PerLane<u8>,
    /// When lane `raw` may be sent at all: spans of minutes of the day in UTC; one whose end is not after its begin goes
    /// past midnight. None for always.
    pub raw_windows: Vec<(u16, u16)>,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { bytes_per_day: None, shares_percent: [100; Lane::ALL.len()], raw_windows: Vec::new() }
    }
}

impl BudgetOptions {
    /// Whether nothing is bounded.
    pub fn is_unbounded(&self) -> bool {
        self.bytes_per_day.is_none() && self.raw_windows.is_empty()
    }
}

/// What was sent today; this is kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    /// Days since 1970.
    pub day: u64,
    /// Second of that day at which counting began.
    pub from_s: u64,
    /// Bytes of each lane's blocks.
    pub lanes: PerLane<u64>,
    /// Bytes of everything else: handshakes, heartbeats, acknowledgements, pings.
    pub other: u64,
}

impl Used {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.lanes.iter().fold(self.other, |sum, n| sum.saturating_add(*n))
    }

    /// What goes before `lane`: the higher lanes and everything that is no block.
    fn before(&self, lane: Lane) -> u64 {
        self.lanes[..lane.index()].iter().fold(self.other, |sum, n| sum.saturating_add(*n))
    }
}

/// The books of one line.
#[derive(Debug, Clone)]
pub struct Budget {
    options: BudgetOptions,
    used: Used,
    fidelity: Fidelity,
    /// The latest day of a clock that nobody has set.
    unset_day: Option<u64>,
}

impl Budget {
    /// Nothing was sent yet.
    pub fn new(options: BudgetOptions) -> Self {
        Self { options, used: Used::default(), fidelity: Fidelity::Raw, unset_day: None }
    }

    /// Goes on where an earlier run ended.
    #[must_use]
    pub fn resumed(self, used: Used) -> Self {
        Self { used, ..self }
    }

    /// What the operator allows.
    pub fn options(&self) -> &BudgetOptions {
        &self.options
    }

    /// What was sent on the day of the last call.
    pub fn used(&self) -> Used {
        self.used
    }

    /// As of the last [`Budget::look`].
    pub fn fidelity(&self) -> Fidelity {
        self.fidelity
    }

    /// Counts what went over the line: a block of `lane`, or something else.
    pub fn sent(&mut self, now: Wall, lane: Option<Lane>, bytes: u64) {
        self.turn_page(now);
        let account = lane.map_or(&mut self.used.other, |lane| &mut self.used.lanes[lane.index()]);
        *account = account.saturating_add(bytes);
    }

    /// Decides the fidelity anew. It may fall at once and rises only with slack.
    pub fn look(&mut self, now: Wall) -> Fidelity {
        self.turn_page(now);
        let slack = self.options.bytes_per_day.unwrap_or(0) * STEP_UP_SLACK_PERCENT / 100;
        // Less than a thousandth of the day holds no block: whoever has no more waits, and it should be said.
        let block = self.options.bytes_per_day.unwrap_or(0) / 1000;
        let roomy = |lane: Lane, fidelity: Fidelity| {
            let needed = if fidelity < self.fidelity { slack } else { block };
            self.left(lane, now) > needed
        };
        self.fidelity = match () {
            () if roomy(Lane::Raw, Fidelity::Raw) => Fidelity::Raw,
            () if roomy(Lane::Metric, Fidelity::Metrics) => Fidelity::Metrics,
            () => Fidelity::Digests,
        };
        self.fidelity
    }

    /// How many bytes each lane may still send now, the others sending nothing.
    pub fn allowance(&mut self, now: Wall) -> PerLane<u64> {
        let fidelity = self.look(now);
        std::array::from_fn(|i| match Lane::ALL[i] {
            Lane::Raw if fidelity > Fidelity::Raw || !self.in_window(now) => 0,
            Lane::Metric if fidelity > Fidelity::Metrics => 0,
            lane => self.left(lane, now),
        })
    }

    /// What is left for `lane`, of its share and of the day.
    fn left(&self, lane: Lane, now: Wall) -> u64 {
        let Some(bytes) = self.options.bytes_per_day.filter(|_| lane != Lane::Alarm) else { return u64::MAX };
        let share = bytes / 100 * u64::from(self.options.shares_percent[lane.index()]);
        let of_share = share.saturating_sub(self.used.lanes[lane.index()]);
        // Nothing is put aside for what goes before a digest: a digest is what the budget is saved for.
        let aside = if lane == Lane::Digest { 0 } else { self.projected(self.used.before(lane), now) };
        bytes.saturating_sub(self.used.total()).saturating_sub(aside).min(of_share)
    }

    /// What will come until midnight if it goes on as it did since counting began.
    fn projected(&self, so_far: u64, now: Wall) -> u64 {
        let second = second_of_day(now);
        let measured = second.saturating_sub(self.used.from_s).max(PACE_S_MIN);
        let ahead = u128::from(so_far) * u128::from(DAY_S - second) / u128::from(measured);
        u64::try_from(ahead).unwrap_or(u64::MAX)
    }

    /// A new day begins with nothing used. Of a clock that nobody has set only a midnight that it passes counts, not what it
    /// begins with; one that was set back keeps what was used, so that it buys nothing and the next midnight counts again.
    fn turn_page(&mut self, now: Wall) {
        let today = u64::try_from(now.0).unwrap_or(0) / (DAY_S * 1_000_000);
        if now < WALL_PLAUSIBLE_MIN {
            if self.unset_day.replace(today).is_some_and(|before| before < today) {
                self.used = Used { day: self.used.day, ..Used::default() };
            }
            return;
        }
        self.unset_day = None;
        if today == self.used.day {
            return;
        }
        if today > self.used.day && self.used.day > 0 {
            // Counting goes on over midnight; after a longer absence the pace is that of the day all the same.
            self.used = Used::default();
        } else if self.used.day == 0 {
            self.used.from_s = second_of_day(now);
        }
        self.used.day = today;
    }

    fn in_window(&self, now: Wall) -> bool {
        let spans = &self.options.raw_windows;
        spans.is_empty() || spans.iter().any(|span| in_day_span(now, *span))
    }
}

/// What heartbeats and pings take of a day, in bytes: they go whatever the budget says, or the far side would think the
/// gateway lost.
pub fn upkeep_per_day(heartbeat_every: Duration, keep_alive: Duration) -> u64 {
    let times = |every: Duration| DAY_S * 1000 / u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    times(heartbeat_every) * HEARTBEAT_BYTES + times(keep_alive) * PING_BYTES
}

fn second_of_day(now: Wall) -> u64 {
    u64::try_from(now.0).unwrap_or(0) / 1_000_000 % DAY_S
}

/// Reads `22:00-06:00, 12:00-13:00`; none where it is something else.
pub fn parse_windows(text: &str) -> Option<Vec<(u16, u16)>> {
    let minute = |s: &str| {
        let (h, m) = s.trim().split_once(':')?;
        let (h, m): (u16, u16) = (h.parse().ok()?, m.parse().ok()?);
        (h < 24 && m < 60).then_some(60 * h + m)
    };
    let window = |s: &str| {
        let (from, to) = s.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from != to).then_some((from, to))
    };
    text.split(',').map(window).collect()
}

const DAY_S: u64 = 24 * 3600;
/// A signed heartbeat (300 bytes at most, see `wire::heartbeat`) with its topic, packet and TLS record, and a ping with its
/// answer, as `link::cost` reckons them.
const HEARTBEAT_BYTES: u64 = 345;
const PING_BYTES: u64 = 52;
/// A pace measured over less says too little.
const PACE_S_MIN: u64 = 3600;
/// Part of the budget that must be free before fidelity rises.
const STEP_UP_SLACK_PERCENT: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A midnight.
    const DAY: i64 = 20_834 * 86_400;

    fn at(second: i64) -> Wall {
        Wall::from_secs(DAY + second)
    }

    fn budget(bytes: u64) -> Budget {
        Budget::new(BudgetOptions { bytes_per_day: Some(bytes), ..BudgetOptions::default() })
    }

    #[test]
    fn it_steps_down_in_order_and_up_with_slack_and_at_midnight() {
        let mut b = budget(1_000_000);
        b.sent(at(0), Some(Lane::Metric), 100_000);
        b.sent(at(0), Some(Lane::Digest), 1_000);
        assert_eq!(b.look(at(3600)), Fidelity::Metrics, "metrics at this pace need more than all");
        assert_eq!(b.look(at(6 * 3600)), Fidelity::Raw, "at this pace there is slack");
        b.sent(at(6 * 3600), Some(Lane::Raw), 897_000);
        assert_eq!(b.look(at(6 * 3600)), Fidelity::Digests);
        assert_eq!(b.look(at(86_399)), Fidelity::Digests, "2 % are no slack");
        assert!(b.allowance(at(86_399))[Lane::Digest.index()] > 0);
        assert_eq!(b.look(at(86_400)), Fidelity::Raw);
        assert_eq!(b.used().total(), 0);
    }

    #[test]
    fn a_share_bounds_its_lane_alone() {
        let mut options = BudgetOptions { bytes_per_day: Some(1_000_000), ..BudgetOptions::default() };
        options.shares_percent[Lane::Raw.index()] = 10;
        let mut b = Budget::new(options);
        b.sent(at(0), Some(Lane::Raw), 100_000);
        assert_eq!(b.look(at(1)), Fidelity::Metrics);
        assert_eq!(b.allowance(at(1))[Lane::Metric.index()], 900_000);
    }

    #[test]
    fn windows_hold_raw_alone() {
        let raw_windows = parse_windows("22:00-06:00, 12:30-13:00").unwrap();
        let mut b = Budget::new(BudgetOptions { raw_windows, ..BudgetOptions::default() });
        let mut open = |h: i64, m: i64| b.allowance(at(h * 3600 + m * 60))[Lane::Raw.index()] > 0;
        let seen = [(21, 59), (22, 0), (0, 0), (5, 59), (6, 0), (12, 30), (13, 0)].map(|(h, m)| open(h, m));
        assert_eq!(seen, [false, true, true, true, false, true, false]);
        assert_eq!(b.allowance(at(0))[Lane::Metric.index()], u64::MAX);
        for wrong in ["", "22-6", "24:00-06:00", "22:00-22:00", "22:00-06:60", "22:00-06:00,"] {
            assert_eq!(parse_windows(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_or_not_set_buys_nothing() {
        let mut b = budget(1_000_000);
        b.sent(at(0), Some(Lane::Raw), 1_000_000);
        for now in [Wall(0), Wall::from_secs(86_000), at(-5 * 86_400)] {
            assert_eq!(b.look(now), Fidelity::Digests, "{now:?}");
            assert_eq!(b.used().total(), 1_000_000);
        }
        assert_eq!(b.look(at(-4 * 86_400)), Fidelity::Raw, "the next midnight of the new clock counts");
    }

    /// Else what is used up once would be so until somebody sets the clock.
    #[test]
    fn a_gateway_that_never_learns_the_time_has_a_budget_a_day_all_the_same() {
        let mut b = budget(1_000_000);
        b.sent(Wall::from_secs(70_000), Some(Lane::Raw), 1_000_000);
        assert_eq!(b.look(Wall::from_secs(86_399)), Fidelity::Digests);
        assert_eq!(b.look(Wall::from_secs(86_400)), Fidelity::Raw);
        b.sent(Wall::from_secs(86_400), Some(Lane::Raw), 1_000_000);
        // It was switched off and on again and begins with the day on which it was made.
        let mut b = budget(1_000_000).resumed(b.used());
        assert_eq!(b.look(Wall::from_secs(3 * 86_400)), Fidelity::Digests);
    }

    proptest! {
        #[test]
        fn the_budget_holds_to_the_byte_for_all_but_alarms(
            bytes in 100_000u64..2_000_000,
            asks in proptest::collection::vec((0usize..4, 1u64..60_000, 0i64..2_000), 1..200),
        ) {
            let (mut b, mut second, mut alarms) = (budget(bytes), 0, 0);
            for (lane, n, wait) in asks {
                second = (second + wait).min(86_399);
                let allowed = b.allowance(at(second))[lane];
                let lane = Lane::ALL[lane];
                if lane == Lane::Alarm {
                    prop_assert_eq!(allowed, u64::MAX);
                    alarms += n;
                }
                if n <= allowed {
                    b.sent(at(second), Some(lane), n);
                }
                prop_assert!(b.used().total() - alarms <= bytes);
            }
            prop_assert_eq!(b.look(at(86_400)), Fidelity::Raw);
        }
    }
}
