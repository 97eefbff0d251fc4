//! Channels that are judged together, each with readings of its own pace: onto one grid of event time, then row by row
//! into [`Together`].
//!
//! ```text
//! cells |  0  |  1  |  2  |  3  |     each `every` long; a sample is the mean of the readings in it
//! a     | x x | x x | x   | x x |
//! b     |  x  |  x  |     |     |     late: waited for, at most GROUP_WAIT_CELLS cells; a cell that stays empty has the
//!                                     sample before, at most FRAME_HOLD_CELLS times; then it is missing
//! ```
//!
//! A row without some of the members is judged by the others, as long as they are more than half, and nothing is learnt
//! from it. A member that was never heard is not waited for either: the group begins to learn with the last member's first
//! reading, and says once whom it lacks.

use std::collections::VecDeque;

use super::{Finding, Reason, Together};
use crate::frame::ModelName;
use crate::limits;
use crate::reading::ChannelId;
use crate::time::Wall;

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// Its name, for alarms.
    pub name: ModelName,
    /// Its members, 2 to [`limits::GROUP_CHANNELS_MAX`], each once.
    pub channels: Vec<ChannelId>,
    /// Length of a cell in milliseconds, at least one.
    pub every_ms: u32,
}

/// The detector of one group with the samples that it waits with.
#[derive(Debug, Clone)]
pub struct Group {
    options: GroupOptions,
    /// Cells that are open, from number `first` on; at most [`limits::GROUP_WAIT_CELLS`].
    open: VecDeque<Vec<Sum>>,
    first: i64,
    members: Vec<Member>,
    together: Together,
    rows: u64,
    lack_told: bool,
}

/// The readings of one member in one cell.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sum: f64,
    count: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    /// The newest cell that it spoke in.
    newest: Option<i64>,
    /// Its last sample, with the cell of it.
    sample: Option<(i64, f64)>,
}

impl Group {
    /// No reading yet. Members beyond the bound are not looked at.
    pub fn new(options: GroupOptions) -> Self {
        let members = options.channels.len().min(limits::GROUP_CHANNELS_MAX);
        Self {
            open: VecDeque::new(),
            first: i64::MIN,
            members: vec![Member::default(); members],
            together: Together::new(members),
            rows: 0,
            lack_told: false,
            options,
        }
    }

    /// What it was made from.
    pub const fn options(&self) -> &GroupOptions {
        &self.options
    }

    /// Takes a value of the member at place `member`; hands what is found in the rows that it completes to `tell`, each with
    /// the end of its cell.
    pub fn push(&mut self, member: usize, at: Wall, x: f64, tell: &mut impl FnMut(Wall, Finding)) {
        let cell = at.0.div_euclid(self.step_us());
        let Some(newest) = self.members.get_mut(member).map(|member| &mut member.newest) else { return };
        *newest = (*newest).max(Some(cell));
        if cell < self.first {
            return;
        }
        while !self.open.is_empty() && cell.saturating_sub(self.first) >= limits::GROUP_WAIT_CELLS as i64 {
            self.close(tell);
        }
        if self.open.is_empty() {
            self.first = cell;
        }
        let index = usize::try_from(cell - self.first).unwrap_or(0);
        while self.open.len() <= index {
            self.open.push_back(vec![Sum::default(); self.members.len()]);
        }
        let sum = &mut self.open[index][member];
        (sum.sum, sum.count) = (sum.sum + x, sum.count + 1);
        while !self.open.is_empty() && self.is_complete() {
            self.close(tell);
        }
    }

    /// The clock of the members was set back: what was gathered is no row any more, what was learnt stays.
    pub fn clock_set_back(&mut self) {
        (self.first, self.open) = (i64::MIN, VecDeque::new());
        self.members.fill(Member::default());
    }

    /// Once, when the group has waited long enough: a member that was never heard.
    pub fn take_lack(&mut self) -> Option<&ChannelId> {
        let unheard = self.members.iter().position(|member| member.newest.is_none())?;
        let due = self.rows >= limits::GROUP_PATIENCE_ROWS && !std::mem::replace(&mut self.lack_told, true);
        self.options.channels.get(unheard).filter(|_| due)
    }

    fn step_us(&self) -> i64 {
        i64::from(self.options.every_ms.max(1)) * 1000
    }

    /// Whether all members that still speak are beyond the first open cell.
    fn is_complete(&self) -> bool {
        let gone = self.first.saturating_sub(limits::GROUP_WAIT_CELLS as i64);
        let mut awaited = self.members.iter().filter_map(|m| m.newest).filter(|newest| *newest >= gone);
        awaited.all(|newest| newest > self.first)
    }

    fn close(&mut self, tell: &mut impl FnMut(Wall, Finding)) {
        let Some(sums) = self.open.pop_front() else { return };
        let cell = self.first;
        self.first += 1;
        self.rows += 1;
        let row: Vec<Option<f64>> =
            self.members.iter_mut().zip(sums).map(|(member, sum)| member.sample(cell, sum)).collect();
        let begin = Wall(cell.saturating_mul(self.step_us()));
        if let Some(mut finding) = self.together.step(begin, &row) {
            if let Reason::OddAmongOthers { group, .. } = &mut finding.verdict.reason {
                *group = Some(self.options.name);
            }
            tell(Wall(begin.0.saturating_add(self.step_us())), finding);
        }
    }
}

