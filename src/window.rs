//! Event-time windows with a watermark, and the summary of one window.
//!
//! ```text
//!            watermark = newest - lateness      newest
//! ----|-----------------|--------x--------------x------> event time
//!     ^ a window that ends at or before the watermark is closed and told
//! ```
//!
//! Windows start at multiples of the hop; with hop = length they tumble, with a shorter hop they overlap. A reading
//! behind the watermark is counted late and left out. [`limits::LATE_RUN_MAX`] of them in a row mean that the clock
//! of the channel was set back: what is open is told and everything starts anew at the new time. A window without
//! any reading is never made, so a clock that jumps ahead by years costs nothing.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::features::Features;
use crate::limits;
use crate::reading::{ChannelId, Unit, Value};
use crate::time::Wall;

/// One channel over one window: lane `metric`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowSummary {
    /// The channel.
    pub channel: ChannelId,
    /// Unit of the values.
    pub unit: Unit,
    /// Start of the window, event time, inclusive.
    pub start: Wall,
    /// Length in milliseconds.
    pub length_ms: u32,
    /// Readings with a value.
    pub count: u32,
    /// Readings without one.
    pub missing: u32,
    /// Smallest value; NaN never occurs, 0 when `count` is 0.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Arithmetic mean, to a 65,536th of the way from `min` to `max`.
    pub mean: f64,
    /// Population standard deviation, in single precision.
    pub std: f64,
    /// Value with the latest event time.
    pub last: f64,
    /// Least-squares slope in units per hour, in single precision.
    pub slope_per_h: f64,
}

impl WindowSummary {
    /// The summary of `window` of `channel`.
    pub fn new(channel: &ChannelId, unit: &Unit, window: &Window) -> Self {
        let f = &window.features;
        Self {
            channel: channel.clone(),
            unit: unit.clone(),
            start: window.start,
            length_ms: window.length_ms,
            count: f.count(),
            missing: f.missing(),
            min: f.min(),
            max: f.max(),
            mean: single(f.mean(), (f.max() - f.min()) / 65_536.0),
            std: single(f.std(), f64::INFINITY),
            last: f.last(),
            slope_per_h: single(f.slope_per_h(), f64::INFINITY),
        }
    }
}

/// The nearest number of single precision if it is no farther away than that: half as long where it is kept and sent.
fn single(value: f64, error_max: f64) -> f64 {
    let near = f64::from(value as f32);
    if near.is_finite() && (near - value).abs() <= error_max { near } else { value }
}

/// One closed window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Start, event time, inclusive.
    pub start: Wall,
    /// Length in milliseconds.
    pub length_ms: u32,
    /// What was in it.
    pub features: Features,
}

/// How windows are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// Length in milliseconds, at least [`limits::WINDOW_MS_MIN`]; default one minute.
    pub length_ms: u32,
    /// Distance of the starts in milliseconds, at most the length; default the length.
    pub hop_ms: u32,
    /// How long a reading may be late, in milliseconds, at most [`limits::LATENESS_S_MAX`]; default 2 s.
    pub lateness_ms: u32,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self { length_ms: 60_000, hop_ms: 60_000, lateness_ms: 2_000 }
    }
}

impl WindowOptions {
    /// The nearest options that keep every bound, [`limits::WINDOWS_OPEN_MAX`] among them.
    pub fn bounded(self) -> Self {
        let length_ms = self.length_ms.max(limits::WINDOW_MS_MIN);
        let lateness_ms = self.lateness_ms.min(limits::LATENESS_S_MAX * 1000);
        // One window more is open on each side of the span.
        let spans = limits::WINDOWS_OPEN_MAX as u64 - 2;
        let hop_min = (u64::from(length_ms) + u64::from(lateness_ms)).div_ceil(spans);
        let hop_min = u32::try_from(hop_min).unwrap_or(u32::MAX).max(limits::WINDOW_MS_MIN);
        // Where even a tumbling window would be too short for the lateness, the window grows.
        let length_ms = length_ms.max(hop_min);
        Self { length_ms, hop_ms: self.hop_ms.clamp(hop_min, length_ms), lateness_ms }
    }
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in its windows and the newest so far.
    Newest,
    /// It is in its windows, but a newer one came before it.
    InTime,
    /// It was behind the watermark.
    Late,
    /// It was the last of a run behind the watermark: the clock was set back and the windows start anew with it.
    SetBack,
}

