//! Statistics of one channel over one window, updated reading by reading in constant memory.
//!
//! Sound for any finite input: means and slopes are updated, never summed and divided, so that huge values do not
//! overflow and small wiggles on a large offset do not drown (Welford 1962). What still overflows is replaced by
//! a bound that is true: a summary never holds NaN or an infinity.

mod quantiles;

pub use quantiles::Quantiles;

use crate::reading::{Value, value_from_f64};
use crate::time::Wall;

/// Running statistics of one window; about 150 bytes, and 2 KiB more with details.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    origin: Wall,
    count: u32,
    missing: u32,
    changes: u32,
    min: f64,
    max: f64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    m2: f64,
    /// Mean of the event times, hours since `origin`.
    hours_mean: f64,
    hours_m2: f64,
    /// Sum of products of the deviations of time and value.
    co: f64,
    last: f64,
    last_at: Wall,
    first_at: Wall,
    /// What a counter has counted between the first and the last reading.
    increase: f64,
    /// Kept where the details of a summary are wanted.
    quantiles: Option<Box<Quantiles>>,
}

impl Features {
    /// Nothing seen yet; times are held relative to `origin`, so choose one near the readings. With `detail`, quantiles are
    /// kept too.
    pub fn new(origin: Wall, detail: bool) -> Self {
        Self {
            origin,
            count: 0,
            missing: 0,
            changes: 0,
            min: 0.0,
            max: 0.0,
            mean: 0.0,
            m2: 0.0,
            hours_mean: 0.0,
            hours_m2: 0.0,
            co: 0.0,
            last: 0.0,
            last_at: origin,
            first_at: origin,
            increase: 0.0,
            quantiles: detail.then(Box::default),
        }
    }

    /// Takes one reading, in any order of event time.
    pub fn push(&mut self, at: Wall, value: Value) {
        match value.and_then(value_from_f64) {
            Ok(x) => self.push_number(at, x),
            Err(_) => self.missing = self.missing.saturating_add(1),
        }
    }

    fn push_number(&mut self, at: Wall, x: f64) {
        if self.count == 0 {
            (self.min, self.max, self.last, self.last_at, self.first_at) = (x, x, x, at, at);
        } else if at >= self.last_at {
            self.changes = self.changes.saturating_add(u32::from(x != self.last));
            self.increase += if x >= self.last { x - self.last } else { x.max(0.0) };
            (self.last, self.last_at) = (x, at);
        }
        if let Some(quantiles) = &mut self.quantiles {
            quantiles.push(x);
        }
        self.min = self.min.min(x);
        self.max = self.max.max(x);
        self.count = self.count.saturating_add(1);
        let n = f64::from(self.count);
        let hours = at.micros_since(self.origin) as f64 / MICROS_PER_HOUR;
        let dx = x - self.mean;
        let dt = hours - self.hours_mean;
        // Divided before subtracting: the difference of two huge values would overflow.
        self.mean += x / n - self.mean / n;
        self.hours_mean += dt / n;
        self.m2 += dx * (x - self.mean);
        self.hours_m2 += dt * (hours - self.hours_mean);
        self.co += dt * (x - self.mean);
    }

    /// Readings with a value.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Readings without one.
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// How often the value differed from the one before, among readings that came in order.
    pub const fn changes(&self) -> u32 {
        self.changes
    }

