//! Event-time windows with a watermark, and the summary of one window.
//!
//! ```text
//!            watermark = newest - lateness      newest
//! ----|-----------------|--------x--------------x------> event time
//!     ^ a window that ends at or before the watermark is closed and told
//! ```
//!
//! | kind | a window |
//! |---|---|
//! | fixed | starts at multiples of the hop; with hop = length they tumble, with a shorter hop they overlap |
//! | sliding | is the `length` before a reading, told once per hop at most |
//! | session | lasts until nothing comes for the gap, at most the length |
//!
//! Sliding windows, sessions and the details of a summary want readings in order of event time: these wait until the
//! watermark has passed them. The others are filed at once, in any order. A reading
//! behind the watermark is counted late and left out. [`limits::LATE_RUN_MAX`] of them in a row mean that the clock
//! of the channel was set back: what is open is told and everything starts anew at the new time. A window without
//! any reading is never made, so a clock that jumps ahead by years costs nothing.

mod fixed;
mod order;
mod session;
mod sliding;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::features::Features;
use crate::limits;
use crate::reading::{ChannelId, Unit, Value, named_enum};
use crate::time::Wall;

use fixed::Fixed;
use order::Waiting;
use session::Sessions;
use sliding::Sliding;

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
    /// More, where it is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What a summary says beyond the basics. All in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// A twentieth of the values is below it.
    pub p05: f64,
    /// The median.
    pub p50: f64,
    /// A twentieth of the values is above it.
    pub p95: f64,
    /// How often the value differed from the one before.
    pub changes: u32,
    /// Increase per hour, as of a counter: a fall is a start from nought.
    pub rate_per_h: f64,
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
            detail: f.quantiles([0.05, 0.5, 0.95]).map(|qs| {
                let [p05, p50, p95] = qs.map(|q| single(q, f64::INFINITY));
                let rate_per_h = single(f.rate_per_h(), f64::INFINITY);
                Detail { p05, p50, p95, changes: f.changes(), rate_per_h }
            }),
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
    /// What a window is; default fixed.
    pub kind: WindowKind,
    /// Length in milliseconds, at least [`limits::WINDOW_MS_MIN`]; default one minute. Of a session the longest one.
    pub length_ms: u32,
    /// Distance of the starts in milliseconds, at most the length; default the length. Of sliding windows the least
    /// distance of their ends.
    pub hop_ms: u32,
    /// How long a reading may be late, in milliseconds, at most [`limits::LATENESS_S_MAX`]; default 2 s.
    pub lateness_ms: u32,
    /// Silence that ends a session, in milliseconds; default one minute.
    pub gap_ms: u32,
    /// Quantiles, changes and rates too.
    pub detail: bool,
}

named_enum! {
    /// What a window is.
    WindowKind { Fixed = "fixed", Sliding = "sliding", Session = "session" }
}