/// The open windows of one channel.
#[derive(Debug, Clone)]
pub struct Windows {
    length_us: i64,
    hop_us: i64,
    lateness_us: i64,
    newest: Option<Wall>,
    watermark: Wall,
    /// End of the last window that was closed because its channel was idle.
    idle_end: Wall,
    /// By start; at most [`limits::WINDOWS_OPEN_MAX`].
    open: VecDeque<Window>,
    late_run: u32,
    late: u64,
}

impl Windows {
    /// No reading yet; `options` are bounded first.
    pub fn new(options: WindowOptions) -> Self {
        let options = options.bounded();
        Self {
            length_us: i64::from(options.length_ms) * 1000,
            hop_us: i64::from(options.hop_ms) * 1000,
            lateness_us: i64::from(options.lateness_ms) * 1000,
            newest: None,
            watermark: Wall(i64::MIN),
            idle_end: Wall(i64::MIN),
            open: VecDeque::new(),
            late_run: 0,
            late: 0,
        }
    }

    /// Takes one reading and hands every window that it closes to `tell`, in order of start.
    pub fn push(&mut self, at: Wall, value: Value, tell: &mut impl FnMut(&Window)) -> Taken {
        let mut taken = Taken::InTime;
        if at < self.watermark {
            self.late = self.late.saturating_add(1);
            self.late_run += 1;
            if self.late_run < limits::LATE_RUN_MAX {
                return Taken::Late;
            }
            self.flush(tell);
            (self.newest, self.watermark, self.idle_end) = (None, Wall(i64::MIN), Wall(i64::MIN));
            self.late -= 1;
            taken = Taken::SetBack;
        }
        self.late_run = 0;
        if self.newest.is_none_or(|newest| at >= newest) {
            self.newest = Some(at);
            taken = if taken == Taken::SetBack { taken } else { Taken::Newest };
            self.watermark = self.watermark.max(Wall(at.0.saturating_sub(self.lateness_us)));
            self.close_to(self.watermark, tell);
        }
        self.put(at, value);
        taken
    }

    /// Closes what ends at or before `idle_to`, because nothing has come for long. A reading that comes after all is
    /// not put into what was closed, but it is no sign of a clock set back either: the watermark stays.
    pub fn close_idle(&mut self, idle_to: Wall, tell: &mut impl FnMut(&Window)) {
        if let Some(end) = self.close_to(idle_to, tell) {
            self.idle_end = self.idle_end.max(end);
        }
    }

    /// Closes everything that is open.
    pub fn flush(&mut self, tell: &mut impl FnMut(&Window)) {
        self.open.drain(..).for_each(|window| tell(&window));
    }

    /// The newest event time, if a reading was taken.
    pub const fn newest(&self) -> Option<Wall> {
        self.newest
    }

    /// Readings that were left out because they were late.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// How long a reading may be late, in microseconds.
    pub const fn lateness_us(&self) -> i64 {
        self.lateness_us
    }

    /// Closes what ends at or before `to`; returns the last end.
    fn close_to(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) -> Option<Wall> {
        let mut last = None;
        while let Some(first) = self.open.front()
            && first.start.0.saturating_add(self.length_us) <= to.0
        {
            last = Some(Wall(first.start.0.saturating_add(self.length_us)));
            tell(first);
            self.open.pop_front();
        }
        last
    }

    fn put(&mut self, at: Wall, value: Value) {
        let mut start = at.0.div_euclid(self.hop_us).saturating_mul(self.hop_us);
        let closed_to = self.watermark.max(self.idle_end).0;
        // Nothing that was closed is opened again.
        while start > at.0.saturating_sub(self.length_us) && start.saturating_add(self.length_us) > closed_to
        {
            self.window(Wall(start)).features.push(at, value);
            let Some(before) = start.checked_sub(self.hop_us) else { break };
            start = before;
        }
    }

