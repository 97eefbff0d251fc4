//! What was never seen before: three ways to leave one's own past, learnt on the stream itself.
//!
//! * **range**: the value, or the mean of the last 20, jumps out of everything seen before;
//! * **drift**: within the last tenth of the past, the mean has moved out of all of it by its width;
//! * **course**: the last steps look like no stretch of the past (nearest neighbour, [`super::course`]).
//!
//! Whatever leaves the range is held against the band that it left, so that one fault is one finding with a peak
//! and an end, and is learnt only when it stays for good. About 7 KiB per stream, mostly the course.
//!
//! The thresholds were tuned on half of a public benchmark's files and judged on the other half.

use super::course::Course;
use super::{Reason, Verdict, squash};
use crate::limits;
use crate::reading::{Pattern, Severity};
use crate::time::Wall;

/// From where on a deviation is one. The default is what is shipped; others are for measuring it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoveltyOptions {
    /// Excess of the value, of the mean of the last 20 and of a step, as shares of the width.
    pub value_excess: f64,
    /// Likewise.
    pub mean_excess: f64,
    /// Likewise.
    pub step_excess: f64,
    /// Jumps within so many standard deviations of the noise are records, not findings: of the value, the mean, a step.
    pub value_noise: f64,
    /// Likewise.
    pub mean_noise: f64,
    /// Likewise.
    pub step_noise: f64,
    /// Standard deviations at which a course is strange.
    pub course_sigmas: f64,
}

impl Default for NoveltyOptions {
    fn default() -> Self {
        Self {
            value_excess: 0.03,
            mean_excess: 0.06,
            step_excess: 0.5,
            value_noise: 2.5,
            mean_noise: 0.1,
            step_noise: 4.0,
            course_sigmas: 4.5,
        }
    }
}

/// The detector of one stream.
#[derive(Debug, Clone)]
pub struct Novelty {
    options: NoveltyOptions,
    readings: u64,
    first_at: Wall,
    last: f64,
    /// Mean absolute difference of neighbours.
    wobble: f64,
    baseline: f64,
    recent: [f64; MEAN_OF],
    values: Range,
    means: Range,
    steps: Range,
    /// Extremes of the steps of the running and the last block, not yet part of `steps`.
    block: [Band; 2],
    block_steps: u32,
    step_sum: f64,
    step_readings: u32,
    course: Course,
    hold: Option<Hold>,
    /// No new excursion before this reading, and no new odd course before that one.
    rested_at: u64,
    course_rested_at: u64,
}

impl Novelty {
    /// Nothing learnt yet.
    pub fn new(options: NoveltyOptions) -> Self {
        Self {
            options,
            readings: 0,
            first_at: Wall(0),
            last: 0.0,
            wobble: 0.0,
            baseline: 0.0,
            recent: [0.0; MEAN_OF],
            values: Range::default(),
            means: Range::default(),
            steps: Range::default(),
            block: [Band::EMPTY; 2],
            block_steps: 0,
            step_sum: 0.0,
            step_readings: 0,
            course: Course::new(),
            hold: None,
            rested_at: limits::NOVELTY_LEARN_READINGS,
            course_rested_at: limits::NOVELTY_LEARN_READINGS,
        }
    }

    /// Judges one finite value. Readings come in the order of arrival; `at` only tells how long the past is.
    pub fn step(&mut self, at: Wall, value: f64) -> Option<Verdict> {
        // A square of more than this would not fit the course's f32.
        let x = value.clamp(-VALUE_MAX, VALUE_MAX);
        if self.readings == 0 {
            (self.first_at, self.last, self.baseline, self.recent) = (at, x, x, [x; MEAN_OF]);
        }
        self.readings += 1;
        let slot = (self.readings % MEAN_OF as u64) as usize;
        self.recent[slot] = x;
        let mean = self.recent.iter().sum::<f64>() / MEAN_OF as f64;
        let step = self.close_step(at, x);
        let verdict = match self.hold {
            Some(hold) => self.held(at, hold, x, mean),
            None => self.free(at, x, mean, step),
        };
        self.last = x;
        verdict
    }

    /// Forgets a hold, for instance because the channel's clock was set back.
    pub fn release(&mut self) {
        self.hold = None;
    }