impl WindowOptions {
    /// A minute each, side by side.
    pub const DEFAULT: Self = Self {
        kind: WindowKind::Fixed,
        length_ms: 60_000,
        hop_ms: 60_000,
        lateness_ms: 2_000,
        gap_ms: 60_000,
        detail: false,
    };
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl WindowOptions {
    /// The nearest options that keep every bound, [`limits::WINDOWS_OPEN_MAX`] among them.
    pub fn bounded(self) -> Self {
        let length_ms = self.length_ms.max(limits::WINDOW_MS_MIN);
        let lateness_ms = self.lateness_ms.min(limits::LATENESS_S_MAX * 1000);
        let gap_ms = self.gap_ms.max(1);
        if self.kind != WindowKind::Fixed {
            let hop_ms = self.hop_ms.clamp(limits::WINDOW_MS_MIN, length_ms);
            return Self { length_ms, hop_ms, lateness_ms, gap_ms, ..self };
        }
        // One window more is open on each side of the span.
        let spans = limits::WINDOWS_OPEN_MAX as u64 - 2;
        let hop_min = (u64::from(length_ms) + u64::from(lateness_ms)).div_ceil(spans);
        let hop_min = u32::try_from(hop_min).unwrap_or(u32::MAX).max(limits::WINDOW_MS_MIN);
        // Where even a tumbling window would be too short for the lateness, the window grows.
        let length_ms = length_ms.max(hop_min);
        Self { length_ms, hop_ms: self.hop_ms.clamp(hop_min, length_ms), lateness_ms, gap_ms, ..self }
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
    lateness_us: i64,
    newest: Option<Wall>,
    watermark: Wall,
    late_run: u32,
    late: u64,
    /// Readings that wait for their turn, where order matters.
    waiting: Option<Waiting>,
    shape: Shape,
}

#[derive(Debug, Clone)]
enum Shape {
    Fixed(Fixed),
    Sliding(Sliding),
    Sessions(Sessions),
}

impl Windows {
    /// No reading yet; `options` are bounded first.
    pub fn new(options: WindowOptions) -> Self {
        let options = options.bounded();
        Self {
            lateness_us: i64::from(options.lateness_ms) * 1000,
            newest: None,
            watermark: Wall(i64::MIN),
            late_run: 0,
            late: 0,
            waiting: (options.detail || options.kind != WindowKind::Fixed).then(Waiting::default),
            shape: Shape::new(&options),
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
            (self.newest, self.watermark) = (None, Wall(i64::MIN));
            self.shape.reopen();
            self.late -= 1;
            taken = Taken::SetBack;
        }
        self.late_run = 0;
        let newest = self.newest.is_none_or(|newest| at >= newest);
        if newest {
            self.newest = Some(at);
            taken = if taken == Taken::SetBack { taken } else { Taken::Newest };
            self.watermark = self.watermark.max(Wall(at.0.saturating_sub(self.lateness_us)));
        }
        match &mut self.waiting {
            Some(waiting) => {
                if let Some((at, value)) = waiting.push(at, value) {
                    self.watermark = self.watermark.max(at);
                    self.shape.put(at, value, tell);
                }
                self.pass(self.watermark, tell);
            }
            None => {
                if newest {
                    self.pass(self.watermark, tell);
                }
                self.shape.put(at, value, tell);
            }
        }
        taken
    }

    /// Closes what ends at or before `idle_to`, because nothing has come for long. A reading that comes after all is
    /// not put into what was closed, but it is no sign of a clock set back either: the watermark stays.
    pub fn close_idle(&mut self, idle_to: Wall, tell: &mut impl FnMut(&Window)) {
        self.release(idle_to, tell);
        if let Some(end) = self.shape.close_to(idle_to, tell) {
            self.shape.keep_closed(end);
        }
    }

    /// Closes everything that is open.
    pub fn flush(&mut self, tell: &mut impl FnMut(&Window)) {
        self.release(Wall(i64::MAX), tell);
        self.shape.flush(tell);
    }

    /// Whether a reading of `at` or before may be in a window that was not told yet.
    pub fn holds(&self, at: Wall) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.holds(at)) || self.shape.holds(at)
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

    /// The watermark has passed `to`.
    fn pass(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) {
        self.release(to, tell);
        self.shape.close_to(to, tell);
        self.shape.keep_closed(to);
    }

    /// Ends the waiting of what is not later than `to`.
    fn release(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) {
        while let Some((at, value)) = self.waiting.as_mut().and_then(|waiting| waiting.pop(to)) {
            self.shape.put(at, value, tell);
        }
    }
}

impl Shape {
    fn new(options: &WindowOptions) -> Self {
        let [length_us, hop_us, gap_us] =
            [options.length_ms, options.hop_ms, options.gap_ms].map(|ms| i64::from(ms) * 1000);
        let detail = options.detail;
        match options.kind {
            WindowKind::Fixed => {
                let (open, closed_to) = (VecDeque::new(), Wall(i64::MIN));
                Shape::Fixed(Fixed { length_us, hop_us, open, closed_to, detail })
            }
            WindowKind::Sliding => {
                let (recent, told, untold) = (VecDeque::new(), None, false);
                Shape::Sliding(Sliding { length_us, hop_us, recent, told, untold, detail })
            }
            WindowKind::Session => Shape::Sessions(Sessions { gap_us, length_us, open: None, detail }),
        }
    }

    fn put(&mut self, at: Wall, value: Value, tell: &mut impl FnMut(&Window)) {
        match self {
            Shape::Fixed(fixed) => fixed.put(at, value),
            Shape::Sliding(sliding) => sliding.put(at, value, tell),
            Shape::Sessions(sessions) => sessions.put(at, value, tell),
        }
    }

    /// Closes what ends at or before `to`; returns the last end.
    fn close_to(&mut self, to: Wall, tell: &mut impl FnMut(&Window)) -> Option<Wall> {
        match self {
            Shape::Fixed(fixed) => fixed.close_to(to, tell),
            Shape::Sliding(sliding) => sliding.close_to(to, tell),
            Shape::Sessions(sessions) => sessions.close_to(to, tell),
        }
    }

    fn flush(&mut self, tell: &mut impl FnMut(&Window)) {
        match self {
            Shape::Fixed(fixed) => fixed.flush(tell),
            Shape::Sliding(sliding) => sliding.flush(tell),
            Shape::Sessions(sessions) => sessions.flush(tell),
        }
    }

    fn holds(&self, at: Wall) -> bool {
        match self {
            Shape::Fixed(fixed) => fixed.open.front().is_some_and(|window| window.start <= at),
            Shape::Sliding(sliding) => sliding.untold && sliding.told.is_some_and(|told| told <= at),
            Shape::Sessions(sessions) => sessions.begun().is_some_and(|start| start <= at),
        }
    }

    /// Windows that end up to `to` are not opened again; those of the other kinds begin at their readings.
    fn keep_closed(&mut self, to: Wall) {
        if let Shape::Fixed(fixed) = self {
            fixed.closed_to = fixed.closed_to.max(to);
        }
    }

    /// The clock was set back: any window may be opened.
    fn reopen(&mut self) {
        if let Shape::Fixed(fixed) = self {
            fixed.closed_to = Wall(i64::MIN);
        }
    }
}

/// Microseconds in whole milliseconds, rounded up.
fn millis_up(us: i64) -> u32 {
    u32::try_from(us.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