impl Member {
    /// What it says in `cell`: the mean, or what it said shortly before.
    fn sample(&mut self, cell: i64, sum: Sum) -> Option<f64> {
        if sum.count > 0 {
            self.sample = Some((cell, sum.sum / f64::from(sum.count)));
        }
        self.sample.filter(|(of, _)| cell - of <= limits::FRAME_HOLD_CELLS).map(|(_, x)| x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: usize) -> Group {
        let channels = (0..n).map(|i| ChannelId::new(&format!("pump.c{i}")).unwrap()).collect();
        Group::new(GroupOptions { name: ModelName::new("pump").unwrap(), channels, every_ms: 10_000 })
    }

    /// Two readings a cell of three channels that follow one load, in an order that differs by `late_s`.
    fn stream(seconds: i64, late_s: [i64; 3]) -> Vec<(usize, i64, f64)> {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut sent = Vec::new();
        for s in (0..seconds).step_by(5) {
            let load = (s as f64 / 2000.0).sin() + 0.3 * (s as f64 / 370.0).sin();
            for (member, gain) in [10.0_f64, 1.0, -20.0].into_iter().enumerate() {
                let noise = gain.abs() * 0.02 * (rng.f64() - 0.5);
                sent.push((s + late_s[member], (member, s, 50.0 + gain * load + noise)));
            }
        }
        sent.sort_by_key(|(arrives, _)| *arrives);
        sent.into_iter().map(|(_, reading)| reading).collect()
    }

    fn found(
        group: &mut Group,
        readings: impl IntoIterator<Item = (usize, i64, f64)>,
    ) -> Vec<(i64, Finding)> {
        let mut all = Vec::new();
        for (member, s, x) in readings {
            group.push(member, Wall::from_secs(s), x, &mut |at, f| all.push((at.0 / 1_000_000, f)));
        }
        all
    }

    /// Member 1 says from second 40,000 to 41,000 what it said when the load was at its mean.
    fn broken(readings: Vec<(usize, i64, f64)>) -> impl Iterator<Item = (usize, i64, f64)> {
        readings
            .into_iter()
            .map(|(m, s, x)| (m, s, if m == 1 && (40_000..41_000).contains(&s) { 50.0 } else { x }))
    }

    #[test]
    fn members_that_come_late_are_waited_for_and_the_odd_one_is_named_with_its_group() {
        let mut group = group(3);
        let all = found(&mut group, broken(stream(42_000, [0, 37, 12])));
        let (s, first) = &all[0];
        assert!((40_000..40_500).contains(s) && first.channel == 1, "{s} {first:?}");
        let words = first.verdict.reason.words(&crate::reading::Unit::default());
        assert!(words.contains("channels of pump"), "{words}");
        assert!(group.open.len() <= limits::GROUP_WAIT_CELLS);
    }

    #[test]
    fn a_member_that_falls_silent_leaves_the_others_judged_by_each_other() {
        let mut group = group(4);
        // Member 3 follows member 0 until it dies.
        let with_fourth = |(m, s, x): (usize, i64, f64)| {
            let fourth = (m == 0 && s < 35_000).then_some((3, s, 2.0 * x));
            fourth.into_iter().chain([(m, s, x)])
        };
        let all = found(&mut group, broken(stream(42_000, [0; 3])).flat_map(with_fourth));
        assert!(all.iter().all(|(s, f)| (40_000..42_000).contains(s) && f.channel != 3), "{:?}", all[0]);
        assert_eq!(all[0].1.channel, 1);
    }

    #[test]
    fn a_member_that_was_never_heard_is_told_once_and_nothing_is_judged_before_it_comes() {
        let mut group = group(3);
        let two = stream(20_000, [0; 3]).into_iter().filter(|(m, ..)| *m < 2);
        assert_eq!(found(&mut group, two), []);
        assert_eq!(group.take_lack().map(ChannelId::as_str), Some("pump.c2"));
        assert_eq!(group.take_lack(), None);
        let late = broken(stream(42_000, [0; 3])).filter(|(_, s, _)| *s >= 20_000);
        assert_eq!(found(&mut group, late)[0].1.channel, 1);
    }

    #[test]
    fn no_order_of_times_holds_more_than_the_bound_and_a_clock_set_back_starts_over() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut group = group(3);
        for _ in 0..5000 {
            let at = if rng.bool() { Wall(rng.i64(..)) } else { Wall(rng.i64(0..10_000_000_000)) };
            group.push(rng.usize(0..5), at, rng.f64(), &mut |_, _| ());
            assert!(group.open.len() <= limits::GROUP_WAIT_CELLS);
            if rng.u8(0..50) == 0 {
                group.clock_set_back();
            }
        }
        group.clock_set_back();
        let rows = group.rows;
        (0..3).for_each(|m| group.push(m, Wall::from_secs(5), 1.0, &mut |_, _| ()));
        (0..3).for_each(|m| group.push(m, Wall::from_secs(15), 1.0, &mut |_, _| ()));
        assert_eq!(group.rows, rows + 1);
    }
}
