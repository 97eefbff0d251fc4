//! The score of the Numenta Anomaly Benchmark, from its description (Lavin and Ahmad 2015).
//!
//! Around each labelled anomaly lies a window. The earliest detection in a window earns up to 1, the more the earlier
//! (a sigmoid over the position in the window); further ones in it count nothing. A detection outside costs, the more
//! the farther behind the last window; a window without any costs one miss. The first rows of a file are for learning.
//! A profile weighs the three, and the sum over a corpus is put on a scale where saying nothing at all is 0 and an
//! early hit in every window without a false alarm is 100.

/// What hits, false alarms and misses weigh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    hit: f64,
    false_alarm: f64,
    miss: f64,
}

/// The three profiles of the benchmark.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", hit: 1.0, false_alarm: 0.11, miss: 1.0 },
    Profile { name: "low FP", hit: 1.0, false_alarm: 0.22, miss: 1.0 },
    Profile { name: "low FN", hit: 1.0, false_alarm: 0.11, miss: 2.0 },
];

/// First and last row of the neighbourhood of an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First row.
    pub first: usize,
    /// Last row, included.
    pub last: usize,
}

impl Span {
    fn rows(self) -> f64 {
        (self.last - self.first + 1) as f64
    }

    fn holds(self, row: usize) -> bool {
        (self.first..=self.last).contains(&row)
    }
}

/// What a detector said of one file, beside what is true.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Anomaly score of each row.
    pub scores: Vec<f32>,
    /// The windows, in order and apart.
    pub spans: Vec<Span>,
}

impl Run {
    /// Rows at the beginning that are not scored: 15 % of the file, at most 750.
    pub fn probation(&self) -> usize {
        self.scores.len().min(5000) * 15 / 100
    }

    /// The raw score of the rows that reach `threshold`.
    pub fn raw(&self, profile: Profile, threshold: f32) -> f64 {
        let flagged = self.scores.iter().enumerate().skip(self.probation()).filter(|(_, s)| **s >= threshold);
        let mut earned = vec![None; self.spans.len()];
        let mut cost = 0.0;
        for (row, _) in flagged {
            match self.spans.iter().position(|span| span.holds(row)) {
                // The first detection is the earliest and so the best.
                Some(i) => _ = earned[i].get_or_insert(reward(self.spans[i], row)),
                None => cost += self.penalty(row),
            }
        }
        let windows = earned.iter().map(|e| e.map_or(-profile.miss, |reward| profile.hit * reward));
        windows.sum::<f64>() + profile.false_alarm * cost
    }

    /// What a false alarm at `row` costs: between 0 and -1.
    fn penalty(&self, row: usize) -> f64 {
        let before = self.spans.iter().rev().find(|span| span.last < row);
        before.map_or(-1.0, |span| sigmoid((row - span.last) as f64 / (span.rows() - 1.0)))
    }
}

/// What a detection at `row` in `span` earns: nearly 1 at its begin, nearly 0 at its end.
fn reward(span: Span, row: usize) -> f64 {
    sigmoid(-((span.last - row + 1) as f64) / span.rows()) / sigmoid(-1.0)
}

/// 1 far before the end of a window, 0 at it, -1 far behind it.
fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// The score of a corpus: 0 for silence, 100 for perfection.
pub fn score<'a>(runs: impl IntoIterator<Item = &'a Run>, profile: Profile, threshold: f32) -> f64 {
    let (mut raw, mut windows) = (0.0, 0);
    for run in runs {
        raw += run.raw(profile, threshold);
        windows += run.spans.len();
    }
    scaled(raw, windows, profile)
}

fn scaled(raw: f64, windows: usize, profile: Profile) -> f64 {
    let (silent, perfect) = (-profile.miss * windows as f64, profile.hit * windows as f64);
    100.0 * (raw - silent) / (perfect - silent)
}

/// The threshold that is best on `runs`, among 200 between the lowest and the highest score, and its score.
pub fn tuned(runs: &[&Run], profile: Profile) -> (f32, f64) {
    let mut said: Vec<(f32, usize, usize)> = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let rows = run.scores.iter().enumerate().skip(run.probation()).filter(|(_, score)| **score > 0.0);
        said.extend(rows.map(|(row, score)| (*score, number, row)));
    }
    said.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut thresholds: Vec<f32> = said.iter().rev().map(|(score, ..)| *score).collect();
    thresholds.dedup();
    let step = (thresholds.len() / 200).max(1);
    // From the highest one down: each lets some more rows speak, and only what these change is reckoned.
    let mut earned: Vec<Vec<f64>> = runs.iter().map(|run| vec![-profile.miss; run.spans.len()]).collect();
    let mut raw: f64 = earned.iter().flatten().sum();
    let windows = earned.iter().map(Vec::len).sum();
    let (mut rows, mut best) = (said.iter().peekable(), (f32::INFINITY, 0.0));
    for threshold in thresholds.into_iter().step_by(step).rev() {
        while let Some(&(_, number, row)) = rows.next_if(|(score, ..)| *score >= threshold) {
            let run = runs[number];
            raw += match run.spans.iter().position(|span| span.holds(row)) {
                Some(i) => {
                    let before = earned[number][i];
                    earned[number][i] = before.max(profile.hit * reward(run.spans[i], row));
                    earned[number][i] - before
                }
                None => profile.false_alarm * run.penalty(row),
            };
        }
        let score = scaled(raw, windows, profile);
        best = if score >= best.1 { (threshold, score) } else { best };
    }
    best
}

/// Scores with the threshold tuned on the other half of the files.
#[derive(Debug, Clone, Copy)]
pub struct HeldOut {
    /// On the odd files, counted from 0.
    pub odd: f64,
    /// On the even files.
    pub even: f64,
    /// Both, weighed by their windows.
    pub both: f64,
}

/// Tunes the threshold on every second file and scores the others, both ways round.
pub fn held_out(runs: &[Run], profile: Profile) -> HeldOut {
    let half = |first: usize| -> Vec<&Run> { runs.iter().skip(first).step_by(2).collect() };
    let (even, odd) = (half(0), half(1));
    let across =
        |train: &[&Run], test: &[&Run]| score(test.iter().copied(), profile, tuned(train, profile).0);
    let windows = |half: &[&Run]| half.iter().map(|run| run.spans.len()).sum::<usize>() as f64;
    let (on_odd, on_even) = (across(&even, &odd), across(&odd, &even));
    let both = (on_odd * windows(&odd) + on_even * windows(&even)) / (windows(&odd) + windows(&even));
    HeldOut { odd: on_odd, even: on_even, both }
}