    /// Judges while nothing is out of the ordinary, and learns.
    fn free(&mut self, at: Wall, x: f64, mean: f64, step: Option<Step>) -> Option<Verdict> {
        let rested = self.readings > self.rested_at;
        // A young past is narrow: what leaves it by a little is the next record, not a finding.
        let youth = 1.0 + YOUNG_READINGS / self.readings as f64;
        let noise = self.wobble * WOBBLE_TO_SIGMA * youth;
        let step_noise = noise * self.options.step_noise / f64::from(self.course.stride()).sqrt();
        let candidates = [
            (
                Signal::Value,
                x,
                self.values.excess(x, noise * self.options.value_noise) / self.options.value_excess,
            ),
            (
                Signal::Mean,
                mean,
                self.means.excess(mean, noise * self.options.mean_noise) / self.options.mean_excess,
            ),
            match step {
                Some(s) => {
                    (Signal::Step, s.mean, self.steps.excess(s.mean, step_noise) / self.options.step_excess)
                }
                None => (Signal::Step, mean, 0.0),
            },
        ];
        let (signal, s, strength) =
            candidates.into_iter().fold(candidates[0], |best, c| if c.2 > best.2 { c } else { best });
        if rested && strength >= 1.0 {
            return Some(self.seize(at, signal, s, x, strength));
        }
        self.learn(at, x, mean, step);
        let strange = step.map_or(0.0, |s| s.strangeness / self.options.course_sigmas);
        if self.readings > self.course_rested_at.max(self.rested_at) {
            // Only the course rests: what goes on to leave the range must still be held against the past.
            return (strange >= 1.0).then(|| {
                self.course_rested_at = self.readings + REST_STEPS * u64::from(self.course.stride());
                self.odd_course(x, strange, true)
            });
        }
        // The course of the same event goes on being strange for a while: that keeps the episode open.
        let learnt = self.readings > limits::NOVELTY_LEARN_READINGS + REST_STEPS;
        (strange >= 0.6 && learnt).then(|| self.odd_course(x, strange, false))
    }

    fn learn(&mut self, at: Wall, x: f64, mean: f64, step: Option<Step>) {
        let n = self.readings as f64;
        self.wobble += ((x - self.last).abs() - self.wobble) / n.min(500.0);
        self.baseline += (x - self.baseline) / n.min(200.0 * f64::from(self.course.stride()));
        self.values.learn(at, x);
        if self.readings >= MEAN_OF as u64 {
            self.means.learn(at, mean);
        }
        let Some(step) = step else { return };
        self.block[0].take(step.mean);
        self.block_steps += 1;
        if self.block_steps == BLOCK_STEPS {
            self.block_steps = 0;
            let [running, last] = self.block;
            if last.lo <= last.hi {
                self.steps.learn(at, last.lo);
                self.steps.learn(at, last.hi);
            }
            self.block = [Band::EMPTY, running];
        }
    }

    /// A signal leaves its band: from here on it is held against it.
    fn seize(&mut self, at: Wall, signal: Signal, s: f64, x: f64, strength: f64) -> Verdict {
        let mut band = match signal {
            Signal::Value => self.values.all,
            Signal::Mean => self.means.all,
            Signal::Step => self.steps.all,
        };
        let up = s > band.hi;
        // What is back near the edge is back: without this margin noise at the edge would open and close at will.
        let slack = 0.02 * (band.hi - band.lo);
        (band.lo, band.hi) = (band.lo - slack, band.hi + slack);
        let span_s = u64::try_from(at.micros_since(self.first_at) / 1_000_000).unwrap_or(0);
        let span_s = span_s.min(Range::SPAN_S_MAX);
        let hold = Hold {
            signal,
            band,
            up,
            outside: 1,
            total: 1,
            inside: 0,
            s_peak: s,
            span_s,
            peak: x,
            since: self.readings,
        };
        self.hold = Some(hold);
        self.rested_at = self.readings + REST_STEPS;
        self.excursion(&hold, strength, true)
    }

