//! What the default detectors say of a corpus.

use outpost::detect::{Judge, NoveltyOptions};
use outpost::reading::Quantity;
use outpost::time::Wall;

use super::corpus::Series;
use super::score::Run;

/// The score of each new occurrence, 0 for every other row.
pub fn judged(series: &Series) -> Vec<f32> {
    judged_with(NoveltyOptions::default(), series)
}

/// The same with other constants.
pub fn judged_with(options: NoveltyOptions, series: &Series) -> Vec<f32> {
    let mut judge = Judge::tuned(Quantity::Other, None, true, options);
    let mut step = |&(at, x): &(i64, f64)| {
        let mut most = 0.0_f32;
        let mut tell = |v: outpost::detect::Verdict| most = if v.fresh { most.max(v.score) } else { most };
        judge.step(Wall::from_secs(at), Ok(x), &mut tell);
        most
    };
    series.rows.iter().map(&mut step).collect()
}

/// What a detector says of every file.
pub fn runs(corpus: &[Series], detector: &mut dyn FnMut(&Series) -> Vec<f32>) -> Vec<Run> {
    corpus.iter().map(|s| Run { scores: detector(s), spans: s.spans.clone() }).collect()
}