    fn window(&mut self, start: Wall) -> &mut Window {
        let index = self.open.partition_point(|w| w.start < start);
        if self.open.get(index).is_none_or(|w| w.start != start) {
            let length_ms = u32::try_from(self.length_us / 1000).unwrap_or(u32::MAX);
            self.open.insert(index, Window { start, length_ms, features: Features::new(start) });
        }
        &mut self.open[index]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: WindowOptions = WindowOptions { length_ms: 10_000, hop_ms: 10_000, lateness_ms: 5_000 };

    fn run(options: WindowOptions, readings: &[(i64, f64)]) -> (Vec<Window>, Windows) {
        let mut windows = Windows::new(options);
        let mut closed = Vec::new();
        for &(ms, x) in readings {
            windows.push(Wall(ms * 1000), Ok(x), &mut |w| closed.push(w.clone()));
        }
        windows.flush(&mut |w| closed.push(w.clone()));
        (closed, windows)
    }

    #[test]
    fn a_summary_is_shortened_where_nobody_can_tell() {
        let (channel, unit) = (ChannelId::new("meter").unwrap(), Unit::default());
        for base in [20.0, 1.0e9] {
            let readings: Vec<(i64, f64)> = (0..9).map(|n| (n * 100, base + n as f64 / 7.0)).collect();
            let (windows, _) = run(OPTIONS, &readings);
            let (whole, told) = (&windows[0].features, WindowSummary::new(&channel, &unit, &windows[0]));
            let range = whole.max() - whole.min();
            assert!((told.mean - whole.mean()).abs() <= range / 65_536.0, "{}", told.mean);
            assert_eq!(f64::from(told.mean as f32) == told.mean, base < 1e6, "{}", told.mean);
            assert_eq!(f64::from(told.std as f32), told.std);
        }
    }

    /// What a batch job would say: start in ms, count and sum of each window that has a reading.
    fn batch(options: WindowOptions, readings: &[(i64, f64)]) -> Vec<(i64, u32, f64)> {
        let (hop, length) = (i64::from(options.hop_ms), i64::from(options.length_ms));
        let mut by_start = std::collections::BTreeMap::<i64, (u32, f64)>::new();
        for &(ms, x) in readings {
            let last = ms.div_euclid(hop) * hop;
            (0..).map(|i| last - i * hop).take_while(|s| *s > ms - length).for_each(|start| {
                let w = by_start.entry(start).or_default();
                *w = (w.0 + 1, w.1 + x);
            });
        }
        by_start.into_iter().map(|(start, (n, sum))| (start, n, sum)).collect()
    }

    proptest! {
        #[test]
        fn readings_shuffled_within_the_lateness_give_what_a_batch_gives(
            gaps in prop::collection::vec((0i64..4000, 0i64..5000, -100.0..100.0f64), 1..120),
            hop_ms in prop::sample::select(vec![2500u32, 5000, 10_000]),
        ) {
            let options = WindowOptions { hop_ms, ..OPTIONS };
            let mut at = -20_000;
            let timed: Vec<_> = gaps.iter().map(|&(gap, delay, x)| { at += gap; (at, at + delay, x) }).collect();
            let mut arrival = timed.clone();
            arrival.sort_by_key(|&(_, arrives, _)| arrives);
            let arrival: Vec<_> = arrival.iter().map(|&(at, _, x)| (at, x)).collect();
            let (closed, windows) = run(options, &arrival);
            prop_assert_eq!(windows.late(), 0);
            let expected = batch(options, &arrival);
            prop_assert_eq!(closed.len(), expected.len());
            for (w, (start, n, sum)) in closed.iter().zip(expected) {
                prop_assert_eq!((w.start.0 / 1000, w.features.count()), (start, n));
                prop_assert!((w.features.mean() * f64::from(n) - sum).abs() < 1e-6);
            }
        }

        #[test]
        fn no_order_of_readings_breaks_a_bound(
            readings in prop::collection::vec((any::<i64>(), any::<f64>()), 1..200),
            length_ms in any::<u32>(), hop_ms in any::<u32>(), lateness_ms in any::<u32>(),
        ) {
            let mut windows = Windows::new(WindowOptions { length_ms, hop_ms, lateness_ms });
            for (at, x) in readings {
                windows.push(Wall(at), crate::reading::value_from_f64(x), &mut |_| {});
                prop_assert!(windows.open.len() <= limits::WINDOWS_OPEN_MAX);
            }
        }
    }

    /// What a batch job says of one window, from all its readings at once.
    fn reference(readings: &[(i64, f64)]) -> [f64; 7] {
        let n = readings.len() as f64;
        let xs = || readings.iter().map(|r| r.1);
        let hours = || readings.iter().map(|r| r.0 as f64 / 3.6e6);
        let (mean, hour) = (xs().sum::<f64>() / n, hours().sum::<f64>() / n);
        let squares =
            |of: &mut dyn Iterator<Item = f64>, mean: f64| of.map(|x| (x - mean).powi(2)).sum::<f64>();
        let co: f64 = readings.iter().map(|r| (r.0 as f64 / 3.6e6 - hour) * (r.1 - mean)).sum();
        let spread = squares(&mut hours(), hour);
        let slope = if spread > 0.0 { co / spread } else { 0.0 };
        let last = readings.iter().max_by_key(|r| r.0).unwrap().1;
        let (min, max) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
        [n, min, max, mean, (squares(&mut xs(), mean) / n).sqrt(), last, slope]
    }

    #[test]
    fn a_million_readings_out_of_order_give_what_a_batch_gives_less_those_counted_late() {
        let options = WindowOptions { hop_ms: 5000, ..OPTIONS };
        let mut rng = fastrand::Rng::with_seed(12);
        // Event times are apart, most arrivals within the lateness, one of a thousand behind it.
        let mut sent: Vec<(i64, i64, f64)> = (0..1_000_000_i64)
            .map(|i| {
                let at = 10 * i + rng.i64(0..9);
                let delay = if rng.u32(0..1000) == 0 { 20_000 } else { rng.i64(0..4990) };
                (at + delay, at, 1e3 * (i as f64 / 1e4).sin() + rng.f64())
            })
            .collect();
        sent.sort_by_key(|s| s.0);
        let mut windows = Windows::new(options);
        let mut closed = Vec::new();
        let mut batch = std::collections::BTreeMap::<i64, Vec<(i64, f64)>>::new();
        let (mut newest, mut late) = (-1_000_000, 0);
        for (_, at, x) in sent {
            windows.push(Wall(at * 1000), Ok(x), &mut |w| closed.push(w.clone()));
            if at < newest - i64::from(options.lateness_ms) {
                late += 1;
                continue;
            }
            newest = newest.max(at);
            let last = at.div_euclid(5000) * 5000;
            // A window that the watermark has passed takes nothing any more.
            let open = |start: &i64| start + 10_000 > newest - i64::from(options.lateness_ms);
            [last, last - 5000]
                .into_iter()
                .filter(open)
                .for_each(|s| batch.entry(s).or_default().push((at, x)));
        }
        windows.flush(&mut |w| closed.push(w.clone()));
        assert!(late > 500);
        assert_eq!((windows.late(), closed.len()), (late, batch.len()));
        for (w, (start, readings)) in closed.iter().zip(batch) {
            let f = &w.features;
            let ours = [f64::from(f.count()), f.min(), f.max(), f.mean(), f.std(), f.last(), f.slope_per_h()];
            assert_eq!(w.start.0 / 1000, start);
            for (a, b) in ours.into_iter().zip(reference(&readings)) {
                assert!(
                    (a - b).abs() <= 1e-6 * (1.0 + b.abs()),
                    "{start}: {ours:?}, batch {:?}",
                    reference(&readings)
                );
            }
        }
    }

    #[test]
    fn a_reading_behind_the_watermark_is_counted_and_left_out() {
        let (closed, windows) = run(OPTIONS, &[(0, 1.0), (16_000, 2.0), (9_000, 3.0)]);
        assert_eq!(windows.late(), 1);
        assert_eq!(closed.iter().map(|w| w.features.count()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_clock_set_back_starts_anew_and_one_stray_reading_does_not() {
        let back = |n: u32| -> Vec<(i64, f64)> {
            let mut readings = vec![(1_000_000, 1.0)];
            readings.extend((0..n).map(|i| (i64::from(i) * 1000, 2.0)));
            readings
        };
        assert_eq!(run(OPTIONS, &back(limits::LATE_RUN_MAX - 1)).0.len(), 1);
        let (closed, windows) = run(OPTIONS, &back(limits::LATE_RUN_MAX));
        assert_eq!(closed.len(), 2);
        assert_eq!(windows.newest(), Some(Wall(i64::from(limits::LATE_RUN_MAX - 1) * 1_000_000)));
    }

    #[test]
    fn a_window_closed_for_idleness_is_told_once_and_late_comers_do_not_reopen_it() {
        let mut windows = Windows::new(OPTIONS);
        let mut starts = Vec::new();
        let mut tell = |w: &Window| starts.push(w.start.0 / 1_000_000);
        windows.push(Wall::from_secs(1), Ok(1.0), &mut tell);
        windows.close_idle(Wall::from_secs(9), &mut tell);
        windows.close_idle(Wall::from_secs(10), &mut tell);
        windows.push(Wall::from_secs(2), Ok(1.0), &mut tell);
        windows.push(Wall::from_secs(12), Ok(1.0), &mut tell);
        windows.flush(&mut tell);
        assert_eq!(starts, [0, 10]);
    }

    #[test]
    fn a_jump_ahead_by_centuries_makes_no_empty_windows() {
        let (closed, _) = run(OPTIONS, &[(0, 1.0), (10_000_000_000_000, 2.0)]);
        assert_eq!(closed.len(), 2);
    }
}
