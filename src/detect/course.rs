//! The course of a stream against its own past: distance to the nearest stretch that was ever seen.
//!
//! The distance between the stream now and the stream `lag` steps ago is kept for every lag at once, as an
//! exponentially forgetting sum of squared differences: `E[lag] = keep * E[lag] + (x - x[lag steps ago])^2`. A step
//! costs one pass over the lags, whatever the length of the stretch; nothing accumulates, so nothing drifts.
//! The nearest neighbour is the smallest `E` beyond the stretch itself; how strange it is, is its deviation from the
//! distances usual for this stream.
//!
//! When the memory is full and still shorter than [`SPAN_US_MIN`], neighbours are averaged and the stride doubles: a
//! fast stream is first known by its minutes, at last by its days.

use crate::limits::COURSE_STEPS;
use crate::time::Wall;

/// Memory of one stream: two floats per step.
#[derive(Debug, Clone)]
pub struct Course {
    /// Past values, newest first from `head`, a ring.
    past: Box<[f32; COURSE_STEPS]>,
    /// Forgetting squared distance by lag - 1.
    distance: Box<[f32; COURSE_STEPS]>,
    head: usize,
    len: usize,
    stride: u32,
    /// Value that is subtracted from all, so that f32 is fine enough.
    anchor: f64,
    last_at: Wall,
    span_us: i64,
    /// Distances seen, their mean and mean squared deviation.
    seen: u32,
    mean: f64,
    m2: f64,
}

impl Course {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            past: Box::new([0.0; COURSE_STEPS]),
            distance: Box::new([0.0; COURSE_STEPS]),
            head: 0,
            len: 0,
            stride: 1,
            anchor: 0.0,
            last_at: Wall(0),
            span_us: 0,
            seen: 0,
            mean: 0.0,
            m2: 0.0,
        }
    }

    /// Readings per step that the caller is to average.
    pub const fn stride(&self) -> u32 {
        self.stride
    }

    /// Stretches of the past that the newest one is held against.
    pub fn stretches(&self) -> u32 {
        u32::try_from(self.len.saturating_sub(NEAR_LAGS)).unwrap_or(u32::MAX)
    }

    /// Takes a step and tells how many standard deviations its course is farther from the past than usual; 0 while
    /// learning. `x` within ±1e15.
    pub fn step(&mut self, at: Wall, x: f64) -> f32 {
        if self.len == 0 {
            (self.anchor, self.last_at) = (x, at);
        }
        // A clock that steps by years must not pass for a long past.
        self.span_us = self.span_us.saturating_add(at.micros_since(self.last_at).clamp(0, SPAN_US_MIN / 2));
        self.last_at = at;
        let y = (x - self.anchor) as f32;
        let nearest = self.advance(y);
        self.put(y);
        let strangeness =
            if self.len > NEAR_LAGS + SETTLE { self.rate(f64::from(nearest).sqrt()) } else { 0.0 };
        if self.len == COURSE_STEPS && self.span_us < SPAN_US_MIN && self.stride < STRIDE_MAX {
            self.coarsen();
        }
        strangeness
    }

    /// Updates all distances and returns the smallest beyond the stretch itself.
    fn advance(&mut self, y: f32) -> f32 {
        // Lag 1 is the newest past value, at `head`; the ring's two halves are two straight runs.
        let first = (COURSE_STEPS - self.head).min(self.len);
        let (near, far) = self.distance[..self.len].split_at_mut(first);
        let newer = &self.past[self.head..self.head + first];
        let older = &self.past[..self.len - first];
        let skip = NEAR_LAGS.min(near.len());
        let rest = NEAR_LAGS.saturating_sub(near.len()).min(far.len());
        advance_run(&mut near[..skip], &newer[..skip], y);
        advance_run(&mut far[..rest], &older[..rest], y);
        let a = advance_run(&mut near[skip..], &newer[skip..], y);
        let b = advance_run(&mut far[rest..], &older[rest..], y);
        a.min(b)
    }

    fn put(&mut self, y: f32) {
        self.head = (self.head + COURSE_STEPS - 1) % COURSE_STEPS;
        self.past[self.head] = y;
        if self.len < COURSE_STEPS {
            self.distance[self.len] = 0.0;
            self.len += 1;
        }
    }

    fn rate(&mut self, d: f64) -> f32 {
        let usual = self.m2.max(0.0).sqrt() + 0.02 * self.mean + f64::MIN_POSITIVE;
        let sigmas =
            if self.seen < SETTLE as u32 { 0.0 } else { ((d - self.mean) / usual / self.youth()) as f32 };
        self.seen = (self.seen + 1).min(SEEN_MAX);
        let weight = 1.0 / f64::from(self.seen);
        let deviation = d - self.mean;
        self.mean += weight * deviation;
        self.m2 += weight * (deviation * (d - self.mean) - self.m2);
        sigmas
    }

    /// A deviation known from few distances is itself uncertain.
    fn youth(&self) -> f64 {
        1.0 + YOUNG_DISTANCES / f64::from(self.seen.max(1))
    }

    /// Halves the memory by averaging neighbours, doubles the stride.
    fn coarsen(&mut self) {
        let old: Vec<f32> = (0..self.len).map(|i| self.past[(self.head + i) % COURSE_STEPS]).collect();
        self.len /= 2;
        self.head = 0;
        for (slot, pair) in self.past.iter_mut().zip(old.chunks_exact(2)) {
            *slot = (pair[0] + pair[1]) / 2.0;
        }
        self.stride *= 2;
        for lag in 1..=self.len {
            // What is older than this has decayed below one part in ten thousand.
            let steps = (self.len - lag).min(90);
            self.distance[lag - 1] =
                (0..steps).rev().fold(0.0, |e, i| KEEP * e + (self.past[i] - self.past[i + lag]).powi(2));
        }
        self.seen = self.seen.min(SETTLE as u32 * 2);
    }
}

impl Default for Course {
    fn default() -> Self {
        Self::new()
    }
}

/// One straight run of lags; eight minima side by side, so that the compiler can use vector registers.
fn advance_run(distance: &mut [f32], past: &[f32], y: f32) -> f32 {
    let mut lanes = [f32::INFINITY; 8];
    let mut d8 = distance.chunks_exact_mut(8);
    let mut p8 = past.chunks_exact(8);
    for (d, p) in (&mut d8).zip(&mut p8) {
        for i in 0..8 {
            let e = KEEP * d[i] + (y - p[i]) * (y - p[i]);
            d[i] = e;
            lanes[i] = if e < lanes[i] { e } else { lanes[i] };
        }
    }
    let mut least = lanes.into_iter().fold(f32::INFINITY, f32::min);
    for (d, p) in d8.into_remainder().iter_mut().zip(p8.remainder()) {
        *d = KEEP * *d + (y - p) * (y - p);
        least = least.min(*d);
    }
    least
}

/// Share of a distance that survives a step: a stretch is about ten steps long.
const KEEP: f32 = 0.9;
/// Lags that are the stretch itself, not its past.
const NEAR_LAGS: usize = 20;
/// Distances to see before any is called strange.
const SETTLE: usize = 50;
/// After so many distances, deviations still count half.
const YOUNG_DISTANCES: f64 = 100.0;
/// Distances that the usual one is averaged over.
const SEEN_MAX: u32 = 8192;
/// The past that the memory should span before it stops coarsening: two days.
const SPAN_US_MIN: i64 = 2 * 86_400 * 1_000_000;
/// Coarsest stride, in readings.
const STRIDE_MAX: u32 = 1 << 20;
