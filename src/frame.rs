//! Samples of one or several channels on one grid of event time: what a small model judges.
//!
//! ```text
//! readings   x  x x    x x  x   x        x x x      event time
//! cells    |  0   |  1   |  2   |  3   |  4   |     each `step` long; a sample is the mean of its readings
//!                                ^ empty: the sample before stands in, at most [`limits::FRAME_HOLD_CELLS`] times
//! ```
//!
//! A [`Frame`] is the latest `length` samples of every channel, and is made each time `hop` more are complete. Longer
//! silence, or a clock that was set back, begins anew: a model never sees a hole.

use std::collections::VecDeque;
use std::fmt;

use crate::limits;
use crate::reading::Pattern;
use crate::time::Wall;

/// Name of a small model: 1 to [`limits::MODEL_NAME_BYTES_MAX`] bytes of `A-Z a-z 0-9 _ - .`. Copied, never allocated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    bytes: [u8; limits::MODEL_NAME_BYTES_MAX],
    length: u8,
}

impl ModelName {
    /// Checks `name` and takes it.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=limits::MODEL_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let mut bytes = [0; limits::MODEL_NAME_BYTES_MAX];
        bytes.get_mut(..name.len()).filter(|_| fits)?.copy_from_slice(name.as_bytes());
        Some(Self { bytes, length: u8::try_from(name.len()).ok()? })
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// How a model wants its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameOptions {
    /// Channels, at least one.
    pub channels: usize,
    /// Time of one sample in milliseconds, at least one.
    pub step_ms: u32,
    /// Samples of one frame.
    pub length: usize,
    /// New samples from one frame to the next, at least one.
    pub hop: usize,
}

/// The latest samples of every channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Event time of the end of its last sample.
    pub at: Wall,
    /// Event time of the begin of its first sample.
    pub start: Wall,
    /// Samples in order of time, one row per channel.
    pub rows: Vec<Vec<f64>>,
}

impl Frame {
    /// The shape of one channel's course, where a person would call it a climb or a descent at a glance: the last quarter is
    /// held against the first.
    pub fn trend(row: &[f64]) -> Option<Pattern> {
        let quarter = (row.len() / 4).max(1);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        let span = row.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - row.iter().copied().fold(f64::INFINITY, f64::min);
        let moved = mean(&row[row.len().saturating_sub(quarter)..]) - mean(&row[..quarter.min(row.len())]);
        match moved {
            m if m > span / 2.0 => Some(Pattern::Rise),
            m if m < -span / 2.0 => Some(Pattern::Fall),
            _ => None,
        }
    }
}

/// Gathers the samples of one model.
#[derive(Debug, Clone)]
pub struct Frames {
    options: FrameOptions,
    rows: Vec<Row>,
    /// Cell behind the last sample of the latest frame.
    told: Option<i64>,
}

/// The samples of one channel; cells are numbered from the epoch.
#[derive(Debug, Clone, Default)]
struct Row {
    samples: VecDeque<f64>,
    /// Cell that readings fall into now, behind the last sample.
    open: i64,
    sum: f64,
    count: u32,
}

impl Frames {
    /// No reading yet.
    pub fn new(options: FrameOptions) -> Self {
        let options = FrameOptions {
            channels: options.channels.max(1),
            step_ms: options.step_ms.max(1),
            length: options.length.clamp(1, limits::FRAME_SAMPLES_MAX),
            hop: options.hop.max(1),
        };
        Self { options, rows: vec![Row::default(); options.channels], told: None }
    }

    /// Takes one value of the channel number `row`; readings of a channel come in order of event time. Returns a frame if this
    /// reading completes one.
    pub fn push(&mut self, row: usize, at: Wall, x: f64) -> Option<Frame> {
        let cell = at.0.div_euclid(self.step_us());
        self.rows.get_mut(row)?.push(cell, x, 2 * self.options.length);
        let end = self.rows.iter().map(|row| row.open).min()?;
        let length = i64::try_from(self.options.length).ok()?;
        let whole = self.rows.iter().all(|row| row.first() <= end - length);
        let due = self.told.is_none_or(|told| end - told >= self.options.hop as i64 || end < told);
        if !(whole && due) {
            return None;
        }
        self.told = Some(end);
        let rows = self.rows.iter().map(|row| row.span(end - length, end)).collect();
        Some(Frame { at: self.time(end), start: self.time(end - length), rows })
    }

    /// The clock of the channels was set back: what was gathered is no course any more.
    pub fn clear(&mut self) {
        self.rows.fill(Row::default());
        self.told = None;
    }

    fn step_us(&self) -> i64 {
        i64::from(self.options.step_ms) * 1000
    }

    fn time(&self, cell: i64) -> Wall {
        Wall(cell.saturating_mul(self.step_us()))
    }
}

impl Row {
    fn first(&self) -> i64 {
        self.open - self.samples.len() as i64
    }