    /// Judges while a signal is held against the band that it left.
    fn held(&mut self, at: Wall, mut hold: Hold, x: f64, mean: f64) -> Option<Verdict> {
        let s = match hold.signal {
            Signal::Value => x,
            Signal::Mean | Signal::Step => mean,
        };
        let out = if hold.up { s > hold.band.hi } else { s < hold.band.lo };
        // A spike after a spike is one more; what lasts and touches its band now and then is still the same.
        let again = out && hold.inside > 0 && !hold.is_lasting();
        if out {
            (hold.outside, hold.inside) = (hold.outside.saturating_add(1), 0);
            hold.total = hold.outside;
            hold.s_peak = if hold.up { hold.s_peak.max(s) } else { hold.s_peak.min(s) };
            hold.peak = if hold.up { hold.peak.max(x) } else { hold.peak.min(x) };
        } else {
            hold.inside += 1;
            // The other side of the band is a fault of its own.
            let noise = self.wobble * WOBBLE_TO_SIGMA;
            let other = self.values.excess(x, noise * self.options.value_noise) / self.options.value_excess;
            let crossed = if hold.up { x < self.values.all.lo } else { x > self.values.all.hi };
            if crossed && other >= 1.0 {
                return Some(self.seize(at, Signal::Value, x, x, other));
            }
        }
        let stayed = self.readings - hold.since;
        let for_good = stayed > HOLD_STEPS * u64::from(self.course.stride());
        if hold.inside >= HOLD_INSIDE || for_good {
            self.hold = None;
            let short = hold.total < LASTING_READINGS;
            let share = if for_good {
                1.0
            } else if short {
                LEARN_SHORT
            } else {
                LEARN_LONG
            };
            self.absorb(at, &hold, share);
            if for_good {
                // The other signals have followed; they must not find the same event again.
                for range in [&mut self.values, &mut self.means, &mut self.steps] {
                    range.learn(at, mean);
                }
            }
        } else {
            self.hold = Some(hold);
        }
        out.then(|| self.excursion(&hold, 1.0, again))
    }

    /// Widens the past by a share of what was beyond it.
    fn absorb(&mut self, at: Wall, hold: &Hold, share: f64) {
        let edge = if hold.up { hold.band.hi } else { hold.band.lo };
        let range = match hold.signal {
            Signal::Value => &mut self.values,
            Signal::Mean => &mut self.means,
            Signal::Step => &mut self.steps,
        };
        range.learn(at, edge + share * (hold.s_peak - edge));
    }

    fn excursion(&self, hold: &Hold, strength: f64, fresh: bool) -> Verdict {
        let lasting = hold.is_lasting();
        let sudden = hold.signal == Signal::Value;
        let pattern = match (lasting, sudden, hold.up) {
            (false, ..) => Pattern::Spike,
            (true, true, true) => Pattern::High,
            (true, true, false) => Pattern::Low,
            (true, false, true) => Pattern::Rise,
            (true, false, false) => Pattern::Fall,
        };
        let width = hold.band.hi - hold.band.lo;
        let beyond = if hold.up { hold.peak - hold.band.hi } else { hold.band.lo - hold.peak };
        let edge = if hold.up { hold.band.hi } else { hold.band.lo };
        // Farther out than the whole past is wide, and not for one reading only: somebody should look.
        let grave = lasting && beyond > width;
        Verdict {
            score: squash(strength),
            pattern,
            severity: if grave { Severity::Warning } else { Severity::Info },
            reason: Reason::OutOfRange { up: hold.up, edge, span_s: hold.span_s },
            since: None,
            baseline: Some(self.baseline),
            peak: Some(hold.peak),
            limit: None,
            fresh,
        }
    }

    fn odd_course(&self, x: f64, strength: f64, fresh: bool) -> Verdict {
        let up = x >= self.baseline;
        Verdict {
            score: squash(strength),
            pattern: if up { Pattern::High } else { Pattern::Low },
            severity: Severity::Info,
            reason: Reason::OddCourse {
                sigmas: (strength * self.options.course_sigmas) as f32,
                past: self.course.stretches(),
            },
            since: None,
            baseline: Some(self.baseline),
            peak: Some(x),
            limit: None,
            fresh,
        }
    }

    /// Averages readings into steps; a step is one reading until the past is longer than the course can hold.
    fn close_step(&mut self, at: Wall, x: f64) -> Option<Step> {
        self.step_sum += x;
        self.step_readings += 1;
        if self.step_readings < self.course.stride() {
            return None;
        }
        let mean = self.step_sum / f64::from(self.step_readings);
        (self.step_sum, self.step_readings) = (0.0, 0);
        Some(Step { mean, strangeness: f64::from(self.course.step(at, mean)) })
    }
}

impl Default for Novelty {
    fn default() -> Self {
        Self::new(NoveltyOptions::default())
    }
}

/// One step of the course.
#[derive(Debug, Clone, Copy)]
struct Step {
    mean: f64,
    /// Standard deviations of the distance to the nearest neighbour.
    strangeness: f64,
}

/// Which signal left its band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Value,
    Mean,
    Step,
}

