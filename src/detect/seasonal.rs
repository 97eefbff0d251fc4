//! What is usual at this hour: of the day, and of the week once weeks have been seen.
//!
//! Each hour's mean is held against the means of the same hour and its neighbours on the days before. That says something
//! only where the hour explains most of what the stream does, so the detector keeps, for each profile, how far the
//! hours used to be from it, and speaks only where that is a small part of their spread. About one KiB per stream.

use super::{Reason, Verdict, squash};
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// The detector of one stream.
#[derive(Debug, Clone)]
pub struct Seasonal {
    /// Mean of each hour since the week's begin; NaN: not seen.
    week: Box<[f32; WEEK]>,
    /// Mean of each hour of the day.
    day: [f32; DAY],
    /// Errors of the two profiles, and the spread of the hours around their mean: forgetting mean absolute deviations.
    week_error: f64,
    day_error: f64,
    spread: f64,
    mean: f64,
    hours: u32,
    /// The hour under way: its number since 1970, sum and count.
    hour: i64,
    sum: f64,
    count: u32,
    /// Hours still to rest.
    rest: u32,
    /// The largest error known, slowly forgotten.
    farthest: f64,
}

impl Seasonal {
    /// Nothing learnt yet.
    pub fn new() -> Self {
        Self {
            week: Box::new([f32::NAN; WEEK]),
            day: [f32::NAN; DAY],
            week_error: 0.0,
            day_error: 0.0,
            spread: 0.0,
            mean: 0.0,
            hours: 0,
            hour: i64::MIN,
            sum: 0.0,
            count: 0,
            rest: 0,
            farthest: 0.0,
        }
    }

    /// Judges one finite value.
    pub fn step(&mut self, at: Wall, x: f64) -> Option<Verdict> {
        let hour = at.0.div_euclid(HOUR_US);
        let verdict = if hour == self.hour || self.count == 0 { None } else { self.close_hour() };
        if hour != self.hour {
            (self.hour, self.sum, self.count) = (hour, 0.0, 0);
        }
        self.sum += x.clamp(-VALUE_MAX, VALUE_MAX);
        self.count = self.count.saturating_add(1);
        verdict
    }

    /// Drops the hour under way: the channel's clock was set back.
    pub fn release(&mut self) {
        self.count = 0;
    }

    fn close_hour(&mut self) -> Option<Verdict> {
        let mean = self.sum / f64::from(self.count);
        // The first of January 1970 was a Thursday; where a week begins makes no difference.
        let of_week = self.hour.rem_euclid(WEEK as i64) as usize;
        let of_day = of_week % DAY;
        let weekly = beyond(self.week.as_slice(), of_week, mean);
        let daily = beyond(self.day.as_slice(), of_day, mean);
        let weeks = self.hours >= WEEKS_HOURS_MIN;
        let (usual, error) = match weekly {
            Some(usual) if weeks && self.week_error < self.day_error => (Some(usual), self.week_error),
            _ => (daily, self.day_error),
        };
        let verdict = usual.and_then(|usual| self.judge(mean, usual, error));
        self.learn(of_week, mean, weekly, daily);
        verdict
    }

    fn judge(&mut self, mean: f64, usual: f64, error: f64) -> Option<Verdict> {
        self.rest = self.rest.saturating_sub(1);
        let scale = error + SPREAD_SHARE * self.spread;
        let distance = (mean - usual).abs();
        let bound = (ERRORS * scale).max(FARTHER * self.farthest);
        let strength = distance / bound.max(f64::MIN_POSITIVE);
        if self.hours >= HOURS_SETTLED {
            self.farthest = (self.farthest * FADE).max(distance);
        }
        let telling = self.hours >= HOURS_MIN && error <= EXPLAINED * self.spread && self.spread > 0.0;
        if !telling || strength < 1.0 {
            return None;
        }
        let fresh = self.rest == 0;
        self.rest = REST_HOURS;
        Some(Verdict {
            score: squash(strength),
            pattern: if mean > usual { Pattern::High } else { Pattern::Low },
            severity: Severity::Info,
            reason: Reason::OddHour { usual, days: self.hours / DAY as u32 },
            since: Some(Wall(self.hour.saturating_mul(HOUR_US))),
            baseline: Some(usual),
            peak: Some(mean),
            limit: None,
            fresh,
        })
    }

    fn learn(&mut self, of_week: usize, mean: f64, weekly: Option<f64>, daily: Option<f64>) {
        self.hours = self.hours.saturating_add(1);
        let share = 1.0 / f64::from(self.hours.min(WEEK as u32));
        self.mean += share * (mean - self.mean);
        let cap = |error: f64, spread: f64| if spread > 0.0 { error.min(2.0 * spread) } else { error };
        self.spread += share * ((mean - self.mean).abs() - self.spread);
        if let Some(usual) = daily {
            let share = 1.0 / f64::from((self.hours.saturating_sub(DAY as u32)).clamp(1, WEEK as u32));
            self.day_error += share * (cap((mean - usual).abs(), self.spread) - self.day_error);
        }
        if let Some(usual) = weekly {
            let share = 1.0 / f64::from((self.hours.saturating_sub(WEEK as u32)).clamp(1, WEEK as u32));
            self.week_error += share * (cap((mean - usual).abs(), self.spread) - self.week_error);
        }
        take(&mut self.day[of_week % DAY], mean, DAY_SHARE);
        take(&mut self.week[of_week], mean, WEEK_SHARE);
    }
}

impl Default for Seasonal {
    fn default() -> Self {
        Self::new()
    }
}

/// The value nearest to `mean` between those usual at `slot`, before and after it; `None` where one is not known.
fn beyond(profile: &[f32], slot: usize, mean: f64) -> Option<f64> {
    let n = profile.len();
    let around = [profile[(slot + n - 1) % n], profile[slot], profile[(slot + 1) % n]].map(f64::from);
    let lo = around.into_iter().fold(f64::INFINITY, f64::min);
    let hi = around.into_iter().fold(f64::NEG_INFINITY, f64::max);
    around.iter().all(|x| x.is_finite()).then(|| mean.clamp(lo, hi))
}

fn take(slot: &mut f32, mean: f64, share: f64) {
    let before = if slot.is_finite() { f64::from(*slot) } else { mean };
    *slot = (before + share * (mean - before)) as f32;
}

/// Larger values are judged as if they were this large.
const VALUE_MAX: f64 = 1e15;
const HOUR_US: i64 = 3_600_000_000;
const DAY: usize = 24;
const WEEK: usize = 168;
/// What the week takes outside of the struct.
pub(super) const WEEK_BYTES: usize = WEEK * size_of::<f32>();
/// Hours to see first: three days.
const HOURS_MIN: u32 = 72;
/// Hours after which errors count: the first day is learnt.
const HOURS_SETTLED: u32 = 30;
/// Hours before the profile of the week is asked: two weeks, and a day to know its error.
const WEEKS_HOURS_MIN: u32 = 15 * 24;
/// Farther than every error known, which fade within months.
const FARTHER: f64 = 1.2;
const FADE: f64 = 0.9995;
/// A profile whose error is more than this share of the spread explains nothing.
const EXPLAINED: f64 = 0.3;
/// The error that is taken for granted, as a share of the spread.
const SPREAD_SHARE: f64 = 0.05;
/// An hour is odd that is farther from the usual than so many errors.
const ERRORS: f64 = 6.0;
/// Odd hours so close to another are the same finding.
const REST_HOURS: u32 = 8;
/// Share of a new hour in its slot.
const DAY_SHARE: f64 = 0.3;
const WEEK_SHARE: f64 = 0.5;