    fn push(&mut self, cell: i64, x: f64, kept: usize) {
        if self.count == 0 || cell < self.open {
            *self = Row { open: cell, ..Row::default() };
        } else if cell > self.open {
            self.close_to(cell, kept);
        }
        self.sum += x;
        self.count += 1;
    }

    /// Completes the open cell and stands in for empty ones, or begins anew after a longer silence.
    fn close_to(&mut self, cell: i64, kept: usize) {
        let sample = self.sum / f64::from(self.count);
        let empty = cell - self.open - 1;
        if empty > limits::FRAME_HOLD_CELLS {
            self.samples.clear();
        } else {
            self.samples.extend((0..=empty).map(|_| sample));
        }
        while self.samples.len() > kept {
            self.samples.pop_front();
        }
        (self.open, self.sum, self.count) = (cell, 0.0, 0);
    }

    fn span(&self, from: i64, to: i64) -> Vec<f64> {
        let index = |cell: i64| usize::try_from(cell - self.first()).unwrap_or(0);
        self.samples.iter().skip(index(from)).take(index(to) - index(from)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: FrameOptions = FrameOptions { channels: 1, step_ms: 10_000, length: 4, hop: 2 };

    fn run(options: FrameOptions, readings: &[(usize, i64, f64)]) -> Vec<Frame> {
        let mut frames = Frames::new(options);
        readings.iter().filter_map(|&(row, s, x)| frames.push(row, Wall::from_secs(s), x)).collect()
    }

    #[test]
    fn a_sample_is_the_mean_of_its_readings_and_a_frame_comes_every_hop() {
        let readings: Vec<_> = (0..80).map(|i| (0, i64::from(i) * 5, f64::from(i))).collect();
        let frames = run(OPTIONS, &readings);
        assert_eq!(frames[0].rows, [[0.5, 2.5, 4.5, 6.5]]);
        assert_eq!((frames[0].start, frames[0].at), (Wall::from_secs(0), Wall::from_secs(40)));
        assert_eq!(frames[1].rows, [[4.5, 6.5, 8.5, 10.5]]);
        assert_eq!(frames.len(), 1 + (39 - 4) / 2);
    }

    #[test]
    fn a_short_hole_is_bridged_and_a_long_one_begins_anew() {
        let hold = limits::FRAME_HOLD_CELLS;
        let with_hole = |cells: i64| -> Vec<(usize, i64, f64)> {
            (0..4).map(|i| (0, i * 10, 1.0)).chain((0..5).map(|i| (0, (4 + cells + i) * 10, 2.0))).collect()
        };
        let bridged = run(OPTIONS, &with_hole(hold));
        assert!(bridged[0].rows[0].starts_with(&[1.0]) && bridged.len() > 1, "{bridged:?}");
        let anew = run(OPTIONS, &with_hole(hold + 1));
        assert_eq!(anew.iter().map(|f| f.rows[0].clone()).collect::<Vec<_>>(), [[2.0; 4]]);
    }

    #[test]
    fn channels_meet_on_the_grid_and_the_slowest_decides() {
        let options = FrameOptions { channels: 2, ..OPTIONS };
        let mut readings: Vec<_> = (0..10).map(|i| (0, i * 10, 1.0)).collect();
        assert_eq!(run(options, &readings), []);
        readings.extend((2..8).map(|i| (1, i * 10, 2.0)));
        let frames = run(options, &readings);
        assert_eq!(frames[0].rows, [[1.0; 4], [2.0; 4]]);
        assert_eq!(frames[0].start, Wall::from_secs(20));
    }

    #[test]
    fn a_clock_that_jumps_makes_no_frame_with_a_hole_and_no_flood() {
        let mut readings: Vec<_> = (0..4).map(|i| (0, i * 10, 1.0)).collect();
        readings.push((0, 9_000_000_000_000, 1.0));
        readings.extend((0..5).map(|i| (0, 100 + i * 10, 3.0)));
        let frames = run(OPTIONS, &readings);
        assert_eq!(frames.iter().map(|f| f.rows[0].clone()).collect::<Vec<_>>(), [[3.0; 4]]);
    }

    #[test]
    fn a_course_is_called_what_a_person_would_call_it() {
        let rising: Vec<f64> = (0..64).map(f64::from).collect();
        let falling: Vec<f64> = rising.iter().rev().copied().collect();
        let cycling: Vec<f64> = (0..64).map(|i| f64::from(i % 8)).collect();
        assert_eq!(Frame::trend(&rising), Some(Pattern::Rise));
        assert_eq!(Frame::trend(&falling), Some(Pattern::Fall));
        assert_eq!(Frame::trend(&cycling), None);
    }

    #[test]
    fn a_name_is_checked_and_kept() {
        assert_eq!(ModelName::new("cold_room").unwrap().to_string(), "cold_room");
        for bad in ["", "a b", "ä", &"x".repeat(limits::MODEL_NAME_BYTES_MAX + 1)] {
            assert_eq!(ModelName::new(bad), None, "{bad:?}");
        }
    }
}