/// An excursion under way.
#[derive(Debug, Clone, Copy)]
struct Hold {
    signal: Signal,
    /// What had been seen before it.
    band: Band,
    up: bool,
    /// Readings outside, of the excursion and of its return to the outside.
    outside: u32,
    total: u32,
    /// Consecutive readings back inside.
    inside: u32,
    peak: f64,
    /// Extreme of the signal that left.
    s_peak: f64,
    /// Seconds of the past that it left.
    span_s: u64,
    /// Reading number of its beginning.
    since: u64,
}

impl Hold {
    /// More than a spike.
    fn is_lasting(&self) -> bool {
        self.outside >= LASTING_READINGS || self.signal != Signal::Value
    }
}

#[derive(Debug, Clone, Copy)]
struct Band {
    lo: f64,
    hi: f64,
}

impl Band {
    const EMPTY: Band = Band { lo: f64::INFINITY, hi: f64::NEG_INFINITY };

    fn take(&mut self, x: f64) {
        self.lo = self.lo.min(x);
        self.hi = self.hi.max(x);
    }
}

/// Extremes of a signal over its past, forgotten epoch by epoch.
#[derive(Debug, Clone)]
struct Range {
    all: Band,
    epochs: [Band; EPOCHS],
    epoch: usize,
    epoch_start: Wall,
    epoch_readings: u32,
}

impl Range {
    /// The longest past that a range remembers, in seconds, where readings are dense.
    const SPAN_S_MAX: u64 = EPOCHS as u64 * (EPOCH_US_MIN / 1_000_000) as u64;

    /// How far `x` is outside by more than `margin`, relative to the width; 0 to 1.
    fn excess(&self, x: f64, margin: f64) -> f64 {
        let beyond = (x - self.all.hi).max(self.all.lo - x);
        if beyond <= margin || !beyond.is_finite() {
            return 0.0;
        }
        beyond / (self.all.hi - self.all.lo + beyond)
    }

    fn learn(&mut self, at: Wall, x: f64) {
        self.all.take(x);
        self.epochs[self.epoch].take(x);
        self.epoch_readings = self.epoch_readings.saturating_add(1);
        let age_us = at.micros_since(self.epoch_start);
        if self.epoch_readings == 1 || age_us < 0 {
            self.epoch_start = at;
        } else if self.epoch_readings >= EPOCH_READINGS_MIN && age_us >= EPOCH_US_MIN {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.epoch = (self.epoch + 1) % EPOCHS;
        self.epochs[self.epoch] = Band::EMPTY;
        self.epoch_readings = 0;
        self.all = self
            .epochs
            .iter()
            .fold(Band::EMPTY, |all, e| Band { lo: all.lo.min(e.lo), hi: all.hi.max(e.hi) });
    }
}

impl Default for Range {
    fn default() -> Self {
        Self {
            all: Band::EMPTY,
            epochs: [Band::EMPTY; EPOCHS],
            epoch: 0,
            epoch_start: Wall(0),
            epoch_readings: 0,
        }
    }
}

/// Larger values are judged as if they were this large.
const VALUE_MAX: f64 = 1e15;
/// Readings in the short mean.
const MEAN_OF: usize = 20;
/// The margins are twice as wide after so many readings, and narrow from there.
const YOUNG_READINGS: f64 = 1000.0;
/// Standard deviation of white noise per mean absolute difference of neighbours: half the root of pi.
const WOBBLE_TO_SIGMA: f64 = 0.886;
/// Steps after a finding in which no other is made.
const REST_STEPS: u64 = 100;
/// Steps per block of the drift check; one to two blocks are its "last tenth of the past".
const BLOCK_STEPS: u32 = 32;
/// Readings outside after which an excursion is more than a spike.
const LASTING_READINGS: u32 = 5;
/// Share of an excursion that is learnt when it is over: spikes of that size are known from then on, what lasted is
/// worth telling again.
const LEARN_SHORT: f64 = 1.0;
const LEARN_LONG: f64 = 0.5;
/// Consecutive readings inside that end an excursion.
const HOLD_INSIDE: u32 = 3;
/// Steps after which an excursion is the new normal.
const HOLD_STEPS: u64 = 400;
/// Epochs that a range remembers, and how long and full each must be.
const EPOCHS: usize = 8;
const EPOCH_US_MIN: i64 = 3 * 86_400 * 1_000_000;
const EPOCH_READINGS_MIN: u32 = 500;