    /// The values below which these shares of all values lie, where details are kept.
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        self.quantiles.as_ref().map(|quantiles| quantiles.at(shares))
    }

    /// Increase per hour as of a counter, among readings that came in order; 0 without two times or where it overflows.
    pub fn rate_per_h(&self) -> f64 {
        let hours = self.last_at.micros_since(self.first_at) as f64 / MICROS_PER_HOUR;
        let rate = self.increase / hours;
        if rate.is_finite() { rate } else { 0.0 }
    }

    /// Smallest value, 0 if there is none.
    pub const fn min(&self) -> f64 {
        self.min
    }

    /// Largest value, 0 if there is none.
    pub const fn max(&self) -> f64 {
        self.max
    }

    /// Arithmetic mean, within `min` and `max`; 0 if there is none.
    pub fn mean(&self) -> f64 {
        self.mean.clamp(self.min, self.max)
    }

    /// Population standard deviation; where it overflows, half the range, which bounds it.
    pub fn std(&self) -> f64 {
        let bound = self.max / 2.0 - self.min / 2.0;
        let std = (self.m2.max(0.0) / f64::from(self.count.max(1))).sqrt();
        if std.is_finite() { std.min(bound) } else { bound }
    }

    /// Value with the latest event time, 0 if there is none.
    pub const fn last(&self) -> f64 {
        self.last
    }

    /// Least-squares slope in units per hour; 0 when all readings share one time or the arithmetic overflows.
    pub fn slope_per_h(&self) -> f64 {
        let slope = self.co / self.hours_m2;
        if slope.is_finite() { slope } else { 0.0 }
    }
}

const MICROS_PER_HOUR: f64 = 3.6e9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::NoData;

    fn of(points: &[(i64, f64)]) -> Features {
        let mut features = Features::new(Wall(0), false);
        points.iter().for_each(|&(s, x)| features.push(Wall::from_secs(s), Ok(x)));
        features
    }

    #[test]
    fn a_straight_line_gives_its_own_slope_mean_and_spread() {
        let f = of(&[(0, 10.0), (3600, 12.0), (7200, 14.0)]);
        assert_eq!((f.count(), f.min(), f.max(), f.last()), (3, 10.0, 14.0, 14.0));
        assert!((f.mean() - 12.0).abs() < 1e-12 && (f.slope_per_h() - 2.0).abs() < 1e-9);
        assert!((f.std() - (8.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_last_value_is_the_latest_by_event_time_not_by_arrival() {
        assert_eq!(of(&[(5, 1.0), (9, 2.0), (7, 3.0)]).last(), 2.0);
    }

    #[test]
    fn a_small_wiggle_on_a_large_offset_keeps_its_size() {
        let f = of(&[(0, 1e9 + 0.5), (1, 1e9 - 0.5), (2, 1e9 + 0.5), (3, 1e9 - 0.5)]);
        assert!((f.std() - 0.5).abs() < 1e-6, "{}", f.std());
    }

    #[test]
    fn the_largest_and_smallest_floats_never_give_nan_or_infinity() {
        for xs in
            [[f64::MAX, f64::MIN, f64::MAX], [5e-324, 0.0, -5e-324], [f64::MAX; 3], [1e300, -1e300, 1.0]]
        {
            let f = of(&[(0, xs[0]), (i64::MAX, xs[1]), (i64::MIN, xs[2])]);
            for y in [f.mean(), f.std(), f.slope_per_h(), f.min(), f.max(), f.last()] {
                assert!(y.is_finite(), "{xs:?} gave {f:?}");
            }
        }
    }

    #[test]
    fn a_window_without_a_value_is_all_zero_and_counts_what_was_missing() {
        let mut f = Features::new(Wall(0), false);
        f.push(Wall(1), Err(NoData::ReadFailed));
        f.push(Wall(2), Ok(f64::NAN));
        assert_eq!((f.count(), f.missing(), f.mean(), f.std(), f.slope_per_h()), (0, 2, 0.0, 0.0, 0.0));
    }

    #[test]
    fn a_counter_that_starts_anew_has_counted_what_came_after() {
        let f = of(&[(0, 100.0), (1800, 150.0), (2700, 10.0), (3600, 30.0)]);
        assert_eq!((f.rate_per_h(), f.changes()), (80.0, 3));
        assert_eq!(of(&[(5, 1.0)]).rate_per_h(), 0.0);
    }

    #[test]
    fn switches_of_a_two_state_channel_are_counted() {
        assert_eq!(of(&[(0, 0.0), (1, 1.0), (2, 1.0), (3, 0.0)]).changes(), 2);
    }
}
